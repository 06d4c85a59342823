//! A shard's replica on its core: between the shard, its group of the log, and those who wait for either.
//!
//! What always holds: the open batch is proposed in each turn in which something was written; while the log is
//! behind, nothing more is executed (the connections wait, and their peers with them); the shard leads only once everything
//! that was ever committed is in its keyspace, and what it has read by then counts only if it still led afterwards.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::select;
use replog::{GroupId, NodeId, Replicas, Role};
use runtime::sync::Notify;

use super::turnstile::Turnstile;
use crate::core::checkpoint::Reader;
use crate::core::shard::{REAP_KEYS_MAX, Shard};
use crate::metrics::Figures;
use crate::{Config, Error};

/// How often expired keys are looked for.
const REAP_EVERY: Duration = Duration::from_millis(100);
/// Entries looked at before others get their turn.
const REAP_ENTRIES: usize = 4096;
/// Such turns in a row before the search rests.
const REAP_TURNS_MAX: usize = 50;
/// How many searches go by between two notes of the figures.
const FIGURES_EVERY: u32 = 10;
/// The log keeps what any of its shards still needs. A shard whose own writes are few is saved too once the log has grown by so
/// many times what would make a busy one be saved.
const LOG_GROWTH_MAX: u64 = 4;
/// How long writes are refused before one is tried again, once the log would take none.
const WRITES_RETRY: Duration = Duration::from_secs(1);
/// How long to wait before what the log would not take now is proposed again, where nothing tells when it would.
const PROPOSE_RETRY: Duration = Duration::from_millis(5);

/// A shard with what is around it.
pub(super) struct Host {
    pub(super) shard: RefCell<Shard>,
    pub(super) config: Config,
    /// The log that the shard's group lies in, once it is open.
    pub(super) replicas: OnceCell<Replicas>,
    pub(super) node: NodeId,
    pub(super) group: GroupId,
    pub(super) role: Cell<Role>,
    /// The role has changed, or the shard begun to lead.
    pub(super) role_changed: Notify,
    /// What the checkpoint that the keyspace comes from holds of later entries; empty once those have come.
    pub(super) loaded: RefCell<Reader>,
    /// The index that the checkpoint on disk has everything up to.
    pub(super) saved: Cell<Option<u64>>,
    /// A checkpoint was written, or could not be.
    pub(super) checkpointed: Notify,
    pub(super) checkpoints_failed: Cell<u64>,
    /// One at a time puts a checkpoint in the place of another.
    pub(super) file: Turnstile,
    /// Why this replica can't go on.
    failed: RefCell<Option<Error>>,
    stop: ops::Stop,
    /// Something was added to the open batch.
    pub(super) written: Notify,
    /// Writes were committed or lost.
    pub(super) settled: Notify,
    /// The log is behind: nothing is executed.
    stalled: Cell<bool>,
    /// The group has elected this node, and the keyspace is not complete yet: nothing is executed.
    taking_over: Cell<bool>,
    pub(super) unstalled: Notify,
    /// A checkpoint is wanted.
    pub(super) checkpoint: Notify,
    /// Bytes proposed since the last checkpoint began.
    pub(super) log_bytes: Cell<u64>,
    /// What the whole log had written when the last checkpoint began, bytes.
    pub(super) log_written: Cell<u64>,
    /// The tasks of the connections by their session's number, each with whether it may be cut off when the node stops.
    pub(super) connections: RefCell<BTreeMap<u64, Connection>>,
    pub(super) gone: Notify,
    pub(super) draining: Cell<bool>,
    /// What half requests take on this core.
    pub(super) request_bytes: Rc<Cell<usize>>,
    /// What long replies on their way take on this core.
    pub(super) reply_bytes: Rc<Cell<usize>>,
    figures: Arc<Figures>,
}

/// A connection as its host sees it.
pub(super) struct Connection {
    pub(super) idle: Rc<Cell<bool>>,
    pub(super) task: Option<runtime::JoinHandle<()>>,
}

impl Host {
    pub(super) fn new(
        shard: Shard,
        config: &Config,
        (node, group): (NodeId, GroupId),
        (request_bytes, reply_bytes): (Rc<Cell<usize>>, Rc<Cell<usize>>),
        figures: Arc<Figures>,
        stop: ops::Stop,
    ) -> Rc<Self> {
        Rc::new(Self {
            shard: RefCell::new(shard),
            config: config.clone(),
            replicas: OnceCell::new(),
            node,
            group,
            role: Cell::default(),
            role_changed: Notify::new(),
            loaded: RefCell::default(),
            saved: Cell::default(),
            checkpointed: Notify::new(),
            checkpoints_failed: Cell::default(),
            file: Turnstile::default(),
            failed: RefCell::default(),
            stop,
            written: Notify::new(),
            settled: Notify::new(),
            stalled: Cell::new(false),
            taking_over: Cell::new(false),
            unstalled: Notify::new(),
            checkpoint: Notify::new(),
            log_bytes: Cell::new(0),
            log_written: Cell::new(0),
            connections: RefCell::default(),
            gone: Notify::new(),
            draining: Cell::new(false),
            request_bytes,
            reply_bytes,
            figures,
        })
    }

