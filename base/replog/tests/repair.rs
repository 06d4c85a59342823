//! A damaged log of replicated groups: what the others have comes back by itself; what only this node may have is refused,
//! and nothing is changed.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use replog::{Error, GroupId, Members, NodeCore, NodeId, NodeOptions, Replicas, StateMachine, Term};
use support::{damage, on_each, small, telling};

const ALONE: GroupId = GroupId(1);
const SHARED: GroupId = GroupId(2);
const NODE: NodeId = NodeId(1);

/// A state machine that forgets everything.
fn nothing() -> Box<dyn StateMachine> {
    telling(|_, _| ())
}

async fn open(dir: &Path) -> Result<Replicas, Error> {
    let core = NodeCore::bind(&NodeOptions::new(NODE, 9), 1).expect("no address").remove(0);
    Replicas::open(core, small(dir), |_| nothing()).await
}

/// A log with a group of these voters, and something behind it in batches of its own.
async fn written(dir: &Path, voters: &[u64]) {
    let replicas = open(dir).await.expect("opened");
    let members = Members::voters(voters.iter().copied().map(NodeId));
    replicas.found(SHARED, members, nothing()).expect("founded");
    // Groups that come and go write a batch each, whether anybody else is there or not.
    for number in 10..20 {
        let group = GroupId(number);
        replicas.found(group, Members::voters([NODE]), nothing()).expect("founded");
        replicas.forget(group).await.expect("forgotten");
    }
    replicas.close().await.expect("closed");
}

/// Every file in the folder.
fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(dir).expect("there").map(|file| file.expect("a file").path());
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    files.map(|path| (name(&path), std::fs::read(&path).unwrap_or_default())).collect()
}

async fn is_refused(dir: &Path, why: &str) {
    let before = content(dir);
    let refused = open(dir).await.map(drop).expect_err(why).to_string();
    assert!(refused.contains("damaged at byte") && refused.contains("--accept-loss"), "{why}: {refused}");
    assert!(content(dir) == before, "{why}: nothing was changed");
}

#[test]
fn what_a_majority_of_others_has_is_cut_and_waits_for_them() {
    on_each(async |dir| {
        written(dir, &[1, 2, 3]).await;
        damage(dir, |batches| batches / 2).await;
        let replicas = open(dir).await.expect("repaired");
        assert!(content(dir).contains_key("damaged") && content(dir).contains_key("CUT"));
        let new_term = async {
            // Founded in term 1: this is one in which it has said nothing.
            while replicas.role(SHARED).term < Term(2) {
                runtime::time::sleep(Duration::from_millis(1)).await;
            }
        };
        runtime::time::timeout(Duration::from_secs(10), new_term).await.expect("soon");
        assert!(!replicas.role(SHARED).leads);
        replicas.close().await.expect("closed");
        assert!(content(dir).contains_key("CUT"), "later starts know of it too");
    });
}

#[test]
fn what_only_this_node_may_have_is_refused() {
    on_each(async |dir| {
        written(dir, &[1]).await;
        damage(dir, |batches| batches / 2).await;
        is_refused(dir, "alone").await;
    });
    on_each(async |dir| {
        written(dir, &[1, 2]).await;
        damage(dir, |batches| batches / 2).await;
        is_refused(dir, "the other has no majority").await;
    });
    on_each(async |dir| {
        written(dir, &[1, 2, 3]).await;
        let replicas = open(dir).await.expect("opened");
        replicas.found(ALONE, Members::voters([NODE]), nothing()).expect("founded");
        replicas.close().await.expect("closed");
        damage(dir, |batches| batches / 2).await;
        is_refused(dir, "one of two is alone").await;
    });
    on_each(async |dir| {
        written(dir, &[1, 2, 3]).await;
        damage(dir, |batches| batches / 2).await;
        std::fs::remove_file(dir.join("VOTES")).expect("there");
        is_refused(dir, "what it has promised is lost").await;
    });
}
