//! One partition on its core: its log, its files, its part in the replicated log, who waits for it.
//!
//! Always holds: `log` has what is committed, and nothing else is read or written to files; `ahead` is there as long as this
//! node acts as the leader, and only then are batches taken.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use replog::{GroupId, Index, Role, Term};
use wire::kafka::ResponseError;

use super::core::{Reservation, Shared};
use super::leading::Leading;
use super::segment_files::SegmentFiles;
use super::slot::Slot;
use super::stored::Place;
use super::turns::Turns;
use crate::core::ahead::Ahead;
use crate::core::api::Refusal;
use crate::core::api::produce::{Appended, Outcome};
use crate::core::entry::Entry;
use crate::core::log::scan::{self, Selected};
use crate::core::log::{FileRegion, PartitionLog, ReadPlan, Retention, TimePlan};
use crate::core::topic_config::{self, Defaults};
use crate::core::topics::Topic;

/// Partitions' replicated groups begin here; below are the broker's own.
const FIRST_GROUP: u64 = 64;

/// The partition's replicated group.
pub(crate) fn log_group(uid: u64) -> GroupId {
    GroupId(FIRST_GROUP + uid)
}

/// The partition that has this replicated group, if any.
pub(crate) fn uid_of(group: GroupId) -> Option<u64> {
    group.0.checked_sub(FIRST_GROUP)
}

/// The leader epoch of a term.
pub(crate) fn epoch_of(term: Term) -> i32 {
    i32::try_from(term.0).unwrap_or(i32::MAX)
}

/// See the module.
pub(crate) struct Partition {
    pub(crate) uid: u64,
    pub(crate) log: RefCell<PartitionLog>,
    pub(crate) files: SegmentFiles,
    /// Whoever changes the files takes its turn.
    pub(crate) writing: Turns,
    pub(crate) retention: Cell<Retention>,
    pub(crate) message_bytes_max: Cell<usize>,
    /// Its topic was deleted.
    pub(crate) gone: Cell<bool>,
    pub(crate) leading: Leading,
    ahead: RefCell<Option<Ahead<Slot<Outcome>>>>,
    /// Segments are synced up to here.
    pub(crate) synced_end: Cell<i64>,
    /// The segments and the checkpoint have everything up to this entry.
    durable: Cell<Index>,
    /// Later entries that are applied: index, offset after it.
    entries: RefCell<VecDeque<(Index, i64)>>,
    /// The file that says so lies in the folder: a snapshot was taken over, and the checkpoint may not know yet.
    pub(crate) installed: Cell<bool>,
    /// Long polls.
    waiters: RefCell<Vec<Slot<()>>>,
}

/// What an entry has brought.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Applied {
    /// Bytes that are to be written to segments.
    pub(crate) bytes: usize,
    /// Of them, records that were produced here.
    pub(crate) produced_records: i32,
}

/// What one partition answers to a read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) error: Option<ResponseError>,
    pub(crate) high_watermark: i64,
    pub(crate) log_start: i64,
    pub(crate) records: Vec<Bytes>,
    /// The memory that the records take.
    pub(crate) reserved: Option<Reservation>,
    pub(crate) from_file: bool,
}

impl Read {
    /// One that came to nothing.
    pub(crate) fn failed(error: ResponseError) -> Self {
        Self {
            error: Some(error),
            high_watermark: -1,
            log_start: -1,
            records: Vec::new(),
            reserved: None,
            from_file: false,
        }
    }
}

impl Partition {
    /// As found on disk; `place` is what the checkpoint says of it.
    pub(crate) fn new(uid: u64, dir: Option<PathBuf>, place: Place, log: PartitionLog) -> Self {
        let synced_end = log.written_end();
        Self {
            uid,
            log: RefCell::new(log),
            files: SegmentFiles::new(dir),
            writing: Turns::default(),
            retention: Cell::new(Retention {
                retention_ms: -1,
                retention_bytes: -1,
                segment_bytes: 0,
                segment_ms: 0,
            }),
            message_bytes_max: Cell::new(0),
            gone: Cell::new(false),
            leading: Leading::default(),
            ahead: RefCell::default(),
            synced_end: Cell::new(synced_end),
            durable: Cell::new(Index(place.index)),
            entries: RefCell::default(),
            installed: Cell::new(false),
            waiters: RefCell::default(),
        }
    }

    /// Everything up to this entry is in segments that are synced and in the checkpoint.
    pub(crate) fn durable(&self) -> Index {
        self.durable.get()
    }

    /// The topic's settings, now or changed.
    pub(crate) fn configure(&self, topic: &Topic, defaults: &Defaults) {
        self.retention.set(topic_config::retention(&topic.overrides, defaults));
        self.message_bytes_max.set(topic_config::message_bytes_max(&topic.overrides, defaults));
    }

