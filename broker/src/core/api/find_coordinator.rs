//! FindCoordinator (10): this node, always. Transactions and share groups have none.

use wire::kafka::messages::find_coordinator_response::Coordinator;
use wire::kafka::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use wire::kafka::{ResponseError, StrBytes};

use super::Identity;

const GROUP: i8 = 0;

/// The answer.
#[must_use]
pub fn answer(request: &FindCoordinatorRequest, version: i16, broker: &Identity) -> FindCoordinatorResponse {
    let served = request.key_type == GROUP;
    let error = if served { 0 } else { ResponseError::InvalidRequest.code() };
    let message = (!served)
        .then(|| StrBytes::from_static_str("only groups have a coordinator: no transactions are served"));
    let node = if served { BrokerId(broker.node_id) } else { BrokerId(-1) };
    let (host, port) =
        if served { (broker.host.clone(), i32::from(broker.port)) } else { (StrBytes::new(), -1) };
    if version >= 4 {
        let entry = |key: &StrBytes| {
            Coordinator::default()
                .with_key(key.clone())
                .with_node_id(node)
                .with_host(host.clone())
                .with_port(port)
                .with_error_code(error)
                .with_error_message(message.clone())
        };
        return FindCoordinatorResponse::default()
            .with_coordinators(request.coordinator_keys.iter().map(entry).collect());
    }
    FindCoordinatorResponse::default()
        .with_error_code(error)
        .with_error_message(if version >= 1 { message } else { None })
        .with_node_id(node)
        .with_host(host)
        .with_port(port)
}
