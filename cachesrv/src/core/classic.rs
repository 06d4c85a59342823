//! What the commands do to a shard, and how the classic ones answer. The meta commands build on the same.

use wire::memcached::{Storage, StorageMode, answer, append_decimal, append_value_head, parse_u64};

use super::cache::{Cache, Shard};
use super::clock::Now;
use super::store::{HEAD_BYTES, Head, NoMemory, Place};

/// A value to be stored.
#[derive(Debug)]
pub(crate) enum Value<'a> {
    /// In somebody else's buffer.
    Borrowed(&'a [u8]),
    /// Laid out as an item: [`HEAD_BYTES`] of room, the key, the value.
    Whole(Vec<u8>),
}

impl Value<'_> {
    pub(crate) fn bytes(&self, key_bytes: usize) -> &[u8] {
        match self {
            Value::Borrowed(bytes) => bytes,
            Value::Whole(item) => &item[HEAD_BYTES + key_bytes..],
        }
    }
}

/// When a value is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Always.
    Set,
    /// The key is not there.
    Add,
    /// The key is there.
    Replace,
    /// The key is there with the version that is compared with.
    Cas,
    /// The key is there, or `vivify` makes it; `before` what is there rather than after it.
    Extend { before: bool, vivify: bool },
}

/// One value to be stored.
#[derive(Debug)]
pub(crate) struct Write<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: Value<'a>,
    pub(crate) condition: Condition,
    pub(crate) client_flags: u32,
    pub(crate) expiry_ms: u64,
    /// The version to compare with; 0 for none.
    pub(crate) compare: u64,
    /// Whether a lower version than the item's stores all the same, as stale.
    pub(crate) allow_stale: bool,
    /// The version to give the item, instead of a new one.
    pub(crate) new_cas: Option<u64>,
    pub(crate) binary_key: bool,
}

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The item has this version and a value of so many bytes.
    Stored { cas: u64, bytes: usize },
    /// The condition did not hold.
    NotStored,
    /// Another version is there.
    Exists,
    /// No version is there.
    NotFound,
    /// No memory; the old value is gone.
    NoMemory,
}

/// Whether an item of such a key and value may be stored at all.
pub(crate) fn fits_item(cache: &Cache, key_bytes: usize, value_bytes: usize) -> bool {
    HEAD_BYTES + key_bytes + value_bytes <= cache.options.item_bytes_max
}

/// Stores a value if its condition holds.
pub(crate) fn write(shard: &mut Shard, hash: u64, write: Write<'_>, now: Now) -> Outcome {
    shard.commands.set += 1;
    let Some(place) = shard.store.find(hash, write.key, now) else {
        return match write.condition {
            Condition::Set | Condition::Add | Condition::Extend { vivify: true, .. } => {
                put(shard, hash, write, now, None)
            }
            Condition::Replace | Condition::Extend { .. } => Outcome::NotStored,
            Condition::Cas => {
                shard.commands.cas_misses += 1;
                Outcome::NotFound
            }
        };
    };
    let old = shard.store.head(place);
    match write.condition {
        Condition::Set | Condition::Replace => put(shard, hash, write, now, None),
        Condition::Add => {
            let mut old = old;
            old.warm(now.seconds());
            shard.store.set_head(place, &old);
            Outcome::NotStored
        }
        Condition::Cas if write.compare != 0 && write.compare == old.cas => {
            shard.commands.cas_hits += 1;
            put(shard, hash, write, now, None)
        }
        Condition::Cas if write.compare != 0 && write.allow_stale && write.compare < old.cas => {
            put(shard, hash, write, now, Some(old))
        }
        Condition::Cas => {
            shard.commands.cas_badval += 1;
            Outcome::Exists
        }
        Condition::Extend { .. } if write.compare != 0 && write.compare != old.cas => {
            shard.commands.cas_badval += 1;
            Outcome::Exists
        }
        Condition::Extend { before, .. } => extend(shard, hash, &write, before, place, now),
    }
}

/// Stores unconditionally. With `stale_over`, the item keeps that one's expiry and token, and is stale.
fn put(shard: &mut Shard, hash: u64, write: Write<'_>, now: Now, stale_over: Option<Head>) -> Outcome {
    let cas = write.new_cas.unwrap_or_else(|| shard.store.new_cas());
    let mut head = Head::new(write.client_flags, write.expiry_ms, cas);
    head.binary_key = write.binary_key;
    if let Some(old) = stale_over {
        head.stale = true;
        head.token_sent = old.token_sent;
        head.expiry_ms = old.expiry_ms;
    }
    let bytes = write.value.bytes(write.key.len()).len();
    let stored = match write.value {
        Value::Borrowed(value) => shard.store.insert(hash, write.key, value, head, now),
        Value::Whole(item) => shard.store.insert_whole(hash, write.key.len(), item, head, now),
    };
    match stored {
        Ok(_) => Outcome::Stored { cas, bytes },
        Err(NoMemory) => {
            shard.commands.store_no_memory += 1;
            forget(shard, hash, write.key, now);
            Outcome::NoMemory
        }
    }
}

