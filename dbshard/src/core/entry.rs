//! One key with its value and expiry, as small as can be.
//!
//! A short string lies with its key in one allocation: `flags, key length, [expiry], key, value`. Anything else is an
//! object. Sixteen bytes per entry in the table, either way.

use bytes::{Bytes, BytesMut};

use super::table::Keyed;
use super::types::hash::Hash;

/// Values from here on lie apart, shared with the replies that carry them.
pub const LARGE_BYTES: usize = 16 << 10;

const HAS_EXPIRY: u8 = 1;
const _: () = assert!(size_of::<Entry>() == 16);

/// A key and what it holds.
#[derive(Debug)]
pub enum Entry {
    /// A string below [`LARGE_BYTES`] under a key below 256 bytes.
    Small(Box<[u8]>),
    /// Anything else.
    Object(Box<Object>),
}

/// An entry that does not fit the small form.
#[derive(Debug)]
pub struct Object {
    key: Box<[u8]>,
    expire_at_ms: u64,
    body: Body,
}

/// What an object holds.
#[derive(Debug)]
pub enum Body {
    /// A string.
    String(Bytes),
    /// A hash, never empty.
    Hash(Hash),
}

/// What a key holds, to be looked at.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// A short string.
    Small(&'a [u8]),
    /// A string that replies may share.
    Large(&'a Bytes),
    /// A hash.
    Hash(&'a Hash),
}

impl Value<'_> {
    /// The type's name as `TYPE` gives it.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Small(_) | Value::Large(_) => "string",
            Value::Hash(_) => "hash",
        }
    }
}

/// What an allocation of so many bytes takes from the system's allocator: 8 bytes of header, 16-byte steps, 32 at least.
fn allocated(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { ((bytes + 8).next_multiple_of(16)).max(32) }
}

impl Entry {
    /// A string; `expire_at_ms` in Unix milliseconds, 0 for never.
    #[must_use]
    pub fn string(key: &[u8], value: &[u8], expire_at_ms: u64) -> Self {
        let Ok(key_bytes) = u8::try_from(key.len()) else {
            return Self::large(key, Bytes::copy_from_slice(value), expire_at_ms);
        };
        if value.len() >= LARGE_BYTES {
            return Self::large(key, Bytes::copy_from_slice(value), expire_at_ms);
        }
        let expiry = if expire_at_ms == 0 { 0 } else { 8 };
        let mut bytes = Vec::with_capacity(2 + expiry + key.len() + value.len());
        bytes.push(if expiry == 0 { 0 } else { HAS_EXPIRY });
        bytes.push(key_bytes);
        if expiry != 0 {
            bytes.extend_from_slice(&expire_at_ms.to_le_bytes());
        }
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
        Entry::Small(bytes.into_boxed_slice())
    }

    fn large(key: &[u8], value: Bytes, expire_at_ms: u64) -> Self {
        Self::object(key, Body::String(value), expire_at_ms)
    }

    /// Anything.
    #[must_use]
    pub fn object(key: &[u8], body: Body, expire_at_ms: u64) -> Self {
        Entry::Object(Box::new(Object { key: key.into(), expire_at_ms, body }))
    }

    /// Where key and value of the small form lie.
    fn split(bytes: &[u8]) -> (usize, usize) {
        let key = if bytes[0] & HAS_EXPIRY == 0 { 2 } else { 10 };
        (key, key + usize::from(bytes[1]))
    }