    /// What the checkpoint is to say of it; everything up to `applied` is applied.
    pub(crate) fn settle(&self, applied: Index) -> Place {
        let mut entries = self.entries.borrow_mut();
        let synced_end = self.synced_end.get();
        while let Some((index, _)) = entries.front().copied().filter(|(_, end)| *end <= synced_end) {
            entries.pop_front();
            self.durable.set(index);
        }
        // Entries of the log's own leave nothing to be kept.
        if entries.is_empty() {
            self.durable.set(applied.max(self.durable.get()));
        }
        let log_start = self.log.borrow().log_start();
        Place { index: self.durable.get().0, log_start, synced_end }
    }

    /// Takes a committed entry.
    ///
    /// # Errors
    /// What is wrong with it: the log and the segments do not belong together.
    pub(crate) fn apply(&self, index: Index, entry: &Bytes) -> Result<Applied, String> {
        let own = self.with_ahead(|ahead| ahead.applied(index.0, entry)).flatten();
        let (header, bytes, waiting) = match own {
            Some(own) => own,
            None => {
                match Entry::read(entry).map_err(|e| format!("entry {index} of its replicated log is {e}"))? {
                    // A copy: it may lie in memory that is shared with many others.
                    Entry::Batch(header) => (header, Bytes::copy_from_slice(entry), Vec::new()),
                    Entry::DeleteBefore(offset) => {
                        let end = {
                            let mut log = self.log.borrow_mut();
                            log.delete_before(offset);
                            log.high_watermark()
                        };
                        self.entries.borrow_mut().push_back((index, end));
                        return Ok(Applied::default());
                    }
                }
            }
        };
        let mut applied = Applied::default();
        let (end, log_start) = {
            let mut log = self.log.borrow_mut();
            let end = log.high_watermark();
            if header.base_offset > end {
                return Err(format!("offsets {end} to {} are missing", header.base_offset));
            }
            // What lies in front was read from segments already.
            if header.base_offset == end {
                applied.bytes = bytes.len();
                log.append(header, bytes);
            }
            (log.high_watermark(), log.log_start())
        };
        self.entries.borrow_mut().push_back((index, end));
        if !waiting.is_empty() {
            applied.produced_records = header.record_count;
        }
        for slot in waiting {
            slot.give(Ok(Appended { base_offset: header.base_offset, log_start }));
        }
        self.wake();
        Ok(applied)
    }

    /// What is proposed and not applied, while this node acts as the leader.
    pub(crate) fn with_ahead<T>(&self, f: impl FnOnce(&mut Ahead<Slot<Outcome>>) -> T) -> Option<T> {
        self.ahead.borrow_mut().as_mut().map(f)
    }

    /// The leader epoch in which this node acts as the leader.
    ///
    /// # Errors
    /// NOT_LEADER_OR_FOLLOWER; FENCED_LEADER_EPOCH and UNKNOWN_LEADER_EPOCH when the client reckons with another one (−1 for
    /// none).
    pub(crate) fn check_leads(&self, epoch: i32) -> Result<i32, ResponseError> {
        let current = self.with_ahead(|ahead| ahead.epoch()).ok_or(ResponseError::NotLeaderOrFollower)?;
        match epoch {
            -1 => Ok(current),
            epoch if epoch < current => Err(ResponseError::FencedLeaderEpoch),
            epoch if epoch > current => Err(ResponseError::UnknownLeaderEpoch),
            _ => Ok(current),
        }
    }

    /// This node's role has changed: what it has proposed, it may not answer any more.
    pub(crate) fn set_role(&self, role: Role) {
        self.leading.set_role(role);
        let ahead = self.ahead.take();
        for slot in ahead.into_iter().flat_map(Ahead::give_up) {
            let message = "the partition has another leader, or will have; the batch may be there yet";
            slot.give(Err(Refusal::new(ResponseError::NotLeaderOrFollower, message)));
        }
        self.wake();
    }

    /// Everything that earlier leaders have committed is applied: this node acts as the leader.
    pub(crate) fn lead(&self) {
        let epoch = epoch_of(self.leading.role().term);
        let end = self.log.borrow().high_watermark();
        *self.ahead.borrow_mut() = Some(Ahead::new(epoch, end));
        self.leading.begin();
    }

    /// A snapshot has taken the place of everything, up to entry `index`.
    pub(crate) fn restore(&self, index: Index, log: PartitionLog) {
        self.synced_end.set(log.written_end());
        self.durable.set(index);
        self.entries.borrow_mut().clear();
        *self.log.borrow_mut() = log;
        self.wake();
    }

    /// Long polls look again.
    pub(crate) fn wake(&self) {
        for waiter in self.waiters.take() {
            waiter.give(());
        }
    }

