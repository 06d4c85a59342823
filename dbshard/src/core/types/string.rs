//! Strings: SET, GET and their kin.

use crate::core::command::{Call, Reply};
use crate::core::commands::expiry::{self, Unit};
use crate::core::effect;
use crate::core::entry::{Entry, Value};
use crate::core::shard::Refusal;
use wire::resp::number;

/// The longest string, `proto-max-bulk-len`.
pub const STRING_BYTES_MAX: usize = 16 << 20;

const TOO_LONG: &str = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";

impl Call<'_> {
    /// The string under a key.
    pub(crate) fn string(&mut self, key: &[u8]) -> Result<Option<&[u8]>, Refusal> {
        match self.read(key) {
            None => Ok(None),
            Some(value) => text(value).map(Some),
        }
    }

    /// Writes the string under a key, or null.
    fn reply_string(&mut self, key: &[u8]) -> Reply {
        match self.read_into(key) {
            (None, out) => out.null(),
            (Some(Value::Hash(_)), _) => return Err(Refusal::WRONG_TYPE),
            (Some(value), out) => out.value(value),
        }
        Ok(())
    }

    /// When a key expires; 0 for never or not there.
    pub(crate) fn expire_at_ms(&mut self, key: &[u8]) -> u64 {
        self.entry(key).map_or(0, Entry::expire_at_ms)
    }
}

