//! What is passed on, both ways, when all goes well.

mod harness;

use harness::{Origin, Proxy, config};
use std::sync::atomic::Ordering;

#[test]
fn a_request_and_its_answer() {
    let origin = Origin::answering(|request| request.to_owned());
    let proxy = Proxy::start(&config(&[origin.address]));
    let mut client = proxy.client();
    let answer = client.ask(
        "GET /a?b=c HTTP/1.1\r\nHost: a.example\r\nX-Hop: 1\r\nConnection: x-hop, keep-alive\r\nKeep-Alive: 3\r\n\
         X-Forwarded-For: 6.6.6.6\r\nTE: trailers\r\nAccept: */*\r\n\r\n",
    );
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.text(),
        "GET /a?b=c HTTP/1.1\r\nHost: a.example\r\nAccept: */*\r\nX-Forwarded-For: 127.0.0.1\r\n\
         X-Forwarded-Proto: http\r\nX-Forwarded-Host: a.example\r\nVia: 1.1 millrace\r\n\r\n"
    );
    assert!(answer.head.contains("\r\nDate: "), "{}", answer.head);
}

#[test]
fn connections_are_used_again_on_both_sides() {
    let origin = Origin::named("x");
    let proxy = Proxy::start(&config(&[origin.address]));
    let mut client = proxy.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").text(), "x");
    }
    drop(client);
    for _ in 0..5 {
        assert_eq!(proxy.client().get("/").text(), "x");
    }
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::answering(|request| request.lines().next().unwrap().to_owned());
    let proxy = Proxy::start(&config(&[origin.address]));
    let mut client = proxy.client();
    let mut all = String::new();
    for number in 0..50 {
        all += &match number % 3 {
            0 => format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n"),
            1 => format!("POST /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
            _ => format!(
                "POST /{number} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n"
            ),
        };
    }
    client.write(all);
    for number in 0..50 {
        let method = if number % 3 == 0 { "GET" } else { "POST" };
        assert_eq!(client.answer().text(), format!("{method} /{number} HTTP/1.1"));
    }
}

#[test]
fn a_request_that_comes_byte_by_byte() {
    let origin = Origin::answering(|request| request.rsplit("\r\n\r\n").next().unwrap().to_owned());
    let proxy = Proxy::start(&config(&[origin.address]));
    let mut client = proxy.client();
    for byte in b"\r\nPOST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    {
        client.write([*byte]);
    }
    assert_eq!(client.answer().text(), "hello");
}

