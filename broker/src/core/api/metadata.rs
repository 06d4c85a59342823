//! Metadata (3): brokers, topics, who leads what.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use wire::kafka::messages::metadata_request::MetadataRequestTopic;
use wire::kafka::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use wire::kafka::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use wire::kafka::{ResponseError, StrBytes};

use super::{Identity, Node, OPERATIONS_UNKNOWN, uuid};
use crate::core::topics::{Replicas, Topic, Topics, validate_name};

/// Who leads a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Led {
    /// The node, if one is known.
    pub leader: Option<i32>,
    /// Its leader epoch.
    pub epoch: i32,
}

/// What this node knows of the cluster.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Who leads partitions, by uid.
    pub leaders: HashMap<u64, Led>,
    /// Nodes that are heard. A replica on one of them counts as in sync: it has what is committed, or gets it.
    pub alive: BTreeSet<i32>,
    /// Who leads the topic table.
    pub controller: Option<i32>,
}

/// The topics that a request asks for and that there are. All topics are meant by null, and by an empty list in version 0.
#[must_use]
pub fn asked(request: &MetadataRequest, version: i16, topics: &Topics) -> Vec<Arc<Topic>> {
    match &request.topics {
        None => topics.iter().cloned().collect(),
        Some(named) if version == 0 && named.is_empty() => topics.iter().cloned().collect(),
        Some(named) => named.iter().filter_map(|named| known(named, topics).cloned()).collect(),
    }
}

fn known<'a>(named: &MetadataRequestTopic, topics: &'a Topics) -> Option<&'a Arc<Topic>> {
    match &named.name {
        Some(name) => topics.get(name),
        None => topics.by_id(named.topic_id.as_u64_pair().into()),
    }
}

/// The topics a request names that don't exist and may be created for it.
#[must_use]
pub fn missing(request: &MetadataRequest, version: i16, topics: &Topics, auto_create: bool) -> Vec<String> {
    let allowed = auto_create && (version < 4 || request.allow_auto_topic_creation);
    let named = request.topics.as_deref().filter(|_| allowed).unwrap_or_default();
    let names = named.iter().filter_map(|t| t.name.as_ref());
    let mut missing: Vec<String> = names
        .filter(|name| topics.get(name).is_none() && validate_name(name).is_ok())
        .map(|name| name.to_string())
        .collect();
    missing.sort();
    missing.dedup();
    missing
}

/// The answer. A topic that is named twice is described once, as by Kafka.
#[must_use]
pub fn answer(
    request: &MetadataRequest,
    version: i16,
    topics: &Topics,
    view: &View,
    broker: &Identity,
) -> MetadataResponse {
    let all = match &request.topics {
        None => true,
        Some(named) => version == 0 && named.is_empty(),
    };
    let described = if all {
        let mut all: Vec<_> = topics.iter().map(|t| describe(t, view)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    } else {
        let named = super::once(request.topics.iter().flatten(), |named| (&named.name, named.topic_id));
        named.map(|named| find(named, version, topics, view)).collect()
    };
    let node = |node: &Node| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(node.id))
            .with_host(node.host.clone())
            .with_port(i32::from(node.port))
    };
    MetadataResponse::default()
        .with_brokers(broker.nodes.iter().map(node).collect())
        .with_cluster_id(Some(broker.cluster_id.clone()))
        .with_controller_id(BrokerId(view.controller.unwrap_or(-1)))
        .with_topics(described)
        .with_cluster_authorized_operations(OPERATIONS_UNKNOWN)
}

fn find(named: &MetadataRequestTopic, version: i16, topics: &Topics, view: &View) -> MetadataResponseTopic {
    let failed = |error: ResponseError, name: Option<TopicName>| {
        MetadataResponseTopic::default()
            .with_error_code(error.code())
            .with_name(name)
            .with_topic_id(named.topic_id)
            .with_topic_authorized_operations(OPERATIONS_UNKNOWN)
    };
    match (known(named, topics), &named.name) {
        (Some(topic), _) => describe(topic, view),
        // Before version 12 a name is never null.
        (None, None) => failed(ResponseError::UnknownTopicId, (version < 12).then(TopicName::default)),
        (None, Some(name)) if validate_name(name).is_err() => {
            failed(ResponseError::InvalidTopicException, Some(name.clone()))
        }
        (None, Some(name)) => failed(ResponseError::UnknownTopicOrPartition, Some(name.clone())),
    }
}

fn describe(topic: &Topic, view: &View) -> MetadataResponseTopic {
    let ids = |nodes: &mut dyn Iterator<Item = &i32>| nodes.map(|id| BrokerId(*id)).collect::<Vec<_>>();
    let partition = |(index, (uid, replicas)): (i32, (&u64, &Replicas))| {
        let led = view.leaders.get(uid);
        let alive = |id: &&i32| view.alive.contains(*id);
        let leader = led.and_then(|led| led.leader);
        let error = leader.map_or(ResponseError::LeaderNotAvailable.code(), |_| 0);
        MetadataResponsePartition::default()
            .with_error_code(error)
            .with_partition_index(index)
            .with_leader_id(BrokerId(leader.unwrap_or(-1)))
            .with_leader_epoch(led.map_or(-1, |led| led.epoch))
            .with_replica_nodes(ids(&mut replicas.iter()))
            .with_isr_nodes(ids(&mut replicas.iter().filter(alive)))
            .with_offline_replicas(ids(&mut replicas.iter().filter(|id| !alive(id))))
    };
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.clone()))))
        .with_topic_id(uuid(topic.id))
        .with_partitions((0..).zip(topic.partitions.iter().zip(&topic.replicas)).map(partition).collect())
        .with_topic_authorized_operations(OPERATIONS_UNKNOWN)
}
