//! InitProducerId (22): ids for idempotent producers; transactional ones are refused.

use wire::kafka::ResponseError;
use wire::kafka::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

/// What a request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A fresh id, epoch 0.
    Fresh,
    /// The id it has, with the next epoch.
    Bump(i64, i16),
    /// Nothing.
    Refuse(ResponseError),
}

/// Decides. A producer that asks with its own id and epoch (from version 3, after an error that broke its sequence)
/// keeps the id; at the last epoch it gets another id.
#[must_use]
pub fn decide(request: &InitProducerIdRequest, version: i16) -> Verdict {
    if request.transactional_id.is_some() {
        return Verdict::Refuse(ResponseError::InvalidRequest);
    }
    let (id, epoch) = (request.producer_id.0, request.producer_epoch);
    if version >= 3 && id >= 0 && (0..i16::MAX - 1).contains(&epoch) {
        Verdict::Bump(id, epoch + 1)
    } else {
        Verdict::Fresh
    }
}

/// The response.
#[must_use]
pub fn answer(result: Result<(i64, i16), ResponseError>) -> InitProducerIdResponse {
    let (id, epoch) = result.unwrap_or((-1, -1));
    InitProducerIdResponse::default()
        .with_error_code(super::code(&result))
        .with_producer_id(ProducerId(id))
        .with_producer_epoch(epoch)
}
