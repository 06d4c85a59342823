//! InitProducerId (22): ids for idempotent producers; transactional ones are refused.

use wire::kafka::ResponseError;
use wire::kafka::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

/// Why a request gets no id. One without a transactional id always gets a fresh one, whatever id it says it has: nothing
/// here knows whose that is, and Kafka does the same.
#[must_use]
pub fn refusal(request: &InitProducerIdRequest) -> Option<ResponseError> {
    request.transactional_id.as_ref().map(|_| ResponseError::InvalidRequest)
}

/// The response: the id, with epoch 0.
#[must_use]
pub fn answer(id: Result<i64, ResponseError>) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
        .with_error_code(super::code(&id))
        .with_producer_id(ProducerId(id.unwrap_or(-1)))
        .with_producer_epoch(if id.is_ok() { 0 } else { -1 })
}
