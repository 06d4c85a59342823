//! Servers that are gone, die, stall or lie; and when a request is tried again.

mod harness;

use harness::{Origin, Proxy, config, nobody, until, web};
use proxy::config::Config;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn two(first: &Origin, second: &Origin) -> Config {
    config(&[first.address, second.address])
}

#[test]
fn a_dead_server_costs_no_request() {
    let alive = Origin::named("alive");
    let proxy = Proxy::start(&config(&[nobody(), alive.address]));
    let mut client = proxy.client();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "alive");
        assert_eq!(client.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").text(), "alive");
    }
}

#[test]
fn all_that_checks_took_out_is_503() {
    let mut config = config(&[nobody()]);
    let health = &mut web(&mut config).health;
    (health.path, health.interval_ms) = (Some("/".into()), 3_600_000);
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    until("the server's fall", || client_status(&proxy) == 503);
    let answer = client.get("/");
    assert!(answer.status == 503 && answer.has("Retry-After: 1"), "{answer:?}");
    assert!(!answer.head.contains("close"), "the client's connection lives on");
}

fn client_status(proxy: &Proxy) -> u16 {
    proxy.client().get("/").status
}

#[test]
fn a_get_moves_on_when_its_server_dies_before_or_in_a_small_answer() {
    for part in [
        "",
        "HTTP/1.1 2",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
    ] {
        let dying = Origin::start(move |peer, _| {
            if peer.request().is_some() {
                peer.write(part);
            }
        });
        let alive = Origin::named("alive");
        let proxy = Proxy::start(&two(&dying, &alive));
        let mut client = proxy.client();
        for _ in 0..4 {
            assert_eq!(client.get("/").text(), "alive", "{part:?}");
        }
        assert!(dying.accepted() > 0);
    }
}

