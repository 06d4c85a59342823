//! A shard: one Redis instance, from a request to its reply and its log entry.
//!
//! The calling contract. The shell gives each request to [`Shard::execute`] in order of arrival. Before it lets the core
//! wait, it takes [`Shard::take_batch`] to the log and says [`Shard::proposed`] or [`Shard::refused`]. Each entry that the log
//! has committed it gives to [`Shard::commit`]; outputs may then leave up to [`Shard::committed_sequence`]. It says which
//! replica of the shard leads ([`Shard::lead`], [`Shard::follow`]): that one executes, the others only take entries over.
//! [`Shard::replace`] puts a keyspace in place that a checkpoint held.
//!
//! Always: a reply that shows or rests on a write waits for its commit; the keyspace changes only by what is logged; one
//! command, and one `EXEC`, lies in one entry.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use wire::resp::request::Arguments;

use super::command::{self, Call, Command, flags};
use super::commands::transaction;
use super::effect::{self, Unreadable};
use super::key::{KEY_BYTES_MAX, Key, KeyHash};
use super::keyspace::{Keyspace, Old};
use super::output::Output;
use super::overlay::{self, Overlay};
use super::session::{Replies, Session};
use super::topology::{Node, Place, Topology};

/// Places in the table of last writes. Two keys that share one wait for each other's commits, and a write to one makes the EXEC
/// that watches the other fail, as it may at any time: a client tries again.
const TOUCHED_PLACES: usize = 1 << 14;

/// A batch is taken to the log before the end of the turn once it has grown to this.
const BATCH_BYTES: usize = 1 << 20;

/// The most keys that may be reaped at once: each is logged with its name.
pub const REAP_KEYS_MAX: usize = 256;
const _: () = assert!(REAP_KEYS_MAX * (KEY_BYTES_MAX + 8) < overlay::ENTRY_BYTES_MAX);

/// Why a command is refused: the text of the error reply, its code first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub Cow<'static, [u8]>);

impl Refusal {
    /// The key holds another type.
    pub const WRONG_TYPE: Self =
        Self::new("WRONGTYPE Operation against a key holding the wrong kind of value");
    /// Options that do not go together, or are none.
    pub const SYNTAX: Self = Self::new("ERR syntax error");
    /// An argument or value that should be an integer of 64 bits.
    pub const NOT_AN_INTEGER: Self = Self::new("ERR value is not an integer or out of range");
    /// An argument or value that should be a float.
    pub const NOT_A_FLOAT: Self = Self::new("ERR value is not a valid float");
    /// The sum does not fit 64 bits.
    pub const OVERFLOW: Self = Self::new("ERR increment or decrement would overflow");
    /// The memory limit is reached.
    pub const OUT_OF_MEMORY: Self = Self::new("OOM command not allowed when used memory > 'maxmemory'.");
    /// No password was given.
    pub const NO_AUTH: Self = Self::new("NOAUTH Authentication required.");
    /// Keys of different slots.
    pub const CROSS_SLOT: Self = Self::new("CROSSSLOT Keys in request don't hash to the same slot");
    /// The log takes no writes.
    pub const READ_ONLY: Self = Self::new(
        "MISCONF The log cannot take writes: its disk is full. Reads go on. Free space, then writes go on by themselves.",
    );
    /// More than one entry of the log can hold.
    pub const TOO_MUCH: Self =
        Self::new("ERR the writes of one command or transaction may not take more than 16 MiB");
    /// A key command, and no replica of the shard is known to lead.
    pub const CLUSTER_DOWN: Self = Self::new("CLUSTERDOWN The cluster is down");
    /// A write to a replica that does not lead.
    pub const REPLICA: Self = Self::new("READONLY You can't write against a read only replica.");
    /// A key beyond the limit.
    pub const KEY_TOO_LONG: Self = Self::new("ERR key is too long: the limit is 65024 bytes");

    const fn new(text: &'static str) -> Self {
        Self(Cow::Borrowed(text.as_bytes()))
    }

    /// Too few or too many arguments for a command.
    #[must_use]
    pub fn arity(name: &str) -> Self {
        Self::from(format!("ERR wrong number of arguments for '{name}' command"))
    }
}

