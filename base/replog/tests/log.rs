//! A log on real files, on both backends: what is committed comes back, in order, once.

mod support;

use std::cell::RefCell;
use std::rc::Rc;

use replog::{Error, GroupId, Index, Log, Options, limits};
use support::{files, on_each, small};

const A: GroupId = GroupId(1);
const B: GroupId = GroupId(2);

#[test]
fn committed_entries_come_back_in_order() {
    on_each(async |dir| {
        let (log, recovered) = Log::open(Options::new(dir)).await.expect("a new log");
        assert!(recovered.is_empty());
        assert_eq!((log.last(A), log.committed(A)), (Index(0), Index(0)));
        assert_eq!(log.propose(A, "one").expect("taken"), Index(1));
        assert_eq!(log.propose(B, "uno").expect("taken"), Index(1));
        assert_eq!(log.propose(A, vec![7; 100_000]).expect("taken"), Index(2));
        assert_eq!((log.last(A), log.committed(A)), (Index(2), Index(0)));
        log.wait_committed(A, Index(2)).await.expect("committed");
        assert_eq!((log.committed(A), log.committed(B)), (Index(2), Index(1)));
        assert_eq!(log.stats().batches, 1, "all three in one write");
        assert!(matches!(
            log.wait_committed(A, Index(3)).await,
            Err(Error::NotProposed { last: Index(2), .. })
        ));
        log.close().await.expect("closed");
        assert!(matches!(log.propose(A, "late"), Err(Error::Closed)));

        let (log, mut recovered) = Log::open(Options::new(dir)).await.expect("opens again");
        assert_eq!(recovered.len(), 3);
        assert_eq!(recovered.groups()[&A], (Index(1), Index(2)));
        let entries = recovered.take(A);
        assert_eq!(entries[0], (Index(1), "one".into()));
        assert_eq!(entries[1], (Index(2), vec![7; 100_000].into()));
        assert_eq!(recovered.take(B), [(Index(1), "uno".into())]);
        assert!(recovered.is_empty());
        assert_eq!(log.propose(A, "three").expect("taken"), Index(3));
        log.close().await.expect("closed");
    });
}

#[test]
fn state_machines_are_told_before_whoever_waits() {
    on_each(async |dir| {
        let (log, _) = Log::open(small(dir)).await.expect("a new log");
        let told = Rc::new(RefCell::new(Vec::new()));
        let (in_callback, again) = (told.clone(), log.clone());
        log.on_commit(A, move |index| {
            in_callback.borrow_mut().push(index);
            // The callback may call the log.
            if index == Index(2) {
                again.propose(A, "from the callback").expect("taken");
                again.truncate(A, Index(1));
            }
        });
        log.propose(A, "1").expect("taken");
        log.propose(A, "2").expect("taken");
        log.wait_committed(A, Index(1)).await.expect("committed");
        assert_eq!(*told.borrow(), [Index(2)], "once for the batch, before the waiter ran");
        log.wait_committed(A, Index(3)).await.expect("committed");
        assert_eq!(*told.borrow(), [Index(2), Index(3)]);
        log.close().await.expect("closed");
    });
}

