//! Who belongs to a group, and changes of that, with their bytes.
//!
//! ```text
//! members = 4 × ( count (1), node (8) … )     voters, learners, outgoing voters, learners of the next step
//! change  = count (1), ( kind (1), node (8) ) …      kind: 1 voter, 2 learner, 3 out; none at all: leave the joint stage
//! ```
//!
//! Always holds: lists are sorted and without repetition, there are at most
//! [`MEMBERS_MAX`] members, nobody is a voter and a learner at once.

use bytes::Bytes;
use raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState};

use crate::NodeId;
use crate::core::format::get_u64;
use crate::limits::MEMBERS_MAX;

/// The members of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Members {
    /// Those whose votes count.
    pub voters: Vec<NodeId>,
    /// Those that follow the log without a vote.
    pub learners: Vec<NodeId>,
    /// While a change of several members is under way: the voters before it, of whom a majority is needed too.
    pub outgoing: Vec<NodeId>,
    /// Outgoing voters that will be learners afterwards.
    pub learners_next: Vec<NodeId>,
}

/// One step of a change of members. Several are made at once, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Becomes a voter.
    Voter(NodeId),
    /// Becomes a learner, or is made one of a voter.
    Learner(NodeId),
    /// Leaves.
    Out(NodeId),
}

impl Members {
    /// A group of these voters.
    pub fn voters(nodes: impl IntoIterator<Item = NodeId>) -> Members {
        let mut voters: Vec<NodeId> = nodes.into_iter().collect();
        voters.sort_unstable();
        voters.dedup();
        Members { voters, ..Members::default() }
    }

    /// Whether `node` belongs to the group, voting or not.
    pub fn contains(&self, node: NodeId) -> bool {
        self.lists().iter().any(|list| list.contains(&node))
    }