impl From<&'static str> for Refusal {
    fn from(text: &'static str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Refusal {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text.into_bytes()))
    }
}

/// What an operator sets, as far as commands look at it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Writes that take memory are refused beyond this many bytes; 0 for no limit.
    pub maxmemory_bytes: usize,
    /// What `AUTH` must give; `None` for no password.
    pub password: Option<String>,
    /// Bytes of commands that a transaction may queue.
    pub transaction_bytes_max: usize,
    /// The most connections.
    pub clients_max: usize,
    /// Where the data lies, for `CONFIG GET dir`.
    pub dir: String,
    /// Seconds after which an idle connection is closed; 0 for never.
    pub idle_timeout_s: u64,
    /// The process's number.
    pub process_id: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            maxmemory_bytes: 0,
            password: None,
            transaction_bytes_max: 64 << 20,
            clients_max: 10_000,
            dir: String::new(),
            idle_timeout_s: 0,
            process_id: 0,
        }
    }
}

/// Counts for `INFO` and the metrics.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Requests executed.
    pub commands: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Connections refused for `maxclients`.
    pub connections_refused: u64,
    /// Keys deleted because they had expired.
    pub expired: u64,
    /// Reads that found their key.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Error replies.
    pub errors: u64,
    /// Calls by command, in the table's order.
    pub calls: Vec<u64>,
    /// Bytes read from clients.
    pub bytes_in: u64,
    /// Bytes sent to clients.
    pub bytes_out: u64,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// When the last checkpoint was finished, Unix seconds.
    pub checkpoint_at_s: u64,
}

/// What is done with a request: what this replica is for its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It executes.
    Leads,
    /// Another replica does, or none. Reads that may be a little late are answered where `fresh`.
    Follows {
        /// It had everything a short while ago.
        fresh: bool,
    },
}

impl Default for Standing {
    fn default() -> Self {
        Self::Follows { fresh: false }
    }
}

/// How the shard's replicas stand to each other, as last looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replication {
    /// Where this one leads: the others.
    pub followers: Vec<Follower>,
    /// The nodes of the replicas that have a vote.
    pub voters: Vec<u64>,
    /// Where another leads: for how long it was not heard, in milliseconds; `None` if never.
    pub leader_silent_ms: Option<u64>,
    /// Everything is being taken over from another replica.
    pub is_filling: bool,
}

/// A replica that follows this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follower {
    /// The node that it is on.
    pub node: u64,
    /// It is known to have everything up to this entry.
    pub has: u64,
    /// For how long its node was not heard, in milliseconds.
    pub silent_ms: u64,
}

/// One Redis instance.
#[derive(Debug)]
pub struct Shard {
    /// Who has which slot.
    pub topology: Arc<Topology>,
    /// Which of the topology's shards this is.
    pub number: usize,
    /// The number of the node that this replica is on.
    pub on: u64,
    /// What an operator set.
    pub settings: Settings,
    /// Counts.
    pub stats: Stats,
    /// When the process started, Unix milliseconds.
    pub started_ms: u64,
    /// How its replicas stand.
    pub replication: Replication,
    pub(crate) keyspace: Keyspace,
    pub(crate) overlay: Overlay,
    standing: Standing,
    /// The last write to any key of a place.
    touched: Box<[u64]>,
    /// The last write that changed all keys at once.
    flushed: u64,
    /// All connections, for `CLIENT LIST`.
    pub(crate) clients: BTreeMap<u64, Rc<RefCell<Session>>>,
    /// Connections that were told to go, for the shell.
    pub(crate) killed: Vec<u64>,
    upheavals: u64,
    /// The log takes no writes.
    read_only: bool,
    pub(crate) active_expiry: bool,
    /// For choices that need no more than variety.
    pub(crate) lot: u64,
    /// A checkpoint was asked for.
    pub(crate) save_asked: bool,
    /// Nodes that ask to become members, each with whether it has anything yet.
    pub(crate) applicants: Vec<(u64, bool)>,
}

