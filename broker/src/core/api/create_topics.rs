//! CreateTopics (19): which topics of a request may be created, and the response.

use std::collections::BTreeSet;

use wire::kafka::messages::BrokerId;
use wire::kafka::messages::create_topics_request::CreatableTopic;
use wire::kafka::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use wire::kafka::{ResponseError, StrBytes};

use super::{Refusal, uuid};
use crate::core::topic_config::{self, Defaults, Overrides};
use crate::core::topics::{Replicas, Topic, Topics, validate_name};

/// Bounds on topics.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Partitions of a topic whose creator doesn't say.
    pub partitions_default: u32,
    /// Partitions in all.
    pub partitions_max: usize,
    /// Replicas of each partition of a topic whose creator doesn't say.
    pub replicas_default: usize,
}

/// What is to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The replicas of each partition.
    pub replicas: Vec<Replicas>,
    /// Its settings.
    pub overrides: Overrides,
}

/// Checks one topic of a request.
///
/// # Errors
/// What to answer for it.
pub fn plan(
    wanted: &CreatableTopic,
    topics: &Topics,
    defaults: &Defaults,
    bounds: Bounds,
    nodes: &[i32],
) -> Result<Plan, Refusal> {
    validate_name(&wanted.name).map_err(|e| Refusal::new(ResponseError::InvalidTopicException, e))?;
    if topics.get(&wanted.name).is_some() {
        let message = format!("Topic '{}' already exists.", &**wanted.name);
        return Err(Refusal::new(ResponseError::TopicAlreadyExists, message));
    }
    let room = bounds.partitions_max.saturating_sub(topics.partitions()) as i64;
    let replicas = if wanted.assignments.is_empty() {
        let factor = match wanted.replication_factor {
            -1 => bounds.replicas_default,
            factor => usize::try_from(factor).unwrap_or(0),
        };
        if !(1..=nodes.len()).contains(&factor) {
            let message =
                format!("replication factor must be from 1 to {}, as there are brokers", nodes.len());
            return Err(Refusal::new(ResponseError::InvalidReplicationFactor, message));
        }
        let partitions = match wanted.num_partitions {
            -1 => bounds.partitions_default,
            partitions if partitions < 1 => {
                let message = "a topic has at least one partition";
                return Err(Refusal::new(ResponseError::InvalidPartitions, message));
            }
            // More than there is room for are refused below.
            partitions => (partitions as u32).min(u32::try_from(room + 1).unwrap_or(u32::MAX)),
        };
        topics.spread(partitions, factor, nodes)
    } else {
        assigned(wanted, nodes)?
    };
    if replicas.len() as i64 > room {
        let message = format!("no more than {} partitions in all", bounds.partitions_max);
        return Err(Refusal::new(ResponseError::PolicyViolation, message));
    }
    let mut overrides = Overrides::new();
    for config in &wanted.configs {
        if let Some(value) = &config.value {
            topic_config::validate(&config.name, value, defaults)
                .map_err(|e| Refusal::new(ResponseError::InvalidConfig, e))?;
            overrides.insert(config.name.to_string(), value.to_string());
        }
    }
    Ok(Plan { replicas, overrides })
}

/// The partitions of a topic with an assignment of its own, which must be 0, 1, 2 … with as many brokers each.
fn assigned(wanted: &CreatableTopic, nodes: &[i32]) -> Result<Vec<Replicas>, Refusal> {
    let refuse = |message| Err(Refusal::new(ResponseError::InvalidReplicaAssignment, message));
    if wanted.num_partitions != -1 || wanted.replication_factor != -1 {
        let message = "partitions and replication factor must be -1 beside an assignment";
        return Err(Refusal::new(ResponseError::InvalidRequest, message));
    }
    let mut assignments: Vec<_> = wanted.assignments.iter().collect();
    assignments.sort_unstable_by_key(|a| a.partition_index);
    if assignments.iter().zip(0..).any(|(a, expected)| a.partition_index != expected) {
        return refuse("partitions must be 0, 1, 2 … without gaps");
    }
    let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Replicas>();
    let replicas: Vec<Replicas> = assignments.iter().map(|a| ids(&a.broker_ids)).collect();
    match check_assigned(&replicas, nodes) {
        Ok(()) => Ok(replicas),
        Err(message) => refuse(message),
    }
}

