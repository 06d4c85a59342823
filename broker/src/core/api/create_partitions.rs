//! CreatePartitions (37): how many a topic gets.

use wire::kafka::ResponseError;
use wire::kafka::messages::create_partitions_request::CreatePartitionsTopic;

use super::Refusal;
use crate::core::topics::Topics;

/// How many partitions are to be added.
///
/// # Errors
/// What to answer for the topic.
pub fn plan(wanted: &CreatePartitionsTopic, topics: &Topics, partitions_max: usize) -> Result<u32, Refusal> {
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
    if let Some(assignments) = &wanted.assignments
        && (assignments.len() as i64 != more || assignments.iter().any(|a| a.broker_ids.len() != 1))
    {
        let message = "an assignment names one broker for each new partition";
        return Err(Refusal::new(ResponseError::InvalidReplicaAssignment, message));
    }
    Ok(more as u32)
}
