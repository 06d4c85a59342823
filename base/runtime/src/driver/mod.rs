//! Operations handed to the kernel, whichever way: a slab of those in flight over one of two backends.
//!
//! What always holds:
//! - The memory of an operation lives in its slot until the kernel is done with it, whoever stopped waiting.
//! - A slot is freed by its last completion, so a slot number never names two operations at a time.
//! - A completion is told to its [`Sink`]; the driver itself decides nothing.

#![cfg_attr(sim, allow(dead_code, unused_variables, reason = "what only the kernel needs"))]

#[cfg(not(sim))]
mod epoll;
#[cfg(not(sim))]
mod ring;

#[cfg(not(sim))]
use crate::buf::Pool;
use crate::buf::{AlignedBuf, Lease, Segment};
use crate::limits;
#[cfg(sim)]
use crate::sim::driver::Twin;
#[cfg(not(sim))]
use epoll::Epoll;
#[cfg(not(sim))]
use ring::Ring;
use slab::Slab;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
#[cfg(not(sim))]
use std::sync::Arc;
use std::time::Duration;

#[cfg(sim)]
pub(crate) use crate::sim::driver::Wake;
#[cfg(not(sim))]
pub(crate) use epoll::Wake;

pub(crate) type Slot = usize;

/// What the kernel is asked. The descriptor is kept open by the sink.
pub(crate) enum Request {
    /// Receive into a buffer of the pool. `poll_first`: nothing is expected to be there yet.
    Recv {
        fd: RawFd,
        poll_first: bool,
    },
    /// Receive again and again, into small buffers of a pool of their own: many completions, all but the last with `more`.
    /// Where that is not to be had, it receives once.
    RecvMany {
        fd: RawFd,
    },
    Send {
        fd: RawFd,
        data: Outgoing,
    },
    /// Accept again and again: many completions, all but the last with `more`.
    Accept {
        fd: RawFd,
    },
    Connect {
        fd: RawFd,
        address: Box<socket2::SockAddr>,
    },
    Poll {
        fd: RawFd,
        writable: bool,
    },
    Write {
        fd: RawFd,
        offset: u64,
        data: FileData,
        durable: bool,
    },
    Read {
        fd: RawFd,
        offset: u64,
        buffer: FileBuffer,
    },
    Sync {
        fd: RawFd,
        data_only: bool,
    },
}

/// Segments on their way out, with the vectors that describe them to the kernel.
#[derive(Default)]
pub(crate) struct Outgoing {
    pub(crate) segments: Vec<Segment>,
    vectored: Option<Box<Vectored>>,
}

struct Vectored {
    header: libc::msghdr,
    parts: [libc::iovec; limits::SEND_SEGMENTS_MAX],
}

impl Outgoing {
    /// Whether keeping it costs little.
    pub(crate) fn is_small(&self) -> bool {
        self.vectored.is_none() && self.segments.capacity() <= 8
    }

    /// The message header over all segments; its address holds as long as `self` is not changed.
    fn header(&mut self) -> *const libc::msghdr {
        let vectored = self.vectored.get_or_insert_with(|| {
            // SAFETY: both types are plain C structs for which all zeros is a value.
            Box::new(unsafe { std::mem::zeroed::<Vectored>() })
        });
        assert!(self.segments.len() <= limits::SEND_SEGMENTS_MAX);
        for (part, segment) in vectored.parts.iter_mut().zip(&self.segments) {
            *part = libc::iovec { iov_base: segment.as_ptr().cast_mut().cast(), iov_len: segment.len() };
        }
        vectored.header.msg_iov = vectored.parts.as_mut_ptr();
        vectored.header.msg_iovlen = self.segments.len() as _;
        &raw const vectored.header
    }
}

/// What is written to a file.
pub(crate) enum FileData {
    Segment { segment: Segment, skip: usize },
    Aligned { buffers: Vec<AlignedBuf>, parts: Vec<libc::iovec> },
}

impl FileData {
    pub(crate) fn aligned(buffers: Vec<AlignedBuf>) -> FileData {
        let parts = buffers
            .iter()
            .map(|buffer| libc::iovec { iov_base: buffer.as_ptr().cast_mut().cast(), iov_len: buffer.len() })
            .collect();
        FileData::Aligned { buffers, parts }
    }

    pub(crate) fn remaining(&self) -> usize {
        match self {
            FileData::Segment { segment, skip } => segment.len() - skip,
            FileData::Aligned { parts, .. } => parts.iter().map(|part| part.iov_len).sum(),
        }
    }

    /// Leaves out what a short write has written.
    pub(crate) fn advance(&mut self, mut count: usize) {
        match self {
            FileData::Segment { skip, .. } => *skip += count,
            FileData::Aligned { parts, .. } => {
                while count > 0 {
                    let first = &mut parts[0];
                    let step = count.min(first.iov_len);
                    // SAFETY: `step` is at most the part's length, so the address stays within its buffer.
                    first.iov_base = unsafe { first.iov_base.cast::<u8>().add(step).cast() };
                    first.iov_len -= step;
                    count -= step;
                    if first.iov_len == 0 {
                        parts.remove(0);
                    }
                }
            }
        }
    }
}

/// What is read from a file goes here.
pub(crate) enum FileBuffer {
    Vec { bytes: Vec<u8>, filled: usize },
    Aligned { buffer: AlignedBuf, filled: usize },
}

impl FileBuffer {
    /// Bytes filled, and bytes in all.
    pub(crate) fn progress(&self) -> (usize, usize) {
        match self {
            FileBuffer::Vec { bytes, filled } => (*filled, bytes.len()),
            FileBuffer::Aligned { buffer, filled } => (*filled, buffer.len()),
        }
    }