#[test]
fn a_post_is_not_repeated_once_a_server_has_it() {
    let received = Arc::new(AtomicUsize::new(0));
    let start = |received: Arc<AtomicUsize>| {
        Origin::start(move |peer, _| {
            if peer.request().is_some() {
                received.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    let (one, two_) = (start(received.clone()), start(received.clone()));
    let proxy = Proxy::start(&two(&one, &two_));
    for (number, body) in
        ["Content-Length: 2\r\n\r\nhi", "Content-Length: 0\r\n\r\n", "\r\n"].iter().enumerate()
    {
        let answer = proxy.client().ask(format!("POST / HTTP/1.1\r\nHost: a\r\n{body}"));
        assert_eq!((answer.status, received.load(Ordering::SeqCst)), (502, number + 1), "{body:?}");
    }
}

#[test]
fn a_small_put_is_repeated_with_its_body() {
    for body in
        ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
    {
        let dying = Origin::start(|peer, _| drop(peer.request()));
        let alive = Origin::answering(|request| request.rsplit("\r\n\r\n").next().unwrap().to_owned());
        let proxy = Proxy::start(&two(&dying, &alive));
        let mut client = proxy.client();
        for _ in 0..4 {
            assert_eq!(client.ask(format!("PUT / HTTP/1.1\r\nHost: a\r\n{body}")).text(), "hello");
        }
        assert!(!dying.seen().is_empty());
    }
}

#[test]
fn a_large_put_is_not_repeated() {
    let dying = Origin::start(|peer, _| {
        let _ = peer.head();
        let _ = peer.exactly(100_000);
    });
    let proxy = Proxy::start(&two(&dying, &dying));
    let mut client = proxy.client();
    client.write("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    client.write(vec![b'x'; 100_000]);
    assert_eq!((client.answer().status, dying.accepted()), (502, 1));
}

#[test]
fn a_connection_that_died_while_idle_costs_no_request() {
    // Answers once per connection, then closes without having said so.
    let origin = Origin::start(|peer, _| {
        if peer.request().is_some() {
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let proxy = Proxy::start(&config(&[origin.address]));
    let mut client = proxy.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").text(), "ok");
    }
}

#[test]
fn a_reused_connection_that_dies_under_a_request_is_replaced() {
    // Takes a second request and closes without a word, as a server does whose idle time has just passed.
    let origin = Origin::start(|peer, number| {
        if peer.request().is_some() {
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            if peer.request().is_some() && number % 2 == 1 {
                peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
        }
    });
    let proxy = Proxy::start(&config(&[origin.address]));
    let mut client = proxy.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").text(), "ok");
    }
}

/// Answers each connection's first request; takes a second and closes without a word.
fn once_per_connection() -> Origin {
    Origin::start(|peer, _| {
        if peer.request().is_some() {
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            let _ = peer.request();
        }
    })
}

/// Leaves `count` connections to the origin idle in the proxy.
fn fill_idle(proxy: &Proxy, count: usize) {
    let mut clients: Vec<_> = (0..count).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n");
    }
    for client in &mut clients {
        client.write("x");
        assert_eq!(client.answer().text(), "ok");
    }
}

#[test]
fn connections_that_die_under_a_request_cost_none_of_its_retries() {
    let origin = once_per_connection();
    let mut config = config(&[origin.address]);
    web(&mut config).retries = 0;
    let proxy = Proxy::start(&config);
    for _ in 0..5 {
        fill_idle(&proxy, 6);
        assert_eq!(proxy.client().get("/").text(), "ok");
    }
}

/// RFC 9110 section 9.2.2 forbids a proxy to repeat it, and only the client knows whether it may.
#[test]
fn a_post_on_a_connection_that_dies_is_left_to_its_client() {
    for body in ["Content-Length: 2\r\n\r\nhi", "Content-Length: 0\r\n\r\n", "\r\n"] {
        let origin = once_per_connection();
        let proxy = Proxy::start(&config(&[origin.address]));
        fill_idle(&proxy, 1);
        let post = format!("POST / HTTP/1.1\r\nHost: a\r\n{body}");
        // A client's first request never goes over a connection that may be about to close.
        let mut client = proxy.client();
        assert_eq!(client.ask(&post).text(), "ok", "{body:?}");
        let seen = origin.seen().len();
        // A client whose connection was kept must be ready for its end (RFC 9112 section 9.3.1); a 502 would tell it
        // that the request failed, and nothing of whether it may be repeated.
        client.write(&post);
        assert!(client.is_closed(), "{body:?}: no answer of any kind");
        assert_eq!(origin.seen().len(), seen + 1, "{body:?}: sent once");
        assert_eq!(proxy.client().ask(&post).text(), "ok", "{body:?}");
    }
}

/// A connection closed in order would leave a port of the proxy waiting for a minute.
#[test]
fn connections_that_find_no_room_are_reset() {
    let (ended, ends) = std::sync::mpsc::channel();
    let ended = std::sync::Mutex::new(ended);
    let origin = Origin::start(move |peer, _| {
        if peer.request().is_some() {
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            let end = std::io::Read::read(peer, &mut [0]).map_err(|error| error.kind());
            ended.lock().unwrap().send(end).unwrap();
        }
    });
    let mut config = config(&[origin.address]);
    web(&mut config).idle_connections_max = 1;
    let proxy = Proxy::start(&config);
    fill_idle(&proxy, 2);
    assert_eq!(ends.recv_timeout(harness::PATIENCE).unwrap(), Err(std::io::ErrorKind::ConnectionReset));
}

#[test]
fn a_large_put_on_a_connection_that_dies_is_left_to_its_client() {
    let origin = once_per_connection();
    let proxy = Proxy::start(&config(&[origin.address]));
    let mut client = proxy.client();
    let put = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000));
    assert_eq!(client.ask(&put).text(), "ok");
    client.write(&put);
    assert!(client.is_closed());
    fill_idle(&proxy, 1);
    assert_eq!(
        proxy.client().ask(&put).text(),
        "ok",
        "a first request that can't be sent again gets a new connection"
    );
}

/// What single requests make a server do says little of it as long as it answers others.
#[test]
fn failures_with_answers_between_them_do_not_take_a_server_out() {
    let origin = Origin::start(|peer, _| {
        while let Some(request) = peer.request() {
            if request.starts_with("POST /poison") {
                return;
            }
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let mut config = config(&[origin.address]);
    // A first check, and no other that would end the row.
    let health = &mut web(&mut config).health;
    (health.path, health.interval_ms) = (Some("/".into()), 3_600_000);
    let proxy = Proxy::start(&config);
    until("the first check", || !origin.seen().is_empty());
    for _ in 0..20 {
        let poison = "POST /poison HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(proxy.client().ask(poison).status, 502);
        let mut client = proxy.client();
        for _ in 0..50 {
            assert_eq!(client.get("/").status, 200);
        }
    }
}

/// Without checks nothing would notice that the only server is back before its time is over.
#[test]
fn without_checks_a_lone_server_is_tried_again_at_once() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut config = config(&[address]);
    web(&mut config).health.retry_ms = 3_600_000;
    let proxy = Proxy::start(&config);
    for _ in 0..10 {
        assert_eq!(client_status(&proxy), 502);
    }
    let listener = std::net::TcpListener::bind(address).unwrap();
    let origin = Origin::on(listener, |peer, _| {
        while peer.request().is_some() {
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    assert_eq!(client_status(&proxy), 200);
    drop(origin);
}

#[test]
fn a_large_answer_cut_short_never_looks_whole() {
    for head in ["Content-Length: 100000", "Transfer-Encoding: chunked"] {
        let dying = Origin::start(move |peer, _| {
            if peer.request().is_some() {
                let start = if head.starts_with('T') { "186a0\r\n" } else { "" };
                peer.write(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{start}{}", "x".repeat(50_000)));
            }
        });
        let proxy = Proxy::start(&config(&[dying.address]));
        let mut client = proxy.client();
        let answer = client.get("/");
        assert!(answer.status == 200 && !answer.whole, "{head}: {} bytes", answer.body.len());
        assert_eq!(dying.accepted(), 1, "not repeated once bytes went out");
    }
}

#[test]
fn a_silent_server_is_504() {
    let silent = Origin::start(|peer, _| {
        let _ = peer.request();
        let _ = peer.rest();
    });
    let mut config = config(&[silent.address]);
    config.timeouts.upstream_first_byte_ms = 100;
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 504);
    assert_eq!(client.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").status, 504);
    assert_eq!(silent.accepted(), 2, "a slow request is not repeated");
}

#[test]
fn a_server_that_stalls_in_its_answer_cuts_it_off() {
    let stalling = Origin::start(|peer, _| {
        let _ = peer.request();
        peer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(50_000)));
        let _ = peer.rest();
    });
    let mut config = config(&[stalling.address]);
    config.timeouts.upstream_body_ms = 100;
    let proxy = Proxy::start(&config);
    assert!(!proxy.client().get("/").whole);
}

#[test]
fn an_early_answer_that_stalls_beside_a_body_that_stalls_ends() {
    for end_of_body in [false, true] {
        let stalling = Origin::start(|peer, _| {
            let _ = peer.head();
            peer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(50_000)));
            let _ = peer.rest();
        });
        let mut config = config(&[stalling.address]);
        config.timeouts.upstream_body_ms = 100;
        config.timeouts.client_body_ms = 100;
        let proxy = Proxy::start(&config);
        let mut client = proxy.client();
        client.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf of it");
        if end_of_body {
            client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        assert!(client.rest().len() < 100_000);
    }
}

#[test]
fn a_slow_stream_is_passed_on_as_it_comes() {
    let (next, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let origin = Origin::start(move |peer, _| {
        let _ = peer.request();
        peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for event in ["one", "two"] {
            peer.write(format!("{:x}\r\n{event}\r\n", event.len()));
            let _ = gate.lock().unwrap().recv();
        }
        peer.write("0\r\n\r\n");
    });
    let proxy = Proxy::start(&config(&[origin.address]));
    let mut client = proxy.client();
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.head().unwrap().contains("chunked"));
    // Each event is here before the server has sent the next.
    assert_eq!(client.exactly(8), b"3\r\none\r\n");
    next.send(()).unwrap();
    assert_eq!(client.exactly(8), b"3\r\ntwo\r\n");
    next.send(()).unwrap();
    assert_eq!(client.exactly(5), b"0\r\n\r\n");
}

#[test]
fn an_early_answer_ends_the_connection_and_arrives() {
    let origin = Origin::start(|peer, _| {
        let _ = peer.head();
        peer.write("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig");
        let _ = peer.rest();
    });
    let proxy = Proxy::start(&config(&[origin.address]));
    let mut client = proxy.client();
    client.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\nstart");
    let answer = client.answer();
    assert!(answer.status == 413 && answer.text() == "big" && answer.has("Connection: close"), "{answer:?}");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(client.is_closed());
}

#[test]
fn checks_take_a_server_out_and_bring_it_back() {
    let healthy = Arc::new(AtomicUsize::new(1));
    let asked = healthy.clone();
    let sick = Origin::start(move |peer, _| {
        while let Some(request) = peer.request() {
            let status = if request.starts_with("GET /health") && asked.load(Ordering::SeqCst) == 0 {
                500
            } else {
                200
            };
            peer.write(format!("HTTP/1.1 {status} X\r\nContent-Length: 4\r\n\r\nsick"));
        }
    });
    let well = Origin::named("well");
    let mut config = two(&sick, &well);
    let health = &mut web(&mut config).health;
    (health.path, health.interval_ms, health.fall, health.rise) = (Some("/health".into()), 20, 2, 2);
    let proxy = Proxy::start(&config);
    let answers = |count: usize| {
        let mut client = proxy.client();
        (0..count).map(|_| client.get("/").text().to_owned()).collect::<Vec<_>>()
    };
    until("both serving", || answers(4).iter().any(|name| name == "sick"));
    healthy.store(0, Ordering::SeqCst);
    until("the sick one out", || answers(8).iter().all(|name| name == "well"));
    healthy.store(1, Ordering::SeqCst);
    until("the sick one back", || answers(4).iter().any(|name| name == "sick"));
    assert!(
        sick.seen().iter().any(|request| request.starts_with("GET /health HTTP/1.1\r\nHost: 127.0.0.1:"))
    );
}

#[test]
fn servers_that_start_down_wait_for_their_first_check() {
    let origin = Origin::named("x");
    let mut config = config(&[origin.address]);
    let health = &mut web(&mut config).health;
    (health.path, health.interval_ms, health.start) = (Some("/".into()), 20, proxy::config::Start::Down);
    let proxy = Proxy::start(&config);
    until("the first check", || client_status(&proxy) == 200);
}

#[test]
fn a_server_that_is_killed_and_comes_back_costs_no_request() {
    // The port stays ours; the connections die.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let alive = Arc::new(AtomicUsize::new(1));
    let serving = alive.clone();
    let flaky = Origin::on(listener, move |peer, _| {
        while serving.load(Ordering::SeqCst) == 1 {
            let Some(_) = peer.request() else { return };
            if serving.load(Ordering::SeqCst) == 0 {
                peer.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfl");
                return;
            }
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nflaky");
        }
    });
    let steady = Origin::named("steady");
    let proxy = Proxy::start(&two(&flaky, &steady));
    let address = proxy.addresses[0];
    let clients: Vec<_> = (0..8)
        .map(|_| {
            harness::thread("client", move || {
                let mut client = harness::Client::connect(address);
                for _ in 0..500 {
                    let answer = client.get("/");
                    assert!(
                        answer.status == 200 && answer.whole && ["flaky", "steady"].contains(&answer.text())
                    );
                }
            })
        })
        .collect();
    for round in 0..20 {
        until("some requests more", || flaky.seen().len() + steady.seen().len() > 100 * round);
        alive.store(round % 2, Ordering::SeqCst);
    }
    for client in clients {
        client.join().unwrap();
    }
}
