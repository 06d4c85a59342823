//! Record batch v2 (<https://kafka.apache.org/documentation/#recordbatch>), kept as raw bytes.
//!
//! Layout: base offset (8), batch length (4), leader epoch (4), magic (1), CRC-32C (4), then what the CRC covers:
//! attributes (2), last offset delta (4), base timestamp (8), max timestamp (8), producer id (8), producer epoch (2),
//! base sequence (4), record count (4), records. Base offset and leader epoch lie before the CRC, so a broker
//! rewrites them in place.

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;

/// Bytes that `batch length` doesn't count: itself and the base offset.
pub const LENGTH_PREFIX_BYTES: usize = 12;

/// Where the bytes that the CRC covers begin.
pub const CRC_START: usize = 21;

/// Attribute bits of the compression codec.
const COMPRESSION_BITS: i16 = 0b111;
/// Codecs 0–4: none, gzip, snappy, lz4, zstd.
const COMPRESSION_MAX: i16 = 4;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;

/// What is wrong with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than the header or the length says.
    #[error("the record batch is cut short")]
    Truncated,
    /// The length is impossible.
    #[error("the record batch claims an impossible length of {0} bytes")]
    Length(i32),
    /// Message format v0 or v1, or one not known.
    #[error("message format v{0} is not served, only v2")]
    Magic(i8),
    /// The checksum doesn't match.
    #[error("the record batch fails its CRC-32C: stored {stored:08x}, computed {computed:08x}")]
    Crc {
        /// In the batch.
        stored: u32,
        /// Over the batch.
        computed: u32,
    },
    /// The record count, the offset deltas or the records contradict each other.
    #[error("the record batch's count and records contradict each other")]
    Records,
    /// A compression codec not known.
    #[error("compression codec {0} is not known")]
    Codec(i16),
}

/// The fields of a batch's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Bytes of the whole batch, prefix included.
    pub total_bytes: usize,
    /// Epoch of the leader that took it.
    pub leader_epoch: i32,
    /// CRC-32C as stored.
    pub crc: u32,
    /// Codec, timestamp type, transactional, control.
    pub attributes: i16,
    /// Last record's offset minus the base offset.
    pub last_offset_delta: i32,
    /// Timestamp of the first record, ms since the epoch; −1 for none.
    pub base_timestamp: i64,
    /// Largest timestamp.
    pub max_timestamp: i64,
    /// −1 when not idempotent.
    pub producer_id: i64,
    /// −1 when not idempotent.
    pub producer_epoch: i16,
    /// −1 when not idempotent.
    pub base_sequence: i32,
    /// Records within.
    pub record_count: i32,
}

impl Header {
    /// Reads the header at the start of `bytes`; the batch itself need not be there whole.
    ///
    /// # Errors
    /// [`BatchError::Truncated`], [`BatchError::Length`], [`BatchError::Magic`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        if bytes.len() > 16 && bytes[16] != 2 {
            return Err(BatchError::Magic(bytes[16] as i8));
        }
        let bytes = bytes.first_chunk::<HEADER_BYTES>().ok_or(BatchError::Truncated)?;
        let batch_length = get_i32(bytes, 8);
        let total = usize::try_from(batch_length).map_err(|_| BatchError::Length(batch_length))?;
        if total + LENGTH_PREFIX_BYTES < HEADER_BYTES {
            return Err(BatchError::Length(batch_length));
        }
        Ok(Self {
            base_offset: get_i64(bytes, 0),
            total_bytes: total + LENGTH_PREFIX_BYTES,
            leader_epoch: get_i32(bytes, 12),
            crc: get_i32(bytes, 17) as u32,
            attributes: get_i16(bytes, 21),
            last_offset_delta: get_i32(bytes, 23),
            base_timestamp: get_i64(bytes, 27),
            max_timestamp: get_i64(bytes, 35),
            producer_id: get_i64(bytes, 43),
            producer_epoch: get_i16(bytes, 51),
            base_sequence: get_i32(bytes, 53),
            record_count: get_i32(bytes, 57),
        })
    }

    /// Offset of the last record. Base offsets are not under the checksum: one from outside may be anything.
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// Whether the records are compressed.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.attributes & COMPRESSION_BITS != 0
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether the batch is a control batch, which only brokers write.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// Sequence number of the last record; wraps to 0 after `i32::MAX`.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        advance_sequence(self.base_sequence, self.last_offset_delta)
    }
}

