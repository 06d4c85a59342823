//! The write side of a log: what waits, what is being written, what is durable, which segments are still needed.
//!
//! Always holds:
//! - at most one batch is in flight, and it lies behind everything that is durable;
//! - a block is given out once: never written again after it was durable;
//! - entries and hard states are in the log in the order of the calls, and each group's indexes have no gaps; what is
//!   known of a group beside them (truncations, members) goes in front of them;
//! - a segment is given up only when truncations that cover all its entries are durable, or that their groups were left,
//!   oldest segment first.
//!
//! The calling contract: [`next_step`](Stream::next_step) says what to do; after `Write`, the bytes go to the disk
//! and then [`written`](Stream::written) is called; after `Roll`, a segment is made ready and
//! [`rolled`](Stream::rolled) is called. Nothing else may be started in between.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::core::batch::{self, RECORD_HEAD_BYTES, Record, State};
use crate::core::consensus::{Entry, HardState, Kind, Members, SnapshotMeta};
use crate::core::format::{Position, Salt};
use crate::core::recovery::{Found, GroupState, Held};
use crate::limits::{self, BATCH_BYTES_MAX, BLOCK_BYTES, MEMBERS_MAX, PROPOSED_BYTES_MAX, RESERVED_BLOCKS};
use crate::{GroupId, Index, NodeId, Term};

/// Bytes of the state of a group that is not replicated, and at most of one that is.
const PLAIN_GROUP_BYTES: usize = 84;
const GROUP_BYTES_MAX: usize = PLAIN_GROUP_BYTES + 3 * MEMBERS_MAX * 8;

/// Why a proposal is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full,
    ReadOnly,
    TooLarge { max: usize },
    TooManyGroups { max: usize },
}

/// What to do next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Write this batch.
    Write(Batch),
    /// The current segment has no room for what comes next: make the next one ready.
    Roll,
}

/// A batch to write. [`batch::encode`] makes its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) at: Position,
    pub(crate) blocks: u32,
    pub(crate) watermark: Position,
    pub(crate) records: Vec<Record>,
}

/// What a batch that is durable has brought.
#[derive(Debug, Default)]
pub(crate) struct Durable {
    /// The groups that have new committed entries, each once, with the last of them.
    pub(crate) commits: Vec<(GroupId, Index)>,
    pub(crate) entries: u64,
    /// Everything up to this [`Ticket`] is durable.
    pub(crate) through: Ticket,
    /// A term or a vote has changed: [`Stream::votes`] goes to its second copy before anything is told.
    pub(crate) votes: bool,
}

/// The place of a call among all that have put something into the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

#[derive(Debug)]
pub(crate) struct Stream {
    log: u64,
    segment_blocks: u32,
    groups: BTreeMap<GroupId, Group>,
    queue: VecDeque<(Ticket, Record)>,
    /// The last one given out.
    ticket: Ticket,
    /// Everything up to here is durable, or in flight.
    written: Ticket,
    /// Bytes of entries that are queued or in flight.
    proposed_bytes: usize,
    /// Bytes of the records that are queued.
    queued_bytes: usize,
    flight: Option<Flight>,
    /// Oldest first; the last is being written.
    segments: VecDeque<Held>,
    durable: Position,
    /// What no batch carries yet and what goes in front of the queue.
    news: BTreeMap<GroupId, News>,
    /// Bytes that it takes.
    news_bytes: usize,
    /// Hard states in which only the commit is new.
    commits: BTreeMap<GroupId, HardState>,
    /// How many groups are replicated.
    replicated: usize,
    /// How many were left, and no batch says so yet.
    forgotten: usize,
    sealed: bool,
    next: Next,
}

/// How it stands with the segment behind the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is being made.
    Making,
    /// It is there.
    Ready,
    /// The disk has no room for it.
    NoSpace,
}

#[derive(Clone, Debug, Default)]
struct Group {
    /// The last index given out.
    last: Index,
    /// The last durable one.
    committed: Index,
    /// What goes on disk with a segment's beginning: the newest truncation and members, and the newest hard state that is
    /// durable, as one that waits may speak of entries that wait too.
    state: State,
    /// The newest hard state, durable or not.
    hard_state: HardState,
    /// Entries up to here are not needed, and that is durable.
    truncated_durable: Index,
}

