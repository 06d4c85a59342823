//! Damaged folders: refused with file and place, never cut silently; repaired only when told to.

mod support;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use replog::{Error, GroupId, Index, Log, repair};
use support::{files, on_each, small};

const A: GroupId = GroupId(1);
const FIRST: &str = "0000000001.wal";

/// A log of `entries` entries of one block each, each in a batch of its own, closed and sealed.
async fn filled(dir: &Path, entries: u64) {
    let (log, _) = Log::open(small(dir)).await.expect("a new log");
    for number in 1..=entries {
        log.room().await.expect("open");
        let index = log.propose(A, vec![number as u8; 3000]).expect("taken");
        log.wait_committed(A, index).await.expect("committed");
    }
    log.close().await.expect("closed");
}

fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).expect("there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("read");
    file.write_all_at(&[byte[0] ^ 4], offset).expect("written");
}

fn zero(path: &Path, offset: u64, len: usize) {
    let file = File::options().write(true).open(path).expect("there");
    file.write_all_at(&vec![0; len], offset).expect("written");
}

async fn entries(dir: &Path) -> Vec<Index> {
    let (log, mut recovered) = Log::open(small(dir)).await.expect("opens");
    log.close().await.expect("closed");
    recovered.take(A).into_iter().map(|(index, _)| index).collect()
}

#[test]
fn a_flip_is_refused_and_named_and_nothing_is_changed() {
    on_each(async |dir| {
        filled(dir, 10).await;
        let segment = dir.join(FIRST);
        flip(&segment, 5 * 4096 + 777);
        let before = std::fs::read(&segment).expect("read");
        let error = Log::open(small(dir)).await.expect_err("damaged");
        assert!(matches!(&error, Error::Corrupt { segment: named, offset: 20480, .. } if *named == segment));
        let text = error.to_string();
        assert!(text.contains("0000000001.wal: damaged at byte 20480"), "{text}");
        assert!(text.contains("--accept-loss"), "{text}");
        assert!(std::fs::read(&segment).expect("read") == before, "nothing was changed");
    });
}

#[test]
fn the_last_acknowledged_entry_is_watched_over_by_the_seal() {
    on_each(async |dir| {
        filled(dir, 3).await;
        // Its block is gone as if never written; only the seal behind it knows better.
        zero(&dir.join(FIRST), 3 * 4096, 4096);
        assert!(matches!(Log::open(small(dir)).await, Err(Error::Corrupt { offset: 12288, .. })));
        // Without the seal it is a write that never happened.
        zero(&dir.join(FIRST), 4 * 4096, 4096);
        assert_eq!(entries(dir).await, [Index(1), Index(2)]);
    });
}

#[test]
fn a_torn_tail_is_cut_and_written_over() {
    on_each(async |dir| {
        filled(dir, 3).await;
        let segment = dir.join(FIRST);
        // The seal goes, and of the last entry's block the disk has written five sectors.
        zero(&segment, 4 * 4096, 4096);
        zero(&segment, 3 * 4096 + 1024, 3 * 512);
        let (log, recovered) = Log::open(small(dir)).await.expect("a torn tail is no damage");
        assert_eq!(recovered.groups()[&A], (Index(1), Index(2)));
        let block = &std::fs::read(&segment).expect("read")[3 * 4096..4 * 4096];
        assert!(block.iter().all(|byte| *byte == 0), "zeroed before anything else is written");
        log.propose(A, "again").expect("taken");
        log.close().await.expect("closed");
        assert_eq!(entries(dir).await, [Index(1), Index(2), Index(3)]);
    });
}

#[test]
fn a_missing_segment_and_a_damaged_header_are_refused() {
    on_each(async |dir| {
        filled(dir, 150).await;
        assert!(files(dir, ".wal").len() >= 3);
        let (second, aside) = (dir.join("0000000002.wal"), dir.with_extension("aside"));
        std::fs::copy(&second, &aside).expect("copied");
        std::fs::remove_file(&second).expect("removed");
        let text = Log::open(small(dir)).await.expect_err("a hole").to_string();
        assert!(text.contains("missing"), "{text}");
        std::fs::copy(&aside, &second).expect("copied");
        assert_eq!(entries(dir).await.len(), 150);
        flip(&second, 30);
        let text = Log::open(small(dir)).await.expect_err("a bad header").to_string();
        assert!(text.contains("0000000002.wal: damaged at byte 0"), "{text}");
        // Another log's segment in its place.
        let other = dir.with_extension("other");
        filled(&other, 150).await;
        std::fs::copy(other.join("0000000002.wal"), &second).expect("copied");
        let text = Log::open(small(dir)).await.expect_err("a stranger").to_string();
        assert!(text.contains("another log"), "{text}");
        // Cut short.
        std::fs::copy(&aside, &second).expect("copied");
        File::options().write(true).open(&second).expect("there").set_len(100 * 512).expect("cut");
        let text = Log::open(small(dir)).await.expect_err("cut short").to_string();
        assert!(text.contains("51200 bytes"), "{text}");
    });
}

#[test]
fn a_repair_needs_to_be_told_and_keeps_a_prefix() {
    on_each(async |dir| {
        filled(dir, 150).await;
        assert_eq!(repair(dir, true).await.expect("whole").damage, [""; 0]);
        let segments = files(dir, ".wal");
        flip(&dir.join(&segments[1]), 7 * 4096 + 1);
        let told = repair(dir, false).await.expect("looked");
        assert!(told.damage[0].contains("0000000002.wal: byte 28672"), "{told:?}");
        assert!(!told.cut);
        assert!(Log::open(small(dir)).await.is_err(), "nothing was changed");

        let repaired = repair(dir, true).await.expect("repaired");
        assert!(repaired.cut);
        let kept = files(&repaired.kept_in.expect("kept"), ".wal");
        assert_eq!(kept, segments[1..], "as they were");
        let left = entries(dir).await;
        let expected: Vec<Index> = (1..=left.len() as u64).map(Index).collect();
        assert_eq!(left, expected);
        assert!((45..70).contains(&left.len()), "{}", left.len());

        // It goes on from there, over segments that were there before.
        let (log, _) = Log::open(small(dir)).await.expect("opens");
        log.truncate(A, Index(150));
        for number in 151..300 {
            log.room().await.expect("open");
            assert_eq!(log.propose(A, vec![1; 3000]).expect("taken"), Index(number));
            log.wait_committed(A, Index(number)).await.expect("committed");
        }
        log.close().await.expect("closed");
        assert_eq!(entries(dir).await, (151..300).map(Index).collect::<Vec<_>>());
        assert_eq!(repair(dir, false).await.expect("whole").damage, [""; 0]);
    });
}

#[test]
fn a_repair_of_the_very_first_block_leaves_an_empty_log() {
    on_each(async |dir| {
        filled(dir, 5).await;
        for offset in [4096, 20] {
            flip(&dir.join(FIRST), offset);
            assert!(repair(dir, true).await.expect("repaired").cut);
            assert_eq!(entries(dir).await, []);
            filled(dir, 5).await;
        }
        // Both times the segment itself and the one that was ready behind it.
        let kept = ["0000000001.wal", "0000000001.wal.2", "0000000002.wal", "0000000002.wal.2"];
        assert_eq!(files(&dir.join("damaged"), ""), kept);
    });
}
