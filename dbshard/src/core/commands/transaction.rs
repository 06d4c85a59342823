//! MULTI, EXEC, DISCARD, WATCH.
//!
//! A transaction runs at once and lies in one log entry. As in a Redis Cluster, all its keys must lie in one slot.

use crate::core::command::{self, Call, Command, Reply, flags, is_expired};
use crate::core::entry::Entry;
use crate::core::session::{Owned, Session, Transaction, Watch};
use crate::core::shard::{Refusal, Shard};
use wire::resp::request::Arguments;

/// The most keys that a connection may watch.
const WATCHED_MAX: usize = 100_000;

/// A command was refused: a transaction that it was for will be too.
pub(crate) fn spoil(session: &mut Session) {
    if let Some(transaction) = &mut session.transaction {
        transaction.broken = true;
    }
}

/// Keeps a command for EXEC.
pub(crate) fn queue(
    session: &mut Session,
    arguments: Arguments<'_>,
    bytes_max: usize,
) -> Result<(), Refusal> {
    let Some(transaction) = &mut session.transaction else { return Ok(()) };
    let request = Owned::new(arguments);
    if transaction.bytes + request.cost_bytes() > bytes_max {
        return Err(format!("ERR transaction is too large: the limit is {bytes_max} bytes").into());
    }
    transaction.bytes += request.cost_bytes();
    transaction.requests.push(request);
    Ok(())
}

pub(crate) fn multi(call: &mut Call<'_>) -> Reply {
    if call.session.transaction.is_some() {
        return Err("ERR MULTI calls can not be nested".into());
    }
    call.session.transaction = Some(Box::new(Transaction::default()));
    call.out.ok();
    Ok(())
}

pub(crate) fn discard(call: &mut Call<'_>) -> Reply {
    if call.session.transaction.take().is_none() {
        return Err("ERR DISCARD without MULTI".into());
    }
    call.session.watched = Vec::new();
    call.out.ok();
    Ok(())
}

pub(crate) fn exec(call: &mut Call<'_>) -> Reply {
    let Some(transaction) = call.session.transaction.take() else {
        return Err("ERR EXEC without MULTI".into());
    };
    let watched = std::mem::take(&mut call.session.watched);
    let commands: Vec<(&'static Command, Arguments<'_>)> = transaction
        .requests
        .iter()
        .map(|request| command::find(request.arguments()).map(|command| (command, request.arguments())))
        .collect::<Result<_, _>>()?;
    one_slot(call, &commands)?;
    if transaction.broken {
        return Err("EXECABORT Transaction discarded because of previous errors.".into());
    }
    let has = |flag| commands.iter().any(|(command, _)| command.has(flag));
    let aborted = |why: Refusal| {
        let mut text = b"EXECABORT Transaction discarded because of: ".to_vec();
        text.extend_from_slice(&why.0);
        Err(Refusal(text.into()))
    };
    if has(flags::DENY_OOM) && call.shard.is_full() {
        return aborted(Refusal::OUT_OF_MEMORY);
    }
    if has(flags::WRITE) && !call.shard.leads() {
        return aborted(Refusal::REPLICA);
    }
    if has(flags::WRITE) && call.shard.is_read_only() {
        return aborted(Refusal::READ_ONLY);
    }
    if watched.iter().any(|watch| changed(call, watch)) {
        call.rest_on_all();
        call.out.null_array();
        return Ok(());
    }
    call.out.array(commands.len());
    call.session.executing = true;
    // To its end, even where the replies overflow and nobody will be answered: all of it happens, or nothing.
    let done = run(call, commands);
    call.session.executing = false;
    done
}

fn run(call: &mut Call<'_>, commands: Vec<(&'static Command, Arguments<'_>)>) -> Reply {
    for (command, arguments) in commands {
        let mark = call.out.mark();
        let first_key = call.shard.place_keys(command, arguments, call.session.readonly)?;
        let mut gate = call.gate;
        let done =
            call.shard.call(command, call.session, call.out, arguments, first_key, call.now_ms, &mut gate);
        call.gate = gate;
        if let Err(refusal) = done {
            call.out.rewind(mark);
            call.out.error(&refusal.0);
            call.shard.stats.errors += 1;
        }
    }
    Ok(())
}

fn one_slot(call: &Call<'_>, commands: &[(&'static Command, Arguments<'_>)]) -> Result<(), Refusal> {
    let mut slot = None;
    for (command, arguments) in commands {
        if let Some(key) = call.shard.place_keys(command, *arguments, call.session.readonly)?
            && *slot.get_or_insert(key.slot) != key.slot
        {
            return Err(Refusal::CROSS_SLOT);
        }
    }
    Ok(())
}

fn changed(call: &Call<'_>, watch: &Watch) -> bool {
    call.shard.touched_at(watch.place) > watch.sequence
        || watch.expire_at_ms != 0 && watch.expire_at_ms <= call.now_ms
}

pub(crate) fn watch(call: &mut Call<'_>) -> Reply {
    if call.session.transaction.is_some() {
        return Err("ERR WATCH inside MULTI is not allowed".into());
    }
    if call.session.watched.len() + call.arguments.len() > WATCHED_MAX {
        return Err(format!("ERR too many watched keys: the limit is {WATCHED_MAX}").into());
    }
    let now_ms = call.now_ms;
    for bytes in call.arguments.from(1).iter() {
        let key = call.key(bytes);
        let expire_at_ms = call
            .shard
            .keyspace
            .get(&key)
            .filter(|entry| !is_expired(entry, now_ms))
            .map_or(0, Entry::expire_at_ms);
        let watch =
            Watch { place: Shard::place(&key), sequence: call.shard.overlay.sequence(), expire_at_ms };
        call.session.watched.push(watch);
    }
    call.out.ok();
    Ok(())
}