/// What has become known of a group beside its entries.
#[derive(Clone, Debug, Default)]
struct News {
    truncated: bool,
    members: bool,
    /// It begins anew: takes the place of both.
    restored: bool,
    /// This node has left it. All else is of a later life.
    forgotten: bool,
}

#[derive(Debug, Default)]
struct Flight {
    blocks: u32,
    entry_bytes: usize,
    entries: u64,
    spans: BTreeMap<GroupId, Span>,
    hard_states: BTreeMap<GroupId, HardState>,
    truncations: Vec<(GroupId, Index)>,
    restored: Vec<(GroupId, Index)>,
    forgotten: Vec<GroupId>,
    seal: bool,
}

/// The entries of a group in a batch.
#[derive(Clone, Copy, Debug)]
struct Span {
    lowest: Index,
    last: Index,
}

impl Stream {
    /// A new log, whose first segment has generation 1 and is ready.
    pub(crate) fn new(log: u64, segment_bytes: u64) -> Stream {
        let first = Held { generation: 1, end: 1, last_of: BTreeMap::new() };
        let durable = Position { generation: 1, block: 1 };
        Stream::make(log, segment_bytes, BTreeMap::new(), VecDeque::from([first]), durable, true)
    }

    /// Goes on with a log that was found, once its torn tail has been zeroed.
    pub(crate) fn recovered(found: &Found) -> Stream {
        let groups = found.groups.iter().map(|(group, state)| (*group, Group::recovered(state))).collect();
        let segments = found.segments.iter().cloned().collect();
        Stream::make(found.log, found.segment_bytes, groups, segments, found.durable, found.sealed)
    }

    fn make(
        log: u64,
        segment_bytes: u64,
        groups: BTreeMap<GroupId, Group>,
        segments: VecDeque<Held>,
        durable: Position,
        sealed: bool,
    ) -> Stream {
        let segment_blocks =
            u32::try_from(segment_bytes / BLOCK_BYTES as u64).expect("within SEGMENT_BYTES_MAX");
        let replicated = groups.values().filter(|group| group.is_replicated()).count();
        Stream {
            log,
            segment_blocks,
            groups,
            queue: VecDeque::new(),
            ticket: Ticket(0),
            written: Ticket(0),
            proposed_bytes: 0,
            queued_bytes: 0,
            flight: None,
            segments,
            durable,
            news: BTreeMap::new(),
            news_bytes: 0,
            commits: BTreeMap::new(),
            replicated,
            forgotten: 0,
            sealed,
            next: Next::Making,
        }
    }

    /// Queues an entry and gives it its index.
    pub(crate) fn propose(&mut self, group: GroupId, bytes: Bytes) -> Result<Index, Refusal> {
        self.place_for(bytes.len())?;
        if !self.knows(group) {
            return Err(Refusal::TooManyGroups { max: self.groups_max() });
        }
        let index = self.last(group).next();
        self.append(group, Entry { index, term: Term(0), kind: Kind::App, bytes });
        Ok(index)
    }

    /// Queues an entry that has its index already, behind the group's last or in place of its end. Not to be refused: who
    /// may still refuse it asks [`place_for`](Stream::place_for) first.
    pub(crate) fn append(&mut self, group: GroupId, entry: Entry) -> Ticket {
        let Entry { index, term, kind, bytes } = entry;
        let state = self.groups.entry(group).or_default();
        assert!(
            index == state.last.next() || (index <= state.last && index > state.state.truncated.0),
            "group {group}: entry {index} neither follows {} nor takes the place of one",
            state.last
        );
        state.last = index;
        self.push(Record::Entry { group, index, term, kind, bytes })
    }

    /// Queues what this node has promised in a group, behind the entries that it speaks of.
    pub(crate) fn set_hard_state(&mut self, group: GroupId, state: HardState) -> Ticket {
        let known = self.groups.entry(group).or_default();
        let was_replicated = known.is_replicated();
        known.hard_state = state;
        self.commits.remove(&group);
        self.replicated += usize::from(known.is_replicated() && !was_replicated);
        self.push(Record::HardState { group, state })
    }

