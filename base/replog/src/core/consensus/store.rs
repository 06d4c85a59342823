//! What the library reads of a group's log: the newest entries, in memory.
//!
//! Always holds:
//! - everything behind [`base`](Store::base) is here, up to the last entry;
//! - nothing is dropped that is not applied here, so the library finds whatever it has still to give out;
//! - a member that needs what is no longer here gets a snapshot.
//!
//! How long the disk keeps an entry is another matter (truncation), and none of this.

use std::cell::Cell;
use std::collections::VecDeque;

use raft::eraftpb::{self, HardState};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};

use super::Start;
use super::entry::Entry;
use super::membership::Members;
use super::message::SnapshotMeta;
use crate::core::terms::Terms;
use crate::{Index, NodeId, Term};

/// Counted for an entry beside its bytes.
const ENTRY_OVERHEAD_BYTES: usize = 64;

#[derive(Debug)]
pub(super) struct Store {
    /// The position in front of the first entry that is here.
    base: (Index, Term),
    entries: VecDeque<eraftpb::Entry>,
    bytes: usize,
    /// The terms of all entries that the disk may have, those that are not here any more among them.
    terms: Terms,
    start: HardState,
    /// Members, with the index from which on they are valid; ascending, never empty.
    members: VecDeque<(Index, Members)>,
    /// The newest snapshot that the state machine has made.
    snapshot: Option<SnapshotMeta>,
    /// A member needs a snapshot, at least this new.
    wanted: Cell<Option<(NodeId, Index)>>,
}

impl Store {
    pub(super) fn new(start: &Start) -> Store {
        let mut store = Store {
            base: start.base,
            entries: VecDeque::new(),
            bytes: 0,
            terms: start.terms.clone(),
            start: start.hard_state.to_raft(),
            members: VecDeque::from([start.members.clone()]),
            snapshot: None,
            wanted: Cell::new(None),
        };
        store.terms.set(start.base.0, start.base.1);
        store.append(&start.entries.iter().map(Entry::to_raft).collect::<Vec<_>>());
        store
    }

    pub(super) fn base(&self) -> Index {
        self.base.0
    }

    pub(super) fn last(&self) -> Index {
        Index(self.base.0.0 + self.entries.len() as u64)
    }

    /// Bytes that the entries take in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The term of the entry at `index`, if that is known here.
    pub(super) fn term_of(&self, index: Index) -> Option<Term> {
        if index == self.base.0 {
            return Some(self.base.1);
        }
        let at = index.0.checked_sub(self.base.0.0 + 1)?;
        self.entries.get(usize::try_from(at).ok()?).map(|entry| Term(entry.term))
    }

    /// As [`term_of`](Store::term_of), of older entries too, back to the last that was truncated.
    pub(super) fn known_term_of(&self, index: Index) -> Option<Term> {
        if index > self.last() { None } else { self.terms.at(index) }
    }

    /// Forgets the terms of entries in front of `index`.
    pub(super) fn truncate(&mut self, index: Index) {
        self.terms.forget_before(index);
    }

    /// Puts entries behind what is there, or in place of its end.
    pub(super) fn append(&mut self, entries: &[eraftpb::Entry]) {
        let Some(first) = entries.first() else { return };
        let keep = first.index.checked_sub(self.base.0.0 + 1).expect("never in front of what is compacted");
        let keep = usize::try_from(keep).expect("fits memory");
        assert!(keep <= self.entries.len(), "a log has no gaps");
        for dropped in self.entries.drain(keep..) {
            self.bytes -= cost(&dropped);
        }
        self.bytes += entries.iter().map(cost).sum::<usize>();
        entries.iter().for_each(|entry| self.terms.set(Index(entry.index), Term(entry.term)));
        self.entries.extend(entries.iter().cloned());
    }

    /// The state machine begins anew from a snapshot: nothing of the log is left.
    pub(super) fn restore(&mut self, snapshot: &SnapshotMeta) {
        self.base = (snapshot.index, snapshot.term);
        self.entries.clear();
        self.bytes = 0;
        self.terms.restart(snapshot.index, snapshot.term);
        self.members = VecDeque::from([(snapshot.index, snapshot.members.clone())]);
        self.snapshot = None;
    }

