//! Groups that a node leaves: nothing of them comes back, whatever the moment of a crash, and their places are free again.

mod support;

use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use replog::{Error, GroupId, Index, Members, NodeCore, NodeId, NodeOptions, Replicas, StateMachine, limits};
use runtime::Backend;
use support::{leads, on, small, telling};

const NODE: NodeId = NodeId(1);

/// What was given to any state machine: of which group, and what.
type Given = Rc<RefCell<Vec<(GroupId, Bytes)>>>;

fn machine(group: GroupId, given: &Given) -> Box<dyn StateMachine> {
    let given = given.clone();
    telling(move |_, entry| given.borrow_mut().push((group, entry.clone())))
}

/// A node alone; and what is given to its machines.
async fn open(dir: &Path) -> (Replicas, Given) {
    let core = NodeCore::bind(&NodeOptions::new(NODE, 9), 1).expect("no address").remove(0);
    let given = Given::default();
    let made = given.clone();
    (Replicas::open(core, small(dir), move |group| machine(group, &made)).await.expect("opened"), given)
}

fn found(replicas: &Replicas, given: &Given, group: GroupId) -> Result<(), Error> {
    replicas.found(group, Members::voters([NODE]), machine(group, given))
}

async fn put(replicas: &Replicas, group: GroupId, entry: &'static str) -> Index {
    leads(replicas, group).await;
    replicas.room().await.expect("open");
    replicas.propose(group, entry).expect("leads").applied().await.expect("applied")
}

fn strings(given: &Given) -> Vec<(u64, String)> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).expect("text");
    given.borrow().iter().map(|(group, bytes)| (group.0, text(bytes))).collect()
}

const A: GroupId = GroupId(1);
const B: GroupId = GroupId(2);

#[test]
fn nothing_of_a_group_comes_back() {
    for backend in [Backend::Epoll, Backend::Auto] {
        let dir = tempfile::tempdir().expect("a folder");
        let dir = dir.path().join("wal");
        on(backend, async {
            let (replicas, given) = open(&dir).await;
            for group in [A, B] {
                found(&replicas, &given, group).expect("founded");
                put(&replicas, group, "old").await;
            }
            let waits = replicas.propose(A, "late").expect("leads");
            let forgotten = replicas.forget(A);
            assert!(replicas.group_stats(A).is_none() && replicas.members(A).is_none(), "at once");
            assert!(matches!(waits.applied().await, Err(Error::Unknown { group: A })));
            let refused = found(&replicas, &given, A);
            assert!(
                matches!(refused, Err(Error::Refused { group: A, .. })),
                "not before it is gone: {refused:?}"
            );
            forgotten.await.expect("forgotten");
            replicas.forget(A).await.expect("it is not known any more");
            // The process ends without a word.
        });
        on(backend, async {
            let (replicas, given) = open(&dir).await;
            assert!(replicas.group_stats(A).is_none());
            put(&replicas, B, "new").await;
            assert_eq!(strings(&given), [(2, "old".to_owned()), (2, "new".to_owned())]);
            // The same number begins anew, at the same indexes and in the same terms.
            found(&replicas, &given, A).expect("founded");
            put(&replicas, A, "anew").await;
        });
        on(backend, async {
            let (replicas, given) = open(&dir).await;
            put(&replicas, A, "more").await;
            let of_a: Vec<_> = strings(&given).into_iter().filter(|(group, _)| *group == A.0).collect();
            assert_eq!(of_a, [(1, "anew".to_owned()), (1, "more".to_owned())]);
            replicas.close().await.expect("closed");
        });
    }
}

#[test]
fn a_crash_before_the_vote_has_gone_brings_nothing_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path().join("wal");
    let votes = dir.join("VOTES");
    let before = on(Backend::Auto, async {
        let (replicas, given) = open(&dir).await;
        for group in [A, B] {
            found(&replicas, &given, group).expect("founded");
            put(&replicas, group, "old").await;
        }
        let before = std::fs::read(&votes).expect("there");
        replicas.forget(A).await.expect("forgotten");
        before
    });
    let after = std::fs::read(&votes).expect("there");
    assert_eq!(before.len() - after.len(), 24, "one vote fewer");
    File::create(&votes).expect("there").write_all(&before).expect("as it was");
    on(Backend::Auto, async {
        let (replicas, _) = open(&dir).await;
        assert!(replicas.group_stats(A).is_none() && replicas.group_stats(B).is_some());
        replicas.close().await.expect("closed");
    });
    assert_eq!(std::fs::read(&votes).expect("there").len(), after.len());
}

#[test]
fn the_places_of_groups_are_free_again_and_so_are_their_segments() {
    let dir = tempfile::tempdir().expect("a folder");
    on(Backend::Auto, async {
        let (replicas, given) = open(&dir.path().join("wal")).await;
        let most = limits::groups_max(limits::SEGMENT_BYTES_MIN) as u64;
        // One that stays idle holds the oldest segment, until it is forgotten.
        found(&replicas, &given, A).expect("founded");
        put(&replicas, A, "idle").await;
        for number in 2..most + 50 {
            let group = GroupId(number);
            found(&replicas, &given, group).expect("there is room");
            if number % 8 == 0 {
                put(&replicas, group, "x").await;
            }
            replicas.forget(group).await.expect("forgotten");
        }
        assert_eq!(replicas.holders(), [A]);
        replicas.forget(A).await.expect("forgotten");
        assert_eq!(replicas.holders(), []);
        found(&replicas, &given, B).expect("founded");
        put(&replicas, B, "x").await;
        assert!(replicas.stats().segments <= 2, "{:?}", replicas.stats());
        replicas.close().await.expect("closed");
    });
}
