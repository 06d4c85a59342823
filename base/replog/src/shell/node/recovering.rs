//! A group while its log is read: committed entries go to its state machine, and the newest stay in memory.
//!
//! Always holds: nothing is applied that is not committed, nor anything behind a change of members that is not in force;
//! what is not applied is kept, whatever it takes.

use std::collections::VecDeque;

use bytes::Bytes;

use super::FOUNDED;
use super::machine::StateMachine;
use crate::core::backlog::Backlog;
use crate::core::consensus::{self, Entry};
use crate::core::recovery::GroupState;
use crate::{Error, GroupId, Index, Term};

/// A group that is about to take part.
pub(super) struct Opening {
    pub(super) start: consensus::Start,
    pub(super) machine: Box<dyn StateMachine>,
    pub(super) backlog: Backlog,
}

/// A group while its log is read.
pub(super) struct Recovering {
    machine: Box<dyn StateMachine>,
    /// Entries up to here are committed, and no change of members is among them that is not in force.
    floor: Index,
    durable: Index,
    /// The machine has less than what the log has given up: it is given nothing, and refused in the end.
    behind: bool,
    kept: VecDeque<Entry>,
    kept_bytes: usize,
    base: (Index, Term),
    backlog: Backlog,
}

impl Recovering {
    pub(super) fn new(state: &GroupState, machine: Box<dyn StateMachine>) -> Recovering {
        let commit = state.state.hard_state.commit;
        let before_change = state.changes.first().map_or(commit, |change| Index(change.0 - 1));
        let durable = machine.durable();
        let (base, floor) = (state.state.truncated, commit.min(before_change));
        let behind = durable < state.truncated() && state.truncated() > FOUNDED.0;
        let (kept, backlog) = (VecDeque::new(), Backlog::default());
        Recovering { machine, floor, durable, behind, kept, kept_bytes: 0, base, backlog }
    }

    pub(super) fn take(&mut self, entry: &Entry, memory: usize) {
        let due = entry.index <= self.floor && entry.index > self.durable && !self.behind;
        if due && entry.kind == consensus::Kind::App {
            self.machine.apply(entry.index, &entry.bytes);
        }
        self.backlog.add(entry.index, entry.bytes.len());
        self.kept_bytes += entry.bytes.len();
        // A copy: it would keep its whole batch in memory.
        let bytes = Bytes::copy_from_slice(&entry.bytes);
        self.kept.push_back(Entry { bytes, ..*entry });
        while self.kept_bytes > memory && self.kept.front().is_some_and(|oldest| oldest.index <= self.floor) {
            let Some(oldest) = self.kept.pop_front() else { return };
            self.kept_bytes -= oldest.bytes.len();
            self.base = (oldest.index, oldest.term);
        }
    }

    pub(super) fn finish(self, group: GroupId, state: &GroupState) -> Result<Opening, Error> {
        if self.behind {
            return Err(Error::Behind { group, durable: self.durable, truncated: state.truncated() });
        }
        let start = consensus::Start {
            base: self.base,
            hard_state: state.state.hard_state,
            members: state.state.members.clone(),
            applied: self.floor.max(self.base.0),
            entries: self.kept.into(),
            terms: state.terms.clone(),
            voiceless: false,
        };
        Ok(Opening { start, machine: self.machine, backlog: self.backlog })
    }
}
