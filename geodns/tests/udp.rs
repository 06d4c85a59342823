//! Datagrams: every query is answered to who asked it.

mod support;

use std::collections::HashSet;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, RecordType};
use support::{Server, config, query, receive};

#[test]
fn names_are_answered_refused_or_missing() {
    let server = Server::start(config());
    let www = server.ask("www.mysite.com.", RecordType::A);
    assert_eq!((www.metadata.id, www.metadata.response_code), (7, ResponseCode::NoError));
    assert!(www.metadata.authoritative);
    let RData::A(address) = www.answers[0].data else { panic!("{www}") };
    assert!(["192.0.2.1", "192.0.2.2"].contains(&address.to_string().as_str()));
    assert_eq!(www.answers[0].ttl, 30);

    assert_eq!(server.ask("alias.mysite.com.", RecordType::A).answers.len(), 2);
    assert_eq!(
        server.ask("nothing.mysite.com.", RecordType::A).metadata.response_code,
        ResponseCode::NXDomain
    );
    assert_eq!(server.ask("example.org.", RecordType::A).metadata.response_code, ResponseCode::Refused);
    let referral = server.ask("a.sub.mysite.com.", RecordType::A);
    assert_eq!((referral.answers.len(), referral.authorities.len(), referral.additionals.len()), (0, 1, 1));
}

#[test]
fn many_queries_at_once_each_get_their_own_answer() {
    let server = Server::start(config());
    let sockets: Vec<_> = (0..8).map(|_| server.udp()).collect();
    for round in 0..20u16 {
        for (i, socket) in sockets.iter().enumerate() {
            for j in 0..10u16 {
                let name = format!("s{i}r{round}j{j}.w.mysite.com.");
                socket.send(&query(round * 10 + j, &name, RecordType::TXT, Some(1232))).unwrap();
            }
        }
        for (i, socket) in sockets.iter().enumerate() {
            let mut seen = HashSet::new();
            for _ in 0..10 {
                let answer = receive(socket);
                let j = answer.metadata.id - round * 10;
                assert_eq!(answer.answers[0].name.to_string(), format!("s{i}r{round}j{j}.w.mysite.com."));
                assert!(answer.edns.is_some());
                assert!(seen.insert(j));
            }
        }
    }
}

#[test]
fn both_members_of_a_pool_are_named() {
    let server = Server::start(config());
    let mut seen = HashSet::new();
    // Missing one of two in 200 draws: 2^-199.
    for _ in 0..200 {
        seen.insert(server.ask("www.mysite.com.", RecordType::A).answers[0].data.to_string());
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn what_is_too_large_is_truncated_and_whole_over_tcp() {
    let server = Server::start(config());
    for udp_bytes_max in [None, Some(1232), Some(4096)] {
        let socket = server.udp();
        socket.send(&query(9, "big.mysite.com.", RecordType::A, udp_bytes_max)).unwrap();
        let answer = receive(&socket);
        assert!(answer.metadata.truncation);
        assert!(answer.answers.is_empty());
    }
    let whole = support::ask_tcp(&mut server.tcp(), 9, "big.mysite.com.", RecordType::A);
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.answers.len(), 200);
}