/// `append` and `prepend`: flags and expiry stay.
fn extend(shard: &mut Shard, hash: u64, write: &Write<'_>, before: bool, place: Place, now: Now) -> Outcome {
    let old = shard.store.head(place);
    let (held, more) = (shard.store.value(place), write.value.bytes(write.key.len()));
    let bytes = held.len() + more.len();
    if HEAD_BYTES + write.key.len() + bytes > shard.store.item_bytes_max() {
        shard.commands.store_too_large += 1;
        return Outcome::NotStored;
    }
    let value = if before { [more, held].concat() } else { [held, more].concat() };
    let cas = write.new_cas.unwrap_or_else(|| shard.store.new_cas());
    let mut head = Head::new(old.client_flags, old.expiry_ms, cas);
    head.binary_key = old.binary_key;
    match shard.store.insert(hash, write.key, &value, head, now) {
        Ok(_) => Outcome::Stored { cas, bytes },
        Err(NoMemory) => {
            shard.commands.store_no_memory += 1;
            Outcome::NotStored
        }
    }
}

/// Removes an item whose new value could not be stored, so that nobody reads what was to be replaced.
pub(crate) fn forget(shard: &mut Shard, hash: u64, key: &[u8], now: Now) {
    if let Some(place) = shard.store.find(hash, key, now) {
        shard.store.remove(hash, place);
    }
}

/// A classic storage command with its value. Gives the answer.
pub(crate) fn store(cache: &Cache, storage: &Storage<'_>, value: Value<'_>, now: Now) -> &'static str {
    let (condition, compare) = match storage.mode {
        StorageMode::Set => (Condition::Set, 0),
        StorageMode::Add => (Condition::Add, 0),
        StorageMode::Replace => (Condition::Replace, 0),
        StorageMode::Append => (Condition::Extend { before: false, vivify: false }, 0),
        StorageMode::Prepend => (Condition::Extend { before: true, vivify: false }, 0),
        StorageMode::Cas(compare) => (Condition::Cas, compare),
    };
    let (mut shard, hash) = cache.shard_of(storage.key, now);
    let outcome = write(
        &mut shard,
        hash,
        Write {
            key: storage.key,
            value,
            condition,
            client_flags: storage.flags,
            expiry_ms: now.expiry_ms(storage.exptime),
            compare,
            allow_stale: false,
            new_cas: None,
            binary_key: false,
        },
        now,
    );
    match outcome {
        Outcome::Stored { .. } => "STORED",
        Outcome::NotStored => "NOT_STORED",
        Outcome::Exists => "EXISTS",
        Outcome::NotFound => "NOT_FOUND",
        Outcome::NoMemory => answer::NO_MEMORY,
    }
}

/// A storage command of an item that is too large, or comes when too much is on its way already: `set` forgets
/// the old value.
pub(crate) fn refuse_store(
    cache: &Cache,
    key: &[u8],
    forgets: bool,
    too_large: bool,
    now: Now,
) -> &'static str {
    let (mut shard, hash) = cache.shard_of(key, now);
    if forgets {
        forget(&mut shard, hash, key, now);
    }
    match too_large {
        true => shard.commands.store_too_large += 1,
        false => shard.commands.store_no_memory += 1,
    }
    if too_large { answer::TOO_LARGE } else { answer::NO_MEMORY }
}

