//! Walks: SCAN, HSCAN, KEYS, RANDOMKEY.

use crate::core::command::{Call, Reply, is_expired};
use crate::core::entry::Value;
use crate::core::glob;
use crate::core::shard::Refusal;
use crate::core::table::Keyed;
use wire::resp::number;

/// Entries that one call looks at, whatever COUNT says.
const COUNT_MAX: usize = 100_000;
/// Tries of RANDOMKEY to meet a key that has not expired.
const RANDOM_TRIES_MAX: usize = 100;

struct Options<'a> {
    pattern: Option<&'a [u8]>,
    count: usize,
    type_name: Option<Vec<u8>>,
}

fn options<'a>(call: &Call<'a>, from: usize, with_type: bool) -> Result<Options<'a>, Refusal> {
    let arguments = call.arguments;
    let mut options = Options { pattern: None, count: 10, type_name: None };
    let mut at = from;
    while at < arguments.len() {
        let value = arguments.get(at + 1).ok_or(Refusal::SYNTAX)?;
        match &call.word(at)[..] {
            b"match" => options.pattern = Some(value).filter(|pattern| *pattern != b"*"),
            b"count" => {
                let count = number::integer(value).ok_or(Refusal::NOT_AN_INTEGER)?;
                options.count =
                    usize::try_from(count).ok().filter(|count| *count > 0).ok_or(Refusal::SYNTAX)?;
            }
            b"type" if with_type => options.type_name = Some(value.to_ascii_lowercase()),
            _ => return Err(Refusal::SYNTAX),
        }
        at += 2;
    }
    options.count = options.count.min(COUNT_MAX);
    Ok(options)
}

/// A cursor as `strtoul` takes it: a minus counts back from 2⁶⁴.
fn cursor(text: &[u8]) -> Result<u64, Refusal> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let sound = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let number: Option<u64> = sound.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten();
    let number = number.ok_or(Refusal::from("ERR invalid cursor"))?;
    Ok(if negative { number.wrapping_neg() } else { number })
}

fn begin(call: &mut Call<'_>, next: Option<u64>, count: usize) {
    call.out.array(2);
    call.out.bulk(next.unwrap_or(0).to_string().as_bytes());
    call.out.array(count);
}

pub(crate) fn scan(call: &mut Call<'_>) -> Reply {
    let from = cursor(&call.arguments[1])?;
    let options = options(call, 2, true)?;
    call.rest_on_all();
    let now_ms = call.now_ms;
    let mut keys: Vec<&[u8]> = Vec::new();
    let next = call.shard.keyspace.scan(from, options.count, |_, entry| {
        let wanted = !is_expired(entry, now_ms)
            && options.pattern.is_none_or(|pattern| glob::matches(pattern, entry.key(), false))
            && options.type_name.as_deref().is_none_or(|name| name == entry.value().type_name().as_bytes());
        if wanted {
            keys.push(entry.key());
        }
    });
    let out = &mut call.out;
    out.array(2);
    out.bulk(next.unwrap_or(0).to_string().as_bytes());
    out.array(keys.len());
    keys.iter().for_each(|key| out.bulk(key));
    Ok(())
}

pub(crate) fn hscan(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    let from = cursor(&arguments[2])?;
    let options = options(call, 3, false)?;
    let hasher = call.hasher();
    let mut pairs: Vec<(&[u8], &[u8])> = Vec::new();
    let (value, out) = call.read_into(&arguments[1]);
    let hash = match value {
        None => {
            begin(call, None, 0);
            return Ok(());
        }
        Some(Value::Hash(hash)) => hash,
        Some(_) => return Err(Refusal::WRONG_TYPE),
    };
    let next = hash.scan(u32::try_from(from).unwrap_or(u32::MAX), options.count, hasher, |field, value| {
        if options.pattern.is_none_or(|pattern| glob::matches(pattern, field, false)) {
            pairs.push((field, value));
        }
    });
    out.array(2);
    out.bulk(next.unwrap_or(0).to_string().as_bytes());
    out.array(pairs.len() * 2);
    for (field, value) in pairs {
        out.bulk(field);
        out.bulk(value);
    }
    Ok(())
}

