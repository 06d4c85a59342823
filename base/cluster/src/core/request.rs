//! What is asked of the metadata group's leader, and what it says.
//!
//! Always holds: a request may come twice, or late. Those of nodes ([`Request::Join`] with its token, reports with their
//! indexes) come to the same; a change by the owner is to be made conditional where that matters.

use bytes::Bytes;
use replog::{GroupId, NodeId, Term};

use super::codec::{coded_enum, coded_struct};
use super::map::Actual;

impl Request {
    /// Whether the same twice comes to the same.
    pub(crate) fn is_repeatable(&self) -> bool {
        let sets = |command: &Command| {
            matches!(command, Command::Replicas { .. } | Command::Drain(_) | Command::Return(_))
        };
        match self {
            Request::Change(commands) => commands.iter().all(sets),
            _ => true,
        }
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// A number for a new node.
    Join(Joining),
    /// A node has started, or has other addresses.
    Announce(Announced),
    /// Groups that the node leads, and their members.
    Report(NodeId, Vec<Report>),
    /// A node holds nothing of some groups.
    Left(Left),
    /// The owner's changes: all of them, or none.
    Change(Vec<Command>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Joining {
    pub(crate) token: u64,
    pub(crate) name: String,
    pub(crate) kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    pub(crate) node: NodeId,
    pub(crate) boot: u64,
    pub(crate) peer: String,
    pub(crate) clients: std::collections::BTreeMap<String, String>,
    pub(crate) weight: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) group: GroupId,
    pub(crate) term: Term,
    pub(crate) actual: Actual,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) node: NodeId,
    /// By this version of the map it was to forget them.
    pub(crate) version: u64,
    pub(crate) groups: Vec<GroupId>,
}

/// A change by the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// A new group with so many replicas. Its number is in [`Changed::created`].
    Create {
        /// Replicas, as far as there are nodes; 1 to [`REPLICAS_MAX`](crate::limits::REPLICAS_MAX).
        replicas: u8,
        /// What it is.
        payload: Bytes,
    },
    /// A group goes, with everything in it.
    Delete(GroupId),
    /// Another payload.
    Payload {
        /// Of this group.
        group: GroupId,
        /// Only if it was changed last in this version of the map. Absent: in any case.
        since: Option<u64>,
        /// What it is from now on.
        payload: Bytes,
    },
    /// Another number of replicas.
    Replicas {
        /// Of this group.
        group: GroupId,
        /// 1 to [`REPLICAS_MAX`](crate::limits::REPLICAS_MAX).
        replicas: u8,
    },
    /// A record of the owner's.
    Record {
        /// Its key.
        key: Bytes,
        /// Only if it was changed last in this version of the map; 0: only if there is none. Absent: in any case.
        since: Option<u64>,
        /// Absent: it goes.
        value: Option<Bytes>,
    },
    /// The node's replicas move away, as far as there are nodes to take them.
    Drain(NodeId),
    /// The node takes replicas again.
    Return(NodeId),
    /// The node is forgotten. It must hold nothing, or be dead; its number is never used again.
    Remove(NodeId),
}

/// What has come of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// The map has it from this version on.
    pub version: u64,
    /// The groups that were created, in order.
    pub created: Vec<GroupId>,
}

/// Why a request is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The map is another one than was presumed: look again.
    #[error("{0} has changed meanwhile")]
    Changed(String),
    /// There is no such thing.
    #[error("there is no {0}")]
    Absent(String),
    /// It can't be done as things are.
    #[error("{0}")]
    Senseless(String),
    /// The node was removed from the cluster.
    #[error(
        "node {0} was removed from the cluster, and its number is never used again: give it an empty data folder and let it join"
    )]
    Removed(NodeId),
    /// A bound is reached.
    #[error("too many {0}")]
    Full(String),
}

/// What is answered to a request that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The number of a node that joins.
    Joined(NodeId),
    Done(Changed),
}

coded_struct!(Joining { token, name, kind });
coded_struct!(Announced { node, boot, peer, clients, weight });
coded_struct!(Left { node, version, groups });
coded_struct!(Report { group, term, actual });
coded_struct!(Changed { version, created });
coded_enum!(Request {
    1 = Join(joining),
    2 = Announce(announced),
    3 = Report(node, reports),
    4 = Left(left),
    5 = Change(commands),
});
coded_enum!(Command {
    1 = Create { replicas, payload },
    2 = Delete(group),
    3 = Payload { group, since, payload },
    4 = Replicas { group, replicas },
    5 = Record { key, since, value },
    6 = Drain(node),
    7 = Return(node),
    8 = Remove(node),
});
coded_enum!(Refusal { 1 = Changed(what), 2 = Absent(what), 3 = Senseless(why), 4 = Removed(node), 5 = Full(what) });
coded_enum!(Outcome { 1 = Joined(node), 2 = Done(changed) });
