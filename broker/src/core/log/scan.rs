//! Reading what a segment's file holds: walking whole batches in a piece of it.
//!
//! A piece begins at a batch's first byte (index entries and file starts do). It may end anywhere.

use std::ops::Range;

use wire::kafka::batch::{self, BatchError, Header, Records};

/// What a piece of a file has for a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selected {
    /// These bytes of the piece are the whole batches wanted.
    Batches(Range<usize>),
    /// The piece must be at least this long to hold the first wanted batch.
    NeedBytes(usize),
}

/// Picks whole batches that hold `offset` and follow it, below `end_offset`, up to `bytes_max` bytes but at least one.
///
/// # Errors
/// [`BatchError`] when the piece holds no batches where it should: the file is damaged.
pub fn select(piece: &[u8], offset: i64, end_offset: i64, bytes_max: usize) -> Result<Selected, BatchError> {
    let mut at = 0;
    let mut start = None;
    loop {
        let rest = &piece[at..];
        if rest.len() < batch::HEADER_BYTES {
            return Ok(match start {
                Some(start) => Selected::Batches(start..at),
                None => Selected::NeedBytes(at + batch::HEADER_BYTES),
            });
        }
        let header = Header::parse(rest)?;
        if header.last_offset() < offset {
            at += header.total_bytes;
            if at > piece.len() {
                return Ok(Selected::NeedBytes(at + batch::HEADER_BYTES));
            }
            continue;
        }
        let whole = header.total_bytes <= rest.len();
        match start {
            None if !whole => return Ok(Selected::NeedBytes(at + header.total_bytes)),
            None => start = Some(at),
            Some(start)
                if !whole
                    || header.base_offset >= end_offset
                    || at + header.total_bytes - start > bytes_max =>
            {
                return Ok(Selected::Batches(start..at));
            }
            Some(_) => {}
        }
        at += header.total_bytes;
    }
}

/// The first record at or after `timestamp` and at or above `offset_min` in a piece: its timestamp and offset.
///
/// # Errors
/// [`BatchError`] when the file is damaged.
pub fn first_at_or_after(
    piece: &[u8],
    timestamp: i64,
    offset_min: i64,
) -> Result<Option<(i64, i64)>, BatchError> {
    let mut at = 0;
    while piece.len() - at >= batch::HEADER_BYTES {
        let header = Header::parse(&piece[at..])?;
        let Some(bytes) = piece[at..].get(..header.total_bytes) else { break };
        if header.max_timestamp >= timestamp
            && header.last_offset() >= offset_min
            && let Some(found) = first_in_batch(bytes, timestamp, offset_min)
        {
            return Ok(Some(found));
        }
        at += header.total_bytes;
    }
    Ok(None)
}

/// [`first_at_or_after`] within one batch. The records of a compressed batch are not opened: its first record stands
/// for it, so that a consumer starts at most one batch early and never late.
#[must_use]
pub fn first_in_batch(bytes: &[u8], timestamp: i64, offset_min: i64) -> Option<(i64, i64)> {
    let header = Header::parse(bytes).ok()?;
    if header.is_compressed() {
        let offset = header.base_offset.max(offset_min);
        return (header.max_timestamp >= timestamp).then_some((header.base_timestamp.max(timestamp), offset));
    }
    Records::new(bytes.get(..header.total_bytes)?)
        .map_while(Result::ok)
        // A producer's times may be any.
        .map(|r| {
            let time = header.base_timestamp.saturating_add(r.timestamp_delta);
            (time, header.base_offset.saturating_add(i64::from(r.offset_delta)))
        })
        .find(|(time, offset)| *time >= timestamp && *offset >= offset_min)
}

/// The valid batches at the start of a piece, as recovery sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validated {
    /// Headers of the batches, in order.
    pub headers: Vec<Header>,
    /// Bytes of them.
    pub valid_bytes: usize,
    /// Why the next batch isn't valid; `Truncated` also when the piece merely ends.
    pub stopped: Option<BatchError>,
    /// Bytes the piece must have for the next batch, when it was cut short.
    pub need_bytes: usize,
}

