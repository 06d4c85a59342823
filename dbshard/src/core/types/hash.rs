//! Hashes: HSET, HGET and their kin.
//!
//! A small hash is one run of bytes, `field length, field, value length, value` in the order of arrival; past
//! [`PACKED_FIELDS_MAX`] fields or [`PACKED_BYTES_MAX`] bytes of a field or value it turns into a table, and stays one.

use crate::core::command::{Call, Reply};
use crate::core::effect;
use crate::core::entry::Value;
use crate::core::key::KeyHash;
use crate::core::shard::Refusal;
use crate::core::table::{Keyed, Table};
use crate::core::types::counter;
use wire::resp::number;

/// Fields of a hash in the small form, `hash-max-listpack-entries`.
pub const PACKED_FIELDS_MAX: usize = 128;
/// Bytes of a field or value in the small form, `hash-max-listpack-value`.
pub const PACKED_BYTES_MAX: usize = 64;

/// Fields and their values.
#[derive(Debug)]
pub struct Hash {
    body: Body,
    /// What the table's fields take in memory; 0 in the small form.
    fields_bytes: usize,
}

#[derive(Debug)]
enum Body {
    Packed { bytes: Vec<u8>, count: usize },
    Table(Table<Field>),
}

/// `field length (4 bytes), field, value`.
#[derive(Debug)]
struct Field(Box<[u8]>);

impl Field {
    fn new(field: &[u8], value: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(4 + field.len() + value.len());
        bytes.extend_from_slice(&(field.len() as u32).to_le_bytes());
        bytes.extend_from_slice(field);
        bytes.extend_from_slice(value);
        Self(bytes.into_boxed_slice())
    }

    fn split(&self) -> (&[u8], &[u8]) {
        let (length, rest) = self.0.split_at(4);
        rest.split_at(u32::from_le_bytes(length.try_into().expect("four bytes")) as usize)
    }

    /// With the allocator's header and its place in the table.
    fn cost_bytes(&self) -> usize {
        (self.0.len() + 8).next_multiple_of(16) + 28
    }
}

impl Keyed for Field {
    fn key(&self) -> &[u8] {
        self.split().0
    }
}

/// The pairs of the small form, each with where it begins.
struct Packed<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Packed<'a> {
    type Item = (usize, &'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.at;
        let rest = &self.bytes[start..];
        let field_bytes = usize::from(*rest.first()?);
        let (field, rest) = rest[1..].split_at(field_bytes);
        let value = &rest[1..1 + usize::from(rest[0])];
        self.at += 2 + field.len() + value.len();
        Some((start, field, value))
    }
}

impl Default for Hash {
    fn default() -> Self {
        Self { body: Body::Packed { bytes: Vec::new(), count: 0 }, fields_bytes: 0 }
    }
}

