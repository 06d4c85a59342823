//! Who is heard: what the leader of the metadata group says of nodes, by how long it has not heard them.
//!
//! Always holds: a node is down only after it was silent for long enough in this leadership, and up as soon as it is heard;
//! the leader itself is up. A node is given up for dead only where the cluster is told to do so, and only one that is in:
//! what a drained one has is moving away as it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use replog::NodeId;

use super::entry::Effect;
use super::map::{Map, Node, NodeState};

/// How long a node may be silent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Then it is down: nothing is placed there.
    pub(crate) down_after: Duration,
    /// Then it is dead: what it has is made anew elsewhere. Absent: never by itself.
    pub(crate) replace_after: Option<Duration>,
}

/// What has changed. `unheard`: for how long each node was not; those that are not in it were not waited for yet.
pub(crate) fn health(
    map: &Map,
    me: NodeId,
    unheard: &BTreeMap<NodeId, Duration>,
    patience: &Patience,
) -> Vec<Effect> {
    let changed = |node: &Arc<Node>| {
        let silent = match unheard.get(&node.id) {
            _ if node.id == me => Duration::ZERO,
            Some(silent) => *silent,
            None => return None,
        };
        let mut after = Node::clone(node);
        after.up = silent <= patience.down_after && node.boot != 0;
        let dies = patience.replace_after.is_some_and(|limit| silent > limit.max(patience.down_after));
        if dies && node.state == NodeState::In {
            after.state = NodeState::Dead;
        }
        (after != **node).then(|| Effect::Node(Arc::new(after)))
    };
    map.nodes.values().filter_map(changed).collect()
}
