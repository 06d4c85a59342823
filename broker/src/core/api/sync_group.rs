//! SyncGroup (14).

use wire::kafka::messages::{SyncGroupRequest, SyncGroupResponse};

use crate::core::group::{Identity, SyncAnswer, SyncRequest};

/// What the request means to the coordinator.
#[must_use]
pub fn read(request: SyncGroupRequest) -> SyncRequest {
    SyncRequest {
        identity: Identity {
            group: request.group_id.0,
            member_id: request.member_id,
            instance_id: request.group_instance_id,
            generation: request.generation_id,
        },
        protocol_type: request.protocol_type,
        protocol: request.protocol_name,
        assignments: request.assignments.into_iter().map(|a| (a.member_id, a.assignment)).collect(),
    }
}

/// The response.
#[must_use]
pub fn answer(answer: SyncAnswer, version: i16) -> SyncGroupResponse {
    let response = SyncGroupResponse::default()
        .with_error_code(answer.error.map_or(0, |e| e.code()))
        .with_assignment(answer.assignment);
    if version >= 5 {
        response.with_protocol_type(answer.protocol_type).with_protocol_name(answer.protocol)
    } else {
        response
    }
}
