//! Every OK survives: kill -9, and power loss on a file system that forgets what was not synced.
#![forbid(unsafe_code)]

use e2e::client::{free_address, python, python_command, try_curl};
use e2e::daemon::Daemon;
use e2e::forgetful::Forgetful;
use e2e::process::Process;
use e2e::site::Site;
use e2e::wait_for;
use std::path::Path;
use std::time::Duration;

/// A daemon with a data folder, and the client that writes to it and checks.
struct Store {
    name: &'static str,
    script: &'static str,
}

const STORES: [Store; 2] = [
    Store { name: "dbshard", script: "redis_durability.py" },
    Store { name: "broker", script: "kafka_durability.py" },
];

impl Store {
    /// The daemon on `data`, and what names its port to the script.
    fn start(&self, data: &Path) -> (Daemon, String) {
        let listen = free_address().to_string();
        let mut arguments = vec![self.name, "--data", data.to_str().unwrap(), "--listen", &listen];
        if self.name == "dbshard" {
            // One shard: the plain client has no redirections to follow.
            arguments.extend(["--config", concat!(env!("CARGO_MANIFEST_DIR"), "/clients/one_shard.toml")]);
        }
        let daemon = Daemon::start(&arguments);
        let port = listen.rsplit(':').next().unwrap().to_owned();
        let target = if self.name == "dbshard" { port } else { listen };
        (daemon, target)
    }

    fn check(&self, target: &str, count: usize) {
        python(self.script, &["check", target, &count.to_string()]);
    }

    /// Writes until `cut` has been called, which must end the daemon; gives how many were acknowledged.
    fn write_until(&self, daemon: &mut Daemon, target: &str, cut: impl FnOnce(&mut Daemon)) -> usize {
        let mut command = python_command(self.script, &["write", target, "1000000000"]);
        let mut writer = Process::start(self.script, &mut command);
        #[expect(clippy::disallowed_methods, reason = "writes go on meanwhile")]
        std::thread::sleep(Duration::from_secs(3));
        assert!(writer.ended().is_none(), "{}", writer.output());
        cut(daemon);
        writer.wait();
        let output = e2e::wait_for("the writer's last line", || {
            let output = writer.output();
            output.lines().any(|line| line.starts_with("acknowledged ")).then_some(output)
        });
        assert!(output.contains("cut off"), "{output}");
        acknowledged(&output)
    }
}

fn acknowledged(output: &str) -> usize {
    let count = output.lines().find_map(|line| line.strip_prefix("acknowledged ")).expect("a count");
    count.parse().expect("a number")
}

/// Both at the same time: most of each test is waiting, for a disk or until something has happened.
fn for_each_store(test: impl Fn(&Store) + Sync) {
    std::thread::scope(|scope| STORES.iter().for_each(|store| drop(scope.spawn(|| test(store)))));
}

#[test]
fn ten_thousand_acknowledged_writes_survive_kill_9() {
    for_each_store(|store| {
        let folder = tempfile::tempdir().unwrap();
        let (mut daemon, target) = store.start(folder.path());
        let output = python(store.script, &["write", &target, "10000"]);
        daemon.process.kill();
        assert_eq!(acknowledged(&output), 10_000, "{output}");
        daemon.start_again();
        store.check(&target, 10_000);
        // Once more, killed among writes.
        let folder = tempfile::tempdir().unwrap();
        let (mut daemon, target) = store.start(folder.path());
        let count = store.write_until(&mut daemon, &target, |daemon| daemon.process.kill());
        assert!(count > 100, "{} wrote only {count}", store.name);
        daemon.start_again();
        store.check(&target, count);
        assert!(daemon.process.stop().success(), "a clean stop after all that");
    });
}

#[test]
fn every_acknowledged_write_survives_power_loss() {
    for_each_store(|store| {
        let disk = Forgetful::mount();
        let data = disk.path().join("data");
        let (mut daemon, target) = store.start(&data);
        let output = python(store.script, &["write", &target, "10000"]);
        daemon.process.kill();
        disk.lose_power(1);
        assert_eq!(acknowledged(&output), 10_000, "{output}");
        daemon.start_again();
        store.check(&target, 10_000);
        daemon.process.kill();
        for seed in 2..5 {
            let data = disk.path().join(format!("data{seed}"));
            let (mut daemon, target) = store.start(&data);
            let count = store.write_until(&mut daemon, &target, |daemon| {
                daemon.process.kill();
                disk.lose_power(seed);
            });
            assert!(count > 100, "{} wrote only {count}", store.name);
            daemon.start_again();
            store.check(&target, count);
        }
    });
}

