//! UDP in batches: recvmmsg(2) and sendmmsg(2) behind readiness, the cheapest way measured on either backend.
//!
//! What always holds: an answer leaves from the address that the request was sent to, also on a wildcard socket
//! (IP_PKTINFO); memory per batch is fixed when it is made.

use crate::driver::Request;
use crate::exec::Core;
use crate::limits::{self, DATAGRAMS_PER_BATCH};
use crate::once::Once;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::rc::Rc;

/// Room for one packet-info control message, v4 or v6.
const CONTROL_BYTES: usize = 64;

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
    /// When the socket can't be made non-blocking.
    ///
    /// # Panics
    /// Outside a core.
    pub fn open(self) -> io::Result<UdpSocket> {
        self.socket.set_nonblocking(true)?;
        Ok(UdpSocket { core: Core::current(), socket: Rc::new(self.socket), in_a_row: Cell::new(0) })
    }
}

fn local_address(socket: &Socket) -> SocketAddr {
    socket
        .local_addr()
        .ok()
        .and_then(|address| address.as_socket())
        .expect("a bound UDP socket has an address")
}

/// Binds `copies` UDP sockets on one address, one for each core (SO_REUSEPORT), after proving that no other process
/// has the port. It blocks, for up to [`limits::BIND_PATIENCE`]: call it before the cores run.
///
/// # Errors
/// What bind(2) says; `AddrInUse` when somebody has the port.
pub fn bind_udp(address: SocketAddr, copies: usize) -> io::Result<Vec<BoundUdp>> {
    assert!(copies > 0, "a socket for no core");
    let probe = super::system::bind_patiently(|| {
        let probe = udp_socket(address)?;
        probe.bind(&address.into())?;
        Ok(probe)
    })?;
    let bound = local_address(&probe);
    drop(probe);
    (0..copies)
        .map(|_| {
            let socket = udp_socket(bound)?;
            socket.set_reuse_port(true)?;
            if bound.ip().is_unspecified() {
                ask_for_packet_info(&socket, bound)?;
            }
            socket.bind(&bound.into())?;
            Ok(BoundUdp { socket })
        })
        .collect()
}

fn udp_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn ask_for_packet_info(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    let (level, name) = match address {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    let on: libc::c_int = 1;
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `on` is readable and of the length given.
    if unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const on).cast(), len) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Requests received together, and room for an answer to each; or, for a client, datagrams to send together.
pub struct DatagramBatch {
    datagram_bytes_max: usize,
    len: usize,
    requests: Box<[u8]>,
    request_lens: [usize; DATAGRAMS_PER_BATCH],
    answers: Vec<Vec<u8>>,
    peers: Box<[libc::sockaddr_storage]>,
    peer_lens: [libc::socklen_t; DATAGRAMS_PER_BATCH],
    controls: Box<[Control]>,
    control_lens: [usize; DATAGRAMS_PER_BATCH],
}

#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

impl DatagramBatch {
    /// Room for [`DATAGRAMS_PER_BATCH`] datagrams of at most `datagram_bytes_max` bytes; longer ones are cut there.
    pub fn new(datagram_bytes_max: usize) -> DatagramBatch {
        DatagramBatch {
            datagram_bytes_max,
            len: 0,
            requests: vec![0; datagram_bytes_max * DATAGRAMS_PER_BATCH].into(),
            request_lens: [0; DATAGRAMS_PER_BATCH],
            answers: vec![Vec::new(); DATAGRAMS_PER_BATCH],
            // SAFETY: a plain C struct for which all zeros is a value.
            peers: vec![unsafe { std::mem::zeroed() }; DATAGRAMS_PER_BATCH].into(),
            peer_lens: [0; DATAGRAMS_PER_BATCH],
            controls: vec![Control([0; CONTROL_BYTES]); DATAGRAMS_PER_BATCH].into(),
            control_lens: [0; DATAGRAMS_PER_BATCH],
        }
    }