#[test]
fn what_is_proposed_while_a_write_is_in_flight_goes_with_the_next() {
    on_each(async |dir| {
        let (log, _) = Log::open(Options::new(dir)).await.expect("a new log");
        let tasks: Vec<_> = (0..200)
            .map(|_| {
                let log = log.clone();
                runtime::spawn(async move {
                    for _ in 0..20 {
                        let index = log.propose(A, "x").expect("taken");
                        log.wait_committed(A, index).await.expect("committed");
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
        let stats = log.stats();
        assert_eq!(stats.entries, 4000);
        assert!(stats.batches < 400, "{} batches", stats.batches);
        log.close().await.expect("closed");
    });
}

#[test]
fn segments_roll_and_are_used_again_once_truncated() {
    on_each(async |dir| {
        let (log, _) = Log::open(small(dir)).await.expect("a new log");
        for round in 1..=60 {
            log.room_for(30_000).await.expect("open");
            let index = log.propose(A, vec![round as u8; 30_000]).expect("taken");
            log.wait_committed(A, index).await.expect("committed");
            if round % 7 == 0 {
                log.truncate(A, Index(round - 2));
            }
        }
        log.close().await.expect("closed");
        assert!(files(dir, ".wal").len() <= 4, "{:?}", files(dir, ".wal"));
        assert!(files(dir, ".wal")[0].as_str() > "0000000005.wal");
        assert!(files(dir, ".spare").len() <= limits::SPARE_SEGMENTS_MAX);

        let (log, mut recovered) = Log::open(small(dir)).await.expect("opens again");
        let entries = recovered.take(A);
        let first = entries[0].0.0;
        assert!((1..=55).contains(&first));
        for ((index, bytes), expected) in entries.iter().zip(first..=60) {
            assert_eq!(index.0, expected);
            assert!(bytes.len() == 30_000 && bytes.iter().all(|byte| u64::from(*byte) == expected));
        }
        assert_eq!(entries.last().expect("some").0, Index(60));
        log.truncate(A, Index(60));
        log.close().await.expect("closed");

        let (log, recovered) = Log::open(small(dir)).await.expect("opens again");
        assert!(recovered.len() <= entries.len());
        assert_eq!(log.propose(A, "next").expect("taken"), Index(61), "a truncated group goes on counting");
        log.close().await.expect("closed");
    });
}

#[test]
fn the_largest_entry_spans_blocks_and_a_larger_one_is_refused() {
    on_each(async |dir| {
        let (log, _) = Log::open(Options::new(dir)).await.expect("a new log");
        let bytes: Vec<u8> = (0..limits::ENTRY_BYTES_MAX).map(|at| (at / 5) as u8).collect();
        for _ in 0..5 {
            log.room_for(bytes.len()).await.expect("open");
            let index = log.propose(A, bytes.clone()).expect("taken");
            log.wait_committed(A, index).await.expect("committed");
        }
        let refused = log.propose(A, vec![0; limits::ENTRY_BYTES_MAX + 1]);
        assert!(matches!(refused, Err(Error::TooLarge { max: limits::ENTRY_BYTES_MAX, .. })));
        log.close().await.expect("closed");
        let mut seen = 0;
        let each = |_, _, entry: bytes::Bytes| {
            assert!(entry == bytes);
            seen += 1;
        };
        let log = Log::open_with(Options::new(dir), each).await.expect("opens again");
        log.close().await.expect("closed");
        assert_eq!(seen, 5);
    });
}

#[test]
fn the_queue_is_bounded_and_room_comes_back() {
    on_each(async |dir| {
        let mut options = Options::new(dir);
        options.segment_bytes = 128 << 20;
        let (log, _) = Log::open(options).await.expect("a new log");
        let entry = bytes::Bytes::from(vec![1; 8 << 20]);
        while log.propose(A, entry.clone()).is_ok() {}
        assert!(matches!(log.propose(A, entry.clone()), Err(Error::Full)));
        let last = log.last(A);
        assert_eq!(last, Index(7), "64 MiB, heads included");
        log.propose(A, vec![1; (8 << 20) - 1024]).expect("what is left");
        log.room().await.expect("open");
        assert!(log.committed(A) > Index(0));
        log.wait_committed(A, last).await.expect("committed");
        log.close().await.expect("closed");
    });
}

#[test]
fn a_quiet_log_is_sealed() {
    on_each(async |dir| {
        let (log, _) = Log::open(small(dir)).await.expect("a new log");
        log.propose(A, "x").expect("taken");
        log.wait_committed(A, Index(1)).await.expect("committed");
        assert_eq!(log.stats().batches, 1);
        let patience = std::time::Duration::from_secs(10);
        runtime::time::timeout(patience, async {
            while log.stats().batches < 2 {
                runtime::time::sleep(limits::SEAL_AFTER).await;
            }
        })
        .await
        .expect("the seal comes");
        log.close().await.expect("closed");
        assert_eq!(log.stats().batches, 2, "and only one");
    });
}

#[test]
fn a_dropped_log_still_writes_what_it_took() {
    on_each(async |dir| {
        let (log, _) = Log::open(small(dir)).await.expect("a new log");
        log.propose(A, "x").expect("taken");
        let waiter = {
            let log = log.clone();
            runtime::spawn(async move { log.wait_committed(A, Index(1)).await })
        };
        drop(log);
        waiter.await.expect("committed");
    });
}

#[test]
fn one_folder_has_one_log() {
    on_each(async |dir| {
        let (log, _) = Log::open(small(dir)).await.expect("a new log");
        assert!(matches!(Log::open(small(dir)).await, Err(Error::Locked { .. })));
        log.close().await.expect("closed");
        let (log, _) = Log::open(small(dir)).await.expect("free again");
        log.close().await.expect("closed");
    });
}

#[test]
fn a_foreign_folder_and_an_older_format_are_refused() {
    on_each(async |dir| {
        std::fs::create_dir_all(dir).expect("made");
        let stranger = dir.join("notes.txt");
        std::fs::File::create(&stranger).expect("made");
        let refused = Log::open(small(dir)).await.expect_err("a stranger's folder").to_string();
        assert!(refused.contains("notes.txt") && refused.contains("folder of its own"), "{refused}");
        assert_eq!(files(dir, "").len(), 1, "nothing was put there");
        std::fs::remove_file(stranger).expect("removed");

        let (log, _) = Log::open(small(dir)).await.expect("a new log");
        log.close().await.expect("closed");
        let segment = dir.join("0000000001.wal");
        let mut bytes = std::fs::read(&segment).expect("read");
        bytes[8] = 9;
        std::io::Write::write_all(&mut std::fs::File::create(&segment).expect("opened"), &bytes)
            .expect("written");
        let refused = Log::open(small(dir)).await.expect_err("another version").to_string();
        assert!(refused.contains("format version 9"), "{refused}");
    });
}

#[test]
fn senseless_options_are_refused() {
    on_each(async |dir| {
        for bytes in [0, 4096, limits::SEGMENT_BYTES_MIN + 1, limits::SEGMENT_BYTES_MAX + 4096] {
            let mut options = Options::new(dir);
            options.segment_bytes = bytes;
            assert!(matches!(Log::open(options).await, Err(Error::Options(_))));
        }
    });
}

#[test]
fn a_log_keeps_the_segment_size_it_was_made_with() {
    on_each(async |dir| {
        let (log, _) = Log::open(small(dir)).await.expect("a new log");
        log.propose(A, "x").expect("taken");
        log.close().await.expect("closed");
        let (log, recovered) = Log::open(Options::new(dir)).await.expect("opens again");
        assert_eq!(recovered.len(), 1);
        assert!(matches!(log.propose(A, vec![0; 200_000]), Err(Error::TooLarge { max: 131_072, .. })));
        log.close().await.expect("closed");
    });
}
