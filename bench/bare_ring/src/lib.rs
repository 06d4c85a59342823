//! Servers without a runtime that answer requests of a fixed length with the same bytes: what the kernel's TCP and UDP cost
//! when nothing else is done. The floor for `bench runtime`, and nothing to build on: they have no back-pressure, free no
//! connection's entry, and trust their clients.
//!
//! | module | what |
//! |---|---|
//! | [`tcp`] | an io_uring: multishot accept and receive |
//! | [`udp`] | an io_uring with multishot receive; and recvmmsg(2) with sendmmsg(2) |
//!
//! Rings have provided buffers, SINGLE_ISSUER and DEFER_TASKRUN (Linux 6.1).
//!
//! What always holds: a buffer is the kernel's or, between a completion and [`Buffers::give_back`], ours.

pub mod tcp;
pub mod udp;

use io_uring::types::BufRingEntry;
use io_uring::{IoUring, squeue};
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

/// Receive buffers, a power of two, and their size.
const BUFFERS: u16 = 1024;
const BUFFER_BYTES: usize = 4096;
/// The one group of buffers.
const GROUP: u16 = 0;

fn ring() -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_cqsize(4096)
        .build(1024)
}

fn push(ring: &mut IoUring, entry: &squeue::Entry) {
    // SAFETY: what an entry points to is leaked.
    while unsafe { ring.submission().push(entry) }.is_err() {
        let _ = ring.submit();
    }
}

/// The receive buffers and the ring that gives them to the kernel.
struct Buffers {
    entries: *mut BufRingEntry,
    memory: *mut u8,
}

#[repr(align(4096))]
struct Entries(
    #[expect(dead_code, reason = "the kernel reads it")] [u8; BUFFERS as usize * size_of::<BufRingEntry>()],
);

impl Buffers {
    fn register(ring: &IoUring) -> io::Result<Buffers> {
        let entries = Box::leak(Box::new(Entries([0; _])));
        let memory = Box::leak(vec![0_u8; usize::from(BUFFERS) * BUFFER_BYTES].into_boxed_slice());
        let buffers = Buffers { entries: (&raw mut *entries).cast(), memory: memory.as_mut_ptr() };
        // SAFETY: both memories are leaked, so they outlive the ring; the entries are page-aligned.
        unsafe { ring.submitter().register_buf_ring_with_flags(buffers.entries as u64, BUFFERS, GROUP, 0)? };
        (0..BUFFERS).for_each(|id| buffers.give_back(id));
        Ok(buffers)
    }

    /// What the kernel wrote into a buffer of ours.
    fn filled(&self, id: u16, bytes: usize) -> &[u8] {
        assert!(id < BUFFERS && bytes <= BUFFER_BYTES);
        // SAFETY: the buffer is within the memory, initialized when it was made, and not the kernel's now.
        unsafe { std::slice::from_raw_parts(self.memory.add(usize::from(id) * BUFFER_BYTES), bytes) }
    }

    fn give_back(&self, id: u16) {
        // SAFETY: one thread writes the entries; the index is below their number, a power of two; the kernel reads an
        // entry only once the tail, stored with release, has passed it.
        unsafe {
            let shared_tail = AtomicU16::from_ptr(BufRingEntry::tail(self.entries).cast_mut());
            let tail = shared_tail.load(Ordering::Relaxed);
            let entry = &mut *self.entries.add(usize::from(tail & (BUFFERS - 1)));
            entry.set_addr(self.memory.add(usize::from(id) * BUFFER_BYTES) as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(id);
            shared_tail.store(tail.wrapping_add(1), Ordering::Release);
        }
    }
}
