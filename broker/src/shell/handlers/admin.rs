//! What changes the topic table, or reads its settings; and producer ids, which it gives out.

use std::collections::HashMap;
use std::rc::Rc;

use wire::kafka::messages::create_partitions_response::CreatePartitionsTopicResult;
use wire::kafka::messages::create_topics_request::CreatableTopic;
use wire::kafka::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use wire::kafka::messages::*;
use wire::kafka::{ResponseError, StrBytes};

use crate::core::api::{
    Refusal, create_partitions as api_partitions, create_topics as api_create, delete_topics as api_delete,
    describe_configs as api_configs, incremental_alter_configs as api_alter,
    init_producer_id as api_producer,
};
use crate::core::topic_config::Type;
use crate::core::topics::{Change, PRODUCER_ID_BLOCK, Topic, Topics};
use crate::shell::core::Core;

/// Runs a decision on the topic table's core; see `Controller::change`.
async fn change<T, D>(core: &Rc<Core>, decide: D) -> Result<T, Refusal>
where
    T: Send + 'static,
    D: FnOnce(&Topics, &Core) -> Result<(Change, T), Refusal> + Send + 'static,
{
    let job = move |core: Rc<Core>| async move {
        let controller = core.controller.borrow().clone();
        let Some(controller) = controller else {
            return Err(Refusal::new(ResponseError::NotController, "the topic table is not ready"));
        };
        let here = core.clone();
        controller.change(core, move |topics| decide(topics, &here)).await
    };
    core.send(core.shared.core_of(0), job).await.await
}

/// Creates one topic, or only says whether it could be.
pub(super) async fn create_topic(
    core: &Rc<Core>,
    wanted: CreatableTopic,
    validate_only: bool,
) -> Result<Topic, Refusal> {
    let plan = {
        let config = &core.shared.config;
        let (defaults, bounds) = (config.defaults(), config.bounds());
        move |topics: &Topics| api_create::plan(&wanted, topics, &defaults, bounds).map(|plan| (wanted, plan))
    };
    if validate_only {
        let (wanted, plan) = plan(&core.topics())?;
        let partitions = vec![0; plan.partitions as usize];
        return Ok(Topic {
            name: wanted.name.to_string(),
            id: [0; 2],
            partitions,
            overrides: plan.overrides,
        });
    }
    change(core, move |topics, core| {
        let (wanted, plan) = plan(topics)?;
        let id = [core.shared.layout.topic_seed, runtime::random_u64()];
        let change = topics.create(&wanted.name, plan.partitions, plan.overrides.clone(), id);
        let partitions = vec![0; plan.partitions as usize];
        Ok((change, Topic { name: wanted.name.to_string(), id, partitions, overrides: plan.overrides }))
    })
    .await
}

/// CreateTopics.
pub(super) async fn create_topics(core: &Rc<Core>, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let defaults = core.shared.config.defaults();
    let mut results = Vec::with_capacity(request.topics.len());
    let mut times: HashMap<&str, u32> = HashMap::new();
    request.topics.iter().for_each(|topic| *times.entry(&topic.name).or_default() += 1);
    for wanted in &request.topics {
        let created = if times[&**wanted.name] > 1 {
            Err(Refusal::new(ResponseError::InvalidRequest, "the request names this topic twice"))
        } else {
            create_topic(core, wanted.clone(), request.validate_only).await
        };
        results.push(match &created {
            Ok(topic) => api_create::created(topic, &defaults),
            Err(refusal) => api_create::refused(wanted, refusal),
        });
    }
    CreateTopicsResponse::default().with_topics(results)
}

