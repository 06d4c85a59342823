//! The items of one shard: an index, and item memory in segments.
//!
//! What always holds:
//! - Segments, the index and one segment kept back for cleaning together never exceed the memory limit (measured:
//!   the capacities taken from the allocator). Before the limit is passed something is evicted, or the call fails.
//! - An item is found until it expires, is removed, is evicted or the store is flushed, and never after.
//! - CAS values given out rise, and no two shards give out the same one.
//!
//! **What was chosen.** Items are appended to segments (a log), 28 bytes of head each and no allocation per item;
//! the index is a table of 8-byte places that finds the key in the item itself. A new value of the same length is
//! written in place; any other is appended and the old one is left dead. When no segment can be had, a segment
//! that is a quarter dead is compacted; if there is none, the oldest is evicted, but items that were asked for since
//! they were last spared are carried over: first in, first out with a second chance (CLOCK), whose
//! hit ratio is that of an LRU or better, without a list to keep in order on each get. Items over an eighth of a
//! segment get one of their own, exactly as large.
//!
//! **Left out**, for the store that is to be made for speed: incremental growth of the index (one shard's doubling
//! stalls that shard), a filter for one-hit wonders, expired items being found before their segment's turn.

mod clean;
mod item;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use hashbrown::HashTable;

pub(crate) use item::{HEAD_BYTES, Head};
use segment::Segment;

use super::clock::Now;

/// The largest standard segment, in bytes.
const SEGMENT_BYTES_MAX: usize = 1 << 20;
/// The smallest standard segment, in bytes.
const SEGMENT_BYTES_MIN: usize = 32 << 10;
/// A shard's memory is at least so many standard segments, as far as the sizes above allow.
const SEGMENTS_PER_SHARD: usize = 64;
/// Items of more than this part of a segment get their own.
const SINGLE_PART: usize = 8;

/// What a store is made with.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The limit on segments and index, in bytes.
    pub(crate) memory_bytes: usize,
    /// The longest item, its head included, in bytes.
    pub(crate) item_bytes_max: usize,
    /// Whether items may be evicted; otherwise a full store refuses new ones.
    pub(crate) evict: bool,
    /// Whether CAS values are given out; otherwise all are 0.
    pub(crate) cas: bool,
    /// This shard's number and how many there are.
    pub(crate) shard: (u64, u64),
    /// The seed of the key hash.
    pub(crate) seed: u64,
}

/// No memory, although everything that may be evicted was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoMemory;

/// Where an item stands; good until the next call that adds or removes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    segment: u32,
    offset: u32,
}

/// What the store counted since it was made or [`Counts::reset`].
#[derive(Debug, Default, Clone)]
pub(crate) struct Counts {
    /// Items ever stored.
    pub(crate) total_items: u64,
    /// Live items removed for want of memory.
    pub(crate) evictions: u64,
    /// Of these, those never asked for.
    pub(crate) evicted_unfetched: u64,
    /// Of these, those with an expiry.
    pub(crate) evicted_nonzero: u64,
    /// Seconds since the last access of the one evicted last.
    pub(crate) evicted_time_s: u64,
    /// Expired items found and removed.
    pub(crate) expired: u64,
    /// Of these, those found while looking for memory.
    pub(crate) reclaimed: u64,
    /// Of the expired, those never asked for.
    pub(crate) expired_unfetched: u64,
    /// Items carried over when their segment was freed.
    pub(crate) spared: u64,
    /// Stores refused for want of memory.
    pub(crate) out_of_memory: u64,
}

/// The items of one shard.
#[derive(Debug)]
pub(crate) struct Store {
    options: Options,
    segment_bytes: usize,
    index: HashTable<Place>,
    segments: Vec<Option<Segment>>,
    free_slots: Vec<u32>,
    /// The segment that small items are appended to.
    active: Option<u32>,
    /// All others, the oldest first.
    order: VecDeque<u32>,
    /// Memory of a freed standard segment, at hand for the next.
    spare: Option<Vec<u8>>,
    segments_bytes: usize,
    live_bytes: usize,
    next_cas: u64,
    flush_at_ms: Option<u64>,
    /// What was counted.
    pub(crate) counts: Counts,
}

