//! One partition on its core: its log, its files, who waits for it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use replog::{GroupId, Index};
use wire::kafka::ResponseError;

use super::core::{Reservation, Shared};
use super::segment_files::SegmentFiles;
use super::slot::Slot;
use super::stored::Place;
use crate::core::log::scan::{self, Selected};
use crate::core::log::{FileRegion, PartitionLog, ReadPlan, Retention, TimePlan};
use crate::core::topic_config::{self, Defaults};
use crate::core::topics::Topic;

/// Partitions' groups in the write-ahead log begin here; below are the broker's own.
const FIRST_GROUP: u64 = 16;

/// The partition's group in its shard's write-ahead log.
pub(crate) fn log_group(uid: u64) -> GroupId {
    GroupId(FIRST_GROUP + uid)
}

/// See the module.
pub(crate) struct Partition {
    pub(crate) uid: u64,
    pub(crate) log: RefCell<PartitionLog>,
    pub(crate) files: SegmentFiles,
    pub(crate) retention: Cell<Retention>,
    pub(crate) message_bytes_max: Cell<usize>,
    /// Its topic was deleted.
    pub(crate) gone: Cell<bool>,
    /// Segments are synced up to here.
    pub(crate) synced_end: Cell<i64>,
    /// Committed entries that the write-ahead log still keeps: index, offset after the batch.
    entries: RefCell<VecDeque<(Index, i64)>>,
    /// Long polls.
    waiters: RefCell<Vec<Slot<()>>>,
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

impl Partition {
    pub(crate) fn new(uid: u64, dir: &Path, log: PartitionLog) -> Self {
        let synced_end = log.written_end();
        Self {
            uid,
            log: RefCell::new(log),
            files: SegmentFiles::new(dir.to_owned()),
            retention: Cell::new(Retention {
                retention_ms: -1,
                retention_bytes: -1,
                segment_bytes: 0,
                segment_ms: 0,
            }),
            message_bytes_max: Cell::new(0),
            gone: Cell::new(false),
            synced_end: Cell::new(synced_end),
            entries: RefCell::default(),
            waiters: RefCell::default(),
        }
    }

    /// The topic's settings, now or changed.
    pub(crate) fn configure(&self, topic: &Topic, defaults: &Defaults) {
        self.retention.set(topic_config::retention(&topic.overrides, defaults));
        self.message_bytes_max.set(topic_config::message_bytes_max(&topic.overrides, defaults));
    }

    /// What the checkpoint says of it.
    pub(crate) fn place(&self) -> Place {
        Place { log_start: self.log.borrow().log_start(), synced_end: self.synced_end.get() }
    }

    /// A batch went into the write-ahead log as entry `index`.
    pub(crate) fn logged(&self, index: Index, end: i64) {
        self.entries.borrow_mut().push_back((index, end));
    }

    /// The last entry whose batch is synced in a segment, taken out; `None` when there is none new.
    pub(crate) fn take_synced_entries(&self) -> Option<Index> {
        let mut entries = self.entries.borrow_mut();
        let synced_end = self.synced_end.get();
        let mut last = None;
        while let Some(&(index, end)) = entries.front() {
            if end > synced_end {
                break;
            }
            last = Some(index);
            entries.pop_front();
        }
        last
    }

    /// The write-ahead log says that everything up to `index` is durable; true when records became readable.
    pub(crate) fn on_commit(&self, index: Index) -> bool {
        let moved = self.log.borrow_mut().committed(index.0).is_some();
        if moved {
            self.wake();
        }
        moved
    }

    /// Long polls look again.
    pub(crate) fn wake(&self) {
        for waiter in self.waiters.take() {
            waiter.give(());
        }
    }

    /// Whether something became readable beyond `seen`, or nothing will.
    pub(crate) fn has_moved(&self, seen: i64) -> bool {
        self.gone.get() || self.log.borrow().high_watermark() > seen
    }

    pub(crate) fn watch(&self, waiter: &Slot<()>) {
        self.waiters.borrow_mut().push(waiter.clone());
    }

    pub(crate) fn unwatch(&self, waiter: &Slot<()>) {
        self.waiters.borrow_mut().retain(|w| !w.is(waiter));
    }

    /// Reads whole batches from `offset` on: about `bytes_max` bytes, at least one batch; none when memory for answers is short,
    /// or `bytes_max` is `None`.
    pub(crate) async fn read(&self, shared: &Arc<Shared>, offset: i64, bytes_max: Option<usize>) -> Read {
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
