//! What can be read in two ways goes no further, from either side, and whatever comes the proxy serves on.

mod harness;

use harness::{Origin, Proxy, config};
use std::io::Write;

/// Sent as it is, each is answered with this status and the connection is closed; no server sees any of it.
#[test]
fn smuggled_requests_reach_no_server() {
    let origin = Origin::named("x");
    let proxy = Proxy::start(&config(&[origin.address]));
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let with = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n0\r\n\r\n{smuggled}");
    for (request, status) in [
        (with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400),
        (with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), 400),
        (with("Content-Length: 5\r\nContent-Length: 6\r\n"), 400),
        (with("Content-Length: +5\r\n"), 400),
        (with("Content-Length: 5,5\r\n"), 400),
        (with("Content-Length: 5 \r\n"), 400),
        (with("Content-Length:  5\r\n"), 400),
        (with("Content-Length: 99999999999999999999\r\n"), 400),
        (with("Content-Length : 5\r\n"), 400),
        (with("Transfer-Encoding: identity\r\n"), 400),
        (with("Transfer-Encoding: xchunked\r\n"), 400),
        (with("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"), 400),
        (with("Transfer-Encoding: chunked, identity\r\n"), 400),
        (with("Transfer-Encoding : chunked\r\n"), 400),
        (with("Transfer-Encoding\t: chunked\r\n"), 400),
        (with("Transfer-Encoding: \x0bchunked\r\n"), 400),
        (with("Transfer-Encoding: gzip, chunked\r\n"), 501),
        (with("X: a\r\n Transfer-Encoding: chunked\r\n"), 400),
        (with("X: a\rTransfer-Encoding: chunked\r\n"), 400),
        (with("X: a\nTransfer-Encoding: chunked\r\n"), 400),
        (with("X: a\0\r\n"), 400),
        (with("X\0: a\r\n"), 400),
        (with("X: \x01\r\n"), 400),
        (with("Host: b\r\n"), 400),
        ("GET / HTTP/1.1\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\nHost: a\n\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n".into(), 400),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(), 400),
        ("GE\x07T / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("GET a HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n".into(), 400),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n".into(), 505),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n".into(), 501),
        ("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 505),
        ("\x16\x03\x01\x02".into(), 400),
    ] {
        let mut client = proxy.client();
        let answer = client.ask(&request);
        assert_eq!(answer.status, status, "{request:?}");
        assert!(answer.has("Connection: close"), "{request:?}: {}", answer.head);
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(client.is_closed(), "{request:?}");
    }
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
    assert_eq!(proxy.client().get("/").text(), "x");
}

/// The head is good and goes on; the body shows its fault later. The server sees no end of it.
#[test]
fn faults_in_chunks_never_look_whole() {
    const FIRST_CHUNK: &str = "5\r\nfirst\r\n";
    let (arrived, arrives) = std::sync::mpsc::channel();
    let arrived = std::sync::Mutex::new(arrived);
    let origin = Origin::start(move |peer, _| {
        while let Some(head) = peer.head() {
            if head.starts_with("GET") {
                peer.write("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
                continue;
            }
            assert_eq!(peer.exactly(FIRST_CHUNK.len()), FIRST_CHUNK.as_bytes());
            arrived.lock().unwrap().send(()).unwrap();
            let body = String::from_utf8(peer.rest()).unwrap();
            assert!(!body.ends_with("0\r\n\r\n"), "{body:?}");
            assert!(!body.contains("GET"), "{body:?}");
            return;
        }
    });
    let proxy = Proxy::start(&config(&[origin.address]));
    let oversized = format!("5;{}\r\nhello\r\n0\r\n\r\n", "e".repeat(8000));
    for body in [
        "5 \r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "ffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5;\x01\r\nhello\r\n0\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\n\nGET / HTTP/1.1\r\n\r\n",
        "0\r\nX: y\r\n fold\r\n\r\n",
        &oversized,
    ] {
        let mut client = proxy.client();
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.write(format!("{head}{FIRST_CHUNK}"));
        arrives.recv_timeout(harness::PATIENCE).unwrap();
        assert_eq!(client.ask(body).status, 400, "{body:?}");
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(client.is_closed());
    }
    assert_eq!(proxy.client().get("/").text(), "x");
}

#[test]
fn answers_that_can_be_read_in_two_ways_are_not_passed_on() {
    let answers = [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5,5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "+OK hello\r\n",
        "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ];
    let origin = Origin::start(move |peer, number| {
        if peer.request().is_some() {
            peer.write(answers[number]);
            assert!(peer.is_closed(), "the connection is not used again");
        }
    });
    let proxy = Proxy::start(&config(&[origin.address]));
    let mut client = proxy.client();
    for answer in answers {
        assert_eq!(client.get("/").status, 502, "{answer:?}");
    }
    assert_eq!(origin.accepted(), answers.len(), "none is tried again");
}

#[test]
fn a_server_that_sends_more_than_its_answer_is_not_used_again() {
    let origin = Origin::start(|peer, number| {
        if peer.request().is_some() {
            let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
            peer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood{evil}"));
            if number == 0 {
                let _ = peer.rest();
            }
        }
    });
    let proxy = Proxy::start(&config(&[origin.address]));
    let mut client = proxy.client();
    for _ in 0..5 {
        assert_eq!(client.get("/").text(), "good");
    }
    assert_eq!(origin.accepted(), 5);
}

#[test]
fn a_smuggled_second_request_is_only_ever_a_second_request() {
    let origin = Origin::answering(|request| request.lines().next().unwrap().to_owned());
    let proxy = Proxy::start(&config(&[origin.address]));
    let mut client = proxy.client();
    // Obsolete but lawful: repeated equal lengths become one.
    let body = "GET /inner HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = body.len();
    let answer = client.ask(format!(
        "POST /outer HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\nContent-Length: {length}\r\n\r\n{body}"
    ));
    assert_eq!(answer.text(), "POST /outer HTTP/1.1");
    assert_eq!(client.get("/next").text(), "GET /next HTTP/1.1");
    assert_eq!(origin.seen().len(), 2);
}

/// A generator of its own (xorshift), so that the run is the same each time.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..bytes).map(|_| next()).collect()
}

#[test]
fn noise_and_floods_end_in_an_error_or_a_close() {
    let origin = Origin::named("x");
    let proxy = Proxy::start(&config(&[origin.address]));
    let floods = [
        vec![b'a'; 1 << 20],
        b"GET / HTTP/1.1\r\nHost: a\r\nX: ".iter().copied().chain(vec![b'a'; 1 << 20]).collect(),
        b"GET / HTTP/1.1\r\n".iter().copied().chain(b"a: b\r\n".repeat(1 << 17)).collect(),
        b"\r\n".repeat(1 << 19),
        vec![0; 1 << 20],
    ];
    let noises = (1..40).map(|seed| noise(seed * 0x9e37_79b9, 3000));
    for bytes in floods.into_iter().chain(noises) {
        let mut client = proxy.client();
        client.write(&bytes);
        let _ = client.stream.flush();
        let _ = client.stream.shutdown(std::net::Shutdown::Write);
        let said = client.rest();
        assert!(
            said.is_empty() || said.starts_with(b"HTTP/1.1 4") || said.starts_with(b"HTTP/1.1 5"),
            "{said:?}"
        );
    }
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
    assert_eq!(proxy.client().get("/").text(), "x");
}