    /// Requests in the batch.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The `index`-th request, who sent it, and the answer to fill; an empty answer is not sent.
    pub fn exchange(&mut self, index: usize) -> (&[u8], SocketAddr, &mut Vec<u8>) {
        assert!(index < self.len, "datagram {index} of {}", self.len);
        let start = index * self.datagram_bytes_max;
        let peer = self.peer(index);
        let request = &self.requests[start..start + self.request_lens[index]];
        (request, peer, &mut self.answers[index])
    }

    /// Whether it holds [`DATAGRAMS_PER_BATCH`] datagrams, as many as it can.
    pub fn is_full(&self) -> bool {
        self.len == DATAGRAMS_PER_BATCH
    }

    /// Takes everything out, so that a client can [`push`](DatagramBatch::push).
    pub fn clear(&mut self) {
        self.answers[..self.len].iter_mut().for_each(Vec::clear);
        self.len = 0;
    }

    /// Adds a datagram that answers no request, for [`UdpSocket::send_batch`] to send to `peer`, and gives its bytes to
    /// fill.
    ///
    /// # Panics
    /// When the batch is full.
    pub fn push(&mut self, peer: SocketAddr) -> &mut Vec<u8> {
        assert!(!self.is_full(), "more than {DATAGRAMS_PER_BATCH} datagrams in a batch");
        let index = self.len;
        let address = SockAddr::from(peer);
        // SAFETY: the address is readable for its length, which is at most that of the storage it is copied to.
        unsafe {
            let storage = (&raw mut self.peers[index]).cast::<u8>();
            storage.copy_from_nonoverlapping(address.as_ptr().cast::<u8>(), address.len() as usize);
        }
        self.peer_lens[index] = address.len();
        self.control_lens[index] = 0;
        self.request_lens[index] = 0;
        self.len += 1;
        &mut self.answers[index]
    }

    fn peer(&self, index: usize) -> SocketAddr {
        let storage = &raw const self.peers[index];
        // SAFETY: sockaddr_storage is large enough and aligned for both forms, and the kernel has set the family that
        // says which one it wrote.
        unsafe {
            if libc::c_int::from((*storage).ss_family) == libc::AF_INET {
                let v4 = &*storage.cast::<libc::sockaddr_in>();
                let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
                SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into()
            } else {
                let v6 = &*storage.cast::<libc::sockaddr_in6>();
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), v6.sin6_flowinfo, v6.sin6_scope_id).into()
            }
        }
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
    /// What recvmmsg(2) says.
    pub async fn recv_batch(&self, batch: &mut DatagramBatch) -> io::Result<usize> {
        batch.answers.iter_mut().for_each(Vec::clear);
        batch.len = 0;
        if self.in_a_row.get() >= limits::DATAGRAM_BATCHES_IN_A_ROW {
            self.in_a_row.set(0);
            crate::yield_now().await;
        }
        loop {
            match receive(&self.socket, batch) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.in_a_row.set(0);
                    self.ready(false).await?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(count) => {
                    self.in_a_row.set(self.in_a_row.get() + 1);
                    batch.len = count;
                    return Ok(count);
                }
            }
        }
    }

    /// Sends every answer that is not empty back to its peer; gives their number. An answer that the kernel refuses
    /// (a peer unreachable, a datagram too large) is dropped, as the network may drop any.
    ///
    /// # Errors
    /// When the socket itself fails.
    pub async fn send_batch(&self, batch: &mut DatagramBatch) -> io::Result<usize> {
        let mut sent = 0;
        let mut next = 0;
        while next < batch.len {
            match send(&self.socket, batch, next) {
                Ok((count, after)) => {
                    sent += count;
                    next = after;
                }
                Err((error, _)) if error.kind() == io::ErrorKind::WouldBlock => self.ready(true).await?,
                Err((error, _)) if error.kind() == io::ErrorKind::Interrupted => {}
                Err((error, refused)) if error.raw_os_error() != Some(libc::EBADF) => next = refused + 1,
                Err((error, _)) => return Err(error),
            }
        }
        Ok(sent)
    }

    /// The address it is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        local_address(&self.socket)
    }

    async fn ready(&self, writable: bool) -> io::Result<()> {
        let request = Request::Poll { fd: self.socket.as_raw_fd(), writable };
        Once::submit(self.core.clone(), request, self.socket.clone()).await.result.map(drop)
    }
}