impl Hash {
    /// How many fields.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.body {
            Body::Packed { count, .. } => *count,
            Body::Table(table) => table.len(),
        }
    }

    /// Whether it has no field; such a hash is never kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `OBJECT ENCODING`'s name of the form.
    #[must_use]
    pub fn encoding(&self) -> &'static str {
        match self.body {
            Body::Packed { .. } => "listpack",
            Body::Table(_) => "hashtable",
        }
    }

    /// What it takes in memory.
    #[must_use]
    pub fn cost_bytes(&self) -> usize {
        match &self.body {
            Body::Packed { bytes, .. } => bytes.capacity() + 8,
            Body::Table(_) => self.fields_bytes,
        }
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, field: &[u8], hasher: KeyHash) -> Option<&[u8]> {
        match &self.body {
            Body::Packed { bytes, .. } => {
                Packed { bytes, at: 0 }.find(|(_, name, _)| *name == field).map(|(_, _, value)| value)
            }
            Body::Table(table) => table.get(field, hasher.of(field)).map(|field| field.split().1),
        }
    }

    /// Sets a field; gives the value that it had.
    pub fn set(&mut self, field: &[u8], value: &[u8], hasher: KeyHash) -> Option<Box<[u8]>> {
        if let Body::Packed { bytes, count } = &mut self.body {
            if field.len() <= PACKED_BYTES_MAX && value.len() <= PACKED_BYTES_MAX {
                let found = Packed { bytes, at: 0 }
                    .find(|(_, name, _)| *name == field)
                    .map(|(start, _, old)| (start + 1 + field.len(), Box::<[u8]>::from(old)));
                if let Some((at, old)) = found {
                    let new = std::iter::once(value.len() as u8).chain(value.iter().copied());
                    bytes.splice(at..=at + old.len(), new);
                    return Some(old);
                }
                if *count < PACKED_FIELDS_MAX {
                    bytes.reserve_exact(2 + field.len() + value.len());
                    for part in [field, value] {
                        bytes.push(part.len() as u8);
                        bytes.extend_from_slice(part);
                    }
                    *count += 1;
                    return None;
                }
            }
            self.unpack(hasher);
        }
        let Body::Table(table) = &mut self.body else { unreachable!("unpacked above") };
        let new = Field::new(field, value);
        self.fields_bytes += new.cost_bytes();
        let old = table.insert(new, hasher.of(field), hasher)?;
        self.fields_bytes -= old.cost_bytes();
        Some(old.split().1.into())
    }

    fn unpack(&mut self, hasher: KeyHash) {
        let Body::Packed { bytes, .. } = &self.body else { return };
        let mut table = Table::default();
        for (_, field, value) in (Packed { bytes, at: 0 }) {
            let new = Field::new(field, value);
            self.fields_bytes += new.cost_bytes();
            table.insert(new, hasher.of(field), hasher);
        }
        self.body = Body::Table(table);
    }

    /// Takes a field out; gives its value.
    pub fn remove(&mut self, field: &[u8], hasher: KeyHash) -> Option<Box<[u8]>> {
        match &mut self.body {
            Body::Packed { bytes, count } => {
                let (start, old) = Packed { bytes, at: 0 }
                    .find(|(_, name, _)| *name == field)
                    .map(|(start, _, old)| (start, Box::<[u8]>::from(old)))?;
                bytes.drain(start..start + 2 + field.len() + old.len());
                *count -= 1;
                Some(old)
            }
            Body::Table(table) => {
                let old = table.remove(field, hasher.of(field), hasher)?;
                self.fields_bytes -= old.cost_bytes();
                Some(old.split().1.into())
            }
        }
    }

    /// All fields and values.
    pub fn for_each<'a>(&'a self, mut visit: impl FnMut(&'a [u8], &'a [u8])) {
        match &self.body {
            Body::Packed { bytes, .. } => {
                Packed { bytes, at: 0 }.for_each(|(_, field, value)| visit(field, value));
            }
            Body::Table(table) => {
                for field in table.iter() {
                    let (field, value) = field.split();
                    visit(field, value);
                }
            }
        }
    }

    /// Walks on from a position, as [`Table::scan`]; the small form is given whole.
    pub fn scan<'a>(
        &'a self,
        from: u32,
        count: usize,
        hasher: KeyHash,
        mut visit: impl FnMut(&'a [u8], &'a [u8]),
    ) -> Option<u32> {
        match &self.body {
            Body::Packed { .. } => {
                self.for_each(visit);
                None
            }
            Body::Table(table) => table.scan(from, count, hasher, |field| {
                let (field, value) = field.split();
                visit(field, value);
            }),
        }
    }
}

impl<'a> Call<'a> {
    /// The hash under a key; `None` if the key is not there.
    pub(crate) fn hash(&mut self, key: &[u8]) -> Result<Option<&Hash>, Refusal> {
        match self.read(key) {
            None => Ok(None),
            Some(Value::Hash(hash)) => Ok(Some(hash)),
            Some(_) => Err(Refusal::WRONG_TYPE),
        }
    }

    fn field(&mut self, key: &[u8], field: &[u8]) -> Result<Option<&[u8]>, Refusal> {
        let hasher = self.hasher();
        Ok(self.hash(key)?.and_then(|hash| hash.get(field, hasher)))
    }
}

fn set_pairs(call: &mut Call<'_>) -> Result<i64, Refusal> {
    let arguments = call.arguments;
    if !arguments.len().is_multiple_of(2) {
        return Err(Refusal::arity(call.command.name));
    }
    let key = &arguments[1];
    let hasher = call.hasher();
    let mut new = 0;
    let mut seen = std::collections::HashSet::new();
    let hash = call.hash(key)?;
    for at in (2..arguments.len()).step_by(2) {
        let field = &arguments[at];
        let first_here = arguments.len() == 4 || seen.insert(field);
        if first_here && hash.is_none_or(|hash| hash.get(field, hasher).is_none()) {
            new += 1;
        }
    }
    call.clear_expired(key);
    call.change(key, |out| effect::put_hash_set(out, key, arguments.from(2).iter()));
    Ok(new)
}

pub(crate) fn hset(call: &mut Call<'_>) -> Reply {
    let new = set_pairs(call)?;
    call.out.integer(new);
    Ok(())
}

pub(crate) fn hmset(call: &mut Call<'_>) -> Reply {
    set_pairs(call)?;
    call.out.ok();
    Ok(())
}