impl Shard {
    /// An empty shard, which follows. `seed` places keys and draws lots.
    #[must_use]
    pub fn new(
        topology: Arc<Topology>,
        (number, on): (usize, u64),
        settings: Settings,
        seed: u64,
        now_ms: u64,
    ) -> Self {
        let slots = topology.shards[number].slots.clone();
        Self {
            topology,
            number,
            on,
            settings,
            stats: Stats::default(),
            started_ms: now_ms,
            replication: Replication::default(),
            keyspace: Keyspace::new(KeyHash::new(seed), slots),
            overlay: Overlay::default(),
            standing: Standing::default(),
            touched: vec![0; TOUCHED_PLACES].into(),
            flushed: 0,
            clients: BTreeMap::new(),
            killed: Vec::new(),
            upheavals: 0,
            read_only: false,
            active_expiry: true,
            lot: seed | 1,
            save_asked: false,
            applicants: Vec::new(),
        }
    }

    /// Its shard, as all nodes know it.
    #[must_use]
    pub fn home(&self) -> &Place {
        &self.topology.shards[self.number]
    }

    /// This replica.
    ///
    /// # Panics
    /// When the topology does not have it.
    #[must_use]
    pub fn node(&self) -> &Node {
        let here = self.home().replicas.iter().find(|node| node.number == self.on);
        here.expect("a shard runs where the topology has a replica of it")
    }

