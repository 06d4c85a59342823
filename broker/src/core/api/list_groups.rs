//! ListGroups (16): groups with members, and those known by their offsets only.

use wire::kafka::StrBytes;
use wire::kafka::messages::list_groups_response::ListedGroup;
use wire::kafka::messages::{GroupId, ListGroupsRequest};

use crate::core::group::{Groups, State};
use crate::core::offsets::Offsets;

/// The groups of one shard that a request wants to see.
#[must_use]
pub fn list(groups: &Groups, offsets: &Offsets, request: &ListGroupsRequest) -> Vec<ListedGroup> {
    let entry = |id: StrBytes, protocol_type: &str, state: State| {
        ListedGroup::default()
            .with_group_id(GroupId(id))
            .with_protocol_type(StrBytes::from_string(protocol_type.to_owned()))
            .with_group_state(StrBytes::from_static_str(state.name()))
            .with_group_type(StrBytes::from_static_str("classic"))
    };
    let live = groups.iter().map(|(id, group)| entry(id.clone(), group.protocol_type(), group.state()));
    let quiet = offsets.groups().filter(|id| groups.get(id).is_none());
    let quiet = quiet.map(|id| entry(StrBytes::from_string(id.to_owned()), "", State::Empty));
    let is_in = |filter: &[StrBytes], word: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(word))
    };
    live.chain(quiet)
        .filter(|g| is_in(&request.states_filter, &g.group_state) && is_in(&request.types_filter, "classic"))
        .collect()
}
