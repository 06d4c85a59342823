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
