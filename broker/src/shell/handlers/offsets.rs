//! Committed offsets: OffsetCommit, OffsetFetch, OffsetDelete.

use std::rc::Rc;

use runtime::time;
use wire::kafka::ResponseError;
use wire::kafka::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use wire::kafka::messages::offset_fetch_request::OffsetFetchRequestGroup;
use wire::kafka::messages::*;

use super::groups::{on_group, per_coordinator};
use crate::core::api::{code, offset_commit as api_commit, offset_fetch as api_fetch};
use crate::core::offsets::Action;
use crate::shell::coordinator::Coordinator;
use crate::shell::core::Core;

/// OffsetCommit: answered once the offsets are on disk.
pub(super) async fn commit(core: &Rc<Core>, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let now_ms = i64::try_from(time::unix_ms()).unwrap_or(i64::MAX);
    let (offsets, codes) = api_commit::plan(&request, &core.topics(), now_ms);
    let identity = api_commit::identity(&request);
    let result = on_group(core, &request.group_id, move |coordinator| async move {
        coordinator.check_leads()?;
        let allowed = coordinator.groups.borrow_mut().may_commit(coordinator.shared.uptime_ms(), &identity);
        coordinator.settle();
        allowed?;
        if offsets.is_empty() {
            return Ok(());
        }
        if !coordinator.has_room_for(&identity.group, &offsets, coordinator.shared.config.offsets_bytes_max) {
            return Err(ResponseError::InvalidCommitOffsetSize);
        }
        coordinator.change(Action::Commit { group: identity.group.to_string(), offsets }).await
    });
    api_commit::answer(&request, &codes, result.await.err())
}

/// OffsetFetch.
pub(super) async fn fetch(core: &Rc<Core>, request: OffsetFetchRequest, version: i16) -> OffsetFetchResponse {
    let groups = api_fetch::groups(request, version);
    let items = groups.into_iter().map(|g| (core.shared.coordinator_of(&g.group_id), g)).collect();
    let run = |coordinator: Rc<Coordinator>, asked: OffsetFetchRequestGroup| async move {
        match coordinator.caught_up().await {
            Ok(()) => api_fetch::fetch(&asked, &coordinator.offsets.borrow()),
            Err(error) => api_fetch::refused(&asked, error),
        }
    };
    api_fetch::answer(per_coordinator(core, items, run).await, version)
}

/// OffsetDelete: for groups without members only.
pub(super) async fn delete(core: &Rc<Core>, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let mut places = Vec::new();
    for topic in &request.topics {
        places.extend(topic.partitions.iter().map(|p| (topic.name.to_string(), p.partition_index)));
    }
    let group = request.group_id.to_string();
    let result = on_group(core, &request.group_id, move |coordinator| async move {
        coordinator.caught_up().await?;
        let has_members =
            coordinator.groups.borrow().get(&group).is_some_and(|g| g.members().next().is_some());
        if has_members {
            return Err(ResponseError::NonEmptyGroup);
        }
        if coordinator.offsets.borrow().group(&group).is_empty() {
            return Err(ResponseError::GroupIdNotFound);
        }
        coordinator.change(Action::Forget { group, places: Some(places) }).await
    });
    let result = result.await;
    if result.is_err() {
        return OffsetDeleteResponse::default().with_error_code(code(&result));
    }
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let done = |p: &wire::kafka::messages::offset_delete_request::OffsetDeleteRequestPartition| {
            OffsetDeleteResponsePartition::default().with_partition_index(p.partition_index)
        };
        let partitions = topic.partitions.iter().map(done).collect();
        topics.push(OffsetDeleteResponseTopic::default().with_name(topic.name).with_partitions(partitions));
    }
    OffsetDeleteResponse::default().with_topics(topics)
}