    /// As [`set_hard_state`](Stream::set_hard_state), where only the commit has moved on: it is written along with whatever
    /// comes next.
    pub(crate) fn set_commit(&mut self, group: GroupId, state: HardState) {
        self.groups.entry(group).or_default().hard_state = state;
        self.commits.insert(group, state);
    }

    /// Has commits written that would only have gone along.
    pub(crate) fn flush_commits(&mut self) {
        for (group, state) in std::mem::take(&mut self.commits) {
            self.set_hard_state(group, state);
        }
    }

    /// The members of a group, from an index on that is durable here.
    pub(crate) fn set_members(&mut self, group: GroupId, since: Index, members: Members) {
        self.change(group, |state, news| {
            state.state.members = (since, members);
            news.members = true;
        });
    }

    /// The state machine of the group has a snapshot in durable storage of its own: the log begins anew behind it. What
    /// waits of the group's entries is dropped.
    pub(crate) fn restore(&mut self, group: GroupId, snapshot: &SnapshotMeta) -> Ticket {
        self.change(group, |state, news| {
            (state.last, state.committed) = (snapshot.index, snapshot.index);
            state.state.truncated = (snapshot.index, snapshot.term);
            state.state.members = (snapshot.index, snapshot.members.clone());
            *news = News { restored: true, forgotten: news.forgotten, ..News::default() };
        });
        if let Some(flight) = &mut self.flight {
            flight.spans.remove(&group);
        }
        self.drop_waiting(|record| matches!(record, Record::Entry { group: of, .. } if *of == group));
        self.next_ticket()
    }

    /// This node leaves the group: nothing of it is needed any more. What waits of it is dropped. Its place is free once
    /// that is durable.
    pub(crate) fn forget(&mut self, group: GroupId) -> Ticket {
        let before = self.news_bytes_of(group);
        let known = self.groups.remove(&group);
        self.replicated -= usize::from(known.is_some_and(|state| state.is_replicated()));
        let news = self.news.insert(group, News { forgotten: true, ..News::default() });
        self.forgotten += usize::from(!news.is_some_and(|news| news.forgotten));
        self.news_bytes = self.news_bytes - before + self.news_bytes_of(group);
        self.commits.remove(&group);
        if let Some(flight) = &mut self.flight {
            flight.spans.remove(&group);
            flight.hard_states.remove(&group);
            flight.truncations.retain(|(of, _)| *of != group);
            flight.restored.retain(|(of, _)| *of != group);
        }
        self.drop_waiting(|record| match record {
            Record::Entry { group: of, .. } | Record::HardState { group: of, .. } => *of == group,
            _ => false,
        });
        self.next_ticket()
    }

    fn drop_waiting(&mut self, drops: impl Fn(&Record) -> bool) {
        let mut dropped = 0;
        self.queue.retain(|(_, record)| {
            let drops = drops(record);
            dropped += if drops { record.encoded_len() } else { 0 };
            !drops
        });
        self.queued_bytes -= dropped;
        self.proposed_bytes -= dropped;
    }

    fn push(&mut self, record: Record) -> Ticket {
        let bytes = record.encoded_len();
        self.proposed_bytes += bytes;
        self.queued_bytes += bytes;
        let ticket = self.next_ticket();
        self.queue.push_back((ticket, record));
        ticket
    }

    fn next_ticket(&mut self) -> Ticket {
        self.ticket.0 += 1;
        self.ticket
    }

    /// Whether the group is known, or may become so.
    pub(crate) fn knows(&self, group: GroupId) -> bool {
        let max = usize::try_from(self.segment_bytes() / 8).unwrap_or(usize::MAX);
        self.groups.contains_key(&group)
            || (self.groups.len() + self.forgotten < self.groups_max() && self.groups_bytes() <= max)
    }

    /// Whether an entry of this many bytes would be taken now. What is taken has a place on the disk, so that a full disk
    /// is never met by it: in what is left of the current segment, or in a next one that is ready.
    pub(crate) fn place_for(&self, bytes: usize) -> Result<(), Refusal> {
        let max = self.entry_bytes_max();
        if bytes > max {
            return Err(Refusal::TooLarge { max });
        }
        self.room_for(bytes)
    }

    /// Whether nothing waits, and there is space for what may come.
    pub(crate) fn is_idle(&self) -> bool {
        self.proposed_bytes == 0 && self.next != Next::NoSpace
    }