    /// The log that the shard's group lies in.
    pub(super) fn replicas(&self) -> &Replicas {
        self.replicas.get().expect("the log is open before anything is done with it")
    }

    /// An entry of the group is committed.
    pub(super) fn apply(&self, index: u64, entry: &Bytes) {
        if self.failed.borrow().is_some() {
            return;
        }
        let mut shard = self.shard.borrow_mut();
        let applied = {
            let loaded = self.loaded.borrow();
            shard.commit(index, entry, |keyspace, key| loaded.has(keyspace, key, index))
        };
        self.log_bytes.set(self.log_bytes.get() + entry.len() as u64);
        let due = self.log_bytes.get() >= self.checkpoint_after(&shard);
        let graves = shard.take_graves();
        let number = shard.number;
        drop(shard);
        if due {
            self.checkpoint.notify_one();
        }
        if !graves.is_empty() {
            // Millions of keys may be freed here.
            runtime::spawn(async move { runtime::blocking(move || drop(graves)).await });
        }
        match applied {
            Ok(_) => self.settled.notify_all(),
            Err(_) => {
                self.fail(Error::Unreadable { shard: number, what: format!("entry {index} of the log") });
            }
        }
    }

    /// The node has another part in the shard's group.
    pub(super) fn role(self: &Rc<Self>, role: Role) {
        self.role.set(role);
        self.shard.borrow().home().set_leader(role.leader.map(|node| node.0));
        self.taking_over.set(role.leader == Some(self.node));
        if role.leads {
            runtime::spawn(Rc::clone(self).take_over(role));
        } else {
            self.shard.borrow_mut().follow();
        }
        self.tell();
    }

    /// Wakes all who wait for something that the role decides.
    fn tell(&self) {
        self.role_changed.notify_all();
        self.settled.notify_all();
        self.unstalled.notify_all();
    }

    /// Leads, once everything that was committed before is in the keyspace.
    async fn take_over(self: Rc<Self>, role: Role) {
        // Whoever can't be read from does not lead any more.
        if self.replicas().read(self.group).await.is_err() {
            return;
        }
        let applied = self.applied();
        let last = self.loaded.borrow().last();
        if last > applied {
            // Alone, and with the end of the log given up: otherwise whoever leads has all that was committed.
            tracing::warn!(
                shard = self.shard.borrow().number,
                checkpoint = last,
                log = applied,
                "the log ends before its checkpoint: what was written after that is gone"
            );
            // What comes now has the places of what is gone, so nobody must take it for that.
            self.loaded.take();
            while self.saved.get().is_none_or(|saved| saved < applied) {
                self.checkpoint.notify_one();
                self.checkpointed.notified().await;
            }
        }
        if self.role.get() == role && self.failed.borrow().is_none() {
            self.taking_over.set(false);
            self.shard.borrow_mut().lead();
            self.tell();
        }
    }

    /// Whether the shard has no other replica.
    pub(super) fn is_alone(&self) -> bool {
        self.shard.borrow().home().replicas.len() == 1
    }

    /// Waits until this replica can be asked: alone, until it leads.
    pub(super) async fn complete(&self) {
        while self.is_alone() && !self.shard.borrow().leads() {
            self.role_changed.notified().await;
        }
    }

    /// Whether what was executed in this turn, by the replica that leads, may be shown: no other led meanwhile.
    pub(super) fn is_current(&self) -> bool {
        self.replicas().reads_now(self.group)
    }

    /// Waits until it is known whether what was executed may be shown.
    pub(super) async fn confirm(&self) -> bool {
        self.replicas().read(self.group).await.is_ok()
    }

    /// Everything up to this entry was given to the shard, or is the log's own.
    pub(super) fn applied(&self) -> u64 {
        self.replicas().group_stats(self.group).map_or(0, |stats| stats.applied.0)
    }

    /// Whether the keyspace has entries of some keys that those of others are still to come for.
    pub(super) fn is_patchy(&self) -> bool {
        let last = self.loaded.borrow().last();
        if last == 0 {
            return false;
        }
        if self.applied() < last {
            return true;
        }
        self.loaded.take();
        false
    }

