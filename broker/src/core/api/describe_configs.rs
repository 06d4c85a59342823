//! DescribeConfigs (32): topics' settings with their defaults, and the broker's own.

use wire::kafka::messages::describe_configs_request::DescribeConfigsResource;
use wire::kafka::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use wire::kafka::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use wire::kafka::{ResponseError, StrBytes};

use crate::core::topic_config::{self, Defaults, Setting, Type};
use crate::core::topics::Topics;

/// Resource type of a topic.
pub const TOPIC: i8 = 2;
/// Resource type of a broker.
pub const BROKER: i8 = 4;

const SOURCE_TOPIC: i8 = 1;
const SOURCE_STATIC_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

/// The broker's settings that are worth showing, as Kafka names them.
pub type BrokerSettings = Vec<(&'static str, String, Type)>;

/// The answer.
#[must_use]
pub fn answer(
    request: &DescribeConfigsRequest,
    topics: &Topics,
    defaults: &Defaults,
    node_id: i32,
    broker: &BrokerSettings,
) -> DescribeConfigsResponse {
    let describe = |resource: &DescribeConfigsResource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        let wanted = |name: &str| {
            resource.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|k| &**k == name))
        };
        match resource.resource_type {
            TOPIC => match topics.get(&resource.resource_name) {
                Some(topic) => {
                    let settings = topic_config::settings(&topic.overrides, defaults);
                    let shown = settings.iter().filter(|s| wanted(s.name));
                    result.with_configs(shown.map(|s| entry(s, request.include_synonyms)).collect())
                }
                None => failed(result, ResponseError::UnknownTopicOrPartition, "no such topic"),
            },
            BROKER
                if resource.resource_name.is_empty() || *resource.resource_name == *node_id.to_string() =>
            {
                let shown = broker.iter().filter(|(name, ..)| wanted(name));
                result.with_configs(shown.map(broker_entry).collect())
            }
            BROKER => failed(result, ResponseError::InvalidRequest, "no such broker"),
            _ => failed(result, ResponseError::InvalidRequest, "only topics and brokers have settings here"),
        }
    };
    let resources = super::once(request.resources.iter(), |r| (r.resource_type, &r.resource_name));
    DescribeConfigsResponse::default().with_results(resources.map(describe).collect())
}

fn failed(result: DescribeConfigsResult, error: ResponseError, text: &'static str) -> DescribeConfigsResult {
    result.with_error_code(error.code()).with_error_message(Some(StrBytes::from_static_str(text)))
}

fn entry(setting: &Setting, with_synonyms: bool) -> DescribeConfigsResourceResult {
    let name = StrBytes::from_static_str(setting.name);
    let synonym = |value: &str, source: i8| {
        DescribeConfigsSynonym::default()
            .with_name(name.clone())
            .with_value(Some(StrBytes::from_string(value.to_owned())))
            .with_source(source)
    };
    let mut synonyms = Vec::new();
    if with_synonyms {
        if setting.overridden {
            synonyms.push(synonym(&setting.value, SOURCE_TOPIC));
        }
        synonyms.push(synonym(&setting.default, SOURCE_DEFAULT));
    }
    DescribeConfigsResourceResult::default()
        .with_name(name.clone())
        .with_value(Some(StrBytes::from_string(setting.value.clone())))
        .with_config_source(if setting.overridden { SOURCE_TOPIC } else { SOURCE_DEFAULT })
        .with_synonyms(synonyms)
        .with_config_type(setting.kind as i8)
}

fn broker_entry((name, value, kind): &(&'static str, String, Type)) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(name))
        .with_value(Some(StrBytes::from_string(value.clone())))
        .with_read_only(true)
        .with_config_source(SOURCE_STATIC_BROKER)
        .with_config_type(*kind as i8)
}
