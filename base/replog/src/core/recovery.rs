//! What a log's segments hold, told from their blocks alone.
//!
//! Always holds:
//! - a batch is written only when everything before it is durable, so a watermark of one batch vouches for all
//!   earlier ones, and at most the last batch of the log can be torn;
//! - so a tail is cut only where this generation wrote *parts* of a batch that nothing vouches for, every missing
//!   sector of which was never written;
//! - all else that is not whole is damage, perhaps of something acknowledged, and is reported, never cut.
//!
//! One thing can't be told by one node alone: a disk that confirmed the log's very last batch and then did not write
//! some sectors of it looks like a torn tail. The seal soon after leaves that window to a fraction of a second.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::core::batch::{Record, State};
use crate::core::consensus::{HardState, Kind};
use crate::core::format::{Header, Position};
use crate::core::scan::{Scan, Tail, Whole};
use crate::core::terms::Terms;
use crate::limits::BLOCK_BYTES;
use crate::{GroupId, Index, Term};

/// What the log knows of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupState {
    /// The last index given out.
    pub(crate) last: Index,
    pub(crate) state: State,
    /// Entries up to here are in none of the segments, so they must be among the truncated ones.
    pub(crate) absent: Index,
    /// The terms of the entries that are left.
    pub(crate) terms: Terms,
    /// Changes of members that are in the log, ascending, and may not be in force as of [`State::members`].
    pub(crate) changes: Vec<Index>,
}

impl GroupState {
    /// Entries up to here are no longer needed.
    pub(crate) fn truncated(&self) -> Index {
        self.state.truncated.0
    }

    fn entry(&mut self, index: Index, term: Term, kind: Kind) -> Result<(), String> {
        let within = index <= self.last && index > self.truncated() && term > Term(0);
        if self.last.0.checked_add(1) != Some(index.0) && !within {
            return Err(format!("entry {index} follows entry {}", self.last));
        }
        let before = index.0.checked_sub(1).and_then(|before| self.terms.at(Index(before)));
        if let Some(before) = before
            && before > term
        {
            return Err(format!("entry {index} is of term {term}, and follows one of term {before}"));
        }
        if within {
            self.absent = self.absent.min(Index(index.0 - 1));
            self.changes.retain(|change| *change < index);
        }
        self.terms.set(index, term);
        self.last = index;
        if kind == Kind::Members {
            self.changes.push(index);
        }
        Ok(())
    }

    fn truncate(&mut self, through: Index, term: Term) {
        if through > self.truncated() {
            self.state.truncated = (through, term);
            self.terms.forget_before(through);
        }
        if through > self.last {
            self.last = through;
            self.terms.restart(through, term);
        }
    }

    fn restore(&mut self, at: Index, term: Term) {
        (self.last, self.absent) = (at, Index(0));
        self.state.truncated = (at, term);
        self.terms.restart(at, term);
        self.changes.clear();
    }

    /// The state with which a segment begins: nothing may have gone back since.
    fn checkpoint(&mut self, last: Index, state: &State) -> Result<(), String> {
        let (now, then) = (&self.state, state);
        let back = last < self.last
            || then.truncated.0 < now.truncated.0
            || then.hard_state.term < now.hard_state.term
            || then.members.0 < now.members.0
            || last < then.truncated.0;
        if back {
            return Err(format!("goes back from entry {} to {last}", self.last));
        }
        if last > self.last {
            self.absent = last;
            self.terms.restart(then.truncated.0, then.truncated.1);
        }
        self.last = last;
        self.terms.forget_before(then.truncated.0);
        self.state = state.clone();
        Ok(())
    }
}

/// A segment that holds entries, or held them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) generation: u32,
    /// The first block behind its last batch.
    pub(crate) end: u32,
    /// The last index of each group that has entries here.
    pub(crate) last_of: BTreeMap<GroupId, Index>,
}

/// A log whose every acknowledged block is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) log: u64,
    /// The size of each segment file.
    pub(crate) segment_bytes: u64,
    pub(crate) groups: BTreeMap<GroupId, GroupState>,
    /// Groups that this node has left, and in which batch; each may have begun anew since. What lies in front of it is of
    /// an earlier life.
    pub(crate) forgotten: BTreeMap<GroupId, Position>,
    /// Oldest first; the last is the one to go on writing.
    pub(crate) segments: Vec<Held>,
    /// Segments behind the last, made ready and not used yet.
    pub(crate) prepared: Vec<u32>,
    /// Everything before is durable, and vouched for by the next batch.
    pub(crate) durable: Position,
    /// Blocks of the last segment that a torn batch touched: to be zeroed before anything else is written.
    pub(crate) torn: Option<Range<u32>>,
    /// Whether the last batch is a seal.
    pub(crate) sealed: bool,
}

/// The log is damaged, or a part of it is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Where.
    pub(crate) at: Position,
    /// What is wrong there.
    pub(crate) what: String,
    /// Everything before this is whole: where a repair that accepts the loss cuts.
    pub(crate) whole_until: Position,
}