/// One key of a retrieval: the item is appended if it is there.
pub(crate) fn get(cache: &Cache, key: &[u8], cas: bool, exptime: Option<i32>, now: Now, out: &mut Vec<u8>) {
    let (mut guard, hash) = cache.shard_of(key, now);
    let shard = &mut *guard;
    let expired_before = shard.store.counts.expired;
    let place = shard.store.find(hash, key, now);
    match exptime {
        Some(_) => {
            shard.commands.touch += 1;
            let count = if place.is_some() {
                &mut shard.commands.touch_hits
            } else {
                &mut shard.commands.touch_misses
            };
            *count += 1;
        }
        None => shard.commands.get += 1,
    }
    let Some(place) = place else {
        // memcached counts a gat in the gets' hits but its misses only here.
        if exptime.is_none() {
            shard.commands.get_misses += 1;
            shard.commands.get_expired += shard.store.counts.expired - expired_before;
        }
        return;
    };
    shard.commands.get_hits += 1;
    let mut head = shard.store.head(place);
    if let Some(exptime) = exptime {
        head.expiry_ms = now.expiry_ms(exptime);
    }
    shard.store.bump(place, head, now);
    let value = shard.store.value(place);
    append_value_head(out, key, head.client_flags, value.len(), cas.then_some(head.cas));
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// `delete`.
pub(crate) fn delete(cache: &Cache, key: &[u8], now: Now) -> &'static str {
    let (mut shard, hash) = cache.shard_of(key, now);
    match shard.store.find(hash, key, now) {
        Some(place) => {
            shard.store.remove(hash, place);
            shard.commands.delete_hits += 1;
            "DELETED"
        }
        None => {
            shard.commands.delete_misses += 1;
            "NOT_FOUND"
        }
    }
}

/// `touch`.
pub(crate) fn touch(cache: &Cache, key: &[u8], exptime: i32, now: Now) -> &'static str {
    let (mut shard, hash) = cache.shard_of(key, now);
    shard.commands.touch += 1;
    match shard.store.find(hash, key, now) {
        Some(place) => {
            shard.commands.touch_hits += 1;
            let mut head = shard.store.head(place);
            head.expiry_ms = now.expiry_ms(exptime);
            shard.store.bump(place, head, now);
            "TOUCHED"
        }
        None => {
            shard.commands.touch_misses += 1;
            "NOT_FOUND"
        }
    }
}

/// How arithmetic ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    /// The new number, and where it stands.
    Number(u64, Place),
    /// The item holds no number.
    NonNumeric,
    /// The key is not there.
    NotFound,
    /// Another version is there.
    Exists,
    /// The number grew and found no memory.
    NoMemory,
}

/// Adds or subtracts. A number that is not longer than the one before is written over it, padded with spaces.
pub(crate) fn count(
    shard: &mut Shard,
    hash: u64,
    key: &[u8],
    (increment, delta): (bool, u64),
    (compare, new_cas): (u64, Option<u64>),
    now: Now,
) -> Counted {
    let Some(place) = shard.store.find(hash, key, now) else {
        let misses =
            if increment { &mut shard.commands.incr_misses } else { &mut shard.commands.decr_misses };
        *misses += 1;
        return Counted::NotFound;
    };
    let old = shard.store.head(place);
    let held = shard.store.value(place);
    let held_bytes = held.len();
    let Some(number) = parse_u64(held) else {
        return Counted::NonNumeric;
    };
    if compare != 0 && compare != old.cas {
        return Counted::Exists;
    }
    let number = if increment { number.wrapping_add(delta) } else { number.saturating_sub(delta) };
    let hits = if increment { &mut shard.commands.incr_hits } else { &mut shard.commands.decr_hits };
    *hits += 1;
    let mut digits = Vec::with_capacity(held_bytes.max(20));
    append_decimal(&mut digits, number);
    let cas = new_cas.unwrap_or_else(|| shard.store.new_cas());
    if digits.len() <= held_bytes {
        digits.resize(held_bytes, b' ');
        shard.store.set_value(place, &digits);
        let mut head = old;
        head.cas = cas;
        head.warm(now.seconds());
        shard.store.set_head(place, &head);
        return Counted::Number(number, place);
    }
    let mut head = Head::new(old.client_flags, old.expiry_ms, cas);
    head.binary_key = old.binary_key;
    match shard.store.insert(hash, key, &digits, head, now) {
        Ok(place) => Counted::Number(number, place),
        Err(NoMemory) => Counted::NoMemory,
    }
}

/// `incr` and `decr`.
pub(crate) fn arithmetic(
    cache: &Cache,
    key: &[u8],
    increment: bool,
    delta: u64,
    now: Now,
    out: &mut Vec<u8>,
) {
    let (mut shard, hash) = cache.shard_of(key, now);
    let text = match count(&mut shard, hash, key, (increment, delta), (0, None), now) {
        Counted::Number(number, _) => {
            append_decimal(out, number);
            ""
        }
        Counted::NonNumeric => answer::NON_NUMERIC,
        Counted::NotFound | Counted::Exists => "NOT_FOUND",
        Counted::NoMemory => answer::NO_MEMORY_FOR_NUMBER,
    };
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}
