//! A segment: one file of a partition's batches, and the sparse index that finds an offset or a time in it.
//!
//! An index entry stands before the first batch that begins [`INDEX_INTERVAL_BYTES`] or more after the last entry's,
//! so that a lookup reads at most that much too much. The index of the newest segment is rebuilt by a scan at start;
//! a sealed segment stores its own ([`Segment::encode`]), with the producers known at its end.

use wire::kafka::batch::Header;

use super::Retention;
use crate::core::producers::Producers;

/// Bytes of log between two index entries: 24 bytes of memory per 64 KiB of log.
pub const INDEX_INTERVAL_BYTES: u64 = 64 * 1024;

const MAGIC: &[u8; 8] = b"mlrcidx2";

/// One index entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// Base offset of the batch at `position`.
    offset: i64,
    position: u64,
    /// Largest timestamp of all batches before it in the segment; `i64::MIN` when there is none.
    max_timestamp_before: i64,
}

/// A segment's place in the log, without its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    base_offset: i64,
    next_offset: i64,
    bytes: u64,
    max_timestamp: i64,
    first_timestamp: i64,
    index: Vec<Entry>,
    /// Leader epochs that begin here or go on from before: epoch, offset of its first batch in this segment.
    epochs: Vec<(i32, i64)>,
}

impl Segment {
    /// A segment that will begin with `base_offset`.
    #[must_use]
    pub fn empty(base_offset: i64) -> Self {
        Self {
            base_offset,
            next_offset: base_offset,
            bytes: 0,
            max_timestamp: -1,
            first_timestamp: -1,
            index: Vec::new(),
            epochs: Vec::new(),
        }
    }

    /// Offset of its first record; names its file.
    #[must_use]
    pub fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// One past its last record's offset.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Bytes of its file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Largest timestamp in it, ms; −1 when it has none.
    #[must_use]
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// The leader epochs of its batches, each with the offset of its first batch here.
    #[must_use]
    pub fn epochs(&self) -> &[(i32, i64)] {
        &self.epochs
    }

    /// A batch was added at its end.
    ///
    /// # Panics
    /// When the batch isn't the next.
    pub fn add(&mut self, header: &Header) {
        assert_eq!(header.base_offset, self.next_offset, "a segment has no gaps");
        let due = self.index.last().is_none_or(|last| self.bytes >= last.position + INDEX_INTERVAL_BYTES);
        if due {
            let max_timestamp_before = if self.bytes == 0 { i64::MIN } else { self.max_timestamp };
            self.index.push(Entry { offset: header.base_offset, position: self.bytes, max_timestamp_before });
        }
        if self.bytes == 0 {
            self.first_timestamp = header.base_timestamp;
        }
        if self.epochs.last().is_none_or(|(last, _)| *last < header.leader_epoch) {
            self.epochs.push((header.leader_epoch, header.base_offset));
        }
        self.bytes += header.total_bytes as u64;
        self.next_offset = header.last_offset() + 1;
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
    }

    /// Whether a batch of `bytes` bytes has to open a new segment.
    #[must_use]
    pub fn is_full(&self, bytes: usize, next: &Header, retention: &Retention) -> bool {
        let aged = self.first_timestamp >= 0
            && next.max_timestamp.saturating_sub(self.first_timestamp) >= retention.segment_ms;
        self.bytes > 0 && (aged || self.bytes + bytes as u64 > retention.segment_bytes)
    }

    /// Where to start reading for `offset`, and how far behind that it can begin.
    #[must_use]
    pub fn locate(&self, offset: i64) -> (u64, u64) {
        let after = self.index.partition_point(|e| e.offset <= offset);
        let position = after.checked_sub(1).map_or(0, |at| self.index[at].position);
        let end = self.index.get(after).map_or(self.bytes, |e| e.position);
        (position, end - position)
    }