/// Reads a log: [`segment`](Recovery::segment), then all of its [`block`](Recovery::block)s, for each segment from the
/// oldest on; then [`finish`](Recovery::finish).
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    log: Option<(u64, u64)>,
    groups: BTreeMap<GroupId, GroupState>,
    forgotten: BTreeMap<GroupId, Position>,
    done: Vec<Segment>,
    current: Option<(Scan, Segment)>,
    sealed: bool,
    stopped: bool,
}

#[derive(Debug)]
struct Segment {
    held: Held,
    tail: Option<Tail>,
    /// Records that contradict the ones before: found while reading, reported in the log's order.
    contradiction: Option<Damage>,
}

impl Recovery {
    pub(crate) fn new() -> Recovery {
        Recovery { sealed: true, ..Recovery::default() }
    }

    /// The next segment, by its header. How many blocks it has follows from `header.segment_bytes`.
    pub(crate) fn segment(&mut self, header: &Header) {
        self.close_segment();
        let generation = header.salt.generation;
        let mut contradiction = None;
        let same = (header.salt.log, header.segment_bytes);
        if *self.log.get_or_insert(same) != same {
            contradiction =
                Some(self.contradicts(generation, 0, "the segment belongs to another log".to_owned()));
        } else if let Some(before) = self.done.last()
            && before.held.generation + 1 != generation
        {
            let what =
                format!("the segments between {} and {generation} are missing", before.held.generation);
            contradiction = Some(self.contradicts(generation, 0, what));
        }
        let blocks = u32::try_from(header.segment_bytes / BLOCK_BYTES as u64).unwrap_or(u32::MAX);
        let held = Held { generation, end: 1, last_of: BTreeMap::new() };
        self.current = Some((Scan::new(header.salt, blocks), Segment { held, tail: None, contradiction }));
    }

    /// The next block of the segment, from block 1 on.
    pub(crate) fn block(&mut self, block: &[u8]) {
        let Some((scan, segment)) = &mut self.current else {
            panic!("a segment is announced before its blocks come");
        };
        let Some(batch) = scan.feed(block) else { return };
        self.stopped |= segment.contradiction.is_some();
        if self.stopped {
            return;
        }
        let at = Position { generation: segment.held.generation, block: batch.block };
        let forgets = |record: &Record| match record {
            Record::Forgotten { group } => Some((*group, at)),
            _ => None,
        };
        self.forgotten.extend(batch.records.iter().filter_map(forgets));
        if let Err(what) = apply(&batch, &mut self.groups, &mut segment.held, &mut self.done) {
            segment.contradiction = Some(Damage { at, what, whole_until: at });
            self.stopped = true;
        }
        self.sealed = batch.records.is_empty();
    }

    /// All segments have been read.
    pub(crate) fn finish(mut self) -> Result<Option<Found>, Damage> {
        self.close_segment();
        let Some((log, segment_bytes)) = self.log else { return Ok(None) };
        let tails: Vec<Tail> = self.done.iter_mut().filter_map(|segment| segment.tail.take()).collect();
        let used = tails.iter().rposition(|tail| tail.durable.is_some()).unwrap_or(0);
        for (at, segment) in self.done.iter().enumerate() {
            if let Some(damage) = &segment.contradiction
                && damage.at.block == 0
            {
                return Err(damage.clone());
            }
            // One whose header is wrong already says nothing about the segment before it.
            let next = self.done.get(at + 1).zip(tails.get(at + 1));
            let next =
                next.filter(|(segment, _)| segment.contradiction.as_ref().is_none_or(|is| is.at.block > 0));
            let begins = next.and_then(|(_, tail)| tail.begins);
            let followed = next.is_some() && at < used;
            if let Some(damage) = judge_tail(segment.held.generation, &tails[at], begins, followed) {
                return Err(damage);
            }
            if let Some(damage) = &segment.contradiction {
                return Err(damage.clone());
            }
        }
        for (group, state) in &self.groups {
            if state.truncated() < state.absent {
                let at = Position { generation: self.done[0].held.generation, block: 1 };
                let what = format!(
                    "entries of group {group} up to {} lie in a segment that is missing",
                    state.absent
                );
                return Err(Damage { at, what, whole_until: at });
            }
        }
        self.groups.values_mut().for_each(settle);
        let prepared = self.done.split_off(used + 1).iter().map(|segment| segment.held.generation).collect();
        let segments: Vec<Held> = self
            .done
            .into_iter()
            .zip(&tails)
            .map(|(segment, tail)| Held { end: tail.end, ..segment.held })
            .collect();
        let last = &segments[used];
        let before = if last.end == 1 && used > 0 { &segments[used - 1] } else { last };
        let durable = Position { generation: before.generation, block: before.end };
        let torn = tails[used].touched.clone();
        Ok(Some(Found {
            log,
            segment_bytes,
            groups: self.groups,
            forgotten: self.forgotten,
            prepared,
            durable,
            torn,
            sealed: self.sealed,
            segments,
        }))
    }

