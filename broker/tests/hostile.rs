//! Peers that lie: an error or a close, and the broker serves on.

mod support;

use std::io::{ErrorKind, Read, Write};

use broker::Config;
use support::*;
use wire::kafka::messages::*;

/// The broker closes the connection, perhaps after answers.
fn is_closed(client: &mut Client) -> bool {
    let mut sink = [0; 4096];
    loop {
        match client.stream.read(&mut sink) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) => return !matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}

/// xorshift: the same bytes every time.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn nonsense_ends_its_connection_only() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(Config { stall_ms: 200, ..config(folder.path()) });
    let mut good = broker.client();
    good.create("t", 1);
    let mut nonsense: Vec<Vec<u8>> = (1..40).map(|seed| noise(seed, 3000)).collect();
    nonsense.push(vec![b'a'; 1 << 20]);
    nonsense.push(i32::MAX.to_be_bytes().to_vec());
    nonsense.push((-1_i32).to_be_bytes().to_vec());
    nonsense.push(vec![0; 4]);
    // A frame of 50 MiB that never comes, and half a request.
    nonsense.push((50_i32 << 20).to_be_bytes().to_vec());
    nonsense.push(vec![0, 0, 0, 30, 0, 3, 0, 9, 0, 0]);
    // An array of two billion topics: Metadata 1 with nothing behind the count.
    nonsense.push([&[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff][..], &i32::MAX.to_be_bytes()].concat());
    // The same in compact form.
    nonsense.push(
        [&[0, 0, 0, 17, 0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0][..], &[0xff, 0xff, 0xff, 0xff, 7, 0]].concat(),
    );
    for (n, bytes) in nonsense.iter().enumerate() {
        let mut bad = broker.client();
        // It may be cut off while it still talks.
        let _ = bad.stream.write_all(bytes);
        assert!(is_closed(&mut bad), "nonsense {n}");
        assert_eq!(good.call(0, &ApiVersionsRequest::default()).error_code, 0);
    }
    assert_eq!(good.produce("t", 0, batch_of(&[b"still here"])), Ok(0));
    broker.stop();
}

#[test]
fn every_api_survives_noise_in_its_body() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(folder.path()));
    let mut good = broker.client();
    for served in broker::core::api::api_versions::SERVED {
        for version in served.min..=served.max {
            for seed in 1..4 {
                let body = noise(seed * 1000 + version as u64, 60);
                let mut frame = ((10 + body.len()) as i32).to_be_bytes().to_vec();
                frame.extend_from_slice(&(served.key as i16).to_be_bytes());
                frame.extend_from_slice(&version.to_be_bytes());
                frame.extend_from_slice(&7_i32.to_be_bytes());
                frame.extend_from_slice(&(-1_i16).to_be_bytes());
                frame.extend_from_slice(&body);
                let mut bad = broker.client();
                bad.stream.write_all(&frame).unwrap();
                bad.stream.shutdown(std::net::Shutdown::Write).unwrap();
                assert!(is_closed(&mut bad), "{:?} {version}", served.key);
            }
        }
    }
    assert_eq!(good.call(0, &ApiVersionsRequest::default()).error_code, 0);
    broker.stop();
}

#[test]
fn connections_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(Config { connections_max: 3, ..config(folder.path()) });
    let mut kept: Vec<Client> = Vec::new();
    while kept.len() < 3 {
        let mut client = broker.client();
        let request = wire::kafka::message::encode_request(1, 0, "t", &ApiVersionsRequest::default());
        // The probe's connection may not be gone yet.
        if client.stream.write_all(&request).is_ok() && client.stream.read_exact(&mut [0; 8]).is_ok() {
            kept.push(client);
        }
    }
    assert!(is_closed(&mut broker.client()));
    drop(kept.pop());
    broker.stop();
}
