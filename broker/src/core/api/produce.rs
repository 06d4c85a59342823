//! Produce (0): what a batch must be to be taken, and the response.

use wire::kafka::batch::{self, BatchError, Header};
use wire::kafka::messages::produce_response::PartitionProduceResponse;
use wire::kafka::{ResponseError, StrBytes};

use super::Refusal;
use crate::core::producers::SequenceError;

/// What became of one partition's batch.
pub type Outcome = Result<Appended, Refusal>;

/// A batch that is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Its first offset.
    pub base_offset: i64,
    /// The partition's first offset.
    pub log_start: i64,
}

/// Whether `acks` is one of 0, 1, −1 (all).
#[must_use]
pub fn acks_are_valid(acks: i16) -> bool {
    (-1..=1).contains(&acks)
}

/// Checks the records of one partition: exactly one batch, of format v2, sound, not too large, not a broker's own.
///
/// # Errors
/// What to answer for the partition.
pub fn validate(records: &[u8], message_bytes_max: usize) -> Result<Header, Refusal> {
    if records.is_empty() {
        return Err(Refusal::new(ResponseError::InvalidRecord, "no records"));
    }
    let header = match Header::parse(records) {
        Ok(header) if header.total_bytes > message_bytes_max => {
            let message = format!(
                "the batch has {} bytes, max.message.bytes is {message_bytes_max}",
                header.total_bytes
            );
            return Err(Refusal::new(ResponseError::MessageTooLarge, message));
        }
        _ => batch::verify_produced(records).map_err(refuse_batch)?,
    };
    if header.total_bytes != records.len() {
        return Err(Refusal::new(
            ResponseError::InvalidRecord,
            "exactly one record batch is taken per partition",
        ));
    }
    if header.is_control() || header.is_transactional() {
        let message = "transactional and control batches are not served";
        return Err(Refusal::new(ResponseError::InvalidRecord, message));
    }
    if header.producer_id >= 0 && (header.base_sequence < 0 || header.producer_epoch < 0) {
        return Err(Refusal::new(ResponseError::InvalidRecord, "a producer id without epoch or sequence"));
    }
    Ok(header)
}

fn refuse_batch(error: BatchError) -> Refusal {
    let code = match error {
        BatchError::Truncated | BatchError::Length(_) | BatchError::Crc { .. } => {
            ResponseError::CorruptMessage
        }
        BatchError::Magic(_) => ResponseError::UnsupportedForMessageFormat,
        BatchError::Records => ResponseError::InvalidRecord,
        BatchError::Codec(_) => ResponseError::UnsupportedCompressionType,
    };
    Refusal::new(code, error.to_string())
}

/// What a batch out of its producer's order is answered with.
#[must_use]
pub fn refuse_sequence(error: SequenceError) -> Refusal {
    let code = match error {
        SequenceError::OutOfOrder { .. } => ResponseError::OutOfOrderSequenceNumber,
        SequenceError::Epoch { .. } => ResponseError::InvalidProducerEpoch,
    };
    Refusal::new(code, error.to_string())
}

/// One partition's part of the response.
#[must_use]
pub fn answer_partition(index: i32, outcome: &Outcome) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default().with_index(index).with_log_append_time_ms(-1);
    match outcome {
        Ok(appended) => {
            response.with_base_offset(appended.base_offset).with_log_start_offset(appended.log_start)
        }
        Err(refusal) => response
            .with_error_code(refusal.error.code())
            .with_base_offset(-1)
            .with_log_start_offset(-1)
            .with_error_message(Some(StrBytes::from_string(refusal.message.clone()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_its_error() {
        let good = batch::build(&[(1, b"x")], None);
        let error = |records: &[u8]| validate(records, 1000).map_err(|r| r.error).map(|h| h.record_count);
        assert_eq!(error(&good), Ok(1));
        assert_eq!(error(b""), Err(ResponseError::InvalidRecord));
        assert_eq!(error(&good[..30]), Err(ResponseError::CorruptMessage));
        assert_eq!(error(&[&good[..], &good].concat()), Err(ResponseError::InvalidRecord));
        assert_eq!(validate(&good, 10).unwrap_err().error, ResponseError::MessageTooLarge);
        let with = |at: usize, to: u8| {
            let mut batch = good.clone();
            batch[at] = to;
            batch::seal(&mut batch);
            batch
        };
        assert_eq!(error(&with(16, 1)), Err(ResponseError::UnsupportedForMessageFormat));
        assert_eq!(error(&with(22, 0x20)), Err(ResponseError::InvalidRecord), "control");
        assert_eq!(error(&with(22, 0x10)), Err(ResponseError::InvalidRecord), "transactional");
        assert_eq!(error(&with(22, 0x07)), Err(ResponseError::UnsupportedCompressionType));
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        assert_eq!(error(&bad), Err(ResponseError::CorruptMessage));
    }
}
