//! Metadata (3): brokers, topics, who leads what.

use wire::kafka::messages::metadata_request::MetadataRequestTopic;
use wire::kafka::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use wire::kafka::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use wire::kafka::{ResponseError, StrBytes};

use super::{Identity, LEADER_EPOCH, OPERATIONS_UNKNOWN, uuid};
use crate::core::topics::{Topic, Topics, validate_name};

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

/// The answer. All topics are meant by null, and by an empty list in version 0; one named twice is described once, as by
/// Kafka.
#[must_use]
pub fn answer(
    request: &MetadataRequest,
    version: i16,
    topics: &Topics,
    broker: &Identity,
) -> MetadataResponse {
    let all = match &request.topics {
        None => true,
        Some(named) => version == 0 && named.is_empty(),
    };
    let described = if all {
        let mut all: Vec<_> = topics.iter().map(|t| describe(t, broker)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    } else {
        let named = super::once(request.topics.iter().flatten(), |named| (&named.name, named.topic_id));
        named.map(|named| find(named, version, topics, broker)).collect()
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
    broker: &Identity,
) -> MetadataResponseTopic {
    let failed = |error: ResponseError, name: Option<TopicName>| {
        MetadataResponseTopic::default()
            .with_error_code(error.code())
            .with_name(name)
            .with_topic_id(named.topic_id)
            .with_topic_authorized_operations(OPERATIONS_UNKNOWN)
    };
    let Some(name) = &named.name else {
        let (high, low) = named.topic_id.as_u64_pair();
        return match topics.by_id([high, low]) {
            Some(topic) => describe(topic, broker),
            // Before version 12 a name is never null.
            None => failed(ResponseError::UnknownTopicId, (version < 12).then(TopicName::default)),
        };
    };
    match topics.get(name) {
        Some(topic) => describe(topic, broker),
        None if validate_name(name).is_err() => {
            failed(ResponseError::InvalidTopicException, Some(name.clone()))
        }
        None => failed(ResponseError::UnknownTopicOrPartition, Some(name.clone())),
    }
}

fn describe(topic: &Topic, broker: &Identity) -> MetadataResponseTopic {
    let node = BrokerId(broker.node_id);
    let partition = |index: i32| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(node)
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![node])
            .with_isr_nodes(vec![node])
    };
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.clone()))))
        .with_topic_id(uuid(topic.id))
        .with_partitions((0..topic.partitions.len() as i32).map(partition).collect())
        .with_topic_authorized_operations(OPERATIONS_UNKNOWN)
}
