//! Runs a test body on every backend (or in the simulator, when built for that), and connects pairs of streams.
#![allow(dead_code)] // each test file uses its part

use runtime::Options;
use runtime::net::{ListenOptions, Listener, Stream, listen};
use std::future::Future;

/// Runs `body` on both backends with receive buffers of the default size and number.
pub(crate) fn on_each<Fut: Future<Output = ()>>(body: impl Fn() -> Fut) {
    on_each_with(&Options::default(), body);
}

pub(crate) fn on_each_with<Fut: Future<Output = ()>>(options: &Options, body: impl Fn() -> Fut) {
    #[cfg(not(sim))]
    for backend in [runtime::Backend::Ring, runtime::Backend::Epoll] {
        println!("on {backend:?}");
        runtime::block_on(&Options { backend, ..options.clone() }, body()).expect("the backend works here");
    }
    #[cfg(sim)]
    for seed in 0..3 {
        println!("in the simulator, seed {seed}");
        runtime::sim::block_on_seed(seed, options, body());
    }
}

pub(crate) fn any_port() -> Listener {
    listen(&"127.0.0.1:0".parse().unwrap(), 1, &ListenOptions::default()).unwrap().remove(0).open().unwrap()
}

/// A connected pair: the one who connected, the one who was accepted.
pub(crate) async fn pair() -> (Stream, Stream) {
    let listener = any_port();
    let client = Stream::connect(&listener.local_addr()).await.unwrap();
    let (server, peer) = listener.accept().await.unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    (client, server)
}

pub(crate) async fn recv_exactly(stream: &Stream, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < count {
        let lease = stream.recv().await.unwrap();
        assert!(!lease.is_empty(), "the stream ended after {} of {count} bytes", bytes.len());
        bytes.extend_from_slice(&lease);
    }
    assert_eq!(bytes.len(), count, "more came than was sent");
    bytes
}

pub(crate) fn open_descriptors() -> usize {
    // The simulator's are not the host's.
    if cfg!(sim) { 0 } else { std::fs::read_dir("/proc/self/fd").unwrap().count() }
}
