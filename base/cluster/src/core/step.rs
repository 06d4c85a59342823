//! The next step of a group towards where it is wanted: taken by its leader, one at a time.
//!
//! ```text
//! report ─> add learners ─> (they catch up) ─> hand over, if the leader goes ─> voters in and out, at once ─> report ─> …
//! ```
//!
//! Always holds:
//! - the next step follows from the map and the members as they are, so it does not matter who took the last one;
//! - nothing is changed before the map has the members as they are, as of now. So whoever is made a voter was a learner by the map
//!   while it was wanted, and does not forget the group before the map has it as out;
//! - a leader that is to go hands over first, where there is somebody to hand over to.

use std::collections::BTreeMap;

use replog::{Change, Index, Members, NodeId};

use super::map::{Actual, Group};
use crate::limits::CAUGHT_UP_ENTRIES;

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Wait: for others, or because all is done.
    Wait,
    /// Tell the map.
    Report(Actual),
    Change(Vec<Change>),
    /// To whom it is better. It may be tried again only after a while.
    Transfer(NodeId),
}

/// What a leader sees.
pub(crate) struct Seen<'a> {
    pub(crate) me: NodeId,
    /// The group by the map.
    pub(crate) group: &'a Group,
    /// Its members here, and an index from which, or from before, they are so.
    pub(crate) members: (Index, &'a Members),
    /// How far behind the others are, in entries.
    pub(crate) behind: &'a BTreeMap<NodeId, u64>,
}

impl Seen<'_> {
    fn caught_up(&self, node: &NodeId, up: &impl Fn(NodeId) -> bool) -> bool {
        *node == self.me
            || up(*node) && self.behind.get(node).is_some_and(|behind| *behind <= CAUGHT_UP_ENTRIES)
    }
}