pub(crate) fn hsetnx(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    let (key, field) = (&arguments[1], &arguments[2]);
    let free = call.field(key, field)?.is_none();
    if free {
        call.clear_expired(key);
        call.change(key, |out| effect::put_hash_set(out, key, arguments.from(2).iter()));
    }
    call.out.integer(i64::from(free));
    Ok(())
}

pub(crate) fn hget(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    let hasher = call.hasher();
    match call.read_into(&arguments[1]) {
        (None, out) => out.null(),
        (Some(Value::Hash(hash)), out) => match hash.get(&arguments[2], hasher) {
            Some(value) => out.bulk(value),
            None => out.null(),
        },
        _ => return Err(Refusal::WRONG_TYPE),
    }
    Ok(())
}

pub(crate) fn hmget(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    let hasher = call.hasher();
    let (hash, out) = match call.read_into(&arguments[1]) {
        (None, out) => (None, out),
        (Some(Value::Hash(hash)), out) => (Some(hash), out),
        _ => return Err(Refusal::WRONG_TYPE),
    };
    out.array(arguments.len() - 2);
    for field in arguments.from(2).iter() {
        match hash.and_then(|hash| hash.get(field, hasher)) {
            Some(value) => out.bulk(value),
            None => out.null(),
        }
    }
    Ok(())
}

/// HGETALL, HKEYS and HVALS.
fn all(call: &mut Call<'_>, fields: bool, values: bool) -> Reply {
    let arguments = call.arguments;
    let (hash, out) = match call.read_into(&arguments[1]) {
        (None, out) => (None, out),
        (Some(Value::Hash(hash)), out) => (Some(hash), out),
        _ => return Err(Refusal::WRONG_TYPE),
    };
    let count = hash.map_or(0, Hash::len);
    if fields && values {
        out.map(count);
    } else {
        out.array(count);
    }
    if let Some(hash) = hash {
        hash.for_each(|field, value| {
            if fields {
                out.bulk(field);
            }
            if values {
                out.bulk(value);
            }
        });
    }
    Ok(())
}

pub(crate) fn hgetall(call: &mut Call<'_>) -> Reply {
    all(call, true, true)
}

pub(crate) fn hkeys(call: &mut Call<'_>) -> Reply {
    all(call, true, false)
}

pub(crate) fn hvals(call: &mut Call<'_>) -> Reply {
    all(call, false, true)
}

pub(crate) fn hdel(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    let key = &arguments[1];
    let hasher = call.hasher();
    let Some(hash) = call.hash(key)? else {
        call.out.integer(0);
        return Ok(());
    };
    let mut there: Vec<&[u8]> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for field in arguments.from(2).iter() {
        if hash.get(field, hasher).is_some() && (arguments.len() == 3 || seen.insert(field)) {
            there.push(field);
        }
    }
    let all = there.len() == hash.len();
    if all {
        call.change(key, |out| effect::put_delete(out, key));
    } else if !there.is_empty() {
        call.change(key, |out| effect::put_hash_delete(out, key, there.iter().copied()));
    }
    call.out.integer(there.len() as i64);
    Ok(())
}

pub(crate) fn hexists(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    let there = call.field(&arguments[1], &arguments[2])?.is_some();
    call.out.integer(i64::from(there));
    Ok(())
}

pub(crate) fn hlen(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    let count = call.hash(&arguments[1])?.map_or(0, Hash::len);
    call.out.integer(count as i64);
    Ok(())
}

pub(crate) fn hstrlen(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    let length = call.field(&arguments[1], &arguments[2])?.map_or(0, <[u8]>::len);
    call.out.integer(length as i64);
    Ok(())
}

pub(crate) fn hincrby(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    let (key, field) = (&arguments[1], &arguments[2]);
    let by = number::integer(&arguments[3]).ok_or(Refusal::NOT_AN_INTEGER)?;
    let old = match call.field(key, field)? {
        None => 0,
        Some(text) => number::integer(text).ok_or(Refusal::from("ERR hash value is not an integer"))?,
    };
    let new = old.checked_add(by).ok_or(Refusal::OVERFLOW)?;
    let text = new.to_string();
    call.clear_expired(key);
    call.change(key, |out| effect::put_hash_set(out, key, [field, text.as_bytes()].into_iter()));
    call.out.integer(new);
    Ok(())
}

