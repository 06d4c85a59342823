//! The command table, and what a command sees while it runs.
//!
//! The table drives everything that is the same for all commands: the check of the number of arguments, which arguments are
//! keys, what `COMMAND` tells. A command itself is a function of a [`Call`].

use std::sync::LazyLock;

use wire::resp::request::Arguments;

use super::commands::{
    clients, cluster, configuration, connection, expiry, info, introspection, keys, scan, transaction,
};
use super::effect;
use super::entry::{Entry, Value};
use super::key::{Key, KeyHash};
use super::output::Output;
use super::session::Session;
use super::shard::{Refusal, Shard};
use super::types::{counter, hash, string};

/// What a command is.
pub mod flags {
    /// May change keys.
    pub const WRITE: u32 = 1;
    /// Only reads keys.
    pub const READONLY: u32 = 1 << 1;
    /// Refused when memory is short.
    pub const DENY_OOM: u32 = 1 << 2;
    /// For operators.
    pub const ADMIN: u32 = 1 << 3;
    /// Not for scripts.
    pub const NO_SCRIPT: u32 = 1 << 4;
    /// Allowed while data is loaded.
    pub const LOADING: u32 = 1 << 5;
    /// Allowed on a replica that has lost its master.
    pub const STALE: u32 = 1 << 6;
    /// Constant or logarithmic time.
    pub const FAST: u32 = 1 << 7;
    /// Allowed before AUTH.
    pub const NO_AUTH: u32 = 1 << 8;
    /// Allowed while a script runs too long.
    pub const ALLOW_BUSY: u32 = 1 << 9;
    /// Runs at once within MULTI. Not told by COMMAND.
    pub const IN_MULTI_AT_ONCE: u32 = 1 << 10;
    /// The flags that COMMAND tells, with their names, in its order.
    pub const NAMES: [(u32, &str); 10] = [
        (WRITE, "write"),
        (READONLY, "readonly"),
        (DENY_OOM, "denyoom"),
        (ADMIN, "admin"),
        (NO_SCRIPT, "noscript"),
        (LOADING, "loading"),
        (STALE, "stale"),
        (FAST, "fast"),
        (NO_AUTH, "no_auth"),
        (ALLOW_BUSY, "allow_busy"),
    ];
}

use flags::{
    ADMIN, ALLOW_BUSY, DENY_OOM, FAST, IN_MULTI_AT_ONCE, LOADING, NO_AUTH, NO_SCRIPT, READONLY, STALE, WRITE,
};

/// What a command gives: it has written its reply, or is refused.
pub type Reply = Result<(), Refusal>;

/// One command, or one subcommand (`client|id`).
#[derive(Debug)]
pub struct Command {
    /// In lower case.
    pub name: &'static str,
    /// The number of arguments, the name included; negative: at least so many.
    pub arity: i32,
    /// See [`flags`].
    pub flags: u32,
    /// First key, last key (negative: from the end), step; zeros for none.
    pub positions: (i32, i32, i32),
    /// What `COMMAND DOCS` calls the group.
    pub group: &'static str,
    /// The version of Redis that brought it.
    pub since: &'static str,
    /// What it costs.
    pub complexity: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// Does it.
    pub run: fn(&mut Call<'_>) -> Reply,
    /// Its subcommands.
    pub subcommands: Vec<Command>,
    /// Its place in the table; a subcommand has its parent's.
    pub number: usize,
}

impl Command {
    /// Whether so many arguments are right.
    #[must_use]
    pub fn takes(&self, count: usize) -> bool {
        let wanted = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { count >= wanted } else { count == wanted }
    }

