//! `millrace wal`: what lies in a log is told, whole, torn or damaged, and nothing is changed.
#![forbid(unsafe_code)]

use replog::{GroupId, Log, Options};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Runs `millrace wal`; gives the exit code, and what was printed.
fn wal(arguments: &[&str], folder: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    let output = command.arg("wal").args(arguments).arg(folder).output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// Two logs below `data`; in the first, entries of two groups take turns, each in a batch of its own block.
fn write_logs(data: &Path) {
    for core in 0..2 {
        let mut options = Options::new(data.join("wal").join(core.to_string()));
        options.segment_bytes = 256 * 1024;
        let write = async {
            let (log, _) = Log::open(options).await?;
            for number in 0..40 {
                let group = GroupId(1 + number % 2);
                log.room().await?;
                let index = log.propose(group, vec![7; 3000])?;
                log.wait_committed(group, index).await?;
            }
            log.close().await
        };
        runtime::block_on(&runtime::Options::default(), write).unwrap().unwrap();
    }
}

/// The place of the block in which the batch with `record` begins, in bytes.
fn place_of(log: &Path, record: &str) -> usize {
    let (_, text) = wal(&["inspect", "--batches"], log);
    let before = text.split_once(record).expect("it is there").0;
    let batch = before.lines().rfind(|line| line.contains(" blocks ")).expect("it is in a batch");
    let block: usize = batch.split_whitespace().nth(2).unwrap().parse().unwrap();
    block * 4096
}

fn change(segment: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(segment).unwrap();
    change(&mut bytes);
    File::create(segment).unwrap().write_all(&bytes).unwrap();
}

#[test]
fn a_whole_log_is_told_and_left_alone() {
    let data = tempfile::tempdir().unwrap();
    write_logs(data.path());
    let segment = data.path().join("wal/0/0000000001.wal");
    let before = std::fs::read(&segment).unwrap();
    let (code, text) = wal(&["verify"], data.path());
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(text.matches("\n  whole").count(), 2, "{text}");

    let (code, text) = wal(&["inspect"], &data.path().join("wal/0"));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("1 segments of 256 KiB") || text.contains("2 segments of 256 KiB"), "{text}");
    assert!(text.contains("40 entries"), "{text}");
    let group = text.lines().find(|line| line.trim_start().starts_with("2 ")).expect("the group's line");
    let fields: Vec<&str> = group.split_whitespace().collect();
    assert_eq!(fields[..3], ["2", "1", "20"], "{text}");

    let (_, text) = wal(&["inspect", "--batches"], &data.path().join("wal/0"));
    assert!(text.contains("group 2: entry 20 of term 0, App, 3000 bytes"), "{text}");
    assert!(std::fs::read(&segment).unwrap() == before, "nothing was changed");
}

#[test]
fn damage_is_named_with_its_place_and_what_it_has_hit() {
    let data = tempfile::tempdir().unwrap();
    write_logs(data.path());
    let segment = data.path().join("wal/0/0000000001.wal");
    let place = place_of(&data.path().join("wal/0"), "group 2: entry 5 of");
    change(&segment, |bytes| bytes[place + 777] ^= 4);
    let before = std::fs::read(&segment).unwrap();
    let (code, text) = wal(&["verify"], data.path());
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&format!("0000000001.wal: bytes {place} to {}: CORRUPT", place + 4096)), "{text}");
    assert!(text.contains("group 2: entries 5 to 5"), "{text}");
    assert!(!text.contains("group 1: entries"), "{text}");
    assert!(
        text.contains(&format!("damaged at byte {place}:")) && text.contains("1 of 2 logs damaged"),
        "{text}"
    );
    let (code, _) = wal(&["inspect"], data.path());
    assert_eq!(code, Some(0), "looking is no judgement");
    assert!(std::fs::read(&segment).unwrap() == before, "nothing was changed");
}

#[test]
fn a_torn_tail_is_no_damage() {
    let data = tempfile::tempdir().unwrap();
    write_logs(data.path());
    let segment = data.path().join("wal/0/0000000001.wal");
    // All is gone from the last entry's batch on, but for its first sector.
    let place = place_of(&data.path().join("wal/0"), "group 2: entry 20 of");
    change(&segment, |bytes| bytes[place + 512..].fill(0));
    let (code, text) = wal(&["verify"], data.path());
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(&format!("bytes {place} to {}: a torn tail", place + 4096)), "{text}");
    assert!(text.contains("group 2: entries from 20 on"), "{text}");
}

#[test]
fn a_folder_without_logs_is_an_error() {
    let data = tempfile::tempdir().unwrap();
    let (code, text) = wal(&["verify"], data.path());
    assert!(code == Some(1) && text.contains("there is no log in it"), "{text}");
}
