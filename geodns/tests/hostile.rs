//! Bad input: an error or a close, and the server serves on.

mod support;

use std::io::{Read, Write};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use support::{Server, ask_tcp, config, frame, is_closed, query, receive};

/// SplitMix64 with a fixed seed.
fn noise(bytes: usize) -> Vec<u8> {
    let mut seed = 42u64;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        out.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    out.truncate(bytes);
    out
}

#[test]
fn random_datagrams_do_no_harm() {
    let server = Server::start(config());
    let socket = server.udp();
    for chunk in noise(500_000).chunks(97) {
        socket.send(chunk).unwrap();
    }
    socket.send(&[]).unwrap();
    socket.send(&vec![b'A'; 60_000]).unwrap();
    assert_eq!(server.ask("ns1.mysite.com.", RecordType::A).answers.len(), 1);
}

#[test]
fn malformed_datagrams_are_formerr_and_responses_are_ignored() {
    let server = Server::start(config());
    let socket = server.udp();
    let whole = query(11, "www.mysite.com.", RecordType::A, None);
    socket.send(&whole[..whole.len() - 1]).unwrap();
    let answer = receive(&socket);
    assert_eq!((answer.metadata.id, answer.metadata.response_code), (11, ResponseCode::FormErr));

    let mut response = whole.clone();
    response[2] |= 0x80;
    socket.send(&response).unwrap();
    socket.send(&query(12, "www.mysite.com.", RecordType::A, None)).unwrap();
    assert_eq!(receive(&socket).metadata.id, 12, "the response before it got no answer");
}

#[test]
fn streams_of_rubbish_are_closed() {
    let server = Server::start(config());
    let mut responses = frame(&query(1, "www.mysite.com.", RecordType::A, None));
    responses[4] |= 0x80;
    for rubbish in [vec![0; 2], vec![0, 3, 1, 2, 3], responses] {
        let mut stream = server.tcp();
        stream.write_all(&rubbish).unwrap();
        assert_eq!(stream.read(&mut [0; 16]).unwrap_or(0), 0);
    }
    let mut stream = server.tcp();
    let _ = stream.write_all(&noise(1 << 20));
    let _ = stream.shutdown(std::net::Shutdown::Write);
    assert!(is_closed(&mut stream));
    assert_eq!(ask_tcp(&mut server.tcp(), 2, "www.mysite.com.", RecordType::A).answers.len(), 1);
}

#[test]
fn a_mebibyte_of_one_letter_is_answered_with_errors_or_closed() {
    let server = Server::start(config());
    let mut stream = server.tcp();
    let _ = stream.write_all(&vec![b'A'; 1 << 20]);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    assert!(is_closed(&mut stream));
    assert_eq!(ask_tcp(&mut server.tcp(), 2, "www.mysite.com.", RecordType::A).answers.len(), 1);
}
