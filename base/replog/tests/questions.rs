//! Questions to a node, from who belongs to no cluster yet, from its own cluster and from another.

mod support;

use replog::{Error, NodeCore, NodeId, NodeOptions, Question, Replicas, ask, limits};
use runtime::sync::mailbox;
use support::{on_each, small};

#[test]
fn whoever_belongs_here_or_nowhere_is_answered() {
    on_each(async |dir| {
        let mut options = NodeOptions::new(NodeId(3), 7);
        options.listen = Some("127.0.0.1:0".parse().expect("an address"));
        let mut core = NodeCore::bind(&options, 1).expect("bound").pop().expect("one");
        let address = core.address().expect("it listens");
        let (sender, questions) = mailbox::<Question>(10);
        core.answer_with(sender);
        let replicas = Replicas::open(core, small(dir), |_| unreachable!("no group")).await.expect("opened");
        runtime::spawn(async move {
            let mut batch = Vec::new();
            while questions.recv_batch(&mut batch).await {
                for question in batch.drain(..).filter(|question| !question.bytes.is_empty()) {
                    let said = [&question.from.0.to_le_bytes()[..], &question.bytes].concat();
                    question.answer(said);
                }
            }
        });
        for (cluster, from) in [(0, NodeId(0)), (7, NodeId(4)), (7, NodeId(3))] {
            let large = vec![b'q'; limits::QUESTION_BYTES_MAX];
            let answer = ask(&address, None, cluster, from, &large).await.expect("answered");
            assert_eq!((answer.cluster, answer.node), (7, NodeId(3)));
            assert_eq!(answer.bytes, [&from.0.to_le_bytes()[..], &large].concat());
        }
        let other = ask(&address, None, 8, NodeId(4), b"?").await;
        let Err(Error::Stranger { why, .. }) = other else { panic!("{other:?}") };
        assert!(why.contains("cluster 0000000000000007"), "{why}");
        let unanswered = ask(&address, None, 7, NodeId(4), b"").await;
        assert!(matches!(unanswered, Err(Error::Unanswered { asked: true, .. })), "{unanswered:?}");
        let too_large = ask(&address, None, 7, NodeId(4), &vec![0; limits::QUESTION_BYTES_MAX + 1]).await;
        assert!(matches!(too_large, Err(Error::Unanswered { .. })), "{too_large:?}");
        let nobody = ask(&"127.0.0.1:1".parse().expect("an address"), None, 7, NodeId(4), b"?").await;
        assert!(matches!(nobody, Err(Error::Unanswered { asked: false, .. })), "{nobody:?}");
        replicas.close().await.expect("closed");
    });
}
