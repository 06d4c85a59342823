//! The simulated world: one seed is one run; processes die and come back, stand still and exit; clocks drift, jump and
//! sleep.
#![cfg(sim)]

use runtime::net::{ListenOptions, Listener, Stream, listen};
use runtime::sim::{ClockFaults, Crash, Faults, NodeId, Pause, World};
use runtime::{spawn, time};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(600);

fn ip(number: u8) -> std::net::IpAddr {
    std::net::Ipv4Addr::new(10, 0, 0, number).into()
}

fn bound(address: &str) -> Listener {
    listen(&address.parse().unwrap(), 1, &ListenOptions::default()).unwrap().remove(0).open().unwrap()
}

/// An echo server and two clients that write to files as they go; gives how many answers came.
fn busy(world: &mut World) -> (NodeId, Rc<Cell<u64>>) {
    let server = world.node("server", ip(1), || async {
        let listener = bound("10.0.0.1:7");
        while let Ok((stream, _)) = listener.accept().await {
            spawn(async move {
                while let Ok(lease) = stream.recv().await {
                    if lease.is_empty() || stream.send(lease).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    let answers = Rc::new(Cell::new(0_u64));
    for number in 2..4 {
        let answers = answers.clone();
        world.node("client", ip(number), move || {
            let answers = answers.clone();
            async move {
                loop {
                    let Ok(stream) = Stream::connect(&"10.0.0.1:7".parse().unwrap()).await else { continue };
                    for _ in 0..20 {
                        let question = runtime::random_u64().to_le_bytes().to_vec();
                        if stream.send(question).await.is_err() || stream.recv().await.is_err() {
                            break;
                        }
                        answers.set(answers.get() + 1);
                        runtime::fs::write_atomic("/answers", answers.get().to_le_bytes()).await.unwrap();
                        time::sleep(Duration::from_millis(runtime::random_u64() % 5)).await;
                    }
                }
            }
        });
    }
    (server, answers)
}

fn run(seed: u64) -> (u64, u64) {
    let mut world = World::new(seed, Faults::usual());
    let (server, answers) = busy(&mut world);
    world.run_for(Duration::from_secs(1));
    world.crash(server, if seed.is_multiple_of(2) { Crash::Kill } else { Crash::PowerLoss });
    world.run_for(Duration::from_secs(1));
    world.restart(server);
    world.run_for(Duration::from_secs(3));
    (world.trace_hash(), answers.get())
}

#[test]
fn one_seed_is_one_run() {
    let mut hashes = std::collections::BTreeSet::new();
    for seed in 0..10 {
        let (hash, answers) = run(seed);
        assert_eq!((hash, answers), run(seed), "seed {seed} ran twice");
        assert!(answers > 100, "only {answers} answers");
        hashes.insert(hash);
    }
    assert_eq!(hashes.len(), 10, "different seeds differ");
}

#[test]
fn a_process_ends_by_itself_and_only_it() {
    let mut world = World::new(1, Faults::none());
    let dropped = Rc::new(Cell::new(0));
    struct Memory(Rc<Cell<u32>>);
    impl Drop for Memory {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let memory = dropped.clone();
    let exits = world.node("exits", ip(1), move || {
        let memory = Memory(memory.clone());
        async move {
            spawn(async move {
                let _memory = memory;
                std::future::pending::<()>().await;
            });
            time::sleep(Duration::from_secs(1)).await;
            runtime::blocking(|| runtime::exit_process(70)).await;
        }
    });
    let done = world.node("done", ip(2), || time::sleep(Duration::from_secs(2)));
    let stays = world.node("stays", ip(3), std::future::pending::<()>);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.exit_code(exits), Some(70));
    assert_eq!(dropped.get(), 1, "all that it had in memory is gone");
    assert_eq!(world.exit_code(done), Some(0));
    assert!(world.is_up(stays) && !world.is_up(exits));
    world.restart(exits);
    assert!(world.is_up(exits));
    world.run_for(Duration::from_secs(10));
    assert_eq!((world.exit_code(exits), dropped.get()), (Some(70), 2));
}

#[test]
fn cores_of_a_node_run_and_die_together() {
    let mut world = World::new(2, Faults::none());
    let beats = Rc::new(Cell::new(0));
    let counted = beats.clone();
    let node = world.node("n", ip(1), move || {
        let counted = counted.clone();
        async move {
            let (sender, receiver) = runtime::sync::mailbox(16);
            runtime::spawn_core("other", runtime::Options::default(), move || async move {
                loop {
                    time::sleep(Duration::from_millis(100)).await;
                    sender.send(1).await.unwrap();
                }
            })
            .unwrap();
            let mut batch = Vec::new();
            while receiver.recv_batch(&mut batch).await {
                counted.set(counted.get() + batch.drain(..).sum::<u32>());
            }
        }
    });
    world.run_for(Duration::from_secs(10));
    assert!((95..=100).contains(&beats.get()), "{} beats", beats.get());
    world.crash(node, Crash::Kill);
    world.run_for(Duration::from_secs(10));
    assert!(beats.get() <= 100);
}

/// What a node's clocks have said last: monotonic since its start, boot, wall.
type Readings = Rc<RefCell<(Duration, Duration, std::time::SystemTime)>>;

fn clock_reader(world: &mut World, number: u8) -> (NodeId, Readings) {
    let readings: Readings = Rc::new(RefCell::new((Duration::ZERO, Duration::ZERO, std::time::UNIX_EPOCH)));
    let told = readings.clone();
    let node = world.node("clock", ip(number), move || {
        let told = told.clone();
        async move {
            let (begun, boot): (Instant, Duration) = (time::now(), time::boot_clock());
            loop {
                *told.borrow_mut() = (time::now() - begun, time::boot_clock() - boot, time::wall_clock());
                time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    (node, readings)
}

#[test]
fn a_suspended_machine_sleeps_by_the_monotonic_clock_and_not_by_the_others() {
    let mut world = World::new(3, Faults::none());
    let (asleep, slept) = clock_reader(&mut world, 1);
    let (stopped, stood) = clock_reader(&mut world, 2);
    world.run_for(Duration::from_secs(10));
    let wall = slept.borrow().2;
    world.pause(asleep, Pause::Suspend);
    world.pause(stopped, Pause::Stop);
    let before = *slept.borrow();
    world.run_for(Duration::from_secs(100));
    assert_eq!(*slept.borrow(), before, "it stands still");
    world.resume(asleep);
    world.resume(stopped);
    world.run_for(Duration::from_secs(10));
    let near =
        |is: Duration, expected: u64| is.abs_diff(Duration::from_secs(expected)) < Duration::from_millis(10);
    let (mono, boot, now) = *slept.borrow();
    assert!(near(mono, 20) && near(boot, 120), "{mono:?} {boot:?}");
    assert!(near(now.duration_since(wall).unwrap(), 110));
    let (mono, boot, _) = *stood.borrow();
    assert!(near(mono, 120) && near(boot, 120), "{mono:?} {boot:?}");
}

#[test]
fn clocks_drift_and_jump() {
    let faults = Faults { clock: ClockFaults { drift_ppm_max: 10_000 }, ..Faults::none() };
    let mut world = World::new(4, faults);
    let readers: Vec<_> = (1..=8).map(|number| clock_reader(&mut world, number)).collect();
    world.run_for(Duration::from_secs(100));
    let monos: Vec<f64> = readers.iter().map(|(_, readings)| readings.borrow().0.as_secs_f64()).collect();
    assert!(monos.iter().all(|mono| (98.9..101.1).contains(mono)), "{monos:?}");
    assert!(monos.iter().any(|mono| *mono < 99.8) && monos.iter().any(|mono| *mono > 100.2), "{monos:?}");
    let (node, readings) = &readers[0];
    let (before, wall) = (readings.borrow().0, readings.borrow().2);
    world.jump_wall_clock(*node, Duration::from_secs(3600), true);
    world.run_for(Duration::from_secs(1));
    assert!(readings.borrow().2 < wall, "back by an hour");
    assert!(readings.borrow().0 - before < Duration::from_secs(2), "the monotonic clock does not jump");
    world.set_drift(*node, 500_000);
    let before = readings.borrow().0;
    world.run_for(Duration::from_secs(10));
    let ran = readings.borrow().0 - before;
    assert!(ran > Duration::from_millis(14_900) && ran < Duration::from_millis(15_100), "{ran:?}");
    assert_eq!(world.counters().get("wall clock jumped"), 1);
}

#[test]
fn a_stopped_process_loses_nothing_and_times_out_late() {
    let mut world = World::new(5, Faults::none());
    let (server, answers) = busy(&mut world);
    world.run_for(Duration::from_secs(1));
    world.pause(server, Pause::Stop);
    world.run_for(Duration::from_secs(1));
    let before = answers.get();
    world.run_for(Duration::from_secs(30));
    assert_eq!(answers.get(), before);
    world.resume(server);
    assert!(world.run_until(LONG, || answers.get() > before + 100));
}