    /// The keys.
    #[must_use]
    pub fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    /// Memory that counts against `maxmemory`.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.keyspace.used_bytes()
    }

    /// A lot.
    pub(crate) fn draw(&mut self) -> u64 {
        self.lot ^= self.lot << 13;
        self.lot ^= self.lot >> 7;
        self.lot ^= self.lot << 17;
        self.lot.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    // Standing.

    /// Whether this replica executes requests.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.standing == Standing::Leads
    }

    /// This replica leads, and its keyspace has everything that was ever committed.
    pub fn lead(&mut self) {
        self.standing = Standing::Leads;
        // Another may have led meanwhile: nobody's watch holds any more.
        self.flushed = self.overlay.skip();
    }

    /// This replica does not lead, or not any more. What was executed and is not committed is taken back: outputs that rest
    /// on it are [lost](Self::is_lost).
    pub fn follow(&mut self) {
        self.standing = Standing::default();
        self.read_only = false;
        if self.overlay.is_empty() {
            return;
        }
        self.upheavals += 1;
        self.overlay.drop_all(&mut self.keyspace);
    }

    /// Whether this replica, which does not lead, had everything a short while ago.
    pub fn set_fresh(&mut self, fresh: bool) {
        if let Standing::Follows { fresh: known } = &mut self.standing {
            *known = fresh;
        }
    }

    /// Puts a keyspace in place that has everything up to entry `index`, and maybe more of some keys; gives the one that was
    /// there, to be dropped where it stalls nobody.
    ///
    /// # Panics
    /// When something is executed and not committed.
    pub fn replace(&mut self, keyspace: Keyspace, index: u64) -> Keyspace {
        self.overlay.replaced(index);
        self.upheavals += 1;
        self.flushed = self.overlay.skip();
        std::mem::replace(&mut self.keyspace, keyspace)
    }

    // The log.

    /// What the log is to take next, if anything.
    #[must_use]
    pub fn batch(&self) -> Option<&[u8]> {
        self.overlay.batch()
    }

    /// Takes [`batch`](Self::batch) to hand it to the log, which then [took](Self::proposed) it, or not
    /// ([`restore_batch`](Self::restore_batch)).
    pub fn take_batch(&mut self) -> Option<Bytes> {
        self.overlay.take_batch()
    }

    /// The log did not take the batch.
    pub fn restore_batch(&mut self, batch: Bytes) {
        self.overlay.restore_batch(batch);
    }

    /// Whether the batch should be taken to the log before a request of so many bytes is executed: it is long enough, or the
    /// request may need an entry to itself. EXEC and SETRANGE may log far more than they are long.
    #[must_use]
    pub fn wants_proposal(&self, request_bytes: usize, arguments: Arguments<'_>) -> bool {
        let batch_bytes = self.overlay.batch_bytes();
        let is = |name: &str| arguments.get(0).is_some_and(|said| said.eq_ignore_ascii_case(name.as_bytes()));
        batch_bytes >= BATCH_BYTES
            || batch_bytes > 0
                && (batch_bytes + request_bytes * 2 > overlay::ENTRY_BYTES_MAX
                    || is("exec")
                    || is("setrange"))
    }

    /// The log took the batch as this entry.
    pub fn proposed(&mut self, index: u64, batch: Bytes) {
        self.overlay.proposed(index, batch);
        self.read_only = false;
    }

    /// The log would not take the batch: nothing of it happened. Outputs that rest on it are [lost](Self::is_lost).
    pub fn refused(&mut self) {
        self.overlay.drop_batch(&mut self.keyspace);
        self.read_only = true;
    }

    /// Writes may be tried again.
    pub fn try_writes(&mut self) {
        self.read_only = false;
    }

    /// Whether writes are refused because the log would not take them.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// This entry is committed; entries come in order. What was executed here is settled by it; anything else is applied, as
    /// far as `is_saved` does not say that a checkpoint holds the key's part of it. Says whether outputs may be waiting for
    /// that.
    ///
    /// # Errors
    /// The entry is of another version or damaged.
    pub fn commit(
        &mut self,
        index: u64,
        entry: &[u8],
        is_saved: impl FnMut(&Keyspace, Option<&Key<'_>>) -> bool,
    ) -> Result<bool, Unreadable> {
        if self.overlay.expects(index) {
            return Ok(self.overlay.commit(index));
        }
        self.apply(entry, is_saved)?;
        self.overlay.replayed(index);
        Ok(false)
    }

    fn apply(
        &mut self,
        entry: &[u8],
        mut is_saved: impl FnMut(&Keyspace, Option<&Key<'_>>) -> bool,
    ) -> Result<(), Unreadable> {
        for effect in overlay::effects(entry)? {
            let effect = effect?;
            let key = effect.key().map(|key| Key::new(key, self.keyspace.hasher()));
            if key.is_some_and(|key| !self.keyspace.holds(key.slot)) || is_saved(&self.keyspace, key.as_ref())
            {
                continue;
            }
            let old = match &key {
                Some(key) => self.keyspace.apply_at(&effect, key),
                None => {
                    self.upheavals += 1;
                    self.keyspace.apply(&effect)
                }
            };
            self.overlay.bury(old);
        }
        Ok(())
    }

    /// Everything up to entry `index` is in the keyspace: those that were not given are the log's own.
    pub fn replayed(&mut self, index: u64) {
        self.overlay.replayed(index);
    }

    /// Outputs may leave up to this write.
    #[must_use]
    pub fn committed_sequence(&self) -> u64 {
        self.overlay.committed()
    }

    /// The index of the last entry proposed or replayed.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.overlay.last_index()
    }

    /// Whether some reply here rests on a write that came to nothing: the connection must close, unanswered.
    #[must_use]
    pub fn is_lost(&self, output: &Output) -> bool {
        self.overlay.is_lost(output)
    }

    /// The index of the last entry that is committed and in the keyspace.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.overlay.applied()
    }

    /// How often all keys were deleted, taken back or replaced at once: a walk that spans it is worth nothing.
    #[must_use]
    pub fn upheavals(&self) -> u64 {
        self.upheavals
    }

    /// Takes what is to be dropped where it stalls nobody.
    pub fn take_graves(&mut self) -> Vec<Old> {
        self.overlay.take_graves()
    }

    // Connections.

    /// A connection is there.
    pub fn register(&mut self, session: Rc<RefCell<Session>>) {
        self.stats.connections += 1;
        let id = session.borrow().id;
        self.clients.insert(id, session);
    }

    /// The connection is gone.
    pub fn forget(&mut self, id: u64) {
        self.clients.remove(&id);
    }

    /// How many connections there are.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Takes the connections that are to be closed.
    pub fn take_killed(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.killed)
    }

    /// Whether a checkpoint was asked for; asks but once.
    pub fn take_save_asked(&mut self) -> bool {
        std::mem::take(&mut self.save_asked)
    }

    // Expiry.

    /// Deletes keys that have expired, looking at about `entries_max` and deleting at most `keys_max`. Says whether there may
    /// be more. The open batch must be empty, so that the longest keys fit one entry: see [`REAP_KEYS_MAX`].
    pub fn reap(&mut self, now_ms: u64, entries_max: usize, keys_max: usize) -> bool {
        debug_assert!(keys_max <= REAP_KEYS_MAX && self.batch().is_none(), "what is reaped fits one entry");
        if !self.active_expiry || self.read_only || !self.leads() {
            return false;
        }
        let mut keys: Vec<Box<[u8]>> = Vec::new();
        let more = self.keyspace.find_expired(now_ms, entries_max, keys_max, |key| keys.push(key.into()));
        if keys.is_empty() {
            return more;
        }
        let sequence = self.overlay.begin();
        for bytes in &keys {
            let key = Key::new(bytes, self.keyspace.hasher());
            self.touched[place(&key)] = sequence;
            self.overlay.change(&mut self.keyspace, Some(&key), |out| effect::put_delete(out, bytes));
        }
        self.stats.expired += keys.len() as u64;
        more
    }

    // Requests.

    /// Executes one request and writes its reply.
    pub fn execute(
        &mut self,
        session: &mut Session,
        arguments: Arguments<'_>,
        out: &mut Output,
        now_ms: u64,
    ) {
        if arguments.is_empty() {
            return;
        }
        // A browser that was made to talk to us: it must get no further, or its request's body would be commands.
        if arguments[0].eq_ignore_ascii_case(b"post") || arguments[0].eq_ignore_ascii_case(b"host:") {
            session.close = true;
            return;
        }
        session.active_ms = now_ms;
        self.stats.commands += 1;
        let mark = out.mark();
        let reply_mode = session.replies;
        let mut gate = 0;
        let before = self.overlay.mark();
        let mut done = self.dispatch(session, arguments, out, now_ms, &mut gate);
        if self.overlay.is_overfull() {
            self.overlay.undo_to(before, &mut self.keyspace);
            done = Err(Refusal::TOO_MUCH);
        }
        if let Err(refusal) = done {
            out.rewind(mark);
            out.error(&refusal.0);
            self.stats.errors += 1;
        }
        if gate > self.overlay.committed() {
            out.gate(mark, gate);
        }
        let is_silent = matches!(
            (reply_mode, session.replies),
            (Replies::Skip, _) | (_, Replies::Off) | (_, Replies::SkipNext)
        );
        if is_silent {
            out.rewind(mark);
            session.wait.iter_mut().for_each(|wait| wait.is_silent = true);
        }
        session.replies = match session.replies {
            Replies::SkipNext => Replies::Skip,
            Replies::Skip => Replies::On,
            same => same,
        };
    }

    fn dispatch(
        &mut self,
        session: &mut Session,
        arguments: Arguments<'_>,
        out: &mut Output,
        now_ms: u64,
        gate: &mut u64,
    ) -> Result<(), Refusal> {
        let (command, first_key) =
            self.admit(session, arguments).inspect_err(|_| transaction::spoil(session))?;
        session.last_command = command.name;
        if session.transaction.is_some() && !command.has(flags::IN_MULTI_AT_ONCE) {
            transaction::queue(session, arguments, self.settings.transaction_bytes_max)
                .inspect_err(|_| transaction::spoil(session))?;
            out.simple("QUEUED");
            return Ok(());
        }
        self.call(command, session, out, arguments, first_key, now_ms, gate)
    }

    /// Whether a command may run at all, in the order in which Redis asks.
    fn admit<'a>(
        &self,
        session: &mut Session,
        arguments: Arguments<'a>,
    ) -> Result<(&'static Command, Option<Key<'a>>), Refusal> {
        let command = command::find(arguments)?;
        if !command.takes(arguments.len()) {
            return Err(Refusal::arity(command.name));
        }
        if !session.authenticated && !command.has(flags::NO_AUTH) {
            return Err(Refusal::NO_AUTH);
        }
        let first_key = self.place_keys(command, arguments, session.readonly)?;
        if command.has(flags::WRITE) && !self.leads() {
            return Err(Refusal::REPLICA);
        }
        if command.has(flags::DENY_OOM) && self.is_full() {
            return Err(Refusal::OUT_OF_MEMORY);
        }
        if command.has(flags::WRITE) && self.read_only {
            return Err(Refusal::READ_ONLY);
        }
        Ok((command, first_key))
    }

    /// Runs a command that may run. `gate` grows to the last write that its reply rests on.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn call(
        &mut self,
        command: &'static Command,
        session: &mut Session,
        out: &mut Output,
        arguments: Arguments<'_>,
        first_key: Option<Key<'_>>,
        now_ms: u64,
        gate: &mut u64,
    ) -> Result<(), Refusal> {
        if self.stats.calls.len() <= command.number {
            self.stats.calls.resize(command.number + 1, 0);
        }
        self.stats.calls[command.number] += 1;
        let mut call = Call::new(self, session, out, arguments, command, first_key, now_ms);
        let done = (command.run)(&mut call);
        *gate = (*gate).max(call.gate);
        done
    }

    /// Whether the memory limit is reached.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.settings.maxmemory_bytes != 0 && self.used_bytes() > self.settings.maxmemory_bytes
    }

    /// Checks that all keys of a command lie in one slot and that this replica answers for it; gives the first key's place.
    pub(crate) fn place_keys<'a>(
        &self,
        command: &Command,
        arguments: Arguments<'a>,
        readonly: bool,
    ) -> Result<Option<Key<'a>>, Refusal> {
        let mut first: Option<Key<'a>> = None;
        for at in command.keys(arguments) {
            let Some(bytes) = arguments.get(at) else { break };
            if bytes.len() > KEY_BYTES_MAX {
                return Err(Refusal::KEY_TOO_LONG);
            }
            match &first {
                None => first = Some(Key::new(bytes, self.keyspace.hasher())),
                Some(first) if wire::resp::slot::of(bytes) != first.slot => return Err(Refusal::CROSS_SLOT),
                Some(_) => {}
            }
        }
        match &first {
            Some(key) if !self.keyspace.holds(key.slot) => Err(self.redirect(key.slot)),
            Some(key) => match self.standing {
                Standing::Leads => Ok(first),
                Standing::Follows { fresh: true } if readonly && command.has(flags::READONLY) => Ok(first),
                Standing::Follows { .. } => Err(self.redirect(key.slot)),
            },
            None => Ok(first),
        }
    }

    /// Where to ask for a slot, if not here.
    fn redirect(&self, slot: u16) -> Refusal {
        let place = self.topology.owner(slot);
        let elsewhere = match self.keyspace.holds(slot) {
            true => place.leader().filter(|leader| leader.number != self.on),
            false => Some(place.master()),
        };
        match elsewhere {
            Some(node) => Refusal::from(format!("MOVED {slot} {}:{}", node.host, node.port)),
            None => Refusal::CLUSTER_DOWN,
        }
    }

    /// How many other replicas are known to have everything up to an entry.
    #[must_use]
    pub fn acknowledged(&self, index: u64) -> usize {
        let seen = self.replication.followers.iter().filter(|follower| follower.has >= index).count();
        if index <= self.applied() { seen.max(self.others_of_majority()) } else { seen }
    }

    /// How many other replicas have what is committed, at least.
    #[must_use]
    pub fn others_of_majority(&self) -> usize {
        self.home().replicas.len() / 2
    }

    /// Takes the nodes that ask to become members, each with whether it has anything yet.
    pub fn take_applicants(&mut self) -> Vec<(u64, bool)> {
        std::mem::take(&mut self.applicants)
    }

    /// The last write that the reply about this key must wait for.
    pub(crate) fn touched(&self, key: &Key<'_>) -> u64 {
        self.touched[place(key)].max(self.flushed)
    }

    /// The place of a key in the table of last writes.
    pub(crate) fn place(key: &Key<'_>) -> usize {
        place(key)
    }

    /// The last write of a place.
    pub(crate) fn touched_at(&self, place: usize) -> u64 {
        self.touched[place].max(self.flushed)
    }

    pub(crate) fn touch(&mut self, key: &Key<'_>, sequence: u64) {
        self.touched[place(key)] = sequence;
    }

    pub(crate) fn flush(&mut self) -> u64 {
        self.upheavals += 1;
        self.flushed = self.overlay.begin();
        self.overlay.change(&mut self.keyspace, None, effect::put_flush);
        self.flushed
    }
}

fn place(key: &Key<'_>) -> usize {
    key.hash as usize & (TOUCHED_PLACES - 1)
}
