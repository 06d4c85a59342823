//! What survives: a clean stop, a crash, a torn tail. And what must not be passed over: damage.

mod support;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use broker::Config;
use support::*;

/// What a crash right now would leave: a copy of the folder while the broker runs. The logs and checkpoints in `shards`
/// are copied before `partitions`, so that no checkpoint in the copy speaks of a segment as it was later.
fn crash_image(data: &Path) -> tempfile::TempDir {
    let image = tempfile::tempdir().unwrap();
    copy(data, image.path());
    image
}

/// Copies a folder that a broker is using; begins anew when a file went away meanwhile, as spare segments do.
fn copy(from: &Path, to: &Path) {
    for _ in 0..100 {
        match try_copy(from, to) {
            Ok(()) => return,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::remove_dir_all(to).unwrap();
            }
            Err(error) => panic!("copying {}: {error}", from.display()),
        }
    }
    panic!("{} does not hold still", from.display());
}

fn try_copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    let mut entries = std::fs::read_dir(from)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.file_name()));
    for entry in entries {
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            try_copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn overwrite(path: &Path, bytes: &[u8]) {
    File::create(path).unwrap().write_all(bytes).unwrap();
}

fn segments(data: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(data.join("partitions")).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|e| e == "log") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Batches of 1 to 3 records, numbered through, over two partitions.
fn fill(client: &mut Client, batches: u32) -> [Vec<Vec<u8>>; 2] {
    let mut sent = [Vec::new(), Vec::new()];
    for i in 0..batches {
        let partition = (i % 2) as usize;
        let values: Vec<Vec<u8>> = (0..=i % 3).map(|j| format!("{i}.{j}").into_bytes()).collect();
        let slices: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        client.produce("t", partition as i32, batch_of(&slices)).unwrap();
        sent[partition].extend(values);
    }
    sent
}

fn check(client: &mut Client, sent: &[Vec<Vec<u8>>; 2]) {
    for (partition, sent) in sent.iter().enumerate() {
        let read = client.read_all("t", partition as i32, 0);
        assert!(read.iter().enumerate().all(|(i, (offset, _))| i as i64 == *offset), "no gap, no repeat");
        let read: Vec<_> = read.into_iter().map(|(_, v)| v).collect();
        assert_eq!(&read, sent);
    }
}

#[test]
fn a_clean_stop_and_a_crash_keep_everything_once() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(folder.path()));
    let mut client = broker.client();
    client.create("t", 2);
    let mut sent = fill(&mut client, 300);
    let image = crash_image(folder.path());
    broker.stop();

    let crashed = Broker::start(config(image.path()));
    check(&mut crashed.client(), &sent);
    crashed.stop();

    for _ in 0..2 {
        let broker = Broker::start(config(folder.path()));
        let mut client = broker.client();
        check(&mut client, &sent);
        let more = fill(&mut client, 10);
        for (sent, more) in sent.iter_mut().zip(more) {
            sent.extend(more);
        }
        broker.stop();
    }
}

#[test]
fn nothing_depends_on_the_segments_before_they_are_synced() {
    let folder = tempfile::tempdir().unwrap();
    // Nothing is ever synced behind the log: all of it is in the log.
    let settings = |data: &Path| Config { sync_ms: 3_600_000, ..config(data) };
    let broker = Broker::start(settings(folder.path()));
    let mut client = broker.client();
    client.create("t", 2);
    let sent = fill(&mut client, 100);
    while segments(folder.path()).len() < 2 {
        std::thread::yield_now();
    }
    let torn = crash_image(folder.path());
    let lost = crash_image(folder.path());
    broker.stop();
    for (n, path) in segments(torn.path()).iter().enumerate() {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        if n == 0 {
            bytes[middle] ^= 0xff;
        } else {
            bytes.truncate(middle);
        }
        overwrite(path, &bytes);
    }
    for path in segments(lost.path()) {
        std::fs::remove_file(path).unwrap();
    }
    for image in [torn, lost] {
        let broker = Broker::start(settings(image.path()));
        check(&mut broker.client(), &sent);
        broker.stop();
    }
}

#[test]
fn damage_to_what_was_synced_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(folder.path()));
    let mut client = broker.client();
    client.create("t", 2);
    let sent = fill(&mut client, 50);
    broker.stop();
    let path = segments(folder.path()).remove(0);
    let good = std::fs::read(&path).unwrap();
    for damage in [1, 2] {
        let mut bytes = good.clone();
        let middle = bytes.len() / 2;
        if damage == 1 {
            bytes[middle] ^= 0xff;
        } else {
            bytes.truncate(middle);
        }
        overwrite(&path, &bytes);
        let refused = Broker::try_start(config(folder.path())).map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains("t-") && refused.contains("offset"), "{refused}");
    }
    overwrite(&path, &good);
    let broker = Broker::start(config(folder.path()));
    check(&mut broker.client(), &sent);
    broker.stop();
}

#[test]
fn many_segments_are_read_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let settings = |data: &Path| Config { segment_bytes: 1 << 20, tail_bytes: 1, ..config(data) };
    let broker = Broker::start(settings(folder.path()));
    let mut client = broker.client();
    client.create("t", 1);
    let value = vec![0x5a; 100_000];
    for _ in 0..40 {
        client.produce("t", 0, batch_of(&[&value, b"mark"])).unwrap();
    }
    broker.stop();
    assert!(segments(folder.path()).len() >= 4);
    let broker = Broker::start(settings(folder.path()));
    let mut client = broker.client();
    let read = client.read_all("t", 0, 33);
    assert_eq!((read.len(), read[0].0, &read[0].1[..]), (47, 33, &b"mark"[..]));
    broker.stop();
}

#[test]
fn the_write_ahead_log_lets_go_of_what_is_in_segments() {
    let folder = tempfile::tempdir().unwrap();
    let settings = |data: &Path| Config {
        cores: Some(1),
        message_bytes_max: 100_000,
        wal_segment_bytes: 2 << 20,
        ..config(data)
    };
    let broker = Broker::start(settings(folder.path()));
    let mut client = broker.client();
    // Entries of the topic table lie in the log's first segment.
    client.create("t", 1);
    for _ in 0..160 {
        client.produce("t", 0, batch_of(&[&[7; 90_000]])).unwrap();
    }
    let segments = || {
        let files = std::fs::read_dir(folder.path().join("shards/0/wal")).unwrap();
        files.filter(|file| file.as_ref().unwrap().metadata().is_ok_and(|it| it.len() > 1 << 20)).count()
    };
    // The one in use, the next, two to be used again, and what came since.
    let deadline = runtime::time::now() + DEADLINE;
    while segments() > 6 {
        assert!(
            runtime::time::now() < deadline,
            "{} segments for what is all in the partition's own",
            segments()
        );
        client.produce("t", 0, batch_of(&[b"more"])).unwrap();
    }
    broker.stop();
    let broker = Broker::start(settings(folder.path()));
    assert!(broker.client().read_all("t", 0, 0).len() >= 160);
    broker.stop();
}