/// What a start after kill -9 reads back may be in the kernel's memory only: the log must not let go of it before it is
/// synced.
#[test]
fn writes_read_back_after_kill_9_survive_power_loss() {
    for_each_store(|store| {
        let disk = Forgetful::mount();
        let (mut daemon, target) = store.start(&disk.path().join("data"));
        python(store.script, &["write", &target, "10000"]);
        daemon.process.kill();
        daemon.start_again();
        #[expect(
            clippy::disallowed_methods,
            reason = "time for a checkpoint, a flush and a truncation of the log"
        )]
        std::thread::sleep(Duration::from_secs(3));
        daemon.process.kill();
        disk.lose_power(1);
        daemon.start_again();
        store.check(&target, 10_000);
    });
}

/// The tests above would notice: with the syncs taken out, acknowledged writes are lost.
#[test]
fn without_syncs_power_loss_loses_writes() {
    for_each_store(|store| {
        let disk = Forgetful::mount();
        let data = disk.path().join("data");
        let (mut daemon, target) = store.start(&data);
        disk.ignore_syncs();
        let output = python(store.script, &["write", &target, "2000"]);
        daemon.process.kill();
        disk.lose_power(1);
        let count = acknowledged(&output);
        let lost = std::panic::catch_unwind(|| {
            let mut daemon = daemon;
            daemon.start_again();
            store.check(&target, count);
        });
        assert!(
            lost.is_err(),
            "{} kept {count} writes without a sync: the file system forgets nothing",
            store.name
        );
    });
}

#[test]
fn a_failed_sync_ends_the_daemon_and_is_never_acknowledged() {
    for_each_store(|store| {
        let disk = Forgetful::mount();
        let (mut daemon, target) = store.start(&disk.path().join("data"));
        let before = store.write_until(&mut daemon, &target, |daemon| {
            disk.fail_syncs();
            let status = daemon.process.wait();
            assert_eq!(status.code(), Some(70), "{}", daemon.process.output());
        });
        assert!(before > 0);
        let output = daemon.process.output();
        assert!(output.contains("a write to the log failed: stopping"), "{output}");
    });
}

/// `up` does not start again what must not go on.
#[test]
fn a_failed_sync_ends_the_whole_site_with_a_line_that_says_so() {
    let disk = Forgetful::mount();
    let mut site = Site::start_in(&disk.path().join("data"));
    disk.fail_syncs();
    // No OK for what is not on disk; when all has gone, no answer at all.
    let deleted = try_curl(&site.url("/users/3"), &["-X", "DELETE"]);
    assert!(!deleted.is_ok_and(|answer| answer.status < 500));
    assert!(!site.up.wait().success());
    wait_for("the line", || site.up.output().contains("because its disk failed").then_some(()));
}

#[test]
fn a_corrupt_log_is_refused_by_name_and_place() {
    for_each_store(|store| {
        let folder = tempfile::tempdir().unwrap();
        let (mut daemon, target) = store.start(folder.path());
        python(store.script, &["write", &target, "2000"]);
        daemon.process.kill();
        let segment = segment_with_writes(folder.path());
        let mut bytes = std::fs::read(&segment).unwrap();
        // Late in what was written, and far below the last watermark.
        let written = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        let at = written / 4 * 3;
        bytes[at] ^= 0x40;
        std::io::Write::write_all(&mut std::fs::File::create(&segment).unwrap(), &bytes).unwrap();
        let message = daemon.refuses_to_start();
        let name = segment.file_name().unwrap().to_str().unwrap();
        assert!(
            message.contains("damaged at byte")
                && message.contains("--accept-loss")
                && message.contains(name),
            "{message}"
        );
        assert_eq!(std::fs::read(&segment).unwrap(), bytes, "what is refused is left as it is");
        // The operator decides: what came before the damage is there again.
        daemon.start_again_with(&["--accept-loss"]);
        store.check(&target, 500);
        assert!(daemon.process.stop().success());
    });
}

/// The largest file of the write-ahead log that holds something.
fn segment_with_writes(data: &Path) -> std::path::PathBuf {
    let mut waiting = vec![data.to_path_buf()];
    let mut found = Vec::new();
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.components().any(|part| part.as_os_str() == "wal") {
                let bytes = std::fs::read(&path).unwrap();
                let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
                found.push((used, path));
            }
        }
    }
    found.into_iter().max().expect("a segment").1
}
