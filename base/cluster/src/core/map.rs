//! The map: who is in the cluster, and where its groups live and are to live.
//!
//! Always holds, in any version of it, as [`execute`](super::execute) and [`plan`](super::plan) make it:
//! - `version` ascends by one with every entry that was taken; numbers of nodes and groups are never given twice;
//! - whoever was a member of a group, or was wanted as one, and is neither any more, is in its `leaving` until it has
//!   said that it holds nothing of it; while it is, it is not wanted. So nobody forgets what it holds as a member;
//! - `actual` is what the group's leaders have reported, the latest of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use replog::{GroupId, Index, NodeId, Term};

use super::codec::{coded_enum, coded_struct};

/// The group that the map itself is kept in.
pub const META: GroupId = GroupId(0);

/// The map, as of one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    /// Ascends by one with every change. 0: nothing is known yet.
    pub version: u64,
    /// The cluster's number.
    pub cluster: u64,
    /// What its nodes are, as "dbshard".
    pub kind: String,
    /// The number that the next node gets.
    pub next_node: u64,
    /// The number that the next group gets.
    pub next_group: u64,
    /// All nodes but those that were removed.
    pub nodes: BTreeMap<NodeId, Arc<Node>>,
    /// All groups, [`META`] among them.
    pub groups: BTreeMap<GroupId, Arc<Group>>,
    /// The owner's own records, by key.
    pub records: BTreeMap<Bytes, Record>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number: never given to another.
    pub id: NodeId,
    /// Its name, for people.
    pub name: String,
    /// Drawn by the node before it asked to join: one that asks again gets the same number.
    pub token: u64,
    /// The number of its last start.
    pub boot: u64,
    /// Where its peers find it. Empty: nowhere, it is alone.
    pub peer: String,
    /// Where clients find it, by what they want of it.
    pub clients: BTreeMap<String, String>,
    /// Whether it takes part.
    pub state: NodeState,
    /// Whether it is heard. It follows the truth by a few seconds.
    pub up: bool,
    /// Its share of replicas, beside those of the others. 0: none.
    pub weight: u32,
}

/// Whether a node takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeState {
    /// It has its number and was not seen yet.
    Joining,
    /// It takes replicas.
    In,
    /// Its replicas are being moved away.
    Draining,
    /// It is drained: nothing is there any more.
    Out,
    /// It was not heard for so long that its replicas are made anew elsewhere.
    Dead,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its number: never given to another.
    pub id: GroupId,
    /// How many replicas it is to have, as far as there are nodes.
    pub replicas: u8,
    /// Where they are to be, sorted.
    pub wanted: Vec<NodeId>,
    /// Who of them is to lead.
    pub preferred: NodeId,
    /// Who founds it, alone; the others join.
    pub founder: NodeId,
    /// It has had all of its replicas once: before that, nothing in it is as safe as it is to be.
    pub formed: bool,
    /// Where it is.
    pub actual: Option<Actual>,
    /// Who leads it, and since which term, as the last one that won has said.
    pub led: Option<(Term, NodeId)>,
    /// Who may still hold something of it and is to forget it.
    pub leaving: Vec<NodeId>,
    /// The version of the map in which somebody was added to `leaving` last: what was said before does not count.
    pub leaving_since: u64,
    /// It was deleted, and goes once nobody holds anything of it.
    pub gone: bool,
    /// What it is, in its owner's words.
    pub payload: Bytes,
    /// The version of the map in which the payload was changed last.
    pub since: u64,
}

/// The members of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    /// An index from which they were so, or from before.
    pub index: Index,
    /// Those whose votes count.
    pub voters: Vec<NodeId>,
    /// Those that follow.
    pub learners: Vec<NodeId>,
}

/// A record of the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The version of the map in which it was changed last.
    pub since: u64,
    /// What it says.
    pub value: Bytes,
}

