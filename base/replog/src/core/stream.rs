//! The write side of a log: what waits, what is being written, what is durable, which segments are still needed.
//!
//! Always holds:
//! - at most one batch is in flight, and it lies behind everything that is durable;
//! - a block is given out once: never written again after it was durable;
//! - entries are in the log in the order of the calls to [`Stream::propose`], and each group's indexes have no gaps;
//! - a segment is given up only when truncations that cover all its entries are durable, oldest segment first.
//!
//! The calling contract: [`next_step`](Stream::next_step) says what to do; after `Write`, the bytes go to the disk
//! and then [`written`](Stream::written) is called; after `Roll`, a segment is made ready and
//! [`rolled`](Stream::rolled) is called. Nothing else may be started in between.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::core::batch::{self, RECORD_HEAD_BYTES, Record};
use crate::core::format::{Position, Salt};
use crate::core::recovery::{Found, GroupState, Held};
use crate::limits::{self, BATCH_BYTES_MAX, BLOCK_BYTES, PROPOSED_BYTES_MAX, RESERVED_BLOCKS};
use crate::{GroupId, Index};

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
}

#[derive(Debug)]
pub(crate) struct Stream {
    log: u64,
    segment_blocks: u32,
    groups: BTreeMap<GroupId, Group>,
    queue: VecDeque<(GroupId, Index, Bytes)>,
    /// Bytes of entries that are queued or in flight.
    proposed_bytes: usize,
    /// Bytes of the records that are queued.
    queued_bytes: usize,
    flight: Option<Flight>,
    /// Oldest first; the last is being written.
    segments: VecDeque<Held>,
    durable: Position,
    /// Truncations that no batch carries yet.
    truncations: BTreeMap<GroupId, Index>,
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

#[derive(Clone, Copy, Debug, Default)]
struct Group {
    /// The last index given out.
    last: Index,
    /// The last durable one.
    committed: Index,
    /// The state machine has said that it needs nothing up to here.
    truncated: Index,
    /// The same, and that is durable.
    truncated_durable: Index,
}

#[derive(Debug)]
struct Flight {
    blocks: u32,
    entry_bytes: usize,
    entries: u64,
    commits: BTreeMap<GroupId, Index>,
    truncations: Vec<(GroupId, Index)>,
    seal: bool,
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
        let groups = found.groups.iter().map(|(group, state)| (*group, Group::recovered(*state))).collect();
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
        Stream {
            log,
            segment_blocks,
            groups,
            queue: VecDeque::new(),
            proposed_bytes: 0,
            queued_bytes: 0,
            flight: None,
            segments,
            durable,
            truncations: BTreeMap::new(),
            sealed,
            next: Next::Making,
        }
    }

    /// Queues an entry and gives it its index.
    pub(crate) fn propose(&mut self, group: GroupId, bytes: Bytes) -> Result<Index, Refusal> {
        self.place_for(bytes.len())?;
        let groups_max = self.groups_max();
        if !self.groups.contains_key(&group) && self.groups.len() >= groups_max {
            return Err(Refusal::TooManyGroups { max: groups_max });
        }
        let state = self.groups.entry(group).or_default();
        state.last = state.last.next();
        let index = state.last;
        self.proposed_bytes += cost(bytes.len());
        self.queued_bytes += RECORD_HEAD_BYTES + bytes.len();
        self.queue.push_back((group, index, bytes));
        Ok(index)
    }

    /// Whether an entry of this many bytes would be taken now. What is taken has a place on the disk, so that a full disk
    /// is never met by it: in what is left of the current segment, or in a next one that is ready.
    pub(crate) fn place_for(&self, bytes: usize) -> Result<(), Refusal> {
        let max = limits::entry_bytes_max(self.segment_bytes());
        if bytes > max {
            return Err(Refusal::TooLarge { max });
        }
        if self.proposed_bytes > 0 && self.proposed_bytes + cost(bytes) > PROPOSED_BYTES_MAX {
            return Err(Refusal::Full);
        }
        let waiting = self.queued_bytes + RECORD_HEAD_BYTES * (1 + self.truncations.len()) + bytes;
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
        if !self.groups.contains_key(&group) && self.groups.len() >= self.groups_max() {
            // No entry of such a group would be taken either.
            return;
        }
        let state = self.groups.entry(group).or_default();
        assert!(
            through <= state.committed || state.committed == state.last,
            "group {group} truncated through {through}, which is proposed and not committed"
        );
        if through <= state.truncated {
            return;
        }
        state.truncated = through;
        if through > state.last {
            state.last = through;
            state.committed = through;
        }
        self.truncations.insert(group, through);
    }

