//! A stream, plain or encrypted.

use crate::TlsStream;
use runtime::net::{Address, Stream};
use runtime::{Lease, Segment};
use std::io;

/// One of the two, with the methods that both have; each is as there.
pub enum Conn {
    /// As the kernel gives it.
    Plain(Stream),
    /// Through TLS.
    Tls(TlsStream),
}

/// Calls the method of whichever it is.
macro_rules! either {
    ($conn:expr, $stream:ident => $call:expr) => {
        match $conn {
            Conn::Plain($stream) => $call,
            Conn::Tls($stream) => $call,
        }
    };
}

impl Conn {
    /// See [`Stream::recv`], [`TlsStream::recv`].
    pub async fn recv(&self) -> io::Result<Lease> {
        either!(self, stream => stream.recv().await)
    }

    /// See [`Stream::send`], [`TlsStream::send`].
    pub async fn send(&self, segment: impl Into<Segment>) -> io::Result<()> {
        either!(self, stream => stream.send(segment).await)
    }

    /// See [`Stream::send_all`], [`TlsStream::send_all`].
    pub async fn send_all(&self, segments: impl IntoIterator<Item = Segment>) -> io::Result<()> {
        either!(self, stream => stream.send_all(segments).await)
    }

    /// See [`Stream::flush`], [`TlsStream::flush`].
    pub async fn flush(&self) -> io::Result<()> {
        either!(self, stream => stream.flush().await)
    }

    /// See [`Stream::shutdown`], [`TlsStream::shutdown`].
    pub async fn shutdown(&self) -> io::Result<()> {
        either!(self, stream => stream.shutdown().await)
    }

    /// Ends the connection now, with a reset.
    pub fn abort(&self) {
        either!(self, stream => stream.abort());
    }

    /// Bytes, encrypted ones for TLS, that the kernel has not taken yet.
    pub fn send_queue_bytes(&self) -> usize {
        either!(self, stream => stream.send_queue_bytes())
    }

    /// Sets what `send_queue_bytes` may reach before `send` waits.
    pub fn set_send_queue_limit(&self, bytes: usize) {
        either!(self, stream => stream.set_send_queue_limit(bytes));
    }

    /// Whether small segments leave at once (they do at first).
    pub fn set_nodelay(&self, on: bool) {
        either!(self, stream => stream.set_nodelay(on));
    }

    /// The peer's address.
    pub fn peer_addr(&self) -> io::Result<Address> {
        either!(self, stream => stream.peer_addr())
    }

    /// Our own address.
    pub fn local_addr(&self) -> io::Result<Address> {
        either!(self, stream => stream.local_addr())
    }

    /// The protocol agreed on by ALPN; `None` without, and for a plain stream.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Conn::Plain(_) => None,
            Conn::Tls(stream) => stream.alpn(),
        }
    }

    /// The name that the client asked for; `None` without, and for a plain stream.
    pub fn server_name(&self) -> Option<&str> {
        match self {
            Conn::Plain(_) => None,
            Conn::Tls(stream) => stream.server_name(),
        }
    }

    /// Whether it is encrypted.
    pub fn is_tls(&self) -> bool {
        matches!(self, Conn::Tls(_))
    }
}

impl From<Stream> for Conn {
    fn from(stream: Stream) -> Conn {
        Conn::Plain(stream)
    }
}

impl From<TlsStream> for Conn {
    fn from(stream: TlsStream) -> Conn {
        Conn::Tls(stream)
    }
}
