//! CONFIG: the settings that exist, under Redis's names.

use crate::core::command::{Call, Reply};
use crate::core::glob;
use crate::core::shard::{Refusal, Shard, Stats};
use crate::core::types::{hash, string};
use wire::resp::number;

/// All settings, by name.
fn all(shard: &Shard) -> Vec<(&'static str, String)> {
    let settings = &shard.settings;
    let node = shard.node();
    vec![
        ("appendfsync", "always".into()),
        ("appendonly", "yes".into()),
        ("bind", node.host.clone()),
        ("cluster-enabled", "yes".into()),
        ("cluster-require-full-coverage", "yes".into()),
        ("databases", "1".into()),
        ("dir", settings.dir.clone()),
        ("hash-max-listpack-entries", hash::PACKED_FIELDS_MAX.to_string()),
        ("hash-max-listpack-value", hash::PACKED_BYTES_MAX.to_string()),
        ("maxclients", settings.clients_max.to_string()),
        ("maxmemory", settings.maxmemory_bytes.to_string()),
        ("maxmemory-policy", "noeviction".into()),
        ("port", node.port.to_string()),
        ("proto-max-bulk-len", string::STRING_BYTES_MAX.to_string()),
        ("requirepass", settings.password.clone().unwrap_or_default()),
        ("save", String::new()),
        ("timeout", settings.idle_timeout_s.to_string()),
    ]
}

pub(crate) fn get(call: &mut Call<'_>) -> Reply {
    let patterns = call.arguments.from(2);
    let mut found = all(call.shard);
    found.retain(|(name, _)| patterns.iter().any(|pattern| glob::matches(pattern, name.as_bytes(), true)));
    call.out.map(found.len());
    for (name, value) in found {
        call.out.bulk(name.as_bytes());
        call.out.bulk(value.as_bytes());
    }
    Ok(())
}

/// A size as Redis takes it: a number, or one with `k`, `kb`, `m`, `mb`, `g`, `gb`.
fn size(text: &[u8]) -> Option<usize> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = usize::try_from(number::integer(&lower[..digits])?).ok()?;
    let unit = match &lower[digits..] {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit)
}

pub(crate) fn set(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    if !arguments.len().is_multiple_of(2) {
        return Err(Refusal::arity(call.command.name));
    }
    let known = all(call.shard);
    let mut maxmemory_bytes = call.shard.settings.maxmemory_bytes;
    for at in (2..arguments.len()).step_by(2) {
        let name = String::from_utf8_lossy(&call.word(at)).into_owned();
        let value = &arguments[at + 1];
        let failed = |why: &str| {
            Err(Refusal::from(format!(
                "ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"
            )))
        };
        let Some((_, present)) = known.iter().find(|(known, _)| *known == name) else {
            return Err(format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'").into());
        };
        match &name[..] {
            "maxmemory" => match size(value) {
                Some(bytes) => maxmemory_bytes = bytes,
                None => return failed("argument must be a memory value"),
            },
            // What is so already may be set so: tools do.
            _ if present.as_bytes() == value => {}
            _ => return failed("can't set immutable config"),
        }
    }
    call.shard.settings.maxmemory_bytes = maxmemory_bytes;
    call.out.ok();
    Ok(())
}

pub(crate) fn resetstat(call: &mut Call<'_>) -> Reply {
    let old = &call.shard.stats;
    let kept =
        Stats { checkpoints: old.checkpoints, checkpoint_at_s: old.checkpoint_at_s, ..Stats::default() };
    call.shard.stats = kept;
    call.out.ok();
    Ok(())
}

pub(crate) fn rewrite(_: &mut Call<'_>) -> Reply {
    Err("ERR CONFIG REWRITE is refused: settings are kept in the configuration file of the node".into())
}
