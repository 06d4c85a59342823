//! File systems without space, and without O_DIRECT.

mod support;

use std::time::Duration;

use replog::{Error, GroupId, Index, Log};
use runtime::{Backend, time};
use support::{Mount, on, small};

const A: GroupId = GroupId(1);
const PATIENCE: Duration = Duration::from_secs(20);

/// Proposes until the log refuses, and waits for all that it took.
async fn fill(log: &Log) -> Index {
    loop {
        match log.propose(A, vec![1; 3000]) {
            Ok(index) => log.wait_committed(A, index).await.expect("what was taken has room"),
            Err(Error::ReadOnly { why, .. }) => {
                assert!(why.contains("No space left"), "{why}");
                return log.committed(A);
            }
            Err(Error::Full) => log.room().await.expect("open"),
            Err(other) => panic!("{other}"),
        }
    }
}

/// Waits until the log takes entries again.
async fn thaw(log: &Log) -> Index {
    let taken = async {
        loop {
            match log.propose(A, "again") {
                Ok(index) => return index,
                Err(Error::ReadOnly { .. } | Error::Full) => time::sleep(Duration::from_millis(20)).await,
                Err(other) => panic!("{other}"),
            }
        }
    };
    time::timeout(PATIENCE, taken).await.expect("there is space again")
}

#[test]
fn a_full_disk_makes_the_log_read_only_until_there_is_space() {
    for backend in [Backend::Epoll, Backend::Auto] {
        let Some(mount) = Mount::memory("tmpfs", "size=1200k") else { return };
        on(backend, async {
            let dir = mount.path.join("wal");
            let (log, _) = Log::open(small(&dir)).await.expect("a new log");
            let filled = fill(&log).await;
            assert!(filled > Index(100), "four segments of 64 blocks: {filled}");
            assert!(log.stats().no_space.is_some());

            // A truncation frees a segment, though the disk is as full as before.
            log.truncate(A, Index(60));
            let index = thaw(&log).await;
            log.wait_committed(A, index).await.expect("committed");
            assert_eq!(log.stats().no_space, None);

            // Full again, closed, and opened as it is.
            let filled = fill(&log).await;
            log.close().await.expect("all that was taken is on disk");
            let (log, recovered) = Log::open(small(&dir)).await.expect("a full disk is no damage");
            assert_eq!(recovered.groups()[&A].1, filled);
            assert!(matches!(fill(&log).await, last if last >= filled));
            log.close().await.expect("closed");
        });
    }
}

#[test]
fn space_that_comes_back_is_noticed() {
    let Some(mount) = Mount::memory("tmpfs", "size=2m") else { return };
    on(Backend::Auto, async {
        let ballast = mount.path.join("ballast");
        let file = std::fs::File::create(&ballast).expect("made");
        std::io::Write::write_all(&mut &file, &[1; 1 << 20]).expect("written");
        let (log, _) = Log::open(small(&mount.path.join("wal"))).await.expect("a new log");
        let filled = fill(&log).await;
        std::fs::remove_file(ballast).expect("removed");
        drop(file);
        let index = thaw(&log).await;
        assert_eq!(index, filled.next());
        log.wait_committed(A, index).await.expect("committed");
        log.close().await.expect("closed");
    });
}

#[test]
fn a_disk_without_room_for_the_first_segment_is_an_error() {
    let Some(mount) = Mount::memory("tmpfs", "size=100k") else { return };
    on(Backend::Auto, async {
        let dir = mount.path.join("wal");
        let refused = Log::open(small(&dir)).await.expect_err("no room").to_string();
        assert!(refused.contains("No space left"), "{refused}");
        assert_eq!(support::files(&dir, ""), ["LOCK"], "the attempt is cleared away");
    });
}

#[test]
fn a_file_system_without_direct_writes_works_too() {
    for backend in [Backend::Epoll, Backend::Auto] {
        let Some(mount) = Mount::memory("ramfs", "mode=700") else { return };
        on(backend, async {
            let dir = mount.path.join("wal");
            let (log, _) = Log::open(small(&dir)).await.expect("a new log");
            for _ in 0..100 {
                log.room().await.expect("open");
                log.propose(A, vec![1; 4000]).expect("taken");
            }
            log.wait_committed(A, Index(100)).await.expect("committed");
            log.close().await.expect("closed");
            let (log, recovered) = Log::open(small(&dir)).await.expect("opens again");
            assert_eq!(recovered.len(), 100);
            log.close().await.expect("closed");
        });
    }
}
