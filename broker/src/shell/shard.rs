//! A shard: some partitions, some coordinators, and the write-ahead log that their replicated logs share.
//!
//! A produced batch is checked, given its offset and proposed in one step without a wait, so that the order of arrival is
//! the order in the log. When the log has no room the batches queue, in order, and go on together.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use replog::{GroupId, Index, Replicas, Role, StateMachine};
use runtime::sync::Notify;
use wire::kafka::ResponseError;
use wire::kafka::batch::{self, Header};

use super::coordinator::{self, Coordinator};
use super::core::{self, Shared};
use super::machine::{Buried, PartitionMachine};
use super::partition::{Partition, Read, log_group, uid_of};
use super::slot::Slot;
use super::stored::{Checkpoint, Place};
use super::turns::Turns;
use crate::Error;
use crate::core::api::Refusal;
use crate::core::api::produce::{self, Appended, Outcome};
use crate::core::entry::Entry;
use crate::core::log::PartitionLog;
use crate::core::producers::{Producers, Verdict};
use crate::core::topics::{Topic, Topics};

/// Bytes that may be committed and not yet written to segments; produce requests wait at that.
pub(crate) const UNWRITTEN_BYTES_MAX: usize = 64 * 1024 * 1024;

/// See the module.
pub(crate) struct Shard {
    pub(crate) id: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) dir: PathBuf,
    replicas: OnceCell<Replicas>,
    /// By their numbers in the cluster.
    pub(crate) coordinators: BTreeMap<usize, Rc<Coordinator>>,
    pub(crate) partitions: RefCell<HashMap<u64, Rc<Partition>>>,
    /// Deleted, their folders not yet.
    pub(crate) condemned: RefCell<Vec<Rc<Partition>>>,
    /// Deleted, their replicated logs not yet.
    pub(crate) buried: RefCell<BTreeSet<u64>>,
    /// Have committed batches to write.
    pub(crate) dirty: RefCell<BTreeSet<u64>>,
    pub(crate) flush: Notify,
    pub(crate) unwritten_bytes: Cell<usize>,
    /// Produced batches may go on.
    pub(crate) room: Notify,
    queue: RefCell<VecDeque<Queued>>,
    pumping: Cell<bool>,
    /// What the checkpoint on disk says.
    pub(crate) checkpoint: RefCell<Checkpoint>,
    /// Whoever writes it takes its turn.
    pub(crate) checkpointing: Turns,
    /// An entry and the segments do not belong together: the broker must end.
    pub(crate) fault: RefCell<Option<Error>>,
    this: Weak<Self>,
}

/// A batch on its way into the log.
struct Queued {
    partition: Rc<Partition>,
    header: Header,
    records: Bytes,
    slot: Slot<Outcome>,
}

impl Shard {
    /// Without its log, and without partitions.
    pub(crate) fn new(
        id: usize,
        shared: Arc<Shared>,
        dir: PathBuf,
        coordinators: BTreeMap<usize, Rc<Coordinator>>,
        checkpoint: Checkpoint,
    ) -> Rc<Self> {
        Rc::new_cyclic(|this| Self {
            id,
            shared,
            dir,
            replicas: OnceCell::new(),
            coordinators,
            partitions: RefCell::default(),
            condemned: RefCell::default(),
            buried: RefCell::new(checkpoint.buried.keys().copied().collect()),
            dirty: RefCell::default(),
            flush: Notify::new(),
            unwritten_bytes: Cell::new(0),
            room: Notify::new(),
            queue: RefCell::default(),
            pumping: Cell::new(false),
            checkpoint: RefCell::new(checkpoint),
            checkpointing: Turns::default(),
            fault: RefCell::default(),
            this: this.clone(),
        })
    }

    /// The log is open.
    pub(crate) fn set_replicas(&self, replicas: Replicas) {
        assert!(self.replicas.set(replicas).is_ok(), "a log is opened once");
    }

    /// The replicated logs.
    ///
    /// # Panics
    /// Before they are open.
    pub(crate) fn replicas(&self) -> &Replicas {
        self.replicas.get().expect("the logs are open before anything is asked of them")
    }

    /// One of this shard's coordinators.
    ///
    /// # Panics
    /// When it is another shard's: the sender asked the wrong one.
    pub(crate) fn coordinator(&self, number: usize) -> &Rc<Coordinator> {
        self.coordinators.get(&number).expect("a coordinator is asked for on its own shard")
    }

    /// The folder of a partition's segments.
    fn partition_dir(&self, topic: &str, index: usize, uid: u64) -> PathBuf {
        self.shared.config.data.join("partitions").join(format!("{topic}-{index}.{uid}"))
    }

    pub(crate) fn partition(&self, uid: u64) -> Option<Rc<Partition>> {
        self.partitions.borrow().get(&uid).cloned()
    }