/// Walks batches while their CRC is right and offsets follow `next_offset` without a gap.
#[must_use]
pub fn validate(piece: &[u8], next_offset: i64) -> Validated {
    let mut validated =
        Validated { headers: Vec::new(), valid_bytes: 0, stopped: None, need_bytes: batch::HEADER_BYTES };
    let mut next_offset = next_offset;
    while validated.valid_bytes < piece.len() {
        let rest = &piece[validated.valid_bytes..];
        match batch::verify(rest) {
            Ok(header) if header.base_offset == next_offset && header.last_offset_delta >= 0 => {
                next_offset = header.last_offset() + 1;
                validated.valid_bytes += header.total_bytes;
                validated.headers.push(header);
            }
            Ok(_) => {
                validated.stopped = Some(BatchError::Records);
                break;
            }
            Err(e) => {
                validated.stopped = Some(e);
                if let Ok(header) = Header::parse(rest) {
                    validated.need_bytes = header.total_bytes;
                }
                break;
            }
        }
    }
    validated
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(batches: &[&[i64]]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut offset = 0;
        for times in batches {
            let records: Vec<(i64, &[u8])> = times.iter().map(|&t| (t, &b"value"[..])).collect();
            let mut bytes = batch::build(&records, None);
            batch::set_base_offset(&mut bytes, offset);
            offset += records.len() as i64;
            out.extend_from_slice(&bytes);
        }
        out
    }

    #[test]
    fn a_read_takes_whole_batches_and_at_least_one() {
        let file = file(&[&[1, 2], &[3, 4], &[5, 6]]);
        let one = file.len() / 3;
        assert_eq!(select(&file, 0, 6, 1), Ok(Selected::Batches(0..one)));
        assert_eq!(select(&file, 1, 6, 2 * one), Ok(Selected::Batches(0..2 * one)));
        assert_eq!(select(&file, 3, 6, 1 << 20), Ok(Selected::Batches(one..3 * one)));
        assert_eq!(
            select(&file, 2, 4, 1 << 20),
            Ok(Selected::Batches(one..2 * one)),
            "not past the end offset"
        );
        assert_eq!(select(&file[..one + 80], 2, 6, 1), Ok(Selected::NeedBytes(2 * one)));
        assert_eq!(select(&file[..one + 80], 0, 6, 1000), Ok(Selected::Batches(0..one)));
        assert_eq!(select(&file[..20], 0, 6, 1000), Ok(Selected::NeedBytes(61)));
        assert!(select(&[0xaa; 100], 0, 6, 1000).is_err());
    }

    #[test]
    fn times_are_found_record_by_record() {
        let file = file(&[&[10, 30, 20], &[40, 50]]);
        assert_eq!(first_at_or_after(&file, 15, 0), Ok(Some((30, 1))));
        assert_eq!(first_at_or_after(&file, 15, 2), Ok(Some((20, 2))));
        assert_eq!(first_at_or_after(&file, 35, 0), Ok(Some((40, 3))));
        assert_eq!(first_at_or_after(&file, 51, 0), Ok(None));
    }

    #[test]
    fn times_and_offsets_at_the_end_of_their_range_do_no_harm() {
        let mut bytes = batch::build(&[(i64::MAX, b"a"), (i64::MAX - 5, b"b")], None);
        bytes[27..35].copy_from_slice(&i64::MIN.to_be_bytes());
        batch::seal(&mut bytes);
        // The second record's time is now before the first there is.
        assert_eq!(first_at_or_after(&bytes, 0, 0), Ok(None));
        batch::set_base_offset(&mut bytes, i64::MAX);
        assert!(select(&bytes, 5, 10, 1000).is_ok());
    }

    #[test]
    fn recovery_stops_where_bytes_are_wrong() {
        let good = file(&[&[1, 2], &[3, 4], &[5, 6]]);
        let one = good.len() / 3;
        let all = validate(&good, 0);
        assert_eq!((all.headers.len(), all.valid_bytes, all.stopped), (3, good.len(), None));
        let cut = validate(&good[..2 * one + 70], 0);
        assert_eq!(
            (cut.valid_bytes, cut.stopped, cut.need_bytes),
            (2 * one, Some(BatchError::Truncated), one)
        );
        let mut bad = good.clone();
        bad[2 * one - 1] ^= 1;
        let bad = validate(&bad, 0);
        assert_eq!(bad.valid_bytes, one);
        assert!(matches!(bad.stopped, Some(BatchError::Crc { .. })));
        assert_eq!(validate(&good, 5).valid_bytes, 0, "offsets must follow");
        assert_eq!(validate(&vec![0; 4096], 0).valid_bytes, 0, "zeros are no batches");
    }
}
