//! Produce: batches go to their shards in the order of arrival; the answer waits until all are committed, and so durable.

use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use runtime::time;
use wire::kafka::ResponseError;
use wire::kafka::messages::produce_response::TopicProduceResponse;
use wire::kafka::messages::{ProduceRequest, ProduceResponse};

use crate::core::api::Refusal;
use crate::core::api::produce::{self, Outcome};
use crate::shell::core::Core;

/// Where a partition's outcome comes from.
enum Source {
    Known(Outcome),
    /// Of this shard's results, this one.
    Shard(usize, usize),
}

/// Hands the batches over; the future that is given back waits for what became of them.
pub(super) async fn handle(
    core: &Rc<Core>,
    request: ProduceRequest,
) -> impl Future<Output = Option<ProduceResponse>> + 'static {
    let refusal = if !produce::acks_are_valid(request.acks) {
        Some(Refusal::new(ResponseError::InvalidRequiredAcks, "acks must be 0, 1 or -1"))
    } else if request.transactional_id.is_some() {
        Some(Refusal::new(ResponseError::InvalidTxnState, "transactions are not served"))
    } else {
        None
    };
    let topics = core.topics();
    let mut sources = Vec::new();
    let mut by_shard: Vec<(usize, Vec<(u64, Bytes)>)> = Vec::new();
    for topic in &request.topic_data {
        for data in &topic.partition_data {
            let source = match (&refusal, topics.partition(&topic.name, data.index)) {
                (Some(refusal), _) => Source::Known(Err(refusal.clone())),
                (None, None) => {
                    let message = "no such topic or partition";
                    Source::Known(Err(Refusal::new(ResponseError::UnknownTopicOrPartition, message)))
                }
                (None, Some(uid)) => {
                    let shard = core.shared.shard_of(uid);
                    let records = data.records.clone().unwrap_or_default();
                    let at = by_shard.iter().position(|(s, _)| *s == shard).unwrap_or_else(|| {
                        by_shard.push((shard, Vec::new()));
                        by_shard.len() - 1
                    });
                    by_shard[at].1.push((uid, records));
                    Source::Shard(at, by_shard[at].1.len() - 1)
                }
            };
            sources.push(source);
        }
    }
    let mut receipts = Vec::with_capacity(by_shard.len());
    for (shard, batches) in by_shard {
        let to = core.shared.core_of(shard);
        let job = move |core: Rc<Core>| {
            let shard = core.shard(shard);
            let slots = shard.produce(batches);
            async move {
                let mut outcomes = Vec::with_capacity(slots.len());
                for slot in slots {
                    outcomes.push(slot.await);
                }
                outcomes
            }
        };
        receipts.push(core.send(to, job).await);
    }
    let patience = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0).max(1));
    async move {
        let gathered = time::timeout(patience, futures_util::future::join_all(receipts)).await;
        (request.acks != 0).then(|| answer(&request, sources, gathered.as_deref().ok()))
    }
}

fn answer(
    request: &ProduceRequest,
    sources: Vec<Source>,
    gathered: Option<&[Vec<Outcome>]>,
) -> ProduceResponse {
    let late = || Err(Refusal::new(ResponseError::RequestTimedOut, "not durable in time; it may become so"));
    let mut outcomes = sources.into_iter().map(|source| match (source, gathered) {
        (Source::Known(outcome), _) => outcome,
        (Source::Shard(shard, at), Some(gathered)) => gathered[shard][at].clone(),
        (Source::Shard(..), None) => late(),
    });
    let mut responses = Vec::with_capacity(request.topic_data.len());
    for topic in &request.topic_data {
        let partitions = topic
            .partition_data
            .iter()
            .map(|data| produce::answer_partition(data.index, &outcomes.next().unwrap_or_else(late)));
        let partitions = partitions.collect();
        let response = TopicProduceResponse::default().with_name(topic.name.clone());
        responses.push(response.with_partition_responses(partitions));
    }
    ProduceResponse::default().with_responses(responses)
}