    /// The largest entry that it takes, in bytes.
    pub(crate) fn entry_bytes_max(&self) -> usize {
        limits::entry_bytes_max(self.segment_bytes())
    }

    /// As [`place_for`](Stream::place_for), of several entries together.
    pub(crate) fn room_for(&self, bytes: usize) -> Result<(), Refusal> {
        if self.proposed_bytes > 0 && self.proposed_bytes + RECORD_HEAD_BYTES + bytes > PROPOSED_BYTES_MAX {
            return Err(Refusal::Full);
        }
        let waiting = self.queued_bytes + RECORD_HEAD_BYTES + bytes + self.news_bytes;
        let fits = |blocks: u32, checkpoint: usize| blocks_at_most(checkpoint + waiting) <= blocks;
        let in_next = self.segment_blocks - 1 - RESERVED_BLOCKS;
        match self.next {
            _ if fits(self.blocks_left_for_entries(), self.checkpoint_bytes()) => Ok(()),
            Next::Ready if fits(in_next, self.groups_bytes()) => Ok(()),
            Next::Ready | Next::Making => Err(Refusal::Full),
            Next::NoSpace => Err(Refusal::ReadOnly),
        }
    }

    pub(crate) fn last(&self, group: GroupId) -> Index {
        self.groups.get(&group).map_or(Index(0), |state| state.last)
    }

    pub(crate) fn committed(&self, group: GroupId) -> Index {
        self.groups.get(&group).map_or(Index(0), |state| state.committed)
    }

    pub(crate) fn segments(&self) -> usize {
        self.segments.len()
    }

    /// The groups with entries in the oldest segment that they have not said to be needed no more. None: it is the current
    /// one, or about to go.
    pub(crate) fn holders(&self) -> Vec<GroupId> {
        let oldest = self.segments.front().filter(|_| self.segments.len() > 1);
        let held = oldest.into_iter().flat_map(|segment| &segment.last_of);
        held.filter(|(group, last)| self.truncated(**group) < **last).map(|(group, _)| *group).collect()
    }

    pub(crate) fn active_generation(&self) -> u32 {
        self.active().generation
    }

    /// How it stands with the next segment. A roll sets it back to `Making`.
    pub(crate) fn set_next(&mut self, next: Next) {
        self.next = next;
    }

    /// Whether the current segment is more than half full.
    pub(crate) fn needs_next_soon(&self) -> bool {
        self.blocks_left() < self.segment_blocks / 2
    }

    /// Whether proposals wait or are being written.
    pub(crate) fn is_busy(&self) -> bool {
        !self.queue.is_empty() || self.flight.is_some()
    }

    /// Whether a seal is still to be written for the last batch.
    pub(crate) fn wants_seal(&self) -> bool {
        !self.sealed && !self.is_busy()
    }

    /// The state machine of `group` has everything up to `through` in durable storage of its own.
    ///
    /// Beyond the last entry this moves the group forward: the next index is then `through` + 1. That is for a state
    /// machine that is ahead of its log.
    ///
    /// # Panics
    /// When it names entries that are proposed and not yet committed: no state machine can have those.
    pub(crate) fn truncate(&mut self, group: GroupId, through: Index) {
        if !self.knows(group) {
            // No entry of such a group would be taken either.
            return;
        }
        self.truncate_at(group, through, Term(0));
    }

    /// As [`truncate`](Stream::truncate), of a group whose entries have terms.
    pub(crate) fn truncate_at(&mut self, group: GroupId, through: Index, term: Term) {
        let (committed, last) = (self.committed(group), self.last(group));
        assert!(
            through <= committed || committed == last,
            "group {group} truncated through {through}, which is proposed and not committed"
        );
        if through <= self.truncated(group) {
            return;
        }
        self.change(group, |state, news| {
            state.state.truncated = (through, term);
            if through > state.last {
                state.last = through;
                state.committed = through;
            }
            news.truncated = true;
        });
    }