/// Whether each partition has as many replicas as the first, on different brokers that there are.
///
/// # Errors
/// What to tell the client.
pub(super) fn check_assigned(replicas: &[Replicas], nodes: &[i32]) -> Result<(), &'static str> {
    let count = replicas.first().map_or(0, Vec::len);
    for replicas in replicas {
        let distinct: BTreeSet<i32> = replicas.iter().copied().collect();
        if replicas.is_empty() || distinct.len() != replicas.len() || replicas.len() != count {
            return Err("each partition has as many replicas, at least one, on different brokers");
        }
        if distinct.iter().any(|node| !nodes.contains(node)) {
            return Err("an assignment names a broker that there is not");
        }
    }
    Ok(())
}

/// The result for a topic that was created, or would be.
#[must_use]
pub fn created(topic: &Topic, defaults: &Defaults) -> CreatableTopicResult {
    let configs = topic_config::settings(&topic.overrides, defaults)
        .into_iter()
        .map(|s| {
            CreatableTopicConfigs::default()
                .with_name(StrBytes::from_static_str(s.name))
                .with_value(Some(StrBytes::from_string(s.value)))
                .with_config_source(if s.overridden { 1 } else { 5 })
        })
        .collect();
    CreatableTopicResult::default()
        .with_name(wire::kafka::messages::TopicName(StrBytes::from_string(topic.name.clone())))
        .with_topic_id(uuid(topic.id))
        .with_num_partitions(topic.partitions.len() as i32)
        .with_replication_factor(topic.replicas.first().map_or(1, Vec::len) as i16)
        .with_configs(Some(configs))
}

/// The result for a topic that was not.
#[must_use]
pub fn refused(wanted: &CreatableTopic, refusal: &Refusal) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(wanted.name.clone())
        .with_error_code(refusal.error.code())
        .with_error_message(Some(refusal.text()))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_configs(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::kafka::messages::TopicName;
    use wire::kafka::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopicConfig};

    const DEFAULTS: Defaults = Defaults {
        retention_ms: 1,
        retention_bytes: -1,
        segment_bytes: 1 << 28,
        segment_ms: 1,
        message_bytes_max: 1 << 20,
        message_bytes_limit: 1 << 20,
    };
    const BOUNDS: Bounds = Bounds { partitions_default: 3, partitions_max: 10, replicas_default: 1 };

    fn wanted(name: &'static str, partitions: i32, replicas: i16) -> CreatableTopic {
        CreatableTopic::default()
            .with_name(TopicName(StrBytes::from_static_str(name)))
            .with_num_partitions(partitions)
            .with_replication_factor(replicas)
    }

    #[test]
    fn each_fault_has_its_error() {
        let mut topics = Topics::default();
        topics.apply(&topics.create("old", vec![vec![1]], Overrides::new(), [0, 1]));
        let error = |w: &CreatableTopic| plan(w, &topics, &DEFAULTS, BOUNDS, &[1, 2]).map_err(|r| r.error);
        assert_eq!(error(&wanted("a b", 1, 1)), Err(ResponseError::InvalidTopicException));
        assert_eq!(error(&wanted("old", 1, 1)), Err(ResponseError::TopicAlreadyExists));
        assert_eq!(error(&wanted("new", 0, 1)), Err(ResponseError::InvalidPartitions));
        assert_eq!(error(&wanted("new", 10, 1)), Err(ResponseError::PolicyViolation));
        assert_eq!(error(&wanted("new", 1, 3)), Err(ResponseError::InvalidReplicationFactor));
        assert_eq!(error(&wanted("new", -1, -1)).map(|p| p.replicas.len()), Ok(3));
        let config = CreatableTopicConfig::default()
            .with_name(StrBytes::from_static_str("cleanup.policy"))
            .with_value(Some(StrBytes::from_static_str("compact")));
        assert_eq!(error(&wanted("new", 1, 1).with_configs(vec![config])), Err(ResponseError::InvalidConfig));
        let place = |index, brokers: usize| {
            CreatableReplicaAssignment::default()
                .with_partition_index(index)
                .with_broker_ids(vec![wire::kafka::messages::BrokerId(1); brokers])
        };
        let two = wanted("new", -1, -1).with_assignments(vec![place(1, 1), place(0, 1)]);
        assert_eq!(error(&two).map(|p| p.replicas.len()), Ok(2));
        assert_eq!(error(&wanted("new", 2, 2)).map(|p| p.replicas), Ok(vec![vec![2, 1], vec![1, 2]]));
        let twice = wanted("new", -1, -1).with_assignments(vec![place(0, 2)]);
        assert_eq!(error(&twice), Err(ResponseError::InvalidReplicaAssignment));
        let gap = wanted("new", -1, -1).with_assignments(vec![place(1, 1)]);
        assert_eq!(error(&gap), Err(ResponseError::InvalidReplicaAssignment));
    }
}
