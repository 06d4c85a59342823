//! The driver's backend in the simulator: each operation is tried against the simulated kernel, parked until that signals
//! its slot, tried again; operations on files complete when the simulated disk says so.

use super::disk::{DiskOp, Done};
use super::kernel::{CoreId, kernel, try_kernel};
use super::net::Tried;
use crate::buf::{Lease, Pool};
use crate::driver::{Entry, Event, FileBuffer, FileData, Request, Slot};
use slab::Slab;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

/// Wakes a core.
pub(crate) struct Wake {
    pub(super) core: CoreId,
}

impl Wake {
    pub(super) fn new() -> Wake {
        Wake { core: kernel().new_core_id() }
    }

    pub(crate) fn wake(&self) {
        if let Some(kernel) = try_kernel() {
            kernel.wake_core(self.core);
        }
    }
}

/// What the kernel has for a core.
#[derive(Default)]
pub(crate) struct Inbox {
    /// Slots that may go on.
    pub(super) signals: Vec<Slot>,
    /// File operations that are done.
    pub(super) files: Vec<(Slot, Done)>,
}

pub(crate) struct Twin {
    core: CoreId,
    pool: Rc<Pool>,
    inbox: Rc<RefCell<Inbox>>,
    parked: BTreeSet<Slot>,
    files: BTreeSet<Slot>,
    done: Vec<Event>,
}

impl Twin {
    pub(super) fn new(core: CoreId, pool: Rc<Pool>, inbox: Rc<RefCell<Inbox>>) -> Twin {
        Twin { core, pool, inbox, parked: BTreeSet::new(), files: BTreeSet::new(), done: Vec::new() }
    }

    pub(crate) fn submit(&mut self, slot: Slot, request: &mut Request) {
        let (fd, op) = match request {
            Request::Write { fd, offset, data, durable } => {
                (*fd, DiskOp::Write { offset: *offset, bytes: gathered(data), durable: *durable })
            }
            Request::Read { fd, offset, buffer } => {
                let (filled, whole) = buffer.progress();
                (*fd, DiskOp::Read { offset: *offset, len: whole - filled })
            }
            Request::Sync { fd, .. } => (*fd, DiskOp::Sync),
            other => {
                if let Request::Connect { fd, address } = other {
                    kernel().net_connect(*fd, address);
                }
                return self.attempt(slot, other);
            }
        };
        self.files.insert(slot);
        kernel().disk_submit((self.core, slot), fd, op);
    }

    fn attempt(&mut self, slot: Slot, request: &mut Request) {
        let kernel = kernel();
        let waiter = (self.core, slot);
        let tried = match request {
            Request::Recv { fd, .. } | Request::RecvMany { fd } => match self.pool.take() {
                None => Tried::Failed(libc::ENOBUFS),
                Some(mut buffer) => match kernel.net_recv(*fd, self.pool.buffer_bytes(), Some(waiter)) {
                    Ok((bytes, more_waiting)) => {
                        let (start, len) = buffer.spare();
                        assert!(bytes.len() <= len, "asked for a buffer's worth");
                        // SAFETY: `spare` gives `len` writable bytes that are this buffer's alone.
                        unsafe { start.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
                        buffer.set_len(bytes.len());
                        let lease = Some(Lease::pooled(buffer));
                        return self.finish(Event {
                            slot,
                            result: bytes.len() as i32,
                            lease,
                            more_waiting,
                            last: true,
                        });
                    }
                    Err(tried) => tried,
                },
            },
            Request::Send { fd, data } => kernel.net_send(*fd, &data.segments, waiter),
            Request::Accept { fd } => loop {
                match kernel.net_accept(*fd, waiter) {
                    Tried::Done(fd) => {
                        let event =
                            Event { slot, result: fd as i32, lease: None, more_waiting: false, last: false };
                        self.finish(event);
                    }
                    other => break other,
                }
            },
            Request::Connect { fd, .. } => kernel.net_connected(*fd, waiter),
            Request::Poll { fd, writable } => kernel.net_poll(*fd, *writable, waiter),
            _ => unreachable!("files never park"),
        };
        let result = match tried {
            Tried::WouldBlock => {
                self.parked.insert(slot);
                return;
            }
            Tried::Done(count) => count as i32,
            Tried::Failed(errno) => -errno,
        };
        self.finish(Event { slot, result, lease: None, more_waiting: false, last: true });
    }

    fn finish(&mut self, event: Event) {
        self.done.push(event);
        kernel().wake_core(self.core);
    }

    pub(crate) fn cancel(&mut self, slot: Slot) {
        // What a disk was asked to do is done; what is parked ends now.
        if self.parked.remove(&slot) {
            self.finish(Event {
                slot,
                result: -libc::ECANCELED,
                lease: None,
                more_waiting: false,
                last: true,
            });
        }
    }

    /// The core ends: the disk goes on without it.
    pub(crate) fn abandon_files(&mut self) {
        for slot in std::mem::take(&mut self.files) {
            self.done.push(Event {
                slot,
                result: -libc::ECANCELED,
                lease: None,
                more_waiting: false,
                last: true,
            });
        }
    }

    pub(crate) fn wait(&mut self, entries: &mut Slab<Entry>, events: &mut Vec<Event>) {
        let (signals, files) = {
            let mut inbox = self.inbox.borrow_mut();
            (std::mem::take(&mut inbox.signals), std::mem::take(&mut inbox.files))
        };
        for slot in signals {
            if self.parked.remove(&slot) {
                self.attempt(slot, &mut entries[slot].request);
            }
        }
        for (slot, done) in files {
            if !self.files.remove(&slot) {
                continue;
            }
            let result = match done {
                Done::Count(count) => count as i32,
                Done::Read(bytes) => {
                    if let Request::Read { buffer, .. } = &mut entries[slot].request {
                        fill(buffer, &bytes);
                    }
                    bytes.len() as i32
                }
                Done::Failed(errno) => -errno,
            };
            self.done.push(Event { slot, result, lease: None, more_waiting: false, last: true });
        }
        events.append(&mut self.done);
    }
}

fn gathered(data: &FileData) -> Vec<u8> {
    match data {
        FileData::Segment { segment, skip } => segment[*skip..].to_vec(),
        FileData::Aligned { buffers, .. } => {
            let mut whole = Vec::with_capacity(buffers.iter().map(|buffer| buffer.len()).sum());
            buffers.iter().for_each(|buffer| whole.extend_from_slice(buffer));
            // What a short write has written already is at the front.
            whole.drain(..whole.len() - data.remaining());
            whole
        }
    }
}

/// Copies what was read to where the next bytes belong.
fn fill(buffer: &mut FileBuffer, bytes: &[u8]) {
    let (into, filled): (&mut [u8], usize) = match buffer {
        FileBuffer::Vec { bytes, filled } => (bytes, *filled),
        FileBuffer::Aligned { buffer, filled } => (buffer, *filled),
    };
    into[filled..filled + bytes.len()].copy_from_slice(bytes);
}
