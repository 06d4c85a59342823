//! CreatePartitions (37): which partitions a topic gets.

use wire::kafka::ResponseError;
use wire::kafka::messages::BrokerId;
use wire::kafka::messages::create_partitions_request::CreatePartitionsTopic;

use super::Refusal;
use super::create_topics::check_assigned;
use crate::core::topics::{Replicas, Topics};

/// The replicas of the partitions that are to be added: as many as the topic's others have.
///
/// # Errors
/// What to answer for the topic.
pub fn plan(
    wanted: &CreatePartitionsTopic,
    topics: &Topics,
    partitions_max: usize,
    nodes: &[i32],
) -> Result<Vec<Replicas>, Refusal> {
    let Some(topic) = topics.get(&wanted.name) else {
        return Err(Refusal::new(ResponseError::UnknownTopicOrPartition, "no such topic"));
    };
    let has = topic.partitions.len() as i64;
    let more = i64::from(wanted.count) - has;
    if more <= 0 {
        let message = format!("the topic has {has} partitions, which can only become more");
        return Err(Refusal::new(ResponseError::InvalidPartitions, message));
    }
    if more > partitions_max.saturating_sub(topics.partitions()) as i64 {
        let message = format!("no more than {partitions_max} partitions in all");
        return Err(Refusal::new(ResponseError::PolicyViolation, message));
    }
    let factor = topic.replicas.first().map_or(1, Vec::len);
    let Some(assignments) = &wanted.assignments else {
        return Ok(topics.spread(more as u32, factor.min(nodes.len()), nodes));
    };
    let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Replicas>();
    let replicas: Vec<Replicas> = assignments.iter().map(|a| ids(&a.broker_ids)).collect();
    if replicas.len() as i64 != more || replicas.iter().any(|replicas| replicas.len() != factor) {
        let message = format!("an assignment names {factor} brokers for each new partition");
        return Err(Refusal::new(ResponseError::InvalidReplicaAssignment, message));
    }
    check_assigned(&replicas, nodes)
        .map_err(|message| Refusal::new(ResponseError::InvalidReplicaAssignment, message))?;
    Ok(replicas)
}
