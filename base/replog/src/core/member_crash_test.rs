//! The log of replicated groups against the disk that loses power: entries with terms, ends that are overwritten, hard
//! states, members, truncations, new beginnings from snapshots, groups that are left.
//!
//! What comes back is what was there at some moment not before the last that was acknowledged; what is said to be
//! committed is; votes stand.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::core::batch::Record;
use crate::core::consensus::{Entry, HardState, Kind, Members, SnapshotMeta};
use crate::core::crash_test::{Disk, LOG, bytes_of};
use crate::core::recovery::{Found, GroupState};
use crate::core::rng::Rng;
use crate::core::stream::{Batch, Next, Step, Stream, Ticket};
use crate::limits::{BLOCK_BYTES, SECTOR_BYTES, SEGMENT_BYTES_MIN};
use crate::{GroupId, Index, NodeId, Term};

/// A group as it should be.
#[derive(Clone, Default)]
struct Model {
    truncated: (Index, Term),
    entries: BTreeMap<Index, Entry>,
    hard_state: HardState,
    members: Vec<(Index, Members)>,
    /// What the log was after each call, by the call's ticket.
    logs: Vec<(Ticket, Index, BTreeMap<Index, Entry>)>,
    hard_states: Vec<(Ticket, HardState)>,
    /// The place of each entry that was appended.
    appended: Vec<(Ticket, Index)>,
    /// There was nothing of it when it was found.
    fresh: bool,
}

impl Model {
    fn last(&self) -> Index {
        self.entries.keys().next_back().copied().unwrap_or(self.truncated.0)
    }

    fn note(&mut self, ticket: Ticket) {
        self.logs.push((ticket, self.last(), self.entries.clone()));
    }

    /// Whether nothing ever happened in it.
    fn is_untouched(&self) -> bool {
        self.fresh && self.logs.len() + self.hard_states.len() + self.members.len() == 3
    }

    /// After a crash: what was found is what is.
    fn found(state: &GroupState, entries: BTreeMap<Index, Entry>) -> Model {
        let mut model = Model {
            truncated: state.state.truncated,
            entries,
            hard_state: state.state.hard_state,
            members: vec![state.state.members.clone()],
            fresh: *state == GroupState::default(),
            ..Model::default()
        };
        model.hard_states.push((Ticket::default(), model.hard_state));
        model.note(Ticket::default());
        model
    }
}