/// DeleteTopics.
pub(super) async fn delete_topics(
    core: &Rc<Core>,
    request: DeleteTopicsRequest,
    version: i16,
) -> DeleteTopicsResponse {
    let mut results = Vec::new();
    for (mut result, name) in api_delete::named(&request, version, &core.topics()) {
        if let Some(name) = name {
            let deleted = change(core, move |topics, _| match topics.get(&name) {
                Some(_) => Ok((topics.delete(&name), ())),
                None => Err(Refusal::new(ResponseError::UnknownTopicOrPartition, "no such topic")),
            });
            if let Err(refusal) = deleted.await {
                result.error_code = refusal.error.code();
                result.error_message = Some(StrBytes::from_string(refusal.message));
            }
        }
        if version < 5 {
            result.error_message = None;
        }
        results.push(result);
    }
    DeleteTopicsResponse::default().with_responses(results)
}

/// CreatePartitions.
pub(super) async fn create_partitions(
    core: &Rc<Core>,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let partitions_max = core.shared.config.partitions_max;
    let mut results = Vec::with_capacity(request.topics.len());
    for wanted in request.topics {
        let name = wanted.name.clone();
        let outcome = if request.validate_only {
            api_partitions::plan(&wanted, &core.topics(), partitions_max).map(|_| ())
        } else {
            change(core, move |topics, _| {
                let more = api_partitions::plan(&wanted, topics, partitions_max)?;
                Ok((topics.add_partitions(&wanted.name, more), ()))
            })
            .await
        };
        let result = CreatePartitionsTopicResult::default().with_name(name);
        results.push(match outcome {
            Ok(()) => result.with_error_message(None),
            Err(refusal) => {
                let message = Some(StrBytes::from_string(refusal.message));
                result.with_error_code(refusal.error.code()).with_error_message(message)
            }
        });
    }
    CreatePartitionsResponse::default().with_results(results)
}

/// DescribeConfigs.
pub(super) fn describe_configs(core: &Rc<Core>, request: &DescribeConfigsRequest) -> DescribeConfigsResponse {
    let config = &core.shared.config;
    let broker = vec![
        ("auto.create.topics.enable", config.auto_create_topics.to_string(), Type::Text),
        ("log.retention.bytes", config.retention_bytes.to_string(), Type::Long),
        ("log.retention.ms", config.retention_ms.to_string(), Type::Long),
        ("log.segment.bytes", config.segment_bytes.to_string(), Type::Int),
        ("message.max.bytes", config.message_bytes_max.to_string(), Type::Int),
        ("num.partitions", config.partitions_default.to_string(), Type::Int),
        ("socket.request.max.bytes", config.request_bytes_max.to_string(), Type::Int),
    ];
    api_configs::answer(request, &core.topics(), &config.defaults(), config.node_id, &broker)
}

/// IncrementalAlterConfigs.
pub(super) async fn alter_configs(
    core: &Rc<Core>,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let response = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        let defaults = core.shared.config.defaults();
        let outcome = if request.validate_only {
            api_alter::plan(&resource, &core.topics(), &defaults).map(|_| ())
        } else {
            change(core, move |topics, _| {
                let overrides = api_alter::plan(&resource, topics, &defaults)?;
                Ok((topics.configure(&resource.resource_name, overrides), ()))
            })
            .await
        };
        responses.push(match outcome {
            Ok(()) => response.with_error_message(None),
            Err(refusal) => {
                let message = Some(StrBytes::from_string(refusal.message));
                response.with_error_code(refusal.error.code()).with_error_message(message)
            }
        });
    }
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

/// InitProducerId: each core gives out ids of a block that it took from the table.
pub(super) async fn init_producer_id(
    core: &Rc<Core>,
    request: &InitProducerIdRequest,
) -> InitProducerIdResponse {
    let id = match api_producer::refusal(request) {
        Some(error) => Err(error),
        None => next_producer_id(core).await.map_err(|refusal| refusal.error),
    };
    api_producer::answer(id)
}

async fn next_producer_id(core: &Rc<Core>) -> Result<i64, Refusal> {
    let (next, end) = core.producer_ids.get();
    if next < end {
        core.producer_ids.set((next + 1, end));
        return Ok(next);
    }
    let first = change(core, |topics, _| Ok(topics.producer_ids())).await?;
    core.producer_ids.set((first + 1, first + PRODUCER_ID_BLOCK));
    Ok(first)
}
