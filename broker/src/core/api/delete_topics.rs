//! DeleteTopics (20): by name, or by id from version 6.

use wire::kafka::messages::delete_topics_response::DeletableTopicResult;
use wire::kafka::messages::{DeleteTopicsRequest, TopicName};
use wire::kafka::{ResponseError, StrBytes};

use super::uuid;
use crate::core::topics::Topics;

/// What a request names: each with the topic's name, or why there is none.
#[must_use]
pub fn named(
    request: &DeleteTopicsRequest,
    version: i16,
    topics: &Topics,
) -> Vec<(DeletableTopicResult, Option<String>)> {
    let by_name = |name: &TopicName| {
        let result = DeletableTopicResult::default().with_name(Some(name.clone()));
        match topics.get(name) {
            Some(topic) => (result.with_topic_id(uuid(topic.id)), Some(topic.name.clone())),
            None => (result.with_error_code(ResponseError::UnknownTopicOrPartition.code()), None),
        }
    };
    if version < 6 {
        return request.topic_names.iter().map(by_name).collect();
    }
    request
        .topics
        .iter()
        .map(|state| match &state.name {
            Some(name) => by_name(name),
            None => {
                let (high, low) = state.topic_id.as_u64_pair();
                let result = DeletableTopicResult::default().with_topic_id(state.topic_id);
                match topics.by_id([high, low]) {
                    Some(topic) => {
                        let name = TopicName(StrBytes::from_string(topic.name.clone()));
                        (result.with_name(Some(name)), Some(topic.name.clone()))
                    }
                    None => {
                        (result.with_name(None).with_error_code(ResponseError::UnknownTopicId.code()), None)
                    }
                }
            }
        })
        .collect()
}