    /// Whether it has a flag.
    #[must_use]
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Which arguments are keys, in so far as they are there.
    pub fn keys(&self, arguments: Arguments<'_>) -> std::iter::StepBy<std::ops::Range<usize>> {
        let (first, last, step) = self.positions;
        if first == 0 {
            return (0..0).step_by(1);
        }
        let end = if last < 0 { arguments.len() as i32 + last + 1 } else { last + 1 };
        (first as usize..end.max(first) as usize).step_by(step as usize)
    }
}

/// What a command sees: the shard, its connection, its arguments, where to write its reply, and the time.
pub struct Call<'a> {
    pub(crate) shard: &'a mut Shard,
    pub(crate) session: &'a mut Session,
    pub(crate) out: &'a mut Output,
    pub(crate) arguments: Arguments<'a>,
    pub(crate) command: &'static Command,
    /// Unix milliseconds.
    pub(crate) now_ms: u64,
    first_key: Option<Key<'a>>,
    /// The last write that the reply rests on.
    pub(crate) gate: u64,
    /// The sequence number of what this command changed.
    sequence: Option<u64>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        shard: &'a mut Shard,
        session: &'a mut Session,
        out: &'a mut Output,
        arguments: Arguments<'a>,
        command: &'static Command,
        first_key: Option<Key<'a>>,
        now_ms: u64,
    ) -> Self {
        Self { shard, session, out, arguments, command, now_ms, first_key, gate: 0, sequence: None }
    }

    pub(crate) fn hasher(&self) -> KeyHash {
        self.shard.keyspace.hasher()
    }

    /// The place of a key.
    pub(crate) fn key<'k>(&self, bytes: &'k [u8]) -> Key<'k> {
        match self.first_key {
            Some(first) if std::ptr::eq(first.bytes, bytes) => Key { bytes, ..first },
            _ => Key::new(bytes, self.hasher()),
        }
    }

    /// The reply rests on all writes so far.
    pub(crate) fn rest_on_all(&mut self) {
        self.gate = self.shard.overlay.sequence();
    }

    fn rest_on(&mut self, key: &Key<'_>) {
        self.gate = self.gate.max(self.shard.touched(key));
    }

    /// The entry of a key that has not expired.
    pub(crate) fn entry(&mut self, bytes: &[u8]) -> Option<&Entry> {
        let key = self.key(bytes);
        self.rest_on(&key);
        let now_ms = self.now_ms;
        self.shard.keyspace.get(&key).filter(|entry| !is_expired(entry, now_ms))
    }

    /// What a key holds.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Option<Value<'_>> {
        self.entry(bytes).map(Entry::value)
    }

    /// What a key holds, with the output to write it to; counts a hit or a miss.
    pub(crate) fn read_into(&mut self, bytes: &[u8]) -> (Option<Value<'_>>, &mut Output) {
        let key = self.key(bytes);
        self.rest_on(&key);
        let now_ms = self.now_ms;
        let entry = self.shard.keyspace.get(&key).filter(|entry| !is_expired(entry, now_ms));
        match entry {
            Some(_) => self.shard.stats.hits += 1,
            None => self.shard.stats.misses += 1,
        }
        (entry.map(Entry::value), self.out)
    }

    /// Logs and applies effects on one key.
    pub(crate) fn change(&mut self, bytes: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        let key = self.key(bytes);
        let sequence = *self.sequence.get_or_insert_with(|| self.shard.overlay.begin());
        self.gate = sequence;
        self.shard.touch(&key, sequence);
        let Shard { overlay, keyspace, .. } = &mut *self.shard;
        overlay.change(keyspace, Some(&key), write);
    }

    /// Deletes a key that has expired but still lies there, before something is added to it.
    pub(crate) fn clear_expired(&mut self, bytes: &[u8]) {
        let key = self.key(bytes);
        let now_ms = self.now_ms;
        if self.shard.keyspace.get(&key).is_some_and(|entry| is_expired(entry, now_ms)) {
            self.change(bytes, |out| effect::put_delete(out, bytes));
        }
    }

    /// An argument in lower case, for comparisons; empty if it is not there.
    pub(crate) fn word(&self, at: usize) -> Vec<u8> {
        self.arguments.get(at).unwrap_or_default().to_ascii_lowercase()
    }
}

/// Whether an entry has expired.
pub(crate) fn is_expired(entry: &Entry, now_ms: u64) -> bool {
    let at = entry.expire_at_ms();
    at != 0 && at <= now_ms
}

/// All commands.
#[derive(Debug)]
pub struct Table {
    commands: Vec<Command>,
    /// Numbers of commands by the hash of their names, in pairs of (name's hash, number).
    index: Vec<Option<u16>>,
}

const INDEX_PLACES: usize = 1024;
const NAME_BYTES_MAX: usize = 20;

fn name_place(lower: &[u8]) -> usize {
    let hash = lower.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash >> 20) as usize % INDEX_PLACES
}

impl Table {
    fn new(mut commands: Vec<Command>) -> Self {
        let mut index = vec![None; INDEX_PLACES];
        for (number, command) in commands.iter_mut().enumerate() {
            command.number = number;
            command.subcommands.iter_mut().for_each(|subcommand| subcommand.number = number);
            let mut place = name_place(command.name.as_bytes());
            while index[place].is_some() {
                place = (place + 1) % INDEX_PLACES;
            }
            index[place] = Some(number as u16);
        }
        Self { commands, index }
    }