struct World {
    rng: Rng,
    disk: Disk,
    stream: Stream,
    in_flight: Option<(Batch, Vec<u8>)>,
    models: BTreeMap<GroupId, Model>,
    acknowledged: Ticket,
    /// Groups that are being left: when that is known to be durable, and what they were.
    forgetting: BTreeMap<GroupId, (Ticket, Model)>,
    forgotten: u64,
    overwritten: u64,
    restored: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut disk = Disk::default();
        disk.prepare(1);
        World {
            rng: Rng(seed),
            disk,
            stream: Stream::new(LOG, SEGMENT_BYTES_MIN),
            in_flight: None,
            models: (1..=3)
                .map(|group| (GroupId(group), Model::found(&GroupState::default(), BTreeMap::new())))
                .collect(),
            acknowledged: Ticket::default(),
            forgetting: BTreeMap::new(),
            forgotten: 0,
            overwritten: 0,
            restored: 0,
        }
    }

    fn live(&mut self, steps: usize) {
        for _ in 0..steps {
            match self.rng.below(17) {
                16 if self.rng.one_in(12) => self.forget(),
                0..=5 => self.append(),
                6 => self.promise(),
                7 => self.change_members(),
                8 => self.truncate(),
                9 if self.rng.one_in(6) => self.restore(),
                10..=12 => self.start_write(),
                _ => self.finish_write(),
            }
        }
    }

    /// A group; none that is being left, as it does not begin anew before it is gone.
    fn group(&mut self) -> Option<GroupId> {
        let group = GroupId(1 + self.rng.draw() % 3);
        (!self.forgetting.contains_key(&group)).then_some(group)
    }

    fn forget(&mut self) {
        let Some(group) = self.group() else { return };
        let ticket = self.stream.forget(group);
        let mut model = Model::found(&GroupState::default(), BTreeMap::new());
        std::mem::swap(self.models.get_mut(&group).expect("known"), &mut model);
        self.forgetting.insert(group, (ticket, model));
        self.forgotten += 1;
    }

    fn append(&mut self) {
        let Some(group) = self.group() else { return };
        let len = if self.rng.one_in(10) { self.rng.below(30_000) } else { self.rng.below(300) };
        if self.stream.place_for(len).is_err() {
            return;
        }
        let model = self.models.get_mut(&group).expect("known");
        let keep = model.hard_state.commit.max(model.truncated.0);
        // Sometimes a new leader overwrites the end.
        let back = if self.rng.one_in(5) { self.rng.draw() % (model.last().0 - keep.0 + 1) } else { 0 };
        let index = Index(model.last().0 - back).next();
        self.overwritten += u64::from(back > 0);
        let before = model.entries.get(&Index(index.0 - 1)).map_or(model.truncated.1, |entry| entry.term);
        let newer = u64::from(back > 0 || self.rng.one_in(10));
        let newest = model.entries.values().next_back().map_or(before, |entry| entry.term);
        let term = if newer > 0 { Term(newest.0 + 1) } else { before.max(Term(1)) };
        let kind = if self.rng.one_in(10) { Kind::Members } else { Kind::App };
        let bytes = Bytes::from(vec![self.rng.draw() as u8; len]);
        let entry = Entry { index, term, kind, bytes };
        model.entries.split_off(&index);
        model.entries.insert(index, entry.clone());
        let ticket = self.stream.append(group, entry);
        model.appended.push((ticket, index));
        model.note(ticket);
    }

    /// The last entry of the group that is durable, as the log stands now: entries may wait to overwrite what is.
    fn durable(&self, group: GroupId) -> Index {
        let waiting = self.models[&group].appended.iter().filter(|(ticket, _)| *ticket > self.acknowledged);
        let first = waiting.map(|(_, index)| Index(index.0 - 1)).min();
        first.map_or(self.stream.committed(group), |first| first.min(self.stream.committed(group)))
    }

    fn promise(&mut self) {
        let Some(group) = self.group() else { return };
        let model = self.models.get_mut(&group).expect("known");
        let term = model.entries.values().next_back().map_or(model.truncated.1, |entry| entry.term);
        let hard_state = &mut model.hard_state;
        if self.rng.one_in(2) {
            hard_state.term = Term(term.max(hard_state.term).0 + 1);
            hard_state.vote = NodeId(self.rng.draw() % 4);
        }
        let room =
            model.entries.keys().next_back().map_or(0, |last| last.0.saturating_sub(hard_state.commit.0));
        hard_state.commit.0 += self.rng.draw() % (room + 1);
        let ticket = self.stream.set_hard_state(group, *hard_state);
        model.hard_states.push((ticket, *hard_state));
    }

    fn change_members(&mut self) {
        let Some(group) = self.group() else { return };
        let durable = self.durable(group);
        let model = self.models.get_mut(&group).expect("known");
        let newest = model.members.last().map_or(Index(0), |(since, _)| *since);
        let commit = model.hard_state.commit.min(durable);
        if commit > newest.max(model.truncated.0) {
            let since = Index(
                newest.max(model.truncated.0).0
                    + 1
                    + self.rng.draw() % (commit.0 - newest.max(model.truncated.0).0),
            );
            let members = Members::voters((0..=self.rng.draw() % 5).map(|node| NodeId(node + 1)));
            model.members.push((since, members.clone()));
            self.stream.set_members(group, since, members);
        }
    }

    fn truncate(&mut self) {
        let Some(group) = self.group() else { return };
        let durable = self.durable(group);
        let model = self.models.get_mut(&group).expect("known");
        let most = model.hard_state.commit.min(durable);
        if most <= model.truncated.0 {
            return;
        }
        let through = Index(most.0 - self.rng.draw() % (most.0 - model.truncated.0.0));
        let Some(entry) = model.entries.get(&through) else { return };
        let term = entry.term;
        model.truncated = (through, term);
        self.stream.truncate_at(group, through, term);
    }

    fn restore(&mut self) {
        let Some(group) = self.group() else { return };
        let model = self.models.get_mut(&group).expect("known");
        let from = model.hard_state.commit.max(model.truncated.0);
        let at = Index(from.0 + 1 + self.rng.draw() % 10);
        let newest = model.entries.values().next_back().map_or(model.truncated.1, |entry| entry.term);
        let term = Term(newest.0 + 1);
        let members = Members::voters((0..=self.rng.draw() % 5).map(|node| NodeId(node + 1)));
        model.entries.clear();
        model.truncated = (at, term);
        model.members.push((at, members.clone()));
        model.hard_state.commit = at;
        self.restored += 1;
        let ticket = self.stream.restore(group, &SnapshotMeta { index: at, term, members });
        model.note(ticket);
    }

    fn prepare_next(&mut self) {
        let next = self.stream.active_generation() + 1;
        if !self.disk.segments.contains_key(&next) {
            self.disk.prepare(next);
        }
        self.stream.set_next(Next::Ready);
    }

    fn start_write(&mut self) {
        if self.in_flight.is_some() {
            return;
        }
        match self.stream.next_step(self.rng.one_in(3)) {
            Some(Step::Roll) => {
                self.prepare_next();
                self.stream.rolled();
            }
            Some(Step::Write(batch)) => {
                let bytes = bytes_of(&batch, self.stream.salt(batch.at.generation));
                self.in_flight = Some((batch, bytes));
            }
            None => {}
        }
    }

    fn finish_write(&mut self) {
        let Some((batch, bytes)) = self.in_flight.take() else { return };
        self.disk.write(&batch, &bytes, BLOCK_BYTES, || true);
        let through = self.stream.written().through;
        assert!(through >= self.acknowledged);
        self.acknowledged = through;
        self.forgetting.retain(|_, (ticket, _)| *ticket > through);
        while let Some(generation) = self.stream.give_up() {
            let file = self.disk.segments.remove(&generation).expect("it was there");
            self.disk.spare.push(file);
        }
        if self.rng.one_in(4) {
            self.prepare_next();
        }
    }

    fn crash(&mut self) {
        if let Some((batch, bytes)) = self.in_flight.take() {
            let unit = if self.rng.one_in(2) { SECTOR_BYTES } else { BLOCK_BYTES };
            let odds = 1 + self.rng.below(8);
            let rng = &mut self.rng;
            self.disk.write(&batch, &bytes, unit, || !rng.one_in(odds));
        }
        let found = self.disk.recover().expect("a crash is no damage").expect("there is a segment");
        self.disk.zero_torn(&found);
        let entries = self.entries(&found);
        for group in self.models.keys().copied().collect::<Vec<_>>() {
            let state = found.groups.get(&group).cloned().unwrap_or_default();
            let entries = entries.get(&group).cloned().unwrap_or_default();
            match self.forgetting.remove(&group) {
                // Not gone yet, so it is as it was.
                Some((_, before)) if found.groups.contains_key(&group) => {
                    self.check(&before, group, &state, &entries);
                }
                _ => self.check(&self.models[&group], group, &state, &entries),
            }
            self.models.insert(group, Model::found(&state, entries));
        }
        self.acknowledged = Ticket::default();
        self.stream = Stream::recovered(&found);
    }

    fn entries(&self, found: &Found) -> BTreeMap<GroupId, BTreeMap<Index, Entry>> {
        let mut entries: BTreeMap<GroupId, BTreeMap<Index, Entry>> = BTreeMap::new();
        for record in self.disk.records(found) {
            if let Record::Forgotten { group } = record {
                entries.remove(&group);
            }
            let Record::Entry { group, index, term, kind, bytes } = record else { continue };
            let Some(state) = found.groups.get(&group) else { continue };
            let known = entries.entry(group).or_default();
            let next = known.keys().next_back().map_or(state.truncated(), |last| *last).next();
            if index == next && index <= state.last && state.terms.at(index) == Some(term) {
                known.insert(index, Entry { index, term, kind, bytes });
            }
        }
        for (group, state) in &found.groups {
            let last = entries.get(group).and_then(|entries| entries.keys().next_back());
            assert_eq!(last.copied().unwrap_or(state.truncated()), state.last, "all are there");
        }
        entries
    }

    fn check(&self, model: &Model, group: GroupId, state: &GroupState, entries: &BTreeMap<Index, Entry>) {
        if model.is_untouched() {
            assert_eq!(*state, GroupState::default(), "group {group} was left, and comes back");
        }
        let floor = model.logs.iter().rposition(|(ticket, ..)| *ticket <= self.acknowledged).unwrap_or(0);
        let matches = |(_, last, log): &(Ticket, Index, BTreeMap<Index, Entry>)| {
            let mut behind = log.clone();
            *last.max(&state.truncated()) == state.last
                && behind.split_off(&state.truncated().next()) == *entries
        };
        let none = model.logs.is_empty() && entries.is_empty();
        assert!(
            none || model.logs[floor..].iter().any(matches),
            "group {group}: {:?} is no log of it",
            state.last
        );

        let promised = model.hard_states.iter().rfind(|(ticket, _)| *ticket <= self.acknowledged);
        let hard_state = state.state.hard_state;
        if let Some((_, promised)) = promised {
            assert!(hard_state.term >= promised.term, "group {group} forgot a term");
            let known: Vec<NodeId> = model
                .hard_states
                .iter()
                .filter(|(_, known)| known.term == hard_state.term)
                .map(|(_, known)| known.vote)
                .collect();
            assert!(
                known.is_empty() || known.contains(&hard_state.vote),
                "group {group} voted for somebody else"
            );
            assert!(
                hard_state.term > promised.term || hard_state.vote == promised.vote,
                "group {group} forgot a vote"
            );
        }
        assert!(hard_state.commit <= state.last && hard_state.commit >= state.truncated());
        for (index, entry) in
            entries.range(..=hard_state.commit).filter(|(index, _)| **index > model.truncated.0)
        {
            assert_eq!(
                model.entries.get(index),
                Some(entry),
                "group {group}: committed, and never taken back"
            );
        }
        let covered = model.members.iter().rfind(|(since, _)| *since <= state.truncated());
        if let Some((since, _)) = covered {
            assert!(state.state.members.0 >= *since, "group {group} forgot its members");
        }
        assert!(
            model.members.is_empty()
                || model.members.contains(&state.state.members)
                || state.state.members.0 == Index(0)
        );
    }
}

#[test]
fn what_a_member_has_said_survives_any_crash() {
    let (mut overwritten, mut restored, mut forgotten, mut rolled) = (0, 0, 0, 0);
    for seed in 0..60 {
        let mut world = World::new(seed);
        for _ in 0..10 {
            let steps = world.rng.below(200);
            world.live(steps);
            world.crash();
        }
        overwritten += world.overwritten;
        restored += world.restored;
        forgotten += world.forgotten;
        rolled += world.stream.active_generation();
        assert!(world.stream.segments() < 60);
    }
    let counts = [overwritten, restored, forgotten, u64::from(rolled)];
    assert!(overwritten > 300 && counts.iter().all(|count| *count > 100), "{counts:?}");
}