/// `sequence` and `by` more; sequences count 0..=i32::MAX and wrap.
#[must_use]
pub fn advance_sequence(sequence: i32, by: i32) -> i32 {
    ((i64::from(sequence) + i64::from(by)) & i64::from(i32::MAX)) as i32
}

/// The header of the batch at the start of `bytes`, its CRC checked; what follows the batch is not looked at.
///
/// # Errors
/// As [`Header::parse`], and [`BatchError::Crc`].
pub fn verify(bytes: &[u8]) -> Result<Header, BatchError> {
    let header = Header::parse(bytes)?;
    let batch = bytes.get(..header.total_bytes).ok_or(BatchError::Truncated)?;
    let computed = crc32c::crc32c(&batch[CRC_START..]);
    if computed != header.crc {
        return Err(BatchError::Crc { stored: header.crc, computed });
    }
    Ok(header)
}

/// [`verify`], and that the batch keeps the rules of a producer's: count and deltas agree, each uncompressed record
/// lies where it says.
///
/// # Errors
/// [`BatchError`].
pub fn verify_produced(bytes: &[u8]) -> Result<Header, BatchError> {
    let header = verify(bytes)?;
    let codec = header.attributes & COMPRESSION_BITS;
    if codec > COMPRESSION_MAX {
        return Err(BatchError::Codec(codec));
    }
    if header.record_count < 1 || header.last_offset_delta != header.record_count - 1 {
        return Err(BatchError::Records);
    }
    if !header.is_compressed() {
        let mut delta = 0;
        for record in Records::new(&bytes[..header.total_bytes]) {
            if record?.offset_delta != delta {
                return Err(BatchError::Records);
            }
            delta += 1;
        }
        if delta != header.record_count {
            return Err(BatchError::Records);
        }
    }
    Ok(header)
}

/// Writes the base offset of a batch in place.
///
/// # Panics
/// When `batch` is shorter than a header.
pub fn set_base_offset(batch: &mut [u8], base_offset: i64) {
    batch[..8].copy_from_slice(&base_offset.to_be_bytes());
}

/// Writes the leader epoch of a batch in place.
///
/// # Panics
/// When `batch` is shorter than a header.
pub fn set_leader_epoch(batch: &mut [u8], leader_epoch: i32) {
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Where a record stands in its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordPlace {
    /// Its offset minus the batch's base offset.
    pub offset_delta: i32,
    /// Its timestamp minus the batch's base timestamp, ms.
    pub timestamp_delta: i64,
}

/// The records of an **uncompressed** batch; ends after the first error.
#[derive(Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    /// Over one whole batch.
    #[must_use]
    pub fn new(batch: &'a [u8]) -> Self {
        Self { rest: batch.get(HEADER_BYTES..).unwrap_or_default() }
    }

    fn take(&mut self) -> Result<RecordPlace, BatchError> {
        let len = usize::try_from(take_varint(&mut self.rest)?).map_err(|_| BatchError::Records)?;
        let (mut record, rest) = self.rest.split_at_checked(len).ok_or(BatchError::Records)?;
        self.rest = rest;
        let (_attributes, tail) = record.split_first().ok_or(BatchError::Records)?;
        record = tail;
        let timestamp_delta = take_varint(&mut record)?;
        let offset_delta = i32::try_from(take_varint(&mut record)?).map_err(|_| BatchError::Records)?;
        for _key_then_value in 0..2 {
            skip_field(&mut record)?;
        }
        let headers = take_varint(&mut record)?;
        if !(0..=record.len() as i64).contains(&headers) {
            return Err(BatchError::Records);
        }
        for _key_and_value in 0..2 * headers {
            skip_field(&mut record)?;
        }
        if record.is_empty() {
            Ok(RecordPlace { offset_delta, timestamp_delta })
        } else {
            Err(BatchError::Records)
        }
    }
}