    /// This replica can't go on: it stops the node.
    pub(super) fn fail(&self, error: Error) {
        tracing::error!(%error, "stopping");
        self.taking_over.set(false);
        self.shard.borrow_mut().follow();
        self.tell();
        self.failed.borrow_mut().get_or_insert(error);
        self.stop.request();
    }

    /// Why it could not go on.
    pub(super) fn take_failure(&self) -> Option<Error> {
        self.failed.borrow_mut().take()
    }

    /// Whether nothing may be executed now.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled.get() || self.taking_over.get()
    }

    /// Takes the open batch to the log. `false`: the log is behind, or about to change its leader; the batch stays open and
    /// nothing may be added.
    pub(super) fn propose(&self) -> bool {
        let mut shard = self.shard.borrow_mut();
        let Some(batch) = shard.take_batch() else { return true };
        match self.replicas().propose(self.group, batch.clone()) {
            Ok(proposal) => {
                shard.proposed(proposal.index.0, batch);
                true
            }
            // Where it is not for us to propose, the role says so soon, and the batch is dropped then.
            Err(replog::Error::Full | replog::Error::NotLeader { .. } | replog::Error::Refused { .. }) => {
                shard.restore_batch(batch);
                self.stalled.set(true);
                false
            }
            Err(error) => {
                tracing::error!(shard = shard.number, %error, "the log takes no writes: they are refused");
                shard.restore_batch(batch);
                shard.refused();
                drop(shard);
                self.settled.notify_all();
                true
            }
        }
    }

    /// A checkpoint is due once the log has so many bytes of this shard: writing it then costs at most as much again.
    fn checkpoint_after(&self, shard: &Shard) -> u64 {
        self.config.checkpoint_log_bytes.max(shard.used_bytes() as u64)
    }

    /// Has a checkpoint written if this shard's few entries keep much of the others' in the log.
    fn let_log_go(&self) {
        let grown = self.replicas().stats().bytes - self.log_written.get();
        let enough = LOG_GROWTH_MAX * self.checkpoint_after(&self.shard.borrow());
        if self.log_bytes.get() > 0 && grown >= enough {
            self.checkpoint.notify_one();
        }
    }

    /// Waits until the open batch is in the log, or dropped, and the log not behind.
    pub(super) async fn propose_all(&self) {
        while !self.propose() {
            let bytes = self.shard.borrow().batch().map_or(0, <[u8]>::len);
            let room = async {
                if let Err(error) = self.replicas().room_for(bytes).await {
                    tracing::error!(%error, "cannot wait for the log");
                    self.shard.borrow_mut().refused();
                    self.settled.notify_all();
                }
                if !self.propose() {
                    runtime::time::sleep(PROPOSE_RETRY).await;
                }
            };
            select(pin!(self.role_changed.notified()), pin!(room)).await;
        }
        if self.stalled.replace(false) {
            self.unstalled.notify_all();
        }
    }

    /// Proposes what was written, in each turn: behind the connections that were ready before the first of them wrote. The log
    /// takes it at the end of the turn.
    pub(super) async fn propose_each_turn(self: Rc<Self>) {
        loop {
            self.written.notified().await;
            self.propose_all().await;
        }
    }

    /// Looks for expired keys, notes the figures, tries writes again, now and then.
    pub(super) async fn tick(self: Rc<Self>) {
        let mut ticks = 0;
        loop {
            runtime::time::sleep(REAP_EVERY).await;
            for _ in 0..REAP_TURNS_MAX {
                let now_ms = runtime::time::unix_ms();
                // What is reaped needs an entry of its own.
                let more = !self.is_stalled()
                    && self.propose()
                    && self.shard.borrow_mut().reap(now_ms, REAP_ENTRIES, REAP_KEYS_MAX);
                self.written.notify_one();
                if !more {
                    break;
                }
                runtime::yield_now().await;
            }
            ticks += 1;
            if ticks % FIGURES_EVERY == 0 {
                self.figures.take(&self.shard.borrow());
                self.let_log_go();
            }
        }
    }

    /// Lets a write be tried some time after the log would take none; not ready is who refused one since the last time.
    pub(super) async fn retry_writes(self: Rc<Self>) {
        loop {
            runtime::time::sleep(WRITES_RETRY).await;
            let mut shard = self.shard.borrow_mut();
            self.figures.read_only.store(shard.is_read_only(), Ordering::Relaxed);
            shard.try_writes();
        }
    }

    /// Closes the connections that a command said to close.
    pub(super) fn close_killed(&self, killed: Vec<u64>) {
        for id in killed {
            let task =
                self.connections.borrow_mut().get_mut(&id).and_then(|connection| connection.task.take());
            if let Some(task) = task {
                task.abort();
            }
        }
    }
}
