//! The one cache of the process: shards of it, each behind its own lock.
//!
//! **What was chosen, and why.** Any core must answer any key, since clients do not shard by core. Here each core
//! answers on the spot: it locks the key's shard for the length of one lookup or one write, a few hundred
//! nanoseconds. There are several shards per core, so two cores seldom want the same one; an uncontended lock costs
//! about as much as writing one message to another core's mailbox, and a pipeline needs no hop, no waiting and no
//! putting back into order. The store that is to be made for speed will measure lock-free reads against this.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use super::clock::Now;
use super::store::{Options, Store};

/// Shards per core, where the memory is large enough for so many.
const SHARDS_PER_CORE: usize = 4;
/// A shard's memory is at least this.
const SHARD_BYTES_MIN: usize = 16 << 20;
/// A shard's memory is at least so many of the largest items.
const SHARD_ITEMS_MIN: usize = 4;

/// What a cache is made with.
#[derive(Debug, Clone)]
pub struct CacheOptions {
    /// The limit on item memory and index, in bytes.
    pub memory_bytes: usize,
    /// The longest item, its head included, in bytes.
    pub item_bytes_max: usize,
    /// Whether items may be evicted.
    pub evict: bool,
    /// Whether CAS values are given out.
    pub cas: bool,
    /// How many cores will ask.
    pub cores: usize,
    /// The seed of the key hash.
    pub seed: u64,
    /// Whether `flush_all` is obeyed.
    pub flush_all: bool,
    /// Whether `shutdown` is obeyed.
    pub shutdown_command: bool,
    /// Whether `stats sizes` answers.
    pub track_sizes: bool,
    /// What `stats settings` shows of the rest, name and value.
    pub settings: Vec<(&'static str, String)>,
    /// What `version` answers.
    pub version: String,
    /// The process id that `stats` shows.
    pub pid: u32,
}

/// What clients asked for, by kind and outcome.
#[derive(Debug, Default, Clone)]
#[allow(missing_docs)] // named as in memcached's `stats`
pub struct Commands {
    pub get: u64,
    pub get_hits: u64,
    pub get_misses: u64,
    pub get_expired: u64,
    pub set: u64,
    pub touch: u64,
    pub touch_hits: u64,
    pub touch_misses: u64,
    pub delete_hits: u64,
    pub delete_misses: u64,
    pub incr_hits: u64,
    pub incr_misses: u64,
    pub decr_hits: u64,
    pub decr_misses: u64,
    pub cas_hits: u64,
    pub cas_misses: u64,
    pub cas_badval: u64,
    pub meta: u64,
    pub store_too_large: u64,
    pub store_no_memory: u64,
}

impl Commands {
    pub(crate) fn add(&mut self, other: &Commands) {
        self.get += other.get;
        self.get_hits += other.get_hits;
        self.get_misses += other.get_misses;
        self.get_expired += other.get_expired;
        self.set += other.set;
        self.touch += other.touch;
        self.touch_hits += other.touch_hits;
        self.touch_misses += other.touch_misses;
        self.delete_hits += other.delete_hits;
        self.delete_misses += other.delete_misses;
        self.incr_hits += other.incr_hits;
        self.incr_misses += other.incr_misses;
        self.decr_hits += other.decr_hits;
        self.decr_misses += other.decr_misses;
        self.cas_hits += other.cas_hits;
        self.cas_misses += other.cas_misses;
        self.cas_badval += other.cas_badval;
        self.meta += other.meta;
        self.store_too_large += other.store_too_large;
        self.store_no_memory += other.store_no_memory;
    }
}

/// One shard.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) store: Store,
    pub(crate) commands: Commands,
}

/// What one core counts on its own; a cache line of its own each.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Traffic {
    pub(crate) bytes_read: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
}

/// The cache.
#[derive(Debug)]
pub struct Cache {
    pub(crate) options: CacheOptions,
    shards: Vec<Mutex<Shard>>,
    traffic: Vec<Traffic>,
    /// Bytes announced for values that are not all there yet.
    pub(crate) incoming_bytes: AtomicUsize,
    pub(crate) memory_bytes: AtomicUsize,
    pub(crate) verbosity: AtomicU32,
    pub(crate) track_sizes: AtomicBool,
    pub(crate) flushes: AtomicU64,
    /// Open connections.
    pub(crate) connections: AtomicUsize,
    pub(crate) connections_total: AtomicU64,
    pub(crate) connections_rejected: AtomicU64,
}