    /// Takes a partition in, recovered or new.
    pub(crate) fn insert(&self, partition: Partition) -> Rc<Partition> {
        let partition = Rc::new(partition);
        self.partitions.borrow_mut().insert(partition.uid, partition.clone());
        self.shared.metrics.partitions.inc();
        partition
    }

    /// The state machine of a group that was found in the log.
    pub(crate) fn machine(&self, group: GroupId) -> Box<dyn StateMachine> {
        if let Some(machine) = coordinator::number_of(group).and_then(|n| self.coordinators.get(&n)) {
            return Box::new(coordinator::Machine(machine.clone()));
        }
        let uid = uid_of(group).expect("the log has only groups that the broker has made");
        if let Some(durable) = self.checkpoint.borrow().buried.get(&uid) {
            return Box::new(Buried { durable: Index(*durable) });
        }
        // Nothing of it was ever written to segments, if it is not there yet.
        let partition = self.partition(uid).unwrap_or_else(|| self.insert(empty(uid, None)));
        Box::new(PartitionMachine { partition, shard: self.this.clone() })
    }

    /// A committed entry of one of the partitions.
    pub(crate) fn apply(&self, partition: &Rc<Partition>, index: Index, entry: &Bytes) {
        match partition.apply(index, entry) {
            Ok(applied) => {
                if applied.bytes > 0 {
                    self.count_unwritten(i64::try_from(applied.bytes).unwrap_or(i64::MAX));
                    self.dirty.borrow_mut().insert(partition.uid);
                    self.flush.notify_one();
                }
                if applied.produced_records > 0 {
                    let metrics = &self.shared.metrics;
                    metrics.produced_records.inc_by(u64::try_from(applied.produced_records).unwrap_or(0));
                    metrics.produced_bytes.inc_by(applied.bytes as u64);
                }
            }
            Err(what) => {
                let path = match partition.files.has_folder() {
                    true => partition.files.dir().to_owned(),
                    false => self.dir.clone(),
                };
                self.fault.borrow_mut().get_or_insert(Error::Corrupt { path, what });
                self.flush.notify_one();
            }
        }
    }

