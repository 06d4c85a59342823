//! From a request to its answer. What needs no other core and no disk is answered at once, by the core's `api`; the rest
//! is here, a file per kind.

mod admin;
mod fetch;
mod groups;
mod list_offsets;
mod metadata;
mod offsets;
mod produce;

use std::future::Future;
use std::rc::Rc;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use runtime::Segment;
use wire::kafka::message::{self, Head, MessageError};
use wire::kafka::messages::{ApiKey, *};
use wire::kafka::{Encodable, HeaderVersion, ResponseError, StrBytes, legacy};

use super::core::{Core, Reservation};
use super::forward;
use super::shard::Shard;
use crate::core::api;

/// An answer.
pub(crate) struct Answer {
    /// To be sent in order.
    pub(crate) pieces: Vec<Segment>,
    /// The memory that it takes, until it is sent.
    pub(crate) held: Vec<Reservation>,
}

/// What becomes of a request.
pub(crate) enum Handled {
    /// The answer.
    Now(Answer),
    /// The answer comes later, and other requests may go on meanwhile; `None` when the client wants none.
    Later(LocalBoxFuture<'static, Option<Answer>>),
}

impl Answer {
    /// Its bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.len()).sum()
    }
}

impl From<Bytes> for Answer {
    fn from(frame: Bytes) -> Self {
        Self { pieces: vec![frame.into()], held: Vec::new() }
    }
}

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) host: StrBytes,
}

impl Handled {
    fn response<T: Encodable + HeaderVersion>(head: &Head, response: &T) -> Result<Self, MessageError> {
        Ok(Self::Now(message::encode(head.correlation_id, head.version, response)?.into()))
    }

    fn later<T: Encodable + HeaderVersion>(
        head: &Head,
        future: impl Future<Output = Option<T>> + 'static,
    ) -> Self {
        let (correlation_id, version) = (head.correlation_id, head.version);
        Self::Later(Box::pin(async move {
            let response = future.await?;
            // Batches' outcomes and texts of ours: nothing of it can be too long.
            let frame = message::encode(correlation_id, version, &response);
            Some(frame.expect("an answer of bounded parts is written").into())
        }))
    }
}

/// Handles one request.
///
/// # Errors
/// When it can't be read: the connection is closed, for nothing in it can be trusted.
pub(crate) async fn handle(
    core: &Rc<Core>,
    client: &Client,
    mut frame: Bytes,
) -> Result<Handled, MessageError> {
    let (key, version, correlation_id) = message::peek(&frame)?;
    let Some(api_key) = api::api_versions::find(key, version) else {
        return refuse_version(key, version, correlation_id);
    };
    core.shared.metrics.request(api_key);
    let head = message::take_head(&mut frame, api_key.request_header_version(version) >= 2)?;
    let identity = &core.shared.identity;
    let asked_by_node = *head.client_id == *forward::CLIENT_ID;
    Ok(match api_key {
        ApiKey::Produce if version < 3 => {
            let answer = legacy::refuse_produce(correlation_id, version, &frame)?;
            Handled::Later(Box::pin(std::future::ready(answer.map(Answer::from))))
        }
        ApiKey::Produce => {
            let request: ProduceRequest = message::decode(version, frame)?;
            Handled::later(&head, produce::handle(core, request).await)
        }
        ApiKey::Fetch => Handled::Now(fetch::handle(core, &head, message::decode(version, frame)?).await),
        ApiKey::ListOffsets => {
            let request = message::decode(version, frame)?;
            Handled::response(&head, &list_offsets::handle(core, request, version).await)?
        }
        ApiKey::Metadata => {
            let request = message::decode(version, frame)?;
            Handled::response(&head, &metadata::handle(core, request, version, asked_by_node).await)?
        }
        ApiKey::FindCoordinator => {
            let request = message::decode(version, frame)?;
            Handled::response(&head, &groups::find_coordinator(core, &request, version).await)?
        }
        ApiKey::ApiVersions => {
            let _: ApiVersionsRequest = message::decode(version, frame)?;
            Handled::response(&head, &api::api_versions::answer(None))?
        }
        ApiKey::DescribeCluster => {
            let request = message::decode(version, frame)?;
            let controller = metadata::controller(core).await;
            Handled::response(&head, &api::describe_cluster::answer(&request, version, controller, identity))?
        }
        ApiKey::JoinGroup | ApiKey::SyncGroup | ApiKey::Heartbeat | ApiKey::LeaveGroup => {
            groups::handle_membership(core, client, api_key, &head, frame).await?
        }
        ApiKey::DescribeGroups | ApiKey::ListGroups | ApiKey::DeleteGroups => {
            groups::handle_overview(core, api_key, &head, frame).await?
        }
        ApiKey::OffsetCommit => {
            let request = message::decode(version, frame)?;
            Handled::response(&head, &offsets::commit(core, request).await)?
        }
        ApiKey::OffsetFetch => {
            let request = message::decode(version, frame)?;
            Handled::response(&head, &offsets::fetch(core, request, version).await)?
        }
        ApiKey::OffsetDelete => {
            let request = message::decode(version, frame)?;
            Handled::response(&head, &offsets::delete(core, request).await)?
        }
        ApiKey::CreateTopics => {
            let request = message::decode(version, frame)?;
            Handled::response(&head, &admin::create_topics(core, request).await)?
        }
        ApiKey::DeleteTopics => {
            let request = message::decode(version, frame)?;
            Handled::response(&head, &admin::delete_topics(core, request, version).await)?
        }
        ApiKey::CreatePartitions => {
            let request = message::decode(version, frame)?;
            Handled::response(&head, &admin::create_partitions(core, request).await)?
        }
        ApiKey::DescribeConfigs => {
            let request = message::decode(version, frame)?;
            Handled::response(&head, &admin::describe_configs(core, &request))?
        }
        ApiKey::IncrementalAlterConfigs => {
            let request = message::decode(version, frame)?;
            Handled::response(&head, &admin::alter_configs(core, request).await)?
        }
        ApiKey::InitProducerId => {
            let request = message::decode(version, frame)?;
            Handled::response(&head, &admin::init_producer_id(core, &request, version, asked_by_node).await)?
        }
        ApiKey::DeleteRecords => {
            let request = message::decode(version, frame)?;
            Handled::response(&head, &list_offsets::delete_records(core, request).await)?
        }
        ApiKey::OffsetForLeaderEpoch => {
            let request = message::decode(version, frame)?;
            Handled::response(&head, &list_offsets::epoch_ends(core, request).await)?
        }
        _ => unreachable!("every served request has its handler"),
    })
}