    /// What to do next, if anything. `seal`: the stream has been idle, so write a seal if one is due.
    pub(crate) fn next_step(&mut self, seal: bool) -> Option<Step> {
        assert!(self.flight.is_none(), "one batch at a time");
        let first = self.queue.front().map(|(_, record)| record.encoded_len());
        // A group that begins anew is waited for, and one that ends.
        let awaited = self.news.iter().find(|(_, news)| news.restored || news.forgotten);
        if let Some(first) = first.or_else(|| awaited.map(|(group, _)| self.news_bytes_of(*group))) {
            let left = self.blocks_left_for_entries();
            if batch::blocks_for(self.checkpoint_bytes() + first) > left {
                return Some(Step::Roll);
            }
            return Some(Step::Write(self.plan(left, false)));
        }
        if !self.news.is_empty() && self.would_free() {
            // Leaves the last block of the segment to the seal.
            let left = self.blocks_left().saturating_sub(1);
            if left > 0 {
                return Some(Step::Write(self.plan(left, false)));
            }
        }
        if seal && !self.sealed && self.blocks_left() > 0 {
            return Some(Step::Write(self.plan(1, true)));
        }
        None
    }

    /// The batch that was given out is durable.
    pub(crate) fn written(&mut self) -> Durable {
        let flight = self.flight.take().expect("a batch was in flight");
        let active = self.segments.back_mut().expect("there is always a current segment");
        active.end += flight.blocks;
        self.durable = Position { generation: active.generation, block: active.end };
        self.sealed = flight.seal;
        self.proposed_bytes -= flight.entry_bytes;
        for group in &flight.forgotten {
            for segment in &mut self.segments {
                segment.last_of.remove(group);
            }
        }
        for (group, at) in &flight.restored {
            for segment in &mut self.segments {
                segment.last_of.remove(group);
            }
            self.groups.entry(*group).or_default().truncated_durable = *at;
        }
        for (group, span) in &flight.spans {
            let state = self.groups.entry(*group).or_default();
            if span.lowest <= state.committed {
                // What was overwritten keeps no segment any more.
                let before = Index(span.lowest.0 - 1);
                for segment in &mut self.segments {
                    segment.last_of.entry(*group).and_modify(|last| *last = before.min(*last));
                }
            }
            state.committed = span.last;
            let active = self.segments.back_mut().expect("there is always a current segment");
            active.last_of.insert(*group, span.last);
        }
        let mut votes = !flight.forgotten.is_empty();
        for (group, new) in flight.hard_states {
            let old = &mut self.groups.entry(group).or_default().state.hard_state;
            votes |= (old.term, old.vote) != (new.term, new.vote);
            *old = new;
        }
        for (group, through) in flight.truncations {
            let state = self.groups.entry(group).or_default();
            state.truncated_durable = through.max(state.truncated_durable);
        }
        let commits = flight.spans.into_iter().map(|(group, span)| (group, span.last)).collect();
        Durable { commits, entries: flight.entries, through: self.written, votes }
    }

    /// The next segment is ready: its generation is the current one's plus one.
    pub(crate) fn rolled(&mut self) {
        assert!(self.flight.is_none(), "one batch at a time");
        let generation = self.active_generation().checked_add(1).expect("2^32 segments are never reached");
        self.segments.push_back(Held { generation, end: 1, last_of: BTreeMap::new() });
        self.next = Next::Making;
    }

    /// Takes a segment that no group needs any more off the log, the oldest first.
    pub(crate) fn give_up(&mut self) -> Option<u32> {
        let oldest = self.segments.front()?;
        let needed = |(group, last): (&GroupId, &Index)| {
            self.groups.get(group).is_none_or(|state| state.truncated_durable < *last)
        };
        // The first batch of the next segment must be durable: it says where this one ended, and the groups' state.
        let behind = self.durable.generation > oldest.generation;
        if !behind || oldest.last_of.iter().any(needed) {
            return None;
        }
        self.segments.pop_front().map(|segment| segment.generation)
    }

    /// The salt of a segment's checksums.
    pub(crate) fn salt(&self, generation: u32) -> Salt {
        Salt { log: self.log, generation }
    }

    fn active(&self) -> &Held {
        self.segments.back().expect("there is always a current segment")
    }

    /// Entries of the group up to here are not needed.
    pub(crate) fn truncated(&self, group: GroupId) -> Index {
        self.groups.get(&group).map_or(Index(0), |state| state.state.truncated.0)
    }

