//! Request bodies and their media types, bounded.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::problem::Problem;

/// The largest JSON or form body, in bytes: some ten times the largest user.
pub(super) const JSON_BYTES_MAX: usize = 64 << 10;

/// Of a body that is too large so much is read and forgotten, in bytes, so that a client that sends it all before it
/// listens still hears why; beyond, the connection is cut.
const DRAIN_BYTES_MAX: usize = 64 << 20;

/// The whole body, if it has at most `bytes_max` bytes.
pub(super) async fn read(headers: &HeaderMap, mut body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    // Who expects 100 has sent nothing yet, and hears 413 instead.
    if announced.is_some_and(|length| length > bytes_max as u64) {
        if !headers.contains_key(header::EXPECT) {
            drain(body).await;
        }
        return Err(Problem::too_large(bytes_max));
    }
    match Limited::new(&mut body, bytes_max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            drain(body).await;
            Err(Problem::too_large(bytes_max))
        }
        Err(_) => Err(Problem::bad_request("the body broke off")),
    }
}

async fn drain(mut body: Body) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > DRAIN_BYTES_MAX {
            return;
        }
    }
}

/// The media type without its parameters, in lower case; empty if there is none.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Refuses a body that says it is none of `types`. One that says nothing passes.
pub(super) fn expect_media_type(headers: &HeaderMap, types: &[&str]) -> Result<(), Problem> {
    let media_type = media_type(headers);
    if media_type.is_empty() || types.contains(&media_type.as_str()) {
        Ok(())
    } else {
        Err(Problem::unsupported_media_type(&types.join(" or ")))
    }
}
