//! Three brokers: topics on all of them, leaders that go and come, and what is committed stays.

mod support;

use std::net::TcpListener;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use broker::{Cluster, Config, Node};
use support::*;
use wire::kafka::messages::*;
use wire::kafka::{ResponseError, batch};

/// Three nodes on free ports, each in a folder of its own.
struct Nodes {
    // They end before their folder goes.
    running: Vec<Option<Broker>>,
    folder: tempfile::TempDir,
    listen: Vec<String>,
    nodes: Vec<Node>,
    _one: MutexGuard<'static, ()>,
}

/// One cluster at a time: each has a core for every thread that a small machine has, and elections want to be heard.
static ONE: Mutex<()> = Mutex::new(());

/// For whatever must happen some time.
const PATIENCE: Duration = Duration::from_secs(60);

impl Nodes {
    fn start() -> Self {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        // All bound at once, so that they differ.
        let taken: Vec<TcpListener> = (0..6).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let address = |at: usize| taken[at].local_addr().unwrap();
        let node = |id: i32| Node {
            id,
            peer: address(id as usize + 2).to_string(),
            host: "127.0.0.1".into(),
            port: address(id as usize - 1).port(),
        };
        let mut nodes = Self {
            folder: tempfile::tempdir().unwrap(),
            listen: (0..3).map(|at| address(at).to_string()).collect(),
            nodes: (1..=3).map(node).collect(),
            running: (0..3).map(|_| None).collect(),
            _one: one,
        };
        drop(taken);
        for id in 1..=3 {
            nodes.begin(id);
        }
        nodes
    }

    fn config(&self, id: i32) -> Config {
        let data = self.folder.path().join(id.to_string());
        Config {
            listen: self.listen[id as usize - 1].clone(),
            cluster: Some(Cluster { name: "test".into(), node: id, nodes: self.nodes.clone() }),
            ..config(Path::new(&data))
        }
    }

    fn begin(&mut self, id: i32) {
        self.running[id as usize - 1] = Some(Broker::start(self.config(id)));
    }

    fn end(&mut self, id: i32) {
        self.running[id as usize - 1].take().unwrap().stop();
    }

    fn client(&self, id: i32) -> Client {
        self.running[id as usize - 1].as_ref().unwrap().client()
    }

    fn up(&self) -> Vec<i32> {
        (1..=3).filter(|id| self.running[*id as usize - 1].is_some()).collect()
    }

    /// Metadata of a topic, from any node that is up.
    fn metadata(&self, topic: &str) -> MetadataResponse {
        let named = metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
        let request =
            MetadataRequest::default().with_topics(Some(vec![named])).with_allow_auto_topic_creation(false);
        self.client(self.up()[0]).call(12, &request)
    }

    /// Who leads a partition, once a node that is up does.
    fn leader(&self, topic: &str) -> (i32, i32) {
        wait("a leader", || {
            let metadata = self.metadata(topic);
            let partition = metadata.topics[0].partitions.first()?.clone();
            let leader = partition.leader_id.0;
            self.up().contains(&leader).then_some((leader, partition.leader_epoch))
        })
    }

    /// Produces wherever the leader is, as clients do.
    fn produce(&self, topic: &str, records: &[u8]) -> i64 {
        wait("a produce", || {
            let (leader, _) = self.leader(topic);
            match self.client(leader).produce(topic, 0, records.to_vec()) {
                Ok(offset) => Some(offset),
                Err(error) => again(error),
            }
        })
    }

    /// The values in a topic, read from wherever the leader is.
    fn values(&self, topic: &str) -> Vec<Vec<u8>> {
        let mut values = Vec::new();
        loop {
            let next = values.len() as i64;
            let fetched = wait("a fetch", || {
                let (leader, _) = self.leader(topic);
                let response = self.client(leader).call(11, &fetch_request(topic, 0, next, 0, 1 << 20));
                let partition = &response.responses[0].partitions[0];
                match error(partition.error_code) {
                    None => Some(values_of(partition.records.clone().unwrap_or_default(), next)),
                    Some(error) => again(error),
                }
            });
            if fetched.is_empty() {
                return values;
            }
            values.extend(fetched.into_iter().map(|(_, value)| value));
        }
    }
}

