//! The twin of the stream sockets' `system` module: a handle with the calls of `socket2::Socket` that are made.

use crate::sim::kernel::{kernel, try_kernel};
use socket2::{Domain, Protocol, SockAddr, Type};
use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::path::Path;
use std::sync::Arc;

/// A descriptor of the simulated kernel; closed when dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: Arc<Descriptor>,
}

#[derive(Debug)]
struct Descriptor(RawFd);

impl Drop for Descriptor {
    fn drop(&mut self) {
        if let Some(kernel) = try_kernel() {
            kernel.net_close(self.0);
        }
    }
}

pub(super) fn result<T>(result: Result<T, i32>) -> io::Result<T> {
    result.map_err(io::Error::from_raw_os_error)
}

#[allow(clippy::unnecessary_wraps, reason = "the twin has the signatures of its original")]
impl Socket {
    pub(crate) fn new(_domain: Domain, kind: Type, _protocol: Option<Protocol>) -> io::Result<Socket> {
        let fd = result(kernel().net_socket(kind == Type::DGRAM))?;
        Ok(Socket { fd: Arc::new(Descriptor(fd)) })
    }

    pub(crate) fn try_clone(&self) -> io::Result<Socket> {
        Ok(Socket { fd: self.fd.clone() })
    }

    pub(crate) fn bind(&self, address: &SockAddr) -> io::Result<()> {
        result(kernel().net_bind(self.as_raw_fd(), address))
    }

    pub(crate) fn listen(&self, backlog: i32) -> io::Result<()> {
        result(kernel().net_listen(self.as_raw_fd(), backlog))
    }

    pub(crate) fn local_addr(&self) -> io::Result<SockAddr> {
        result(kernel().net_local(self.as_raw_fd()))
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SockAddr> {
        result(kernel().net_peer(self.as_raw_fd()))
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        result(kernel().net_shutdown(self.as_raw_fd(), how == Shutdown::Both))
    }

    pub(crate) fn recv(&self, into: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        match kernel().net_recv(self.as_raw_fd(), into.len(), None) {
            Ok((bytes, _)) => {
                into.iter_mut().zip(&bytes).for_each(|(into, byte)| {
                    into.write(*byte);
                });
                Ok(bytes.len())
            }
            Err(super::Tried::Failed(errno)) => Err(io::Error::from_raw_os_error(errno)),
            Err(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    pub(crate) fn set_reuse_port(&self, on: bool) -> io::Result<()> {
        kernel().net_set_reuse_port(self.as_raw_fd(), on);
        Ok(())
    }

    pub(crate) fn set_reuse_address(&self, _on: bool) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn set_only_v6(&self, _on: bool) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn set_nonblocking(&self, _on: bool) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn set_tcp_nodelay(&self, _on: bool) -> io::Result<()> {
        Ok(())
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.0
    }
}

impl FromRawFd for Socket {
    unsafe fn from_raw_fd(fd: RawFd) -> Socket {
        Socket { fd: Arc::new(Descriptor(fd)) }
    }
}

impl From<std::net::TcpListener> for Socket {
    fn from(_: std::net::TcpListener) -> Socket {
        panic!("a socket of the host was handed to a simulated node")
    }
}

/// Nothing: the simulated file system holds no sockets.
#[derive(Debug)]
pub(crate) struct SocketFile;

/// Tries once: no killed process's ring holds an address here.
pub(crate) fn bind_patiently<T>(bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    bind()
}

pub(crate) fn listen_unix(
    path: &Path,
    backlog: i32,
    _mode: Option<u32>,
) -> io::Result<(Socket, Arc<SocketFile>)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(backlog)?;
    Ok((socket, Arc::new(SocketFile)))
}

pub(crate) fn reset(socket: &Socket) {
    kernel().net_reset(socket.as_raw_fd());
}