fn text(value: Value<'_>) -> Result<&[u8], Refusal> {
    match value {
        Value::Small(bytes) => Ok(bytes),
        Value::Large(bytes) => Ok(bytes),
        Value::Hash(_) => Err(Refusal::WRONG_TYPE),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Only {
    Always,
    IfAbsent,
    IfPresent,
}

pub(crate) fn set(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    let (key, value) = (&arguments[1], &arguments[2]);
    let (mut only, mut get, mut keep_ttl) = (Only::Always, false, false);
    let mut expire: Option<(Unit, &[u8])> = None;
    let mut at = 3;
    while at < arguments.len() {
        let option = call.word(at);
        match (&option[..], arguments.get(at + 1)) {
            (b"nx", _) if only != Only::IfPresent => only = Only::IfAbsent,
            (b"xx", _) if only != Only::IfAbsent => only = Only::IfPresent,
            (b"get", _) => get = true,
            (b"keepttl", _) if expire.is_none() => keep_ttl = true,
            (name, Some(time)) if !keep_ttl => {
                let unit = Unit::of(name).ok_or(Refusal::SYNTAX)?;
                // The same once more takes the place of the first, as in Redis.
                if expire.is_some_and(|(first, _)| first != unit) {
                    return Err(Refusal::SYNTAX);
                }
                expire = Some((unit, time));
                at += 1;
            }
            _ => return Err(Refusal::SYNTAX),
        }
        at += 1;
    }
    let expire_at_ms = match expire {
        Some((unit, time)) => expiry::set_time(call, unit, time)?,
        None => 0,
    };
    if get {
        call.reply_string(key)?;
    }
    // Whether the key is there matters only to those who ask: a plain SET looks nothing up.
    if only != Only::Always && call.entry(key).is_some() != (only == Only::IfPresent) {
        if !get {
            call.out.null();
        }
        return Ok(());
    }
    let expire_at_ms = if keep_ttl { call.expire_at_ms(key) } else { expire_at_ms };
    call.change(key, |out| effect::put_set(out, key, value, expire_at_ms));
    if !get {
        call.out.ok();
    }
    Ok(())
}

pub(crate) fn get(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    call.reply_string(&arguments[1])
}

pub(crate) fn setnx(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    let key = &arguments[1];
    let free = call.entry(key).is_none();
    if free {
        call.change(key, |out| effect::put_set(out, key, &arguments[2], 0));
    }
    call.out.integer(i64::from(free));
    Ok(())
}

fn set_expiring(call: &mut Call<'_>, unit: Unit) -> Reply {
    let arguments = call.arguments;
    let key = &arguments[1];
    let expire_at_ms = expiry::set_time(call, unit, &arguments[2])?;
    call.change(key, |out| effect::put_set(out, key, &arguments[3], expire_at_ms));
    call.out.ok();
    Ok(())
}

pub(crate) fn setex(call: &mut Call<'_>) -> Reply {
    set_expiring(call, Unit::Seconds)
}

pub(crate) fn psetex(call: &mut Call<'_>) -> Reply {
    set_expiring(call, Unit::Milliseconds)
}

pub(crate) fn getset(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    let key = &arguments[1];
    call.reply_string(key)?;
    call.change(key, |out| effect::put_set(out, key, &arguments[2], 0));
    Ok(())
}

pub(crate) fn getdel(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    let key = &arguments[1];
    call.reply_string(key)?;
    if call.entry(key).is_some() {
        call.change(key, |out| effect::put_delete(out, key));
    }
    Ok(())
}

pub(crate) fn getex(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    let key = &arguments[1];
    let option = call.word(2);
    let expire = match (&option[..], arguments.len()) {
        (_, 2) => None,
        (b"persist", 3) => None,
        (name, 4) => Some((Unit::of(name).ok_or(Refusal::SYNTAX)?, &arguments[3])),
        _ => return Err(Refusal::SYNTAX),
    };
    if call.string(key)?.is_none() {
        call.out.null();
        return Ok(());
    }
    let expire_at_ms = match expire {
        Some((unit, time)) => Some(expiry::set_time(call, unit, time)?),
        None => (arguments.len() == 3).then_some(0),
    };
    call.reply_string(key)?;
    let now_ms = call.now_ms;
    match expire_at_ms {
        None => {}
        Some(0) if call.expire_at_ms(key) == 0 => {}
        Some(at) if at != 0 && at <= now_ms => call.change(key, |out| effect::put_delete(out, key)),
        Some(at) => call.change(key, |out| effect::put_expire(out, key, at)),
    }
    Ok(())
}

pub(crate) fn append(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    let (key, suffix) = (&arguments[1], &arguments[2]);
    let old = call.string(key)?.map(<[u8]>::len);
    let length = old.unwrap_or(0) + suffix.len();
    if length > STRING_BYTES_MAX {
        return Err(TOO_LONG.into());
    }
    match old {
        Some(_) => call.change(key, |out| effect::put_append(out, key, suffix)),
        None => call.change(key, |out| effect::put_set(out, key, suffix, 0)),
    }
    call.out.integer(length as i64);
    Ok(())
}

pub(crate) fn strlen(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    let length = call.string(&arguments[1])?.map_or(0, <[u8]>::len);
    call.out.integer(length as i64);
    Ok(())
}

pub(crate) fn getrange(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    let start = number::integer(&arguments[2]).ok_or(Refusal::NOT_AN_INTEGER)?;
    let end = number::integer(&arguments[3]).ok_or(Refusal::NOT_AN_INTEGER)?;
    let (value, out) = call.read_into(&arguments[1]);
    let bytes = value.map_or(Ok(&[][..]), text)?;
    out.bulk(range(bytes, start, end));
    Ok(())
}

fn range(bytes: &[u8], start: i64, end: i64) -> &[u8] {
    let length = bytes.len() as i64;
    if start < 0 && end < 0 && start > end {
        return &[];
    }
    let from_end = |at: i64| if at < 0 { (length + at).max(0) } else { at };
    let (start, end) = (from_end(start), from_end(end).min(length - 1));
    if start > end || length == 0 { &[] } else { &bytes[start as usize..=end as usize] }
}

pub(crate) fn setrange(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    let (key, part) = (&arguments[1], &arguments[3]);
    let offset = number::integer(&arguments[2]).ok_or(Refusal::NOT_AN_INTEGER)?;
    let offset = usize::try_from(offset).map_err(|_| Refusal::from("ERR offset is out of range"))?;
    let old = call.string(key)?;
    let length = old.map_or(0, <[u8]>::len);
    if part.is_empty() {
        call.out.integer(length as i64);
        return Ok(());
    }
    if offset.saturating_add(part.len()) > STRING_BYTES_MAX {
        return Err(TOO_LONG.into());
    }
    let mut value = old.unwrap_or_default().to_vec();
    value.resize(length.max(offset + part.len()), 0);
    value[offset..offset + part.len()].copy_from_slice(part);
    let expire_at_ms = call.expire_at_ms(key);
    call.change(key, |out| effect::put_set(out, key, &value, expire_at_ms));
    call.out.integer(value.len() as i64);
    Ok(())
}

pub(crate) fn mget(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    call.out.array(arguments.len() - 1);
    for key in arguments.from(1).iter() {
        match call.read_into(key) {
            (None | Some(Value::Hash(_)), out) => out.null(),
            (Some(value), out) => out.value(value),
        }
        if call.out.overflowed() {
            break;
        }
    }
    Ok(())
}

fn set_all(call: &mut Call<'_>) {
    let arguments = call.arguments;
    for at in (1..arguments.len()).step_by(2) {
        let key = &arguments[at];
        call.change(key, |out| effect::put_set(out, key, &arguments[at + 1], 0));
    }
}

pub(crate) fn mset(call: &mut Call<'_>) -> Reply {
    if call.arguments.len().is_multiple_of(2) {
        return Err(Refusal::arity("mset"));
    }
    set_all(call);
    call.out.ok();
    Ok(())
}

pub(crate) fn msetnx(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    if arguments.len().is_multiple_of(2) {
        return Err(Refusal::arity("msetnx"));
    }
    let mut free = true;
    for at in (1..arguments.len()).step_by(2) {
        free &= call.entry(&arguments[at]).is_none();
    }
    if free {
        set_all(call);
    }
    call.out.integer(i64::from(free));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::core::console::Console;

    #[test]
    fn set_and_its_options() {
        Console::new().script(
            "SET k v -> OK
             GET k -> v
             SET k w NX -> nil
             SET k w XX -> OK
             SET other w XX -> nil
             SET k x GET -> w
             SET k y NX GET -> x
             GET k -> x
             SET fresh 1 NX GET -> nil
             GET fresh -> 1
             SET k v EX 10 -> OK
             TTL k -> (10)
             SET k w KEEPTTL -> OK
             PTTL k -> (10000)
             SET k w -> OK
             TTL k -> (-1)
             SET k v PXAT 1600000005000 -> OK
             PEXPIRETIME k -> (1600000005000)
             SET k v EXAT 1600000005 -> OK
             TTL k -> (5)
             SET k v EX 0 -> ERR invalid expire time in 'set' command
             SET k v EX 9223372036854775807 -> ERR invalid expire time in 'set' command
             SET k v EX a -> ERR value is not an integer or out of range
             SET k v EX -> ERR syntax error
             SET k v NX XX -> ERR syntax error
             SET k v EX 1 KEEPTTL -> ERR syntax error
             SET k v KEEPTTL PX 1 -> ERR syntax error
             SET k v EX 1 PX 1 -> ERR syntax error
             SET {t}k v EX 1 EX 2 -> OK
             TTL {t}k -> (2)
             SET k v FOO -> ERR syntax error
             SET k -> ERR wrong number of arguments for 'set' command
             GET k -> v
             HSET h f v -> (1)
             GET h -> WRONGTYPE Operation against a key holding the wrong kind of value
             SET h v GET -> WRONGTYPE Operation against a key holding the wrong kind of value
             SET h v -> OK
             GET h -> v",
        );
    }

    #[test]
    fn older_forms_and_ranges() {
        Console::new().script(
            "SETNX k v -> (1)
             SETNX k w -> (0)
             SETEX k 5 v -> OK
             TTL k -> (5)
             SETEX k 0 v -> ERR invalid expire time in 'setex' command
             PSETEX k -1 v -> ERR invalid expire time in 'psetex' command
             PSETEX k 1500 v -> OK
             PTTL k -> (1500)
             GETSET k w -> v
             TTL k -> (-1)
             GETDEL k -> w
             GETDEL k -> nil
             APPEND k ab -> (2)
             APPEND k cd -> (4)
             GET k -> abcd
             STRLEN k -> (4)
             STRLEN none -> (0)
             GETRANGE k 1 2 -> bc
             GETRANGE k -3 -1 -> bcd
             GETRANGE k 0 100 -> abcd
             GETRANGE k 3 1 -> 
             SETRANGE k 2 XY -> (4)
             GET k -> abXY
             SETRANGE k -1 a -> ERR offset is out of range
             SETRANGE k 16777216 a -> ERR string exceeds maximum allowed size (proto-max-bulk-len)
             SETRANGE none 2 \"\" -> (0)
             HSET h f v -> (1)
             APPEND h x -> WRONGTYPE Operation against a key holding the wrong kind of value
             STRLEN h -> WRONGTYPE Operation against a key holding the wrong kind of value",
        );
    }

    #[test]
    fn getex_changes_the_expiry_alone() {
        let mut console = Console::new();
        console.script(
            "SET k v -> OK
             GETEX k EX 10 -> v
             TTL k -> (10)
             GETEX k -> v
             TTL k -> (10)
             GETEX k PERSIST -> v
             TTL k -> (-1)
             GETEX none EX 1 -> nil
             GETEX k EX 0 -> ERR invalid expire time in 'getex' command
             GETEX k FOO 1 -> ERR syntax error
             GETEX k PERSIST 1 -> ERR syntax error
             GETEX k PXAT 1000 -> v
             EXISTS k -> (0)",
        );
    }

    #[test]
    fn many_at_once() {
        Console::new().script(
            "MSET a 1 b 2 a 3 -> CROSSSLOT Keys in request don't hash to the same slot
             MSET {t}a 1 {t}b 2 {t}a 3 -> OK
             MGET {t}a {t}b {t}c -> [3 2 nil]
             MSET {t}a -> ERR wrong number of arguments for 'mset' command
             MSET {t}a 1 {t}b -> ERR wrong number of arguments for 'mset' command
             MSETNX {t}a 1 {t}z 2 -> (0)
             MSETNX {t}y 1 {t}z 2 -> (1)
             HSET {t}h f v -> (1)
             MGET {t}h {t}z -> [nil 2]",
        );
    }

    #[test]
    fn a_large_value_is_kept_shared_and_grown() {
        let mut console = Console::new();
        let value = "x".repeat(1 << 20);
        let request = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n{value}\r\n", value.len());
        console.execute(request.as_bytes());
        assert_eq!(console.answer(), "OK");
        assert_eq!(console.ask("GET k"), value);
        console.execute(b"GET k\r\nAPPEND k tail\r\nGET k\r\n");
        assert_eq!(console.answer(), format!("{value}; (1048580); {value}tail"));
    }
}