    /// All, in the table's order.
    #[must_use]
    pub fn all(&self) -> &[Command] {
        &self.commands
    }

    /// A command by its name in any case.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&Command> {
        let mut lower = [0; NAME_BYTES_MAX];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        let mut place = name_place(lower);
        while let Some(number) = self.index[place] {
            let command = &self.commands[usize::from(number)];
            if command.name.as_bytes() == lower {
                return Some(command);
            }
            place = (place + 1) % INDEX_PLACES;
        }
        None
    }
}

/// The command, or subcommand, that arguments name.
///
/// # Errors
/// There is none.
pub(crate) fn find(arguments: Arguments<'_>) -> Result<&'static Command, Refusal> {
    let name = &arguments[0];
    let Some(command) = TABLE.get(name) else { return Err(unknown(arguments)) };
    if command.subcommands.is_empty() {
        return Ok(command);
    }
    // A container alone: COMMAND is a command of its own; the others want a subcommand.
    let Some(wanted) = arguments.get(1) else { return Ok(command) };
    let found = command
        .subcommands
        .iter()
        .find(|subcommand| subcommand.name.as_bytes()[command.name.len() + 1..].eq_ignore_ascii_case(wanted));
    found.ok_or_else(|| {
        let mut text = b"ERR unknown subcommand '".to_vec();
        text.extend_from_slice(&wanted[..wanted.len().min(128)]);
        text.extend_from_slice(format!("'. Try {} HELP.", command.name.to_ascii_uppercase()).as_bytes());
        Refusal(text.into())
    })
}

fn unknown(arguments: Arguments<'_>) -> Refusal {
    let name = &arguments[0];
    let mut shown = Vec::new();
    for argument in arguments.from(1).iter() {
        if shown.len() >= 128 {
            break;
        }
        shown.push(b'\'');
        shown.extend_from_slice(&argument[..argument.len().min(128 - shown.len())]);
        shown.extend_from_slice(b"' ");
    }
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(&name[..name.len().min(128)]);
    text.extend_from_slice(b"', with args beginning with: ");
    text.extend_from_slice(&shown);
    Refusal(text.into())
}

type Run = fn(&mut Call<'_>) -> Reply;

/// name, arity, flags, (first, last, step), since, complexity, summary, function.
type Row = (&'static str, i32, u32, (i32, i32, i32), &'static str, &'static str, &'static str, Run);

fn group(group: &'static str, rows: Vec<Row>) -> impl Iterator<Item = Command> {
    rows.into_iter().map(move |(name, arity, flags, positions, since, complexity, summary, run)| Command {
        name,
        arity,
        flags,
        positions,
        group,
        since,
        complexity,
        summary,
        run,
        subcommands: Vec::new(),
        number: 0,
    })
}

/// Puts subcommands (`client|id`) under their containers.
fn nest(rows: impl Iterator<Item = Command>) -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    for row in rows {
        match row.name.split_once('|') {
            None => commands.push(row),
            Some((container, _)) => commands
                .iter_mut()
                .find(|command| command.name == container)
                .expect("a container stands before its subcommands")
                .subcommands
                .push(row),
        }
    }
    commands
}

const NONE: (i32, i32, i32) = (0, 0, 0);
const ONE: (i32, i32, i32) = (1, 1, 1);
const ALL: (i32, i32, i32) = (1, -1, 1);
const PAIRS: (i32, i32, i32) = (1, -1, 2);

/// The table.
pub static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::new(nest(
        group("string", strings())
            .chain(group("hash", hashes()))
            .chain(group("generic", generic()))
            .chain(group("server", server()))
            .chain(group("connection", connections()))
            .chain(group("cluster", clusters()))
            .chain(group("transactions", transactions())),
    ))
});

