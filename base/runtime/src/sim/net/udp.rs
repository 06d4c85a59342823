//! The twin of `net::udp`: batches of datagrams over the simulated network, with the same types and meaning.

use super::datagram::Incoming;
use super::socket::{Socket, result};
use crate::exec::Core;
use crate::limits::{self, DATAGRAMS_PER_BATCH};
use crate::once::Once;
use crate::sim::kernel::kernel;
use socket2::{Domain, Type};
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::rc::Rc;

/// The largest datagram that IP carries, bytes of payload.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// A bound UDP socket on its way to the core that will serve it.
#[derive(Debug)]
pub struct BoundUdp {
    socket: Socket,
}

impl BoundUdp {
    /// The address it is bound to; port 0 has become a port by now.
    pub fn local_addr(&self) -> SocketAddr {
        local_address(&self.socket)
    }

    /// Opens it on this core.
    ///
    /// # Errors
    /// None here.
    ///
    /// # Panics
    /// Outside a core.
    pub fn open(self) -> io::Result<UdpSocket> {
        Ok(UdpSocket { core: Core::current(), socket: Rc::new(self.socket), in_a_row: Cell::new(0) })
    }
}

fn local_address(socket: &Socket) -> SocketAddr {
    let address = socket.local_addr().ok().and_then(|address| address.as_socket());
    address.expect("a bound UDP socket has an address")
}

/// Binds `copies` UDP sockets on one address, one for each core.
///
/// # Errors
/// `AddrInUse` when somebody has the port.
pub fn bind_udp(address: SocketAddr, copies: usize) -> io::Result<Vec<BoundUdp>> {
    assert!(copies > 0, "a socket for no core");
    let probe = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    probe.bind(&address.into())?;
    let bound = local_address(&probe);
    drop(probe);
    (0..copies)
        .map(|_| {
            let socket = Socket::new(Domain::for_address(bound), Type::DGRAM, None)?;
            socket.set_reuse_port(true)?;
            socket.bind(&bound.into())?;
            Ok(BoundUdp { socket })
        })
        .collect()
}

/// Requests received together, and room for an answer to each; or, for a client, datagrams to send together.
pub struct DatagramBatch {
    datagram_bytes_max: usize,
    requests: Vec<Incoming>,
    answers: Vec<Vec<u8>>,
}

impl DatagramBatch {
    /// Room for [`DATAGRAMS_PER_BATCH`] datagrams of at most `datagram_bytes_max` bytes; longer ones are cut there.
    pub fn new(datagram_bytes_max: usize) -> DatagramBatch {
        let answers = vec![Vec::new(); DATAGRAMS_PER_BATCH];
        DatagramBatch { datagram_bytes_max, requests: Vec::new(), answers }
    }

    /// Requests in the batch.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Whether it holds [`DATAGRAMS_PER_BATCH`] datagrams, as many as it can.
    pub fn is_full(&self) -> bool {
        self.requests.len() == DATAGRAMS_PER_BATCH
    }

    /// Takes everything out, so that a client can [`push`](DatagramBatch::push).
    pub fn clear(&mut self) {
        self.answers.iter_mut().for_each(Vec::clear);
        self.requests.clear();
    }

    /// Adds a datagram that answers no request, for [`UdpSocket::send_batch`] to send to `peer`, and gives its bytes to
    /// fill.
    ///
    /// # Panics
    /// When the batch is full.
    pub fn push(&mut self, peer: SocketAddr) -> &mut Vec<u8> {
        assert!(!self.is_full(), "more than {DATAGRAMS_PER_BATCH} datagrams in a batch");
        self.requests.push(Incoming { from: peer, to: None, bytes: Vec::new() });
        &mut self.answers[self.requests.len() - 1]
    }

    /// The `index`-th request, who sent it, and the answer to fill; an empty answer is not sent.
    pub fn exchange(&mut self, index: usize) -> (&[u8], SocketAddr, &mut Vec<u8>) {
        let request = &self.requests[index];
        (&request.bytes, request.from, &mut self.answers[index])
    }
}

/// A UDP socket on this core.
pub struct UdpSocket {
    core: Rc<Core>,
    socket: Rc<Socket>,
    in_a_row: Cell<u32>,
}

impl UdpSocket {
    /// Waits for datagrams and takes up to [`DATAGRAMS_PER_BATCH`]; gives their number. Earlier answers are cleared.
    ///
    /// # Errors
    /// When the socket itself fails.
    pub async fn recv_batch(&self, batch: &mut DatagramBatch) -> io::Result<usize> {
        batch.clear();
        if self.in_a_row.get() >= limits::DATAGRAM_BATCHES_IN_A_ROW {
            self.in_a_row.set(0);
            crate::yield_now().await;
        }
        loop {
            while batch.requests.len() < DATAGRAMS_PER_BATCH {
                let Some(mut next) = result(kernel().datagram_recv(self.socket.as_raw_fd()))? else { break };
                next.bytes.truncate(batch.datagram_bytes_max);
                batch.requests.push(next);
            }
            if !batch.requests.is_empty() {
                self.in_a_row.set(self.in_a_row.get() + 1);
                return Ok(batch.requests.len());
            }
            self.in_a_row.set(0);
            let request = crate::driver::Request::Poll { fd: self.socket.as_raw_fd(), writable: false };
            Once::submit(self.core.clone(), request, self.socket.clone()).await.result?;
        }
    }

    /// Sends every answer that is not empty back to its peer; gives their number. One that is too large is dropped.
    ///
    /// # Errors
    /// None here.
    #[allow(clippy::unused_async, reason = "the twin has the signatures of its original")]
    pub async fn send_batch(&self, batch: &mut DatagramBatch) -> io::Result<usize> {
        let mut sent = 0;
        for (request, answer) in batch.requests.iter().zip(&batch.answers) {
            if answer.is_empty() || answer.len() > DATAGRAM_BYTES_MAX {
                continue;
            }
            kernel().datagram_send(self.socket.as_raw_fd(), request.to, request.from, answer);
            sent += 1;
        }
        Ok(sent)
    }

    /// The address it is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        local_address(&self.socket)
    }
}