    /// What to do next, if anything. `seal`: the stream has been idle, so write a seal if one is due.
    pub(crate) fn next_step(&mut self, seal: bool) -> Option<Step> {
        assert!(self.flight.is_none(), "one batch at a time");
        if let Some((_, _, bytes)) = self.queue.front() {
            let first = RECORD_HEAD_BYTES + bytes.len();
            let left = self.blocks_left_for_entries();
            if batch::blocks_for(self.checkpoint_bytes() + first) > left {
                return Some(Step::Roll);
            }
            return Some(Step::Write(self.plan(left, false)));
        }
        if !self.truncations.is_empty() && self.would_free() {
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
        for (group, index) in &flight.commits {
            active.last_of.insert(*group, *index);
            self.groups.entry(*group).or_default().committed = *index;
        }
        for (group, through) in flight.truncations {
            self.groups.entry(group).or_default().truncated_durable = through;
        }
        Durable { commits: flight.commits.into_iter().collect(), entries: flight.entries }
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
        let needed = |(group, last): (&GroupId, &Index)| self.group(*group).truncated_durable < *last;
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

    fn group(&self, group: GroupId) -> Group {
        self.groups.get(&group).copied().unwrap_or_default()
    }

    fn segment_bytes(&self) -> u64 {
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
            && self.segments[0].last_of.iter().all(|(group, last)| self.group(*group).truncated >= *last)
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
        (self.groups.len() + 1) * (RECORD_HEAD_BYTES + 8)
    }

    /// Plans the next batch: of at most `blocks_max` blocks, save that a segment's first batch always holds all groups.
    fn plan(&mut self, blocks_max: u32, seal: bool) -> Batch {
        let mut records = Vec::new();
        let mut body_bytes = 0;
        let mut truncations = Vec::new();
        if self.begins_segment() {
            self.checkpoint(&mut records, &mut truncations);
            body_bytes = records.iter().map(Record::encoded_len).sum();
        }
        let fits = |bytes: usize| batch::blocks_for(bytes) <= blocks_max;
        while !self.truncations.is_empty() && !seal && fits(body_bytes + RECORD_HEAD_BYTES) {
            let Some((group, through)) = self.truncations.pop_first() else { break };
            records.push(Record::Truncated { group, through });
            truncations.push((group, through));
            body_bytes += RECORD_HEAD_BYTES;
        }
        // A truncation may have moved its group forward, so it goes in front of the group's entries.
        let entries_too = self.truncations.is_empty() && !seal;
        let (mut entry_bytes, mut entries, mut commits) = (0, 0, BTreeMap::new());
        while let Some((_, _, bytes)) = self.queue.front() {
            let record = RECORD_HEAD_BYTES + bytes.len();
            let over = body_bytes + record > BATCH_BYTES_MAX && entries > 0;
            if !entries_too || over || !fits(body_bytes + record) {
                break;
            }
            let Some((group, index, bytes)) = self.queue.pop_front() else { break };
            body_bytes += record;
            entry_bytes += cost(bytes.len());
            entries += 1;
            self.queued_bytes -= record;
            commits.insert(group, index);
            records.push(Record::Entry { group, index, bytes });
        }
        let at = Position { generation: self.active_generation(), block: self.active().end };
        let blocks = batch::blocks_for(body_bytes);
        assert!(blocks <= self.blocks_left(), "a batch lies within its segment");
        self.flight = Some(Flight { blocks, entry_bytes, entries, commits, truncations, seal });
        Batch { at, blocks, watermark: self.durable, records }
    }

    /// The state of all groups, with which a segment begins, and with it all truncations.
    fn checkpoint(&mut self, records: &mut Vec<Record>, truncations: &mut Vec<(GroupId, Index)>) {
        self.truncations.clear();
        for (group, state) in &self.groups {
            if state.committed.0 == 0 {
                continue;
            }
            records.push(Record::Group { group: *group, last: state.committed, truncated: state.truncated });
            truncations.push((*group, state.truncated));
        }
    }
}

impl Group {
    fn recovered(state: GroupState) -> Group {
        Group {
            last: state.last,
            committed: state.last,
            truncated: state.truncated,
            truncated_durable: state.truncated,
        }
    }
}

/// The most blocks that records of so many bytes take, in however many batches they are written: all that wait go into
/// one batch up to its bound, so two batches that follow each other have more than [`BATCH_BYTES_MAX`] between them.
fn blocks_at_most(bytes: usize) -> u32 {
    let batches = 2 * (bytes / BATCH_BYTES_MAX) as u32 + 2;
    batch::blocks_for(bytes) + batches
}

/// What a waiting entry counts for: an empty one is not free.
fn cost(bytes: usize) -> usize {
    bytes + RECORD_HEAD_BYTES
}