#[rustfmt::skip]
fn strings() -> Vec<Row> {
    const R: u32 = READONLY | FAST;
    const W: u32 = WRITE | DENY_OOM;
    const WF: u32 = WRITE | DENY_OOM | FAST;
    vec![
        ("get", 2, R, ONE, "1.0.0", "O(1)", "Gives the string under a key.", string::get),
        ("set", -3, W, ONE, "1.0.0", "O(1)", "Sets a key to a string, whatever it held.", string::set),
        ("setnx", 3, WF, ONE, "1.0.0", "O(1)", "Sets a key to a string unless it exists.", string::setnx),
        ("setex", 4, W, ONE, "2.0.0", "O(1)", "Sets a key to a string that expires in seconds.", string::setex),
        ("psetex", 4, W, ONE, "2.6.0", "O(1)", "Sets a key to a string that expires in milliseconds.", string::psetex),
        ("getset", 3, WF, ONE, "1.0.0", "O(1)", "Sets a key to a string and gives the one before.", string::getset),
        ("getdel", 2, WRITE | FAST, ONE, "6.2.0", "O(1)", "Gives the string under a key and deletes it.", string::getdel),
        ("getex", -2, WRITE | FAST, ONE, "6.2.0", "O(1)", "Gives the string under a key and sets its expiry.", string::getex),
        ("append", 3, WF, ONE, "2.0.0", "O(1)", "Appends to the string under a key.", string::append),
        ("strlen", 2, R, ONE, "2.2.0", "O(1)", "Gives the length of the string under a key.", string::strlen),
        ("getrange", 4, READONLY, ONE, "2.4.0", "O(N) in what is given", "Gives a part of the string under a key.", string::getrange),
        ("substr", 4, READONLY, ONE, "1.0.0", "O(N) in what is given", "Gives a part of the string under a key.", string::getrange),
        ("setrange", 4, W, ONE, "2.2.0", "O(N) in the string", "Overwrites a part of the string under a key.", string::setrange),
        ("mget", -2, R, ALL, "1.0.0", "O(N)", "Gives the strings under keys.", string::mget),
        ("mset", -3, W, PAIRS, "1.0.1", "O(N)", "Sets keys to strings.", string::mset),
        ("msetnx", -3, W, PAIRS, "1.0.1", "O(N)", "Sets keys to strings unless one exists.", string::msetnx),
        ("incr", 2, WF, ONE, "1.0.0", "O(1)", "Adds one to an integer.", counter::incr),
        ("incrby", 3, WF, ONE, "1.0.0", "O(1)", "Adds to an integer.", counter::incrby),
        ("decr", 2, WF, ONE, "1.0.0", "O(1)", "Takes one from an integer.", counter::decr),
        ("decrby", 3, WF, ONE, "1.0.0", "O(1)", "Takes from an integer.", counter::decrby),
        ("incrbyfloat", 3, WF, ONE, "2.6.0", "O(1)", "Adds to a float.", counter::incrbyfloat),
    ]
}

#[rustfmt::skip]
fn hashes() -> Vec<Row> {
    const R: u32 = READONLY | FAST;
    const WF: u32 = WRITE | DENY_OOM | FAST;
    vec![
        ("hset", -4, WF, ONE, "2.0.0", "O(N)", "Sets fields of a hash.", hash::hset),
        ("hmset", -4, WF, ONE, "2.0.0", "O(N)", "Sets fields of a hash.", hash::hmset),
        ("hsetnx", 4, WF, ONE, "2.0.0", "O(1)", "Sets a field of a hash unless it exists.", hash::hsetnx),
        ("hget", 3, R, ONE, "2.0.0", "O(1)", "Gives the value of a field.", hash::hget),
        ("hmget", -3, R, ONE, "2.0.0", "O(N)", "Gives the values of fields.", hash::hmget),
        ("hgetall", 2, READONLY, ONE, "2.0.0", "O(N)", "Gives all fields and values.", hash::hgetall),
        ("hdel", -3, WRITE | FAST, ONE, "2.0.0", "O(N)", "Deletes fields.", hash::hdel),
        ("hexists", 3, R, ONE, "2.0.0", "O(1)", "Tells whether a field exists.", hash::hexists),
        ("hlen", 2, R, ONE, "2.0.0", "O(1)", "Counts the fields.", hash::hlen),
        ("hkeys", 2, READONLY, ONE, "2.0.0", "O(N)", "Gives all fields.", hash::hkeys),
        ("hvals", 2, READONLY, ONE, "2.0.0", "O(N)", "Gives all values.", hash::hvals),
        ("hincrby", 4, WF, ONE, "2.0.0", "O(1)", "Adds to the integer of a field.", hash::hincrby),
        ("hincrbyfloat", 4, WF, ONE, "2.6.0", "O(1)", "Adds to the float of a field.", hash::hincrbyfloat),
        ("hstrlen", 3, R, ONE, "3.2.0", "O(1)", "Gives the length of a field's value.", hash::hstrlen),
        ("hscan", -3, READONLY, ONE, "2.8.0", "O(1) a call", "Walks the fields and values.", scan::hscan),
    ]
}