/// Headers for one system call, on the stack.
struct Headers {
    messages: [libc::mmsghdr; DATAGRAMS_PER_BATCH],
    parts: [libc::iovec; DATAGRAMS_PER_BATCH],
}

impl Headers {
    fn zeroed() -> Headers {
        // SAFETY: plain C structs for which all zeros is a value.
        unsafe { std::mem::zeroed() }
    }

    fn set(&mut self, at: usize, batch: &mut DatagramBatch, index: usize, part: libc::iovec, control: usize) {
        self.parts[at] = part;
        let header = &mut self.messages[at].msg_hdr;
        header.msg_name = (&raw mut batch.peers[index]).cast();
        header.msg_namelen = batch.peer_lens[index];
        header.msg_iov = &raw mut self.parts[at];
        header.msg_iovlen = 1;
        if control > 0 {
            header.msg_control = batch.controls[index].0.as_mut_ptr().cast();
            header.msg_controllen = control as _;
        }
    }
}

fn receive(socket: &Socket, batch: &mut DatagramBatch) -> io::Result<usize> {
    let mut headers = Headers::zeroed();
    for index in 0..DATAGRAMS_PER_BATCH {
        batch.peer_lens[index] = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        let start = index * batch.datagram_bytes_max;
        let part = libc::iovec {
            iov_base: batch.requests[start..].as_mut_ptr().cast(),
            iov_len: batch.datagram_bytes_max,
        };
        headers.set(index, batch, index, part, CONTROL_BYTES);
    }
    // SAFETY: every header points into `batch` and `headers`, both alive and exclusively ours during the call.
    let count = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.messages.as_mut_ptr(),
            DATAGRAMS_PER_BATCH as u32,
            libc::MSG_DONTWAIT as _,
            std::ptr::null_mut(),
        )
    };
    if count < 0 {
        return Err(io::Error::last_os_error());
    }
    for index in 0..count as usize {
        let message = &headers.messages[index];
        batch.request_lens[index] = message.msg_len as usize;
        batch.peer_lens[index] = message.msg_hdr.msg_namelen;
        batch.control_lens[index] = message.msg_hdr.msg_controllen as _;
        forget_interface(&message.msg_hdr);
    }
    Ok(count as usize)
}

/// The packet info of a request, sent back with the answer, sets its source address; the interface is left to routing.
fn forget_interface(header: &libc::msghdr) {
    // SAFETY: the header is as the kernel filled it, so its control messages are well-formed and lie in our buffer,
    // which is aligned for them.
    unsafe {
        let control = libc::CMSG_FIRSTHDR(header);
        if control.is_null() {
            return;
        }
        match ((*control).cmsg_level, (*control).cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                (*libc::CMSG_DATA(control).cast::<libc::in_pktinfo>()).ipi_ifindex = 0;
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                (*libc::CMSG_DATA(control).cast::<libc::in6_pktinfo>()).ipi6_ifindex = 0;
            }
            _ => {}
        }
    }
}

/// Sends answers from `first` on. Gives how many went and the index to go on from; on an error, the index refused.
fn send(
    socket: &Socket,
    batch: &mut DatagramBatch,
    first: usize,
) -> Result<(usize, usize), (io::Error, usize)> {
    let mut headers = Headers::zeroed();
    let mut indices = [0; DATAGRAMS_PER_BATCH];
    let mut count = 0;
    for index in first..batch.len {
        if batch.answers[index].is_empty() {
            continue;
        }
        let part = libc::iovec {
            iov_base: batch.answers[index].as_mut_ptr().cast(),
            iov_len: batch.answers[index].len(),
        };
        let control = batch.control_lens[index];
        headers.set(count, batch, index, part, control);
        indices[count] = index;
        count += 1;
    }
    if count == 0 {
        return Ok((0, batch.len));
    }
    // SAFETY: every header points into `batch` and `headers`, both alive during the call.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.messages.as_mut_ptr(),
            count as u32,
            (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
        )
    };
    if sent < 0 {
        return Err((io::Error::last_os_error(), indices[0]));
    }
    let sent = sent as usize;
    let after = if sent == count { batch.len } else { indices[sent] };
    Ok((sent, after))
}
