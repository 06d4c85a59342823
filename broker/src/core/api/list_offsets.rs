//! ListOffsets (2): the earliest, the latest, the one at a time, the one with the largest time.

use wire::kafka::ResponseError;
use wire::kafka::messages::list_offsets_response::ListOffsetsPartitionResponse;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// −2: the first offset.
    Earliest,
    /// −1: the high watermark.
    Latest,
    /// −3, from version 7: the record with the largest timestamp.
    MaxTimestamp,
    /// The first record at or after this time, ms.
    At(i64),
}

/// Reads the timestamp field.
///
/// # Errors
/// UNSUPPORTED_VERSION for the special values of later versions.
pub fn wanted(timestamp: i64, version: i16) -> Result<Wanted, ResponseError> {
    match timestamp {
        -1 => Ok(Wanted::Latest),
        -2 => Ok(Wanted::Earliest),
        -3 if version >= 7 => Ok(Wanted::MaxTimestamp),
        at if at >= 0 => Ok(Wanted::At(at)),
        _ => Err(ResponseError::UnsupportedVersion),
    }
}

/// One partition's part of the response: timestamp, offset, leader epoch, all −1 when nothing is that late.
#[must_use]
pub fn answer_partition(
    index: i32,
    version: i16,
    found: Result<Option<(i64, i64, i32)>, ResponseError>,
) -> ListOffsetsPartitionResponse {
    let (timestamp, offset, epoch) = found.unwrap_or(None).unwrap_or((-1, -1, -1));
    let leader_epoch = if version >= 4 { epoch } else { -1 };
    ListOffsetsPartitionResponse::default()
        .with_partition_index(index)
        .with_error_code(super::code(&found))
        .with_timestamp(timestamp)
        .with_offset(offset)
        .with_leader_epoch(leader_epoch)
}