#[rustfmt::skip]
fn generic() -> Vec<Row> {
    const R: u32 = READONLY | FAST;
    const WF: u32 = WRITE | FAST;
    vec![
        ("del", -2, WRITE, ALL, "1.0.0", "O(N)", "Deletes keys.", keys::del),
        ("unlink", -2, WF, ALL, "4.0.0", "O(N)", "Deletes keys.", keys::del),
        ("exists", -2, R, ALL, "1.0.0", "O(N)", "Counts those of the keys that exist.", keys::exists),
        ("touch", -2, R, ALL, "3.2.1", "O(N)", "Counts those of the keys that exist.", keys::exists),
        ("type", 2, R, ONE, "1.0.0", "O(1)", "Gives the type of what a key holds.", keys::type_),
        ("keys", 2, READONLY, NONE, "1.0.0", "O(N) in all keys", "Gives all keys that match a pattern.", scan::keys),
        ("randomkey", 1, READONLY, NONE, "1.0.0", "O(slots)", "Gives some key.", scan::randomkey),
        ("scan", -2, READONLY, NONE, "2.8.0", "O(1) a call", "Walks the keys.", scan::scan),
        ("expire", -3, WF, ONE, "1.0.0", "O(1)", "Lets a key expire in seconds.", expiry::expire),
        ("pexpire", -3, WF, ONE, "2.6.0", "O(1)", "Lets a key expire in milliseconds.", expiry::pexpire),
        ("expireat", -3, WF, ONE, "1.2.0", "O(1)", "Lets a key expire at a Unix time.", expiry::expireat),
        ("pexpireat", -3, WF, ONE, "2.6.0", "O(1)", "Lets a key expire at a Unix time in milliseconds.", expiry::pexpireat),
        ("ttl", 2, R, ONE, "1.0.0", "O(1)", "Gives the seconds until a key expires.", expiry::ttl),
        ("pttl", 2, R, ONE, "2.6.0", "O(1)", "Gives the milliseconds until a key expires.", expiry::pttl),
        ("expiretime", 2, R, ONE, "7.0.0", "O(1)", "Gives the Unix time at which a key expires.", expiry::expiretime),
        ("pexpiretime", 2, R, ONE, "7.0.0", "O(1)", "Gives the Unix time in milliseconds at which a key expires.", expiry::pexpiretime),
        ("persist", 2, WF, ONE, "2.2.0", "O(1)", "Takes a key's expiry away.", expiry::persist),
        ("wait", 3, NO_SCRIPT, NONE, "3.0.0", "O(1)", "Waits until replicas have the writes so far.", connection::wait),
        ("object", -2, 0, NONE, "2.2.3", "by subcommand", "How a key's value is kept.", keys::object_alone),
        ("object|encoding", 3, READONLY, (2, 2, 1), "2.2.3", "O(1)", "Gives the form in which a value is kept.", keys::object_encoding),
        ("object|refcount", 3, READONLY, (2, 2, 1), "2.2.3", "O(1)", "Gives how often a value is shared.", keys::object_refcount),
        ("object|idletime", 3, READONLY, (2, 2, 1), "2.2.3", "O(1)", "Gives the seconds since a value was used.", keys::object_idletime),
        ("object|freq", 3, READONLY, (2, 2, 1), "4.0.0", "O(1)", "Gives how often a value is used.", keys::object_freq),
        ("object|help", 2, LOADING | STALE, NONE, "6.2.0", "O(1)", "Tells of the subcommands.", introspection::help),
    ]
}

