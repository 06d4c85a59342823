//! EXPIRE, TTL and their kin, and the times that SET and GETEX take.

use crate::core::command::{Call, Reply};
use crate::core::effect;
use crate::core::entry::Entry;
use crate::core::shard::Refusal;
use wire::resp::number;

/// How a time is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds from now, `EX`.
    Seconds,
    /// Milliseconds from now, `PX`.
    Milliseconds,
    /// Unix seconds, `EXAT`.
    UnixSeconds,
    /// Unix milliseconds, `PXAT`.
    UnixMilliseconds,
}

impl Unit {
    /// The unit of an option of SET, in lower case.
    #[must_use]
    pub fn of(option: &[u8]) -> Option<Self> {
        Some(match option {
            b"ex" => Self::Seconds,
            b"px" => Self::Milliseconds,
            b"exat" => Self::UnixSeconds,
            b"pxat" => Self::UnixMilliseconds,
            _ => return None,
        })
    }

    /// The time in Unix milliseconds; `None` if it does not fit 64 bits.
    fn absolute_ms(self, time: i64, now_ms: u64) -> Option<i64> {
        let milliseconds = match self {
            Self::Seconds | Self::UnixSeconds => time.checked_mul(1000)?,
            Self::Milliseconds | Self::UnixMilliseconds => time,
        };
        match self {
            Self::Seconds | Self::Milliseconds => milliseconds.checked_add(now_ms as i64),
            Self::UnixSeconds | Self::UnixMilliseconds => Some(milliseconds),
        }
    }
}

fn invalid(call: &Call<'_>) -> Refusal {
    Refusal::from(format!("ERR invalid expire time in '{}' command", call.command.name))
}

/// The time that SET, SETEX or GETEX is given: Unix milliseconds, never 0.
pub(crate) fn set_time(call: &Call<'_>, unit: Unit, text: &[u8]) -> Result<u64, Refusal> {
    let time = number::integer(text).ok_or(Refusal::NOT_AN_INTEGER)?;
    if time <= 0 {
        return Err(invalid(call));
    }
    unit.absolute_ms(time, call.now_ms).and_then(|at| u64::try_from(at).ok()).ok_or_else(|| invalid(call))
}

fn set(call: &mut Call<'_>, unit: Unit) -> Reply {
    let arguments = call.arguments;
    let key = &arguments[1];
    let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
    for at in 3..arguments.len() {
        match &call.word(at)[..] {
            b"nx" => nx = true,
            b"xx" => xx = true,
            b"gt" => gt = true,
            b"lt" => lt = true,
            _ => {
                let option = String::from_utf8_lossy(&arguments[at]).into_owned();
                return Err(format!("ERR Unsupported option {option}").into());
            }
        }
    }
    if nx && (xx || gt || lt) {
        return Err("ERR NX and XX, GT or LT options at the same time are not compatible".into());
    }
    if gt && lt {
        return Err("ERR GT and LT options at the same time are not compatible".into());
    }
    let time = number::integer(&arguments[2]).ok_or(Refusal::NOT_AN_INTEGER)?;
    let at = unit.absolute_ms(time, call.now_ms).ok_or_else(|| invalid(call))?;
    let Some(old) = call.entry(key).map(Entry::expire_at_ms) else {
        call.out.integer(0);
        return Ok(());
    };
    let old = (old != 0).then_some(old as i64);
    let skip = nx && old.is_some()
        || xx && old.is_none()
        || gt && old.is_none_or(|old| at <= old)
        || lt && old.is_some_and(|old| at >= old);
    if !skip {
        match u64::try_from(at) {
            Ok(at) if at > call.now_ms => call.change(key, |out| effect::put_expire(out, key, at)),
            _ => call.change(key, |out| effect::put_delete(out, key)),
        }
    }
    call.out.integer(i64::from(!skip));
    Ok(())
}

pub(crate) fn expire(call: &mut Call<'_>) -> Reply {
    set(call, Unit::Seconds)
}

pub(crate) fn pexpire(call: &mut Call<'_>) -> Reply {
    set(call, Unit::Milliseconds)
}

pub(crate) fn expireat(call: &mut Call<'_>) -> Reply {
    set(call, Unit::UnixSeconds)
}

pub(crate) fn pexpireat(call: &mut Call<'_>) -> Reply {
    set(call, Unit::UnixMilliseconds)
}