    pub(crate) fn advance(&mut self, count: usize) {
        match self {
            FileBuffer::Vec { filled, .. } | FileBuffer::Aligned { filled, .. } => *filled += count,
        }
    }

    /// Where the rest goes.
    fn spare(&mut self) -> (*mut u8, usize) {
        match self {
            FileBuffer::Vec { bytes, filled } => (bytes[*filled..].as_mut_ptr(), bytes.len() - *filled),
            FileBuffer::Aligned { buffer, filled } => {
                (buffer[*filled..].as_mut_ptr(), buffer.len() - *filled)
            }
        }
    }
}

/// What became of an operation.
pub(crate) struct Completion {
    pub(crate) result: io::Result<u32>,
    /// What a receive received.
    pub(crate) lease: Option<Lease>,
    /// More is known to wait in the socket already.
    pub(crate) more_waiting: bool,
    /// The request with its memory, unless the operation goes on.
    pub(crate) request: Option<Request>,
}

/// Who is told.
pub(crate) trait Sink {
    fn complete(self: Rc<Self>, completion: Completion);
}

fn poll_mask(writable: bool) -> u32 {
    (if writable { libc::POLLOUT } else { libc::POLLIN }) as u32
}

/// An operation in flight.
pub(crate) struct Entry {
    pub(crate) request: Request,
    sink: Rc<dyn Sink>,
}

/// What a backend reports.
pub(crate) struct Event {
    pub(crate) slot: Slot,
    /// A count or a descriptor; negative: an errno.
    pub(crate) result: i32,
    pub(crate) lease: Option<Lease>,
    pub(crate) more_waiting: bool,
    pub(crate) last: bool,
}

enum Backend {
    #[cfg(not(sim))]
    Ring(Ring),
    #[cfg(not(sim))]
    Epoll(Epoll),
    #[cfg(sim)]
    Twin(Twin),
}

pub(crate) struct Driver {
    entries: Slab<Entry>,
    backend: Backend,
    events: Vec<Event>,
}

impl Driver {
    #[cfg(not(sim))]
    pub(crate) fn ring(pool: Rc<Pool>, small: Rc<Pool>, wake: &Arc<Wake>) -> io::Result<Driver> {
        Ok(Driver::over(Backend::Ring(Ring::new(pool, small, wake.clone())?)))
    }

    #[cfg(not(sim))]
    pub(crate) fn epoll(pool: Rc<Pool>, wake: &Arc<Wake>) -> io::Result<Driver> {
        Ok(Driver::over(Backend::Epoll(Epoll::new(pool, wake.clone())?)))
    }

    #[cfg(sim)]
    pub(crate) fn twin(twin: Twin) -> Driver {
        Driver::over(Backend::Twin(twin))
    }

    fn over(backend: Backend) -> Driver {
        Driver { entries: Slab::new(), backend, events: Vec::with_capacity(limits::EVENTS_PER_WAIT) }
    }

    pub(crate) fn submit(&mut self, request: Request, sink: Rc<dyn Sink>) -> Slot {
        let slot = self.entries.insert(Entry { request, sink });
        let request = &mut self.entries[slot].request;
        match &mut self.backend {
            #[cfg(not(sim))]
            Backend::Ring(ring) => ring.submit(slot, request),
            #[cfg(not(sim))]
            Backend::Epoll(epoll) => epoll.submit(slot, request),
            #[cfg(sim)]
            Backend::Twin(twin) => twin.submit(slot, request),
        }
        slot
    }

    /// Asks the kernel to end the operation; its completion comes all the same.
    pub(crate) fn cancel(&mut self, slot: Slot) {
        let Some(entry) = self.entries.get_mut(slot) else { return };
        match &mut self.backend {
            #[cfg(not(sim))]
            Backend::Ring(ring) => ring.cancel(slot, &entry.request),
            #[cfg(not(sim))]
            Backend::Epoll(epoll) => epoll.cancel(slot, &mut entry.request),
            #[cfg(sim)]
            Backend::Twin(twin) => twin.cancel(slot),
        }
    }

    pub(crate) fn cancel_all(&mut self) {
        let slots: Vec<Slot> = self.entries.iter().map(|(slot, _)| slot).collect();
        slots.into_iter().for_each(|slot| self.cancel(slot));
        #[cfg(sim)]
        {
            let Backend::Twin(twin) = &mut self.backend;
            twin.abandon_files();
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.entries.len()
    }

    /// Hands what was submitted to the kernel and takes completions, waiting up to `timeout` for the first (`None`:
    /// without end). The caller tells the sinks, when the driver is no longer borrowed.
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
        told: &mut Vec<(Rc<dyn Sink>, Completion)>,
    ) -> io::Result<()> {
        match &mut self.backend {
            #[cfg(not(sim))]
            Backend::Ring(ring) => ring.wait(timeout, &mut self.events)?,
            #[cfg(not(sim))]
            Backend::Epoll(epoll) => epoll.wait(timeout, &mut self.entries, &mut self.events)?,
            #[cfg(sim)]
            Backend::Twin(twin) => twin.wait(&mut self.entries, &mut self.events),
        }
        for event in self.events.drain(..) {
            let (sink, request) = if event.last {
                let entry = self.entries.remove(event.slot);
                (entry.sink, Some(entry.request))
            } else {
                (self.entries[event.slot].sink.clone(), None)
            };
            let result = u32::try_from(event.result).map_err(|_| io::Error::from_raw_os_error(-event.result));
            told.push((
                sink,
                Completion { result, lease: event.lease, more_waiting: event.more_waiting, request },
            ));
        }
        Ok(())
    }
}
