//! The simulated disk: what syncs promise is kept, what they do not promise may be lost, and faults that are asked for do
//! happen.
#![cfg(sim)]

use runtime::fs::{self, File, OpenOptions};
use runtime::sim::{Crash, Damage, DiskFaults, Faults, NodeId, World};
use runtime::{AlignedBuf, BLOCK_BYTES};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

/// A world with one node that runs `main` once and then waits for its end.
fn with_node<Fut: Future<Output = ()> + 'static>(
    seed: u64,
    disk: DiskFaults,
    main: impl Fn() -> Fut + 'static,
) -> (World, NodeId) {
    let mut world = World::new(seed, Faults { disk, ..Faults::none() });
    let done = Rc::new(RefCell::new(false));
    let main = Rc::new(main);
    let told = done.clone();
    let node = world.node("n", "10.0.0.1".parse().unwrap(), move || {
        let (told, main) = (told.clone(), main.clone());
        async move {
            main().await;
            *told.borrow_mut() = true;
            std::future::pending::<()>().await;
        }
    });
    assert!(world.run_until(LONG, || *done.borrow()), "main is done");
    (world, node)
}

fn new_file() -> OpenOptions {
    OpenOptions::new().read(true).write(true).create(true)
}

async fn write(path: &str, bytes: &[u8]) -> File {
    let file = File::open(path, &new_file()).await.unwrap();
    file.write_at(0, bytes.to_vec()).await.unwrap();
    file
}

#[test]
fn what_was_synced_survives_a_loss_of_power() {
    for seed in 0..100 {
        let (mut world, node) = with_node(seed, DiskFaults::default(), || async {
            fs::create_dir_all("/data/a").await.unwrap();
            let file = write("/data/a/synced", &[7; 10_000]).await;
            file.sync_data().await.unwrap();
            fs::sync_dir("/data/a").await.unwrap();
            let direct = File::open("/data/a/direct", &new_file().direct(true)).await.unwrap();
            direct.allocate(0, 16 * BLOCK_BYTES as u64).await.unwrap();
            fs::sync_dir("/data/a").await.unwrap();
            let mut block = AlignedBuf::zeroed(BLOCK_BYTES);
            block.fill(9);
            direct.append_durable(BLOCK_BYTES as u64, vec![block]).await.unwrap();
            fs::write_atomic("/data/state", "old").await.unwrap();
            fs::write_atomic("/data/state", "new").await.unwrap();
            fs::rename("/data/a/synced", "/data/moved").await.unwrap();
        });
        world.crash(node, Crash::PowerLoss);
        assert_eq!(world.file(node, Path::new("/data/moved")).unwrap(), [7; 10_000]);
        assert_eq!(world.file(node, Path::new("/data/state")).unwrap(), b"new");
        let direct = world.file(node, Path::new("/data/a/direct")).unwrap();
        assert_eq!(direct.len(), 16 * BLOCK_BYTES);
        assert!(direct[BLOCK_BYTES..2 * BLOCK_BYTES].iter().all(|byte| *byte == 9));
        assert_eq!(world.files(node).len(), 3, "{:?}", world.files(node));
    }
}

#[test]
fn what_was_not_synced_is_lost_kept_or_torn_at_sectors() {
    let (mut gone, mut unnamed, mut whole, mut torn) = (0, 0, 0, 0);
    for seed in 0..200 {
        let (mut world, node) = with_node(seed, DiskFaults::default(), || async {
            fs::create_dir_all("/data").await.unwrap();
            let file = write("/data/f", &[1; 8192]).await;
            file.sync_all().await.unwrap();
            fs::sync_dir("/data").await.unwrap();
            file.write_at(0, vec![2; 8192]).await.unwrap();
            write("/data/g", &[3; 100]).await.sync_all().await.unwrap(); // its name is not synced
        });
        let as_seen = world.file(node, Path::new("/data/f")).unwrap();
        assert_eq!(as_seen, [2; 8192]);
        world.crash(node, Crash::PowerLoss);
        let left = world.file(node, Path::new("/data/f")).unwrap();
        assert_eq!(left.len(), 8192);
        let new = left.chunks(512).filter(|sector| sector.iter().all(|byte| *byte == 2)).count();
        let old = left.chunks(512).filter(|sector| sector.iter().all(|byte| *byte == 1)).count();
        assert_eq!(new + old, 16, "a sector is old or new");
        match new {
            0 => gone += 1,
            16 => whole += 1,
            _ => torn += 1,
        }
        match world.file(node, Path::new("/data/g")) {
            None => unnamed += 1,
            Some(bytes) => assert_eq!(bytes, [3; 100], "its content was synced"),
        }
    }
    for (count, what) in [(gone, "lost"), (whole, "kept"), (torn, "torn"), (unnamed, "unnamed")] {
        assert!(count >= 10, "{what} only {count} times");
    }
}

