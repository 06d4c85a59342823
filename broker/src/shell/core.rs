//! What one core has: its shards, its copy of the topic table, its side of the mail.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use ops::Stop;
use replog::{Members, NodeId};
use runtime::time;

use wire::kafka::ResponseError;

use super::controller::Controller;
use super::mail::Post;
use super::shard::Shard;
use super::stored::Layout;
use crate::Config;
use crate::core::api::Identity;
use crate::core::topics::{Topic, Topics};
use crate::metrics::Metrics;

/// How long the answer to whoever makes a partition waits for its leader.
const LED_WITHIN: Duration = Duration::from_secs(2);

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

    /// The coordinator that has this consumer group: the same on all nodes.
    pub(crate) fn coordinator_of(&self, group: &str) -> usize {
        crc32c::crc32c(group.as_bytes()) as usize % self.layout.coordinators
    }

    /// What to say of a partition that is in the table and not here.
    pub(crate) fn absent(&self) -> ResponseError {
        match self.identity.nodes.len() {
            // It is about to come, or to go.
            1 => ResponseError::UnknownTopicOrPartition,
            _ => ResponseError::NotLeaderOrFollower,
        }
    }

    /// Those that keep what every node keeps: the topic table, and what groups have committed.
    pub(crate) fn all_nodes(&self) -> Members {
        voters(self.identity.ids())
    }

    /// The shard that has this coordinator.
    pub(crate) fn shard_of_coordinator(&self, coordinator: usize) -> usize {
        coordinator % self.layout.shards
    }

    /// The core that has this shard.
    pub(crate) fn core_of(&self, shard: usize) -> usize {
        shard % self.cores
    }
}

/// Nodes as the voters of a group.
pub(crate) fn voters(nodes: impl IntoIterator<Item = i32>) -> Members {
    Members::voters(nodes.into_iter().map(|node| NodeId(u64::try_from(node).unwrap_or(0))))
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

    /// A newer topic table: partitions come and go. Those that come have a leader when this resolves, unless that takes too long.
    pub(crate) async fn adopt(&self, topics: &Arc<Topics>) {
        if topics.version() < self.topics.borrow().version() {
            return;
        }
        let before = self.topics.replace(topics.clone());
        let is_gone = |topic: &&Arc<Topic>| topics.get(&topic.name).is_none_or(|now| now.id != topic.id);
        let gone: Vec<&str> = before.iter().filter(is_gone).map(|topic| &*topic.name).collect();
        let shards: Vec<Rc<Shard>> = self.shards.borrow().values().cloned().collect();
        let mut fresh = Vec::new();
        for shard in shards {
            fresh.append(&mut shard.adopt(topics));
            for coordinator in shard.coordinators.values() {
                coordinator.forget_topics(gone.iter().copied());
            }
        }
        // On a full disk it may take longer, and then clients are told to try again.
        let me = self.shared.identity.node_id;
        let led = join_all(fresh.iter().map(|partition| partition.leading.led(me)));
        let _ = time::timeout(LED_WITHIN, led).await;
    }
}
