//! What sockets ask of the host, besides the driver's operations.

use super::Address;
use crate::limits;
use socket2::{Domain, Type};
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) use socket2::Socket;

/// Removes a Unix socket's file when the last of its listeners goes.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Tries `bind` again while the address is in use, for [`limits::BIND_PATIENCE`].
pub(super) fn bind_patiently<T>(bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let begun = Instant::now();
    loop {
        match bind() {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && begun.elapsed() < limits::BIND_PATIENCE =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

/// A listening socket at `path`. A stale file is replaced, a live one is not.
pub(super) fn listen_unix(
    path: &Path,
    backlog: i32,
    mode: Option<u32>,
) -> io::Result<(Socket, Arc<SocketFile>)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let address = Address::Unix(path.to_owned()).to_socket_address()?;
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    if std::fs::symlink_metadata(path)
        .is_ok_and(|file| std::os::unix::fs::FileTypeExt::is_socket(&file.file_type()))
    {
        std::fs::remove_file(path)?;
    }
    socket.bind(&address)?;
    let file = Arc::new(SocketFile(path.to_owned()));
    if let Some(mode) = mode {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    }
    socket.listen(backlog)?;
    Ok((socket, file))
}

/// Ends a connection now; the peer sees a reset.
pub(super) fn reset(socket: &Socket) {
    // SAFETY: a plain C struct for which all zeros is a value, the family AF_UNSPEC among them.
    let nowhere: libc::sockaddr = unsafe { std::mem::zeroed() };
    let len = size_of::<libc::sockaddr>() as libc::socklen_t;
    // Connecting a TCP socket to AF_UNSPEC resets its connection at once (connect(2)), where closing would wait for
    // the receive in flight.
    // SAFETY: the address is readable and of the length given.
    if unsafe { libc::connect(socket.as_raw_fd(), &raw const nowhere, len) } < 0 {
        let _ = socket.shutdown(Shutdown::Both);
    }
}
