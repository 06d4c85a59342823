//! What a node has promised outlives its log: the second copy of terms and votes.

mod support;

use std::cell::Cell;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use replog::{
    Error, GroupId, Index, Log, Members, NodeCore, NodeId, NodeOptions, Replicas, StateMachine, Term, repair,
};
use runtime::Backend;
use support::{Mount, files, leads, on, on_each, small, telling};

const GROUP: GroupId = GroupId(3);
const FIRST: &str = "0000000001.wal";

/// Counts what it applies.
fn counter(applied: &Rc<Cell<u64>>) -> Box<dyn StateMachine> {
    let applied = applied.clone();
    telling(move |_, _| applied.set(applied.get() + 1))
}

async fn open(dir: &Path, applied: &Rc<Cell<u64>>) -> Result<Replicas, Error> {
    let core = NodeCore::bind(&NodeOptions::new(NodeId(1), 9), 1).expect("no address").remove(0);
    Replicas::open(core, small(dir), |_| counter(applied)).await
}

/// Opens a node alone; gives it once it leads, with how many entries were applied again.
async fn lead(dir: &Path) -> Result<(Replicas, u64), Error> {
    let applied = Rc::new(Cell::new(0));
    let replicas = open(dir, &applied).await?;
    replicas.found(GROUP, Members::voters([NodeId(1)]), counter(&applied))?;
    leads(&replicas, GROUP).await;
    Ok((replicas, applied.get()))
}

/// A node that has written `entries` entries and was closed; gives the term that it led in.
async fn written(dir: &Path, entries: usize) -> Term {
    let (replicas, _) = lead(dir).await.expect("opened");
    for _ in 0..entries {
        replicas.propose(GROUP, "x").expect("leads").applied().await.expect("applied");
    }
    let term = replicas.role(GROUP).term;
    replicas.close().await.expect("closed");
    term
}

#[test]
fn each_start_is_a_later_term_and_everything_comes_again() {
    on_each(async |dir| {
        let first = written(dir, 5).await;
        let (replicas, applied) = lead(dir).await.expect("opened");
        assert_eq!(applied, 5);
        assert!(replicas.role(GROUP).term > first);
        replicas.close().await.expect("closed");
        assert!(files(dir, "VOTES").len() == 1);
    });
}

#[test]
fn a_log_that_was_cut_keeps_its_promises() {
    on_each(async |dir| {
        let first = written(dir, 5).await;
        // Everything from the first entry on is lost; who founded the group is left.
        let segment = dir.join(FIRST);
        let mut bytes = std::fs::read(&segment).expect("there");
        bytes[3 * 4096 + 100] ^= 1;
        File::create(&segment).expect("there").write_all(&bytes).expect("written");
        let refused = Log::open(small(dir)).await.expect_err("damaged").to_string();
        assert!(refused.contains(FIRST), "{refused}");
        assert!(repair(dir, true).await.expect("repaired").cut);
        assert_eq!(files(dir, "CUT").len(), 1, "that is known");

        let (replicas, applied) = lead(dir).await.expect("opened");
        assert_eq!(applied, 0, "the entries are gone");
        assert!(replicas.role(GROUP).term > first, "and the term is not given twice");
        replicas.close().await.expect("closed");
    });
}

#[test]
fn a_damaged_second_copy_is_written_anew_from_the_log() {
    on_each(async |dir| {
        let first = written(dir, 1).await;
        let votes = dir.join("VOTES");
        let whole = std::fs::read(&votes).expect("there");
        for damaged in [&whole[..10], b""] {
            File::create(&votes).expect("there").write_all(damaged).expect("written");
            let (log, _) = Log::open(small(dir)).await.expect("opens");
            log.close().await.expect("closed");
            assert_eq!(std::fs::read(&votes).expect("there"), whole);
        }
        std::fs::remove_file(&votes).expect("there");
        let (replicas, _) = lead(dir).await.expect("opened");
        assert!(replicas.role(GROUP).term > first);
        replicas.close().await.expect("closed");
    });
}

#[test]
fn two_votes_in_one_term_are_refused() {
    on_each(async |dir| {
        written(dir, 1).await;
        let votes = dir.join("VOTES");
        let mut bytes = std::fs::read(&votes).expect("there");
        // The one vote is for node 2 now, and its checksum right.
        bytes[48] = 2;
        let checksum = crc32fast::hash(&bytes[16..]);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        File::create(&votes).expect("there").write_all(&bytes).expect("written");
        let refused = lead(dir).await.map(drop).expect_err("contradicts").to_string();
        assert!(refused.contains("VOTES") && refused.contains("group 3"), "{refused}");
    });
}

#[test]
fn a_folder_of_the_first_version_is_refused() {
    on_each(async |dir| {
        written(dir, 1).await;
        let segment = dir.join(FIRST);
        let mut bytes = std::fs::read(&segment).expect("there");
        bytes[8] = 1;
        File::create(&segment).expect("there").write_all(&bytes).expect("written");
        let refused = Log::open(small(dir)).await.expect_err("older").to_string();
        assert!(refused.contains("version 1") && refused.contains("reads version 2"), "{refused}");
    });
}

#[test]
fn a_state_machine_that_has_lost_what_its_log_gave_up_is_refused() {
    on_each(async |dir| {
        let (replicas, _) = lead(dir).await.expect("opened");
        let mut last = Index(0);
        for _ in 0..3 {
            last = replicas.propose(GROUP, "x").expect("leads").applied().await.expect("applied");
        }
        replicas.truncate(GROUP, last);
        // A truncation goes along with what is written next.
        replicas.propose(GROUP, "y").expect("leads").applied().await.expect("applied");
        replicas.close().await.expect("closed");
        let refused = lead(dir).await.map(drop).expect_err("it has nothing").to_string();
        assert!(refused.contains("group 3") && refused.contains("the log begins behind"), "{refused}");
    });
}

#[test]
fn a_vote_waits_for_space() {
    let Some(mount) = Mount::memory("tmpfs", "size=2m") else { return };
    on(Backend::Auto, async {
        let dir = mount.path.join("wal");
        let applied = Rc::new(Cell::new(0));
        let replicas = open(&dir, &applied).await.expect("opened");
        while files(&dir, ".wal").len() < 2 {
            runtime::time::sleep(Duration::from_millis(1)).await;
        }
        // The log has room in its segments, and nothing else has.
        let ballast = mount.path.join("ballast");
        let mut file = File::create(&ballast).expect("made");
        while file.write_all(&[1; 4096]).is_ok() {}
        replicas.found(GROUP, Members::voters([NodeId(1)]), counter(&applied)).expect("founded");
        runtime::time::sleep(Duration::from_millis(200)).await;
        assert!(!replicas.role(GROUP).leads, "its own vote is not kept yet");
        std::fs::remove_file(ballast).expect("removed");
        drop(file);
        leads(&replicas, GROUP).await;
        replicas.propose(GROUP, "x").expect("leads").applied().await.expect("applied");
        replicas.close().await.expect("closed");
    });
}
