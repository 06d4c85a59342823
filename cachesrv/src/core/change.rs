//! What a command changes in a shard, apart from how it is asked for and answered: writes on a condition, and
//! arithmetic. The classic and the meta commands are both made of these.

use wire::memcached::{append_decimal, parse_u64};

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