pub(crate) fn unwatch(call: &mut Call<'_>) -> Reply {
    call.session.watched = Vec::new();
    call.out.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::core::console::{Console, session};
    use crate::core::output::Output;
    use crate::core::shard::Settings;

    #[test]
    fn transactions() {
        let mut console = Console::new();
        console.script(
            "MULTI -> OK
             SET {t}a 1 -> QUEUED
             INCR {t}a -> QUEUED
             HGET {t}a f -> QUEUED
             GET {t}a -> QUEUED
             EXEC -> [OK (2) WRONGTYPE Operation against a key holding the wrong kind of value 2]
             EXEC -> ERR EXEC without MULTI
             DISCARD -> ERR DISCARD without MULTI
             MULTI -> OK
             MULTI -> ERR MULTI calls can not be nested
             EXEC -> []
             MULTI -> OK
             GET -> ERR wrong number of arguments for 'get' command
             SET {t}b 1 -> QUEUED
             EXEC -> EXECABORT Transaction discarded because of previous errors.
             EXISTS {t}b -> (0)
             MULTI -> OK
             SET {t}b 1 -> QUEUED
             DISCARD -> OK
             EXISTS {t}b -> (0)
             MULTI -> OK
             SET a 1 -> QUEUED
             SET b 1 -> QUEUED
             EXEC -> CROSSSLOT Keys in request don't hash to the same slot
             EXISTS a -> (0)
             GET a -> nil",
        );
        let log_before = console.log.len();
        console.execute(b"MULTI\r\nSET {t}x 1\r\nSET {t}y 2\r\nDEL {t}x\r\nEXEC\r\n");
        assert_eq!(console.answer(), "OK; QUEUED; QUEUED; QUEUED; [OK OK (1)]");
        assert_eq!(console.log.len(), log_before + 1);
    }

    #[test]
    fn watching() {
        let mut console = Console::new();
        console.script(
            "SET k 1 -> OK
             WATCH k -> OK
             MULTI -> OK
             WATCH k -> ERR WATCH inside MULTI is not allowed
             SET k 2 -> QUEUED
             EXEC -> [OK]
             WATCH k -> OK
             SET k 3 -> OK
             MULTI -> OK
             SET k 4 -> QUEUED
             EXEC -> nil
             GET k -> 3
             WATCH k -> OK
             UNWATCH -> OK
             SET k 5 -> OK
             MULTI -> OK
             GET k -> QUEUED
             EXEC -> [5]
             SET k 1 PX 100 -> OK
             WATCH k -> OK",
        );
        console.now_ms += 100;
        console.script("MULTI -> OK\nPING -> QUEUED\nEXEC -> nil\nWATCH k -> OK");
        let mut other = Output::new(1 << 20);
        let mut parser = wire::resp::request::Parser::new(wire::resp::request::Limits::default());
        parser.parse(b"FLUSHALL\r\n").expect("a request");
        console.shard.execute(&mut session(2), parser.arguments(b"FLUSHALL\r\n"), &mut other, console.now_ms);
        console.script("MULTI -> OK\nPING -> QUEUED\nEXEC -> nil");
    }

    #[test]
    fn a_transaction_is_bounded() {
        let mut console = Console::of(1, Settings { transaction_bytes_max: 1000, ..Settings::default() });
        console.ask("MULTI");
        while console.ask("SET key value") == "QUEUED" {}
        console.script("EXEC -> EXECABORT Transaction discarded because of previous errors.");
    }

    #[test]
    fn a_reply_too_long_to_send_does_not_cut_a_transaction_short() {
        let mut console = Console::new();
        console.out = Output::new(1000);
        let value = "v".repeat(600);
        console.script(&format!("SET {{t}}big {value} -> OK"));
        console.execute(b"MULTI\r\nSET {t}a 1\r\nGET {t}big\r\nGET {t}big\r\nSET {t}b 2\r\nEXEC\r\n");
        assert!(console.out.overflowed(), "nobody is answered");
        console.commit();
        console.out = Output::new(1 << 20);
        console.script("GET {t}a -> 1\nGET {t}b -> 2");
    }

    #[test]
    fn waiting_for_replicas_does_not_hold_a_transaction_up() {
        let mut console = Console::new();
        console.execute(b"MULTI\r\nSET k v\r\nWAIT 1 0\r\nGET k\r\nEXEC\r\n");
        assert_eq!(console.answer(), "OK; QUEUED; QUEUED; QUEUED; [OK (0) v]");
        assert_eq!(console.session.wait, None);
    }

    #[test]
    fn what_does_not_fit_one_entry_leaves_no_trace() {
        let mut console = Console::new();
        console.script("SET {t}a before -> OK\nSETRANGE {t}b 16777215 x -> (16777216)\nMULTI -> OK");
        console.script("SET {t}a after -> QUEUED\nSETRANGE {t}b 0 y -> QUEUED\nSETRANGE {t}b 1 y -> QUEUED");
        assert_eq!(
            console.ask("EXEC"),
            "ERR the writes of one command or transaction may not take more than 16 MiB"
        );
        console
            .script("GET {t}a -> before\nSTRLEN {t}b -> (16777216)\nSET {t}a later -> OK\nGET {t}a -> later");
    }
}
