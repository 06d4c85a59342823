//! A shard: some partitions, some groups, and the write-ahead log they share.
//!
//! A produced batch is checked, given its offset and put into the log in one step without a wait, so that the order of
//! arrival is the order in the log. When the log has no room the batches queue, in order, and go on together.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use replog::{Index, Log};
use runtime::sync::Notify;
use wire::kafka::ResponseError;
use wire::kafka::batch::{self, Header};

use super::coordinator::Coordinator;
use super::core::Shared;
use super::partition::{Partition, Read, log_group};
use super::slot::Slot;
use super::stored::{Checkpoint, Place};
use crate::core::api::produce::{self, Appended, Outcome};
use crate::core::api::{LEADER_EPOCH, Refusal};
use crate::core::log::PartitionLog;
use crate::core::producers::{Producers, Verdict};
use crate::core::topics::Topics;

/// Bytes that may be durable in the write-ahead log and not yet written to segments; produce requests wait at that.
pub(crate) const UNWRITTEN_BYTES_MAX: usize = 64 * 1024 * 1024;

/// See the module.
pub(crate) struct Shard {
    pub(crate) id: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) dir: PathBuf,
    pub(crate) log: Log,
    pub(crate) coordinator: Rc<Coordinator>,
    pub(crate) partitions: RefCell<HashMap<u64, Rc<Partition>>>,
    /// Deleted, their folders not yet.
    pub(crate) condemned: RefCell<Vec<Rc<Partition>>>,
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
    /// Somebody is writing it.
    pub(crate) checkpointing: Cell<bool>,
    pub(crate) checkpointed: Notify,
    this: Weak<Self>,
}

/// A batch on its way into the log.
struct Queued {
    partition: Rc<Partition>,
    header: Header,
    records: Bytes,
    slot: Slot<Result<Proposed, Refusal>>,
}

/// A batch in the log; durable once `wait` is committed.
#[derive(Debug, Clone, Copy)]
struct Proposed {
    base_offset: i64,
    wait: Option<Index>,
    records: i32,
    bytes: usize,
}

/// A produced batch, later: what became of it.
pub(crate) struct Ticket {
    partition: Option<Rc<Partition>>,
    slot: Slot<Result<Proposed, Refusal>>,
}

impl Shard {
    pub(crate) fn new(
        id: usize,
        shared: Arc<Shared>,
        dir: PathBuf,
        log: Log,
        coordinator: Rc<Coordinator>,
        checkpoint: Checkpoint,
    ) -> Rc<Self> {
        Rc::new_cyclic(|this| Self {
            id,
            shared,
            dir,
            log,
            coordinator,
            partitions: RefCell::default(),
            condemned: RefCell::default(),
            dirty: RefCell::default(),
            flush: Notify::new(),
            unwritten_bytes: Cell::new(0),
            room: Notify::new(),
            queue: RefCell::default(),
            pumping: Cell::new(false),
            checkpoint: RefCell::new(checkpoint),
            checkpointing: Cell::new(false),
            checkpointed: Notify::new(),
            this: this.clone(),
        })
    }

    /// The folder of a partition's segments.
    pub(crate) fn partition_dir(&self, topic: &str, index: usize, uid: u64) -> PathBuf {
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
        let (weak, this) = (Rc::downgrade(&partition), self.this.clone());
        self.log.on_commit(log_group(partition.uid), move |index| {
            if let (Some(partition), Some(shard)) = (weak.upgrade(), this.upgrade())
                && partition.on_commit(index)
            {
                shard.dirty.borrow_mut().insert(partition.uid);
                shard.flush.notify_one();
            }
        });
        partition
    }

    /// The topic table changed: partitions come, go, or have new settings.
    pub(crate) fn adopt(&self, topics: &Topics) {
        let defaults = self.shared.config.defaults();
        let mut wanted = BTreeSet::new();
        for topic in topics.iter() {
            for (index, &uid) in topic.partitions.iter().enumerate() {
                if self.shared.shard_of(uid) != self.id {
                    continue;
                }
                wanted.insert(uid);
                let partition = self.partition(uid).unwrap_or_else(|| {
                    let dir = self.partition_dir(&topic.name, index, uid);
                    self.insert(Partition::new(uid, &dir, PartitionLog::new(0, vec![], Producers::default())))
                });
                partition.configure(topic, &defaults);
            }
        }
        let gone: Vec<u64> =
            self.partitions.borrow().keys().filter(|uid| !wanted.contains(uid)).copied().collect();
        for uid in gone {
            let partition = self.partitions.borrow_mut().remove(&uid);
            if let Some(partition) = partition {
                self.shared.metrics.partitions.dec();
                partition.gone.set(true);
                partition.wake();
                self.condemned.borrow_mut().push(partition);
            }
        }
    }

