//! IncrementalAlterConfigs (44): topics' settings, one at a time.

use wire::kafka::ResponseError;
use wire::kafka::messages::incremental_alter_configs_request::AlterConfigsResource;

use super::Refusal;
use super::describe_configs::TOPIC;
use crate::core::topic_config::{self, Defaults, Overrides};
use crate::core::topics::Topics;

const SET: i8 = 0;
const DELETE: i8 = 1;

/// The topic's overrides afterwards.
///
/// # Errors
/// What to answer for the resource.
pub fn plan(
    resource: &AlterConfigsResource,
    topics: &Topics,
    defaults: &Defaults,
) -> Result<Overrides, Refusal> {
    if resource.resource_type != TOPIC {
        let message = "only topics' settings can be changed: the broker's are in its configuration file";
        return Err(Refusal::new(ResponseError::InvalidRequest, message));
    }
    let Some(topic) = topics.get(&resource.resource_name) else {
        return Err(Refusal::new(ResponseError::UnknownTopicOrPartition, "no such topic"));
    };
    let mut overrides = topic.overrides.clone();
    for config in &resource.configs {
        match (config.config_operation, &config.value) {
            (SET, Some(value)) => {
                topic_config::validate(&config.name, value, defaults)
                    .map_err(|e| Refusal::new(ResponseError::InvalidConfig, e))?;
                overrides.insert(config.name.to_string(), value.to_string());
            }
            (DELETE, _) => {
                overrides.remove(&*config.name);
            }
            _ => {
                let message = format!("{}: only set and delete are served", &*config.name);
                return Err(Refusal::new(ResponseError::InvalidRequest, message));
            }
        }
    }
    Ok(overrides)
}