/// The next step. `up`: whether a node is heard.
pub(crate) fn step(seen: &Seen<'_>, up: impl Fn(NodeId) -> bool) -> Step {
    let (index, members) = seen.members;
    let group = seen.group;
    if members.is_joint() || group.gone {
        // The group leaves the joint stage by itself.
        return Step::Wait;
    }
    // By the index, too: they may have been the same before, and others in between.
    let known = group.actual.as_ref().filter(|known| known.index >= index);
    if known.is_none_or(|known| known.voters != members.voters || known.learners != members.learners) {
        let (voters, learners) = (members.voters.clone(), members.learners.clone());
        return Step::Report(Actual { index, voters, learners });
    }
    let is_wanted = |node: &NodeId| group.wanted.contains(node);
    let gone: Vec<Change> =
        members.learners.iter().filter(|node| !is_wanted(node)).map(|node| Change::Out(*node)).collect();
    if !gone.is_empty() {
        return Step::Change(gone);
    }
    let missing = group.wanted.iter().filter(|node| !members.contains(**node));
    let missing: Vec<Change> = missing.filter(|node| up(**node)).map(|node| Change::Learner(*node)).collect();
    if !missing.is_empty() {
        return Step::Change(missing);
    }
    let all_here = group.wanted.iter().all(|node| members.contains(*node));
    let ready = members.learners.iter().all(|node| seen.caught_up(node, &up));
    let goes: Vec<NodeId> = members.voters.iter().copied().filter(|node| !is_wanted(node)).collect();
    if !all_here || !ready || group.wanted.is_empty() {
        return Step::Wait;
    }
    let fit =
        |node: &&NodeId| **node != seen.me && members.voters.contains(node) && seen.caught_up(node, &up);
    if goes.contains(&seen.me) {
        let heirs = || group.wanted.iter().filter(fit);
        let heir = heirs().find(|node| **node == group.preferred).or_else(|| heirs().next());
        if let Some(heir) = heir {
            return Step::Transfer(*heir);
        }
    }
    if !members.learners.is_empty() || !goes.is_empty() {
        let comes = members.learners.iter().map(|node| Change::Voter(*node));
        return Step::Change(comes.chain(goes.into_iter().map(Change::Out)).collect());
    }
    match group.preferred != seen.me && fit(&&group.preferred) {
        true => Step::Transfer(group.preferred),
        false => Step::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use replog::GroupId;

    fn nodes(list: &[u64]) -> Vec<NodeId> {
        list.iter().copied().map(NodeId).collect()
    }

    /// The step of node 1, which leads a group of such voters and learners since index 10.
    fn next(
        wanted: &[u64],
        known: (u64, &[u64], &[u64]),
        members: (&[u64], &[u64]),
        behind: &[(u64, u64)],
    ) -> Step {
        let (index, voters, learners) = known;
        let actual = Actual { index: Index(index), voters: nodes(voters), learners: nodes(learners) };
        let preferred = NodeId(wanted[0]);
        let group = Group::new(GroupId(5), 3, nodes(wanted), Bytes::new(), 1);
        let group = Group { preferred, actual: Some(actual), ..group };
        let mut now = Members::voters(nodes(members.0));
        now.learners = nodes(members.1);
        let behind = behind.iter().map(|(node, behind)| (NodeId(*node), *behind)).collect();
        let seen = Seen { me: NodeId(1), group: &group, members: (Index(10), &now), behind: &behind };
        // Node 9 is down.
        step(&seen, |node| node != NodeId(9))
    }

    #[test]
    fn nothing_is_changed_before_the_map_has_the_members_as_of_now() {
        let report = |index, voters: &[u64], learners: &[u64]| {
            Step::Report(Actual { index: Index(index), voters: nodes(voters), learners: nodes(learners) })
        };
        let caught_up = [(2, 0), (3, 0)];
        let promoted = Step::Change(vec![Change::Voter(NodeId(2)), Change::Voter(NodeId(3))]);
        let step = |known| next(&[1, 2, 3], known, (&[1], &[2, 3]), &caught_up);
        assert_eq!(step((10, &[1], &[])), report(10, &[1], &[2, 3]), "the map does not have the learners");
        assert_eq!(step((9, &[1], &[2, 3])), report(10, &[1], &[2, 3]), "it has those of an earlier time");
        assert_eq!(step((10, &[1], &[2, 3])), promoted);
        assert_eq!(step((11, &[1], &[2, 3])), promoted, "seen by who came by a snapshot");
    }

    #[test]
    fn learners_come_catch_up_and_take_the_place_of_others_at_once() {
        let add = next(&[1, 2, 4], (10, &[1, 2, 3], &[]), (&[1, 2, 3], &[]), &[(2, 0), (3, 0)]);
        assert_eq!(add, Step::Change(vec![Change::Learner(NodeId(4))]));
        let far = [(2, 0), (3, 0), (4, CAUGHT_UP_ENTRIES + 1)];
        assert_eq!(next(&[1, 2, 4], (10, &[1, 2, 3], &[4]), (&[1, 2, 3], &[4]), &far), Step::Wait);
        let near = [(2, 0), (3, 0), (4, CAUGHT_UP_ENTRIES)];
        let swapped = Step::Change(vec![Change::Voter(NodeId(4)), Change::Out(NodeId(3))]);
        assert_eq!(next(&[1, 2, 4], (10, &[1, 2, 3], &[4]), (&[1, 2, 3], &[4]), &near), swapped);
        // Who is down is waited for, and who is not wanted goes first.
        assert_eq!(next(&[1, 2, 9], (10, &[1, 2, 3], &[]), (&[1, 2, 3], &[]), &near), Step::Wait);
        let out = Step::Change(vec![Change::Out(NodeId(4))]);
        assert_eq!(next(&[1, 2, 3], (10, &[1, 2, 3], &[4]), (&[1, 2, 3], &[4]), &near), out);
    }

    #[test]
    fn a_leader_that_goes_or_is_not_the_preferred_one_hands_over_to_who_is_there() {
        let all = [(2, 0), (3, 0), (4, 0)];
        let goes =
            |behind: &[(u64, u64)]| next(&[3, 2, 4], (10, &[1, 2, 3], &[4]), (&[1, 2, 3], &[4]), behind);
        assert_eq!(goes(&all), Step::Transfer(NodeId(3)), "the preferred one");
        assert_eq!(
            goes(&[(2, 0), (3, 5000), (4, 0)]),
            Step::Transfer(NodeId(2)),
            "another, if that one is behind"
        );
        let alone = next(&[4], (10, &[1], &[4]), (&[1], &[4]), &all);
        assert_eq!(alone, Step::Change(vec![Change::Voter(NodeId(4)), Change::Out(NodeId(1))]), "to nobody");
        let prefers =
            |behind: &[(u64, u64)]| next(&[2, 1, 3], (10, &[1, 2, 3], &[]), (&[1, 2, 3], &[]), behind);
        assert_eq!(prefers(&all), Step::Transfer(NodeId(2)));
        assert_eq!(prefers(&[(2, 5000), (3, 0)]), Step::Wait);
    }
}
