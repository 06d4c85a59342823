//! Consumer groups: each request goes to the shard that has the group.

use std::rc::Rc;

use bytes::Bytes;
use wire::kafka::message::{self, Head, MessageError};
use wire::kafka::messages::delete_groups_response::DeletableGroupResult;
use wire::kafka::messages::*;
use wire::kafka::{ResponseError, StrBytes};

use super::{Client, Handled, per_shard};
use crate::core::api::{
    code, describe_groups as api_describe, find_coordinator as api_find, join_group as api_join,
    leave_group as api_leave, list_groups as api_list, once, sync_group as api_sync,
};
use crate::core::group::Identity;
use crate::core::offsets::Action;
use crate::shell::coordinator::Coordinator;
use crate::shell::core::Core;
use crate::shell::mail::Receipt;
use crate::shell::shard::Shard;

/// Runs a job on the core of a group's coordinator.
pub(super) async fn on_group<T, F, Fut>(core: &Rc<Core>, group: &str, job: F) -> T
where
    T: Send + 'static,
    F: FnOnce(Rc<Coordinator>) -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    let number = core.shared.coordinator_of(group);
    let shard = core.shared.shard_of_coordinator(number);
    let to = core.shared.core_of(shard);
    let job = move |core: Rc<Core>| job(core.shard(shard).coordinator(number).clone());
    let receipt: Receipt<T> = core.send(to, job).await;
    receipt.await
}

/// Items, each with its coordinator's number, as [`per_shard`]; `run` is called once for each item.
pub(super) async fn per_coordinator<I, O, F, Fut>(core: &Rc<Core>, items: Vec<(usize, I)>, run: F) -> Vec<O>
where
    I: Send + 'static,
    O: Send + 'static,
    F: Fn(Rc<Coordinator>, I) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = O> + 'static,
{
    let place = |(number, item): (usize, I)| (core.shared.shard_of_coordinator(number), (number, item));
    let items = items.into_iter().map(place).collect();
    let run = move |shard: Rc<Shard>, items: Vec<(usize, I)>| async move {
        let mut results = Vec::with_capacity(items.len());
        for (number, item) in items {
            results.push(run(shard.coordinator(number).clone(), item).await);
        }
        results
    };
    per_shard(core, items, run).await
}

/// FindCoordinator.
pub(super) async fn find_coordinator(
    core: &Rc<Core>,
    request: &FindCoordinatorRequest,
    version: i16,
) -> FindCoordinatorResponse {
    let groups = api_find::groups(request, version);
    let items = groups.iter().map(|group| (core.shared.coordinator_of(group), ())).collect();
    let run = |coordinator: Rc<Coordinator>, ()| async move {
        coordinator.leading.leader(coordinator.shared.identity.node_id)
    };
    let leaders = per_coordinator(core, items, run).await;
    let node = |leader: Option<i32>| leader.and_then(|id| core.shared.identity.node(id).cloned());
    let found: Vec<_> = leaders.into_iter().map(node).collect();
    api_find::answer(request, version, &found)
}

