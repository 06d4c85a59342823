//! The receive buffers of one core: one mapping cut into equal buffers, handed out by the kernel (a provided-buffer
//! ring, io_uring) or by a free list (epoll).
//!
//! What always holds: a buffer is in exactly one place, the kernel's ring, the free list or a [`PooledBuf`]; its pages
//! are touched only once it has been used.

#![cfg_attr(sim, allow(dead_code, reason = "the kernel's ring"))]

use io_uring::types::BufRingEntry;
use std::cell::{Cell, RefCell};
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

/// An anonymous private mapping.
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(len: usize) -> io::Result<Mapping> {
        // SAFETY: a fresh anonymous mapping touches no existing memory.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping { start: NonNull::new(start.cast()).expect("mmap gives no null"), len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this mapping was made in `new` and is unmapped only here.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// The provided-buffer ring that the kernel takes from.
struct KernelRing {
    entries: Mapping,
    tail: Cell<u16>,
}

pub(crate) struct Pool {
    memory: Mapping,
    buffer_bytes: usize,
    buffers: u16,
    free: RefCell<Vec<u16>>,
    kernel: Option<KernelRing>,
}

impl Pool {
    /// `buffers` (a power of two) buffers of `buffer_bytes` each. With `for_kernel`, all are laid out in a
    /// provided-buffer ring, whose address [`Pool::kernel_ring`] gives.
    pub(crate) fn new(buffers: u16, buffer_bytes: usize, for_kernel: bool) -> io::Result<Rc<Pool>> {
        assert!(buffers.is_power_of_two(), "recv_buffers = {buffers}: no power of two");
        assert!(
            (1024..=1 << 20).contains(&buffer_bytes),
            "recv_buffer_bytes = {buffer_bytes}: 1 KiB to 1 MiB"
        );
        let memory = Mapping::new(usize::from(buffers) * buffer_bytes)?;
        let kernel = if for_kernel {
            let entries = Mapping::new(usize::from(buffers) * size_of::<BufRingEntry>())?;
            Some(KernelRing { entries, tail: Cell::new(0) })
        } else {
            None
        };
        let pool = Rc::new(Pool { memory, buffer_bytes, buffers, free: RefCell::new(Vec::new()), kernel });
        (0..buffers).rev().for_each(|id| pool.give_back(id));
        Ok(pool)
    }

    pub(crate) fn kernel_ring(&self) -> Option<(u64, u16)> {
        self.kernel.as_ref().map(|ring| (ring.entries.start.as_ptr() as u64, self.buffers))
    }

    pub(crate) fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    /// The buffer that the kernel chose, holding `len` received bytes.
    pub(crate) fn taken(self: &Rc<Pool>, id: u16, len: usize) -> PooledBuf {
        assert!(
            id < self.buffers && len <= self.buffer_bytes,
            "the kernel named buffer {id} with {len} bytes"
        );
        PooledBuf { pool: self.clone(), id, len }
    }

    /// A buffer from the free list, and where it lies; `None` when all are out.
    pub(crate) fn take(self: &Rc<Pool>) -> Option<PooledBuf> {
        let id = self.free.borrow_mut().pop()?;
        Some(PooledBuf { pool: self.clone(), id, len: 0 })
    }

    fn address(&self, id: u16) -> *mut u8 {
        // SAFETY: every id is below `buffers`, so the offset lies within the mapping.
        unsafe { self.memory.start.as_ptr().add(usize::from(id) * self.buffer_bytes) }
    }

    fn give_back(&self, id: u16) {
        let Some(ring) = &self.kernel else {
            self.free.borrow_mut().push(id);
            return;
        };
        let tail = ring.tail.get();
        let base = ring.entries.start.as_ptr().cast::<BufRingEntry>();
        // SAFETY: the ring has `buffers` entries (a power of two) and the index is masked by it; the kernel reads an
        // entry only after the tail has passed it, which the release store below orders after these writes.
        unsafe {
            let entry = &mut *base.add(usize::from(tail & (self.buffers - 1)));
            entry.set_addr(self.address(id) as u64);
            entry.set_len(self.buffer_bytes as u32);
            entry.set_bid(id);
            ring.tail.set(tail.wrapping_add(1));
            let shared_tail = AtomicU16::from_ptr(BufRingEntry::tail(base).cast_mut());
            shared_tail.store(tail.wrapping_add(1), Ordering::Release);
        }
    }
}

/// One buffer taken out of its pool.
pub(crate) struct PooledBuf {
    pool: Rc<Pool>,
    id: u16,
    len: usize,
}

impl PooledBuf {
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the buffer is ours alone until it is given back, and its first `len` bytes were written by the
        // kernel; the mapping is zero-filled besides.
        unsafe { std::slice::from_raw_parts(self.pool.address(self.id), self.len) }
    }

    /// Where the kernel may write up to the pool's buffer size.
    pub(crate) fn spare(&mut self) -> (*mut u8, usize) {
        (self.pool.address(self.id), self.pool.buffer_bytes)
    }

    pub(crate) fn set_len(&mut self, len: usize) {
        assert!(len <= self.pool.buffer_bytes);
        self.len = len;
    }
}

impl Drop for PooledBuf {
    fn drop(&mut self) {
        self.pool.give_back(self.id);
    }
}
