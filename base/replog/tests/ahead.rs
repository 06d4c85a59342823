//! State machines that have more in durable storage of their own than the log knows of; and what the log says of how much
//! of it is still needed.

mod support;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use replog::{Error, GroupId, Index, Log, Members, NodeCore, NodeId, NodeOptions, Replicas, StateMachine};
use runtime::Backend;
use support::{Telling, files, leads, on, on_each, small};

const A: GroupId = GroupId(3);
const B: GroupId = GroupId(4);
const NODE: NodeId = NodeId(1);

/// Says that it has everything up to `durable`, and notes what it is given.
fn machine(durable: u64, given: &Rc<RefCell<Vec<Index>>>) -> Box<dyn StateMachine> {
    let given = given.clone();
    Box::new(Telling {
        durable: Index(durable),
        tell: move |index, _: &Bytes| given.borrow_mut().push(index),
    })
}

/// A node alone whose machines have everything up to `durable`; and what is given to them.
async fn open(dir: &Path, durable: u64) -> Result<(Replicas, Rc<RefCell<Vec<Index>>>), Error> {
    let core = NodeCore::bind(&NodeOptions::new(NODE, 9), 1).expect("no address").remove(0);
    let given = Rc::new(RefCell::default());
    let replicas = Replicas::open(core, small(dir), |_| machine(durable, &given)).await?;
    for group in [A, B] {
        replicas.found(group, Members::voters([NODE]), machine(durable, &given))?;
    }
    Ok((replicas, given))
}

async fn put(replicas: &Replicas, group: GroupId, bytes: usize) -> Index {
    replicas.room_for(bytes).await.expect("open");
    replicas.propose(group, vec![7; bytes]).expect("leads").applied().await.expect("applied")
}

#[test]
fn what_is_not_known_to_be_committed_is_truncated_when_it_is_applied() {
    for backend in [Backend::Epoll, Backend::Auto] {
        let dir = tempfile::tempdir().expect("a folder");
        let dir = dir.path().join("wal");
        // The process ends without a word: that the last entry is committed is recorded nowhere.
        let last = on(backend, async {
            let (replicas, _) = open(&dir, 0).await.expect("opened");
            leads(&replicas, A).await;
            for _ in 0..9 {
                put(&replicas, A, 100).await;
            }
            put(&replicas, A, 100).await
        });
        on(backend, async {
            let (replicas, given) = open(&dir, last.0).await.expect("opened");
            let stats = replicas.group_stats(A).expect("it is here");
            assert!(stats.applied < last && stats.last >= last, "{stats:?}");
            assert!(stats.log_bytes > 1000, "{stats:?}");
            replicas.truncate(A, last);
            assert!(replicas.group_stats(A).expect("it is here").truncated < last, "not yet");
            leads(&replicas, A).await;
            // Its own entry, with which it began to lead, is behind.
            let stats = replicas.group_stats(A).expect("it is here");
            assert!(stats.applied > last && stats.truncated == last, "{stats:?}");
            assert_eq!(*given.borrow(), [], "it has them");
            let next = put(&replicas, A, 100).await;
            assert_eq!(*given.borrow(), [next]);
            replicas.close().await.expect("closed");
        });
        on(backend, async {
            let (replicas, given) = open(&dir, last.0).await.expect("opened");
            leads(&replicas, A).await;
            assert_eq!(given.borrow().len(), 1, "only what is behind comes again");
            replicas.close().await.expect("closed");
        });
    }
}

#[test]
fn a_node_alone_goes_on_behind_what_its_state_machine_has() {
    on_each(async |dir| {
        // Its log is lost.
        let (replicas, given) = open(dir, 50).await.expect("opened");
        leads(&replicas, A).await;
        let first = put(&replicas, A, 10).await;
        assert!(first > Index(50));
        assert_eq!(*given.borrow(), [first]);
        replicas.close().await.expect("closed");
        // Its log is an old copy.
        let (replicas, given) = open(dir, 1000).await.expect("opened");
        leads(&replicas, A).await;
        let second = put(&replicas, A, 10).await;
        assert!(second > Index(1000));
        assert_eq!(*given.borrow(), [second]);
        replicas.close().await.expect("closed");
        let (replicas, given) = open(dir, 1000).await.expect("opened");
        leads(&replicas, A).await;
        assert_eq!(*given.borrow(), [second], "it comes again");
        replicas.close().await.expect("closed");
    });
}

#[test]
fn a_new_group_of_several_has_nothing() {
    on_each(async |dir| {
        let (replicas, _) = open(dir, 0).await.expect("opened");
        let machine = machine(5, &Rc::default());
        let refused = replicas.found(GroupId(9), Members::voters([NODE, NodeId(2)]), machine);
        assert!(matches!(refused, Err(Error::Refused { group: GroupId(9), .. })), "{refused:?}");
        replicas.close().await.expect("closed");
    });
}

#[test]
fn a_log_whose_groups_were_not_replicated_is_refused() {
    on_each(async |dir| {
        let (log, _) = Log::open(small(dir)).await.expect("opened");
        let index = log.propose(A, "x").expect("taken");
        log.wait_committed(A, index).await.expect("committed");
        log.close().await.expect("closed");
        let refused = open(dir, 0).await.map(drop).expect_err("older").to_string();
        assert!(refused.contains("group 3") && refused.contains("empty folder"), "{refused}");
    });
}

/// A group may be turned away for itself while the log has room: whoever waits and tries again lets it go on all the same.
#[test]
fn who_waits_for_room_gets_it() {
    let dir = tempfile::tempdir().expect("a folder");
    on(Backend::Auto, async {
        let core = NodeCore::bind(&NodeOptions::new(NODE, 9), 1).expect("no address").remove(0);
        let make = || machine(0, &Rc::default());
        let log = replog::Options::new(dir.path().join("wal"));
        let replicas = Replicas::open(core, log, |_| make()).await.expect("opened");
        replicas.found(A, Members::voters([NODE]), make()).expect("founded");
        leads(&replicas, A).await;
        let (entry, mut last, mut turned_away) = (Bytes::from(vec![7; 1 << 20]), None, 0);
        for _ in 0..150 {
            last = loop {
                replicas.room_for(entry.len()).await.expect("open");
                match replicas.propose(A, entry.clone()) {
                    Ok(proposal) => break Some(proposal),
                    Err(Error::Full) => turned_away += 1,
                    Err(error) => panic!("{error}"),
                }
            };
        }
        let last = last.expect("proposed").applied().await.expect("applied");
        assert!(turned_away > 0, "there was more than fits");
        replicas.truncate(A, last);
        replicas.close().await.expect("closed");
    });
}

#[test]
fn it_is_known_who_keeps_the_oldest_segment() {
    on_each(async |dir| {
        let (replicas, _) = open(dir, 0).await.expect("opened");
        leads(&replicas, A).await;
        leads(&replicas, B).await;
        let idle = put(&replicas, B, 10).await;
        for _ in 0..100 {
            let last = put(&replicas, A, 10_000).await;
            replicas.truncate(A, last);
        }
        assert!(replicas.stats().segments > 2, "{:?}", replicas.stats());
        assert!(files(dir, ".wal").len() > 2);
        assert_eq!(replicas.holders(), [B]);
        assert!(replicas.group_stats(A).expect("here").log_bytes == 0);
        assert!(replicas.group_stats(B).expect("here").log_bytes > 0);
        replicas.truncate(B, idle);
        put(&replicas, A, 10).await;
        assert_eq!(replicas.holders(), []);
        assert!(replicas.stats().segments <= 2, "{:?}", replicas.stats());
        replicas.close().await.expect("closed");
    });
}