pub(crate) fn hincrbyfloat(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    let (key, field) = (&arguments[1], &arguments[2]);
    let by = arguments[3].to_vec();
    number::float(&by).ok_or(Refusal::NOT_A_FLOAT)?;
    let old = match call.field(key, field)? {
        None => b"0".to_vec(),
        Some(text) => text.to_vec(),
    };
    number::float(&old).ok_or(Refusal::from("ERR hash value is not a float"))?;
    let new = counter::add_floats(&old, &by)?;
    call.clear_expired(key);
    call.change(key, |out| effect::put_hash_set(out, key, [field, new.as_bytes()].into_iter()));
    call.out.bulk(new.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::console::Console;

    #[test]
    fn commands_on_hashes() {
        let mut console = Console::new();
        console.script(
            "HSET h a 1 b 2 -> (2)
             HSET h a 3 c 4 -> (1)
             HSET h d 1 d 2 -> (1)
             HGETALL h -> [a 3 b 2 c 4 d 2]
             HSET h a -> ERR wrong number of arguments for 'hset' command
             HSET h a 1 b -> ERR wrong number of arguments for 'hset' command
             HMSET h e 5 -> OK
             HMSET h e -> ERR wrong number of arguments for 'hmset' command
             HGET h e -> 5
             HGET h none -> nil
             HGET none f -> nil
             HMGET h a none e -> [3 nil 5]
             HMGET none a b -> [nil nil]
             HKEYS h -> [a b c d e]
             HVALS h -> [3 2 4 2 5]
             HLEN h -> (5)
             HEXISTS h a -> (1)
             HEXISTS h z -> (0)
             HSTRLEN h a -> (1)
             HSETNX h a 9 -> (0)
             HSETNX h z 9 -> (1)
             HINCRBY h z 5 -> (14)
             HINCRBY h new -5 -> (-5)
             HINCRBY h z a -> ERR value is not an integer or out of range
             HSET h t text -> (1)
             HINCRBY h t 1 -> ERR hash value is not an integer
             HINCRBYFLOAT h z 0.5 -> 14.5
             HINCRBYFLOAT h t 1 -> ERR hash value is not a float
             HDEL h a b a none -> (2)
             HDEL h c d e z new t -> (6)
             EXISTS h -> (0)
             HGETALL h -> []
             SET s v -> OK
             HSET s f v -> WRONGTYPE Operation against a key holding the wrong kind of value
             HGET s f -> WRONGTYPE Operation against a key holding the wrong kind of value
             HGETALL s -> WRONGTYPE Operation against a key holding the wrong kind of value
             HDEL s f -> WRONGTYPE Operation against a key holding the wrong kind of value
             HLEN s -> WRONGTYPE Operation against a key holding the wrong kind of value",
        );
        assert_eq!(console.ask("HELLO 3").split(' ').next(), Some("{server:redis"));
        console.script("HSET h a 1 -> (1)\nHGETALL h -> {a:1}");
    }

    #[test]
    fn an_expired_hash_does_not_lend_its_fields_to_a_new_one() {
        let mut console = Console::new();
        console.script("HSET h a 1 -> (1)\nPEXPIRE h 100 -> (1)");
        console.now_ms += 100;
        console.script("HGETALL h -> []\nHSET h b 2 -> (1)\nHGETALL h -> [b 2]\nTTL h -> (-1)");
    }

    #[test]
    fn both_forms_agree_with_a_map() {
        let hasher = KeyHash::new(3);
        let (mut hash, mut model) = (Hash::default(), std::collections::BTreeMap::new());
        let mut state = 1u64;
        for step in 0..20_000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let field = format!("f{}", (state >> 33) % if step < 5000 { 100 } else { 3000 }).into_bytes();
            if (state >> 60).is_multiple_of(4) {
                assert_eq!(hash.remove(&field, hasher).map(Vec::from), model.remove(&field));
            } else {
                let value = vec![b'x'; (state >> 50) as usize % 60];
                assert_eq!(hash.set(&field, &value, hasher).map(Vec::from), model.insert(field, value));
            }
            if step == 4_999 {
                assert_eq!(hash.encoding(), "listpack");
            }
        }
        assert_eq!((hash.encoding(), hash.len()), ("hashtable", model.len()));
        let mut all = std::collections::BTreeMap::new();
        hash.for_each(|field, value| {
            all.insert(field.to_vec(), value.to_vec());
        });
        assert_eq!(all, model);
        let cost = hash.cost_bytes();
        assert!(cost > 0);
        for field in model.keys() {
            hash.remove(field, hasher);
        }
        assert_eq!((hash.len(), hash.cost_bytes()), (0, 0));
    }

    #[test]
    fn a_long_value_unpacks() {
        let hasher = KeyHash::new(3);
        let mut hash = Hash::default();
        hash.set(b"a", b"1", hasher);
        hash.set(b"a", &[b'x'; 65], hasher);
        assert_eq!((hash.encoding(), hash.len()), ("hashtable", 1));
        assert_eq!(hash.get(b"a", hasher).map(<[u8]>::len), Some(65));
    }
}