#[rustfmt::skip]
fn server() -> Vec<Row> {
    const OPEN: u32 = LOADING | STALE;
    const OPERATOR: u32 = ADMIN | NO_SCRIPT | LOADING | STALE;
    vec![
        ("dbsize", 1, READONLY | FAST, NONE, "1.0.0", "O(1)", "Counts the keys.", keys::dbsize),
        ("flushall", -1, WRITE, NONE, "1.0.0", "O(1), memory is freed behind", "Deletes all keys.", keys::flush),
        ("flushdb", -1, WRITE, NONE, "1.0.0", "O(1), memory is freed behind", "Deletes all keys.", keys::flush),
        ("time", 1, OPEN | FAST, NONE, "2.6.0", "O(1)", "Gives the time.", info::time),
        ("role", 1, NO_SCRIPT | OPEN | FAST, NONE, "2.8.12", "O(1)", "Tells which part this replica has, and of the others.", info::role),
        ("info", -1, OPEN, NONE, "1.0.0", "O(1)", "Tells of the server.", info::info),
        ("lolwut", -1, READONLY | FAST, NONE, "5.0.0", "O(1)", "Gives the version.", info::lolwut),
        ("save", 1, ADMIN | NO_SCRIPT, NONE, "1.0.0", "O(1)", "Refused: checkpoints are written in the background.", keys::save),
        ("bgsave", -1, ADMIN | NO_SCRIPT, NONE, "1.0.0", "O(1)", "Has a checkpoint written in the background.", keys::bgsave),
        ("lastsave", 1, OPEN | FAST, NONE, "1.0.0", "O(1)", "Gives the time of the last checkpoint.", keys::lastsave),
        ("command", -1, OPEN, NONE, "2.8.13", "O(N)", "Tells of the commands.", introspection::command),
        ("command|count", 2, OPEN, NONE, "2.8.13", "O(1)", "Counts the commands.", introspection::count),
        ("command|docs", -2, OPEN, NONE, "7.0.0", "O(N)", "Documents commands.", introspection::docs),
        ("command|info", -2, OPEN, NONE, "2.8.13", "O(N)", "Describes commands.", introspection::info),
        ("command|list", -2, OPEN, NONE, "7.0.0", "O(N)", "Names the commands.", introspection::list),
        ("command|getkeys", -4, OPEN, NONE, "2.8.13", "O(N)", "Gives the keys of a request.", introspection::getkeys),
        ("command|help", 2, OPEN, NONE, "5.0.0", "O(1)", "Tells of the subcommands.", introspection::help),
        ("config", -2, 0, NONE, "2.0.0", "by subcommand", "The settings.", introspection::alone),
        ("config|get", -3, OPERATOR, NONE, "2.0.0", "O(N)", "Gives settings.", configuration::get),
        ("config|set", -4, OPERATOR, NONE, "2.0.0", "O(N)", "Changes settings, until the restart.", configuration::set),
        ("config|resetstat", 2, OPERATOR, NONE, "2.0.0", "O(1)", "Resets the counts of INFO.", configuration::resetstat),
        ("config|rewrite", 2, OPERATOR, NONE, "2.8.0", "O(1)", "Refused: settings are kept in the configuration file.", configuration::rewrite),
        ("config|help", 2, OPEN, NONE, "5.0.0", "O(1)", "Tells of the subcommands.", introspection::help),
        ("memory", -2, 0, NONE, "4.0.0", "by subcommand", "Memory.", introspection::alone),
        ("memory|usage", -3, READONLY, (2, 2, 1), "4.0.0", "O(1)", "Gives the memory that a key takes.", keys::memory_usage),
        ("memory|doctor", 2, 0, NONE, "4.0.0", "O(1)", "Tells whether memory is in order.", keys::memory_doctor),
        ("memory|help", 2, OPEN, NONE, "4.0.0", "O(1)", "Tells of the subcommands.", introspection::help),
        ("slowlog", -2, 0, NONE, "2.2.12", "by subcommand", "Slow commands; none are recorded.", introspection::alone),
        ("slowlog|get", -2, OPERATOR, NONE, "2.2.12", "O(1)", "Gives the slow commands.", info::slowlog_get),
        ("slowlog|len", 2, OPERATOR, NONE, "2.2.12", "O(1)", "Counts the slow commands.", info::slowlog_len),
        ("slowlog|reset", 2, OPERATOR, NONE, "2.2.12", "O(1)", "Forgets the slow commands.", info::slowlog_reset),
        ("slowlog|help", 2, OPEN, NONE, "6.2.0", "O(1)", "Tells of the subcommands.", introspection::help),
        ("debug", -2, ADMIN | NO_SCRIPT | LOADING | STALE, NONE, "1.0.0", "by subcommand", "For tests.", introspection::alone),
        ("debug|set-active-expire", 3, OPERATOR, NONE, "1.0.0", "O(1)", "Turns the search for expired keys on or off.", keys::debug_active_expire),
        ("debug|object", 3, OPERATOR, (2, 2, 1), "1.0.0", "O(1)", "How a key's value is kept.", keys::debug_object),
        ("debug|help", 2, OPEN, NONE, "1.0.0", "O(1)", "Tells of the subcommands.", introspection::help),
    ]
}

