//! One partition's log: which offsets exist, where their bytes lie, what may be read, written, deleted.
//!
//! Committed batches enter by [`PartitionLog::append`] in the order of the replicated log, each with the next offset, and
//! may be read from then on; they are handed to their segment file by [`PartitionLog::plan_write`] and forgotten by
//! [`PartitionLog::expire`]. What a leader has only proposed is not here: see [`crate::core::ahead`].
//!
//! Invariants:
//! - `log_start ≤ written_end ≤ high_watermark`, save that DeleteRecords may move `log_start` above `written_end`:
//!   writing goes on underneath.
//! - offsets are without gaps: each batch's base offset is the one after its predecessor's last.
//! - everything at or above `written_end` is in `tail`; a batch leaves `tail` only after it was written.
//!
//! It opens no file: reads and writes are plans that the shell carries out.

mod epochs;
pub mod scan;
pub mod segment;

use std::collections::VecDeque;

use bytes::Bytes;
use wire::kafka::batch::Header;

use super::producers::Producers;
use epochs::Epochs;
use segment::Segment;

/// A batch that is still in memory.
#[derive(Debug, Clone)]
pub struct TailBatch {
    /// Its header, base offset as stored.
    pub header: Header,
    /// The whole batch.
    pub bytes: Bytes,
}

/// Where to find the answer of a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadPlan {
    /// Below the first or above the last offset.
    OutOfRange,
    /// Nothing there yet.
    Empty,
    /// Whole batches, in order, from memory.
    Memory(Vec<Bytes>),
    /// Read this file region and hand it to [`scan::select`].
    File(FileRegion),
}

/// A part of a segment's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRegion {
    /// The segment, by its base offset.
    pub segment: i64,
    /// Where to begin, in bytes.
    pub position: u64,
    /// How much to read at first, in bytes.
    pub len: usize,
    /// Bytes of the segment's file.
    pub file_bytes: u64,
}

/// What to write next.
#[derive(Debug, Clone)]
pub struct WritePlan {
    /// The segment to write to, by its base offset.
    pub segment: i64,
    /// Where its file ends now.
    pub position: u64,
    /// A new segment begins with this write; the one before it, if any, is full and must be made durable first.
    pub rolls: bool,
    /// The batches, in order.
    pub batches: Vec<TailBatch>,
    /// Bytes of them.
    pub bytes: usize,
}

impl WritePlan {
    /// The offset after the last batch of the plan.
    #[must_use]
    pub fn end(&self) -> i64 {
        self.batches.last().map_or(0, |b| b.header.last_offset() + 1)
    }
}

/// Where the first record at or after a time is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimePlan {
    /// There is none.
    None,
    /// Known from memory: timestamp and offset.
    Found(i64, i64),
    /// Read this region and hand it to [`scan::first_at_or_after`]; should it hold none after all, go on from this offset.
    File(FileRegion, i64),
}

/// What limits a partition's log, from its topic's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Segments whose newest record is older go; −1 for never. Milliseconds.
    pub retention_ms: i64,
    /// The oldest segments go while the log is larger; −1 for never. Bytes.
    pub retention_bytes: i64,
    /// A segment is full at this size. Bytes.
    pub segment_bytes: u64,
    /// A segment is full at this age. Milliseconds.
    pub segment_ms: i64,
}

/// One partition's log; see the module.
#[derive(Debug)]
pub struct PartitionLog {
    log_start: i64,
    written_end: i64,
    high_watermark: i64,
    segments: Vec<Segment>,
    tail: VecDeque<TailBatch>,
    tail_bytes: usize,
    producers: Producers,
    epochs: Epochs,
}

impl PartitionLog {
    /// A log as found on disk: `segments` in order, everything in them committed. `log_start` comes from the
    /// checkpoint; without segments the log is empty and begins there.
    ///
    /// # Panics
    /// When the segments don't follow one another.
    #[must_use]
    pub fn new(log_start: i64, segments: Vec<Segment>, producers: Producers) -> Self {
        for pair in segments.windows(2) {
            assert_eq!(pair[0].next_offset(), pair[1].base_offset(), "segments follow one another");
        }
        let end = segments.last().map_or(log_start, Segment::next_offset);
        let start = segments.first().map_or(log_start, |s| log_start.max(s.base_offset()));
        let mut epochs = Epochs::default();
        for (epoch, first) in segments.iter().flat_map(|s| s.epochs()) {
            epochs.add(*epoch, *first);
        }
        Self {
            log_start: start,
            written_end: end,
            high_watermark: end,
            segments,
            tail: VecDeque::new(),
            tail_bytes: 0,
            producers,
            epochs,
        }
    }

