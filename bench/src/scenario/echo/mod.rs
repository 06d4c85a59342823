//! Servers that answer every 8-byte request with 53 bytes, one per runtime, each written as its own users would.
//!
//! | module | what |
//! |---|---|
//! | [`tcp`] | requests in streams |
//! | [`udp`] | a request in each datagram |

mod tcp;
mod udp;

use clap::ValueEnum;
use std::io;
use std::net::{SocketAddr, TcpListener};

/// A request. In a datagram its first two bytes are its number.
pub(crate) const REQUEST: &[u8; 8] = b"get foo\n";
/// The answer to each. In a datagram its first two bytes are the request's number.
pub(crate) const ANSWER: &[u8; 53] = b"VALUE foo 0 32\r\n01234567890123456789012345678901\r\nEND";

/// The runtimes compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runtime {
    /// Ours on io_uring.
    Ring,
    /// Ours on epoll.
    Epoll,
    /// No runtime: multishot accept and receive, provided buffers.
    BareRing,
    /// No runtime: recvmmsg(2) and sendmmsg(2), blocking. Datagrams only.
    BareCalls,
    Monoio,
    TokioUring,
    Tokio,
}

/// How requests travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        }
    }
}

impl Runtime {
    /// Those that serve over it, ours first.
    pub(crate) fn of(transport: Transport) -> impl Iterator<Item = Runtime> {
        let all = [
            Runtime::Ring,
            Runtime::BareRing,
            Runtime::BareCalls,
            Runtime::Epoll,
            Runtime::Monoio,
            Runtime::TokioUring,
            Runtime::Tokio,
        ];
        all.into_iter().filter(move |runtime| transport == Transport::Udp || *runtime != Runtime::BareCalls)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Runtime::Ring => "ring",
            Runtime::Epoll => "epoll",
            Runtime::BareRing => "bare-ring",
            Runtime::BareCalls => "bare-calls",
            Runtime::Monoio => "monoio",
            Runtime::TokioUring => "tokio-uring",
            Runtime::Tokio => "tokio",
        }
    }

    /// The release in Cargo.lock, or our own.
    pub(crate) fn version(self) -> &'static str {
        match self {
            Runtime::Ring | Runtime::Epoll | Runtime::BareRing | Runtime::BareCalls => {
                env!("CARGO_PKG_VERSION")
            }
            Runtime::Monoio => "0.2",
            Runtime::TokioUring => "0.5",
            Runtime::Tokio => "1",
        }
    }
}

/// Serves until killed. Over UDP too the address takes TCP connections, which shows that it is ready.
pub(crate) fn serve(runtime: Runtime, transport: Transport, address: SocketAddr) -> io::Result<()> {
    match transport {
        Transport::Tcp => tcp::serve(runtime, TcpListener::bind(address)?),
        Transport::Udp => {
            let _ready = TcpListener::bind(address)?;
            udp::serve(runtime, address)
        }
    }
}