/// What clients try again: the leader is another by now, or does not know of the topic yet.
fn again<T>(error: ResponseError) -> Option<T> {
    let passing = [
        ResponseError::NotLeaderOrFollower,
        ResponseError::NotEnoughReplicasAfterAppend,
        ResponseError::UnknownTopicOrPartition,
    ];
    assert!(passing.contains(&error), "{error:?}");
    None
}

fn wait<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = runtime::time::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(runtime::time::now() < deadline, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

fn create(nodes: &Nodes, name: &str) {
    let topic = create_topics_request::CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(1)
        .with_replication_factor(-1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(5000);
    let mut refused = 0;
    wait("a controller", || {
        for id in nodes.up() {
            let response = nodes.client(id).call(5, &request);
            match error(response.topics[0].error_code) {
                None => {
                    assert_eq!(response.topics[0].replication_factor, 3);
                    return Some(());
                }
                Some(ResponseError::NotController) => refused += 1,
                Some(other) => panic!("{other:?}: {:?}", response.topics[0].error_message),
            }
        }
        None
    });
}

#[test]
fn a_topic_outlives_its_leaders() {
    let mut nodes = Nodes::start();
    create(&nodes, "t");
    let metadata = nodes.metadata("t");
    assert_eq!(metadata.brokers.iter().map(|b| b.node_id.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(metadata.topics[0].partitions[0].replica_nodes.len(), 3);
    wait("a controller", || nodes.up().contains(&nodes.metadata("t").controller_id.0).then_some(()));

    let mut sent: Vec<Vec<u8>> = Vec::new();
    let mut epochs: Vec<(i32, i64)> = Vec::new();
    for round in 0..4 {
        let (leader, epoch) = nodes.leader("t");
        for number in 0..20 {
            let value = format!("{round}.{number}").into_bytes();
            assert_eq!(nodes.produce("t", &batch_of(&[&value])), sent.len() as i64);
            sent.push(value);
        }
        epochs.push((epoch, sent.len() as i64));
        let follower = nodes.up().into_iter().find(|id| *id != leader).unwrap();
        let refused = nodes.client(follower).produce("t", 0, batch_of(&[b"x"]));
        assert_eq!(refused, Err(ResponseError::NotLeaderOrFollower));
        let fetched = nodes.client(follower).call(11, &fetch_request("t", 0, 0, 0, 1 << 20));
        let code = error(fetched.responses[0].partitions[0].error_code);
        assert_eq!(code, Some(ResponseError::NotLeaderOrFollower));
        assert_eq!(nodes.values("t"), sent);
        if round < 3 {
            nodes.end(leader);
            assert_eq!(nodes.values("t"), sent, "the others have it");
            nodes.begin(leader);
        }
    }
    // Each epoch ended where the next began, in the view of whoever leads now.
    let (leader, current) = nodes.leader("t");
    for (epoch, end) in epochs {
        let partition = offset_for_leader_epoch_request::OffsetForLeaderPartition::default()
            .with_current_leader_epoch(current)
            .with_leader_epoch(epoch);
        let topic = offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
            .with_topic(topic_name("t"))
            .with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
        let answer = nodes.client(leader).call(3, &request).topics[0].partitions[0].clone();
        assert_eq!((answer.error_code, answer.leader_epoch, answer.end_offset), (0, epoch, end));
    }
}

#[test]
fn a_producer_that_repeats_itself_at_the_next_leader_is_heard_once() {
    let mut nodes = Nodes::start();
    create(&nodes, "t");
    let id = wait("a producer id", || {
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        let answer = nodes.client(2).call(3, &request);
        (answer.error_code == 0).then_some(answer.producer_id.0)
    });
    let numbered = |sequence: i32| {
        let value = sequence.to_string();
        let producer = batch::Producer { id, epoch: 0, base_sequence: sequence };
        batch::build(&[(1, value.as_bytes())], Some(producer))
    };
    for sequence in 0..5 {
        assert_eq!(nodes.produce("t", &numbered(sequence)), i64::from(sequence));
    }
    let (leader, _) = nodes.leader("t");
    nodes.end(leader);
    assert_eq!(nodes.produce("t", &numbered(4)), 4, "it is there already");
    assert_eq!(nodes.produce("t", &numbered(5)), 5);
    assert_eq!(nodes.values("t").len(), 6);
}

#[test]
fn who_was_away_for_long_gets_a_snapshot() {
    let mut nodes = Nodes::start();
    create(&nodes, "t");
    nodes.produce("t", &batch_of(&[b"first"]));
    let (leader, _) = nodes.leader("t");
    let away = nodes.up().into_iter().find(|id| *id != leader).unwrap();
    nodes.end(away);
    // More than a group keeps in memory for those that are behind.
    let value = vec![7; 500_000];
    for _ in 0..40 {
        nodes.produce("t", &batch_of(&[&value, b"mark"]));
    }
    nodes.begin(away);
    // The one that has everything goes; the one that was away is needed for a majority.
    let other = nodes.up().into_iter().find(|id| *id != leader && *id != away).unwrap();
    wait("the one that was away to hold everything", || {
        let folders =
            std::fs::read_dir(nodes.folder.path().join(away.to_string()).join("partitions")).ok()?;
        let bytes: u64 = folders
            .filter_map(|folder| std::fs::read_dir(folder.ok()?.path()).ok())
            .flatten()
            .filter_map(|file| Some(file.ok()?.metadata().ok()?.len()))
            .sum();
        (bytes > 40 * 500_000).then_some(())
    });
    nodes.end(other);
    nodes.produce("t", &batch_of(&[b"last"]));
    nodes.begin(other);
    nodes.end(leader);
    let values = nodes.values("t");
    assert_eq!((values.len(), &values[0][..], &values[81][..]), (82, &b"first"[..], &b"last"[..]));
}

#[test]
fn groups_and_their_offsets_outlive_their_coordinator() {
    let mut nodes = Nodes::start();
    create(&nodes, "t");
    let coordinator = |nodes: &Nodes| {
        wait("a coordinator", || {
            let request = FindCoordinatorRequest::default().with_key(text("g"));
            let answer = nodes.client(nodes.up()[0]).call(3, &request);
            nodes.up().contains(&answer.node_id.0).then_some(answer.node_id.0)
        })
    };
    let commit = |offset: i64| {
        let partition =
            offset_commit_request::OffsetCommitRequestPartition::default().with_committed_offset(offset);
        let topic = offset_commit_request::OffsetCommitRequestTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition]);
        OffsetCommitRequest::default()
            .with_group_id(GroupId(text("g")))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic])
    };
    for offset in 1..4 {
        let node = coordinator(&nodes);
        wait("a commit", || {
            let answer = nodes.client(coordinator(&nodes)).call(7, &commit(offset));
            (answer.topics[0].partitions[0].error_code == 0).then_some(())
        });
        nodes.end(node);
        let fetched = wait("the offset", || {
            let topic = offset_fetch_request::OffsetFetchRequestTopic::default()
                .with_name(topic_name("t"))
                .with_partition_indexes(vec![0]);
            let request = OffsetFetchRequest::default()
                .with_group_id(GroupId(text("g")))
                .with_topics(Some(vec![topic]));
            let answer = nodes.client(coordinator(&nodes)).call(7, &request);
            (answer.error_code == 0).then(|| answer.topics[0].partitions[0].committed_offset)
        });
        assert_eq!(fetched, offset);
        nodes.begin(node);
    }
}
