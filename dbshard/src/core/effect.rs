//! What a command changes, as it is logged, applied and replayed.
//!
//! An effect says what is, not what was asked: computed values, absolute expiry times. Applying one looks at no clock and
//! draws no lot, so that every replay of a log gives the same keyspace. A log entry is a version byte and the effects of one
//! batch; a checkpoint's chunks hold effects too.
//!
//! Encoding (docs/formats/dbshard-log.md): a kind byte, then its fields; byte strings are a LEB128 length and the bytes,
//! times are 8 bytes little-endian.

/// The first byte of each log entry.
pub const VERSION: u8 = 1;

/// One change of one key, or of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect<'a> {
    /// The key holds this string from now on, whatever it held. Expiry in Unix milliseconds, 0 for never.
    Set {
        /// The key.
        key: &'a [u8],
        /// When it expires, 0 for never.
        expire_at_ms: u64,
        /// The string.
        value: &'a [u8],
    },
    /// The key is gone.
    Delete {
        /// The key.
        key: &'a [u8],
    },
    /// The key, if there, expires at this time; 0 for never.
    Expire {
        /// The key.
        key: &'a [u8],
        /// When, 0 for never.
        expire_at_ms: u64,
    },
    /// The string under the key grows.
    Append {
        /// The key.
        key: &'a [u8],
        /// What is added.
        suffix: &'a [u8],
    },
    /// Fields of a hash are set; the hash is made if the key is not there.
    HashSet {
        /// The key.
        key: &'a [u8],
        /// Fields and values in turn.
        pairs: Strings<'a>,
    },
    /// Fields of a hash are gone; never its last (that is a [`Effect::Delete`]).
    HashDelete {
        /// The key.
        key: &'a [u8],
        /// The fields.
        fields: Strings<'a>,
    },
    /// All keys are gone.
    Flush,
}

const SET: u8 = 1;
const DELETE: u8 = 2;
const EXPIRE: u8 = 3;
const APPEND: u8 = 4;
const HASH_SET: u8 = 5;
const HASH_DELETE: u8 = 6;
const FLUSH: u8 = 7;

/// The bytes are no effect: a log or checkpoint of another version, or damage that its checksum did not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an effect of this version, at byte {0}")]
pub struct Unreadable(pub usize);

/// A sequence of byte strings as it lies in an encoded effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strings<'a> {
    encoded: &'a [u8],
    count: usize,
}

impl Strings<'_> {
    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.count = self.count.checked_sub(1)?;
        // Decoding has walked over them once.
        let mut reader = Reader { bytes: self.encoded, at: 0 };
        let string = reader.string().expect("checked when the effect was decoded");
        self.encoded = &self.encoded[reader.at..];
        Some(string)
    }
}

/// Appends an unsigned LEB128 number.
pub fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a [`Effect::Set`].
pub fn put_set(out: &mut Vec<u8>, key: &[u8], value: &[u8], expire_at_ms: u64) {
    out.push(SET);
    put_string(out, key);
    out.extend_from_slice(&expire_at_ms.to_le_bytes());
    put_string(out, value);
}

/// Appends a [`Effect::Delete`].
pub fn put_delete(out: &mut Vec<u8>, key: &[u8]) {
    out.push(DELETE);
    put_string(out, key);
}

/// Appends an [`Effect::Expire`].
pub fn put_expire(out: &mut Vec<u8>, key: &[u8], expire_at_ms: u64) {
    out.push(EXPIRE);
    put_string(out, key);
    out.extend_from_slice(&expire_at_ms.to_le_bytes());
}

/// Appends an [`Effect::Append`].
pub fn put_append(out: &mut Vec<u8>, key: &[u8], suffix: &[u8]) {
    out.push(APPEND);
    put_string(out, key);
    put_string(out, suffix);
}

/// Appends an [`Effect::HashSet`]; `strings` are fields and values in turn.
pub fn put_hash_set<'a>(out: &mut Vec<u8>, key: &[u8], strings: impl ExactSizeIterator<Item = &'a [u8]>) {
    debug_assert!(strings.len().is_multiple_of(2), "a field without a value");
    out.push(HASH_SET);
    put_string(out, key);
    put_number(out, strings.len() as u64);
    strings.for_each(|string| put_string(out, string));
}

