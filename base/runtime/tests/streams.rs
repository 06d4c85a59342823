//! The contract of streams: dropped receives lose nothing, sends keep their order, a full queue waits.

mod backends;

use backends::{on_each, on_each_with, pair, recv_exactly};
use bytes::Bytes;
use runtime::{Options, Segment, limits};
use std::cell::Cell;
use std::future::Future;
use std::io::ErrorKind;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// The byte at `position` of an endless stream in which a lost, doubled or moved stretch shows.
fn byte_at(position: usize) -> u8 {
    (position ^ (position >> 8) ^ (position >> 16)) as u8
}

#[test]
fn a_million_dropped_receives_lose_nothing() {
    on_each(|| async {
        // The simulator has fewer chances in a second, and finds more in each.
        const DROPS: usize = if cfg!(sim) { 30_000 } else { 1_000_000 };
        let (client, server) = pair().await;
        let done = Rc::new(Cell::new(false));
        let sender = runtime::spawn({
            let done = done.clone();
            async move {
                let mut sent = 0;
                while !done.get() {
                    let chunk = 1 + runtime::random_u64() as usize % 700;
                    let bytes: Vec<u8> = (sent..sent + chunk).map(byte_at).collect();
                    client.send(bytes).await.unwrap();
                    sent += chunk;
                    if runtime::random_u64().is_multiple_of(4) {
                        client.flush().await.unwrap();
                    }
                    runtime::yield_now().await;
                }
                client.shutdown().await.unwrap();
                sent
            }
        });
        let mut received = 0;
        let mut drops = 0;
        loop {
            // Poll the receive a few times, then drop it, wherever its operation is by then.
            let mut polls_left = runtime::random_u64() % 3;
            let lease = {
                let mut recv = std::pin::pin!(server.recv());
                std::future::poll_fn(|context| match recv.as_mut().poll(context) {
                    Poll::Ready(result) => Poll::Ready(Some(result.unwrap())),
                    Poll::Pending if polls_left == 0 || drops >= DROPS => {
                        if drops >= DROPS {
                            Poll::Pending
                        } else {
                            Poll::Ready(None)
                        }
                    }
                    Poll::Pending => {
                        polls_left -= 1;
                        context.waker().wake_by_ref();
                        Poll::Pending
                    }
                })
                .await
            };
            match lease {
                None => {
                    drops += 1;
                    done.set(drops >= DROPS);
                    if drops % 64 == 0 {
                        runtime::yield_now().await;
                    }
                }
                Some(lease) if lease.is_empty() => break,
                Some(lease) => {
                    for byte in lease.iter() {
                        assert_eq!(*byte, byte_at(received), "at byte {received}");
                        received += 1;
                    }
                }
            }
        }
        assert_eq!(received, sender.await);
        assert!(received > DROPS, "traffic ran meanwhile: {received} bytes");
    });
}

#[test]
fn sends_keep_their_order_whatever_they_are_made_of() {
    on_each(|| async {
        let (client, server) = pair().await;
        let mut expected = Vec::new();
        let reader = runtime::spawn(async move {
            let mut all = Vec::new();
            loop {
                let lease = server.recv().await.unwrap();
                if lease.is_empty() {
                    return all;
                }
                all.extend_from_slice(&lease);
            }
        });
        for round in 0..3000usize {
            let bytes: Vec<u8> = (0..1 + round * 7 % 5000).map(|at| byte_at(at + round)).collect();
            expected.extend_from_slice(&bytes);
            match round % 4 {
                0 => client.send(bytes).await.unwrap(),
                1 => client.send(Bytes::from(bytes)).await.unwrap(),
                2 => {
                    let (head, tail) = bytes.split_at(bytes.len() / 2);
                    client.send_all([Segment::from(head.to_vec()), tail.to_vec().into()]).await.unwrap();
                }
                _ => {
                    // A future dropped after it has taken the segment has still sent it.
                    let mut send = std::pin::pin!(client.send(bytes));
                    std::future::poll_fn(|context| send.as_mut().poll(context)).await.unwrap();
                }
            }
        }
        drop(client); // what was queued is still sent
        assert!(reader.await == expected);
    });
}

#[test]
fn many_segments_are_sent_as_one_unit() {
    on_each(|| async {
        let (client, server) = pair().await;
        let segments = (0..500u32).map(|at| Segment::from(at.to_be_bytes().to_vec()));
        client.send_all(segments).await.unwrap();
        let bytes = recv_exactly(&server, 2000).await;
        assert!((0..500u32).all(|at| bytes[at as usize * 4..][..4] == at.to_be_bytes()));
    });
}

