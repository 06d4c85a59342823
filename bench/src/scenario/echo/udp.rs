//! The servers over UDP: where a runtime takes datagrams one by one, so are they answered.

use super::{ANSWER, Runtime};
use std::io;
use std::net::{SocketAddr, UdpSocket};

/// Bytes of a request that are looked at.
const REQUEST_BYTES_MAX: usize = 64;
/// The number of a request, which its answer repeats.
const NUMBER_BYTES: usize = 2;

/// Serves until killed.
pub(super) fn serve(runtime: Runtime, address: SocketAddr) -> io::Result<()> {
    let bind = || UdpSocket::bind(address);
    match runtime {
        Runtime::Ring => ours(runtime::Backend::Ring, address),
        Runtime::Epoll => ours(runtime::Backend::Epoll, address),
        Runtime::BareRing => bare_ring::udp::serve_by_ring(&bind()?, ANSWER),
        Runtime::BareCalls => bare_ring::udp::serve_by_calls(&bind()?, ANSWER),
        Runtime::Monoio => monoio(bind()?),
        Runtime::TokioUring => tokio_uring(bind()?),
        Runtime::Tokio => tokio(bind()?),
    }
}

/// The answer to a request.
fn answer_to(request: &[u8]) -> [u8; ANSWER.len()] {
    let mut answer = *ANSWER;
    let number = request.len().min(NUMBER_BYTES);
    answer[..number].copy_from_slice(&request[..number]);
    answer
}

fn ours(backend: runtime::Backend, address: SocketAddr) -> io::Result<()> {
    let options = runtime::Options { backend, ..runtime::Options::default() };
    let bound = runtime::net::bind_udp(address, 1)?.remove(0);
    runtime::block_on(&options, async {
        let socket = bound.open()?;
        let mut batch = runtime::net::DatagramBatch::new(REQUEST_BYTES_MAX);
        loop {
            socket.recv_batch(&mut batch).await?;
            for index in 0..batch.len() {
                let (request, _, answer) = batch.exchange(index);
                answer.extend_from_slice(&answer_to(request));
            }
            socket.send_batch(&mut batch).await?;
        }
    })?
}

fn monoio(socket: UdpSocket) -> io::Result<()> {
    let mut ring = monoio_io_uring::IoUring::builder();
    ring.setup_single_issuer().setup_defer_taskrun();
    let mut driver = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().uring_builder(ring).build()?;
    driver.block_on(async {
        let socket = monoio::net::udp::UdpSocket::from_std(socket)?;
        let mut buffer = Vec::with_capacity(REQUEST_BYTES_MAX);
        loop {
            let (result, filled) = socket.recv_from(buffer).await;
            let (bytes, peer) = result?;
            let answer = answer_to(&filled[..bytes]);
            socket.send_to(answer.to_vec(), peer).await.0?;
            buffer = filled;
        }
    })
}

fn tokio_uring(socket: UdpSocket) -> io::Result<()> {
    ::tokio_uring::start(async {
        let socket = ::tokio_uring::net::UdpSocket::from_std(socket);
        let mut buffer = Vec::with_capacity(REQUEST_BYTES_MAX);
        loop {
            let (result, filled) = socket.recv_from(buffer).await;
            let (bytes, peer) = result?;
            let answer = answer_to(&filled[..bytes]);
            socket.send_to(answer.to_vec(), peer).await.0?;
            buffer = filled;
        }
    })
}

fn tokio(socket: UdpSocket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    ::tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
        let socket = ::tokio::net::UdpSocket::from_std(socket)?;
        let mut buffer = [0; REQUEST_BYTES_MAX];
        loop {
            let (bytes, peer) = socket.recv_from(&mut buffer).await?;
            socket.send_to(&answer_to(&buffer[..bytes]), peer).await?;
        }
    })
}
