//! Connected streams.
//!
//! What always holds:
//! - The receive in flight belongs to the stream. A `recv` whose future is dropped leaves its bytes for the next.
//! - What `send` took is sent whole, in call order, at the end of the turn in one system call; a dropped stream still
//!   sends it, within [`limits::LINGER`].
//! - At most one receive and one send are in the kernel at a time; an idle stream has neither buffer nor segment.
//! - A stream whose receives are small and one at a time is calm: one request to the kernel then receives again and again
//!   ([`limits::CALM_RECEIVES`]). When more comes than its reader takes, that request is ended; what has come until then is
//!   kept, and bounded by the core's small buffers.

use super::Address;
use super::system::{self, Socket};
use crate::buf::{Lease, Segment};
use crate::driver::{Completion, Outgoing, Request, Sink, Slot};
use crate::exec::Core;
use crate::limits;
use crate::once::Once;
use socket2::{Domain, Type};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Room for segments that an idle stream keeps.
const IDLE_SEGMENTS: usize = 8;

/// What sends at the end of a turn.
pub(crate) trait SendQueue {
    fn send_queued(self: Rc<Self>);
}

/// A connected TCP or Unix stream. One task may receive while another sends; share it by `Rc`.
pub struct Stream {
    inner: Rc<Inner>,
}

struct Inner {
    core: Rc<Core>,
    socket: Socket,
    receiving: RefCell<Receiving>,
    sending: RefCell<Sending>,
}

#[derive(Default)]
struct Receiving {
    slot: Option<Slot>,
    /// What no future has taken yet: the next, and what came behind it.
    next: Option<Lease>,
    behind: VecDeque<Lease>,
    /// Comes after all that was received.
    error: Option<io::Error>,
    waker: Option<Waker>,
    /// After that, nothing.
    finished: bool,
    /// Small receives in a row.
    calm: u8,
    /// The receive of many in flight has been asked to end.
    stopping: bool,
    /// The last receive found more to come, so the next need not wait for readiness first.
    more_waiting: bool,
    /// The pool was empty: wait for readiness, then use the heap.
    starved: bool,
}

struct Sending {
    queue: VecDeque<Segment>,
    /// Bytes taken by `send` and not yet by the kernel.
    queued_bytes: usize,
    limit_bytes: usize,
    slot: Option<Slot>,
    /// Registered for the end of this turn.
    registered: bool,
    /// Vectors to use again.
    spare: Option<Outgoing>,
    /// Why nothing more can be sent.
    failed: Option<io::ErrorKind>,
    wakers: Vec<Waker>,
}

impl Stream {
    pub(crate) fn new(core: Rc<Core>, socket: Socket) -> Stream {
        let sending = Sending {
            queue: VecDeque::new(),
            queued_bytes: 0,
            limit_bytes: limits::SEND_QUEUE_BYTES,
            slot: None,
            registered: false,
            spare: None,
            failed: None,
            wakers: Vec::new(),
        };
        let inner = Inner { core, socket, receiving: RefCell::default(), sending: RefCell::new(sending) };
        Stream { inner: Rc::new(inner) }
    }

    /// Connects. The kernel's own time limit is minutes: set a [`timeout`](crate::time::timeout).
    ///
    /// # Errors
    /// What connect(2) says.
    pub async fn connect(address: &Address) -> io::Result<Stream> {
        let core = Core::current();
        let target = address.to_socket_address()?;
        let domain = match address {
            Address::Ip(ip) => Domain::for_address(*ip),
            Address::Unix(_) => Domain::UNIX,
        };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        if address.ip().is_some() {
            socket.set_tcp_nodelay(true)?;
        }
        let socket = Rc::new(socket);
        let request = Request::Connect { fd: socket.as_raw_fd(), address: Box::new(target) };
        Once::submit(core.clone(), request, socket.clone()).await.result?;
        let socket = Rc::into_inner(socket).expect("the finished operation holds nothing");
        Ok(Stream::new(core, socket))
    }