#[test]
fn a_full_send_queue_waits_for_the_peer() {
    on_each(|| async {
        let (client, server) = pair().await;
        let taken = Rc::new(Cell::new(0));
        let writer = runtime::spawn({
            let taken = taken.clone();
            async move {
                for _ in 0..1000 {
                    client.send(vec![7; 64 * 1024]).await.unwrap();
                    taken.set(taken.get() + 1);
                    assert!(client.send_queue_bytes() <= limits::SEND_QUEUE_BYTES + 64 * 1024);
                }
                client.flush().await.unwrap();
                assert_eq!(client.send_queue_bytes(), 0);
            }
        });
        // Nobody reads: the kernel's buffers and then the queue fill, and the writer stops.
        let mut before = usize::MAX;
        while before != taken.get() {
            before = taken.get();
            runtime::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(before < 1000, "a peer that reads nothing took all");
        recv_exactly(&server, 1000 * 64 * 1024).await;
        writer.await;
    });
}

#[test]
fn an_empty_buffer_pool_slows_but_does_not_stop() {
    let few = Options { recv_buffers: 2, recv_buffer_bytes: 1024, ..Options::default() };
    on_each_with(&few, || async {
        let mut held = Vec::new();
        let mut pairs = Vec::new();
        for number in 0..8u8 {
            let (client, server) = pair().await;
            client.send(vec![number; 100]).await.unwrap();
            let lease = server.recv().await.unwrap();
            assert!(!lease.is_empty() && lease.iter().all(|byte| *byte == number));
            held.push(lease); // from the third on, both pooled buffers are out
            pairs.push((client, server));
        }
        // The network may have cut what was sent.
        let rests: Vec<usize> = held.drain(..).map(|lease| 100 - lease.len()).collect();
        for ((client, server), rest) in pairs.iter().zip(rests) {
            client.send("again").await.unwrap();
            assert!(recv_exactly(server, rest + 5).await.ends_with(b"again"));
        }
    });
}

/// More streams than there are small buffers for what comes at once: all that was calm before.
#[test]
fn calm_streams_that_are_flooded_lose_nothing_and_hold_their_peers_back() {
    const STREAMS: usize = 48;
    const FLOOD: usize = 32 << 20;
    on_each(|| async {
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            let (client, server) = pair().await;
            for _ in 0..40 {
                client.send("calm").await.unwrap();
                assert_eq!(recv_exactly(&server, 4).await, b"calm");
            }
            streams.push((Rc::new(client), server));
        }
        // One stream for long, the others for what sockets take.
        let sent: Vec<Rc<Cell<usize>>> = (0..STREAMS).map(|_| Rc::default()).collect();
        let senders = streams.iter().zip(&sent).enumerate().map(|(number, ((client, _), sent))| {
            let (client, sent) = (client.clone(), sent.clone());
            let whole = if number == 0 { FLOOD } else { 300_000 };
            runtime::spawn(async move {
                while sent.get() < whole {
                    let end = whole.min(sent.get() + 50_000);
                    client.send((sent.get()..end).map(byte_at).collect::<Vec<u8>>()).await.unwrap();
                    sent.set(end);
                }
                client.shutdown().await.unwrap();
            })
        });
        let senders: Vec<_> = senders.collect();
        let mut before = usize::MAX;
        while sent[0].get() != before {
            before = sent[0].get();
            runtime::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(before < FLOOD, "a peer that reads nothing took all");
        for ((_, server), sent) in streams.iter().zip(&sent) {
            let mut received = 0;
            loop {
                let lease = server.recv().await.unwrap();
                if lease.is_empty() {
                    break;
                }
                assert!(lease.iter().enumerate().all(|(at, byte)| *byte == byte_at(received + at)));
                received += lease.len();
            }
            assert_eq!(received, sent.get());
        }
        for sender in senders {
            sender.await;
        }
    });
}

#[test]
fn the_end_of_a_stream_is_an_empty_lease_again_and_again() {
    on_each(|| async {
        let (client, server) = pair().await;
        client.send("last words").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(recv_exactly(&server, 10).await, b"last words");
        assert!(server.recv().await.unwrap().is_empty());
        assert!(server.recv().await.unwrap().is_empty());
        // The other direction is still open.
        server.send("answer").await.unwrap();
        assert_eq!(recv_exactly(&client, 6).await, b"answer");
    });
}

#[test]
fn a_reset_is_an_error_for_both_directions() {
    on_each(|| async {
        let (client, server) = pair().await;
        client.abort();
        drop(client);
        assert_eq!(server.recv().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        let failed = async {
            loop {
                if let Err(error) = server.send("anybody?").await {
                    return error.kind();
                }
                runtime::yield_now().await;
            }
        };
        let kind = runtime::time::timeout(Duration::from_secs(10), failed).await.unwrap();
        assert!(matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{kind}");
    });
}

#[test]
fn a_refused_connection_says_so() {
    on_each(|| async {
        let listener = backends::any_port();
        let address = listener.local_addr();
        drop(listener);
        runtime::yield_now().await;
        let error = runtime::net::Stream::connect(&address).await.err().expect("nobody listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_timeout_loses_no_bytes() {
    on_each(|| async {
        let (client, server) = pair().await;
        let short = Duration::from_millis(1);
        for round in 0..50u8 {
            let _ = runtime::time::timeout(short, server.recv()).await.map(|early| panic!("{early:?}"));
            client.send(vec![round; 10]).await.unwrap();
            client.flush().await.unwrap();
            assert_eq!(recv_exactly(&server, 10).await, [round; 10]);
        }
    });
}
