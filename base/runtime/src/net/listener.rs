//! Listeners: bound together for all cores, opened one on each.
//!
//! What always holds: a connection that the kernel has given us is handed to exactly one `accept`, however many of its
//! futures were dropped; those never asked for are closed with the listener.

use super::system::{Socket, SocketFile, bind_patiently, listen_unix};
use super::{Address, Stream};
use crate::driver::{Completion, Request, Sink, Slot};
use crate::exec::Core;
use crate::limits;
use socket2::{Domain, Protocol, Type};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// How to listen.
#[derive(Debug, Clone)]
pub struct ListenOptions {
    /// Connections that the kernel holds before they are accepted, per core.
    pub backlog: u32,
    /// Permission bits of a Unix socket's file (memcached's -a); the process's umask otherwise.
    pub unix_mode: Option<u32>,
}

impl Default for ListenOptions {
    fn default() -> ListenOptions {
        ListenOptions { backlog: 1024, unix_mode: None }
    }
}

/// A bound and listening socket on its way to the core that will accept from it.
#[derive(Debug)]
pub struct BoundListener {
    socket: Socket,
    file: Option<Arc<SocketFile>>,
}

impl BoundListener {
    /// A listener that was handed over (socket activation).
    pub fn from_std(listener: std::net::TcpListener) -> BoundListener {
        BoundListener { socket: listener.into(), file: None }
    }

    /// The address it listens on; port 0 has become a port by now.
    pub fn local_addr(&self) -> Address {
        local_address(&self.socket)
    }

    /// Opens it on this core.
    ///
    /// # Errors
    /// When the socket can't be made non-blocking.
    ///
    /// # Panics
    /// Outside a core.
    pub fn open(self) -> io::Result<Listener> {
        self.socket.set_nonblocking(true)?;
        let inner = Inner {
            core: Core::current(),
            socket: self.socket,
            accepted: RefCell::default(),
            slot: Cell::new(None),
            stopping: Cell::new(false),
            error: Cell::new(None),
            waiting: RefCell::default(),
        };
        Ok(Listener { inner: Rc::new(inner), _file: self.file })
    }
}

fn local_address(socket: &Socket) -> Address {
    let address = socket.local_addr().expect("a bound socket has an address");
    Address::from_socket_address(&address)
}

/// Binds `copies` listening sockets on one address, one for each core (SO_REUSEPORT), after proving that no other
/// process has the port: with SO_REUSEPORT alone two sites would share it in silence. On a Unix path, the copies
/// share one socket; a stale file is replaced, a live one is not. It blocks, for up to [`limits::BIND_PATIENCE`]: call it before
/// the cores run.
///
/// # Errors
/// What bind(2) and listen(2) say; `AddrInUse` when somebody listens there.
pub fn listen(address: &Address, copies: usize, options: &ListenOptions) -> io::Result<Vec<BoundListener>> {
    assert!(copies > 0, "a listener for no core");
    match address {
        Address::Unix(path) => {
            let (socket, file) = listen_unix(path, backlog(options), options.unix_mode)?;
            (0..copies)
                .map(|_| Ok(BoundListener { socket: socket.try_clone()?, file: Some(file.clone()) }))
                .collect()
        }
        Address::Ip(ip) => {
            let probe = bind_patiently(|| {
                let probe = tcp_socket(*ip, false)?;
                probe.bind(&(*ip).into())?;
                Ok(probe)
            })?;
            let bound = probe.local_addr()?.as_socket().unwrap_or(*ip);
            drop(probe);
            (0..copies)
                .map(|_| {
                    let socket = tcp_socket(bound, true)?;
                    socket.bind(&bound.into())?;
                    socket.listen(backlog(options))?;
                    Ok(BoundListener { socket, file: None })
                })
                .collect()
        }
    }
}

fn backlog(options: &ListenOptions) -> i32 {
    i32::try_from(options.backlog).unwrap_or(i32::MAX)
}

fn tcp_socket(address: std::net::SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier process may still be in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

struct Inner {
    core: Rc<Core>,
    socket: Socket,
    accepted: RefCell<VecDeque<Socket>>,
    /// The accept in flight.
    slot: Cell<Option<Slot>>,
    /// It has been asked to end, as the queue is full or the listener gone.
    stopping: Cell<bool>,
    error: Cell<Option<io::Error>>,
    waiting: RefCell<Vec<Waker>>,
}

impl Sink for Inner {
    fn complete(self: Rc<Self>, completion: Completion) {
        match completion.result {
            Ok(fd) => {
                // SAFETY: accept gave this descriptor to us alone.
                let socket = unsafe { Socket::from_raw_fd(fd as RawFd) };
                self.accepted.borrow_mut().push_back(socket);
            }
            Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => {}
            Err(error) => self.error.set(Some(error)),
        }
        if completion.request.is_some() {
            self.slot.set(None);
            self.stopping.set(false);
        } else if self.accepted.borrow().len() >= limits::ACCEPT_QUEUE_MAX
            && let Some(slot) = self.slot.get()
            && !self.stopping.replace(true)
        {
            self.core.cancel(slot);
        }
        self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }
}

/// A listening socket on this core.
pub struct Listener {
    inner: Rc<Inner>,
    _file: Option<Arc<SocketFile>>,
}

impl Listener {
    /// The next connection and where it comes from. Dropping the future loses no connection and no descriptor. At
    /// most [`limits::ACCEPT_QUEUE_MAX`] wait here; the rest stay in the kernel's backlog.
    ///
    /// # Errors
    /// What accept(2) says, `EMFILE` for one: wait a little, then call again.
    pub async fn accept(&self) -> io::Result<(Stream, Address)> {
        let inner = &self.inner;
        std::future::poll_fn(|context| {
            if let Some(socket) = inner.accepted.borrow_mut().pop_front() {
                return Poll::Ready(accepted(&inner.core, socket));
            }
            if let Some(error) = inner.error.take() {
                return Poll::Ready(Err(error));
            }
            if inner.slot.get().is_none() {
                let request = Request::Accept { fd: inner.socket.as_raw_fd() };
                inner.slot.set(Some(inner.core.submit(request, inner.clone())));
            }
            let mut waiting = inner.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// The address it listens on.
    pub fn local_addr(&self) -> Address {
        local_address(&self.inner.socket)
    }
}

fn accepted(core: &Rc<Core>, socket: Socket) -> io::Result<(Stream, Address)> {
    // A peer that has gone already has no address any more.
    let peer = socket.peer_addr()?;
    let address = Address::from_socket_address(&peer);
    if address.ip().is_some() {
        let _ = socket.set_tcp_nodelay(true);
    }
    Ok((Stream::new(core.clone(), socket), address))
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(slot) = self.inner.slot.get()
            && !self.inner.stopping.replace(true)
        {
            self.inner.core.cancel(slot);
        }
    }
}
