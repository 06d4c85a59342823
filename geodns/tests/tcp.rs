//! Connections: RFC 7766.

mod support;

use std::io::{Read, Write};
use std::net::Shutdown;

use hickory_proto::rr::RecordType;
use support::{Server, ask_tcp, config, frame, is_closed, query, read_frame};

#[test]
fn rfc7766_6_2_1_one_connection_serves_many_queries() {
    let server = Server::start(config());
    let mut stream = server.tcp();
    for id in 0..100 {
        let answer = ask_tcp(&mut stream, id, "www.mysite.com.", RecordType::A);
        assert_eq!((answer.metadata.id, answer.answers.len()), (id, 1));
    }
}

#[test]
fn rfc7766_6_2_1_1_pipelined_queries_are_answered_in_order() {
    let server = Server::start(config());
    let mut stream = server.tcp();
    let mut all = Vec::new();
    for id in 0..500 {
        all.extend_from_slice(&frame(&query(id, "big.mysite.com.", RecordType::A, None)));
    }
    let mut writer = stream.try_clone().unwrap();
    let writing = std::thread::Builder::new().spawn(move || writer.write_all(&all)).unwrap();
    for id in 0..500 {
        let answer = read_frame(&mut stream);
        assert_eq!((answer.metadata.id, answer.answers.len()), (id, 200));
    }
    writing.join().unwrap().unwrap();
}

#[test]
fn rfc7766_8_a_query_may_come_in_any_pieces() {
    let server = Server::start(config());
    let mut stream = server.tcp();
    let framed = frame(&query(3, "www.mysite.com.", RecordType::A, Some(1232)));
    for octet in &framed {
        stream.write_all(&[*octet]).unwrap();
    }
    assert_eq!(read_frame(&mut stream).metadata.id, 3);
}

#[test]
fn a_peer_that_has_finished_asking_still_gets_its_answers() {
    let server = Server::start(config());
    let mut stream = server.tcp();
    stream.write_all(&frame(&query(4, "big.mysite.com.", RecordType::A, None))).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_frame(&mut stream).answers.len(), 200);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn rfc7766_6_2_3_idle_connections_are_closed() {
    let mut config = config();
    config.timeouts.tcp_idle_ms = 100;
    let server = Server::start(config);
    let mut silent = server.tcp();
    let mut half = server.tcp();
    half.write_all(&frame(&query(5, "www.mysite.com.", RecordType::A, None))[..9]).unwrap();
    assert!(is_closed(&mut silent));
    assert!(is_closed(&mut half));
}

#[test]
fn octets_that_never_make_a_query_do_not_keep_a_connection() {
    let mut config = config();
    config.timeouts.tcp_idle_ms = 200;
    let server = Server::start(config);
    let mut stream = server.tcp();
    stream.write_all(&[0xff, 0xff]).unwrap();
    // An octet now and then: the write fails once the server has closed, long before 65,535 of them are a message.
    let mut written = 0;
    while stream.write_all(b"x").is_ok() {
        written += 1;
        assert!(written < 0xffff, "the octets were waited for until they made a message");
        #[expect(clippy::disallowed_methods, reason = "a peer that drips")]
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[test]
fn a_peer_that_takes_no_answers_is_cut_off() {
    let mut config = config();
    config.timeouts.tcp_idle_ms = 200;
    let server = Server::start(config);
    let mut stream = server.tcp();
    let framed = frame(&query(6, "big.mysite.com.", RecordType::A, None));
    // Never reads: sooner or later nothing more is taken, then the connection is reset.
    while stream.write_all(&framed).is_ok() {}
    assert!(is_closed(&mut stream));
    assert_eq!(server.ask("ns1.mysite.com.", RecordType::A).answers.len(), 1);
}

#[test]
fn connections_are_bounded_and_the_next_one_is_closed() {
    let mut config = config();
    config.cores = 1;
    config.limits.tcp_connections_max = 3;
    let server = Server::start(config);
    let mut open: Vec<_> = (0..3).map(|_| server.tcp()).collect();
    for stream in &mut open {
        ask_tcp(stream, 1, "www.mysite.com.", RecordType::A);
    }
    assert!(is_closed(&mut server.tcp()));
    for stream in &mut open {
        ask_tcp(stream, 2, "www.mysite.com.", RecordType::A);
    }
    drop(open.pop());
    // The place becomes free as soon as the server sees the end of the one dropped.
    loop {
        let mut stream = server.tcp();
        if stream.write_all(&frame(&query(3, "www.mysite.com.", RecordType::A, None))).is_ok()
            && stream.read_exact(&mut [0; 2]).is_ok()
        {
            break;
        }
    }
}
