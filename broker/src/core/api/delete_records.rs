//! DeleteRecords (21).

use wire::kafka::ResponseError;
use wire::kafka::messages::delete_records_response::DeleteRecordsPartitionResult;

/// One partition's part of the response: its new first offset.
#[must_use]
pub fn answer_partition(index: i32, result: Result<i64, ResponseError>) -> DeleteRecordsPartitionResult {
    DeleteRecordsPartitionResult::default()
        .with_partition_index(index)
        .with_error_code(super::code(&result))
        .with_low_watermark(result.unwrap_or(-1))
}
