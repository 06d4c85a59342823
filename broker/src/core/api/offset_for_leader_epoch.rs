//! OffsetForLeaderEpoch (23): there is one epoch, which ends where the log ends.

use wire::kafka::ResponseError;
use wire::kafka::messages::offset_for_leader_epoch_response::EpochEndOffset;

use super::LEADER_EPOCH;

/// One partition's part of the response. `end` is its high watermark.
#[must_use]
pub fn answer_partition(index: i32, leader_epoch: i32, end: Result<i64, ResponseError>) -> EpochEndOffset {
    let known = leader_epoch == LEADER_EPOCH && end.is_ok();
    EpochEndOffset::default()
        .with_partition(index)
        .with_error_code(super::code(&end))
        .with_leader_epoch(if known { LEADER_EPOCH } else { -1 })
        .with_end_offset(if known { end.unwrap_or(-1) } else { -1 })
}
