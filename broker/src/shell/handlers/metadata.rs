//! Metadata: topics that are missing come to be first, if that is allowed.

use std::rc::Rc;

use wire::kafka::StrBytes;
use wire::kafka::messages::create_topics_request::CreatableTopic;
use wire::kafka::messages::{MetadataRequest, MetadataResponse, TopicName};

use super::admin;
use crate::core::api::metadata as api;
use crate::shell::core::Core;

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
    api::answer(&request, version, &core.topics(), &core.shared.identity)
}
