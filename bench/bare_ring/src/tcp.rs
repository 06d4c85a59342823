//! Requests in streams.
//!
//! What always holds: what is sent is static.

use super::{Buffers, GROUP, push, ring};
use io_uring::types::Fd;
use io_uring::{IoUring, cqueue, opcode};
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};

/// Answers that one send carries at most: what is due beyond goes with the next.
const ANSWERS_MAX: usize = 1024;

/// What a completion was for; the connection's descriptor is in the upper half.
const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;

/// A connection's state, at the index of its descriptor.
#[derive(Debug, Clone, Copy, Default)]
struct Connection {
    /// Bytes of a request that is not whole yet.
    partial: usize,
    /// Answers not sent yet.
    due: usize,
    sending: bool,
}

/// Serves `listener` until the process ends: each `request_bytes` received are answered with `answer`.
///
/// # Errors
/// When the ring can't be set up, or the kernel refuses to wait.
pub fn serve(listener: TcpListener, request_bytes: usize, answer: &[u8]) -> io::Result<()> {
    let listener = listener.into_raw_fd();
    let answers: &'static [u8] = Box::leak(answer.repeat(ANSWERS_MAX).into_boxed_slice());
    let mut ring = ring()?;
    let buffers = Buffers::register(&ring)?;
    push(&mut ring, &opcode::AcceptMulti::new(Fd(listener)).build().user_data(ACCEPT));
    let mut connections: Vec<Connection> = Vec::new();
    let mut completions = Vec::new();
    loop {
        ring.submit_and_wait(1)?;
        completions.extend(ring.completion());
        for completion in completions.drain(..) {
            let (kind, fd) = (completion.user_data() & 3, (completion.user_data() >> 2) as RawFd);
            match kind {
                ACCEPT => {
                    let fd = completion.result();
                    if fd < 0 {
                        return Err(io::Error::from_raw_os_error(-fd));
                    }
                    let index = fd as usize;
                    connections.resize(connections.len().max(index + 1), Connection::default());
                    connections[index] = Connection::default();
                    without_delay(fd);
                    receive(&mut ring, fd);
                }
                RECEIVE => {
                    let connection = &mut connections[fd as usize];
                    if let Some(buffer) = cqueue::buffer_select(completion.flags()) {
                        buffers.give_back(buffer);
                    }
                    if completion.result() <= 0 && completion.result() != -libc::ENOBUFS {
                        close(fd);
                        continue;
                    }
                    let total = connection.partial + completion.result().max(0) as usize;
                    connection.partial = total % request_bytes;
                    connection.due += total / request_bytes;
                    if !cqueue::more(completion.flags()) {
                        receive(&mut ring, fd);
                    }
                    send_due(&mut ring, fd, connection, answers, answer.len());
                }
                _ => {
                    let connection = &mut connections[fd as usize];
                    connection.sending = false;
                    if completion.result() > 0 {
                        send_due(&mut ring, fd, connection, answers, answer.len());
                    }
                }
            }
        }
    }
}

fn receive(ring: &mut IoUring, fd: RawFd) {
    push(ring, &opcode::RecvMulti::new(Fd(fd), GROUP).build().user_data((fd as u64) << 2 | RECEIVE));
}

/// Sends what is due, unless a send is under way: two could pass each other.
fn send_due(
    ring: &mut IoUring,
    fd: RawFd,
    connection: &mut Connection,
    answers: &'static [u8],
    answer_bytes: usize,
) {
    if connection.sending || connection.due == 0 {
        return;
    }
    let count = connection.due.min(ANSWERS_MAX);
    connection.due -= count;
    connection.sending = true;
    let entry = opcode::Send::new(Fd(fd), answers.as_ptr(), (count * answer_bytes) as u32)
        .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
        .build();
    push(ring, &entry.user_data((fd as u64) << 2 | SEND));
}

fn without_delay(fd: RawFd) {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is an int that outlives the call.
    unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NODELAY,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
}

fn close(fd: RawFd) {
    // SAFETY: the descriptor came from accept and its receive has ended.
    unsafe { libc::close(fd) };
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the server blocks a thread for good")]
    fn every_request_is_answered_however_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || super::serve(listener, 8, b"answer"));
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        for length in [3, 5, 8 * 3000] {
            stream.write_all(&vec![b'x'; length]).unwrap();
        }
        let mut answers = vec![0; 6 * 3001];
        stream.read_exact(&mut answers).unwrap();
        assert_eq!(answers, b"answer".repeat(3001));
    }
}