    /// The first offset that may be read.
    #[must_use]
    pub fn log_start(&self) -> i64 {
        self.log_start
    }

    /// One past the last committed offset, which is the last that there is.
    #[must_use]
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// One past the last offset written to a segment file.
    #[must_use]
    pub fn written_end(&self) -> i64 {
        self.written_end
    }

    /// Bytes of batches in memory.
    #[must_use]
    pub fn tail_bytes(&self) -> usize {
        self.tail_bytes
    }

    /// Bytes in segment files.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.segments.iter().map(Segment::bytes).sum()
    }

    /// The idempotent producers known.
    #[must_use]
    pub fn producers(&self) -> &Producers {
        &self.producers
    }

    /// The segments with files, oldest first.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The batches that are in memory and at or above `offset`, in order.
    pub fn tail_from(&self, offset: i64) -> impl Iterator<Item = &TailBatch> {
        let first = self.tail.partition_point(|b| b.header.last_offset() < offset);
        self.tail.range(first..)
    }

    /// Where the newest epoch up to `epoch` that has batches ended, as a follower of `epoch` must be told (KIP-101): that
    /// epoch, and the offset behind its last. `current` is the epoch of whoever leads now. `None`: later than that, or
    /// nothing is known.
    #[must_use]
    pub fn end_of_epoch(&self, epoch: i32, current: i32) -> Option<(i32, i64)> {
        self.epochs.end_of(epoch, current, self.high_watermark)
    }

    /// Takes a committed batch, whose header carries the next offset.
    ///
    /// # Panics
    /// When the offset isn't the next.
    pub fn append(&mut self, header: Header, bytes: Bytes) {
        assert_eq!(header.base_offset, self.high_watermark, "offsets are without gaps");
        self.high_watermark = header.last_offset() + 1;
        self.producers.record(&header);
        self.epochs.add(header.leader_epoch, header.base_offset);
        self.tail_bytes += bytes.len();
        self.tail.push_back(TailBatch { header, bytes });
    }

    /// Where to read whole batches of `bytes_max` bytes from `offset` on: at least one, however large.
    #[must_use]
    pub fn read(&self, offset: i64, bytes_max: usize) -> ReadPlan {
        if offset < self.log_start || offset > self.high_watermark {
            return ReadPlan::OutOfRange;
        }
        if offset >= self.high_watermark {
            return ReadPlan::Empty;
        }
        match self.tail.front() {
            Some(front) if offset >= front.header.base_offset => self.read_tail(offset, bytes_max),
            _ => self.read_file(offset, bytes_max),
        }
    }

    fn read_tail(&self, offset: i64, bytes_max: usize) -> ReadPlan {
        let first = self.tail.partition_point(|b| b.header.last_offset() < offset);
        let mut bytes = 0;
        let mut batches = Vec::new();
        for batch in self.tail.iter().skip(first) {
            bytes += batch.bytes.len();
            if bytes > bytes_max && !batches.is_empty() {
                break;
            }
            batches.push(batch.bytes.clone());
        }
        if batches.is_empty() { ReadPlan::Empty } else { ReadPlan::Memory(batches) }
    }

    fn read_file(&self, offset: i64, bytes_max: usize) -> ReadPlan {
        let at = self.segments.partition_point(|s| s.next_offset() <= offset);
        let Some(segment) = self.segments.get(at) else {
            return ReadPlan::Empty;
        };
        let (position, span) = segment.locate(offset);
        let len = span.saturating_add(bytes_max as u64).min(segment.bytes() - position);
        ReadPlan::File(FileRegion {
            segment: segment.base_offset(),
            position,
            len: usize::try_from(len).unwrap_or(usize::MAX),
            file_bytes: segment.bytes(),
        })
    }

    /// Bytes of batches not yet written.
    #[must_use]
    pub fn unwritten_bytes(&self) -> usize {
        let first = self.tail.partition_point(|b| b.header.base_offset < self.written_end);
        self.tail.iter().skip(first).map(|b| b.bytes.len()).sum()
    }

    /// What to write next, at most about `bytes_max` bytes and never across a segment's end; `None` when all is
    /// written.
    #[must_use]
    pub fn plan_write(&self, bytes_max: usize, retention: &Retention) -> Option<WritePlan> {
        let first = self.tail.partition_point(|b| b.header.base_offset < self.written_end);
        let next = self.tail.get(first)?;
        let open = self.segments.last().filter(|s| !s.is_full(next.bytes.len(), &next.header, retention));
        let (segment, position, rolls) = match open {
            Some(s) => (s.base_offset(), s.bytes(), false),
            None => (next.header.base_offset, 0, true),
        };
        let mut plan = WritePlan { segment, position, rolls, batches: Vec::new(), bytes: 0 };
        for batch in self.tail.iter().skip(first) {
            let full = position + (plan.bytes + batch.bytes.len()) as u64 > retention.segment_bytes;
            let enough = plan.bytes + batch.bytes.len() > bytes_max;
            if !plan.batches.is_empty() && (full || enough) {
                break;
            }
            plan.bytes += batch.bytes.len();
            plan.batches.push(batch.clone());
        }
        Some(plan)
    }

    /// The plan was carried out.
    ///
    /// # Panics
    /// When plans are carried out of order.
    pub fn wrote(&mut self, plan: &WritePlan) {
        assert_eq!(plan.batches.first().map(|b| b.header.base_offset), Some(self.written_end));
        if plan.rolls {
            self.segments.push(Segment::empty(plan.segment));
        }
        let segment = self.segments.last_mut().expect("a write has its segment");
        assert_eq!((segment.base_offset(), segment.bytes()), (plan.segment, plan.position));
        for batch in &plan.batches {
            segment.add(&batch.header);
        }
        self.written_end = plan.end();
    }

    /// Drops written batches from memory until at most `bytes_max` are held.
    pub fn trim_tail(&mut self, bytes_max: usize) {
        while self.tail_bytes > bytes_max {
            match self.tail.front() {
                Some(front) if front.header.last_offset() < self.written_end => {
                    self.tail_bytes -= front.bytes.len();
                    self.tail.pop_front();
                }
                _ => break,
            }
        }
    }

    /// Takes the oldest segments that retention or DeleteRecords leaves no use for off the log; the shell deletes
    /// their files. The newest segment stays unless it is past its time and everything in it is written.
    pub fn expire(&mut self, now_ms: i64, retention: &Retention) -> Vec<Segment> {
        let mut total = self.file_bytes();
        let mut count = 0;
        for (at, segment) in self.segments.iter().enumerate() {
            let newest = at + 1 == self.segments.len();
            let aged = retention.retention_ms >= 0
                && segment.max_timestamp() >= 0
                && segment.max_timestamp() < now_ms.saturating_sub(retention.retention_ms);
            let oversize = retention.retention_bytes >= 0
                && !newest
                && total - segment.bytes() >= retention.retention_bytes as u64;
            let below_start = !newest && segment.next_offset() <= self.log_start;
            let still_fed = newest && self.written_end < self.high_watermark;
            if still_fed || !(aged || oversize || below_start) {
                break;
            }
            total -= segment.bytes();
            count += 1;
        }
        let gone: Vec<Segment> = self.segments.drain(..count).collect();
        if let Some(last) = gone.last() {
            self.log_start = self.log_start.max(last.next_offset());
            let start = self.log_start;
            self.epochs.forget_before(start);
            while let Some(front) =
                self.tail.front().filter(|b| b.header.last_offset() < start.min(self.written_end))
            {
                self.tail_bytes -= front.bytes.len();
                self.tail.pop_front();
            }
        }
        gone
    }

    /// DeleteRecords: nothing below `offset` is read any more; −1 means the high watermark. Gives the new log start,
    /// or `None` when `offset` is out of range.
    pub fn delete_before(&mut self, offset: i64) -> Option<i64> {
        let offset = if offset == -1 { self.high_watermark } else { offset };
        if offset < 0 || offset > self.high_watermark {
            return None;
        }
        self.log_start = self.log_start.max(offset);
        Some(self.log_start)
    }

    /// The largest timestamp of a batch that may be read, ms; −1 when there is none.
    #[must_use]
    pub fn max_timestamp(&self) -> i64 {
        let live = self.segments.iter().filter(|s| s.next_offset() > self.log_start);
        let filed = live.map(Segment::max_timestamp).max().unwrap_or(-1);
        let tail = self.tail_from(self.log_start).map(|b| b.header.max_timestamp).max().unwrap_or(-1);
        filed.max(tail)
    }

    /// Where the first record at or after `timestamp` and at or above `from` is. Of what is in files that can't be told for
    /// sure: a batch may not hold the times that its header says, or have them below `from`.
    #[must_use]
    pub fn find_time(&self, timestamp: i64, from: i64) -> TimePlan {
        let first = self.segments.partition_point(|s| s.next_offset() <= from);
        if let Some(segment) = self.segments[first..].iter().find(|s| s.max_timestamp() >= timestamp) {
            let (position, len, next) = segment.locate_time(timestamp, from);
            let region = FileRegion {
                segment: segment.base_offset(),
                position,
                len: usize::try_from(len).unwrap_or(usize::MAX),
                file_bytes: segment.bytes(),
            };
            return TimePlan::File(region, next);
        }
        let later = self.tail_from(from).filter(|b| b.header.max_timestamp >= timestamp);
        let found = later.filter_map(|b| scan::first_in_batch(&b.bytes, timestamp, from)).next();
        found.map_or(TimePlan::None, |(timestamp, offset)| TimePlan::Found(timestamp, offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::kafka::batch;

    const KEEP: Retention =
        Retention { retention_ms: -1, retention_bytes: -1, segment_bytes: 400, segment_ms: i64::MAX };

    fn push(log: &mut PartitionLog, timestamp: i64, records: usize) {
        let records: Vec<(i64, &[u8])> =
            (0..records).map(|i| (timestamp + i as i64, &b"0123456789"[..])).collect();
        let mut bytes = batch::build(&records, None);
        batch::set_base_offset(&mut bytes, log.high_watermark());
        let header = Header::parse(&bytes).unwrap();
        log.append(header, Bytes::from(bytes));
    }

    fn write_all(log: &mut PartitionLog) -> Vec<(i64, u64, bool, usize)> {
        let mut plans = Vec::new();
        while let Some(plan) = log.plan_write(1 << 20, &KEEP) {
            plans.push((plan.segment, plan.position, plan.rolls, plan.batches.len()));
            log.wrote(&plan);
        }
        plans
    }

    #[test]
    fn what_is_in_memory_is_read_whole() {
        let mut log = PartitionLog::new(0, vec![], Producers::default());
        push(&mut log, 100, 3);
        push(&mut log, 200, 2);
        assert!(matches!(log.read(0, 1000), ReadPlan::Memory(b) if b.len() == 2));
        assert!(matches!(log.read(1, 1), ReadPlan::Memory(b) if b.len() == 1), "the middle of a batch");
        assert_eq!(log.read(5, 1000), ReadPlan::Empty, "the log end is in range");
        assert_eq!(log.read(6, 1000), ReadPlan::OutOfRange);
        assert_eq!(log.read(-1, 1000), ReadPlan::OutOfRange);
        assert_eq!(log.plan_write(1000, &KEEP).unwrap().end(), 5);
        assert_eq!(log.tail_from(3).count(), 1);
    }

    #[test]
    fn segments_roll_when_full_and_reads_move_to_files() {
        let mut log = PartitionLog::new(0, vec![], Producers::default());
        for index in 0..6 {
            push(&mut log, 100 * index, 2); // 61 + 2·17 = 95 bytes
        }
        assert_eq!(write_all(&mut log), [(0, 0, true, 4), (8, 0, true, 2)]);
        assert_eq!((log.written_end(), log.segments().len()), (12, 2));
        log.trim_tail(0);
        assert_eq!(log.tail_bytes(), 0);
        let ReadPlan::File(region) = log.read(9, 50) else { panic!("from the file") };
        assert_eq!((region.segment, region.position), (8, 0));
        let again = PartitionLog::new(0, log.segments().to_vec(), Producers::default());
        assert_eq!((again.high_watermark(), again.log_start()), (12, 0));
    }

    #[test]
    fn epochs_are_known_from_batches_and_segments() {
        let mut log = PartitionLog::new(0, vec![], Producers::default());
        for epoch in [2, 2, 5] {
            let mut bytes = batch::build(&[(1, b"x"), (1, b"y")], None);
            batch::set_base_offset(&mut bytes, log.high_watermark());
            batch::set_leader_epoch(&mut bytes, epoch);
            log.append(Header::parse(&bytes).unwrap(), Bytes::from(bytes));
        }
        write_all(&mut log);
        let again = PartitionLog::new(0, log.segments().to_vec(), Producers::default());
        for log in [log, again] {
            assert_eq!(log.end_of_epoch(2, 7), Some((2, 4)));
            assert_eq!(
                log.end_of_epoch(4, 7),
                Some((2, 4)),
                "an epoch without a batch ended with the one before"
            );
            assert_eq!(log.end_of_epoch(5, 7), Some((5, 6)));
        }
    }

    #[test]
    fn retention_deletes_whole_segments() {
        let fill = || {
            let mut log = PartitionLog::new(0, vec![], Producers::default());
            for index in 0..6 {
                push(&mut log, 1000 * index, 2);
            }
            write_all(&mut log);
            log.trim_tail(0);
            log
        };
        let mut log = fill();
        assert!(log.expire(1_000_000, &KEEP).is_empty());
        let aged = Retention { retention_ms: 1000, ..KEEP };
        assert!(log.expire(4000, &aged).is_empty(), "its newest record is 3001");
        assert_eq!(log.expire(4002, &aged).len(), 1);
        assert_eq!((log.log_start(), log.read(0, 10)), (8, ReadPlan::OutOfRange));
        assert_eq!(log.expire(100_000, &aged).len(), 1, "the newest goes too once it is old");
        assert_eq!((log.log_start(), log.high_watermark()), (12, 12));
        push(&mut log, 5000, 1);
        assert_eq!(write_all(&mut log), [(12, 0, true, 1)]);

        let mut log = fill();
        assert_eq!(log.expire(0, &Retention { retention_bytes: 10, ..KEEP }).len(), 1, "never the newest");
        let mut log = fill();
        assert_eq!(log.delete_before(13), None);
        assert_eq!(log.delete_before(9), Some(9));
        assert_eq!(log.expire(0, &KEEP).len(), 1);
        assert_eq!((log.log_start(), log.delete_before(-1)), (9, Some(12)));
    }

    #[test]
    fn times_are_found_behind_deleted_records() {
        let mut log = PartitionLog::new(0, vec![], Producers::default());
        for index in 0..6 {
            push(&mut log, 1000 * (index + 1), 2);
        }
        write_all(&mut log);
        log.delete_before(9);
        // The first segment has such times too, but none of its records is there any more.
        let TimePlan::File(region, next) = log.find_time(1500, log.log_start()) else { panic!("in a file") };
        assert_eq!((region.segment, next), (8, 12));
        assert_eq!(log.find_time(1500, next), TimePlan::None);
        assert_eq!(log.max_timestamp(), 6001);
        push(&mut log, 9000, 1);
        assert_eq!(log.find_time(1500, next), TimePlan::Found(9000, 12));
        log.delete_before(12);
        assert_eq!(log.max_timestamp(), 9000);
    }

    #[test]
    fn times_are_found_in_files_and_memory() {
        let mut log = PartitionLog::new(0, vec![], Producers::default());
        push(&mut log, 1000, 3);
        write_all(&mut log);
        log.trim_tail(0);
        push(&mut log, 2000, 3);
        push(&mut log, 3000, 3);
        assert!(matches!(log.find_time(1001, 0), TimePlan::File(r, 3) if r.segment == 0 && r.position == 0));
        assert_eq!(log.find_time(1500, 0), TimePlan::Found(2000, 3));
        assert_eq!(log.find_time(2001, 0), TimePlan::Found(2001, 4));
        assert_eq!(log.find_time(2500, 0), TimePlan::Found(3000, 6));
        assert_eq!(log.find_time(3003, 0), TimePlan::None);
        assert_eq!(log.max_timestamp(), 3002);
    }
}
