//! DescribeCluster (60).

use wire::kafka::ResponseError;
use wire::kafka::messages::describe_cluster_response::DescribeClusterBroker;
use wire::kafka::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};

use super::{Identity, Node, OPERATIONS_UNKNOWN};

const BROKERS: i8 = 1;

/// The answer; controllers can't be described apart (endpoint type 2).
#[must_use]
pub fn answer(
    request: &DescribeClusterRequest,
    version: i16,
    controller: Option<i32>,
    broker: &Identity,
) -> DescribeClusterResponse {
    let mut response = DescribeClusterResponse::default()
        .with_cluster_id(broker.cluster_id.clone())
        .with_controller_id(BrokerId(controller.unwrap_or(-1)))
        .with_cluster_authorized_operations(OPERATIONS_UNKNOWN);
    if version >= 1 && request.endpoint_type != BROKERS {
        return response.with_error_code(ResponseError::UnsupportedEndpointType.code());
    }
    let node = |node: &Node| {
        DescribeClusterBroker::default()
            .with_broker_id(BrokerId(node.id))
            .with_host(node.host.clone())
            .with_port(i32::from(node.port))
    };
    response.brokers = broker.nodes.iter().map(node).collect();
    response
}