impl Iterator for Records<'_> {
    type Item = Result<RecordPlace, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = self.take();
        if record.is_err() {
            self.rest = &[];
        }
        Some(record)
    }
}

/// A key, a value or a part of a header: a varint length (−1 for null), then the bytes.
fn skip_field(record: &mut &[u8]) -> Result<(), BatchError> {
    let len = take_varint(record)?;
    if len < -1 {
        return Err(BatchError::Records);
    }
    *record = record.get(usize::try_from(len.max(0)).unwrap_or(0)..).ok_or(BatchError::Records)?;
    Ok(())
}

/// A zigzag variable-length integer of up to 64 bits.
fn take_varint(bytes: &mut &[u8]) -> Result<i64, BatchError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(BatchError::Records)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    Err(BatchError::Records)
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Who produces a batch idempotently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    /// Given by InitProducerId.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Sequence number of the batch's first record.
    pub base_sequence: i32,
}

/// An uncompressed batch of `(timestamp, value)` records without keys, as a producer sends it (base offset 0): for
/// tests and measurements.
///
/// # Panics
/// When there are no records.
#[must_use]
pub fn build(records: &[(i64, &[u8])], producer: Option<Producer>) -> Vec<u8> {
    let base_timestamp = records[0].0;
    let max_timestamp = records.iter().map(|r| r.0).max().unwrap_or(base_timestamp);
    let count = i32::try_from(records.len()).expect("a batch has fewer than 2³¹ records");
    let producer = producer.unwrap_or(Producer { id: -1, epoch: -1, base_sequence: -1 });
    let mut out = vec![0; CRC_START];
    out.extend_from_slice(&0_i16.to_be_bytes());
    out.extend_from_slice(&(count - 1).to_be_bytes());
    out.extend_from_slice(&base_timestamp.to_be_bytes());
    out.extend_from_slice(&max_timestamp.to_be_bytes());
    out.extend_from_slice(&producer.id.to_be_bytes());
    out.extend_from_slice(&producer.epoch.to_be_bytes());
    out.extend_from_slice(&producer.base_sequence.to_be_bytes());
    out.extend_from_slice(&count.to_be_bytes());
    for (delta, (timestamp, value)) in records.iter().enumerate() {
        let mut record = vec![0];
        put_varint(&mut record, timestamp - base_timestamp);
        put_varint(&mut record, delta as i64);
        put_varint(&mut record, -1);
        put_varint(&mut record, value.len() as i64);
        record.extend_from_slice(value);
        put_varint(&mut record, 0);
        put_varint(&mut out, record.len() as i64);
        out.extend_from_slice(&record);
    }
    out[16] = 2;
    let length = i32::try_from(out.len() - LENGTH_PREFIX_BYTES).expect("a batch is below 2 GiB");
    out[8..12].copy_from_slice(&length.to_be_bytes());
    set_leader_epoch(&mut out, -1);
    seal(&mut out);
    out
}

