//! Metadata: topics that are missing come to be first, if that is allowed.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use replog::NodeId;
use wire::kafka::StrBytes;
use wire::kafka::messages::create_topics_request::CreatableTopic;
use wire::kafka::messages::{MetadataRequest, MetadataResponse, TopicName};

use super::{admin, per_shard};
use crate::core::api::metadata as api;
use crate::core::topics::Topic;
use crate::shell::core::Core;
use crate::shell::partition::{Partition, epoch_of};
use crate::shell::shard::Shard;

/// A node that was heard within this time counts as alive.
const ALIVE_WITHIN: Duration = Duration::from_secs(2);

/// The answer.
pub(super) async fn handle(
    core: &Rc<Core>,
    request: MetadataRequest,
    version: i16,
    asked_by_node: bool,
) -> MetadataResponse {
    let config = &core.shared.config;
    for name in api::missing(&request, version, &core.topics(), config.auto_create_topics) {
        let wanted = CreatableTopic::default()
            .with_name(TopicName(StrBytes::from_string(name)))
            .with_num_partitions(-1)
            .with_replication_factor(-1);
        // Whatever the refusal, the answer says that the topic isn't there; somebody else may have made it meanwhile.
        if let Err(refusal) = admin::create_for_client(core, wanted, asked_by_node).await {
            tracing::debug!(error = ?refusal.error, refusal.message, "a topic was not created for a client");
        }
    }
    let topics = core.topics();
    let leaders = leaders(core, &api::asked(&request, version, &topics)).await;
    let view = api::View { leaders, alive: alive(core).await, controller: controller(core).await };
    api::answer(&request, version, &topics, &view, &core.shared.identity)
}

/// Who leads the partitions of these topics, as far as this node knows.
async fn leaders(core: &Rc<Core>, topics: &[Arc<Topic>]) -> HashMap<u64, api::Led> {
    let uids = topics.iter().flat_map(|topic| topic.partitions.iter().copied());
    let items: Vec<(usize, u64)> = uids.map(|uid| (core.shared.shard_of(uid), uid)).collect();
    let run = |shard: Rc<Shard>, uids: Vec<u64>| async move {
        let me = shard.shared.identity.node_id;
        let led = |uid: &u64| (*uid, shard.partition(*uid).map(|partition| led(&partition, me)));
        uids.iter().map(led).collect()
    };
    let found = per_shard(core, items, run).await;
    found.into_iter().filter_map(|(uid, led)| Some((uid, led?))).collect()
}

fn led(partition: &Partition, me: i32) -> api::Led {
    api::Led { leader: partition.leading.leader(me), epoch: epoch_of(partition.leading.role().term) }
}

/// The nodes that are heard.
async fn alive(core: &Rc<Core>) -> BTreeSet<i32> {
    let identity = &core.shared.identity;
    if identity.nodes.len() == 1 {
        return [identity.node_id].into();
    }
    let job = |core: Rc<Core>| async move {
        let shard = core.shard(0);
        let heard = |id: &i32| {
            let unheard = shard.replicas().unheard(NodeId(u64::try_from(*id).unwrap_or(0)));
            *id == core.shared.identity.node_id || unheard.is_some_and(|silence| silence < ALIVE_WITHIN)
        };
        core.shared.identity.ids().into_iter().filter(heard).collect()
    };
    core.send(core.shared.core_of(0), job).await.await
}

/// Who leads the topic table.
pub(super) async fn controller(core: &Rc<Core>) -> Option<i32> {
    let job = |core: Rc<Core>| async move {
        core.controller.borrow().as_ref().and_then(|it| it.leading.leader(core.shared.identity.node_id))
    };
    core.send(core.shared.core_of(0), job).await.await
}
