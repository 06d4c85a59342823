//! A shard on its core: between the shard, its group of the log, and those who wait for either.
//!
//! What always holds: the open batch is proposed at the end of each turn in which something was written; while the log is
//! behind, nothing more is executed (the connections wait, and their peers with them).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use replog::{GroupId, Log};
use runtime::sync::Notify;

use crate::Config;
use crate::core::shard::{REAP_KEYS_MAX, Shard};
use crate::metrics::Figures;

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

/// A shard with what is around it.
pub(super) struct Host {
    pub(super) shard: RefCell<Shard>,
    pub(super) config: Config,
    pub(super) log: Log,
    pub(super) group: GroupId,
    /// Something was added to the open batch.
    pub(super) written: Notify,
    /// Writes were committed or lost.
    pub(super) settled: Notify,
    /// The log is behind: nothing is executed.
    stalled: Cell<bool>,
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
        log: Log,
        group: GroupId,
        (request_bytes, reply_bytes): (Rc<Cell<usize>>, Rc<Cell<usize>>),
        figures: Arc<Figures>,
    ) -> Rc<Self> {
        let host = Rc::new(Self {
            shard: RefCell::new(shard),
            config: config.clone(),
            log,
            group,
            written: Notify::new(),
            settled: Notify::new(),
            stalled: Cell::new(false),
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
        });
        let committed = Rc::clone(&host);
        host.log.on_commit(group, move |index| committed.committed(index.0));
        host
    }

    fn committed(&self, index: u64) {
        let mut shard = self.shard.borrow_mut();
        let news = shard.committed(index);
        let graves = shard.take_graves();
        drop(shard);
        if news {
            self.settled.notify_all();
        }
        if !graves.is_empty() {
            // Millions of keys may be freed here.
            runtime::spawn(async move { runtime::blocking(move || drop(graves)).await });
        }
    }

    /// Whether nothing may be executed now.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled.get()
    }

    /// Takes the open batch to the log. `false`: the log is behind, the batch stays open and nothing may be added.
    pub(super) fn propose(&self) -> bool {
        let mut shard = self.shard.borrow_mut();
        let Some(batch) = shard.take_batch() else { return true };
        let bytes = batch.len() as u64;
        match self.log.propose(self.group, batch.clone()) {
            Ok(index) => {
                shard.proposed(index.0);
                drop(batch);
                self.log_bytes.set(self.log_bytes.get() + bytes);
                if self.log_bytes.get() >= self.checkpoint_after(&shard) {
                    self.checkpoint.notify_one();
                }
                true
            }
            Err(replog::Error::Full) => {
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
        let grown = self.log.stats().bytes - self.log_written.get();
        let enough = LOG_GROWTH_MAX * self.checkpoint_after(&self.shard.borrow());
        if self.log_bytes.get() > 0 && grown >= enough {
            self.checkpoint.notify_one();
        }
    }

    /// Waits until the open batch is in the log and nothing is stalled.
    pub(super) async fn propose_all(&self) {
        while !self.propose() {
            let bytes = self.shard.borrow().batch().map_or(0, <[u8]>::len);
            if let Err(error) = self.log.room_for(bytes).await {
                tracing::error!(%error, "cannot wait for the log");
                self.shard.borrow_mut().refused();
                self.settled.notify_all();
            }
        }
        if self.stalled.replace(false) {
            self.unstalled.notify_all();
        }
    }

    /// Proposes what was written, at the end of each turn.
    pub(super) async fn propose_each_turn(self: Rc<Self>) {
        loop {
            self.written.notified().await;
            runtime::turn_end().await;
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