/// JoinGroup, SyncGroup, Heartbeat, LeaveGroup.
pub(super) async fn handle_membership(
    core: &Rc<Core>,
    client: &Client,
    key: ApiKey,
    head: &Head,
    frame: Bytes,
) -> Result<Handled, MessageError> {
    let version = head.version;
    Ok(match key {
        ApiKey::JoinGroup => {
            let request: JoinGroupRequest = message::decode(version, frame)?;
            let group = request.group_id.clone();
            let fresh = format!("{:016x}{:016x}", runtime::random_u64(), runtime::random_u64());
            let fresh = StrBytes::from_string(fresh);
            let join = api_join::read(&request, version, &head.client_id, client.host.clone(), fresh);
            let answer = on_group(core, &group, move |coordinator| async move {
                coordinator.join(coordinator.shared.uptime_ms(), join).await
            });
            Handled::response(head, &api_join::answer(answer.await, version))?
        }
        ApiKey::SyncGroup => {
            let request: SyncGroupRequest = message::decode(version, frame)?;
            let group = request.group_id.clone();
            let sync = api_sync::read(request);
            let answer = on_group(core, &group, move |coordinator| async move {
                coordinator.sync(coordinator.shared.uptime_ms(), sync).await
            });
            Handled::response(head, &api_sync::answer(answer.await, version))?
        }
        ApiKey::Heartbeat => {
            let request: HeartbeatRequest = message::decode(version, frame)?;
            let identity = Identity {
                group: request.group_id.0.clone(),
                member_id: request.member_id,
                instance_id: request.group_instance_id,
                generation: request.generation_id,
            };
            let result = on_group(core, &request.group_id, move |coordinator| async move {
                coordinator.check_leads()?;
                let now = coordinator.shared.uptime_ms();
                let result = coordinator.groups.borrow_mut().heartbeat(now, &identity);
                coordinator.settle();
                result
            });
            Handled::response(head, &HeartbeatResponse::default().with_error_code(code(&result.await)))?
        }
        _ => {
            let request: LeaveGroupRequest = message::decode(version, frame)?;
            let members = api_leave::members(&request, version);
            let group = request.group_id.clone();
            let results = on_group(core, &request.group_id, move |coordinator| async move {
                let now = coordinator.shared.uptime_ms();
                let mut results = Vec::with_capacity(members.len());
                for member in members {
                    let instance = member.group_instance_id.as_ref();
                    let mut groups = coordinator.groups.borrow_mut();
                    let leads = coordinator.check_leads();
                    let result = leads.and_then(|()| groups.leave(now, &group, &member.member_id, instance));
                    results.push((member, result));
                }
                coordinator.settle();
                results
            });
            Handled::response(head, &api_leave::answer(results.await, version))?
        }
    })
}

/// DescribeGroups, ListGroups, DeleteGroups.
pub(super) async fn handle_overview(
    core: &Rc<Core>,
    key: ApiKey,
    head: &Head,
    frame: Bytes,
) -> Result<Handled, MessageError> {
    let version = head.version;
    Ok(match key {
        ApiKey::DescribeGroups => {
            let request: DescribeGroupsRequest = message::decode(version, frame)?;
            let asked = once(request.groups.into_iter(), Clone::clone);
            let items = asked.map(|id| (core.shared.coordinator_of(&id), id)).collect();
            let run = move |coordinator: Rc<Coordinator>, id: GroupId| async move {
                if let Err(error) = coordinator.caught_up().await {
                    return api_describe::refused(&id, error);
                }
                let groups = coordinator.groups.borrow();
                let offsets = coordinator.offsets.borrow();
                api_describe::describe(&id, groups.get(&id), !offsets.group(&id).is_empty(), version)
            };
            let groups = per_coordinator(core, items, run).await;
            Handled::response(head, &DescribeGroupsResponse::default().with_groups(groups))?
        }
        ApiKey::ListGroups => {
            let request: ListGroupsRequest = message::decode(version, frame)?;
            // Those of other nodes are theirs to list: clients ask every broker.
            let coordinators = 0..core.shared.layout.coordinators;
            let items = coordinators.map(|number| (number, request.clone())).collect();
            let run = |coordinator: Rc<Coordinator>, request: ListGroupsRequest| async move {
                if !coordinator.leading.acts() {
                    return Vec::new();
                }
                let groups = coordinator.groups.borrow();
                let offsets = coordinator.offsets.borrow();
                api_list::list(&groups, &offsets, &request)
            };
            let groups = per_coordinator(core, items, run).await.into_iter().flatten().collect();
            Handled::response(head, &ListGroupsResponse::default().with_groups(groups))?
        }
        _ => {
            let request: DeleteGroupsRequest = message::decode(version, frame)?;
            let mut results = Vec::with_capacity(request.groups_names.len());
            for id in request.groups_names {
                let result = on_group(core, &id, {
                    let id = id.clone();
                    move |coordinator| async move { delete(&coordinator, &id).await }
                });
                let result = DeletableGroupResult::default().with_error_code(code(&result.await));
                results.push(result.with_group_id(id));
            }
            Handled::response(head, &DeleteGroupsResponse::default().with_results(results))?
        }
    })
}

async fn delete(coordinator: &Rc<Coordinator>, id: &str) -> Result<(), ResponseError> {
    coordinator.caught_up().await?;
    let known =
        coordinator.groups.borrow().get(id).is_some() || !coordinator.offsets.borrow().group(id).is_empty();
    if !known {
        return Err(ResponseError::GroupIdNotFound);
    }
    coordinator.groups.borrow_mut().delete(id)?;
    coordinator.change(Action::Forget { group: id.to_owned(), places: None }).await
}