impl Store {
    /// An empty store.
    pub(crate) fn new(options: Options) -> Store {
        let wanted = (options.memory_bytes / SEGMENTS_PER_SHARD).max(1);
        let segment_bytes = (1 << wanted.ilog2()).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        Store {
            segment_bytes,
            index: HashTable::new(),
            segments: Vec::new(),
            free_slots: Vec::new(),
            active: None,
            order: VecDeque::new(),
            spare: None,
            segments_bytes: 0,
            live_bytes: 0,
            next_cas: 1,
            flush_at_ms: None,
            counts: Counts::default(),
            options,
        }
    }

    /// A CAS value that no item has had yet.
    pub(crate) fn new_cas(&mut self) -> u64 {
        if !self.options.cas {
            return 0;
        }
        let (number, count) = self.options.shard;
        let cas = self.next_cas * count + number;
        self.next_cas += 1;
        cas
    }

    /// How many items there are; expired ones that nobody asked for since are among them.
    pub(crate) fn items(&self) -> usize {
        self.index.len()
    }

    /// The bytes of all items, heads and keys included.
    pub(crate) fn live_bytes(&self) -> usize {
        self.live_bytes
    }

    /// The bytes taken: segments, index, spare.
    pub(crate) fn used_bytes(&self) -> usize {
        self.segments_bytes + self.index.allocation_size() + self.spare.as_ref().map_or(0, Vec::capacity)
    }

    /// The bytes of the index.
    pub(crate) fn index_bytes(&self) -> usize {
        self.index.allocation_size()
    }

    /// How many segments there are, and the length of a standard one.
    pub(crate) fn segments(&self) -> (usize, usize) {
        (self.segments.len() - self.free_slots.len(), self.segment_bytes)
    }

    /// The least limit that leaves room for the segment kept back, the one appended to, items and index.
    pub(crate) fn memory_bytes_least(&self) -> usize {
        (4 * self.segment_bytes).max(self.options.item_bytes_max.saturating_mul(2))
    }

    /// The longest item that may be stored, head included.
    pub(crate) fn item_bytes_max(&self) -> usize {
        self.options.item_bytes_max
    }

    /// The item at `key`, if it is there and not expired. `hash` is the key's.
    pub(crate) fn find(&mut self, hash: u64, key: &[u8], now: Now) -> Option<Place> {
        let segments = &self.segments;
        let place = *self.index.find(hash, |place| key_at(segments, *place) == key)?;
        let head = self.head(place);
        if head.is_expired(now.ms) {
            self.counts.expired += 1;
            self.counts.expired_unfetched += u64::from(!head.fetched);
            self.remove(hash, place);
            return None;
        }
        Some(place)
    }

    /// The item's head.
    pub(crate) fn head(&self, place: Place) -> Head {
        self.segment(place).head(place.offset as usize)
    }

    /// Changes what may change of a head: all but the lengths.
    pub(crate) fn set_head(&mut self, place: Place, head: &Head) {
        let segment = self.segments[place.segment as usize].as_mut().expect("a place is in a segment");
        segment.set_head(place.offset as usize, head);
    }

    /// The item's value.
    pub(crate) fn value(&self, place: Place) -> &[u8] {
        let segment = self.segment(place);
        segment.value(place.offset as usize, &segment.head(place.offset as usize))
    }

    /// Overwrites the value with one of the same length.
    pub(crate) fn set_value(&mut self, place: Place, value: &[u8]) {
        let head = self.head(place);
        let segment = self.segments[place.segment as usize].as_mut().expect("a place is in a segment");
        segment.value_mut(place.offset as usize, &head).copy_from_slice(value);
    }

    /// Notes that somebody asked for the item.
    pub(crate) fn bump(&mut self, place: Place, mut head: Head, now: Now) {
        head.fetched = true;
        head.warm(now.seconds());
        self.set_head(place, &head);
    }

