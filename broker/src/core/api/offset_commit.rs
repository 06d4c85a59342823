//! OffsetCommit (8): which offsets of a request are stored, and the response.

use wire::kafka::ResponseError;
use wire::kafka::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use wire::kafka::messages::{OffsetCommitRequest, OffsetCommitResponse};

use crate::core::group::Identity;
use crate::core::offsets::{Committed, METADATA_BYTES_MAX, Place};
use crate::core::topics::Topics;

/// Who commits.
#[must_use]
pub fn identity(request: &OffsetCommitRequest) -> Identity {
    Identity {
        group: request.group_id.0.clone(),
        member_id: request.member_id.clone(),
        instance_id: request.group_instance_id.clone(),
        generation: request.generation_id_or_member_epoch,
    }
}

/// What is to be stored, and the error code of each partition in the order of the request.
#[must_use]
pub fn plan(
    request: &OffsetCommitRequest,
    topics: &Topics,
    now_ms: i64,
) -> (Vec<(Place, Committed)>, Vec<i16>) {
    let mut stored = Vec::new();
    let mut codes = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
            let error = if topics.partition(&topic.name, partition.partition_index).is_none() {
                Some(ResponseError::UnknownTopicOrPartition)
            } else if metadata.len() > METADATA_BYTES_MAX {
                Some(ResponseError::OffsetMetadataTooLarge)
            } else {
                None
            };
            codes.push(error.map_or(0, |e| e.code()));
            if error.is_none() {
                let committed = Committed {
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: metadata.to_owned(),
                    time_ms: now_ms,
                };
                stored.push(((topic.name.to_string(), partition.partition_index), committed));
            }
        }
    }
    (stored, codes)
}

/// The response; `over_all` takes the place of every partition's own code.
#[must_use]
pub fn answer(
    request: &OffsetCommitRequest,
    codes: &[i16],
    over_all: Option<ResponseError>,
) -> OffsetCommitResponse {
    let mut codes = codes.iter();
    let mut code = || over_all.map_or_else(|| codes.next().copied().unwrap_or(0), |e| e.code());
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let partitions = topic.partitions.iter().map(|p| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(p.partition_index)
                .with_error_code(code())
        });
        let partitions = partitions.collect();
        topics.push(
            OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions),
        );
    }
    OffsetCommitResponse::default().with_topics(topics)
}