    /// Takes produced batches, in order; each ticket says what became of one.
    pub(crate) fn produce(&self, batches: Vec<(u64, Bytes)>) -> Vec<Ticket> {
        let mut tickets = Vec::with_capacity(batches.len());
        for (uid, records) in batches {
            let slot = Slot::new();
            let partition = self.partition(uid);
            tickets.push(Ticket { partition: partition.clone(), slot: slot.clone() });
            let Some(partition) = partition else {
                slot.give(Err(Refusal::new(ResponseError::UnknownTopicOrPartition, "the topic is gone")));
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
        tickets
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
                Ok(proposed) => queued.slot.give(Ok(proposed)),
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
        // A closed log says so at the next proposal.
        let _ = self.log.room().await;
    }

    fn propose(&self, queued: &Queued) -> Result<Proposed, Stuck> {
        let Queued { partition, header, records, .. } = queued;
        if partition.gone.get() {
            let refusal = Refusal::new(ResponseError::UnknownTopicOrPartition, "the topic is gone");
            return Err(Stuck::Refused(refusal));
        }
        let mut log = partition.log.borrow_mut();
        let verdict = log.check(header).map_err(|e| Stuck::Refused(produce::refuse_sequence(e)))?;
        if let Verdict::Duplicate { base_offset, last_offset } = verdict {
            let wait = log.index_of_uncommitted(last_offset).map(Index);
            return Ok(Proposed { base_offset, wait, records: 0, bytes: 0 });
        }
        if self.unwritten_bytes.get() > UNWRITTEN_BYTES_MAX {
            return Err(Stuck::Full);
        }
        let base_offset = log.log_end();
        let mut bytes = BytesMut::from(&records[..]);
        batch::set_base_offset(&mut bytes, base_offset);
        batch::set_leader_epoch(&mut bytes, LEADER_EPOCH);
        let bytes = bytes.freeze();
        let index = self.log.propose(log_group(partition.uid), bytes.clone()).map_err(Stuck::from)?;
        let header = Header { base_offset, leader_epoch: LEADER_EPOCH, ..*header };
        log.append(index.0, header, bytes);
        partition.logged(index, log.log_end());
        self.count_unwritten(records.len() as i64);
        Ok(Proposed { base_offset, wait: Some(index), records: header.record_count, bytes: records.len() })
    }

    /// Bytes that came, or went to segments.
    pub(crate) fn count_unwritten(&self, bytes: i64) {
        let now = i64::try_from(self.unwritten_bytes.get()).unwrap_or(i64::MAX) + bytes;
        self.unwritten_bytes.set(usize::try_from(now).unwrap_or(0));
        self.shared.metrics.unwritten_bytes.inc_by(bytes);
    }

    /// What became of a batch, once it is durable.
    pub(crate) async fn finish(&self, ticket: Ticket) -> Outcome {
        let proposed = ticket.slot.await?;
        let Some(partition) = ticket.partition else {
            return Err(Refusal::new(ResponseError::UnknownTopicOrPartition, "the topic is gone"));
        };
        if let Some(index) = proposed.wait {
            self.log
                .wait_committed(log_group(partition.uid), index)
                .await
                .map_err(|e| Refusal::new(ResponseError::KafkaStorageError, e.to_string()))?;
        }
        let metrics = &self.shared.metrics;
        metrics.produced_records.inc_by(u64::try_from(proposed.records).unwrap_or(0));
        metrics.produced_bytes.inc_by(proposed.bytes as u64);
        let log_start = partition.log.borrow().log_start();
        Ok(Appended { base_offset: proposed.base_offset, log_start })
    }

    /// Reads several partitions, each `(uid, offset, bytes at most)`, until `bytes_max` bytes are there in all.
    pub(crate) async fn read(&self, parts: Vec<(u64, i64, usize)>, bytes_max: usize) -> Vec<Read> {
        let mut reads = Vec::with_capacity(parts.len());
        let mut total = 0;
        for (uid, offset, partition_bytes_max) in parts {
            let Some(partition) = self.partition(uid) else {
                reads.push(Read {
                    error: Some(ResponseError::UnknownTopicOrPartition),
                    high_watermark: -1,
                    log_start: -1,
                    records: Vec::new(),
                    reserved: None,
                    from_file: false,
                });
                continue;
            };
            let left = bytes_max.saturating_sub(total);
            let wanted = (total == 0 || left > 0).then_some(partition_bytes_max.min(left));
            let mut read = partition.read(&self.shared, offset, wanted).await;
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
        let place = |p: &Rc<Partition>| -> (u64, Place) { (p.uid, p.place()) };
        Checkpoint { partitions: self.partitions.borrow().values().map(place).collect() }
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
        let code = match &error {
            replog::Error::Full => return Self::Full,
            replog::Error::TooLarge { .. } => ResponseError::MessageTooLarge,
            _ => ResponseError::KafkaStorageError,
        };
        Self::Refused(Refusal::new(code, error.to_string()))
    }
}
