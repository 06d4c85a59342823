//! Stopping: what runs is finished, what is idle ends, nothing new is taken.

mod harness;

use harness::{Client, Origin, Proxy, config, until};
use std::sync::{Arc, Barrier};

fn gated() -> (Origin, Arc<Barrier>) {
    let gate = Arc::new(Barrier::new(2));
    let waiting = gate.clone();
    let origin = Origin::answering(move |request| {
        if request.starts_with("GET /wait") {
            waiting.wait();
        }
        "done".into()
    });
    (origin, gate)
}

#[test]
fn running_requests_are_finished() {
    let (origin, gate) = gated();
    let proxy = Proxy::start(&config(&[origin.address]));
    let address = proxy.addresses[0];
    let mut idle = proxy.client();
    assert_eq!(idle.get("/").text(), "done");
    let mut fresh = proxy.client();
    let mut running = proxy.client();
    running.write("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request to run", || origin.seen().len() == 2);
    proxy.service.stop().request();
    assert!(idle.is_closed() && fresh.is_closed(), "connections without a request end at once");
    until("the listener to close", || std::net::TcpStream::connect(address).is_err());
    gate.wait();
    let answer = running.answer();
    assert!(answer.text() == "done" && answer.has("Connection: close"), "{answer:?}");
    drop(running);
    proxy.stop().unwrap();
}

#[test]
fn the_drain_time_bounds_it() {
    let (origin, gate) = gated();
    let mut config = config(&[origin.address]);
    config.timeouts.drain_ms = 100;
    let proxy = Proxy::start(&config);
    let mut running = proxy.client();
    running.write("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request to run", || origin.seen().len() == 1);
    proxy.stop().unwrap();
    assert!(running.is_closed());
    gate.wait();
}

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    let origin = Origin::named("x");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(&[origin.address]);
    config.listen[0].address = taken.local_addr().unwrap().to_string();
    let error = proxy::Bound::new(&config).err().expect("the port is taken").to_string();
    assert!(error.contains(&config.listen[0].address) && error.starts_with("cannot listen on"), "{error}");
}

#[test]
fn several_cores_serve_and_stop() {
    let origin = Origin::named("x");
    let mut config = config(&[origin.address]);
    config.cores = 3;
    let proxy = Proxy::start(&config);
    let mut clients: Vec<Client> = (0..30).map(|_| proxy.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").text(), "x");
    }
    proxy.stop().unwrap();
    for client in &mut clients {
        assert!(client.is_closed());
    }
}
