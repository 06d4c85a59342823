//! The servers over TCP: a request may be cut anywhere and many may come at once; the answers to what came together leave
//! together.

use super::{ANSWER, REQUEST, Runtime};
use std::io;
use std::net::TcpListener;

/// Bytes received at once.
const BUFFER_BYTES: usize = 16 * 1024;

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
pub(super) fn serve(runtime: Runtime, listener: TcpListener) -> io::Result<()> {
    match runtime {
        Runtime::Ring => ours(runtime::Backend::Ring, listener),
        Runtime::Epoll => ours(runtime::Backend::Epoll, listener),
        Runtime::BareRing => bare_ring::tcp::serve(listener, REQUEST.len(), ANSWER),
        Runtime::Monoio => monoio(listener),
        Runtime::TokioUring => tokio_uring(listener),
        Runtime::Tokio => tokio(listener),
        Runtime::BareCalls => Err(io::Error::from(io::ErrorKind::Unsupported)),
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