#[test]
fn a_killed_process_loses_only_its_memory() {
    for seed in 0..20 {
        let (mut world, node) = with_node(seed, DiskFaults::default(), || async {
            write("/f", &[1; 5000]).await;
        });
        world.crash(node, Crash::Kill);
        assert_eq!(world.file(node, Path::new("/f")).unwrap(), [1; 5000]);
        assert_eq!(world.exit_code(node), None);
        assert!(!world.is_up(node));
    }
}

#[test]
fn a_file_is_replaced_wholly_or_not_at_all_wherever_the_power_goes() {
    let mut leftovers = [0; 2];
    for seed in 0..120 {
        let rounds = Rc::new(Cell::new(0_u32));
        let mut world = World::new(seed, Faults::none());
        let node = {
            let rounds = rounds.clone();
            world.node("n", "10.0.0.1".parse().unwrap(), move || {
                let rounds = rounds.clone();
                async move {
                    let bytes = |round: u32| round.to_le_bytes().repeat(500);
                    while fs::write_atomic("/state", bytes(rounds.get() + 1)).await.is_ok() {
                        rounds.set(rounds.get() + 1);
                    }
                    std::future::pending::<()>().await; // the power is gone
                }
            })
        };
        assert!(world.run_until(LONG, || rounds.get() > 0));
        world.cut_power_after(node, seed % 9);
        while world.is_up(node) {
            world.step();
        }
        let left = world.file(node, Path::new("/state")).expect("it was there, durably");
        let round = u32::from_le_bytes(left[..4].try_into().unwrap());
        assert_eq!(left, round.to_le_bytes().repeat(500));
        assert!(round == rounds.get() || round == rounds.get() + 1, "{round} of {}", rounds.get());
        leftovers[usize::from(world.files(node).len() > 1)] += 1;
    }
    assert!(leftovers.iter().all(|count| *count > 0), "with and without the temporary file: {leftovers:?}");
}

#[test]
fn a_failed_sync_is_never_made_good() {
    let mut lost = 0;
    for seed in 0..30 {
        let phase = Rc::new(Cell::new(0));
        let mut world = World::new(seed, Faults::none());
        let node = {
            let phase = phase.clone();
            world.node("n", "10.0.0.1".parse().unwrap(), move || {
                let phase = phase.clone();
                async move {
                    let file = write("/f", &[1; 4096]).await;
                    file.sync_all().await.unwrap();
                    fs::sync_dir("/").await.unwrap();
                    phase.set(1);
                    runtime::time::sleep(Duration::from_secs(1)).await;
                    file.write_at(0, vec![2; 4096]).await.unwrap();
                    assert!(file.sync_data().await.is_err(), "the fault was asked for");
                    phase.set(2);
                    runtime::time::sleep(Duration::from_secs(1)).await;
                    file.sync_data().await.expect("the next one says that all is well");
                    phase.set(3);
                }
            })
        };
        assert!(world.run_until(LONG, || phase.get() == 1));
        world.set_disk_faults(node, DiskFaults { sync_error: 1, ..DiskFaults::default() });
        assert!(world.run_until(LONG, || phase.get() == 2));
        world.set_disk_faults(node, DiskFaults::default());
        assert!(world.run_until(LONG, || phase.get() == 3));
        assert_eq!(world.file(node, Path::new("/f")).unwrap(), [2; 4096], "the page cache has it");
        world.crash(node, Crash::PowerLoss);
        lost += usize::from(world.file(node, Path::new("/f")).unwrap() != [2; 4096]);
        assert_eq!(world.counters().get("sync failed"), 1);
    }
    assert!(lost > 20, "lost {lost} times of 30");
}

