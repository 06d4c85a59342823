//! Sizes and times that bound what a client can make the proxy hold.

mod harness;

use harness::{Client, Origin, Proxy, config, until};

#[test]
fn large_requests_are_refused_by_what_is_large() {
    let origin = Origin::named("x");
    let mut config = config(&[origin.address]);
    config.limits.request_line_bytes_max = 1000;
    config.limits.head_bytes_max = 4000;
    config.limits.fields_max = 20;
    config.limits.body_bytes_max = 100;
    let proxy = Proxy::start(&config);
    let post = |framing: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{body}");
    for (request, status) in [
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(900)), 200),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(1000)), 414),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(3900)), 200),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(4000)), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(19)), 200),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(20)), 431),
        (post("Content-Length: 100", &"x".repeat(100)), 200),
        (post("Content-Length: 101", &"x".repeat(101)), 413),
        (post("Transfer-Encoding: chunked", &format!("64\r\n{}\r\n0\r\n\r\n", "x".repeat(100))), 200),
        (post("Transfer-Encoding: chunked", &format!("65\r\n{}\r\n0\r\n\r\n", "x".repeat(101))), 413),
    ] {
        let mut client = proxy.client();
        assert_eq!(client.ask(&request).status, status, "{}", &request[..60]);
        if status != 200 {
            client.stream.shutdown(std::net::Shutdown::Write).unwrap();
            assert!(client.is_closed());
        }
    }
}

#[test]
fn an_answer_with_too_large_a_head_is_502() {
    let origin = Origin::start(|peer, _| {
        let _ = peer.request();
        peer.write(format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "a".repeat(5000)));
        let _ = peer.rest();
    });
    let mut config = config(&[origin.address]);
    config.limits.head_bytes_max = 4000;
    config.limits.request_line_bytes_max = 1000;
    assert_eq!(Proxy::start(&config).client().get("/").status, 502);
}

#[test]
fn half_a_request_then_silence_ends_at_the_deadline() {
    let origin = Origin::named("x");
    let mut config = config(&[origin.address]);
    config.timeouts.client_head_ms = 100;
    config.timeouts.client_body_ms = 100;
    config.timeouts.client_idle_ms = 150;
    let proxy = Proxy::start(&config);
    for part in [
        "G",
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    ] {
        let mut client = proxy.client();
        let answer = client.ask(part);
        assert!(answer.status == 408 && answer.has("Connection: close"), "{part:?}: {answer:?}");
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(client.is_closed());
    }
    // A connection that says nothing, or nothing more, ends without a word.
    assert!(proxy.client().is_closed());
    let mut client = proxy.client();
    assert_eq!(client.get("/").text(), "x");
    assert!(client.is_closed());
}

/// A byte now and then does not put the deadline of a head off.
#[test]
fn a_head_that_trickles_ends_at_the_deadline() {
    let origin = Origin::named("x");
    let mut config = config(&[origin.address]);
    config.timeouts.client_head_ms = 200;
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    let mut trickle = client.stream.try_clone().unwrap();
    let trickling = harness::thread("trickle", move || {
        let (_keep, never) = std::sync::mpsc::channel::<()>();
        let write = |byte: &u8| std::io::Write::write_all(&mut trickle, &[*byte]);
        let mut write = write;
        b"GET / HTTP/1.1\r\nHost: a\r\nX: "
            .iter()
            .chain([b'a'; 4000].iter())
            .take_while(|byte| {
                let _ = never.recv_timeout(std::time::Duration::from_millis(10));
                write(byte).is_ok()
            })
            .count()
    });
    assert_eq!(client.answer().status, 408);
    drop(client);
    assert!(trickling.join().unwrap() < 1000);
}

#[test]
fn connections_beyond_the_limit_wait() {
    let origin = Origin::named("x");
    let mut config = config(&[origin.address]);
    config.limits.connections_max = 2;
    let proxy = Proxy::start(&config);
    let mut first = proxy.client();
    let mut second = proxy.client();
    assert_eq!(first.get("/").text(), "x");
    assert_eq!(second.get("/").text(), "x");
    let mut third = proxy.client();
    third.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    third.stream.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    assert!(third.stream.peek(&mut [0]).is_err(), "the third waits");
    assert_eq!(first.get("/").text(), "x");
    drop(first);
    third.stream.set_read_timeout(Some(harness::PATIENCE)).unwrap();
    assert_eq!(third.answer().text(), "x");
    drop(second);
}

#[test]
fn many_idle_connections_cost_little() {
    let origin = Origin::named("x");
    let proxy = Proxy::start(&config(&[origin.address]));
    let mut clients: Vec<Client> = (0..500).map(|_| proxy.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").text(), "x");
    }
    let before = resident();
    let more: Vec<Client> = (0..1000)
        .map(|_| {
            let mut client = proxy.client();
            assert_eq!(client.get("/").text(), "x");
            client
        })
        .collect();
    // Both ends are in this process: the client's input buffer and stream are counted too.
    let each = resident().saturating_sub(before) / more.len();
    assert!(each < 16 * 1024, "{each} bytes for each idle connection");
    drop(more);
    until("all gone", || clients[0].get("/").status == 200);
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