#[test]
fn chunks_and_trailers_both_ways() {
    let origin = Origin::start(|peer, _| {
        while let Some(request) = peer.request() {
            peer.write("HTTP/1.1 200 OK\r\nTrailer: Digest\r\nTransfer-Encoding: chunked\r\n\r\n");
            peer.write(format!("{:x};ext=1\r\n{request}\r\n", request.len()));
            peer.write("0\r\nDigest: answer\r\nContent-Length: 5\r\n\r\n");
        }
    });
    let proxy = Proxy::start(&config(&[origin.address]));
    let mut client = proxy.client();
    for _ in 0..3 {
        let answer = client.ask(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: Digest\r\n\r\n\
             3\r\nabc\r\n0002;x\r\nde\r\n0\r\nDigest: request\r\nHost: evil\r\n\r\n",
        );
        assert!(answer.whole && answer.has("Transfer-Encoding: chunked"), "{answer:?}");
        assert!(answer.text().ends_with("\r\n\r\nabcdeDigest: request\r\n"), "{}", answer.text());
        assert_eq!(answer.trailers, "Digest: answer\r\n");
    }
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn head_has_no_body() {
    let origin = Origin::answering(|_| "hello".to_owned());
    let proxy = Proxy::start(&config(&[origin.address]));
    let mut client = proxy.client();
    for _ in 0..3 {
        client.write("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.answer_to_head();
        assert!(answer.has("Content-Length: 5"), "{}", answer.head);
    }
    assert_eq!(client.get("/").text(), "hello");
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn answers_without_a_body_keep_the_connection() {
    let origin = Origin::start(|peer, _| {
        while let Some(request) = peer.request() {
            peer.write(if request.starts_with("GET /204") {
                "HTTP/1.1 204 No Content\r\n\r\n"
            } else {
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\nETag: x\r\n\r\n"
            });
        }
    });
    let proxy = Proxy::start(&config(&[origin.address]));
    let mut client = proxy.client();
    for path in ["/204", "/304", "/204"] {
        assert_eq!(client.get(path).status.to_string(), path[1..]);
    }
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn clients_of_http_1_0() {
    let origin = Origin::start(|peer, _| {
        while let Some(request) = peer.request() {
            peer.write(if request.starts_with("GET /chunks") {
                "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            } else {
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
            });
        }
    });
    let proxy = Proxy::start(&config(&[origin.address]));
    let mut client = proxy.client();
    let answer = client.ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(answer.has("Connection: keep-alive") && answer.text() == "hello", "{answer:?}");
    let answer = client.ask("GET /chunks HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    assert!(!answer.head.contains("Transfer-Encoding") && client.is_closed());
    let mut client = proxy.client();
    assert_eq!(client.ask("GET / HTTP/1.0\r\n\r\n").text(), "hello");
    assert!(client.is_closed());
    assert_eq!(origin.accepted(), 1, "the server's side is 1.1 throughout");
}

#[test]
fn servers_that_end_a_body_by_closing() {
    let origin = Origin::start(|peer, _| {
        if peer.request().is_some() {
            peer.write("HTTP/1.0 200 OK\r\n\r\nhello");
        }
    });
    let proxy = Proxy::start(&config(&[origin.address]));
    let mut client = proxy.client();
    for _ in 0..3 {
        let answer = client.get("/");
        assert!(
            answer.whole && answer.has("Transfer-Encoding: chunked") && answer.text() == "hello",
            "{answer:?}"
        );
    }
    assert_eq!(origin.accepted(), 3);
}

#[test]
fn a_connection_the_server_closes_is_not_used_again() {
    let origin = Origin::start(|peer, _| {
        if peer.request().is_some() {
            peer.write("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello");
            let _ = peer.request();
        }
    });
    let proxy = Proxy::start(&config(&[origin.address]));
    let mut client = proxy.client();
    for _ in 0..3 {
        let answer = client.get("/");
        assert!(answer.text() == "hello" && !answer.head.contains("close"), "{answer:?}");
    }
    assert_eq!(origin.accepted(), 3);
}

#[test]
fn interim_answers_are_passed_on() {
    let origin = Origin::start(|peer, _| {
        while peer.request().is_some() {
            peer.write("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x\r\nX: y\r\n\r\n");
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let proxy = Proxy::start(&config(&[origin.address]));
    let mut client = proxy.client();
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().unwrap(), "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
    assert_eq!(client.answer().text(), "ok");
}

#[test]
fn expect_100_continue() {
    let origin = Origin::start(|peer, _| {
        while let Some(head) = peer.head() {
            assert!(head.contains("Expect: 100-continue"), "{head}");
            if head.starts_with("PUT /no") {
                peer.write("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
                assert!(peer.is_closed(), "no byte of the body comes after the refusal");
                return;
            }
            peer.write("HTTP/1.1 100 Continue\r\n\r\n");
            let body = peer.exactly(5);
            assert_eq!(body, b"hello");
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let proxy = Proxy::start(&config(&[origin.address]));
    let mut client = proxy.client();
    let head = |path: &str| {
        format!("PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    };
    client.write(head("/yes"));
    assert_eq!(client.head().unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.write("hello");
    assert_eq!(client.answer().text(), "ok");
    let answer = client.ask(head("/no"));
    assert!(answer.status == 403 && answer.has("Connection: close"), "{answer:?}");
    assert!(client.is_closed());
    let answer = proxy.client().ask("GET / HTTP/1.1\r\nHost: a\r\nExpect: the-unexpected\r\n\r\n");
    assert_eq!(answer.status, 417);
}

#[test]
fn an_upgrade_to_websocket_opens_a_tunnel() {
    let origin = Origin::start(|peer, _| {
        while let Some(head) = peer.head() {
            if !head.contains("Connection: Upgrade\r\nUpgrade: websocket\r\n") {
                peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno");
                continue;
            }
            peer.write(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhi",
            );
            assert_eq!(peer.exactly(5), b"early");
            let mut back = peer.exactly(4);
            back.reverse();
            peer.write(back);
            assert!(peer.is_closed());
            return;
        }
    });
    let proxy = Proxy::start(&config(&[origin.address]));
    let mut client = proxy.client();
    client.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly");
    let head = client.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("Upgrade: websocket\r\n"), "{head}");
    assert_eq!(client.exactly(2), b"hi");
    client.write("abcd");
    assert_eq!(client.exactly(4), b"dcba");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(client.is_closed());
    // Others are not passed on, and what was no upgrade is an answer like any.
    let mut client = proxy.client();
    let answer = client.ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n");
    assert_eq!(answer.text(), "no");
    assert_eq!(client.get("/").text(), "no");
}

/// Neither a client that takes nothing nor a server that takes nothing keeps a tunnel beyond its idle time.
#[test]
fn a_tunnel_that_nobody_reads_from_ends() {
    let (ended, ends) = std::sync::mpsc::channel();
    let ended = std::sync::Mutex::new(ended);
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let flood = |stream: &mut std::net::TcpStream| loop {
        if let Err(error) = std::io::Write::write_all(stream, &[b'x'; 65536]) {
            return error.kind();
        }
    };
    let origin = Origin::start(move |peer, number| {
        let _ = peer.head();
        peer.write("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
        if number == 0 {
            ended.lock().unwrap().send(flood(&mut peer.stream)).unwrap();
        } else {
            // Holds the connection and reads nothing.
            let _ = held.lock().unwrap().recv();
        }
    });
    let mut config = config(&[origin.address]);
    config.timeouts.tunnel_idle_ms = 200;
    let proxy = Proxy::start(&config);
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut silent = proxy.client();
    silent.write(upgrade);
    let kind = ends.recv_timeout(harness::PATIENCE).unwrap();
    assert!(!matches!(kind, std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "{kind}");
    let mut loud = proxy.client();
    loud.write(upgrade);
    let kind = flood(&mut loud.stream);
    assert!(!matches!(kind, std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "{kind}");
    drop((silent, hold));
}

#[test]
fn routes_by_host_and_path() {
    let (web, api) = (Origin::named("web"), Origin::named("api"));
    let mut config = config(&[web.address]);
    let mut second = config.upstream["web"].clone();
    second.servers[0].address = api.address.to_string();
    config.upstream.insert("api".into(), second);
    let route = |host: Option<&str>, path: &str, upstream: &str| proxy::config::Route {
        host: host.map(str::to_owned),
        path: path.to_owned(),
        upstream: upstream.to_owned(),
    };
    config.route = vec![
        route(Some("api.example"), "/", "api"),
        route(None, "/api", "api"),
        route(Some("a.example"), "/", "web"),
    ];
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    assert_eq!(client.get("/").text(), "web");
    assert_eq!(client.get("/api/x").text(), "api");
    assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: API.example:80\r\n\r\n").text(), "api");
    assert_eq!(client.ask("GET http://api.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n").text(), "api");
    assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: other\r\n\r\n").status, 404);
    assert_eq!(client.get("/").text(), "web", "the connection lives on");
}

#[test]
fn weights_share_requests_out() {
    let (one, two) = (Origin::named("one"), Origin::named("two"));
    let mut config = config(&[one.address, two.address]);
    harness::web(&mut config).servers[1].weight = 3;
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    let twos = (0..40).filter(|_| client.get("/").text() == "two").count();
    assert_eq!(twos, 30);
}

#[test]
fn least_connections_avoids_the_busy_server() {
    let gate = std::sync::Arc::new(std::sync::Barrier::new(2));
    let wait = gate.clone();
    let slow = Origin::answering(move |request| {
        if request.starts_with("GET /wait") {
            wait.wait();
        }
        "slow".into()
    });
    let fast = Origin::named("fast");
    let mut config = config(&[fast.address, slow.address]);
    harness::web(&mut config).policy = proxy::config::Policy::LeastConnections;
    let proxy = Proxy::start(&config);
    let mut waiting = proxy.client();
    // The first choice is the second server, the last one having been the first.
    waiting.write("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    harness::until("a request running on the slow server", || !slow.seen().is_empty());
    let mut client = proxy.client();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "fast");
    }
    gate.wait();
    assert_eq!(waiting.answer().text(), "slow");
    assert_eq!(slow.accepted.load(Ordering::SeqCst), 1);
}