/// A request of a version not served. ApiVersions is answered in the form of version 0 with error 35, which tells the
/// client what to ask instead; anything else closes the connection, as Kafka does.
fn refuse_version(key: i16, version: i16, correlation_id: i32) -> Result<Handled, MessageError> {
    if key != ApiKey::ApiVersions as i16 {
        return Err(MessageError::Body(format!("API {key} version {version} is not served")));
    }
    let answer = api::api_versions::answer(Some(ResponseError::UnsupportedVersion));
    Ok(Handled::Now(message::encode(correlation_id, 0, &answer)?.into()))
}

/// Items of a request with the shard that each goes to, sent shard by shard, results put back in the request's order.
///
/// `run` is called once per shard with its items; it must give one result per item.
async fn per_shard<I, O, F, Fut>(core: &Rc<Core>, items: Vec<(usize, I)>, run: F) -> Vec<O>
where
    I: Send + 'static,
    O: Send + 'static,
    F: FnOnce(Rc<Shard>, Vec<I>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Vec<O>> + 'static,
{
    let count = items.len();
    let mut by_shard: Vec<(usize, Vec<usize>, Vec<I>)> = Vec::new();
    for (place, (shard, item)) in items.into_iter().enumerate() {
        match by_shard.iter_mut().find(|(s, ..)| *s == shard) {
            Some((_, places, items)) => {
                places.push(place);
                items.push(item);
            }
            None => by_shard.push((shard, vec![place], vec![item])),
        }
    }
    let mut receipts = Vec::with_capacity(by_shard.len());
    for (shard, places, items) in by_shard {
        let run = run.clone();
        let to = core.shared.core_of(shard);
        let receipt = core.send(to, move |core: Rc<Core>| run(core.shard(shard), items)).await;
        receipts.push((places, receipt));
    }
    let mut results: Vec<Option<O>> = (0..count).map(|_| None).collect();
    let (places, receipts): (Vec<_>, Vec<_>) = receipts.into_iter().unzip();
    let answers = futures_util::future::join_all(receipts).await;
    for (places, answers) in places.into_iter().zip(answers) {
        for (place, answer) in places.into_iter().zip(answers) {
            results[place] = Some(answer);
        }
    }
    results.into_iter().map(|r| r.expect("a shard answers every item")).collect()
}