#[test]
fn each_fault_happens_and_is_counted() {
    let some = |faults: DiskFaults| {
        let (world, node) = with_node(1, faults, || async {
            let Ok(file) = File::open("/f", &new_file()).await else { return };
            for round in 0..200u64 {
                let _ = file.write_at(round % 10 * 4096, vec![round as u8; 4096]).await;
                let _ = file.read_at(0, 4096).await;
                let _ = file.sync_data().await;
            }
        });
        (world.counters(), world.damage(node))
    };
    let none = DiskFaults::default();
    for (faults, name) in [
        (DiskFaults { read_error: 10, ..none.clone() }, "read failed"),
        (DiskFaults { write_error: 10, ..none.clone() }, "write failed"),
        (DiskFaults { sync_error: 10, ..none.clone() }, "sync failed"),
        (DiskFaults { slow_sync: 10, ..none.clone() }, "sync slow"),
        (DiskFaults { short_transfer: 10, ..none.clone() }, "transfer short"),
        (DiskFaults { capacity_bytes: 20_000, ..none.clone() }, "disk full"),
        (DiskFaults { lost_write: 10, ..none.clone() }, "write lost"),
        (DiskFaults { misdirected_write: 10, ..none.clone() }, "write misdirected"),
        (DiskFaults { bit_rot_every: Some(Duration::from_millis(10)), ..none.clone() }, "bit rot"),
    ] {
        let (counters, damage) = some(faults);
        assert!(counters.get(name) > 0, "no {name} in: {counters}");
        let kinds =
            damage.iter().filter(|Damage { kind, path, .. }| *kind == name && path == Path::new("/f"));
        let silent = matches!(name, "write lost" | "write misdirected" | "bit rot");
        assert_eq!(kinds.count() as u64, if silent { counters.get(name) } else { 0 });
    }
    let (counters, damage) = some(none);
    assert!(damage.is_empty() && counters.iter().next().is_none(), "{counters}");
}

#[test]
fn a_full_disk_says_so_and_has_room_again() {
    let faults = DiskFaults { capacity_bytes: 100_000, ..DiskFaults::default() };
    with_node(3, faults, || async {
        let file = File::open("/big", &new_file()).await.unwrap();
        let refused = file.allocate(0, 200_000).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::StorageFull);
        file.allocate(0, 90_000).await.unwrap();
        let other = File::open("/other", &new_file()).await.unwrap();
        let refused = other.write_at(0, vec![0; 20_000]).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::StorageFull);
        drop(file);
        fs::remove_file("/big").await.unwrap();
        other.write_at(0, vec![0; 20_000]).await.unwrap();
    });
}

#[test]
fn a_lock_goes_with_its_process() {
    let tries = Rc::new(Cell::new(0));
    let mut world = World::new(5, Faults::none());
    let node = {
        let tries = tries.clone();
        world.node("n", "10.0.0.1".parse().unwrap(), move || {
            let tries = tries.clone();
            async move {
                fs::create_dir_all("/data").await.unwrap();
                let _lock = fs::lock_dir("/data").await.expect("nobody else has it");
                assert!(fs::lock_dir("/data").await.is_err());
                tries.set(tries.get() + 1);
                std::future::pending::<()>().await;
            }
        })
    };
    for (round, crash) in [(1, Crash::Kill), (2, Crash::PowerLoss), (3, Crash::Kill)] {
        assert!(world.run_until(LONG, || tries.get() == round));
        world.crash(node, crash);
        world.restart(node);
    }
}