    /// The next bytes, as many as have come, at most one receive buffer; an empty lease once the peer has finished
    /// sending. Dropping the future loses nothing.
    ///
    /// # Errors
    /// What recv(2) says; `ConnectionReset` for one.
    ///
    /// # Panics
    /// When two tasks receive from one stream.
    pub async fn recv(&self) -> io::Result<Lease> {
        std::future::poll_fn(|context| self.inner.poll_recv(context)).await
    }

    /// Takes `segment` to send; resolves at once unless more than the queue's limit waits to be sent already. What
    /// was taken is sent whole even if nothing awaits it.
    ///
    /// # Errors
    /// When sending has failed, now or earlier: the connection is of no use any more.
    pub async fn send(&self, segment: impl Into<Segment>) -> io::Result<()> {
        self.room().await?;
        self.inner.queue(std::iter::once(segment.into()));
        Ok(())
    }

    /// [`Stream::send`] of several segments as one: nothing comes between them.
    ///
    /// # Errors
    /// As [`Stream::send`].
    pub async fn send_all(&self, segments: impl IntoIterator<Item = Segment>) -> io::Result<()> {
        self.room().await?;
        self.inner.queue(segments);
        Ok(())
    }

    /// Resolves when the kernel has taken all that was queued so far.
    ///
    /// # Errors
    /// When sending has failed.
    pub async fn flush(&self) -> io::Result<()> {
        self.wait_until_queued_at_most(0).await
    }

    /// Flushes, then tells the peer that nothing more will come (FIN). Receiving goes on.
    ///
    /// # Errors
    /// As [`Stream::flush`].
    pub async fn shutdown(&self) -> io::Result<()> {
        self.flush().await?;
        self.inner.socket.shutdown(Shutdown::Write)
    }

    /// Bytes taken by `send` that the kernel has not taken yet.
    pub fn send_queue_bytes(&self) -> usize {
        self.inner.sending.borrow().queued_bytes
    }

    /// Sets what `send_queue_bytes` may reach before `send` waits; [`limits::SEND_QUEUE_BYTES`] at first.
    pub fn set_send_queue_limit(&self, bytes: usize) {
        self.inner.sending.borrow_mut().limit_bytes = bytes;
    }

    /// Whether small segments leave at once (they do at first).
    pub fn set_nodelay(&self, on: bool) {
        // Unix sockets have no such option and no such delay.
        let _ = self.inner.socket.set_tcp_nodelay(on);
    }

    /// The peer's address.
    ///
    /// # Errors
    /// `NotConnected` when the peer has gone.
    pub fn peer_addr(&self) -> io::Result<Address> {
        self.inner.socket.peer_addr().map(|address| Address::from_socket_address(&address))
    }

    /// Our own address.
    ///
    /// # Errors
    /// What getsockname(2) says.
    pub fn local_addr(&self) -> io::Result<Address> {
        self.inner.socket.local_addr().map(|address| Address::from_socket_address(&address))
    }

    /// Ends the connection now: what is queued is dropped, the peer sees a reset.
    pub fn abort(&self) {
        self.inner.sending.borrow_mut().fail(io::ErrorKind::ConnectionAborted);
        system::reset(&self.inner.socket);
    }

    async fn room(&self) -> io::Result<()> {
        let limit = self.inner.sending.borrow().limit_bytes;
        self.wait_until_queued_at_most(limit).await
    }