    /// The first region that may hold a record at or after `timestamp` and at or above `from`: position, length, and the
    /// offset behind it.
    #[must_use]
    pub fn locate_time(&self, timestamp: i64, from: i64) -> (u64, u64, i64) {
        let in_time = self.index.partition_point(|e| e.max_timestamp_before < timestamp);
        let after = in_time.max(self.index.partition_point(|e| e.offset <= from));
        let position = after.checked_sub(1).map_or(0, |at| self.index[at].position);
        let (end, next) =
            self.index.get(after).map_or((self.bytes, self.next_offset), |e| (e.position, e.offset));
        (position, end - position, next)
    }

    /// The stored form: index and producers, with a checksum.
    #[must_use]
    pub fn encode(&self, producers: &Producers) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for field in
            [self.base_offset, self.next_offset, self.bytes as i64, self.max_timestamp, self.first_timestamp]
        {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&(self.index.len() as u64).to_le_bytes());
        for entry in &self.index {
            for field in [entry.offset, entry.position as i64, entry.max_timestamp_before] {
                out.extend_from_slice(&field.to_le_bytes());
            }
        }
        out.extend_from_slice(&(self.epochs.len() as u64).to_le_bytes());
        for (epoch, offset) in &self.epochs {
            out.extend_from_slice(&i64::from(*epoch).to_le_bytes());
            out.extend_from_slice(&offset.to_le_bytes());
        }
        producers.encode(&mut out);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the stored form; `None` when it is damaged or not ours, in which case the segment is scanned instead.
    #[must_use]
    pub fn decode(stored: &[u8]) -> Option<(Self, Producers)> {
        let (body, crc) = stored.split_last_chunk::<4>()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let mut rest = body.strip_prefix(MAGIC)?;
        let mut take = || -> Option<i64> {
            let (field, tail) = rest.split_first_chunk::<8>()?;
            rest = tail;
            Some(i64::from_le_bytes(*field))
        };
        let mut segment = Self::empty(take()?);
        segment.next_offset = take()?;
        segment.bytes = u64::try_from(take()?).ok()?;
        segment.max_timestamp = take()?;
        segment.first_timestamp = take()?;
        for _ in 0..take()? {
            let (offset, position, max_timestamp_before) = (take()?, u64::try_from(take()?).ok()?, take()?);
            segment.index.push(Entry { offset, position, max_timestamp_before });
        }
        for _ in 0..take()? {
            segment.epochs.push((i32::try_from(take()?).ok()?, take()?));
        }
        let producers = Producers::decode(rest)?;
        Some((segment, producers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::kafka::batch;

    fn filled(batches: usize) -> Segment {
        let value = vec![7; 20_000];
        let mut segment = Segment::empty(100);
        for i in 0..batches {
            let mut bytes = batch::build(&[(1000 + i as i64, &value), (500, &value)], None);
            batch::set_base_offset(&mut bytes, segment.next_offset());
            segment.add(&Header::parse(&bytes).unwrap());
        }
        segment
    }

    #[test]
    fn the_index_leads_close_before_every_offset() {
        let segment = filled(20);
        assert_eq!(segment.index.len(), 10, "one entry per two batches of 40 kB");
        for offset in 100..140 {
            let (position, span) = segment.locate(offset);
            let batch_position = (offset - 100) as u64 / 2 * (segment.bytes() / 20);
            assert!(position <= batch_position && batch_position < position + span, "offset {offset}");
            assert!(batch_position - position < INDEX_INTERVAL_BYTES);
        }
        for i in 0..20 {
            let (position, span, _) = segment.locate_time(1000 + i, 0);
            let batch_position = i as u64 * (segment.bytes() / 20);
            assert!(position <= batch_position && batch_position < position + span, "time {i}");
        }
    }

    #[test]
    fn the_stored_form_survives_and_notices_damage() {
        let segment = filled(9);
        let stored = segment.encode(&Producers::default());
        assert_eq!(Segment::decode(&stored).unwrap().0, segment);
        for at in 0..stored.len() {
            let mut damaged = stored.clone();
            damaged[at] ^= 0x40;
            assert!(Segment::decode(&damaged).is_none());
            assert!(Segment::decode(&stored[..at]).is_none());
        }
    }
}
