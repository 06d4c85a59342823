//! The simulated network: streams keep their order and are cut, delayed, reset and left half-open; datagrams are lost.
#![cfg(sim)]

use runtime::net::{DatagramBatch, ListenOptions, Listener, Stream, bind_udp, listen};
use runtime::sim::{Crash, Faults, NetFaults, NodeId, World};
use runtime::{spawn, time};
use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);

fn ip(number: u8) -> std::net::IpAddr {
    std::net::Ipv4Addr::new(10, 0, 0, number).into()
}

fn bound(address: &str) -> Listener {
    listen(&address.parse().unwrap(), 1, &ListenOptions::default()).unwrap().remove(0).open().unwrap()
}

/// What the receiver has seen: numbers in order, and how its stream ended.
#[derive(Default)]
struct Seen {
    numbers: Cell<u32>,
    ended: RefCell<Option<ErrorKind>>,
    sender_ended: RefCell<Option<(ErrorKind, Duration)>>,
}

/// One node sends counted numbers, one each 10 ms, on one connection; another checks that they come in order.
fn counting(world: &mut World) -> (NodeId, NodeId, Rc<Seen>) {
    let seen = Rc::new(Seen::default());
    let told = seen.clone();
    let receiver = world.node("receiver", ip(1), move || {
        let told = told.clone();
        async move {
            let listener = bound("10.0.0.1:7");
            let (stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            loop {
                match stream.recv().await {
                    Ok(lease) if lease.is_empty() => break,
                    Ok(lease) => bytes.extend_from_slice(&lease),
                    Err(error) => {
                        *told.ended.borrow_mut() = Some(error.kind());
                        break;
                    }
                }
                while bytes.len() >= 4 {
                    let number = u32::from_le_bytes(bytes.drain(..4).collect::<Vec<_>>().try_into().unwrap());
                    assert_eq!(number, told.numbers.get(), "lost, doubled or out of order");
                    told.numbers.set(number + 1);
                }
            }
            std::future::pending::<()>().await;
        }
    });
    let told = seen.clone();
    let sender = world.node("sender", ip(2), move || {
        let told = told.clone();
        async move {
            let stream = Stream::connect(&"10.0.0.1:7".parse().unwrap()).await.unwrap();
            let begun = time::now();
            for number in 0u32.. {
                if let Err(error) = stream.send(number.to_le_bytes().to_vec()).await {
                    *told.sender_ended.borrow_mut() = Some((error.kind(), time::now() - begun));
                    break;
                }
                time::sleep(Duration::from_millis(10)).await;
            }
            std::future::pending::<()>().await;
        }
    });
    (receiver, sender, seen)
}

#[test]
fn a_cut_holds_what_is_sent_until_the_heal() {
    for seed in 0..10 {
        let mut world = World::new(
            seed,
            Faults { net: NetFaults { slow_packet: 5, ..NetFaults::default() }, ..Faults::none() },
        );
        let (receiver, sender, seen) = counting(&mut world);
        world.run_for(Duration::from_secs(1));
        let before = seen.numbers.get();
        assert!(before > 50);
        world.partition(sender, receiver);
        world.run_for(Duration::from_secs(1));
        let during = seen.numbers.get();
        world.run_for(Duration::from_secs(10));
        assert_eq!(seen.numbers.get(), during, "nothing gets through");
        world.heal(sender, receiver);
        assert!(world.run_until(LONG, || seen.numbers.get() > 1100));
        assert!(world.counters().get("packet slow") > 0 && world.counters().get("link cut") == 1);
    }
}

#[test]
fn a_cut_of_the_way_back_lets_bytes_through_and_holds_new_connections() {
    let mut world = World::new(1, Faults::none());
    let (receiver, sender, seen) = counting(&mut world);
    world.run_for(Duration::from_secs(1));
    world.partition(receiver, sender);
    let before = seen.numbers.get();
    world.run_for(Duration::from_secs(1));
    assert!(seen.numbers.get() > before + 50);
    let connected = Rc::new(Cell::new(false));
    let told = connected.clone();
    let third = world.node("third", ip(3), move || {
        let told = told.clone();
        async move {
            Stream::connect(&"10.0.0.1:7".parse().unwrap()).await.unwrap();
            told.set(true);
            std::future::pending::<()>().await;
        }
    });
    world.partition(receiver, third);
    world.run_for(Duration::from_secs(10));
    // It may have been quicker than the cut, which came after it.
    world.heal_all();
    assert!(world.run_until(LONG, || connected.get()));
}

#[test]
fn a_sender_gives_up_after_a_quarter_of_an_hour() {
    let mut world = World::new(2, Faults::none());
    let (receiver, sender, seen) = counting(&mut world);
    world.run_for(Duration::from_secs(1));
    world.partition_groups(&[receiver], &[sender]);
    assert!(world.run_until(LONG, || seen.sender_ended.borrow().is_some()));
    let (kind, after) = seen.sender_ended.borrow().unwrap();
    assert_eq!(kind, ErrorKind::TimedOut);
    assert!(after > Duration::from_secs(900) && after < Duration::from_secs(960), "{after:?}");
    assert!(seen.ended.borrow().is_none(), "the receiver hears nothing");
}

#[test]
fn a_killed_peer_is_heard_of_and_one_without_power_is_not() {
    for seed in 0..10 {
        let mut world = World::new(seed, Faults::none());
        let (receiver, _, seen) = counting(&mut world);
        world.run_for(Duration::from_secs(1));
        world.crash(receiver, Crash::Kill);
        world.run_for(Duration::from_secs(1));
        assert!(seen.sender_ended.borrow().is_some(), "its machine says so");
    }
    for seed in 0..10 {
        let mut world = World::new(seed, Faults::none());
        let (receiver, _, seen) = counting(&mut world);
        world.run_for(Duration::from_secs(1));
        world.crash(receiver, Crash::PowerLoss);
        world.run_for(Duration::from_secs(60));
        assert!(seen.sender_ended.borrow().is_none(), "half-open");
        world.restart(receiver);
        world.run_for(Duration::from_secs(2));
        let (kind, _) =
            seen.sender_ended.borrow().expect("the new process's machine resets what it does not know");
        assert_eq!(kind, ErrorKind::ConnectionReset);
    }
}

#[test]
fn what_arrives_of_a_sender_that_lost_power_has_no_gap() {
    // Whichever of its last packets wait for a way when the power goes, and whichever are under way.
    let mut arrived = 0;
    for seed in 0..40 {
        let net =
            NetFaults { slow_packet: 3, slow_packet_max: Duration::from_secs(2), ..NetFaults::default() };
        let mut world = World::new(seed, Faults { net, ..Faults::none() });
        let (receiver, sender, seen) = counting(&mut world);
        world.run_for(Duration::from_secs(3));
        world.partition(sender, receiver);
        world.run_for(Duration::from_millis(world.random_below(500)));
        world.crash(sender, Crash::PowerLoss);
        world.heal(sender, receiver);
        if world.random_below(2) == 0 {
            world.restart(sender);
        }
        // The receiver asserts that there is no gap.
        world.run_for(Duration::from_secs(10));
        arrived += seen.numbers.get();
    }
    assert!(arrived > 2000, "{arrived}");
}

#[test]
fn resets_and_black_holes_happen_and_delays_delay() {
    let faults = |net| Faults { net, ..Faults::none() };
    let mut world = World::new(1, faults(NetFaults { reset: 100, ..NetFaults::default() }));
    let (_, _, seen) = counting(&mut world);
    assert!(world.run_until(LONG, || seen.ended.borrow().is_some()));
    assert_eq!(*seen.ended.borrow(), Some(ErrorKind::ConnectionReset));
    assert_eq!(world.counters().get("connection reset"), 1);
    drop(world);

    let mut world = World::new(1, faults(NetFaults { black_hole: 100, ..NetFaults::default() }));
    let (_, _, seen) = counting(&mut world);
    assert!(world.run_until(LONG, || seen.sender_ended.borrow().is_some()));
    assert_eq!(world.counters().get("connection black hole"), 1);
    drop(world);

    let mut world = World::new(1, Faults::none());
    let (receiver, sender, seen) = counting(&mut world);
    world.run_for(Duration::from_secs(1));
    world.delay(sender, receiver, Duration::from_secs(5));
    let before = seen.numbers.get();
    world.run_for(Duration::from_secs(4));
    assert!(seen.numbers.get() <= before + 2);
    world.run_for(Duration::from_secs(3));
    assert!(seen.numbers.get() > before + 100);
    world.reset_connections(receiver, sender);
    world.run_for(Duration::from_secs(1));
    assert!(seen.ended.borrow().is_some() && seen.sender_ended.borrow().is_some());
}

#[test]
fn nobody_at_an_address_is_refused_or_unreachable() {
    let mut world = World::new(1, Faults::none());
    world.node("idle", ip(1), std::future::pending::<()>);
    let kinds = Rc::new(RefCell::new(Vec::new()));
    let told = kinds.clone();
    world.node("asks", ip(2), move || {
        let told = told.clone();
        async move {
            for address in ["10.0.0.1:7", "10.0.0.9:7", "127.0.0.1:7"] {
                let error = Stream::connect(&address.parse().unwrap()).await.err().expect("nobody is there");
                told.borrow_mut().push(error.kind());
            }
        }
    });
    world.run_for(LONG);
    let (refused, unreachable) = (ErrorKind::ConnectionRefused, ErrorKind::HostUnreachable);
    assert_eq!(*kinds.borrow(), [refused, unreachable, refused]);
}

#[test]
fn datagrams_are_lost_doubled_and_reordered() {
    let net = NetFaults { datagram_loss: 10, datagram_duplicate: 10, ..NetFaults::default() };
    let mut world = World::new(1, Faults { net, ..Faults::none() });
    let received = Rc::new(RefCell::new(Vec::new()));
    let told = received.clone();
    world.node("receiver", ip(1), move || {
        let told = told.clone();
        async move {
            let socket = bind_udp("0.0.0.0:7".parse().unwrap(), 1).unwrap().remove(0).open().unwrap();
            let mut batch = DatagramBatch::new(512);
            loop {
                socket.recv_batch(&mut batch).await.unwrap();
                for index in 0..batch.len() {
                    let (bytes, _, answer) = batch.exchange(index);
                    answer.extend_from_slice(bytes);
                    told.borrow_mut().push(u32::from_le_bytes(bytes.try_into().unwrap()));
                }
                socket.send_batch(&mut batch).await.unwrap();
            }
        }
    });
    let answers = Rc::new(Cell::new(0));
    let counted = answers.clone();
    world.node("sender", ip(2), move || {
        let counted = counted.clone();
        async move {
            let socket = bind_udp("0.0.0.0:0".parse().unwrap(), 1).unwrap().remove(0).open().unwrap();
            let socket = Rc::new(socket);
            let receiving = socket.clone();
            spawn(async move {
                let mut batch = DatagramBatch::new(512);
                loop {
                    let count = receiving.recv_batch(&mut batch).await.unwrap();
                    assert_eq!(batch.exchange(0).1, "10.0.0.1:7".parse().unwrap());
                    counted.set(counted.get() + count);
                }
            });
            let mut batch = DatagramBatch::new(512);
            for number in 0..500u32 {
                batch.clear();
                for number in [2 * number, 2 * number + 1] {
                    batch.push("10.0.0.1:7".parse().unwrap()).extend_from_slice(&number.to_le_bytes());
                }
                socket.send_batch(&mut batch).await.unwrap();
                time::sleep(Duration::from_millis(1)).await;
            }
            std::future::pending::<()>().await;
        }
    });
    world.run_for(Duration::from_secs(10));
    let received = received.borrow();
    let distinct: std::collections::BTreeSet<u32> = received.iter().copied().collect();
    assert!(distinct.len() < 1000 && distinct.len() > 800, "some are lost");
    assert!(received.len() > distinct.len(), "some come twice");
    assert!(!received.is_sorted_by(|a, b| a <= b), "some overtake others");
    assert!(answers.get() > 600 && answers.get() < received.len() + 200);
    assert!(world.counters().get("datagram lost") > 0 && world.counters().get("datagram doubled") > 0);
}
