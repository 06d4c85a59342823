//! A request in each datagram: the answer repeats its first two bytes, by which the client tells answers apart.

use super::{Buffers, GROUP, push, ring};
use io_uring::types::{Fd, RecvMsgOut};
use io_uring::{IoUring, cqueue, opcode};
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::ptr;

/// Datagrams that one call takes or sends.
const AT_ONCE: usize = 64;
/// Bytes of a request that are looked at.
const REQUEST_BYTES_MAX: usize = 64;
/// Answers on their way at most; requests beyond wait in the socket.
const SLOTS: usize = 1024;
/// The number of a request, which its answer repeats.
const NUMBER_BYTES: usize = 2;
/// Room for an address.
const NAME_BYTES: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
/// What a completion was for; a send's is its slot.
const RECEIVE: u64 = u64::MAX;

/// A datagram as the system calls take it: leaked, so that it stays where it is.
#[derive(Clone, Copy)]
struct Slot {
    peer: *mut libc::sockaddr_storage,
    bytes: *mut u8,
    header: *mut libc::msghdr,
}

impl Slot {
    /// Of at least [`NUMBER_BYTES`].
    fn leaked(bytes: &[u8]) -> Slot {
        assert!(bytes.len() >= NUMBER_BYTES);
        // SAFETY: plain C structs for which all zeros is a value.
        let (peer, mut header): (_, libc::msghdr) = unsafe { std::mem::zeroed() };
        let peer: *mut libc::sockaddr_storage = Box::leak(Box::new(peer));
        let (data, length) = (Box::leak(Box::<[u8]>::from(bytes)).as_mut_ptr(), bytes.len());
        header.msg_iov = Box::leak(Box::new(libc::iovec { iov_base: data.cast(), iov_len: length }));
        header.msg_iovlen = 1;
        header.msg_name = peer.cast();
        header.msg_namelen = NAME_BYTES;
        Slot { peer, bytes: data, header: Box::leak(Box::new(header)) }
    }

    fn headers(slots: &[Slot]) -> Vec<libc::mmsghdr> {
        // SAFETY: leaked, and read only.
        slots.iter().map(|slot| libc::mmsghdr { msg_hdr: unsafe { *slot.header }, msg_len: 0 }).collect()
    }
}

