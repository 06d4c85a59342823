//! Metadata: topics that are missing come to be first, if that is allowed.

use std::rc::Rc;
use std::sync::Arc;

use wire::kafka::StrBytes;
use wire::kafka::messages::create_topics_request::CreatableTopic;
use wire::kafka::messages::{MetadataRequest, MetadataResponse, TopicName};

use super::{admin, per_shard};
use crate::core::api::metadata as api;
use crate::core::topics::Topic;
use crate::shell::core::Core;
use crate::shell::partition::{Partition, epoch_of};
use crate::shell::shard::Shard;

/// The answer.
pub(super) async fn handle(core: &Rc<Core>, request: MetadataRequest, version: i16) -> MetadataResponse {
    let config = &core.shared.config;
    for name in api::missing(&request, version, &core.topics(), config.auto_create_topics) {
        let wanted = CreatableTopic::default()
            .with_name(TopicName(StrBytes::from_string(name)))
            .with_num_partitions(-1)
            .with_replication_factor(-1);
        // Whatever the refusal, the answer says that the topic isn't there; somebody else may have made it meanwhile.
        if let Err(refusal) = admin::create_topic(core, wanted, false).await {
            tracing::debug!(error = ?refusal.error, refusal.message, "a topic was not created for a client");
        }
    }
    let topics = core.topics();
    let leaders = leaders(core, &api::asked(&request, version, &topics)).await;
    api::answer(&request, version, &topics, &leaders, &core.shared.identity)
}

/// Who leads the partitions of these topics, as far as this node knows.
async fn leaders(core: &Rc<Core>, topics: &[Arc<Topic>]) -> api::Leaders {
    let uids = topics.iter().flat_map(|topic| topic.partitions.iter().copied());
    let items: Vec<(usize, u64)> = uids.map(|uid| (core.shared.shard_of(uid), uid)).collect();
    let run = |shard: Rc<Shard>, uids: Vec<u64>| async move {
        let led = |uid: &u64| (*uid, shard.partition(*uid).map(|partition| led(&partition)));
        uids.iter().map(led).collect()
    };
    let found = per_shard(core, items, run).await;
    found.into_iter().filter_map(|(uid, led)| Some((uid, led?))).collect()
}

/// This node is the leader only once it acts as such.
fn led(partition: &Partition) -> api::Led {
    let role = partition.leading.role();
    let leader = role.leader.filter(|_| role.leads == partition.leading.acts());
    api::Led { leader: leader.and_then(|node| i32::try_from(node.0).ok()), epoch: epoch_of(role.term) }
}
