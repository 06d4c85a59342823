//! Metadata (3): brokers, topics, who leads what.

use std::collections::HashMap;
use std::sync::Arc;

use wire::kafka::messages::metadata_request::MetadataRequestTopic;
use wire::kafka::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use wire::kafka::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use wire::kafka::{ResponseError, StrBytes};

use super::{Identity, OPERATIONS_UNKNOWN, uuid};
use crate::core::topics::{Topic, Topics, validate_name};

/// Who leads a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Led {
    /// The node, if one is known.
    pub leader: Option<i32>,
    /// Its leader epoch.
    pub epoch: i32,
}

/// Who leads partitions, by uid.
pub type Leaders = HashMap<u64, Led>;

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
    leaders: &Leaders,
    broker: &Identity,
) -> MetadataResponse {
    let all = match &request.topics {
        None => true,
        Some(named) => version == 0 && named.is_empty(),
    };
    let described = if all {
        let mut all: Vec<_> = topics.iter().map(|t| describe(t, leaders, broker)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    } else {
        let named = super::once(request.topics.iter().flatten(), |named| (&named.name, named.topic_id));
        named.map(|named| find(named, version, topics, leaders, broker)).collect()
    };
    let node = MetadataResponseBroker::default()
        .with_node_id(BrokerId(broker.node_id))
        .with_host(broker.host.clone())
        .with_port(i32::from(broker.port));
    MetadataResponse::default()
        .with_brokers(vec![node])
        .with_cluster_id(Some(broker.cluster_id.clone()))
        .with_controller_id(BrokerId(broker.node_id))
        .with_topics(described)
        .with_cluster_authorized_operations(OPERATIONS_UNKNOWN)
}

fn find(
    named: &MetadataRequestTopic,
    version: i16,
    topics: &Topics,
    leaders: &Leaders,
    broker: &Identity,
) -> MetadataResponseTopic {
    let failed = |error: ResponseError, name: Option<TopicName>| {
        MetadataResponseTopic::default()
            .with_error_code(error.code())
            .with_name(name)
            .with_topic_id(named.topic_id)
            .with_topic_authorized_operations(OPERATIONS_UNKNOWN)
    };
    match (known(named, topics), &named.name) {
        (Some(topic), _) => describe(topic, leaders, broker),
        // Before version 12 a name is never null.
        (None, None) => failed(ResponseError::UnknownTopicId, (version < 12).then(TopicName::default)),
        (None, Some(name)) if validate_name(name).is_err() => {
            failed(ResponseError::InvalidTopicException, Some(name.clone()))
        }
        (None, Some(name)) => failed(ResponseError::UnknownTopicOrPartition, Some(name.clone())),
    }
}

fn describe(topic: &Topic, leaders: &Leaders, broker: &Identity) -> MetadataResponseTopic {
    let node = BrokerId(broker.node_id);
    let partition = |(index, uid): (i32, &u64)| {
        let led = leaders.get(uid);
        let leader = led.and_then(|led| led.leader);
        let error = leader.map_or(ResponseError::LeaderNotAvailable.code(), |_| 0);
        MetadataResponsePartition::default()
            .with_error_code(error)
            .with_partition_index(index)
            .with_leader_id(BrokerId(leader.unwrap_or(-1)))
            .with_leader_epoch(led.map_or(-1, |led| led.epoch))
            .with_replica_nodes(vec![node])
            .with_isr_nodes(vec![node])
    };
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.clone()))))
        .with_topic_id(uuid(topic.id))
        .with_partitions((0..).zip(&topic.partitions).map(partition).collect())
        .with_topic_authorized_operations(OPERATIONS_UNKNOWN)
}