    /// Whether something became readable beyond `seen`, or nothing will, not here.
    pub(crate) fn has_moved(&self, seen: i64) -> bool {
        self.gone.get() || !self.leading.acts() || self.log.borrow().high_watermark() > seen
    }

    pub(crate) fn watch(&self, waiter: &Slot<()>) {
        self.waiters.borrow_mut().push(waiter.clone());
    }

    pub(crate) fn unwatch(&self, waiter: &Slot<()>) {
        self.waiters.borrow_mut().retain(|w| !w.is(waiter));
    }

    /// Reads whole batches from `offset` on: about `bytes_max` bytes, at least one batch; none when memory for answers is short,
    /// or `bytes_max` is `None`. The client believes that this node leads in `epoch`.
    pub(crate) async fn read(
        &self,
        shared: &Arc<Shared>,
        epoch: i32,
        offset: i64,
        bytes_max: Option<usize>,
    ) -> Read {
        if let Err(error) = self.check_leads(epoch) {
            return Read::failed(error);
        }
        let (plan, high_watermark, log_start) = {
            let log = self.log.borrow();
            (log.read(offset, bytes_max.unwrap_or(0)), log.high_watermark(), log.log_start())
        };
        let records = Vec::new();
        let mut read =
            Read { error: None, high_watermark, log_start, records, reserved: None, from_file: false };
        let (bytes_max, bytes) = match (&plan, bytes_max) {
            (ReadPlan::OutOfRange, _) => {
                read.error = Some(ResponseError::OffsetOutOfRange);
                return read;
            }
            (ReadPlan::Empty, _) | (_, None) => return read,
            (ReadPlan::Memory(batches), Some(max)) => (max, batches.iter().map(Bytes::len).sum()),
            (ReadPlan::File(region), Some(max)) => (max, region.len),
        };
        read.reserved = Reservation::take(shared, bytes);
        if read.reserved.is_none() {
            return read;
        }
        match plan {
            ReadPlan::OutOfRange | ReadPlan::Empty => {}
            ReadPlan::Memory(batches) => read.records = batches,
            ReadPlan::File(region) => {
                read.from_file = true;
                match self.read_region(&region, offset, high_watermark, bytes_max).await {
                    Ok(records) => read.records.push(records),
                    Err(error) => read.error = Some(error),
                }
            }
        }
        read
    }

    async fn read_region(
        &self,
        region: &FileRegion,
        offset: i64,
        end_offset: i64,
        bytes_max: usize,
    ) -> Result<Bytes, ResponseError> {
        let mut len = region.len;
        loop {
            let piece = self.read_file(region, len).await?;
            match scan::select(&piece, offset, end_offset, bytes_max) {
                Ok(Selected::Batches(range)) => return Ok(Bytes::from(piece).slice(range)),
                Ok(Selected::NeedBytes(need))
                    if region.position + need as u64 <= region.file_bytes && need > len =>
                {
                    len = need;
                }
                Ok(Selected::NeedBytes(_)) => {
                    tracing::error!(file = %self.files.dir().display(), segment = region.segment, offset, "a batch runs past the end of its segment");
                    return Err(ResponseError::KafkaStorageError);
                }
                Err(error) => {
                    tracing::error!(file = %self.files.dir().display(), segment = region.segment, offset, %error, "a segment is damaged");
                    return Err(ResponseError::KafkaStorageError);
                }
            }
        }
    }

    async fn read_file(&self, region: &FileRegion, len: usize) -> Result<Vec<u8>, ResponseError> {
        self.files.read(region.segment, region.position, len).await.map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                // Retention took the segment between the plan and the read.
                return ResponseError::OffsetOutOfRange;
            }
            tracing::error!(file = %self.files.dir().display(), segment = region.segment, %error, "a segment can't be read");
            ResponseError::KafkaStorageError
        })
    }

    /// Timestamp and offset of the first record at or after `timestamp`.
    pub(crate) async fn find_time(&self, timestamp: i64) -> Result<Option<(i64, i64)>, ResponseError> {
        let mut from = self.log.borrow().log_start();
        loop {
            let plan = self.log.borrow().find_time(timestamp, from);
            let (region, next) = match plan {
                TimePlan::None => return Ok(None),
                TimePlan::Found(timestamp, offset) => return Ok(Some((timestamp, offset))),
                TimePlan::File(region, next) => (region, next),
            };
            let piece = self.read_file(&region, region.len).await?;
            let found = scan::first_at_or_after(&piece, timestamp, from).map_err(|error| {
                tracing::error!(file = %self.files.dir().display(), segment = region.segment, %error, "a segment is damaged");
                ResponseError::KafkaStorageError
            })?;
            if found.is_some() {
                return Ok(found);
            }
            from = next;
        }
    }
}
