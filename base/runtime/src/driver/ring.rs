//! The io_uring backend: one ring per core, SINGLE_ISSUER and DEFER_TASKRUN (Linux 6.1 and later), receives from a
//! provided-buffer ring, multishot accept. Nothing is submitted until [`Ring::wait`], so a turn costs one system call.

use super::{Event, FileBuffer, FileData, Request, Slot, Wake};
use crate::buf::{Lease, Pool};
use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Submissions per system call at most; completions may be four times as many before the kernel keeps them itself.
const SUBMISSIONS: u32 = 1024;
const COMPLETIONS: u32 = 4 * SUBMISSIONS;

/// The groups of provided buffers: for one receive, and for many in a row.
const RECV_BUFFERS: u16 = 0;
const SMALL_BUFFERS: u16 = 1;

/// In the user data of a receive of many: its buffers are small ones.
const SMALL: u64 = 1 << 62;

/// IORING_RECVSEND_POLL_FIRST (io_uring_enter(2)): wait for readiness before the first attempt.
const POLL_FIRST: u16 = 1;

/// User data of completions that belong to no slot.
const WOKEN: u64 = u64::MAX;
const CANCELLED: u64 = u64::MAX - 1;

pub(super) struct Ring {
    ring: IoUring,
    pool: Rc<Pool>,
    small: Rc<Pool>,
    wake: Arc<Wake>,
    wake_armed: bool,
}

fn user_data(slot: Slot, request: &Request) -> u64 {
    slot as u64 | if matches!(request, Request::RecvMany { .. }) { SMALL } else { 0 }
}

impl Ring {
    pub(super) fn new(pool: Rc<Pool>, small: Rc<Pool>, wake: Arc<Wake>) -> io::Result<Ring> {
        let mut ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        for (pool, group) in [(&pool, RECV_BUFFERS), (&small, SMALL_BUFFERS)] {
            let (address, buffers) = pool.kernel_ring().expect("a pool laid out for the kernel");
            // SAFETY: the pool's ring memory is page-aligned, has `buffers` entries and outlives the ring: `Ring` holds
            // the pool, and its fields are dropped in order, the ring first.
            unsafe { ring.submitter().register_buf_ring_with_flags(address, buffers, group, 0)? };
        }
        // A registered descriptor saves a lookup on every enter; it is no matter if the kernel has none to give.
        let _ = ring.submitter().register_ring_fd();
        ring.completion().sync();
        Ok(Ring { ring, pool, small, wake, wake_armed: false })
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: what the entry points to is owned by the operation's slot until its last completion.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            // Full: hand over what is there. EBUSY and EINTR leave room to try again.
            let _ = self.ring.submit();
        }
    }

    pub(super) fn submit(&mut self, slot: Slot, request: &mut Request) {
        let entry = match request {
            Request::Recv { fd, poll_first } => {
                opcode::Recv::new(Fd(*fd), std::ptr::null_mut(), self.pool.buffer_bytes() as u32)
                    .buf_group(RECV_BUFFERS)
                    .ioprio(if *poll_first { POLL_FIRST } else { 0 })
                    .build()
                    .flags(squeue::Flags::BUFFER_SELECT)
            }
            Request::RecvMany { fd } => opcode::RecvMulti::new(Fd(*fd), SMALL_BUFFERS).build(),
            Request::Send { fd, data } => match data.segments.as_slice() {
                [one] => opcode::Send::new(Fd(*fd), one.as_ptr(), one.len() as u32)
                    .flags(libc::MSG_NOSIGNAL)
                    .build(),
                _ => opcode::SendMsg::new(Fd(*fd), data.header()).flags(libc::MSG_NOSIGNAL as u32).build(),
            },
            Request::Accept { fd } => {
                opcode::AcceptMulti::new(Fd(*fd)).flags(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK).build()
            }
            Request::Connect { fd, address } => {
                opcode::Connect::new(Fd(*fd), address.as_ptr().cast(), address.len()).build()
            }
            Request::Poll { fd, writable } => {
                opcode::PollAdd::new(Fd(*fd), super::poll_mask(*writable)).build()
            }
            Request::Write { fd, offset, data, durable } => write(*fd, *offset, data, *durable),
            Request::Read { fd, offset, buffer } => read(*fd, *offset, buffer),
            Request::Sync { fd, data_only } => opcode::Fsync::new(Fd(*fd))
                .flags(if *data_only { FsyncFlags::DATASYNC } else { FsyncFlags::empty() })
                .build(),
        };
        self.push(&entry.user_data(user_data(slot, request)));
    }

    pub(super) fn cancel(&mut self, slot: Slot, request: &Request) {
        self.push(&opcode::AsyncCancel::new(user_data(slot, request)).build().user_data(CANCELLED));
    }

    pub(super) fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        if !self.wake_armed {
            let poll = opcode::PollAdd::new(Fd(self.wake.as_raw_fd()), libc::POLLIN as u32).multi(true);
            self.push(&poll.build().user_data(WOKEN));
            self.wake_armed = true;
        }
        let entered = match timeout {
            Some(Duration::ZERO) => self.ring.submit(),
            None => self.ring.submit_and_wait(1),
            Some(timeout) => {
                let timespec = Timespec::from(timeout);
                self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timespec))
            }
        };
        if let Err(error) = entered {
            // ETIME: nothing came in time. EBUSY: completions must be taken first, which happens now.
            if !matches!(error.raw_os_error(), Some(libc::ETIME | libc::EBUSY | libc::EINTR | libc::EAGAIN)) {
                return Err(error);
            }
        }
        for completion in self.ring.completion() {
            match completion.user_data() {
                CANCELLED => {}
                WOKEN => {
                    self.wake.clear();
                    self.wake_armed &= cqueue::more(completion.flags());
                }
                data => {
                    let pool = if data & SMALL == 0 { &self.pool } else { &self.small };
                    let result = completion.result();
                    let flags = completion.flags();
                    let lease = cqueue::buffer_select(flags)
                        .map(|id| Lease::pooled(pool.taken(id, result.max(0) as usize)));
                    events.push(Event {
                        slot: (data & !SMALL) as Slot,
                        result,
                        lease,
                        more_waiting: cqueue::sock_nonempty(flags),
                        last: !cqueue::more(flags),
                    });
                }
            }
        }
        Ok(())
    }
}

fn write(fd: RawFd, offset: u64, data: &FileData, durable: bool) -> squeue::Entry {
    let flags = if durable { libc::RWF_DSYNC } else { 0 };
    match data {
        FileData::Segment { segment, skip } => {
            let rest = &segment[*skip..];
            opcode::Write::new(Fd(fd), rest.as_ptr(), rest.len() as u32)
                .offset(offset)
                .rw_flags(flags)
                .build()
        }
        FileData::Aligned { parts, .. } => opcode::Writev::new(Fd(fd), parts.as_ptr(), parts.len() as u32)
            .offset(offset)
            .rw_flags(flags)
            .build(),
    }
}

fn read(fd: RawFd, offset: u64, buffer: &mut FileBuffer) -> squeue::Entry {
    let (start, len) = buffer.spare();
    opcode::Read::new(Fd(fd), start, len as u32).offset(offset).build()
}
