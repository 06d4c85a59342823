//! Keys whatever they hold: DEL, EXISTS, TYPE, DBSIZE, FLUSHALL, OBJECT, MEMORY.

use crate::core::command::{Call, Reply};
use crate::core::effect;
use crate::core::entry::Value;
use crate::core::shard::Refusal;
use crate::core::table::Keyed;
use wire::resp::number;

pub(crate) fn del(call: &mut Call<'_>) -> Reply {
    let mut deleted = 0;
    for key in call.arguments.from(1).iter() {
        if call.entry(key).is_some() {
            call.change(key, |out| effect::put_delete(out, key));
            deleted += 1;
        } else {
            call.clear_expired(key);
        }
    }
    call.out.integer(deleted);
    Ok(())
}

pub(crate) fn exists(call: &mut Call<'_>) -> Reply {
    let mut there = 0;
    for key in call.arguments.from(1).iter() {
        there += i64::from(call.entry(key).is_some());
    }
    call.out.integer(there);
    Ok(())
}

pub(crate) fn type_(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    let name = call.read(&arguments[1]).map_or("none", |value| value.type_name());
    call.out.simple(name);
    Ok(())
}

pub(crate) fn dbsize(call: &mut Call<'_>) -> Reply {
    call.rest_on_all();
    call.out.integer(call.shard.keyspace.len() as i64);
    Ok(())
}

pub(crate) fn flush(call: &mut Call<'_>) -> Reply {
    match (&call.word(1)[..], call.arguments.len()) {
        (_, 1) | (b"async" | b"sync", 2) => {}
        _ => return Err(Refusal::SYNTAX),
    }
    if !call.shard.keyspace.is_empty() {
        call.gate = call.shard.flush();
    }
    call.rest_on_all();
    call.out.ok();
    Ok(())
}

pub(crate) fn save(_: &mut Call<'_>) -> Reply {
    Err("ERR SAVE would stop the shard: use BGSAVE. Every write that was answered is on disk already".into())
}

pub(crate) fn bgsave(call: &mut Call<'_>) -> Reply {
    call.shard.save_asked = true;
    call.out.simple("Background saving started");
    Ok(())
}

pub(crate) fn lastsave(call: &mut Call<'_>) -> Reply {
    call.out.integer(call.shard.stats.checkpoint_at_s as i64);
    Ok(())
}