    /// What went wrong when entries were applied.
    ///
    /// # Errors
    /// That.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.fault.take().map_or(Ok(()), Err)
    }

    /// This node's role in a partition has changed.
    pub(crate) fn set_role(&self, partition: &Rc<Partition>, role: Role) {
        partition.set_role(role);
        if !role.leads {
            return;
        }
        let (partition, replicas) = (partition.clone(), self.replicas().clone());
        runtime::spawn(async move {
            if partition.leading.caught_up(&replicas, log_group(partition.uid), role).await {
                partition.lead();
            }
        });
    }

    /// The topic table changed: partitions come, go, or have new settings. Gives those that are new.
    pub(crate) fn adopt(&self, topics: &Topics) -> Vec<Rc<Partition>> {
        let mut wanted = BTreeSet::new();
        let mut fresh = Vec::new();
        for topic in topics.iter() {
            for (index, &uid) in topic.partitions.iter().enumerate() {
                let here = topic.replicas[index].contains(&self.shared.identity.node_id);
                if here && self.shared.shard_of(uid) == self.id {
                    wanted.insert(uid);
                    fresh.extend(self.take_in(topic, index, uid));
                }
            }
        }
        // Those that the table does not know of yet stay.
        let is_gone = |uid: &&u64| !wanted.contains(uid) && topics.has_known(**uid);
        let gone: Vec<u64> = self.partitions.borrow().keys().filter(is_gone).copied().collect();
        for uid in gone {
            let partition = self.partitions.borrow_mut().remove(&uid);
            if let Some(partition) = partition {
                self.shared.metrics.partitions.dec();
                partition.gone.set(true);
                partition.wake();
                self.condemned.borrow_mut().push(partition);
            }
        }
        fresh
    }

    /// Sees to it that a partition of the table is here; gives it if its replicated group is new.
    fn take_in(&self, topic: &Topic, index: usize, uid: u64) -> Option<Rc<Partition>> {
        let dir = || self.partition_dir(&topic.name, index, uid);
        let partition = self.partition(uid).unwrap_or_else(|| self.insert(empty(uid, Some(dir()))));
        partition.files.settle_in(dir);
        partition.configure(topic, &self.shared.config.defaults());
        let (replicas, group) = (self.replicas(), log_group(uid));
        if replicas.members(group).is_some() {
            return None;
        }
        let machine = Box::new(PartitionMachine { partition: partition.clone(), shard: self.this.clone() });
        let members = core::voters(topic.replicas[index].iter().copied());
        if let Err(error) = replicas.found(group, members, machine) {
            tracing::error!(topic = topic.name, partition = index, %error, "a partition can't be founded");
            return None;
        }
        Some(partition)
    }

    /// Takes produced batches, in order; each slot says what became of one.
    pub(crate) fn produce(&self, batches: Vec<(u64, Bytes)>) -> Vec<Slot<Outcome>> {
        let mut outcomes = Vec::with_capacity(batches.len());
        for (uid, records) in batches {
            let slot = Slot::new();
            outcomes.push(slot.clone());
            let Some(partition) = self.partition(uid) else {
                slot.give(Err(Refusal::new(self.shared.absent(), "the partition is not on this node")));
                continue;
            };
            match produce::validate(&records, partition.message_bytes_max.get()) {
                Ok(header) => self.queue.borrow_mut().push_back(Queued { partition, header, records, slot }),
                Err(refusal) => {
                    self.shared.metrics.refused_batches.inc();
                    slot.give(Err(refusal));
                }
            }
        }
        self.pump();
        outcomes
    }

    /// Moves queued batches into the log while it has room; otherwise sees to it that somebody does later.
    fn pump(&self) {
        if self.pumping.get() {
            return;
        }
        loop {
            let next = self.queue.borrow_mut().pop_front();
            let Some(queued) = next else { return };
            match self.propose(&queued) {
                Ok(()) => {}
                Err(Stuck::Refused(refusal)) => queued.slot.give(Err(refusal)),
                Err(Stuck::Full) => {
                    self.queue.borrow_mut().push_front(queued);
                    self.pumping.set(true);
                    let this = self.this.clone();
                    runtime::spawn(async move {
                        if let Some(shard) = this.upgrade() {
                            shard.wait_for_room().await;
                            shard.pumping.set(false);
                            shard.pump();
                        }
                    });
                    return;
                }
            }
        }
    }

    async fn wait_for_room(&self) {
        while self.unwritten_bytes.get() > UNWRITTEN_BYTES_MAX {
            self.room.notified().await;
        }
        let bytes = self.queue.borrow().front().map_or(0, |queued| queued.records.len());
        // A closed log says so at the next proposal.
        let _ = self.replicas().room_for(bytes).await;
    }

    /// Proposes a batch, or finds out that it need not be; its slot is told later, unless there is an error.
    fn propose(&self, queued: &Queued) -> Result<(), Stuck> {
        let Queued { partition, header, records, slot } = queued;
        if partition.gone.get() {
            let refusal = Refusal::new(ResponseError::UnknownTopicOrPartition, "the topic is gone");
            return Err(Stuck::Refused(refusal));
        }
        let full = self.unwritten_bytes.get() > UNWRITTEN_BYTES_MAX;
        let proposed = partition.with_ahead(|ahead| {
            let log = partition.log.borrow();
            let verdict = ahead.check(log.producers(), header);
            match verdict.map_err(|e| Stuck::Refused(produce::refuse_sequence(e)))? {
                Verdict::Duplicate { base_offset, last_offset } => {
                    if ahead.wait_for(last_offset, slot.clone()).is_some() {
                        slot.give(Ok(Appended { base_offset, log_start: log.log_start() }));
                    }
                    return Ok(());
                }
                Verdict::Append if full => return Err(Stuck::Full),
                Verdict::Append => {}
            }
            let header = Header { base_offset: ahead.next_offset(), leader_epoch: ahead.epoch(), ..*header };
            let mut bytes = BytesMut::from(&records[..]);
            batch::set_base_offset(&mut bytes, header.base_offset);
            batch::set_leader_epoch(&mut bytes, header.leader_epoch);
            let bytes = bytes.freeze();
            let group = log_group(partition.uid);
            let proposal = self.replicas().propose(group, bytes.clone()).map_err(Stuck::from)?;
            ahead.proposed(log.producers(), proposal.index.0, header, bytes, slot.clone());
            Ok(())
        });
        proposed.unwrap_or_else(|| Err(Stuck::Refused(not_leader())))
    }

    /// DeleteRecords: nothing below `offset` is read any more; −1 means the high watermark. Gives the new log start, once it is
    /// committed.
    pub(crate) async fn delete_before(
        &self,
        partition: &Rc<Partition>,
        offset: i64,
    ) -> Result<i64, ResponseError> {
        partition.check_leads(-1)?;
        let high_watermark = partition.log.borrow().high_watermark();
        let offset = if offset == -1 { high_watermark } else { offset };
        if offset < 0 || offset > high_watermark {
            return Err(ResponseError::OffsetOutOfRange);
        }
        let proposed = propose(self.replicas(), log_group(partition.uid), Entry::delete_before(offset)).await;
        proposed.map_err(|error| Stuck::refuse(&error).error)?;
        Ok(partition.log.borrow().log_start())
    }

    /// Bytes that came, or went to segments.
    pub(crate) fn count_unwritten(&self, bytes: i64) {
        let now = i64::try_from(self.unwritten_bytes.get()).unwrap_or(i64::MAX) + bytes;
        self.unwritten_bytes.set(usize::try_from(now).unwrap_or(0));
        self.shared.metrics.unwritten_bytes.inc_by(bytes);
    }

    /// Reads several partitions, until `bytes_max` bytes are there in all.
    pub(crate) async fn read(&self, parts: Vec<Part>, bytes_max: usize) -> Vec<Read> {
        let mut reads = Vec::with_capacity(parts.len());
        let mut total = 0;
        for part in parts {
            let Some(partition) = self.partition(part.uid) else {
                reads.push(Read::failed(self.shared.absent()));
                continue;
            };
            let left = bytes_max.saturating_sub(total);
            let wanted = (total == 0 || left > 0).then_some(part.bytes_max.min(left));
            let mut read = partition.read(&self.shared, part.epoch, part.offset, wanted).await;
            let bytes: usize = read.records.iter().map(Bytes::len).sum();
            if total > 0 && total + bytes > bytes_max {
                read.records.clear();
                read.reserved = None;
            } else {
                total += bytes;
            }
            if read.from_file {
                self.shared.metrics.file_reads.inc();
            }
            reads.push(read);
        }
        reads
    }

    /// Resolves when one of the partitions has records beyond what was seen, or is gone.
    pub(crate) async fn wait_moved(&self, seen: Vec<(u64, i64)>) {
        let mut watch = Watch { partitions: Vec::with_capacity(seen.len()), waiter: Slot::new() };
        for (uid, high_watermark) in seen {
            match self.partition(uid) {
                Some(partition) if !partition.has_moved(high_watermark) => {
                    partition.watch(&watch.waiter);
                    watch.partitions.push(partition);
                }
                _ => return,
            }
        }
        let waiter = watch.waiter.clone();
        waiter.await;
    }

    /// What the checkpoint is to say.
    pub(crate) fn places(&self) -> Checkpoint {
        let applied = |uid: u64| applied(self.replicas(), log_group(uid));
        let place = |p: &Rc<Partition>| -> (u64, Place) { (p.uid, p.settle(applied(p.uid))) };
        let partitions = self.partitions.borrow().values().map(place).collect();
        let buried = self.buried.borrow().iter().map(|uid| (*uid, applied(*uid).0)).collect();
        Checkpoint { partitions, buried }
    }
}

