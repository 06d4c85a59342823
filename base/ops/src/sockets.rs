//! Sockets handed over by who started the process (systemd socket activation, `LISTEN_FDS`; sd_listen_fds(3)): the port
//! stays open while the daemon restarts, and the daemon needs no right to bind it.
//!
//! Each socket is given out once. [`Service::start`](crate::Service::start) takes note of them before it starts a thread,
//! because the variables are removed from the environment, for children not to see them.

use listenfd::ListenFd;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::sync::{Mutex, OnceLock};

/// A socket, already bound and, where that applies, listening; closed on exec.
#[derive(Debug)]
pub enum Socket {
    /// A TCP listener.
    Tcp(TcpListener),
    /// A Unix stream listener.
    Unix(UnixListener),
    /// A bound UDP socket.
    Udp(UdpSocket),
}

/// The sockets called `name` (`FileDescriptorName=` in the socket unit), in their order, those not taken before. Empty
/// when the process was started without. An error names the descriptor that is none of the kinds of [`Socket`].
pub fn handed_over(name: &str) -> io::Result<Vec<Socket>> {
    let mut handed = handed().lock().expect("no code panics while it holds the sockets");
    let positions: Vec<usize> =
        handed.names.iter().enumerate().filter(|(_, n)| n.as_str() == name).map(|(at, _)| at).collect();
    let mut sockets = Vec::new();
    for at in positions {
        sockets.extend(take(&mut handed.sockets, at)?);
    }
    Ok(sockets)
}

/// Reads the environment, once; later calls do nothing.
pub(crate) fn take_note() {
    handed();
}

struct Handed {
    sockets: ListenFd,
    names: Vec<String>,
}

fn handed() -> &'static Mutex<Handed> {
    static HANDED: OnceLock<Mutex<Handed>> = OnceLock::new();
    HANDED.get_or_init(|| {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let sockets = ListenFd::from_env();
        let names = name_all(&names, sockets.len());
        Mutex::new(Handed { sockets, names })
    })
}

/// One name per socket; what has none is called `unknown`, as sd_listen_fds_with_names(3) does.
fn name_all(names: &str, count: usize) -> Vec<String> {
    let mut all: Vec<String> = names.split(':').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    all.resize(count, "unknown".to_owned());
    all
}

fn take(sockets: &mut ListenFd, at: usize) -> io::Result<Option<Socket>> {
    if let Ok(socket) = sockets.take_tcp_listener(at) {
        return Ok(socket.map(Socket::Tcp));
    }
    if let Ok(socket) = sockets.take_udp_socket(at) {
        return Ok(socket.map(Socket::Udp));
    }
    let socket = sockets.take_unix_listener(at).map_err(|_| {
        let message = format!("handed-over descriptor {at} is no TCP, UDP or Unix stream socket");
        io::Error::new(io::ErrorKind::InvalidInput, message)
    })?;
    Ok(socket.map(Socket::Unix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_socket_has_a_name() {
        assert_eq!(name_all("http:https", 2), ["http", "https"]);
        assert_eq!(name_all("", 2), ["unknown", "unknown"]);
        assert_eq!(name_all("a", 2), ["a", "unknown"]);
        assert_eq!(name_all("a:b:c", 1), ["a"]);
    }

    #[test]
    fn a_process_started_without_has_none() {
        assert!(handed_over("http").unwrap().is_empty());
    }
}