/// `OBJECT ENCODING`'s name for a value.
fn encoding(value: Value<'_>) -> &'static str {
    match value {
        Value::Small(bytes) if number::integer(bytes).is_some() => "int",
        Value::Small(bytes) if bytes.len() <= 44 => "embstr",
        Value::Small(_) | Value::Large(_) => "raw",
        Value::Hash(hash) => hash.encoding(),
    }
}

pub(crate) fn object_alone(call: &mut Call<'_>) -> Reply {
    Err(Refusal::arity(call.command.name))
}

pub(crate) fn object_encoding(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    match call.read(&arguments[2]).map(encoding) {
        Some(name) => call.out.bulk(name.as_bytes()),
        None => call.out.null(),
    }
    Ok(())
}

fn number_of_key(call: &mut Call<'_>, number: i64) -> Reply {
    let arguments = call.arguments;
    match call.entry(&arguments[2]).is_some() {
        true => call.out.integer(number),
        false => call.out.null(),
    }
    Ok(())
}

pub(crate) fn object_refcount(call: &mut Call<'_>) -> Reply {
    number_of_key(call, 1)
}

/// Ages are not kept: nothing is ever evicted.
pub(crate) fn object_idletime(call: &mut Call<'_>) -> Reply {
    number_of_key(call, 0)
}

pub(crate) fn object_freq(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    if call.entry(&arguments[2]).is_none() {
        call.out.null();
        return Ok(());
    }
    Err("ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching \
         between policies at runtime LRU and LFU data will take some time to adjust."
        .into())
}

pub(crate) fn memory_usage(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    match (&call.word(3)[..], arguments.len()) {
        (_, 3) => {}
        (b"samples", 5) => {
            number::integer(&arguments[4]).ok_or(Refusal::NOT_AN_INTEGER)?;
        }
        _ => return Err(Refusal::SYNTAX),
    }
    match call.entry(&arguments[2]).map(|entry| entry.cost_bytes() + 26) {
        Some(bytes) => call.out.integer(bytes as i64),
        None => call.out.null(),
    }
    Ok(())
}

pub(crate) fn memory_doctor(call: &mut Call<'_>) -> Reply {
    let text = match call.shard.is_full() {
        true => {
            "The keys take more than maxmemory: writes that take memory are refused. Delete keys or raise the limit."
        }
        false => "The keys take less than maxmemory.",
    };
    call.out.verbatim(text);
    Ok(())
}

pub(crate) fn debug_active_expire(call: &mut Call<'_>) -> Reply {
    call.shard.active_expiry = match &call.arguments[2] {
        b"0" => false,
        b"1" => true,
        _ => return Err(Refusal::SYNTAX),
    };
    call.out.ok();
    Ok(())
}

pub(crate) fn debug_object(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    let told = call.entry(&arguments[2]).map(|entry| {
        format!(
            "Value at:0x0 refcount:1 encoding:{} serializedlength:{} lru:0 lru_seconds_idle:0",
            encoding(entry.value()),
            entry.cost_bytes() - entry.key().len()
        )
    });
    call.out.simple(&told.ok_or(Refusal::from("ERR no such key"))?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::core::console::Console;
    use crate::core::shard::Settings;

    #[test]
    fn keys_of_any_type() {
        Console::new().script(
            "SET {t}a 1 -> OK
             HSET {t}h f v -> (1)
             EXISTS {t}a {t}a {t}h {t}z -> (3)
             TOUCH {t}a {t}z -> (1)
             TYPE {t}a -> string
             TYPE {t}h -> hash
             TYPE none -> none
             OBJECT ENCODING {t}a -> int
             OBJECT ENCODING {t}h -> listpack
             OBJECT ENCODING none -> nil
             SET {t}a 01 -> OK
             OBJECT ENCODING {t}a -> embstr
             SET {t}a aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa -> OK
             OBJECT ENCODING {t}a -> raw
             OBJECT REFCOUNT {t}a -> (1)
             OBJECT FOO {t}a -> ERR unknown subcommand 'FOO'. Try OBJECT HELP.
             OBJECT ENCODING -> ERR wrong number of arguments for 'object|encoding' command
             OBJECT -> ERR wrong number of arguments for 'object' command
             MEMORY USAGE none -> nil
             DEL {t}a {t}h {t}z -> (2)
             UNLINK {t}a -> (0)
             DBSIZE -> (0)
             FLUSHALL -> OK
             SET a 1 -> OK
             FLUSHDB SYNC -> OK
             FLUSHALL NOW -> ERR syntax error
             DBSIZE -> (0)",
        );
    }

    #[test]
    fn full_memory_refuses_what_takes_more() {
        let mut console = Console::of(1, Settings { maxmemory_bytes: 10_000, ..Settings::default() });
        let value = "v".repeat(1000);
        let mut kept = 0;
        while console.ask(&format!("SET key{kept} {value}")) == "OK" {
            kept += 1;
        }
        assert!((8..12).contains(&kept), "{kept} of 1000 bytes in 10,000");
        console.script(
            "SET k v -> OOM command not allowed when used memory > 'maxmemory'.
             INCR n -> OOM command not allowed when used memory > 'maxmemory'.
             STRLEN key0 -> (1000)
             MULTI -> OK
             SET k v -> OOM command not allowed when used memory > 'maxmemory'.
             EXEC -> EXECABORT Transaction discarded because of previous errors.
             DEL key0 -> (1)
             SET k v -> OK",
        );
    }
}
