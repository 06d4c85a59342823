//! LeaveGroup (13): one member before version 3, several from then on.

use wire::kafka::ResponseError;
use wire::kafka::messages::leave_group_request::MemberIdentity;
use wire::kafka::messages::leave_group_response::MemberResponse;
use wire::kafka::messages::{LeaveGroupRequest, LeaveGroupResponse};

/// The members that leave.
#[must_use]
pub fn members(request: &LeaveGroupRequest, version: i16) -> Vec<MemberIdentity> {
    if version >= 3 {
        request.members.clone()
    } else {
        vec![MemberIdentity::default().with_member_id(request.member_id.clone())]
    }
}

/// The response, from what became of each.
#[must_use]
pub fn answer(results: Vec<(MemberIdentity, Result<(), ResponseError>)>, version: i16) -> LeaveGroupResponse {
    if version < 3 {
        let error = results.first().map_or(0, |(_, result)| super::code(result));
        return LeaveGroupResponse::default().with_error_code(error);
    }
    let member = |(member, result): (MemberIdentity, Result<(), ResponseError>)| {
        MemberResponse::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(member.group_instance_id)
            .with_error_code(super::code(&result))
    };
    LeaveGroupResponse::default().with_members(results.into_iter().map(member).collect())
}
