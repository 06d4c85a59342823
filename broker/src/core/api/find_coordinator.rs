//! FindCoordinator (10): the node that leads the coordinator of a group. Transactions and share groups have none.

use wire::kafka::messages::find_coordinator_response::Coordinator;
use wire::kafka::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use wire::kafka::{ResponseError, StrBytes};

use super::Node;

const GROUP: i8 = 0;

/// The groups whose coordinators are asked for; none when it is not groups that are meant.
#[must_use]
pub fn groups(request: &FindCoordinatorRequest, version: i16) -> Vec<StrBytes> {
    match version {
        _ if request.key_type != GROUP => Vec::new(),
        ..4 => vec![request.key.clone()],
        _ => request.coordinator_keys.clone(),
    }
}

/// The answer. `found` has the nodes, where they are known, of the groups that [`groups`] gave.
#[must_use]
pub fn answer(
    request: &FindCoordinatorRequest,
    version: i16,
    found: &[Option<Node>],
) -> FindCoordinatorResponse {
    let refused = (request.key_type != GROUP).then_some((
        ResponseError::InvalidRequest,
        "only groups have a coordinator: no transactions are served",
    ));
    let entry = |key: &StrBytes, node: Option<&Node>| {
        let unknown = (ResponseError::CoordinatorNotAvailable, "nobody leads the group's coordinator now");
        let error = refused.or_else(|| node.is_none().then_some(unknown));
        let node = node.filter(|_| error.is_none());
        Coordinator::default()
            .with_key(key.clone())
            .with_node_id(BrokerId(node.map_or(-1, |node| node.id)))
            .with_host(node.map_or_else(StrBytes::new, |node| node.host.clone()))
            .with_port(node.map_or(-1, |node| i32::from(node.port)))
            .with_error_code(error.map_or(0, |(error, _)| error.code()))
            .with_error_message(error.map(|(_, text)| StrBytes::from_static_str(text)))
    };
    let node = |at: usize| found.get(at).and_then(Option::as_ref);
    if version >= 4 {
        let keys = request.coordinator_keys.iter().enumerate();
        return FindCoordinatorResponse::default()
            .with_coordinators(keys.map(|(at, key)| entry(key, node(at))).collect());
    }
    let one = entry(&request.key, node(0));
    FindCoordinatorResponse::default()
        .with_error_code(one.error_code)
        .with_error_message(if version >= 1 { one.error_message } else { None })
        .with_node_id(one.node_id)
        .with_host(one.host)
        .with_port(one.port)
}