#[rustfmt::skip]
fn connections() -> Vec<Row> {
    const OPEN: u32 = NO_SCRIPT | LOADING | STALE;
    const OPERATOR: u32 = ADMIN | NO_SCRIPT | LOADING | STALE;
    vec![
        ("ping", -1, FAST, NONE, "1.0.0", "O(1)", "Answers.", connection::ping),
        ("echo", 2, LOADING | STALE | FAST, NONE, "1.0.0", "O(1)", "Gives its argument back.", connection::echo),
        ("select", 2, LOADING | STALE | FAST, NONE, "1.0.0", "O(1)", "Selects the database, which can only be 0.", connection::select),
        ("auth", -2, OPEN | FAST | NO_AUTH | ALLOW_BUSY, NONE, "1.0.0", "O(1)", "Gives the password.", connection::auth),
        ("hello", -1, OPEN | FAST | NO_AUTH | ALLOW_BUSY, NONE, "6.0.0", "O(1)", "Chooses the protocol's version.", connection::hello),
        ("quit", -1, OPEN | FAST | NO_AUTH | ALLOW_BUSY | IN_MULTI_AT_ONCE, NONE, "1.0.0", "O(1)", "Closes the connection.", connection::quit),
        ("reset", 1, OPEN | FAST | NO_AUTH | ALLOW_BUSY | IN_MULTI_AT_ONCE, NONE, "6.2.0", "O(1)", "Makes the connection as new.", connection::reset),
        ("client", -2, 0, NONE, "2.4.0", "by subcommand", "Connections.", introspection::alone),
        ("client|id", 2, OPEN, NONE, "5.0.0", "O(1)", "Gives the connection's number.", clients::id),
        ("client|getname", 2, OPEN, NONE, "2.6.9", "O(1)", "Gives the connection's name.", clients::getname),
        ("client|setname", 3, OPEN, NONE, "2.6.9", "O(1)", "Names the connection.", clients::setname),
        ("client|setinfo", 4, OPEN, NONE, "7.2.0", "O(1)", "Names the client's library.", clients::setinfo),
        ("client|list", -2, OPERATOR, NONE, "2.4.0", "O(N)", "Lists the connections.", clients::list),
        ("client|info", 2, OPEN, NONE, "6.2.0", "O(1)", "Tells of this connection.", clients::info),
        ("client|kill", -3, OPERATOR, NONE, "2.4.0", "O(N)", "Closes connections.", clients::kill),
        ("client|no-evict", 3, OPERATOR, NONE, "7.0.0", "O(1)", "Spares the connection when memory is short.", clients::no_evict),
        ("client|no-touch", 3, OPEN, NONE, "7.2.0", "O(1)", "Lets reads leave the keys' ages alone.", clients::no_touch),
        ("client|reply", 3, OPEN, NONE, "3.2.0", "O(1)", "Turns replies on or off.", clients::reply),
        ("client|getredir", 2, OPEN, NONE, "6.0.0", "O(1)", "Gives the connection that invalidations go to.", clients::getredir),
        ("client|help", 2, LOADING | STALE, NONE, "5.0.0", "O(1)", "Tells of the subcommands.", introspection::help),
    ]
}