    /// What it holds.
    #[must_use]
    pub fn value(&self) -> Value<'_> {
        match self {
            Entry::Small(bytes) => Value::Small(&bytes[Self::split(bytes).1..]),
            Entry::Object(object) => match &object.body {
                Body::String(value) => Value::Large(value),
                Body::Hash(hash) => Value::Hash(hash),
            },
        }
    }

    /// When it expires, in Unix milliseconds; 0 for never.
    #[must_use]
    pub fn expire_at_ms(&self) -> u64 {
        match self {
            Entry::Small(bytes) if bytes[0] & HAS_EXPIRY == 0 => 0,
            Entry::Small(bytes) => u64::from_le_bytes(bytes[2..10].try_into().expect("eight bytes")),
            Entry::Object(object) => object.expire_at_ms,
        }
    }

    /// Sets or, with 0, clears the expiry; gives the old one.
    pub fn set_expire_at_ms(&mut self, expire_at_ms: u64) -> u64 {
        let old = self.expire_at_ms();
        match self {
            Entry::Object(object) => object.expire_at_ms = expire_at_ms,
            Entry::Small(bytes) if old != 0 && expire_at_ms != 0 => {
                bytes[2..10].copy_from_slice(&expire_at_ms.to_le_bytes());
            }
            Entry::Small(bytes) if old != expire_at_ms => {
                let (key, value) = Self::split(bytes);
                *self = Self::string(&bytes[key..value], &bytes[value..], expire_at_ms);
            }
            Entry::Small(_) => {}
        }
        old
    }

    /// Appends to a string; gives its old length. `None` if it is no string.
    pub fn append(&mut self, suffix: &[u8]) -> Option<usize> {
        match self {
            Entry::Small(bytes) => {
                let (key, value) = Self::split(bytes);
                let old = bytes.len() - value;
                if old + suffix.len() < LARGE_BYTES {
                    let mut longer = Vec::with_capacity(bytes.len() + suffix.len());
                    longer.extend_from_slice(bytes);
                    longer.extend_from_slice(suffix);
                    *bytes = longer.into_boxed_slice();
                } else {
                    let whole = [&bytes[value..], suffix].concat();
                    let expire_at_ms = self.expire_at_ms();
                    let Entry::Small(bytes) = self else { unreachable!("looked at above") };
                    let key = bytes[key..value].to_vec();
                    *self = Self::large(&key, whole.into(), expire_at_ms);
                }
                Some(old)
            }
            Entry::Object(object) => {
                let Body::String(value) = &mut object.body else { return None };
                let old = value.len();
                let mut longer = match std::mem::take(value).try_into_mut() {
                    Ok(mine) => mine,
                    Err(shared) => BytesMut::from(&shared[..]),
                };
                longer.extend_from_slice(suffix);
                *value = longer.freeze();
                Some(old)
            }
        }
    }

    /// Cuts a string back to `length_bytes`.
    pub fn truncate(&mut self, length_bytes: usize) {
        let expire_at_ms = self.expire_at_ms();
        let cut = match self {
            Entry::Small(bytes) => {
                let (key, value) = Self::split(bytes);
                Self::string(&bytes[key..value], &bytes[value..value + length_bytes], expire_at_ms)
            }
            Entry::Object(object) => {
                let Body::String(value) = &object.body else { return };
                Self::string(&object.key, &value[..length_bytes], expire_at_ms)
            }
        };
        *self = cut;
    }

    /// The hash that it holds.
    pub fn hash_mut(&mut self) -> Option<&mut Hash> {
        match self {
            Entry::Object(object) => match &mut object.body {
                Body::Hash(hash) => Some(hash),
                Body::String(_) => None,
            },
            Entry::Small(_) => None,
        }
    }

    /// What it takes in memory, its place in the table aside.
    #[must_use]
    pub fn cost_bytes(&self) -> usize {
        match self {
            Entry::Small(bytes) => allocated(bytes.len()),
            Entry::Object(object) => {
                let body = match &object.body {
                    Body::String(value) => allocated(value.len()),
                    Body::Hash(hash) => hash.cost_bytes(),
                };
                allocated(size_of::<Object>()) + allocated(object.key.len()) + body
            }
        }
    }
}

impl Keyed for Entry {
    fn key(&self) -> &[u8] {
        match self {
            Entry::Small(bytes) => {
                let (key, value) = Self::split(bytes);
                &bytes[key..value]
            }
            Entry::Object(object) => &object.key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(entry: &Entry) -> Vec<u8> {
        match entry.value() {
            Value::Small(bytes) => bytes.to_vec(),
            Value::Large(bytes) => bytes.to_vec(),
            Value::Hash(_) => panic!("a hash"),
        }
    }

    #[test]
    fn both_forms_keep_key_value_and_expiry() {
        for key in [&b"k"[..], &[b'k'; 300]] {
            for length in [0, 10, LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES * 2] {
                for expiry in [0, 5] {
                    let mut entry = Entry::string(key, &vec![b'v'; length], expiry);
                    assert_eq!(
                        (entry.key(), text(&entry).len(), entry.expire_at_ms()),
                        (key, length, expiry)
                    );
                    assert_eq!(entry.set_expire_at_ms(9), expiry);
                    assert_eq!(entry.set_expire_at_ms(0), 9);
                    assert_eq!(entry.append(b"ww"), Some(length));
                    assert_eq!((entry.key(), text(&entry).len(), entry.expire_at_ms()), (key, length + 2, 0));
                    assert!(text(&entry).ends_with(b"ww"));
                    entry.truncate(length);
                    assert_eq!(text(&entry), vec![b'v'; length]);
                }
            }
        }
    }
}
