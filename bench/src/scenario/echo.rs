//! Servers that answer every 8-byte request with 53 bytes, one per runtime, each written as its own users would.
//! A request may be cut anywhere and many may come at once; the answers to what came together leave together.

use clap::ValueEnum;
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Bytes of a request.
pub(crate) const REQUEST: &[u8; 8] = b"get foo\n";
/// The answer to each.
pub(crate) const ANSWER: &[u8; 53] = b"VALUE foo 0 32\r\n01234567890123456789012345678901\r\nEND";

/// Bytes received at once.
const BUFFER_BYTES: usize = 16 * 1024;

/// The runtimes compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runtime {
    /// Ours on io_uring.
    Ring,
    /// Ours on epoll.
    Epoll,
    /// No runtime: multishot accept and receive, provided buffers.
    BareRing,
    Monoio,
    TokioUring,
    Tokio,
}

impl Runtime {
    pub(crate) const ALL: [Runtime; 6] = [
        Runtime::Ring,
        Runtime::BareRing,
        Runtime::Epoll,
        Runtime::Monoio,
        Runtime::TokioUring,
        Runtime::Tokio,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Runtime::Ring => "ring",
            Runtime::Epoll => "epoll",
            Runtime::BareRing => "bare-ring",
            Runtime::Monoio => "monoio",
            Runtime::TokioUring => "tokio-uring",
            Runtime::Tokio => "tokio",
        }
    }

    /// The release in Cargo.lock, or our own.
    pub(crate) fn version(self) -> &'static str {
        match self {
            Runtime::Ring | Runtime::Epoll | Runtime::BareRing => env!("CARGO_PKG_VERSION"),
            Runtime::Monoio => "0.2",
            Runtime::TokioUring => "0.5",
            Runtime::Tokio => "1",
        }
    }
}

/// Counts the whole requests in a stream.
#[derive(Default)]
struct Requests {
    partial: usize,
}

impl Requests {
    fn take(&mut self, bytes: usize) -> usize {
        let total = self.partial + bytes;
        self.partial = total % REQUEST.len();
        total / REQUEST.len()
    }
}

/// Serves until killed.
pub(crate) fn serve(runtime: Runtime, address: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    match runtime {
        Runtime::Ring => ours(runtime::Backend::Ring, listener),
        Runtime::Epoll => ours(runtime::Backend::Epoll, listener),
        Runtime::BareRing => bare_ring::serve(listener, REQUEST.len(), ANSWER),
        Runtime::Monoio => monoio(listener),
        Runtime::TokioUring => tokio_uring(listener),
        Runtime::Tokio => tokio(listener),
    }
}

fn ours(backend: runtime::Backend, listener: TcpListener) -> io::Result<()> {
    let options = runtime::Options { backend, ..runtime::Options::default() };
    runtime::block_on(&options, async {
        let listener = runtime::net::BoundListener::from_std(listener).open()?;
        loop {
            let (stream, _) = listener.accept().await?;
            runtime::spawn(async move {
                let mut requests = Requests::default();
                while let Ok(lease) = stream.recv().await {
                    let count = requests.take(lease.len());
                    if lease.is_empty() || stream.send(ANSWER.repeat(count)).await.is_err() {
                        return;
                    }
                }
            });
        }
    })?
}

fn monoio(listener: TcpListener) -> io::Result<()> {
    use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
    let mut ring = monoio_io_uring::IoUring::builder();
    ring.setup_single_issuer().setup_defer_taskrun();
    let mut driver = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().uring_builder(ring).build()?;
    driver.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = monoio::net::TcpListener::from_std(listener)?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            monoio::spawn(async move {
                let mut requests = Requests::default();
                let mut buffer = Vec::with_capacity(BUFFER_BYTES);
                loop {
                    let (result, filled) = stream.read(buffer).await;
                    let Ok(bytes @ 1..) = result else { return };
                    let answer = ANSWER.repeat(requests.take(bytes));
                    if stream.write_all(answer).await.0.is_err() {
                        return;
                    }
                    buffer = filled;
                }
            });
        }
    })
}

fn tokio_uring(listener: TcpListener) -> io::Result<()> {
    ::tokio_uring::start(async {
        let listener = ::tokio_uring::net::TcpListener::from_std(listener);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            ::tokio_uring::spawn(async move {
                let mut requests = Requests::default();
                let mut buffer = Vec::with_capacity(BUFFER_BYTES);
                loop {
                    let (result, filled) = stream.read(buffer).await;
                    let Ok(bytes @ 1..) = result else { return };
                    let answer = ANSWER.repeat(requests.take(bytes));
                    if stream.write_all(answer).await.0.is_err() {
                        return;
                    }
                    buffer = filled;
                }
            });
        }
    })
}

fn tokio(listener: TcpListener) -> io::Result<()> {
    use ::tokio::io::{AsyncReadExt, AsyncWriteExt};
    listener.set_nonblocking(true)?;
    ::tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
        let listener = ::tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            ::tokio::spawn(async move {
                let mut requests = Requests::default();
                let mut buffer = vec![0; BUFFER_BYTES];
                loop {
                    let Ok(bytes @ 1..) = stream.read(&mut buffer).await else { return };
                    let answer = ANSWER.repeat(requests.take(bytes));
                    if stream.write_all(&answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_however_they_are_cut() {
        let mut requests = Requests::default();
        assert_eq!([3, 4, 1, 16, 9, 7].map(|bytes| requests.take(bytes)), [0, 0, 1, 2, 1, 1]);
    }
}
