//! What partitions are asked one by one: ListOffsets, DeleteRecords, OffsetForLeaderEpoch.

use std::rc::Rc;

use wire::kafka::ResponseError;
use wire::kafka::messages::delete_records_response::DeleteRecordsTopicResult;
use wire::kafka::messages::list_offsets_response::ListOffsetsTopicResponse;
use wire::kafka::messages::offset_for_leader_epoch_response::OffsetForLeaderTopicResult;
use wire::kafka::messages::*;

use super::per_shard;
use crate::core::api::list_offsets::{self as api, Wanted};
use crate::core::api::{delete_records as api_delete, offset_for_leader_epoch as api_epoch};
use crate::shell::core::Core;
use crate::shell::partition::Partition;
use crate::shell::shard::Shard;

/// Asks partitions, each with something of its own; a partition that isn't there, or was refused before, answers so.
async fn ask<Q, A, F, Fut>(
    core: &Rc<Core>,
    questions: Vec<Result<(u64, Q), ResponseError>>,
    answer: F,
) -> Vec<Result<A, ResponseError>>
where
    Q: Send + 'static,
    A: Send + 'static,
    F: Fn(Rc<Shard>, Rc<Partition>, Q) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<A, ResponseError>> + 'static,
{
    let mut refused = Vec::new();
    let mut items = Vec::new();
    for question in questions {
        match question {
            Ok((uid, q)) => {
                refused.push(None);
                items.push((core.shared.shard_of(uid), (uid, q)));
            }
            Err(error) => refused.push(Some(error)),
        }
    }
    let run = move |shard: Rc<Shard>, items: Vec<(u64, Q)>| async move {
        let mut answers = Vec::with_capacity(items.len());
        for (uid, q) in items {
            answers.push(match shard.partition(uid) {
                Some(partition) => answer(shard.clone(), partition, q).await,
                None => Err(shard.shared.absent()),
            });
        }
        answers
    };
    let mut answers = per_shard(core, items, run).await.into_iter();
    let next = |refused: Option<ResponseError>| match refused {
        Some(error) => Err(error),
        None => answers.next().unwrap_or(Err(ResponseError::UnknownServerError)),
    };
    refused.into_iter().map(next).collect()
}

/// Timestamp, offset, and the leader epoch in which this was found out.
async fn find(
    partition: Rc<Partition>,
    (epoch, wanted): (i32, Wanted),
) -> Result<Option<(i64, i64, i32)>, ResponseError> {
    let epoch = partition.check_leads(epoch)?;
    let (log_start, high_watermark, max_timestamp) = {
        let log = partition.log.borrow();
        (log.log_start(), log.high_watermark(), log.max_timestamp())
    };
    let found = match wanted {
        Wanted::Earliest => Some((-1, log_start)),
        Wanted::Latest => Some((-1, high_watermark)),
        Wanted::MaxTimestamp if max_timestamp < 0 => None,
        Wanted::MaxTimestamp => partition.find_time(max_timestamp).await?,
        Wanted::At(timestamp) => partition.find_time(timestamp).await?,
    };
    Ok(found.map(|(timestamp, offset)| (timestamp, offset, epoch)))
}

/// ListOffsets.
pub(super) async fn handle(
    core: &Rc<Core>,
    request: ListOffsetsRequest,
    version: i16,
) -> ListOffsetsResponse {
    let topics = core.topics();
    let mut questions = Vec::new();
    for topic in &request.topics {
        for p in &topic.partitions {
            let uid = topics
                .partition(&topic.name, p.partition_index)
                .ok_or(ResponseError::UnknownTopicOrPartition);
            let wanted = api::wanted(p.timestamp, version);
            questions.push(uid.and_then(|uid| wanted.map(|wanted| (uid, (p.current_leader_epoch, wanted)))));
        }
    }
    let find = |_, partition, asked| find(partition, asked);
    let mut found = ask(core, questions, find).await.into_iter();
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let partitions = topic
            .partitions
            .iter()
            .map(|p| api::answer_partition(p.partition_index, version, found.next().unwrap_or(Ok(None))));
        let partitions = partitions.collect();
        responses.push(ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions));
    }
    ListOffsetsResponse::default().with_topics(responses)
}

/// DeleteRecords.
pub(super) async fn delete_records(core: &Rc<Core>, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let topics = core.topics();
    let mut questions = Vec::new();
    for topic in &request.topics {
        for p in &topic.partitions {
            let uid = topics.partition(&topic.name, p.partition_index);
            questions.push(uid.map(|uid| (uid, p.offset)).ok_or(ResponseError::UnknownTopicOrPartition));
        }
    }
    let delete =
        |shard: Rc<Shard>, partition, offset| async move { shard.delete_before(&partition, offset).await };
    let results = ask(core, questions, delete).await;
    let mut results = results.into_iter();
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let partitions = topic.partitions.iter().map(|p| {
            let result = results.next().unwrap_or(Err(ResponseError::UnknownServerError));
            api_delete::answer_partition(p.partition_index, result)
        });
        let partitions = partitions.collect();
        responses.push(DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions));
    }
    DeleteRecordsResponse::default().with_topics(responses)
}

/// OffsetForLeaderEpoch.
pub(super) async fn epoch_ends(
    core: &Rc<Core>,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = core.topics();
    let mut questions = Vec::new();
    for topic in &request.topics {
        for p in &topic.partitions {
            let uid =
                topics.partition(&topic.topic, p.partition).ok_or(ResponseError::UnknownTopicOrPartition);
            questions.push(uid.map(|uid| (uid, (p.current_leader_epoch, p.leader_epoch))));
        }
    }
    let end = |_, partition: Rc<Partition>, (believed, asked): (i32, i32)| async move {
        let current = partition.check_leads(believed)?;
        Ok(partition.log.borrow().end_of_epoch(asked, current))
    };
    let mut ends = ask(core, questions, end).await.into_iter();
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let partitions = topic.partitions.iter().map(|p| {
            let end = ends.next().unwrap_or(Err(ResponseError::UnknownServerError));
            api_epoch::answer_partition(p.partition, end)
        });
        let partitions = partitions.collect();
        responses
            .push(OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(partitions));
    }
    OffsetForLeaderEpochResponse::default().with_topics(responses)
}
