//! Memory for a new item: from the limit's rest, from what is dead, from what may be evicted.
//!
//! What always holds: one standard segment is kept back, so that cleaning has somewhere to carry items to; a call of
//! [`Store::clean`] takes at most one new segment and frees one; after [`GENEROUS_ROUNDS`] at most half of an evicted
//! segment is carried over, so that two evictions make at least one segment of room, however hot all items are.

use hashbrown::HashTable;

use super::segment::Segment;
use super::{NoMemory, Place, SINGLE_PART, Store, key_at};
use crate::core::clock::Now;

/// A segment with at least this part dead is compacted before anything is evicted.
const COMPACT_PART: usize = 4;
/// Without eviction a segment is compacted down to this part dead.
const COMPACT_PART_WITHOUT_EVICTION: usize = 16;
/// How many segments one item may cost without eviction, before the store counts as full.
const ROUNDS_WITHOUT_EVICTION: usize = 16;
/// An index with room for so many times the places it wants is built anew, smaller, before anything is evicted.
const INDEX_LOOSE: usize = 4;
/// So many segments are freed for one item with everything hot carried over.
const GENEROUS_ROUNDS: usize = 4;

/// What is carried over from a segment that is freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carry {
    /// Everything alive: the segment is compacted.
    All,
    /// What was asked for, up to so many bytes; the rest is evicted.
    Hot(usize),
}

impl Store {
    /// Whether `extra` bytes more stay within the limit.
    pub(super) fn fits(&self, extra: usize) -> bool {
        let used = self.segments_bytes + self.index.allocation_size() + self.segment_bytes;
        used.saturating_add(extra) <= self.options.memory_bytes
    }

    /// What the index will take more, before the old one goes, when one more item is put in.
    fn index_growth(&self) -> usize {
        match self.index.len() < self.index.capacity() {
            true => 0,
            // Eight bytes of place and one of tag per slot; an eighth of the slots stays free.
            false => (places_wanted(self.index.len()) * 8 / 7 + 1).next_power_of_two() * 9 + 64,
        }
    }

    /// Makes the index have room for one more. It is built anew, because a table that filled up with the marks of
    /// removed places would otherwise double although it is half empty.
    pub(super) fn make_place(&mut self) {
        if self.index.len() < self.index.capacity() {
            return;
        }
        self.rebuild_index();
    }

    fn rebuild_index(&mut self) {
        let mut index = HashTable::with_capacity(places_wanted(self.index.len()));
        let (segments, seed) = (&self.segments, self.options.seed);
        let hash_at = |place: &Place| crate::core::hash(key_at(segments, *place), seed);
        for place in &self.index {
            index.insert_unique(hash_at(place), *place, hash_at);
        }
        self.index = index;
    }

    /// Makes the active segment have room for an item of `bytes`.
    pub(super) fn make_room(&mut self, bytes: usize, now: Now) -> Result<(), NoMemory> {
        debug_assert!(bytes <= self.segment_bytes / SINGLE_PART);
        for round in 0.. {
            let growth = self.index_growth();
            let fits = growth == 0 || self.fits(growth);
            if fits && self.active_room() >= bytes {
                return Ok(());
            }
            if self.fits(self.segment_bytes + growth) && self.active_room() < bytes {
                self.open_active();
                return Ok(());
            }
            self.clean_or_give_up(round, now)?;
        }
        unreachable!("the rounds are bounded")
    }

    /// Makes the limit have room for a segment of one item, which takes `bytes`.
    pub(super) fn make_room_for_single(&mut self, bytes: usize, now: Now) -> Result<(), NoMemory> {
        for round in 0.. {
            if self.fits(bytes + self.index_growth()) {
                return Ok(());
            }
            self.clean_or_give_up(round, now)?;
        }
        unreachable!("the rounds are bounded")
    }

    fn clean_or_give_up(&mut self, round: usize, now: Now) -> Result<(), NoMemory> {
        let given_up = !self.options.evict && round == ROUNDS_WITHOUT_EVICTION;
        let cleaned = if given_up { Err(NoMemory) } else { self.clean(round, now) };
        self.counts.out_of_memory += u64::from(cleaned.is_err());
        cleaned
    }

    fn active_room(&self) -> usize {
        self.active.map_or(0, |id| self.segments[id as usize].as_ref().expect("the active segment").room())
    }

    fn seal_active(&mut self) {
        if let Some(id) = self.active.take() {
            self.segments[id as usize].as_mut().expect("the active segment").seal();
            self.order.push_back(id);
        }
    }

