//! OffsetForLeaderEpoch (23): where the batches of a leader epoch end. A leader epoch is a term of the partition's replicated
//! log.

use wire::kafka::ResponseError;
use wire::kafka::messages::offset_for_leader_epoch_response::EpochEndOffset;

/// One partition's part of the response: the epoch and the offset behind its last batch, both −1 when the epoch is not known.
#[must_use]
pub fn answer_partition(index: i32, end: Result<Option<(i32, i64)>, ResponseError>) -> EpochEndOffset {
    let error = super::code(&end);
    let (epoch, offset) = end.unwrap_or(None).unwrap_or((-1, -1));
    EpochEndOffset::default()
        .with_partition(index)
        .with_error_code(error)
        .with_leader_epoch(epoch)
        .with_end_offset(offset)
}