    async fn wait_until_queued_at_most(&self, bytes: usize) -> io::Result<()> {
        std::future::poll_fn(|context| {
            let mut sending = self.inner.sending.borrow_mut();
            if let Some(kind) = sending.failed {
                return Poll::Ready(Err(kind.into()));
            }
            if sending.queued_bytes <= bytes {
                return Poll::Ready(Ok(()));
            }
            if !sending.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                sending.wakers.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let inner = &self.inner;
        if let Some(slot) = inner.receiving.borrow().slot {
            inner.core.cancel(slot);
        }
        let unsent = {
            let sending = inner.sending.borrow();
            sending.failed.is_none() && sending.queued_bytes > 0
        };
        // The end of a core sends once more, but waits for nobody.
        if unsent && !inner.core.ending() {
            let rest = Stream { inner: inner.clone() };
            crate::spawn(rest.linger());
        }
    }
}

impl Stream {
    async fn linger(self) {
        if crate::time::timeout(limits::LINGER, self.flush()).await.is_err() {
            self.abort();
        }
        // Whatever is left is not waited for again.
        self.inner.sending.borrow_mut().fail(io::ErrorKind::NotConnected);
    }
}

/// The slots of one stream tell their results apart by the request that comes back.
impl Sink for Inner {
    fn complete(self: Rc<Self>, completion: Completion) {
        match completion.request {
            Some(Request::Send { data, .. }) => self.sent(completion.result, data),
            Some(Request::Recv { .. }) => self.received(completion),
            Some(Request::RecvMany { .. }) | None => self.received_of_many(completion),
            Some(Request::Poll { .. }) => self.readable_without_pool(completion.result),
            _ => unreachable!("a stream sends and receives"),
        }
    }
}

impl Inner {
    fn poll_recv(self: &Rc<Inner>, context: &mut Context<'_>) -> Poll<io::Result<Lease>> {
        let mut receiving = self.receiving.borrow_mut();
        if let Some(lease) = receiving.take() {
            return Poll::Ready(Ok(lease));
        }
        if let Some(error) = receiving.error.take() {
            return Poll::Ready(Err(error));
        }
        if receiving.finished {
            return Poll::Ready(Ok(Lease::empty()));
        }
        if receiving.slot.is_none() {
            let fd = self.socket.as_raw_fd();
            let request = if std::mem::take(&mut receiving.starved) {
                Request::Poll { fd, writable: false }
            } else if receiving.calm >= limits::CALM_RECEIVES {
                Request::RecvMany { fd }
            } else {
                Request::Recv { fd, poll_first: !receiving.more_waiting }
            };
            receiving.slot = Some(self.core.submit(request, self.clone()));
        }
        if !receiving.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            receiving.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }

    fn received(&self, completion: Completion) {
        let mut receiving = self.receiving.borrow_mut();
        receiving.slot = None;
        receiving.more_waiting = completion.more_waiting;
        match completion.result {
            Ok(0) => receiving.finished = true,
            Ok(bytes) => {
                let is_calm = !completion.more_waiting && (bytes as usize) < limits::SMALL_BUFFER_BYTES;
                receiving.calm = if is_calm { receiving.calm.saturating_add(1) } else { 0 };
                receiving.arrived(completion.lease.expect("a receive that received"));
            }
            // The pool is empty, or a signal came between: the next poll asks again.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => receiving.starved = true,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => receiving.error = Some(error),
        }
        if let Some(waker) = receiving.waker.take() {
            waker.wake();
        }
    }

    /// One receive of many. What is larger than small, and what its reader does not take in time, end the calm: the rest waits
    /// in the socket, for the peer's window to close.
    fn received_of_many(&self, completion: Completion) {
        let mut receiving = self.receiving.borrow_mut();
        let is_last = completion.request.is_some();
        if is_last {
            receiving.slot = None;
            receiving.stopping = false;
            receiving.more_waiting = receiving.calm == 0;
        }
        match completion.result {
            Ok(0) => receiving.finished = true,
            Ok(bytes) => {
                receiving.arrived(completion.lease.expect("a receive that received"));
                if !receiving.behind.is_empty() || bytes as usize >= limits::SMALL_BUFFER_BYTES {
                    receiving.calm = 0;
                    receiving.more_waiting = true;
                    if let Some(slot) = receiving.slot
                        && !std::mem::replace(&mut receiving.stopping, true)
                    {
                        self.core.cancel(slot);
                    }
                }
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::ECANCELED) => {}
                // There are small buffers no more: as other streams do, for now.
                Some(libc::ENOBUFS) => {
                    receiving.calm = 0;
                    receiving.more_waiting = true;
                }
                _ if error.kind() == io::ErrorKind::Interrupted => {}
                _ => receiving.error = Some(error),
            },
        }
        if let Some(waker) = receiving.waker.take() {
            waker.wake();
        }
    }

    /// The pool had no buffer: receives into the heap, now that there is something to receive.
    fn readable_without_pool(&self, result: io::Result<u32>) {
        let mut receiving = self.receiving.borrow_mut();
        receiving.slot = None;
        let received = result.and_then(|_| {
            let mut bytes: Vec<u8> = Vec::with_capacity(self.core.recv_buffer_bytes());
            let count = self.socket.recv(bytes.spare_capacity_mut())?;
            // SAFETY: recv has written `count` bytes.
            unsafe { bytes.set_len(count) };
            Ok(bytes)
        });
        match received {
            Ok(bytes) if bytes.is_empty() => receiving.finished = true,
            Ok(bytes) => receiving.arrived(Lease::from_vec(bytes)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => receiving.starved = true,
            Err(error) => receiving.error = Some(error),
        }
        if let Some(waker) = receiving.waker.take() {
            waker.wake();
        }
    }

    fn queue(self: &Rc<Inner>, segments: impl IntoIterator<Item = Segment>) {
        let mut sending = self.sending.borrow_mut();
        for segment in segments {
            if !segment.is_empty() {
                sending.queued_bytes += segment.len();
                sending.queue.push_back(segment);
            }
        }
        if !sending.queue.is_empty()
            && sending.slot.is_none()
            && !std::mem::replace(&mut sending.registered, true)
        {
            self.core.send_at_turn_end(self.clone());
        }
    }

    fn sent(self: Rc<Inner>, result: io::Result<u32>, mut data: Outgoing) {
        let mut sending = self.sending.borrow_mut();
        sending.slot = None;
        if sending.failed.is_some() {
            return;
        }
        match result {
            Ok(count) => {
                let mut left = count as usize;
                sending.queued_bytes -= left;
                let mut unsent = Vec::new();
                for segment in data.segments.drain(..) {
                    if left >= segment.len() {
                        left -= segment.len();
                    } else {
                        unsent.push(segment.without_prefix(std::mem::take(&mut left)));
                    }
                }
                unsent.into_iter().rev().for_each(|segment| sending.queue.push_front(segment));
                sending.keep(data);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                data.segments.drain(..).rev().for_each(|segment| sending.queue.push_front(segment));
            }
            Err(error) => sending.fail(error.kind()),
        }
        if !sending.queue.is_empty() && !std::mem::replace(&mut sending.registered, true) {
            self.core.send_at_turn_end(self.clone());
        }
        sending.wakers.drain(..).for_each(Waker::wake);
    }
}

impl Receiving {
    fn arrived(&mut self, lease: Lease) {
        match self.next {
            None => self.next = Some(lease),
            Some(_) => self.behind.push_back(lease),
        }
    }

    fn take(&mut self) -> Option<Lease> {
        let lease = self.next.take()?;
        self.next = self.behind.pop_front();
        Some(lease)
    }
}

impl SendQueue for Inner {
    fn send_queued(self: Rc<Inner>) {
        let mut sending = self.sending.borrow_mut();
        sending.registered = false;
        if sending.slot.is_some() || sending.queue.is_empty() {
            return;
        }
        let mut data = sending.spare.take().unwrap_or_default();
        let count = sending.queue.len().min(limits::SEND_SEGMENTS_MAX);
        data.segments.extend(sending.queue.drain(..count));
        let request = Request::Send { fd: self.socket.as_raw_fd(), data };
        sending.slot = Some(self.core.submit(request, self.clone()));
    }
}

impl Sending {
    /// Keeps the vectors for the next send, unless that makes an idle stream large.
    fn keep(&mut self, data: Outgoing) {
        if !self.queue.is_empty() || data.is_small() {
            self.spare = Some(data);
        }
        if self.queue.is_empty() && self.queue.capacity() > IDLE_SEGMENTS {
            self.queue = VecDeque::new();
        }
    }

    fn fail(&mut self, kind: io::ErrorKind) {
        self.failed.get_or_insert(kind);
        self.queue = VecDeque::new();
        self.queued_bytes = 0;
        self.wakers.drain(..).for_each(Waker::wake);
    }
}
