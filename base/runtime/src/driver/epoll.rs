//! The epoll backend, for hosts that do not permit io_uring: the same requests, tried at once, parked until the
//! descriptor is ready (edge-triggered), tried again. File operations go to the blocking threads.

use super::{Entry, Event, FileBuffer, FileData, Request, Slot};
use crate::blocking;
use crate::buf::{Lease, Pool};
use crate::limits;
use slab::Slab;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Wakes a core from another thread: an eventfd(2).
pub(crate) struct Wake {
    eventfd: OwnedFd,
}

impl Wake {
    pub(crate) fn new() -> io::Result<Wake> {
        // SAFETY: no pointers; the result is checked.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: eventfd gave this descriptor to us alone.
        Ok(Wake { eventfd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    pub(crate) fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight readable bytes. EAGAIN means that a wake is pending already.
        unsafe { libc::write(self.eventfd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    pub(super) fn clear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: eight writable bytes. EAGAIN means that nothing was pending.
        unsafe { libc::read(self.eventfd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

impl AsRawFd for Wake {
    fn as_raw_fd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }
}

/// Operations that wait for a descriptor.
#[derive(Default)]
struct Parked {
    readers: Vec<Slot>,
    writers: Vec<Slot>,
}

pub(super) struct Epoll {
    epoll: OwnedFd,
    pool: Rc<Pool>,
    wake: Arc<Wake>,
    parked: HashMap<RawFd, Parked>,
    done: Vec<Event>,
    from_threads: Arc<Mutex<Vec<(Slot, i32)>>>,
    ready: Vec<libc::epoll_event>,
}

enum Tried {
    Done(i32, Option<Lease>),
    WouldBlock,
}

impl Epoll {
    pub(super) fn new(pool: Rc<Pool>, wake: Arc<Wake>) -> io::Result<Epoll> {
        // SAFETY: no pointers; the result is checked.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: epoll_create1 gave this descriptor to us alone.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        let this = Epoll {
            epoll,
            pool,
            wake,
            parked: HashMap::new(),
            done: Vec::new(),
            from_threads: Arc::default(),
            ready: vec![libc::epoll_event { events: 0, u64: 0 }; limits::EVENTS_PER_WAIT],
        };
        this.control(libc::EPOLL_CTL_ADD, this.wake.as_raw_fd(), libc::EPOLLIN as u32)?;
        Ok(this)
    }

    fn control(&self, what: libc::c_int, fd: RawFd, events: u32) -> io::Result<()> {
        let mut event = libc::epoll_event { events, u64: fd as u64 };
        // SAFETY: `event` lives through the call.
        if unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), what, fd, &raw mut event) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    pub(super) fn submit(&mut self, slot: Slot, request: &mut Request) {
        match request {
            Request::Write { .. } | Request::Read { .. } | Request::Sync { .. } => {
                self.hand_to_thread(slot, request);
            }
            Request::Poll { fd, writable } => self.park(slot, *fd, *writable),
            Request::Connect { fd, address } => {
                // SAFETY: the address is owned by the request, which outlives the call.
                let result = unsafe { libc::connect(*fd, address.as_ptr().cast(), address.len()) };
                match outcome(result as isize) {
                    code if code == -libc::EINPROGRESS => self.park(slot, *fd, true),
                    code => self.finish(slot, code, None, true),
                }
            }
            Request::Accept { fd } => self.accept(slot, *fd),
            Request::Recv { fd, .. } | Request::RecvMany { fd } => match self.receive(*fd) {
                Tried::Done(result, lease) => self.finish(slot, result, lease, true),
                Tried::WouldBlock => self.park(slot, *fd, false),
            },
            Request::Send { fd, .. } => {
                let fd = *fd;
                match send(request) {
                    Tried::Done(result, _) => self.finish(slot, result, None, true),
                    Tried::WouldBlock => self.park(slot, fd, true),
                }
            }
        }
    }

    fn finish(&mut self, slot: Slot, result: i32, lease: Option<Lease>, last: bool) {
        self.done.push(Event { slot, result, lease, more_waiting: false, last });
    }

    fn park(&mut self, slot: Slot, fd: RawFd, writable: bool) {
        let parked = self.parked.entry(fd).or_default();
        let (readers, writers) = (parked.readers.len(), parked.writers.len());
        if writable {
            parked.writers.push(slot);
        } else {
            parked.readers.push(slot);
        }
        if readers + writers > 0 && (if writable { writers } else { readers }) > 0 {
            return; // this direction is watched already
        }
        if let Err(error) = self.watch(fd) {
            self.unpark(slot, fd);
            self.finish(slot, -error.raw_os_error().unwrap_or(libc::EIO), None, true);
        }
    }

    /// Watches `fd` for what its parked operations need, once (EPOLLONESHOT): a closed descriptor leaves the set by
    /// itself, and its number may come back as another file, hence add and modify are both tried.
    fn watch(&self, fd: RawFd) -> io::Result<()> {
        let Some(parked) = self.parked.get(&fd) else { return Ok(()) };
        let mut events = libc::EPOLLONESHOT as u32;
        if !parked.readers.is_empty() {
            events |= (libc::EPOLLIN | libc::EPOLLRDHUP) as u32;
        }
        if !parked.writers.is_empty() {
            events |= libc::EPOLLOUT as u32;
        }
        match self.control(libc::EPOLL_CTL_MOD, fd, events) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                self.control(libc::EPOLL_CTL_ADD, fd, events)
            }
            other => other,
        }
    }

    fn unpark(&mut self, slot: Slot, fd: RawFd) -> bool {
        let Some(parked) = self.parked.get_mut(&fd) else { return false };
        let before = parked.readers.len() + parked.writers.len();
        parked.readers.retain(|other| *other != slot);
        parked.writers.retain(|other| *other != slot);
        let left = parked.readers.len() + parked.writers.len();
        if left == 0 {
            self.parked.remove(&fd);
        }
        left < before
    }

    pub(super) fn cancel(&mut self, slot: Slot, request: &mut Request) {
        let fd = match request {
            Request::Recv { fd, .. }
            | Request::RecvMany { fd }
            | Request::Send { fd, .. }
            | Request::Accept { fd }
            | Request::Connect { fd, .. }
            | Request::Poll { fd, .. } => *fd,
            Request::Write { .. } | Request::Read { .. } | Request::Sync { .. } => return,
        };
        if self.unpark(slot, fd) {
            self.finish(slot, -libc::ECANCELED, None, true);
        }
    }

    fn accept(&mut self, slot: Slot, fd: RawFd) {
        for _ in 0..limits::ACCEPT_QUEUE_MAX {
            // SAFETY: null address pointers are allowed; the result is checked.
            let result = unsafe {
                libc::accept4(
                    fd,
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                    libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                )
            };
            match outcome(result as isize) {
                code if code == -libc::EAGAIN => return self.park(slot, fd, false),
                code if code == -libc::ECONNABORTED || code == -libc::EINTR => {}
                code if code < 0 => return self.finish(slot, code, None, true),
                code => self.finish(slot, code, None, false),
            }
        }
        // A full queue: the listener asks again when it has been emptied.
        self.finish(slot, -libc::ECANCELED, None, true);
    }

    fn receive(&mut self, fd: RawFd) -> Tried {
        let Some(mut buffer) = self.pool.take() else { return Tried::Done(-libc::ENOBUFS, None) };
        let (start, len) = buffer.spare();
        // SAFETY: the buffer is ours and `len` bytes long.
        match outcome(unsafe { libc::recv(fd, start.cast(), len, libc::MSG_DONTWAIT) }) {
            code if code == -libc::EAGAIN => Tried::WouldBlock,
            code if code < 0 => Tried::Done(code, None),
            code => {
                buffer.set_len(code as usize);
                Tried::Done(code, Some(Lease::pooled(buffer)))
            }
        }
    }

    fn hand_to_thread(&mut self, slot: Slot, request: &mut Request) {
        let call = FileCall::of(request);
        let (results, wake) = (self.from_threads.clone(), self.wake.clone());
        blocking::submit(Box::new(move || {
            let result = call.run();
            results.lock().unwrap().push((slot, result));
            wake.wake();
        }));
    }

    /// Tries again what waited for `fd`.
    fn retry(&mut self, fd: RawFd, entries: &mut Slab<Entry>, readable: bool, writable: bool) {
        let Some(parked) = self.parked.get_mut(&fd) else { return };
        let mut slots = Vec::new();
        if readable {
            slots.append(&mut parked.readers);
        }
        if writable {
            slots.append(&mut parked.writers);
        }
        if parked.readers.is_empty() && parked.writers.is_empty() {
            self.parked.remove(&fd);
        }
        for slot in slots {
            let Some(entry) = entries.get_mut(slot) else { continue };
            match &mut entry.request {
                Request::Poll { writable, .. } => {
                    let mask = super::poll_mask(*writable) as i32;
                    self.finish(slot, mask, None, true);
                }
                Request::Connect { fd, .. } => {
                    let code = socket_error(*fd);
                    self.finish(slot, -code, None, true);
                }
                request => self.submit(slot, request),
            }
        }
        // What is still parked must be watched again; its descriptor is open, as its sink holds it.
        let _ = self.watch(fd);
    }

    pub(super) fn wait(
        &mut self,
        timeout: Option<Duration>,
        entries: &mut Slab<Entry>,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        let timeout_ms = match timeout {
            _ if !self.done.is_empty() => 0,
            None => -1,
            // Rounded up, so that a timer is due when the wait ends.
            Some(timeout) => timeout.as_micros().div_ceil(1000).min(i32::MAX as u128) as i32,
        };
        // SAFETY: `ready` has room for as many events as it is long.
        let count = unsafe {
            libc::epoll_wait(
                self.epoll.as_raw_fd(),
                self.ready.as_mut_ptr(),
                self.ready.len() as i32,
                timeout_ms,
            )
        };
        if count < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        for index in 0..count.max(0) as usize {
            let libc::epoll_event { events, u64: fd } = self.ready[index];
            let fd = fd as RawFd;
            if fd == self.wake.as_raw_fd() {
                self.wake.clear();
                continue;
            }
            let broken = events & (libc::EPOLLERR | libc::EPOLLHUP) as u32 != 0;
            let readable = broken || events & (libc::EPOLLIN | libc::EPOLLRDHUP) as u32 != 0;
            let writable = broken || events & libc::EPOLLOUT as u32 != 0;
            self.retry(fd, entries, readable, writable);
        }
        let from_threads = std::mem::take(&mut *self.from_threads.lock().unwrap());
        for (slot, result) in from_threads {
            self.finish(slot, result, None, true);
        }
        events.append(&mut self.done);
        Ok(())
    }
}

/// A system call's return value, or its error as a negative number (as io_uring gives it).
fn outcome(returned: isize) -> i32 {
    if returned < 0 {
        -io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
    } else {
        returned as i32
    }
}

fn socket_error(fd: RawFd) -> i32 {
    let mut code: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `code` and `len` are writable and of the right size.
    let result = unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, (&raw mut code).cast(), &raw mut len)
    };
    if result < 0 { libc::EIO } else { code }
}

fn send(request: &mut Request) -> Tried {
    let Request::Send { fd, data } = request else { unreachable!("only sends are sent") };
    let header = data.header();
    // SAFETY: the header points to the vectors and segments that the request owns.
    match outcome(unsafe { libc::sendmsg(*fd, header, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) }) {
        code if code == -libc::EAGAIN => Tried::WouldBlock,
        code => Tried::Done(code, None),
    }
}

/// A file operation for a blocking thread, its memory owned by the slot meanwhile.
enum FileCall {
    Write { fd: RawFd, offset: u64, parts: Vec<libc::iovec>, durable: bool },
    Read { fd: RawFd, offset: u64, part: libc::iovec },
    Sync { fd: RawFd, data_only: bool },
}

// SAFETY: the memory behind the vectors stays in the operation's slot, untouched, until the result has come back.
unsafe impl Send for FileCall {}

impl FileCall {
    fn of(request: &mut Request) -> FileCall {
        match request {
            Request::Write { fd, offset, data, durable } => {
                let parts = match data {
                    FileData::Segment { segment, skip } => {
                        let rest = &segment[*skip..];
                        vec![libc::iovec { iov_base: rest.as_ptr().cast_mut().cast(), iov_len: rest.len() }]
                    }
                    FileData::Aligned { parts, .. } => parts.clone(),
                };
                FileCall::Write { fd: *fd, offset: *offset, parts, durable: *durable }
            }
            Request::Read { fd, offset, buffer } => {
                let (start, len) = FileBuffer::spare(buffer);
                let part = libc::iovec { iov_base: start.cast(), iov_len: len };
                FileCall::Read { fd: *fd, offset: *offset, part }
            }
            Request::Sync { fd, data_only } => FileCall::Sync { fd: *fd, data_only: *data_only },
            _ => unreachable!("only file operations go to a thread"),
        }
    }

    fn run(&self) -> i32 {
        match self {
            FileCall::Write { fd, offset, parts, durable } => {
                let flags = if *durable { libc::RWF_DSYNC } else { 0 };
                // SAFETY: see the Send implementation.
                outcome(unsafe {
                    libc::pwritev2(*fd, parts.as_ptr(), parts.len() as i32, *offset as i64, flags)
                })
            }
            FileCall::Read { fd, offset, part } => {
                // SAFETY: see the Send implementation.
                outcome(unsafe { libc::pread(*fd, part.iov_base, part.iov_len, *offset as i64) })
            }
            FileCall::Sync { fd, data_only } => {
                // SAFETY: no pointers.
                let result = unsafe { if *data_only { libc::fdatasync(*fd) } else { libc::fsync(*fd) } };
                outcome(result as isize)
            }
        }
    }
}
