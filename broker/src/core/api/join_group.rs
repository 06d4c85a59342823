//! JoinGroup (11).

use bytes::Bytes;
use wire::kafka::StrBytes;
use wire::kafka::messages::join_group_response::JoinGroupResponseMember;
use wire::kafka::messages::{JoinGroupRequest, JoinGroupResponse};

use super::detached;
use crate::core::group::{Join, JoinAnswer};

/// What the request means to the coordinator. `fresh_id` is random text.
#[must_use]
pub fn read(
    request: &JoinGroupRequest,
    version: i16,
    client_id: &str,
    client_host: StrBytes,
    fresh_id: StrBytes,
) -> Join {
    // What a member is known by is kept; the request is not.
    Join {
        group: detached(&request.group_id),
        member_id: detached(&request.member_id),
        instance_id: request.group_instance_id.as_deref().map(detached),
        client_id: detached(client_id),
        client_host,
        session_ms: request.session_timeout_ms,
        rebalance_ms: if version >= 1 { request.rebalance_timeout_ms } else { request.session_timeout_ms },
        protocol_type: detached(&request.protocol_type),
        protocols: request
            .protocols
            .iter()
            .map(|p| (detached(&p.name), Bytes::copy_from_slice(&p.metadata)))
            .collect(),
        needs_known_id: version >= 4,
        may_skip_assignment: version >= 9,
        fresh_id,
    }
}

/// The response. Before version 7 a protocol name is never null.
#[must_use]
pub fn answer(answer: JoinAnswer, version: i16) -> JoinGroupResponse {
    let members = answer.members.into_iter().map(|(id, instance, metadata)| {
        let member = JoinGroupResponseMember::default().with_member_id(id).with_metadata(metadata);
        if version >= 5 { member.with_group_instance_id(instance) } else { member }
    });
    let protocol = if version >= 7 { answer.protocol } else { Some(answer.protocol.unwrap_or_default()) };
    let response = JoinGroupResponse::default()
        .with_error_code(answer.error.map_or(0, |e| e.code()))
        .with_generation_id(answer.generation)
        .with_protocol_name(protocol)
        .with_leader(answer.leader)
        .with_member_id(answer.member_id)
        .with_members(members.collect())
        .with_skip_assignment(version >= 9 && answer.skip_assignment);
    if version >= 7 { response.with_protocol_type(answer.protocol_type) } else { response }
}