    /// Removes an item.
    pub(crate) fn remove(&mut self, hash: u64, place: Place) {
        self.index.find_entry(hash, |other| *other == place).expect("a place is in the index").remove();
        self.bury(place);
    }

    /// Stores an item whether or not the key is there.
    ///
    /// # Errors
    /// [`NoMemory`]; the old value is still there then, unless it had to go for the room.
    pub(crate) fn insert(
        &mut self,
        hash: u64,
        key: &[u8],
        value: &[u8],
        head: Head,
        now: Now,
    ) -> Result<Place, NoMemory> {
        let head = self.sized(head, key, value.len(), now);
        if let Some(place) = self.find(hash, key, now) {
            let old = self.head(place);
            if old.value_bytes == head.value_bytes {
                self.counts.total_items += 1;
                // It stays where it is in the order, so that it must count as used not to go early.
                let mut head = Head { heat: old.heat, ..head };
                head.warm(now.seconds());
                self.set_head(place, &head);
                self.set_value(place, value);
                return Ok(place);
            }
        }
        if head.item_bytes() > self.segment_bytes / SINGLE_PART {
            let mut item = Vec::with_capacity(head.item_bytes());
            item.resize(HEAD_BYTES, 0);
            item.extend_from_slice(key);
            item.extend_from_slice(value);
            return self.insert_single(hash, item, head, now);
        }
        self.make_room(head.item_bytes(), now)?;
        self.unlink(hash, key);
        let active = self.active.expect("room was made");
        let segment = self.segments[active as usize].as_mut().expect("the active segment");
        let offset = segment.append(&head, key, value);
        Ok(self.link(hash, Place { segment: active, offset: offset as u32 }, head.item_bytes()))
    }

    /// Stores an item that is laid out already: [`HEAD_BYTES`] of room, the key, the value. A large one is taken as
    /// it is, without a copy.
    ///
    /// # Errors
    /// As [`Store::insert`].
    pub(crate) fn insert_whole(
        &mut self,
        hash: u64,
        key_bytes: usize,
        mut item: Vec<u8>,
        head: Head,
        now: Now,
    ) -> Result<Place, NoMemory> {
        if item.len() <= self.segment_bytes / SINGLE_PART {
            let (key, value) = item[HEAD_BYTES..].split_at(key_bytes);
            return self.insert(hash, key, value, head, now);
        }
        let (key, value) = item[HEAD_BYTES..].split_at(key_bytes);
        let head = self.sized(head, key, value.len(), now);
        item.shrink_to_fit();
        self.insert_single(hash, item, head, now)
    }

    fn insert_single(
        &mut self,
        hash: u64,
        mut item: Vec<u8>,
        head: Head,
        now: Now,
    ) -> Result<Place, NoMemory> {
        self.make_room_for_single(item.capacity(), now)?;
        let key_end = HEAD_BYTES + usize::from(head.key_bytes);
        self.unlink(hash, &item[HEAD_BYTES..key_end]);
        head.write(&mut item);
        let segment = self.add_segment(Segment::of_one_item(item));
        self.order.push_back(segment);
        Ok(self.link(hash, Place { segment, offset: 0 }, head.item_bytes()))
    }

    fn sized(&self, head: Head, key: &[u8], value_bytes: usize, now: Now) -> Head {
        let key_bytes = u8::try_from(key.len()).expect("keys are checked when parsed");
        let value_bytes = u32::try_from(value_bytes).expect("lengths are checked when parsed");
        Head { key_bytes, value_bytes, last_access_s: now.seconds(), ..head }
    }

    /// Everything that is there now goes, at once or at `at_ms`, whichever call was last.
    pub(crate) fn flush(&mut self, at_ms: u64, now: Now) {
        self.flush_at_ms = Some(at_ms);
        self.apply_flush(now);
    }

    /// Carries out a flush whose time has come. To be called before anything else with a new `now`.
    pub(crate) fn apply_flush(&mut self, now: Now) {
        if self.flush_at_ms.is_some_and(|at| at <= now.ms) {
            self.flush_at_ms = None;
            self.index = HashTable::new();
            self.segments.clear();
            self.free_slots.clear();
            self.order.clear();
            self.active = None;
            self.segments_bytes = 0;
            self.live_bytes = 0;
        }
    }

