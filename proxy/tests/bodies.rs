//! Large bodies stream both ways, and a slow peer slows its counterpart down instead of filling memory.

mod harness;

use harness::{Origin, Proxy, config};
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const BODY_BYTES: usize = 64 << 20;
/// What the proxy and the test may take beside, far below a body.
const GROWTH_MAX: usize = 24 << 20;
const PIECE: usize = 64 * 1024;

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// The bytes of a body from `place` on: every wrong order or loss shows.
fn bytes_at(place: usize, count: usize) -> &'static [u8] {
    static PATTERN: std::sync::LazyLock<Vec<u8>> =
        std::sync::LazyLock::new(|| (0..PIECE + 251).map(|place| (place % 251) as u8).collect());
    &PATTERN[place % 251..][..count]
}

fn pieces(bytes: usize) -> impl Iterator<Item = &'static [u8]> {
    (0..bytes).step_by(PIECE).map(move |start| bytes_at(start, PIECE.min(bytes - start)))
}

/// Reads `bytes` bytes and checks them.
fn check(stream: &mut impl Read, bytes: usize) {
    let mut buffer = vec![0; PIECE];
    let mut place = 0;
    while place < bytes {
        let count = stream.read(&mut buffer[..PIECE.min(bytes - place)]).unwrap();
        assert!(count > 0, "ended at {place}");
        assert!(buffer[..count] == *bytes_at(place, count), "at {place}");
        place += count;
    }
}

#[test]
fn large_bodies_stream_in_bounded_memory() {
    let origin = Origin::start(|peer, _| {
        while let Some(head) = peer.head() {
            if head.starts_with("GET /chunked") {
                peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                for piece in pieces(BODY_BYTES) {
                    peer.write(format!("{:x}\r\n", piece.len()));
                    peer.write(piece);
                    peer.write("\r\n");
                }
                peer.write("0\r\n\r\n");
            } else if head.starts_with("GET") {
                peer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY_BYTES}\r\n\r\n"));
                pieces(BODY_BYTES).for_each(|piece| peer.write(piece));
            } else {
                assert!(head.contains(&format!("Content-Length: {BODY_BYTES}\r\n")), "{head}");
                check(peer, BODY_BYTES);
                peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
        }
    });
    let proxy = Proxy::start(&config(&[origin.address]));
    let mut client = proxy.client();
    let before = resident();
    let grown = |what: &str| {
        let grown = resident().saturating_sub(before);
        assert!(grown < GROWTH_MAX, "{grown} bytes for {what}");
    };

    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.head().unwrap();
    assert!(head.contains(&format!("Content-Length: {BODY_BYTES}\r\n")), "{head}");
    check(&mut client, BODY_BYTES);
    grown("a download");

    client.write(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY_BYTES}\r\n\r\n"));
    pieces(BODY_BYTES).for_each(|piece| client.write(piece));
    assert_eq!(client.answer().text(), "ok");
    grown("an upload");

    let answer = client.get("/chunked");
    assert!(answer.whole && answer.body.len() == BODY_BYTES);
    check(&mut &answer.body[..], BODY_BYTES);
}

/// Starts writing a body without end and counts what is taken of it.
fn flood(stream: &mut std::net::TcpStream, taken: &AtomicU64) {
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let piece = vec![b'x'; PIECE];
    while let Ok(count) = stream.write(&piece) {
        taken.fetch_add(count as u64, Ordering::SeqCst);
    }
}

/// What the kernel's buffers on the two connections may hold, and ours between them.
const IN_FLIGHT_MAX: u64 = 16 << 20;

#[test]
fn a_client_that_does_not_read_stops_the_server() {
    let taken = Arc::new(AtomicU64::new(0));
    let counting = taken.clone();
    let (done, finished) = std::sync::mpsc::channel();
    let done = std::sync::Mutex::new(done);
    let origin = Origin::start(move |peer, _| {
        let _ = peer.head();
        peer.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n");
        flood(&mut peer.stream, &counting);
        done.lock().unwrap().send(()).unwrap();
    });
    let proxy = Proxy::start(&config(&[origin.address]));
    let mut client = proxy.client();
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    finished.recv_timeout(harness::PATIENCE).unwrap();
    let taken = taken.load(Ordering::SeqCst);
    assert!((100_000..IN_FLIGHT_MAX).contains(&taken), "{taken} bytes taken");
}

#[test]
fn a_server_that_does_not_read_stops_the_client() {
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let origin = Origin::start(move |peer, _| {
        let _ = peer.head();
        let _ = held.lock().unwrap().recv();
    });
    let proxy = Proxy::start(&config(&[origin.address]));
    let mut client = proxy.client();
    client.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n");
    let taken = AtomicU64::new(0);
    flood(&mut client.stream, &taken);
    let taken = taken.load(Ordering::SeqCst);
    assert!((100_000..IN_FLIGHT_MAX).contains(&taken), "{taken} bytes taken");
    drop(hold);
}

/// A server that answers as it reads, to a client that reads only once it has sent all: neither side may wait for the other.
#[test]
fn both_ways_move_at_once() {
    let origin = Origin::start(|peer, _| {
        let _ = peer.head();
        peer.write("HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n");
        let mut echo = peer.stream.try_clone().unwrap();
        let mut buffer = vec![0; PIECE];
        let mut left: usize = 8_000_000;
        while left > 0 {
            let count = peer.read(&mut buffer).unwrap();
            echo.write_all(&buffer[..count]).unwrap();
            left -= count;
        }
    });
    let proxy = Proxy::start(&config(&[origin.address]));
    let mut client = proxy.client();
    client.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\n");
    let mut sending = client.stream.try_clone().unwrap();
    let sender = harness::thread("sender", move || {
        for piece in pieces(8_000_000) {
            sending.write_all(piece).unwrap();
        }
    });
    assert!(client.head().unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
    check(&mut client, 8_000_000);
    sender.join().unwrap();
}