    fn close_segment(&mut self) {
        if let Some((scan, mut segment)) = self.current.take() {
            segment.tail = Some(scan.finish());
            self.done.push(segment);
        }
    }

    fn contradicts(&self, generation: u32, block: u32, what: String) -> Damage {
        let at = Position { generation, block };
        let whole_until = self.done.last().map_or(at, |before| Position {
            generation: before.held.generation,
            block: before.tail.as_ref().map_or(1, |tail| tail.end),
        });
        Damage { at, what, whole_until }
    }
}

/// Is what lies behind a segment's last whole batch damage? `next_begins`: the watermark with which the next segment
/// begins; `followed`: whether a later segment was written at all.
fn judge_tail(generation: u32, tail: &Tail, next_begins: Option<Position>, followed: bool) -> Option<Damage> {
    let end = Position { generation, block: tail.end };
    let damage = |block: u32, what: String| {
        Some(Damage { at: Position { generation, block }, what, whole_until: end })
    };
    let durable = tail.durable.max(next_begins.filter(|begins| begins.generation == generation));
    if let Some(durable) = durable
        && durable > end
    {
        let block = tail.first_not_whole.unwrap_or(tail.end);
        let what = format!("a later batch says that everything before block {} was durable", durable.block);
        return damage(block, what);
    }
    if let Some(begins) = next_begins {
        // A later segment was begun, so this one was durable to where that says, and the rest was never used.
        if begins != end {
            return damage(
                tail.end,
                format!(
                    "the next segment says that this one ended at block {} of generation {}",
                    begins.block, begins.generation
                ),
            );
        }
        return None;
    }
    if followed {
        return damage(
            tail.end,
            "the segment after this one was never begun, and later ones were".to_owned(),
        );
    }
    // The last batch: torn where sectors are missing, damaged where they are neither written nor unwritten.
    // Damage behind a block that nothing touched is in free space.
    match tail.damaged {
        Some((block, what)) if tail.touched.is_some() || block == tail.end => damage(block, what.to_owned()),
        _ => None,
    }
}

/// Makes sense of a hard state that is behind the entries, or ahead of them: it goes to the disk behind the entries that
/// came with it, and what an overwriting has cost need not be recorded anywhere.
fn settle(group: &mut GroupState) {
    let hard_state = &mut group.state.hard_state;
    let commit = hard_state.commit.max(group.state.members.0).max(group.state.truncated.0);
    hard_state.commit = commit.min(group.last);
    let last_term = group.terms.at(group.last).unwrap_or_default();
    if last_term > hard_state.term {
        // Nothing was said in this term.
        *hard_state = HardState { term: last_term, commit: hard_state.commit, ..HardState::default() };
    }
    group.changes.retain(|change| *change > group.state.members.0);
}

fn apply(
    batch: &Whole,
    groups: &mut BTreeMap<GroupId, GroupState>,
    held: &mut Held,
    earlier: &mut [Segment],
) -> Result<(), String> {
    for record in &batch.records {
        let wrong = |group: &GroupId| {
            let group = *group;
            move |what: String| format!("group {group}: {what}")
        };
        match record {
            Record::Entry { group, index, term, kind, .. } => {
                let state = groups.entry(*group).or_default();
                let overwrites = *index <= state.last;
                state.entry(*index, *term, *kind).map_err(wrong(group))?;
                if overwrites {
                    // What it has overwritten keeps no segment any more.
                    let before = Index(index.0 - 1);
                    for held in earlier.iter_mut().map(|segment| &mut segment.held) {
                        held.last_of.entry(*group).and_modify(|last| *last = before.min(*last));
                    }
                }
                held.last_of.insert(*group, *index);
            }
            Record::Truncated { group, through, term } => {
                groups.entry(*group).or_default().truncate(*through, *term);
            }
            Record::Group { group, last, state } => {
                groups.entry(*group).or_default().checkpoint(*last, state).map_err(wrong(group))?;
            }
            Record::HardState { group, state } => groups.entry(*group).or_default().state.hard_state = *state,
            Record::Members { group, since, members } => {
                groups.entry(*group).or_default().state.members = (*since, members.clone());
            }
            Record::Restored { group, at, term, members } => {
                let state = groups.entry(*group).or_default();
                state.restore(*at, *term);
                state.state.members = (*at, members.clone());
                needs_nothing(*group, held, earlier);
            }
            Record::Forgotten { group } => {
                groups.remove(group);
                needs_nothing(*group, held, earlier);
            }
        }
    }
    Ok(())
}

/// No entry of the group keeps a segment any more.
fn needs_nothing(group: GroupId, held: &mut Held, earlier: &mut [Segment]) {
    for segment in earlier {
        segment.held.last_of.remove(&group);
    }
    held.last_of.remove(&group);
}