    /// Whether a change of several members is half done.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Everybody, once.
    pub fn all(&self) -> Vec<NodeId> {
        let mut all: Vec<NodeId> = self.lists().iter().flat_map(|list| list.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether `who` says yes for enough voters: a majority, while a change is half done of both sides.
    pub(crate) fn has_quorum(&self, who: impl Fn(NodeId) -> bool) -> bool {
        let majority = |list: &[NodeId]| {
            list.is_empty() || list.iter().filter(|node| who(**node)).count() > list.len() / 2
        };
        !self.voters.is_empty() && majority(&self.voters) && majority(&self.outgoing)
    }

    /// Whether `node` decides alone.
    pub(crate) fn is_alone(&self, node: NodeId) -> bool {
        self.voters == [node] && self.outgoing.is_empty()
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for list in self.lists() {
            out.push(u8::try_from(list.len()).expect("within MEMBERS_MAX"));
            list.iter().for_each(|node| out.extend_from_slice(&node.0.to_le_bytes()));
        }
    }

    /// Reads members from the front of `bytes`; gives what is behind them. `None`: they make no sense.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Members, &[u8])> {
        let mut rest = bytes;
        let mut list = || -> Option<Vec<NodeId>> {
            let (count, behind) = rest.split_first()?;
            let count = usize::from(*count);
            let nodes = behind.get(..count * 8)?;
            rest = &behind[count * 8..];
            let nodes: Vec<NodeId> = nodes.chunks_exact(8).map(|node| NodeId(get_u64(node, 0))).collect();
            (count <= MEMBERS_MAX && nodes.is_sorted_by(|a, b| a < b) && nodes.first() != Some(&NodeId(0)))
                .then_some(nodes)
        };
        let members =
            Members { voters: list()?, learners: list()?, outgoing: list()?, learners_next: list()? };
        members.makes_sense().then_some((members, rest))
    }

    fn makes_sense(&self) -> bool {
        let apart = |a: &[NodeId], b: &[NodeId]| !a.iter().any(|node| b.contains(node));
        apart(&self.voters, &self.learners)
            && apart(&self.outgoing, &self.learners)
            && apart(&self.voters, &self.learners_next)
            && self.learners_next.iter().all(|node| self.outgoing.contains(node))
            && (!self.voters.is_empty() || self.all().is_empty())
            && self.all().len() <= MEMBERS_MAX
    }

    fn lists(&self) -> [&Vec<NodeId>; 4] {
        [&self.voters, &self.learners, &self.outgoing, &self.learners_next]
    }

    pub(super) fn to_raft(&self) -> ConfState {
        let numbers = |list: &[NodeId]| list.iter().map(|node| node.0).collect::<Vec<_>>();
        ConfState {
            voters: numbers(&self.voters),
            learners: numbers(&self.learners),
            voters_outgoing: numbers(&self.outgoing),
            learners_next: numbers(&self.learners_next),
            ..ConfState::default()
        }
    }

    pub(super) fn from_raft(state: &ConfState) -> Members {
        let nodes = |list: &[u64]| {
            let mut nodes: Vec<NodeId> = list.iter().copied().map(NodeId).collect();
            nodes.sort_unstable();
            nodes
        };
        Members {
            voters: nodes(&state.voters),
            learners: nodes(&state.learners),
            outgoing: nodes(&state.voters_outgoing),
            learners_next: nodes(&state.learners_next),
        }
    }
}

/// The bytes of a membership entry.
pub(super) fn encode_changes(changes: &[Change]) -> Bytes {
    let mut out = vec![u8::try_from(changes.len()).expect("within MEMBERS_MAX")];
    for change in changes {
        let (kind, node) = match change {
            Change::Voter(node) => (1, node),
            Change::Learner(node) => (2, node),
            Change::Out(node) => (3, node),
        };
        out.push(kind);
        out.extend_from_slice(&node.0.to_le_bytes());
    }
    out.into()
}

/// Reads the bytes of a membership entry. No bytes at all: leave the joint stage.
pub(super) fn decode_changes(bytes: &[u8]) -> Option<Vec<Change>> {
    let Some((count, rest)) = bytes.split_first() else { return Some(Vec::new()) };
    let count = usize::from(*count);
    if count > MEMBERS_MAX || rest.len() != count * 9 {
        return None;
    }
    let change = |bytes: &[u8]| {
        let node = NodeId(get_u64(bytes, 1));
        match bytes[0] {
            _ if node == NodeId(0) => None,
            1 => Some(Change::Voter(node)),
            2 => Some(Change::Learner(node)),
            3 => Some(Change::Out(node)),
            _ => None,
        }
    };
    rest.chunks_exact(9).map(change).collect()
}

/// The library's form. Several steps go through the joint stage, which [`Group`](super::group::Group) leaves itself:
/// the library's own way of leaving is forgotten when the leader changes at the wrong moment.
pub(super) fn to_raft(changes: &[Change]) -> ConfChangeV2 {
    let single = |change: &Change| {
        let (kind, node) = match change {
            Change::Voter(node) => (ConfChangeType::AddNode, node),
            Change::Learner(node) => (ConfChangeType::AddLearnerNode, node),
            Change::Out(node) => (ConfChangeType::RemoveNode, node),
        };
        ConfChangeSingle { change_type: kind, node_id: node.0, ..ConfChangeSingle::default() }
    };
    let mut change = ConfChangeV2::default();
    change.set_changes(changes.iter().map(single).collect::<Vec<_>>().into());
    if changes.len() > 1 {
        change.set_transition(ConfChangeTransition::Explicit);
    }
    change
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_changes_come_back() {
        let nodes = |list: &[u64]| list.iter().copied().map(NodeId).collect::<Vec<_>>();
        let members = Members {
            voters: nodes(&[1, 2, 9]),
            learners: nodes(&[4]),
            outgoing: nodes(&[1, 5]),
            learners_next: nodes(&[5]),
        };
        let mut bytes = Vec::new();
        members.encode(&mut bytes);
        assert_eq!(Members::from_raft(&members.to_raft()), members);
        bytes.push(77);
        assert_eq!(Members::decode(&bytes), Some((members.clone(), &[77][..])));
        assert!((0..bytes.len() - 1).all(|len| Members::decode(&bytes[..len]).is_none()));

        let changes = [Change::Voter(NodeId(3)), Change::Learner(NodeId(u64::MAX)), Change::Out(NodeId(1))];
        let bytes = encode_changes(&changes);
        assert_eq!(decode_changes(&bytes).as_deref(), Some(&changes[..]));
        assert!((1..bytes.len()).all(|len| decode_changes(&bytes[..len]).is_none()));
        assert_eq!(decode_changes(&[]), Some(Vec::new()));
    }

    #[test]
    fn senseless_members_are_refused() {
        for lists in [
            [&[2, 1][..], &[], &[], &[]],
            [&[1, 1], &[], &[], &[]],
            [&[0], &[], &[], &[]],
            [&[1], &[1], &[], &[]],
            [&[], &[1], &[], &[]],
            [&[1], &[], &[2], &[3]],
        ] {
            let mut bytes = Vec::new();
            for list in lists {
                bytes.push(list.len() as u8);
                list.iter().for_each(|node: &u64| bytes.extend_from_slice(&node.to_le_bytes()));
            }
            assert_eq!(Members::decode(&bytes), None, "{lists:?}");
        }
    }

    #[test]
    fn a_half_done_change_needs_both_majorities() {
        let members =
            Members { outgoing: vec![NodeId(4), NodeId(5)], ..Members::voters((1..=3).map(NodeId)) };
        let has = |nodes: &[u64]| members.has_quorum(|node| nodes.contains(&node.0));
        assert!(has(&[1, 2, 4, 5]));
        assert!(!has(&[1, 2, 3, 4]));
        assert!(!has(&[1, 4, 5]));
    }
}