    /// The votes of all groups that have any, as they are after everything that was queued.
    pub(crate) fn votes(&self) -> impl Iterator<Item = (GroupId, Term, NodeId)> {
        let votes =
            self.groups.iter().map(|(group, state)| (*group, state.hard_state.term, state.hard_state.vote));
        votes.filter(|(_, term, _)| *term > Term(0))
    }

    pub(crate) fn segment_bytes(&self) -> u64 {
        u64::from(self.segment_blocks) * BLOCK_BYTES as u64
    }

    fn groups_max(&self) -> usize {
        limits::groups_max(self.segment_bytes())
    }

    /// Blocks of the current segment behind everything that is written or being written.
    fn blocks_left(&self) -> u32 {
        let in_flight = self.flight.as_ref().map_or(0, |flight| flight.blocks);
        self.segment_blocks.saturating_sub(self.active().end + in_flight)
    }

    fn blocks_left_for_entries(&self) -> u32 {
        self.blocks_left().saturating_sub(RESERVED_BLOCKS)
    }

    /// Whether truncations that are not durable yet would free the oldest segment.
    fn would_free(&self) -> bool {
        self.segments.len() > 1
            && self.durable.generation > self.segments[0].generation
            && self.segments[0].last_of.iter().all(|(group, last)| self.truncated(*group) >= *last)
    }

    /// Whether the next batch is its segment's first, and so begins with the state of all groups.
    fn begins_segment(&self) -> bool {
        self.active().end == 1
    }

    fn checkpoint_bytes(&self) -> usize {
        if self.begins_segment() { self.groups_bytes() } else { 0 }
    }

    /// Bytes that the state of all groups takes, one more that may come with a proposal among them.
    fn groups_bytes(&self) -> usize {
        let plain = self.groups.len() - self.replicated;
        let forgotten = self.forgotten * RECORD_HEAD_BYTES;
        plain * PLAIN_GROUP_BYTES + (self.replicated + 1) * GROUP_BYTES_MAX + forgotten
    }

    /// Changes what is known of a group beside its entries, and has it written.
    fn change(&mut self, group: GroupId, change: impl FnOnce(&mut Group, &mut News)) {
        let before = self.news_bytes_of(group);
        let state = self.groups.entry(group).or_default();
        let was_replicated = state.is_replicated();
        change(state, self.news.entry(group).or_default());
        self.replicated += usize::from(state.is_replicated() && !was_replicated);
        self.news_bytes = self.news_bytes - before + self.news_bytes_of(group);
    }

    fn news_bytes_of(&self, group: GroupId) -> usize {
        self.news_records(group).iter().map(Record::encoded_len).sum()
    }

    fn news_records(&self, group: GroupId) -> Vec<Record> {
        let mut records = Vec::new();
        let Some(news) = self.news.get(&group) else { return records };
        if news.forgotten {
            records.push(Record::Forgotten { group });
        }
        let Some(Group { state, .. }) = self.groups.get(&group) else { return records };
        let (through, term) = state.truncated;
        let (since, members) = &state.members;
        if news.restored {
            records.push(Record::Restored { group, at: through, term, members: members.clone() });
        }
        if news.members {
            records.push(Record::Members { group, since: *since, members: members.clone() });
        }
        if news.truncated && !news.restored {
            records.push(Record::Truncated { group, through, term });
        }
        records
    }

