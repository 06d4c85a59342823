//! Nodes that talk by mutual TLS: those of one CA agree, others get nowhere.

mod support;

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use replog::{
    Error, GroupId, Index, Members, Mutual, NodeCore, NodeId, NodeOptions, Question, Replicas, ask,
};
use runtime::sync::mailbox;
use runtime::time;
use support::{on_each, small, telling};
use tls::CertifiedFiles;

const GROUP: GroupId = GroupId(1);
/// For whatever must happen some time.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node of the CA in `ca`.
fn mutual(ca: &Path) -> Mutual {
    let ca = tls::dev::ensure(ca, &[]).expect("made");
    let files = CertifiedFiles { cert: ca.cert_pem, key: ca.key_pem };
    Mutual::from_pem(&[&ca.ca_pem], &files).expect("good files")
}

fn options(node: u64, tls: Option<Mutual>) -> NodeOptions {
    let mut options = NodeOptions::new(NodeId(node), 7);
    options.listen = Some("127.0.0.1:0".parse().expect("an address"));
    options.tick = Duration::from_millis(10);
    options.tls = tls;
    options
}

#[test]
fn nodes_with_certificates_agree() {
    on_each(async |dir| {
        let tls = mutual(&dir.join("ca"));
        let (mut nodes, mut addresses) = (Vec::new(), Vec::new());
        for node in 1..=2 {
            let core = NodeCore::bind(&options(node, Some(tls.clone())), 1).expect("bound").remove(0);
            addresses.push((NodeId(node), core.address().expect("it listens")));
            let log = small(&dir.join(node.to_string()));
            let replicas = Replicas::open(core, log, |_| unreachable!("no group")).await.expect("opened");
            let applied: Rc<Cell<Index>> = Rc::default();
            let given = applied.clone();
            let members = Members::voters([NodeId(1), NodeId(2)]);
            replicas.found(GROUP, members, telling(move |index, _| given.set(index))).expect("founded");
            nodes.push((replicas, applied));
        }
        for (replicas, _) in &nodes {
            addresses.iter().for_each(|(node, address)| replicas.set_peer(*node, address.clone()));
        }
        let agreed = async {
            let index = loop {
                let leader = nodes.iter().find(|(replicas, _)| replicas.role(GROUP).leads);
                if let Some((leader, _)) = leader
                    && let Ok(proposal) = leader.propose(GROUP, "both know")
                {
                    break proposal.applied().await.expect("two of two");
                }
                time::sleep(Duration::from_millis(5)).await;
            };
            for (replicas, applied) in &nodes {
                replicas.applied(GROUP, index).await;
                assert!(applied.get() >= index);
            }
        };
        time::timeout(PATIENCE, agreed).await.expect("in time");
        for (replicas, _) in nodes {
            replicas.close().await.expect("closed");
        }
    });
}

#[test]
fn strangers_are_not_answered() {
    on_each(async |dir| {
        let (ours, theirs) = (mutual(&dir.join("ours")), mutual(&dir.join("theirs")));
        let mut core = NodeCore::bind(&options(3, Some(ours.clone())), 1).expect("bound").remove(0);
        let address = core.address().expect("it listens");
        let (sender, questions) = mailbox::<Question>(10);
        core.answer_with(sender);
        let log = small(&dir.join("log"));
        let replicas = Replicas::open(core, log, |_| unreachable!("no group")).await.expect("opened");
        runtime::spawn(async move {
            let mut batch = Vec::new();
            while questions.recv_batch(&mut batch).await {
                batch.drain(..).for_each(|question| question.answer("here"));
            }
        });
        let answer = ask(&address, Some(&ours), 7, NodeId(1), b"?").await.expect("answered");
        assert_eq!(answer.bytes, "here");
        for stranger in [Some(&theirs), None] {
            let refused = ask(&address, stranger, 7, NodeId(1), b"?").await;
            assert!(matches!(refused, Err(Error::Unanswered { .. })), "{refused:?}");
        }
        replicas.close().await.expect("closed");
    });
}