    fn open_active(&mut self) {
        self.seal_active();
        let memory = self.spare.take().unwrap_or_else(|| Vec::with_capacity(self.segment_bytes));
        self.active = Some(self.add_segment(Segment::on(memory)));
    }

    /// Frees one segment, or gives a large item its second chance, or shrinks the index; for the `round`th time for the same
    /// purpose.
    pub(super) fn clean(&mut self, round: usize, now: Now) -> Result<(), NoMemory> {
        if self.index.capacity() > INDEX_LOOSE * places_wanted(self.index.len()) {
            self.rebuild_index();
            return Ok(());
        }
        let is_last = self.order.is_empty();
        if is_last {
            let items =
                self.active.map_or(0, |id| self.segments[id as usize].as_ref().map_or(0, |s| s.live_items));
            if items == 0 {
                return Err(NoMemory);
            }
            self.seal_active();
        }
        let part = if self.options.evict { COMPACT_PART } else { COMPACT_PART_WITHOUT_EVICTION };
        match self.most_dead(part) {
            // The room left in the last segment looks dead, but would be left again.
            Some(at) if !(is_last && self.options.evict) => {
                self.carry(at, Carry::All, now);
                Ok(())
            }
            _ if self.options.evict => {
                let most = if round < GENEROUS_ROUNDS { self.segment_bytes } else { self.segment_bytes / 2 };
                self.carry(0, Carry::Hot(most), now);
                Ok(())
            }
            _ => Err(NoMemory),
        }
    }

    /// Where in the order the segment stands that is most dead, if at least 1/`part` of it is.
    fn most_dead(&self, part: usize) -> Option<usize> {
        let dead = |id: &u32| {
            let segment = self.segments[*id as usize].as_ref().expect("an ordered segment");
            if segment.single { 0 } else { segment.dead_bytes }
        };
        let (at, id) = self.order.iter().enumerate().max_by_key(|(_, id)| dead(id))?;
        (dead(id) >= self.segment_bytes / part).then_some(at)
    }

    /// Frees the segment at `at` in the order.
    fn carry(&mut self, at: usize, carry: Carry, now: Now) {
        let id = self.order.remove(at).expect("within the order");
        let mut segment = self.segments[id as usize].take().expect("an ordered segment");
        if segment.single && have_second_chance(&mut segment, now) {
            self.segments[id as usize] = Some(segment);
            self.order.push_back(id);
            return;
        }
        let mut carried = 0;
        for (offset, mut head) in segment.walk().filter(|(_, head)| !head.dead) {
            let place = Place { segment: id, offset: offset as u32 };
            let hash = crate::core::hash(segment.key(offset), self.options.seed);
            let bytes = head.item_bytes();
            let expired = head.is_expired(now.ms);
            let carried_over = match carry {
                Carry::All => true,
                Carry::Hot(most) => !segment.single && head.heat > 0 && carried + bytes <= most,
            };
            if !expired && carried_over {
                if self.active_room() < bytes {
                    self.open_active();
                }
                let active = self.active.expect("opened above");
                let target = self.segments[active as usize].as_mut().expect("the active segment");
                let moved = target.append_raw(segment.item(offset, &head));
                if carry != Carry::All {
                    head.heat -= 1;
                    target.set_head(moved, &head);
                    self.counts.spared += 1;
                }
                carried += bytes;
                let entry =
                    self.index.find_mut(hash, |other| *other == place).expect("a live item is in the index");
                *entry = Place { segment: active, offset: moved as u32 };
                continue;
            }
            self.index
                .find_entry(hash, |other| *other == place)
                .expect("a live item is in the index")
                .remove();
            self.live_bytes -= bytes;
            if expired {
                self.counts.expired += 1;
                self.counts.reclaimed += 1;
                self.counts.expired_unfetched += u64::from(!head.fetched);
            } else {
                self.counts.evictions += 1;
                self.counts.evicted_unfetched += u64::from(!head.fetched);
                self.counts.evicted_nonzero += u64::from(head.expiry_ms != 0);
                self.counts.evicted_time_s = u64::from(now.seconds().saturating_sub(head.last_access_s));
            }
        }
        self.free_slots.push(id);
        self.recycle(segment);
    }
}

/// How many places a new index is made for when there are `len`.
fn places_wanted(len: usize) -> usize {
    len + len / 8 + 8
}

/// Whether a large item gets a second chance; it is less hot then.
fn have_second_chance(segment: &mut Segment, now: Now) -> bool {
    let mut head = segment.head(0);
    if head.heat == 0 || head.is_expired(now.ms) {
        return false;
    }
    head.heat -= 1;
    segment.set_head(0, &head);
    true
}