    /// Plans the next batch: of at most `blocks_max` blocks, save that a segment's first batch always holds all groups.
    fn plan(&mut self, blocks_max: u32, seal: bool) -> Batch {
        let mut records = Vec::new();
        let mut flight = Flight { seal, ..Flight::default() };
        if self.begins_segment() {
            self.checkpoint(&mut records, &mut flight);
        }
        let mut body_bytes: usize = records.iter().map(Record::encoded_len).sum();
        let fits = |bytes: usize| batch::blocks_for(bytes) <= blocks_max;
        while let Some((group, news)) = self.news.iter().next().filter(|_| !seal) {
            let group = *group;
            let new = self.news_records(group);
            let bytes: usize = new.iter().map(Record::encoded_len).sum();
            if !fits(body_bytes + bytes) {
                break;
            }
            if news.forgotten {
                flight.forgotten.push(group);
                self.forgotten -= 1;
            }
            let through = self.truncated(group);
            if news.restored {
                flight.restored.push((group, through));
            } else if news.truncated {
                flight.truncations.push((group, through));
            }
            body_bytes += bytes;
            records.extend(new);
            self.news.remove(&group);
            self.news_bytes -= bytes;
        }
        // A truncation may have moved its group forward, so it goes in front of the group's entries.
        let entries_too = self.news.is_empty() && !seal;
        while let Some((_, record)) = self.queue.front() {
            let bytes = record.encoded_len();
            let over = body_bytes + bytes > BATCH_BYTES_MAX && flight.entry_bytes > 0;
            if !entries_too || over || !fits(body_bytes + bytes) {
                break;
            }
            let Some((ticket, record)) = self.queue.pop_front() else { break };
            self.written = ticket;
            body_bytes += bytes;
            flight.entry_bytes += bytes;
            self.queued_bytes -= bytes;
            flight.note(&record);
            records.push(record);
        }
        // What they call committed is in this batch, or in one before.
        while self.queue.is_empty() && flight.entries > 0 {
            let Some((group, state)) = self.commits.pop_first() else { break };
            let record = Record::HardState { group, state };
            if !fits(body_bytes + record.encoded_len()) {
                self.commits.insert(group, state);
                break;
            }
            body_bytes += record.encoded_len();
            flight.note(&record);
            records.push(record);
        }
        if self.queue.is_empty() && self.news.is_empty() {
            self.written = self.ticket;
        }
        let at = Position { generation: self.active_generation(), block: self.active().end };
        let blocks = batch::blocks_for(body_bytes);
        assert!(blocks <= self.blocks_left(), "a batch lies within its segment");
        flight.blocks = blocks;
        self.flight = Some(flight);
        Batch { at, blocks, watermark: self.durable, records }
    }

    /// The state of all groups, with which a segment begins, and with it all truncations and members.
    fn checkpoint(&mut self, records: &mut Vec<Record>, flight: &mut Flight) {
        let news = std::mem::take(&mut self.news);
        (self.news_bytes, self.forgotten) = (0, 0);
        for (group, _) in news.iter().filter(|(_, news)| news.forgotten) {
            records.push(Record::Forgotten { group: *group });
            flight.forgotten.push(*group);
        }
        for (group, Group { committed, state, .. }) in &self.groups {
            if committed.0 == 0
                && state.hard_state == HardState::default()
                && state.members.1 == Members::default()
            {
                continue;
            }
            if news.get(group).is_some_and(|news| news.restored) {
                // Goes back, perhaps, so it is said apart from the others.
                let ((at, term), members) = (state.truncated, state.members.1.clone());
                records.push(Record::Restored { group: *group, at, term, members });
                flight.restored.push((*group, at));
            }
            records.push(Record::Group { group: *group, last: *committed, state: state.clone() });
            flight.truncations.push((*group, state.truncated.0));
        }
    }
}

impl Flight {
    fn note(&mut self, record: &Record) {
        match record {
            Record::Entry { group, index, .. } => {
                self.entries += 1;
                let span = self.spans.entry(*group).or_insert(Span { lowest: *index, last: *index });
                *span = Span { lowest: span.lowest.min(*index), last: *index };
            }
            Record::HardState { group, state } => {
                self.hard_states.insert(*group, *state);
            }
            _ => unreachable!("only entries and hard states wait in the queue"),
        }
    }
}

impl Group {
    /// Whether it is more than a plain sequence of entries. Once it is, it stays so.
    fn is_replicated(&self) -> bool {
        self.hard_state != HardState::default() || self.state.members.1 != Members::default()
    }

    fn recovered(found: &GroupState) -> Group {
        Group {
            last: found.last,
            committed: found.last,
            state: found.state.clone(),
            hard_state: found.state.hard_state,
            truncated_durable: found.truncated(),
        }
    }
}

/// The most blocks that records of so many bytes take, in however many batches they are written: all that wait go into
/// one batch up to its bound, so two batches that follow each other have more than [`BATCH_BYTES_MAX`] between them.
fn blocks_at_most(bytes: usize) -> u32 {
    let batches = 2 * (bytes / BATCH_BYTES_MAX) as u32 + 2;
    batch::blocks_for(bytes) + batches
}