/// -2 for no key, -1 for no expiry, else what `show` makes of the expiry.
fn tell(call: &mut Call<'_>, show: impl FnOnce(u64, u64) -> u64) -> Reply {
    let arguments = call.arguments;
    let now_ms = call.now_ms;
    let told = match call.entry(&arguments[1]).map(Entry::expire_at_ms) {
        None => -2,
        Some(0) => -1,
        Some(at) => show(at, now_ms) as i64,
    };
    call.out.integer(told);
    Ok(())
}

pub(crate) fn ttl(call: &mut Call<'_>) -> Reply {
    tell(call, |at, now| (at - now).saturating_add(500) / 1000)
}

pub(crate) fn pttl(call: &mut Call<'_>) -> Reply {
    tell(call, |at, now| at - now)
}

pub(crate) fn expiretime(call: &mut Call<'_>) -> Reply {
    tell(call, |at, _| at.saturating_add(500) / 1000)
}

pub(crate) fn pexpiretime(call: &mut Call<'_>) -> Reply {
    tell(call, |at, _| at)
}

pub(crate) fn persist(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    let key = &arguments[1];
    let expires = call.expire_at_ms(key) != 0;
    if expires {
        call.change(key, |out| effect::put_expire(out, key, 0));
    }
    call.out.integer(i64::from(expires));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::core::console::Console;

    #[test]
    fn setting_and_telling() {
        let mut console = Console::new();
        console.script(
            "SET k v -> OK
             TTL k -> (-1)
             TTL none -> (-2)
             EXPIRETIME none -> (-2)
             EXPIRE k 100 -> (1)
             EXPIRE none 100 -> (0)
             TTL k -> (100)
             PTTL k -> (100000)
             EXPIRETIME k -> (1600000100)
             PEXPIRETIME k -> (1600000100000)
             EXPIRE k 200 NX -> (0)
             EXPIRE k 200 XX -> (1)
             EXPIRE k 100 GT -> (0)
             EXPIRE k 300 GT -> (1)
             EXPIRE k 400 LT -> (0)
             EXPIRE k 100 LT -> (1)
             PERSIST k -> (1)
             PERSIST k -> (0)
             EXPIRE k 100 GT -> (0)
             EXPIRE k 100 XX -> (0)
             EXPIRE k 100 LT -> (1)
             PEXPIRE k 1500 -> (1)
             TTL k -> (2)
             EXPIREAT k 1600000050 -> (1)
             TTL k -> (50)
             PEXPIREAT k 1600000050500 -> (1)
             PTTL k -> (50500)
             EXPIRE k a -> ERR value is not an integer or out of range
             EXPIRE k 9223372036854775807 -> ERR invalid expire time in 'expire' command
             EXPIRE k 1 FOO -> ERR Unsupported option FOO
             EXPIRE k 1 NX GT -> ERR NX and XX, GT or LT options at the same time are not compatible
             EXPIRE k 1 GT LT -> ERR GT and LT options at the same time are not compatible
             EXPIRE k -> ERR wrong number of arguments for 'expire' command
             EXPIRE k -1 -> (1)
             EXISTS k -> (0)",
        );
    }

    #[test]
    fn an_expired_key_is_gone_to_every_command() {
        let mut console = Console::new();
        console.script("SET k 5 PX 100 -> OK");
        console.now_ms += 99;
        console.script("GET k -> 5");
        console.now_ms += 1;
        console.script(
            "GET k -> nil
             EXISTS k -> (0)
             TTL k -> (-2)
             TYPE k -> none
             DBSIZE -> (1)
             KEYS * -> []
             EXPIRE k 10 -> (0)
             INCR k -> (1)
             TTL k -> (-1)
             SET k v PX 1 -> OK",
        );
        console.now_ms += 1;
        console.script("DEL k -> (0)\nDBSIZE -> (0)\nSET k v PX 1 -> OK");
        console.now_ms += 1;
        assert!(!console.shard.reap(console.now_ms, 1000, 100));
        console.script("DBSIZE -> (0)");
    }

    #[test]
    fn replay_looks_at_no_clock() {
        let mut console = Console::new();
        console.script("SET k a PX 100 -> OK\nAPPEND k b -> (2)\nSET gone x PX 50 -> OK");
        console.now_ms += 60;
        console.script("SET gone y KEEPTTL -> OK\nTTL gone -> (-1)");
        let log = std::mem::take(&mut console.log);
        let mut later = Console::new();
        later.now_ms += 1_000_000;
        for (index, entry) in log.iter().enumerate() {
            later.shard.commit(index as u64 + 1, entry, |_, _| false).expect("readable");
        }
        later.now_ms -= 999_920;
        later.script("GET k -> ab\nGET gone -> y\nPTTL k -> (20)");
        later.now_ms += 20;
        later.script("GET k -> nil");
    }
}
