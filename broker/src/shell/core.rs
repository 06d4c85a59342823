//! What one core has: its shards, its copy of the topic table, its side of the mail.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use ops::Stop;

use super::controller::Controller;
use super::mail::Post;
use super::shard::Shard;
use super::stored::Layout;
use crate::Config;
use crate::core::api::Identity;
use crate::core::topics::Topics;
use crate::metrics::Metrics;

/// What all cores share; nothing in it is locked.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    pub(crate) metrics: Metrics,
    pub(crate) stop: Stop,
    pub(crate) layout: Layout,
    pub(crate) cores: usize,
    pub(crate) started: Instant,
    pub(crate) connections: AtomicUsize,
    /// Bytes of requests that are arriving or being answered, and of records on their way to clients.
    pub(crate) buffered_bytes: AtomicUsize,
    /// Shards whose disk has no room for more of their log.
    pub(crate) full_shards: Box<[AtomicBool]>,
}

impl Shared {
    /// Milliseconds since the broker started: the groups' clock.
    pub(crate) fn uptime_ms(&self) -> u64 {
        u64::try_from(runtime::time::turn_now().saturating_duration_since(self.started).as_millis())
            .unwrap_or(u64::MAX)
    }

    /// The shard that has this partition.
    pub(crate) fn shard_of(&self, uid: u64) -> usize {
        usize::try_from(uid % self.layout.shards as u64).unwrap_or(0)
    }

    /// The shard that has this group.
    pub(crate) fn shard_of_group(&self, group: &str) -> usize {
        crc32c::crc32c(group.as_bytes()) as usize % self.layout.shards
    }

    /// The core that has this shard.
    pub(crate) fn core_of(&self, shard: usize) -> usize {
        shard % self.cores
    }
}

/// Bytes of a request or an answer, counted while they are in memory.
pub(crate) struct Reservation {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Reservation {
    /// Counts `bytes`, unless that would exceed `buffered_bytes_max`.
    pub(crate) fn take(shared: &Arc<Shared>, bytes: usize) -> Option<Self> {
        let before = shared.buffered_bytes.fetch_add(bytes, Ordering::Relaxed);
        let reservation = Self { shared: shared.clone(), bytes };
        (before + bytes <= shared.config.buffered_bytes_max).then_some(reservation)
    }
}

impl std::fmt::Debug for Reservation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.bytes)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shared.buffered_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// One core.
pub(crate) struct Core {
    pub(crate) id: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) post: Post,
    pub(crate) shards: RefCell<BTreeMap<usize, Rc<Shard>>>,
    pub(crate) topics: RefCell<Arc<Topics>>,
    /// On the core of shard 0.
    pub(crate) controller: RefCell<Option<Rc<Controller>>>,
    /// Producer ids this core may give out: next, end.
    pub(crate) producer_ids: Cell<(i64, i64)>,
}

impl Core {
    pub(crate) fn new(id: usize, shared: Arc<Shared>, post: Post) -> Rc<Self> {
        Rc::new(Self {
            id,
            shared,
            post,
            shards: RefCell::default(),
            topics: RefCell::default(),
            controller: RefCell::default(),
            producer_ids: Cell::new((0, 0)),
        })
    }

    /// The topic table as this core knows it.
    pub(crate) fn topics(&self) -> Arc<Topics> {
        self.topics.borrow().clone()
    }

    /// One of this core's shards.
    ///
    /// # Panics
    /// When it is another core's: the sender asked the wrong one.
    pub(crate) fn shard(&self, id: usize) -> Rc<Shard> {
        self.shards.borrow().get(&id).expect("a shard is asked for on its own core").clone()
    }

    /// A newer topic table: partitions come and go.
    pub(crate) fn adopt(&self, topics: &Arc<Topics>) {
        if topics.version() < self.topics.borrow().version() {
            return;
        }
        let before = self.topics.replace(topics.clone());
        let is_gone = before.iter().any(|topic| topics.get(&topic.name).is_none());
        let shards: Vec<Rc<Shard>> = self.shards.borrow().values().cloned().collect();
        for shard in shards {
            shard.adopt(topics);
            if is_gone {
                shard.coordinator.forget_missing_topics(topics);
            }
        }
    }
}