    /// Drops entries up to `through`.
    pub(super) fn compact(&mut self, through: Index) {
        let Some(term) = self.term_of(through) else { return };
        let count = usize::try_from(through.0 - self.base.0.0).expect("they are in memory");
        for dropped in self.entries.drain(..count) {
            self.bytes -= cost(&dropped);
        }
        if self.entries.capacity() > 64 && self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
        self.base = (through, term);
    }

    /// The index of the oldest entry whose successors, it itself aside, take at most `bytes`.
    pub(super) fn oldest_within(&self, bytes: usize) -> Index {
        let mut over = self.bytes.saturating_sub(bytes);
        let mut index = self.base.0;
        for entry in &self.entries {
            if over == 0 {
                break;
            }
            over = over.saturating_sub(cost(entry));
            index = Index(entry.index);
        }
        index
    }

    pub(super) fn set_members(&mut self, from: Index, members: Members) {
        self.members.push_back((from, members));
    }

    /// The members that were valid at `index`; `None` when that is too long ago.
    pub(super) fn members_at(&self, index: Index) -> Option<&Members> {
        self.members.iter().rev().find(|(from, _)| *from <= index).map(|(_, members)| members)
    }

    pub(super) fn members(&self) -> &(Index, Members) {
        self.members.back().expect("never empty")
    }

    /// Forgets members that were valid only before `index`.
    pub(super) fn forget_members_before(&mut self, index: Index) {
        while self.members.get(1).is_some_and(|(from, _)| *from <= index) {
            self.members.pop_front();
        }
    }

    pub(super) fn set_snapshot(&mut self, snapshot: SnapshotMeta) {
        self.snapshot = Some(snapshot);
    }

    pub(super) fn forget_snapshot(&mut self) {
        self.snapshot = None;
    }

    /// Takes the wish for a snapshot: for whom, and how new at least.
    pub(super) fn take_wanted(&self) -> Option<(NodeId, Index)> {
        self.wanted.take()
    }
}

fn cost(entry: &eraftpb::Entry) -> usize {
    entry.data.len() + ENTRY_OVERHEAD_BYTES
}

impl Storage for Store {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState::new(self.start.clone(), self.members().1.to_raft()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        bytes_max: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> Result<Vec<eraftpb::Entry>> {
        let bytes_max = bytes_max.into().unwrap_or(u64::MAX);
        let Some(from) = low.checked_sub(self.base.0.0 + 1) else {
            return Err(Error::Store(StorageError::Compacted));
        };
        let count = (high - low) as usize;
        let mut bytes = 0;
        let within = |entry: &&eraftpb::Entry| {
            let first = bytes == 0;
            bytes += cost(entry) as u64;
            first || bytes <= bytes_max
        };
        Ok(self.entries.iter().skip(from as usize).take(count).take_while(within).cloned().collect())
    }

    fn term(&self, index: u64) -> Result<u64> {
        let missing = if index < self.base.0.0 { StorageError::Compacted } else { StorageError::Unavailable };
        self.term_of(Index(index)).map(|term| term.0).ok_or(Error::Store(missing))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.base.0.0 + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last().0)
    }

    fn snapshot(&self, request_index: u64, to: u64) -> Result<eraftpb::Snapshot> {
        // Behind it, the log must go on; and a node that is no member yet as of the snapshot would not take it.
        let joined = |members: &Members| members.contains(NodeId(to));
        let since =
            self.members.iter().find(|(_, members)| joined(members)).map_or(Index(0), |(from, _)| *from);
        let needed = Index(request_index).max(self.base.0).max(since);
        match &self.snapshot {
            Some(snapshot) if snapshot.index >= needed && joined(&snapshot.members) => Ok(snapshot.to_raft()),
            _ => {
                self.wanted.set(Some((NodeId(to), needed)));
                Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }
}