/// A part of a Fetch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) uid: u64,
    /// In which the client believes this node to lead; −1 when it doesn't say.
    pub(crate) epoch: i32,
    pub(crate) offset: i64,
    pub(crate) bytes_max: usize,
}

fn empty(uid: u64, dir: Option<PathBuf>) -> Partition {
    Partition::new(uid, dir, Place::default(), PartitionLog::new(0, vec![], Producers::default()))
}

fn not_leader() -> Refusal {
    Refusal::new(ResponseError::NotLeaderOrFollower, "this node does not lead the partition")
}

/// Up to where a group is applied, the log's own entries too.
pub(crate) fn applied(replicas: &Replicas, group: GroupId) -> Index {
    replicas.group_stats(group).map(|stats| stats.applied).unwrap_or_default()
}

/// Proposes an entry, waiting for room if need be, and waits until it is applied.
pub(crate) async fn propose(
    replicas: &Replicas,
    group: GroupId,
    entry: impl Into<Bytes>,
) -> Result<Index, replog::Error> {
    let entry = entry.into();
    loop {
        match replicas.propose(group, entry.clone()) {
            Ok(proposal) => return proposal.applied().await,
            Err(replog::Error::Full) => replicas.room_for(entry.len()).await?,
            Err(error) => return Err(error),
        }
    }
}

/// Takes a long poll off its partitions, however it ends.
struct Watch {
    partitions: Vec<Rc<Partition>>,
    waiter: Slot<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        for partition in &self.partitions {
            partition.unwatch(&self.waiter);
        }
    }
}

enum Stuck {
    Full,
    Refused(Refusal),
}

impl From<replog::Error> for Stuck {
    fn from(error: replog::Error) -> Self {
        if matches!(error, replog::Error::Full) { Self::Full } else { Self::Refused(Self::refuse(&error)) }
    }
}

impl Stuck {
    /// What a client is told of an error of the replicated log.
    fn refuse(error: &replog::Error) -> Refusal {
        let code = match error {
            replog::Error::TooLarge { .. } => ResponseError::MessageTooLarge,
            replog::Error::NotLeader { .. } | replog::Error::Refused { .. } | replog::Error::Lost { .. } => {
                ResponseError::NotLeaderOrFollower
            }
            replog::Error::Unknown { .. } => ResponseError::NotEnoughReplicasAfterAppend,
            _ => ResponseError::KafkaStorageError,
        };
        Refusal::new(code, error.to_string())
    }
}