    /// Sets another memory limit and keeps to it at once, as far as evicting is allowed.
    pub(crate) fn set_memory_limit(&mut self, memory_bytes: usize, now: Now) {
        self.options.memory_bytes = memory_bytes;
        let mut round = 0;
        while !self.fits(0) && self.options.evict && self.clean(round, now).is_ok() {
            round += 1;
        }
    }

    /// Adds to `sizes` how many items there are by length rounded up to 32 bytes. Walks every segment.
    pub(crate) fn count_sizes(&self, sizes: &mut BTreeMap<usize, u64>) {
        for segment in self.segments.iter().flatten() {
            for (_, head) in segment.walk().filter(|(_, head)| !head.dead) {
                *sizes.entry(head.item_bytes().next_multiple_of(32)).or_default() += 1;
            }
        }
    }

    /// Seconds since the last access of the oldest item.
    pub(crate) fn oldest_age_s(&self, now: Now) -> u64 {
        let oldest = self.order.front().copied().or(self.active);
        let segment = oldest.and_then(|id| self.segments[id as usize].as_ref());
        let first = segment.and_then(|segment| segment.walk().find(|(_, head)| !head.dead));
        first.map_or(0, |(_, head)| u64::from(now.seconds().saturating_sub(head.last_access_s)))
    }

    fn segment(&self, place: Place) -> &Segment {
        self.segments[place.segment as usize].as_ref().expect("a place is in a segment")
    }

    fn link(&mut self, hash: u64, place: Place, item_bytes: usize) -> Place {
        self.make_place();
        let (segments, seed) = (&self.segments, self.options.seed);
        self.index.insert_unique(hash, place, |place| super::hash(key_at(segments, *place), seed));
        self.live_bytes += item_bytes;
        self.counts.total_items += 1;
        place
    }

    /// Removes what is at `key`, expired or not, so that a new item can take its place.
    fn unlink(&mut self, hash: u64, key: &[u8]) {
        let segments = &self.segments;
        if let Ok(entry) = self.index.find_entry(hash, |place| key_at(segments, *place) == key) {
            let (place, _) = entry.remove();
            self.bury(place);
        }
    }

    /// Marks an item dead that is out of the index, and frees its segment with the last.
    fn bury(&mut self, place: Place) {
        let segment = self.segments[place.segment as usize].as_mut().expect("a place is in a segment");
        let mut head = segment.head(place.offset as usize);
        head.dead = true;
        segment.set_head(place.offset as usize, &head);
        segment.dead_bytes += head.item_bytes();
        segment.live_items -= 1;
        self.live_bytes -= head.item_bytes();
        if segment.live_items > 0 {
            return;
        }
        if self.active == Some(place.segment) {
            segment.restart();
        } else {
            let at =
                self.order.iter().position(|id| *id == place.segment).expect("a sealed segment is in order");
            self.order.remove(at);
            self.free_segment(place.segment);
        }
    }

    fn add_segment(&mut self, segment: Segment) -> u32 {
        self.segments_bytes += segment.capacity;
        match self.free_slots.pop() {
            Some(slot) => {
                self.segments[slot as usize] = Some(segment);
                slot
            }
            None => {
                self.segments.push(Some(segment));
                u32::try_from(self.segments.len() - 1).expect("fewer segments than 2^32")
            }
        }
    }

    fn free_segment(&mut self, slot: u32) {
        let segment = self.segments[slot as usize].take().expect("a segment is freed once");
        self.free_slots.push(slot);
        self.recycle(segment);
    }

    fn recycle(&mut self, segment: Segment) {
        self.segments_bytes -= segment.capacity;
        if !segment.single && self.spare.is_none() {
            self.spare = Some(segment.into_memory());
        }
    }
}

fn key_at(segments: &[Option<Segment>], place: Place) -> &[u8] {
    segments[place.segment as usize].as_ref().expect("a place is in a segment").key(place.offset as usize)
}