/// Appends an [`Effect::HashDelete`].
pub fn put_hash_delete<'a>(out: &mut Vec<u8>, key: &[u8], fields: impl ExactSizeIterator<Item = &'a [u8]>) {
    out.push(HASH_DELETE);
    put_string(out, key);
    put_number(out, fields.len() as u64);
    fields.for_each(|field| put_string(out, field));
}

/// Appends an [`Effect::Flush`].
pub fn put_flush(out: &mut Vec<u8>) {
    out.push(FLUSH);
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        self.take(length)
    }

    fn time(&mut self) -> Option<u64> {
        self.take(8).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
    }

    fn strings(&mut self) -> Option<Strings<'a>> {
        let count = usize::try_from(self.number()?).ok()?;
        let start = self.at;
        for _ in 0..count {
            self.string()?;
        }
        Some(Strings { encoded: &self.bytes[start..self.at], count })
    }

    fn effect(&mut self) -> Option<Effect<'a>> {
        Some(match self.byte()? {
            SET => Effect::Set { key: self.string()?, expire_at_ms: self.time()?, value: self.string()? },
            DELETE => Effect::Delete { key: self.string()? },
            EXPIRE => Effect::Expire { key: self.string()?, expire_at_ms: self.time()? },
            APPEND => Effect::Append { key: self.string()?, suffix: self.string()? },
            HASH_SET => {
                let (key, pairs) = (self.string()?, self.strings()?);
                if !pairs.count.is_multiple_of(2) {
                    return None;
                }
                Effect::HashSet { key, pairs }
            }
            HASH_DELETE => Effect::HashDelete { key: self.string()?, fields: self.strings()? },
            FLUSH => Effect::Flush,
            _ => return None,
        })
    }
}

/// Decodes the effect at the start of some bytes; gives its length too.
///
/// # Errors
/// The bytes are none.
pub fn decode(bytes: &[u8]) -> Result<(Effect<'_>, usize), Unreadable> {
    let mut reader = Reader { bytes, at: 0 };
    let effect = reader.effect().ok_or(Unreadable(0))?;
    Ok((effect, reader.at))
}

/// Decodes effects one after another, to the end of the bytes.
pub fn decode_all(bytes: &[u8]) -> impl Iterator<Item = Result<Effect<'_>, Unreadable>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= bytes.len() {
            return None;
        }
        Some(match decode(&bytes[at..]) {
            Ok((effect, length)) => {
                at += length;
                Ok(effect)
            }
            Err(Unreadable(_)) => {
                let failed = at;
                at = bytes.len();
                Err(Unreadable(failed))
            }
        })
    })
}

impl<'a> Effect<'a> {
    /// The key that it changes; `None` for all.
    #[must_use]
    pub fn key(&self) -> Option<&'a [u8]> {
        match self {
            Effect::Set { key, .. }
            | Effect::Delete { key }
            | Effect::Expire { key, .. }
            | Effect::Append { key, .. }
            | Effect::HashSet { key, .. }
            | Effect::HashDelete { key, .. } => Some(key),
            Effect::Flush => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        put_set(&mut out, b"k", &[b'v'; 300], 7);
        put_delete(&mut out, b"k");
        put_expire(&mut out, b"k", u64::MAX);
        put_append(&mut out, b"k", b"");
        put_hash_set(&mut out, b"h", [&b"f"[..], b"v"].into_iter());
        put_hash_delete(&mut out, b"h", [&b"f"[..]].into_iter());
        put_flush(&mut out);
        let effects: Vec<_> = decode_all(&out).collect::<Result<_, _>>().expect("readable");
        assert_eq!(effects.len(), 7);
        assert_eq!(effects[0], Effect::Set { key: b"k", expire_at_ms: 7, value: &[b'v'; 300] });
        let Effect::HashSet { key: b"h", pairs } = effects[4] else { panic!("{:?}", effects[4]) };
        assert_eq!(pairs.collect::<Vec<_>>(), [b"f", b"v"]);
        for cut in 0..out.len() {
            let read = decode_all(&out[..cut]).filter(|effect| effect.is_ok()).count();
            assert!(read < 7, "cut at {cut}");
        }
    }

    #[test]
    fn lengths_beyond_the_bytes_are_refused() {
        assert_eq!(decode(&[2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Err(Unreadable(0)));
        assert_eq!(decode(&[6, 0, 0xff, 0xff, 0x03]), Err(Unreadable(0)));
        assert_eq!(decode(&[99]), Err(Unreadable(0)));
    }
}
