//! The meta commands: `mg`, `ms`, `md`, `ma`, `me`.
//!
//! Answers carry what was asked for in the order it was asked; after it come the marks, in the parser's order:
//! `Z` (somebody was told to refill before), `X` (stale), `W` (you are to refill). These are the leases of "Scaling
//! Memcache at Facebook" (NSDI '13): one client refills a key, all others wait or take the stale value.

use wire::memcached::{Meta, MetaKey, answer, append_binary_key, append_decimal};

use super::cache::{Cache, Shard};
use super::change::{Condition, Counted, Outcome, Value, Write, count, write};
use super::clock::Now;
use super::store::{Head, Place};

fn line(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn number_token(out: &mut Vec<u8>, letter: u8, number: u64) {
    out.extend_from_slice(&[b' ', letter]);
    append_decimal(out, number);
}

fn ttl_token(out: &mut Vec<u8>, expiry_ms: u64, now: Now) {
    match now.seconds_until(expiry_ms) {
        Some(seconds) => number_token(out, b't', seconds),
        None => out.extend_from_slice(b" t-1"),
    }
}

fn key_token(out: &mut Vec<u8>, key: &[u8], binary: bool) {
    out.extend_from_slice(b" k");
    if binary {
        append_binary_key(out, key);
        out.extend_from_slice(b" b");
    } else {
        out.extend_from_slice(key);
    }
}

fn opaque_token(out: &mut Vec<u8>, token: &[u8]) {
    out.push(b' ');
    out.extend_from_slice(token);
}

/// The tokens that any answer can carry: opaque and key.
fn opaque_and_key(out: &mut Vec<u8>, meta: &Meta<'_>) {
    for token in meta.tokens() {
        match token[0] {
            b'O' => opaque_token(out, token),
            b'k' => key_token(out, meta.key.bytes(), meta.key.is_binary()),
            _ => {}
        }
    }
}

/// `mg`.
pub(crate) fn get(cache: &Cache, meta: &Meta<'_>, now: Now, out: &mut Vec<u8>) {
    let (mut guard, hash) = cache.shard_of(meta.key.bytes(), now);
    let shard = &mut *guard;
    shard.commands.meta += 1;
    let touches = meta.flags.ttl_t.is_some();
    if touches {
        shard.commands.touch += 1;
    } else {
        shard.commands.get += 1;
    }
    let found = shard.store.find(hash, meta.key.bytes(), now);
    let (place, created) = match found {
        Some(place) => (place, false),
        None => match vivify(shard, hash, meta, now) {
            Some(place) => (place, true),
            None => {
                let misses =
                    if touches { &mut shard.commands.touch_misses } else { &mut shard.commands.get_misses };
                *misses += 1;
                if !meta.flags.quiet_q {
                    out.extend_from_slice(b"EN");
                    opaque_and_key(out, meta);
                    out.extend_from_slice(b"\r\n");
                }
                return;
            }
        },
    };
    let hits = if touches { &mut shard.commands.touch_hits } else { &mut shard.commands.get_hits };
    *hits += 1;
    let head = get_head(shard, place, created, meta, now, out);
    if meta.flags.value_v {
        out.extend_from_slice(shard.store.value(place));
        out.extend_from_slice(b"\r\n");
    }
    if meta.flags.no_update_u {
        shard.store.set_head(place, &head);
    } else {
        shard.store.bump(place, head, now);
    }
}

/// An empty item in place of one that is missing, if the client asked for that.
fn vivify(shard: &mut Shard, hash: u64, meta: &Meta<'_>, now: Now) -> Option<Place> {
    meta.flags.vivify_n?;
    let cas = meta.flags.new_cas_e.unwrap_or_else(|| shard.store.new_cas());
    let mut head = Head::new(0, 0, cas);
    head.binary_key = meta.key.is_binary();
    shard.store.insert(hash, meta.key.bytes(), &[], head, now).ok()
}

/// The head line of an `mg` answer. Gives the item's head as the command leaves it.
fn get_head(
    shard: &Shard,
    place: Place,
    created: bool,
    meta: &Meta<'_>,
    now: Now,
    out: &mut Vec<u8>,
) -> Head {
    let mut head = shard.store.head(place);
    let value_bytes = shard.store.value(place).len() as u64;
    let mut won = false;
    if meta.flags.value_v {
        out.extend_from_slice(b"VA ");
        append_decimal(out, value_bytes);
    } else {
        out.extend_from_slice(b"HD");
    }
    for token in meta.tokens() {
        match token[0] {
            b'T' => head.expiry_ms = now.expiry_ms(meta.flags.ttl_t.unwrap_or_default()),
            b'N' if created => {
                head.expiry_ms = now.expiry_ms(meta.flags.vivify_n.unwrap_or_default());
                won = true;
            }
            b'R' if !created && !head.token_sent => {
                // In whole seconds, as memcached's clock: an item set with T30 is not yet under R30.
                let under = now.expiry_ms(meta.flags.recache_r.unwrap_or_default());
                let left = now.seconds_until(head.expiry_ms);
                won |= left.is_some_and(|left| left < now.seconds_until(under).unwrap_or(0));
            }
            b's' => number_token(out, b's', value_bytes),
            b't' => ttl_token(out, head.expiry_ms, now),
            b'c' => number_token(out, b'c', head.cas),
            b'f' => number_token(out, b'f', u64::from(head.client_flags)),
            b'l' => number_token(out, b'l', u64::from(now.seconds().saturating_sub(head.last_access_s))),
            b'h' => number_token(out, b'h', u64::from(head.fetched)),
            b'O' => opaque_token(out, token),
            b'k' => key_token(out, meta.key.bytes(), head.binary_key),
            _ => {}
        }
    }
    if head.token_sent {
        out.extend_from_slice(b" Z");
    }
    if head.stale {
        out.extend_from_slice(b" X");
        won |= !head.token_sent;
    }
    if won {
        out.extend_from_slice(b" W");
        head.token_sent = true;
    }
    out.extend_from_slice(b"\r\n");
    head
}

/// `ms` with its value.
pub(crate) fn set(cache: &Cache, meta: &Meta<'_>, value: Value<'_>, now: Now, out: &mut Vec<u8>) {
    let flags = &meta.flags;
    let vivify = flags.vivify_n.is_some();
    let condition = match flags.mode_m {
        Some(b'E') => Condition::Add,
        Some(b'A') => Condition::Extend { before: false, vivify },
        Some(b'P') => Condition::Extend { before: true, vivify },
        Some(b'R') if flags.compare_cas_c.is_none() => Condition::Replace,
        _ if flags.compare_cas_c.is_some() => Condition::Cas,
        _ => Condition::Set,
    };
    let exptime = match condition {
        Condition::Extend { vivify: true, .. } => flags.vivify_n,
        _ => flags.ttl_t,
    };
    let value_bytes = value.bytes(meta.key.bytes().len()).len();
    let (mut shard, hash) = cache.shard_of(meta.key.bytes(), now);
    shard.commands.meta += 1;
    let outcome = write(
        &mut shard,
        hash,
        Write {
            key: meta.key.bytes(),
            value,
            condition,
            client_flags: flags.client_flags_f,
            expiry_ms: now.expiry_ms(exptime.unwrap_or(0)),
            compare: flags.compare_cas_c.unwrap_or(0),
            allow_stale: flags.invalidate_i && condition == Condition::Cas,
            new_cas: flags.new_cas_e,
            binary_key: meta.key.is_binary(),
        },
        now,
    );
    let (code, cas, bytes) = match outcome {
        Outcome::Stored { .. } if flags.quiet_q => return,
        Outcome::Stored { cas, bytes } => ("HD", cas, bytes),
        Outcome::NotStored => ("NS", 0, value_bytes),
        Outcome::Exists => ("EX", 0, value_bytes),
        Outcome::NotFound => ("NF", 0, value_bytes),
        Outcome::NoMemory => return line(out, answer::NO_MEMORY),
    };
    out.extend_from_slice(code.as_bytes());
    for token in meta.tokens() {
        match token[0] {
            b'O' => opaque_token(out, token),
            b'k' => key_token(out, meta.key.bytes(), meta.key.is_binary()),
            b'c' => number_token(out, b'c', cas),
            b's' => number_token(out, b's', bytes as u64),
            _ => {}
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// `md`.
pub(crate) fn delete(cache: &Cache, meta: &Meta<'_>, now: Now, out: &mut Vec<u8>) {
    let (mut shard, hash) = cache.shard_of(meta.key.bytes(), now);
    let code = match delete_or_mark(&mut shard, hash, meta, now) {
        Err(text) => return line(out, text),
        Ok("HD") if meta.flags.quiet_q => return,
        Ok(code) => code,
    };
    out.extend_from_slice(code.as_bytes());
    opaque_and_key(out, meta);
    out.extend_from_slice(b"\r\n");
}

fn delete_or_mark(
    shard: &mut Shard,
    hash: u64,
    meta: &Meta<'_>,
    now: Now,
) -> Result<&'static str, &'static str> {
    shard.commands.meta += 1;
    let flags = &meta.flags;
    let Some(mut place) = shard.store.find(hash, meta.key.bytes(), now) else {
        shard.commands.delete_misses += 1;
        return Ok("NF");
    };
    let mut head = shard.store.head(place);
    if flags.compare_cas_c.is_some_and(|cas| cas != head.cas) {
        shard.commands.delete_misses += 1;
        return Ok("EX");
    }
    if flags.remove_value_x {
        let expiry_ms = now.expiry_ms(flags.ttl_t.unwrap_or(0));
        let mut empty = Head::new(flags.client_flags_f, expiry_ms, flags.new_cas_e.unwrap_or(head.cas));
        empty.binary_key = head.binary_key;
        let stored = shard.store.insert(hash, meta.key.bytes(), &[], empty, now);
        place = stored.map_err(|_| answer::NO_MEMORY_FOR_NUMBER)?;
        head = shard.store.head(place);
    }
    if flags.invalidate_i {
        if let Some(exptime) = flags.ttl_t {
            head.expiry_ms = now.expiry_ms(exptime);
        }
        head.stale = true;
        head.token_sent = false;
        head.cas = flags.new_cas_e.unwrap_or_else(|| shard.store.new_cas());
        shard.store.set_head(place, &head);
        return Ok("HD");
    }
    shard.commands.delete_hits += 1;
    if !flags.remove_value_x {
        shard.store.remove(hash, place);
    }
    Ok("HD")
}

/// `ma`.
pub(crate) fn arithmetic(cache: &Cache, meta: &Meta<'_>, now: Now, out: &mut Vec<u8>) {
    let flags = &meta.flags;
    let increment = match flags.mode_m {
        None | Some(b'I' | b'+') => true,
        Some(b'D' | b'-') => false,
        Some(_) => return line(out, answer::BAD_ARITHMETIC_MODE),
    };
    let (mut guard, hash) = cache.shard_of(meta.key.bytes(), now);
    let shard = &mut *guard;
    shard.commands.meta += 1;
    let delta = flags.delta_d.unwrap_or(1);
    let cas = (flags.compare_cas_c.unwrap_or(0), flags.new_cas_e);
    let counted = count(shard, hash, meta.key.bytes(), (increment, delta), cas, now);
    let (number, place, created) = match counted {
        Counted::Number(_, _) if flags.quiet_q => return keep_ttl(shard, counted, meta, now),
        Counted::Number(number, place) => (number, place, false),
        Counted::NonNumeric => return line(out, answer::NON_NUMERIC),
        Counted::NoMemory => return line(out, answer::NO_MEMORY_FOR_NUMBER),
        Counted::NotFound if flags.vivify_n.is_some() => {
            let mut digits = Vec::with_capacity(20);
            append_decimal(&mut digits, flags.initial_j);
            let new_cas = flags.new_cas_e.unwrap_or_else(|| shard.store.new_cas());
            let mut head = Head::new(0, 0, new_cas);
            head.binary_key = meta.key.is_binary();
            match shard.store.insert(hash, meta.key.bytes(), &digits, head, now) {
                Ok(place) => (flags.initial_j, place, true),
                Err(_) => return line(out, "SERVER_ERROR Out of memory allocating new item"),
            }
        }
        Counted::NotFound | Counted::Exists => {
            out.extend_from_slice(if counted == Counted::Exists { b"EX" } else { b"NF" });
            opaque_and_key(out, meta);
            out.extend_from_slice(b"\r\n");
            return;
        }
    };
    let mut head = shard.store.head(place);
    let mut digits = Vec::with_capacity(20);
    append_decimal(&mut digits, number);
    if flags.value_v {
        out.extend_from_slice(b"VA ");
        append_decimal(out, digits.len() as u64);
    } else {
        out.extend_from_slice(b"HD");
    }
    for token in meta.tokens() {
        match token[0] {
            b'c' => number_token(out, b'c', head.cas),
            b't' => ttl_token(out, head.expiry_ms, now),
            b'T' => head.expiry_ms = now.expiry_ms(flags.ttl_t.unwrap_or_default()),
            b'N' if created => head.expiry_ms = now.expiry_ms(flags.vivify_n.unwrap_or_default()),
            b'O' => opaque_token(out, token),
            b'k' => key_token(out, meta.key.bytes(), meta.key.is_binary()),
            _ => {}
        }
    }
    shard.store.set_head(place, &head);
    out.extend_from_slice(b"\r\n");
    if flags.value_v {
        out.extend_from_slice(&digits);
        out.extend_from_slice(b"\r\n");
    }
}

/// A quiet `ma` still sets the expiry it was given.
fn keep_ttl(shard: &mut Shard, counted: Counted, meta: &Meta<'_>, now: Now) {
    if let (Counted::Number(_, place), Some(exptime)) = (counted, meta.flags.ttl_t) {
        let mut head = shard.store.head(place);
        head.expiry_ms = now.expiry_ms(exptime);
        shard.store.set_head(place, &head);
    }
}

/// `me`.
pub(crate) fn debug(cache: &Cache, key: &MetaKey<'_>, now: Now, out: &mut Vec<u8>) {
    let (mut shard, hash) = cache.shard_of(key.bytes(), now);
    shard.commands.meta += 1;
    let Some(place) = shard.store.find(hash, key.bytes(), now) else {
        return line(out, "EN");
    };
    let head = shard.store.head(place);
    let value_bytes = shard.store.value(place).len();
    out.extend_from_slice(b"ME ");
    match head.binary_key {
        true => append_binary_key(out, key.bytes()),
        false => out.extend_from_slice(key.bytes()),
    }
    let text = format!(
        " exp={} la={} cas={} fetch={} cls=1 size={}",
        now.seconds_until(head.expiry_ms).map_or_else(|| "-1".to_owned(), |seconds| seconds.to_string()),
        now.seconds().saturating_sub(head.last_access_s),
        head.cas,
        if head.fetched { "yes" } else { "no" },
        super::store::HEAD_BYTES + key.bytes().len() + value_bytes,
    );
    line(out, &text);
}
