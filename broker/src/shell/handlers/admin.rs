//! What changes the topic table, or reads its settings; and producer ids, which it gives out.

use std::collections::HashMap;
use std::rc::Rc;

use wire::kafka::messages::create_partitions_response::CreatePartitionsTopicResult;
use wire::kafka::messages::create_topics_request::CreatableTopic;
use wire::kafka::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use wire::kafka::messages::*;
use wire::kafka::{ResponseError, StrBytes};

use super::metadata;
use crate::core::api::{
    Refusal, create_partitions as api_partitions, create_topics as api_create, delete_topics as api_delete,
    describe_configs as api_configs, incremental_alter_configs as api_alter,
    init_producer_id as api_producer,
};
use crate::core::topic_config::Type;
use crate::core::topics::{Change, PRODUCER_ID_BLOCK, Topic, Topics};
use crate::shell::core::Core;
use crate::shell::forward;

/// The version in which nodes ask each other for topics.
const CREATE_TOPICS_VERSION: i16 = 5;

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
        let nodes = core.shared.identity.ids();
        move |topics: &Topics| {
            api_create::plan(&wanted, topics, &defaults, bounds, &nodes).map(|plan| (wanted, plan))
        }
    };
    if validate_only {
        let (wanted, plan) = plan(&core.topics())?;
        let partitions = vec![0; plan.replicas.len()];
        let (name, replicas) = (wanted.name.to_string(), plan.replicas);
        return Ok(Topic { name, id: [0; 2], partitions, replicas, overrides: plan.overrides });
    }
    change(core, move |topics, core| {
        let (wanted, plan) = plan(topics)?;
        let id = [core.shared.layout.topic_seed, runtime::random_u64()];
        let change = topics.create(&wanted.name, plan.replicas.clone(), plan.overrides.clone(), id);
        let partitions = vec![0; plan.replicas.len()];
        let (name, replicas) = (wanted.name.to_string(), plan.replicas);
        Ok((change, Topic { name, id, partitions, replicas, overrides: plan.overrides }))
    })
    .await
}

/// Creates a topic that a client has named; the controller does, wherever it is, unless it is another node that asks.
pub(super) async fn create_for_client(
    core: &Rc<Core>,
    wanted: CreatableTopic,
    asked_by_node: bool,
) -> Result<(), Refusal> {
    let refusal = match create_topic(core, wanted.clone(), false).await {
        Err(refusal) if refusal.error == ResponseError::NotController && !asked_by_node => refusal,
        other => return other.map(drop),
    };
    let Some(controller) = metadata::controller(core).await else { return Err(refusal) };
    let request = CreateTopicsRequest::default().with_topics(vec![wanted]).with_timeout_ms(5000);
    let answer = forward::ask(core, controller, CREATE_TOPICS_VERSION, &request).await;
    let answer = answer.map_err(|error| Refusal::new(error, "the controller gives no answer"))?;
    let error = answer.topics.first().and_then(|topic| ResponseError::try_from_code(topic.error_code));
    error.map_or(Ok(()), |error| Err(Refusal::new(error, "the controller has refused it")))
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
    let nodes = core.shared.identity.ids();
    let mut results = Vec::with_capacity(request.topics.len());
    for wanted in request.topics {
        let name = wanted.name.clone();
        let outcome = if request.validate_only {
            api_partitions::plan(&wanted, &core.topics(), partitions_max, &nodes).map(|_| ())
        } else {
            let nodes = nodes.clone();
            change(core, move |topics, _| {
                let more = api_partitions::plan(&wanted, topics, partitions_max, &nodes)?;
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
    api_configs::answer(request, &core.topics(), &config.defaults(), config.node(), &broker)
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

/// InitProducerId: each core of the controller gives out ids of a block that it took from the table. Any node may be asked.
pub(super) async fn init_producer_id(
    core: &Rc<Core>,
    request: &InitProducerIdRequest,
    version: i16,
    asked_by_node: bool,
) -> InitProducerIdResponse {
    if let Some(error) = api_producer::refusal(request) {
        return api_producer::answer(Err(error));
    }
    let id = match next_producer_id(core).await {
        Err(refusal) if refusal.error == ResponseError::NotController && !asked_by_node => {
            match metadata::controller(core).await {
                Some(controller) => match forward::ask(core, controller, version, request).await {
                    Ok(answer) => return answer,
                    Err(error) => Err(error),
                },
                None => Err(ResponseError::CoordinatorNotAvailable),
            }
        }
        Err(refusal) if refusal.error == ResponseError::NotController => {
            Err(ResponseError::CoordinatorNotAvailable)
        }
        other => other.map_err(|refusal| refusal.error),
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