/// Serves `socket` by recvmmsg(2) and sendmmsg(2) until the process ends.
///
/// # Errors
/// What the calls say.
pub fn serve_by_calls(socket: &UdpSocket, answer: &[u8]) -> io::Result<()> {
    let requests: Vec<Slot> = (0..AT_ONCE).map(|_| Slot::leaked(&[0; REQUEST_BYTES_MAX])).collect();
    let answers: Vec<Slot> = (0..AT_ONCE).map(|_| Slot::leaked(answer)).collect();
    let (mut received, mut sent) = (Slot::headers(&requests), Slot::headers(&answers));
    let (socket, at_once) = (socket.as_raw_fd(), AT_ONCE as u32);
    loop {
        received.iter_mut().for_each(|header| header.msg_hdr.msg_namelen = NAME_BYTES);
        let headers = received.as_mut_ptr();
        // SAFETY: as many headers as are said; what they point to is leaked, and nobody else's now.
        let count =
            unsafe { libc::recvmmsg(socket, headers, at_once, libc::MSG_WAITFORONE, ptr::null_mut()) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for at in 0..count {
            let (request, answer) = (requests[at], answers[at]);
            // SAFETY: different memory, leaked and initialized, of this length at least; the kernel is done with it.
            unsafe {
                *answer.peer = *request.peer;
                ptr::copy_nonoverlapping(request.bytes, answer.bytes, NUMBER_BYTES);
            }
            sent[at].msg_hdr.msg_namelen = received[at].msg_hdr.msg_namelen;
        }
        let mut from = 0;
        while from < count {
            let headers = sent[from..count].as_mut_ptr();
            // SAFETY: as above.
            let gone = unsafe { libc::sendmmsg(socket, headers, (count - from) as u32, 0) };
            from += usize::try_from(gone).map_err(|_| io::Error::last_os_error())?;
        }
    }
}

/// Serves `socket` by an io_uring until the process ends.
///
/// # Errors
/// When the ring can't be set up, or the kernel refuses to wait.
pub fn serve_by_ring(socket: &UdpSocket, answer: &[u8]) -> io::Result<()> {
    let socket = Fd(socket.as_raw_fd());
    let mut ring = ring()?;
    let buffers = Buffers::register(&ring)?;
    // SAFETY: a plain C struct for which all zeros is a value.
    let template: &'static mut libc::msghdr = Box::leak(Box::new(unsafe { std::mem::zeroed() }));
    template.msg_namelen = NAME_BYTES;
    let template = &*template;
    let slots: Vec<Slot> = (0..SLOTS).map(|_| Slot::leaked(answer)).collect();
    let mut free: Vec<usize> = (0..SLOTS).collect();
    // Requests that wait for a slot: buffer and length.
    let mut waiting: Vec<(u16, usize)> = Vec::new();
    let mut completions = Vec::new();
    receive(&mut ring, socket, template);
    loop {
        ring.submit_and_wait(1)?;
        completions.extend(ring.completion());
        for completion in completions.drain(..) {
            if completion.user_data() != RECEIVE {
                free.push(completion.user_data() as usize);
                continue;
            }
            if let Some(buffer) = cqueue::buffer_select(completion.flags()) {
                waiting.push((buffer, completion.result().max(0) as usize));
            }
            if !cqueue::more(completion.flags()) {
                receive(&mut ring, socket, template);
            }
        }
        while let Some(slot) = free.pop() {
            let Some((buffer, bytes)) = waiting.pop() else {
                free.push(slot);
                break;
            };
            let request = RecvMsgOut::parse(buffers.filled(buffer, bytes), template);
            let request = request.map_err(|()| io::Error::other("a datagram without its header"))?;
            let (name, payload, out) = (request.name_data(), request.payload_data(), slots[slot]);
            let number = payload.len().min(NUMBER_BYTES);
            // SAFETY: the slot is leaked and not on its way; a name is as long as was asked for at most, and a slot has room
            // for a number.
            unsafe {
                ptr::copy_nonoverlapping(name.as_ptr(), out.peer.cast(), name.len());
                (*out.header).msg_namelen = name.len() as libc::socklen_t;
                ptr::copy_nonoverlapping(payload.as_ptr(), out.bytes, number);
            }
            buffers.give_back(buffer);
            push(&mut ring, &opcode::SendMsg::new(socket, out.header).build().user_data(slot as u64));
        }
    }
}

fn receive(ring: &mut IoUring, socket: Fd, template: &'static libc::msghdr) {
    let entry = opcode::RecvMsgMulti::new(socket, template, GROUP).build();
    push(ring, &entry.user_data(RECEIVE));
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::UdpSocket;
    use std::time::Duration;

    /// Every request of many, so many under way at a time, is answered with its own number.
    #[expect(clippy::disallowed_methods, reason = "the server blocks a thread for good")]
    fn answers_each(serve: fn(&UdpSocket, &[u8]) -> io::Result<()>) {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        std::thread::spawn(move || serve(&server, b"--answer"));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        for round in 0..100_u16 {
            let mut expected = Vec::new();
            for number in 0..100_u16 {
                let number = (round * 100 + number).to_be_bytes();
                socket.send(&[&number[..], b"request"].concat()).unwrap();
                expected.push([&number[..], b"answer"].concat());
            }
            let mut answers = Vec::new();
            for _ in 0..100 {
                let mut answer = [0; 16];
                let bytes = socket.recv(&mut answer).unwrap();
                answers.push(answer[..bytes].to_vec());
            }
            answers.sort();
            assert_eq!(answers, expected);
        }
    }

    #[test]
    fn by_calls() {
        answers_each(super::serve_by_calls);
    }

    #[test]
    fn by_ring() {
        answers_each(super::serve_by_ring);
    }
}
