//! The classic commands: what each does, and how it answers.

use wire::memcached::{Storage, StorageMode, answer, append_decimal, append_value_head};

use super::cache::Cache;
use super::change::{Condition, Counted, Outcome, Value, Write, count, forget, write};
use super::clock::Now;

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
