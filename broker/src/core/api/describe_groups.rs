//! DescribeGroups (15).

use wire::kafka::messages::GroupId;
use wire::kafka::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use wire::kafka::{ResponseError, StrBytes};

use super::OPERATIONS_UNKNOWN;
use crate::core::group::{Group, Member, State};

/// A group that can't be described here.
#[must_use]
pub fn refused(id: &GroupId, error: ResponseError) -> DescribedGroup {
    DescribedGroup::default()
        .with_group_id(id.clone())
        .with_error_code(error.code())
        .with_authorized_operations(OPERATIONS_UNKNOWN)
}

/// One group's description. A group that is known only by its offsets is empty; one not known at all is dead.
#[must_use]
pub fn describe(id: &GroupId, group: Option<&Group>, has_offsets: bool, version: i16) -> DescribedGroup {
    let described =
        DescribedGroup::default().with_group_id(id.clone()).with_authorized_operations(OPERATIONS_UNKNOWN);
    let text = |s: &str| StrBytes::from_string(s.to_owned());
    let Some(group) = group else {
        let state = if has_offsets { State::Empty.name() } else { "Dead" };
        return described.with_group_state(StrBytes::from_static_str(state));
    };
    let protocol = if group.state() == State::Stable { group.protocol() } else { "" };
    let member = |m: &Member| {
        let member = DescribedGroupMember::default()
            .with_member_id(m.id.clone())
            .with_client_id(m.client_id.clone())
            .with_client_host(m.client_host.clone())
            .with_member_metadata(m.metadata(protocol))
            .with_member_assignment(m.assignment.clone());
        if version >= 4 { member.with_group_instance_id(m.instance_id.clone()) } else { member }
    };
    described
        .with_group_state(StrBytes::from_static_str(group.state().name()))
        .with_protocol_type(text(group.protocol_type()))
        .with_protocol_data(text(protocol))
        .with_members(group.members().map(member).collect())
}
