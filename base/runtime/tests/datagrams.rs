//! UDP in batches, over the host's loopback, which keeps their order: tests/sim_net.rs has the simulator's.
#![cfg(not(sim))]

mod backends;

use backends::on_each;
use runtime::net::{DatagramBatch, bind_udp};
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

#[test]
fn every_datagram_is_answered_to_its_sender() {
    on_each(|| async {
        let server = bind_udp("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0).open().unwrap();
        let address = server.local_addr();
        let client = runtime::blocking(move || {
            let sockets: Vec<UdpSocket> = (0..100).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
            for (number, socket) in sockets.iter().enumerate() {
                socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                socket.send_to(format!("question {number}").as_bytes(), address).unwrap();
                socket.send_to(b"no answer, please", address).unwrap();
            }
            for (number, socket) in sockets.iter().enumerate() {
                let mut bytes = [0; 100];
                let (len, from) = socket.recv_from(&mut bytes).unwrap();
                assert_eq!(from, address);
                assert_eq!(bytes[..len], *format!("answer {number}").as_bytes());
            }
        });
        runtime::spawn(async move {
            let mut batch = DatagramBatch::new(512);
            loop {
                server.recv_batch(&mut batch).await.unwrap();
                for index in 0..batch.len() {
                    let (request, _peer, answer) = batch.exchange(index);
                    if let Some(number) = request.strip_prefix(b"question ") {
                        answer.extend_from_slice(b"answer ");
                        answer.extend_from_slice(number);
                    }
                }
                server.send_batch(&mut batch).await.unwrap();
            }
        });
        client.await;
    });
}

#[test]
fn a_wildcard_socket_answers_from_the_address_that_was_asked() {
    on_each(|| async {
        for (wildcard, asked) in [("0.0.0.0:0", "127.0.0.2"), ("[::]:0", "::1")] {
            let server = bind_udp(wildcard.parse().unwrap(), 1).unwrap().remove(0).open().unwrap();
            let port = server.local_addr().port();
            let client = runtime::blocking(move || {
                let any = if asked.contains(':') { "[::1]:0" } else { "127.0.0.1:0" };
                let socket = UdpSocket::bind(any).unwrap();
                // A connected socket takes answers from this address only.
                socket.connect((asked, port)).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                socket.send(b"who?").unwrap();
                let mut bytes = [0; 10];
                let len = socket.recv(&mut bytes).unwrap();
                bytes[..len].to_vec()
            });
            let task = runtime::spawn(async move {
                let mut batch = DatagramBatch::new(512);
                while server.recv_batch(&mut batch).await.is_ok() {
                    batch.exchange(0).2.extend_from_slice(b"me");
                    server.send_batch(&mut batch).await.unwrap();
                }
            });
            assert_eq!(client.await, b"me");
            task.abort();
        }
    });
}

#[test]
fn a_refused_answer_does_not_hold_up_the_others() {
    on_each(|| async {
        let server = bind_udp("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0).open().unwrap();
        let address = server.local_addr();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.send_to(b"too much", address).unwrap();
        client.send_to(b"enough", address).unwrap();
        let mut batch = DatagramBatch::new(512);
        let mut seen = 0;
        while seen < 2 {
            seen += server.recv_batch(&mut batch).await.unwrap();
            for index in 0..batch.len() {
                let (request, _, answer) = batch.exchange(index);
                let len = if request == b"too much" { 100_000 } else { 6 };
                answer.resize(len, b'x');
            }
            server.send_batch(&mut batch).await.unwrap();
        }
        let mut bytes = [0; 10];
        assert_eq!(client.recv(&mut bytes).unwrap(), 6);
    });
}

#[test]
fn a_client_asks_many_servers_at_once() {
    on_each(|| async {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let open = || bind_udp(any.parse().unwrap(), 1).unwrap().remove(0).open().unwrap();
            let (client, servers) = (open(), [open(), open()]);
            let mut batch = DatagramBatch::new(512);
            // Twice with one batch: what was in it before is not sent.
            for round in 0..2_u8 {
                batch.clear();
                batch.push(servers[0].local_addr()).extend_from_slice(b"taken out again");
                batch.clear();
                while !batch.is_full() {
                    let number = batch.len();
                    let server = servers[number % 2].local_addr();
                    batch.push(server).extend_from_slice(&[round, number as u8]);
                }
                let count = batch.len();
                assert_eq!(client.send_batch(&mut batch).await.unwrap(), count);
                for (number, server) in servers.iter().enumerate() {
                    let mut received = DatagramBatch::new(512);
                    let mut next = number;
                    while next < count {
                        server.recv_batch(&mut received).await.unwrap();
                        for index in 0..received.len() {
                            let (request, peer, answer) = received.exchange(index);
                            assert_eq!(request, [round, next as u8]);
                            next += 2;
                            assert_eq!(peer, client.local_addr());
                            answer.extend_from_slice(request);
                        }
                        server.send_batch(&mut received).await.unwrap();
                    }
                }
                let mut answers = 0;
                while answers < count {
                    answers += client.recv_batch(&mut batch).await.unwrap();
                    let (answer, peer, _) = batch.exchange(0);
                    assert_eq!(peer, servers[usize::from(answer[1] % 2)].local_addr());
                }
            }
        }
    });
}

#[test]
fn a_port_in_use_is_refused() {
    let first = bind_udp("127.0.0.1:0".parse().unwrap(), 2).unwrap();
    let error = bind_udp(first[0].local_addr(), 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
}