impl Cache {
    /// An empty cache.
    pub fn new(options: CacheOptions) -> Cache {
        let per_shard = SHARD_BYTES_MIN.max(options.item_bytes_max.saturating_mul(SHARD_ITEMS_MIN));
        let wanted = (options.memory_bytes / per_shard).clamp(1, options.cores * SHARDS_PER_CORE);
        let count = 1_usize << wanted.ilog2();
        let shard = |number: usize| {
            let store = Store::new(Options {
                memory_bytes: options.memory_bytes / count,
                item_bytes_max: options.item_bytes_max,
                evict: options.evict,
                cas: options.cas,
                shard: (number as u64, count as u64),
                seed: options.seed,
            });
            Mutex::new(Shard { store, commands: Commands::default() })
        };
        Cache {
            shards: (0..count).map(shard).collect(),
            traffic: (0..options.cores.max(1)).map(|_| Traffic::default()).collect(),
            incoming_bytes: AtomicUsize::new(0),
            memory_bytes: AtomicUsize::new(options.memory_bytes),
            verbosity: AtomicU32::new(0),
            track_sizes: AtomicBool::new(options.track_sizes),
            flushes: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
            connections_total: AtomicU64::new(0),
            connections_rejected: AtomicU64::new(0),
            options,
        }
    }

    /// The shard of `key`, and the key's hash.
    pub(crate) fn shard_of(&self, key: &[u8], now: Now) -> (MutexGuard<'_, Shard>, u64) {
        let hash = super::hash(key, self.options.seed);
        // The index takes the lowest and the highest bits.
        let number = (hash >> 40) as usize & (self.shards.len() - 1);
        (lock(&self.shards[number], now), hash)
    }

    /// Every shard in turn.
    pub(crate) fn shards(&self, now: Now) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        self.shards.iter().map(move |shard| lock(shard, now))
    }

    pub(crate) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// What core `core` counts.
    pub(crate) fn traffic(&self, core: usize) -> &Traffic {
        &self.traffic[core]
    }

    /// Bytes read and written by all cores.
    pub(crate) fn traffic_total(&self) -> (u64, u64) {
        self.traffic.iter().fold((0, 0), |(read, written), core| {
            (
                read + core.bytes_read.load(Ordering::Relaxed),
                written + core.bytes_written.load(Ordering::Relaxed),
            )
        })
    }

    /// Everything goes, now or at `at_ms`.
    pub(crate) fn flush(&self, at_ms: u64, now: Now) {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        for mut shard in self.shards(now) {
            shard.store.flush(at_ms, now);
        }
    }

    /// Another limit on item memory, kept at once. `false`, and nothing is changed, if no shard could work within it.
    pub(crate) fn set_memory_limit(&self, memory_bytes: usize, now: Now) -> bool {
        let least = self.shards(now).map(|shard| shard.store.memory_bytes_least()).max().unwrap_or(0);
        if memory_bytes / self.shards.len() < least {
            return false;
        }
        self.memory_bytes.store(memory_bytes, Ordering::Relaxed);
        for mut shard in self.shards(now) {
            shard.store.set_memory_limit(memory_bytes / self.shards.len(), now);
        }
        true
    }

    /// Books `bytes` for a value that is to arrive. `false`: too many are on their way already.
    pub(crate) fn book_incoming(&self, bytes: usize) -> bool {
        let limit = self.memory_bytes.load(Ordering::Relaxed) / 2;
        let booked = self.incoming_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if booked > limit.max(self.options.item_bytes_max) {
            self.release_incoming(bytes);
            return false;
        }
        true
    }

    /// Gives back what [`Cache::book_incoming`] took.
    pub(crate) fn release_incoming(&self, bytes: usize) {
        self.incoming_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

fn lock(shard: &Mutex<Shard>, now: Now) -> MutexGuard<'_, Shard> {
    let mut shard = shard.lock().expect("a shard whose holder panicked is not trusted");
    shard.store.apply_flush(now);
    shard
}