/// Computes the CRC of a batch anew, after a change to what it covers.
///
/// # Panics
/// When `batch` is shorter than a header.
pub fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[CRC_START..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

fn get_i16(bytes: &[u8; HEADER_BYTES], at: usize) -> i16 {
    i16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn get_i32(bytes: &[u8; HEADER_BYTES], at: usize) -> i32 {
    i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn get_i64(bytes: &[u8; HEADER_BYTES], at: usize) -> i64 {
    (i64::from(get_i32(bytes, at)) << 32) | i64::from(get_i32(bytes, at + 4) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::records::{
        Compression, NO_PARTITION_LEADER_EPOCH, Record, RecordBatchDecoder, RecordBatchEncoder,
        RecordEncodeOptions, TimestampType,
    };

    #[test]
    fn ours_is_read_by_the_codec() {
        let mut batch =
            build(&[(1000, b"one"), (1005, b"two")], Some(Producer { id: 7, epoch: 1, base_sequence: 40 }));
        set_base_offset(&mut batch, 500);
        set_leader_epoch(&mut batch, 3);
        let header = verify_produced(&batch).unwrap();
        assert_eq!((header.base_offset, header.last_offset(), header.leader_epoch), (500, 501, 3));
        assert_eq!((header.base_timestamp, header.max_timestamp), (1000, 1005));
        assert_eq!((header.producer_id, header.last_sequence()), (7, 41));
        let set = RecordBatchDecoder::decode(&mut bytes::Bytes::from(batch)).unwrap();
        assert_eq!(set.records.len(), 2);
        assert_eq!((set.records[1].offset, set.records[1].timestamp), (501, 1005));
        assert_eq!(set.records[1].value.as_deref(), Some(&b"two"[..]));
    }

    #[test]
    fn the_codecs_batches_are_read_by_us() {
        let record = |offset, timestamp| Record {
            delete_horizon: false,
            transactional: false,
            control: false,
            partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
            producer_id: -1,
            producer_epoch: -1,
            timestamp_type: TimestampType::Creation,
            offset,
            sequence: offset as i32,
            timestamp,
            key: Some("k".into()),
            value: Some(vec![1; 300].into()),
            headers: [(super::super::StrBytes::from_static_str("h"), Some("v".into()))].into_iter().collect(),
        };
        let records = [record(0, 50), record(1, 60), record(2, 55)];
        let mut out = bytes::BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: Compression::None };
        RecordBatchEncoder::encode(&mut out, &records, &options).unwrap();
        let header = verify_produced(&out).unwrap();
        assert_eq!((header.record_count, header.total_bytes), (3, out.len()));
        let places: Vec<_> = Records::new(&out).map(Result::unwrap).collect();
        assert_eq!(places[2].offset_delta, 2);
        assert_eq!(header.base_timestamp + places[2].timestamp_delta, 55);
    }

    #[test]
    fn faults_are_named() {
        let good = build(&[(1, b"x"), (2, b"y")], None);
        assert_eq!(verify(&good[..60]), Err(BatchError::Truncated));
        assert_eq!(verify(&good[..good.len() - 1]), Err(BatchError::Truncated));
        let broken = |at: usize, to: u8| {
            let mut batch = good.clone();
            batch[at] = to;
            batch
        };
        assert_eq!(verify(&broken(16, 1)), Err(BatchError::Magic(1)));
        assert!(matches!(verify(&broken(8, 0xff)), Err(BatchError::Length(_))));
        for (at, &byte) in good.iter().enumerate().skip(CRC_START) {
            assert!(matches!(verify(&broken(at, byte ^ 1)), Err(BatchError::Crc { .. })), "byte {at}");
        }
        for (at, to) in [(60, 3), (60, 1), (26, 7), (61 + 3, 2)] {
            let mut batch = broken(at, to);
            seal(&mut batch);
            assert_eq!(verify_produced(&batch), Err(BatchError::Records), "byte {at}");
        }
        let mut batch = broken(22, 5);
        seal(&mut batch);
        assert_eq!(verify_produced(&batch), Err(BatchError::Codec(5)));
    }

    #[test]
    fn sequences_wrap() {
        assert_eq!(advance_sequence(i32::MAX, 1), 0);
        assert_eq!(advance_sequence(i32::MAX - 1, 1), i32::MAX);
        assert_eq!(advance_sequence(5, 3), 8);
    }
}