pub(crate) fn keys(call: &mut Call<'_>) -> Reply {
    call.rest_on_all();
    let (pattern, now_ms) = (&call.arguments[1], call.now_ms);
    let mut keys: Vec<&[u8]> = Vec::new();
    call.shard.keyspace.scan(0, usize::MAX, |_, entry| {
        if !is_expired(entry, now_ms) && glob::matches(pattern, entry.key(), false) {
            keys.push(entry.key());
        }
    });
    call.out.array(keys.len());
    for key in keys {
        call.out.bulk(key);
    }
    Ok(())
}

pub(crate) fn randomkey(call: &mut Call<'_>) -> Reply {
    call.rest_on_all();
    for _ in 0..RANDOM_TRIES_MAX {
        let chance = call.shard.draw();
        let now_ms = call.now_ms;
        match call.shard.keyspace.any(chance) {
            None => break,
            Some(entry) if is_expired(entry, now_ms) => {}
            Some(entry) => {
                call.out.bulk(entry.key());
                return Ok(());
            }
        }
    }
    call.out.null();
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::core::console::Console;
    use std::collections::BTreeSet;

    fn walk(console: &mut Console, request: impl Fn(&str) -> String) -> Vec<String> {
        let (mut cursor, mut all) = ("0".to_owned(), Vec::new());
        for _ in 0..100_000 {
            let reply = console.ask(&request(&cursor));
            let (next, items) = reply[1..reply.len() - 1].split_once(' ').expect("cursor and items");
            all.extend(
                items[1..items.len() - 1].split(' ').filter(|item| !item.is_empty()).map(str::to_owned),
            );
            cursor = next.to_owned();
            if cursor == "0" {
                return all;
            }
        }
        panic!("a walk without end");
    }

    #[test]
    fn scan_meets_every_key_once() {
        let mut console = Console::new();
        let wanted: BTreeSet<String> = (0..3000).map(|number| format!("key{number}")).collect();
        for key in &wanted {
            console.execute(format!("SET {key} v\r\n").as_bytes());
        }
        console.ask("HSET hash f v");
        console.commit();
        let keys = walk(&mut console, |cursor| format!("SCAN {cursor} MATCH key* COUNT 100"));
        assert_eq!((keys.len(), keys.into_iter().collect::<BTreeSet<_>>()), (3000, wanted));
        assert_eq!(walk(&mut console, |cursor| format!("SCAN {cursor} TYPE hash COUNT 1000")), ["hash"]);
        console.script(
            "SCAN a -> ERR invalid cursor
             SCAN 0 COUNT 0 -> ERR syntax error
             SCAN 0 COUNT a -> ERR value is not an integer or out of range
             SCAN 0 FOO 1 -> ERR syntax error
             SCAN 0 MATCH -> ERR syntax error
             SCAN 99999999999999999 -> [0 []]
             HSCAN key1 0 -> WRONGTYPE Operation against a key holding the wrong kind of value
             HSCAN none 0 -> [0 []]
             HSCAN none a -> ERR invalid cursor
             HSCAN hash 0 -> [0 [f v]]",
        );
        assert_eq!(console.ask("KEYS key29?9").split(' ').count(), 10);
        assert!(console.ask("RANDOMKEY").len() > 3);
        console.script("FLUSHALL -> OK\nRANDOMKEY -> nil");
    }

    #[test]
    fn hscan_walks_large_hashes() {
        let mut console = Console::new();
        for number in 0..3000 {
            console.execute(format!("HSET h field{number} {number}\r\n").as_bytes());
        }
        console.answer();
        let items = walk(&mut console, |cursor| format!("HSCAN h {cursor} COUNT 50"));
        assert_eq!(items.len(), 6000);
        assert_eq!(items.iter().step_by(2).collect::<BTreeSet<_>>().len(), 3000);
    }
}