#[rustfmt::skip]
fn clusters() -> Vec<Row> {
    const OPEN: u32 = LOADING | STALE;
    const OPERATOR: u32 = ADMIN | NO_SCRIPT | STALE;
    vec![
        ("cluster", -2, 0, NONE, "3.0.0", "by subcommand", "The cluster.", introspection::alone),
        ("cluster|slots", 2, OPEN, NONE, "3.0.0", "O(N)", "Tells who has which slots.", cluster::slots),
        ("cluster|shards", 2, OPEN, NONE, "7.0.0", "O(N)", "Tells of the shards.", cluster::shards),
        ("cluster|nodes", 2, STALE, NONE, "3.0.0", "O(N)", "Tells of the nodes.", cluster::nodes),
        ("cluster|links", 2, STALE, NONE, "7.0.0", "O(1)", "Tells of the links between nodes.", cluster::links),
        ("cluster|myid", 2, STALE, NONE, "3.0.0", "O(1)", "Gives this node's id.", cluster::myid),
        ("cluster|myshardid", 2, STALE, NONE, "7.2.0", "O(1)", "Gives this shard's id.", cluster::myid),
        ("cluster|info", 2, STALE, NONE, "3.0.0", "O(1)", "Tells of the cluster.", cluster::info),
        ("cluster|keyslot", 3, STALE, NONE, "3.0.0", "O(N) in the key", "Gives the slot of a key.", cluster::keyslot),
        ("cluster|countkeysinslot", 3, STALE, NONE, "3.0.0", "O(1)", "Counts the keys of a slot.", cluster::countkeysinslot),
        ("cluster|getkeysinslot", 4, STALE, NONE, "3.0.0", "O(N)", "Gives keys of a slot.", cluster::getkeysinslot),
        ("cluster|replicas", 3, OPERATOR, NONE, "5.0.0", "O(1)", "Lists a node's replicas.", cluster::replicas),
        ("cluster|slaves", 3, OPERATOR, NONE, "3.0.0", "O(1)", "Lists a node's replicas.", cluster::replicas),
        ("cluster|reset", -2, OPERATOR, NONE, "3.0.0", "O(1)", "Refused: slots are placed by configuration.", cluster::refused),
        ("cluster|addslots", -3, OPERATOR, NONE, "3.0.0", "O(1)", "Refused: slots are placed by configuration.", cluster::refused),
        ("cluster|delslots", -3, OPERATOR, NONE, "3.0.0", "O(1)", "Refused: slots are placed by configuration.", cluster::refused),
        ("cluster|setslot", -4, OPERATOR, NONE, "3.0.0", "O(1)", "Refused: slots are placed by configuration.", cluster::refused),
        ("cluster|meet", -4, OPERATOR, NONE, "3.0.0", "O(1)", "Refused: slots are placed by configuration.", cluster::refused),
        ("cluster|forget", 3, OPERATOR, NONE, "3.0.0", "O(1)", "Refused: slots are placed by configuration.", cluster::refused),
        ("cluster|admit", 4, OPERATOR, NONE, "7.0.0", "O(1)", "A node asks for its vote: what nodes say to each other.", cluster::admit),
        ("cluster|replicate", 3, OPERATOR, NONE, "3.0.0", "O(1)", "Refused: slots are placed by configuration.", cluster::refused),
        ("cluster|failover", -2, OPERATOR, NONE, "3.0.0", "O(1)", "Refused: slots are placed by configuration.", cluster::refused),
        ("cluster|help", 2, OPEN, NONE, "5.0.0", "O(1)", "Tells of the subcommands.", introspection::help),
        ("asking", 1, FAST, NONE, "3.0.0", "O(1)", "Lets the next command use a slot that is being imported.", cluster::asking),
        ("readonly", 1, LOADING | STALE | FAST, NONE, "3.0.0", "O(1)", "Allows reads from replicas.", cluster::readonly),
        ("readwrite", 1, LOADING | STALE | FAST, NONE, "3.0.0", "O(1)", "Ends READONLY.", cluster::readwrite),
    ]
}

#[rustfmt::skip]
fn transactions() -> Vec<Row> {
    const OPEN: u32 = NO_SCRIPT | LOADING | STALE | ALLOW_BUSY | IN_MULTI_AT_ONCE;
    vec![
        ("multi", 1, OPEN | FAST, NONE, "1.2.0", "O(1)", "Begins a transaction.", transaction::multi),
        ("exec", 1, NO_SCRIPT | LOADING | STALE | IN_MULTI_AT_ONCE, NONE, "1.2.0", "by the commands", "Executes a transaction.", transaction::exec),
        ("discard", 1, OPEN | FAST, NONE, "2.0.0", "O(N)", "Forgets a transaction.", transaction::discard),
        ("watch", -2, OPEN | FAST, ALL, "2.2.0", "O(N)", "Lets EXEC do nothing if a key changes before.", transaction::watch),
        ("unwatch", 1, (OPEN & !IN_MULTI_AT_ONCE) | FAST, NONE, "2.2.0", "O(1)", "Forgets all watches.", transaction::unwatch),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case() {
        assert_eq!(TABLE.get(b"GeT").map(|command| command.name), Some("get"));
        assert!(TABLE.get(b"gett").is_none());
        assert!(TABLE.get(&[b'x'; 100]).is_none());
        for command in TABLE.all() {
            assert!(std::ptr::eq(TABLE.get(command.name.as_bytes()).expect("found"), command));
            assert!(command.name.len() <= NAME_BYTES_MAX);
        }
    }

    #[test]
    fn keys_by_position() {
        let at = |name: &str, count: usize| {
            let ranges = vec![(0, 0); count];
            TABLE.get(name.as_bytes()).expect("known").keys(Arguments::new(b"", &ranges)).collect::<Vec<_>>()
        };
        assert_eq!(at("get", 2), [1]);
        assert_eq!(at("mget", 4), [1, 2, 3]);
        assert_eq!(at("mset", 5), [1, 3]);
        assert_eq!(at("ping", 2), [0usize; 0]);
    }
}