coded_enum!(NodeState { 1 = Joining, 2 = In, 3 = Draining, 4 = Out, 5 = Dead });
coded_struct!(Node { id, name, token, boot, peer, clients, state, up, weight });
coded_struct!(Actual { index, voters, learners });
coded_struct!(Group {
    id,
    replicas,
    wanted,
    preferred,
    founder,
    formed,
    actual,
    led,
    leaving,
    leaving_since,
    gone,
    payload,
    since
});
coded_struct!(Record { since, value });
coded_struct!(Map { version, cluster, kind, next_node, next_group, nodes, groups, records });

impl Map {
    /// The owner's groups, those that were deleted left out.
    pub fn owned(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.groups.values().filter(|group| group.id != META && !group.gone)
    }

    /// Whether a node is there and heard.
    pub fn is_up(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.up)
    }

    /// The state of a node.
    pub fn state(&self, node: NodeId) -> Option<NodeState> {
        self.nodes.get(&node).map(|node| node.state)
    }

    /// Groups of which the node is to have a replica, and groups of which it has or may have something.
    pub fn holdings(&self, node: NodeId) -> (usize, usize) {
        let count = |has: &dyn Fn(&Group) -> bool| self.groups.values().filter(|group| has(group)).count();
        (count(&|group| group.wanted.contains(&node)), count(&|group| group.may_be_on(node)))
    }

    /// How many groups are not where they are to be.
    pub fn moving(&self) -> usize {
        self.groups.values().filter(|group| !group.is_settled()).count()
    }
}

impl Group {
    /// A new one, which `founder` founds.
    pub(crate) fn new(id: GroupId, replicas: u8, wanted: Vec<NodeId>, payload: Bytes, since: u64) -> Group {
        let founder = wanted.first().copied().unwrap_or_default();
        let mut wanted = wanted;
        wanted.sort_unstable();
        Group {
            id,
            replicas,
            wanted,
            preferred: founder,
            founder,
            formed: false,
            actual: None,
            led: None,
            leaving: Vec::new(),
            leaving_since: 0,
            gone: false,
            payload,
            since,
        }
    }

    /// Whether it is where it is to be.
    pub fn is_settled(&self) -> bool {
        match &self.actual {
            Some(actual) => actual.voters == self.wanted && actual.learners.is_empty(),
            None => self.wanted.is_empty(),
        }
    }

    /// Whether a node has its vote, as far as is known.
    pub fn has_voter(&self, node: NodeId) -> bool {
        self.actual.as_ref().is_some_and(|actual| actual.voters.contains(&node))
    }

    /// Whether a node is a member, as far as is known.
    pub fn has_member(&self, node: NodeId) -> bool {
        self.actual
            .as_ref()
            .is_some_and(|actual| actual.voters.contains(&node) || actual.learners.contains(&node))
    }

    /// Whether a node may hold something of it.
    pub fn may_be_on(&self, node: NodeId) -> bool {
        self.wanted.contains(&node) || self.has_member(node) || self.leaving.contains(&node)
    }

    /// The same with other members, wanted or actual, from this version on: whoever is neither any more is to forget it.
    pub(crate) fn with(&self, version: u64, wanted: &[NodeId], actual: Option<Actual>) -> Group {
        let mut group = Group { wanted: wanted.to_vec(), actual, ..self.clone() };
        group.wanted.sort_unstable();
        let before = self.actual.iter().flat_map(|actual| actual.voters.iter().chain(&actual.learners));
        let mut leaving: Vec<NodeId> = before.chain(&self.wanted).chain(&self.leaving).copied().collect();
        leaving.sort_unstable();
        leaving.dedup();
        leaving.retain(|node| {
            self.leaving.contains(node) || !(group.wanted.contains(node) || group.has_member(*node))
        });
        if leaving.iter().any(|node| !self.leaving.contains(node)) {
            group.leaving_since = version;
        }
        group.leaving = leaving;
        group
    }
}
