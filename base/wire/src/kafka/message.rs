//! Request heads, decoding of requests, encoding of responses.
//!
//! A request is decoded only after [`shape::check`]; a response carries its length prefix.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;

use super::{Decodable, Encodable, HeaderVersion, Request, StrBytes, shape};

/// Why a request can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The head is cut short or holds a client id that is no text.
    #[error("malformed request head")]
    Head,
    /// A length in the body lies.
    #[error(transparent)]
    Shape(#[from] shape::ShapeError),
    /// The body doesn't decode.
    #[error("malformed request: {0}")]
    Body(String),
    /// The response doesn't encode.
    #[error("a response that can't be written: {0}")]
    Response(String),
}

/// What stands before every request (request header v1 and v2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The API's number.
    pub api_key: i16,
    /// The version of request and response.
    pub version: i16,
    /// Given back in the response.
    pub correlation_id: i32,
    /// Who the client says it is; empty when null.
    pub client_id: StrBytes,
}

/// Key, version and correlation id: enough to answer an ApiVersions request of a version not known.
///
/// # Errors
/// [`MessageError::Head`] when fewer than 8 bytes are there.
pub fn peek(frame: &[u8]) -> Result<(i16, i16, i32), MessageError> {
    let bytes = frame.first_chunk::<8>().ok_or(MessageError::Head)?;
    let [a, b, c, d, e, f, g, h] = *bytes;
    Ok((i16::from_be_bytes([a, b]), i16::from_be_bytes([c, d]), i32::from_be_bytes([e, f, g, h])))
}

/// Takes the head off a frame. `flexible` says that tagged fields end it (header v2).
///
/// # Errors
/// [`MessageError::Head`].
pub fn take_head(frame: &mut Bytes, flexible: bool) -> Result<Head, MessageError> {
    let (api_key, version, correlation_id) = peek(frame)?;
    frame.advance(8);
    let len = frame.try_get_i16().map_err(|_| MessageError::Head)?;
    let len = usize::try_from(len.max(0)).unwrap_or(0);
    if frame.len() < len {
        return Err(MessageError::Head);
    }
    let client_id = StrBytes::from_utf8(frame.split_to(len)).map_err(|_| MessageError::Head)?;
    if flexible {
        let fields = take_uvarint(frame)?;
        for _ in 0..fields {
            let _tag = take_uvarint(frame)?;
            let len = take_uvarint(frame)? as usize;
            if frame.len() < len {
                return Err(MessageError::Head);
            }
            frame.advance(len);
        }
    }
    Ok(Head { api_key, version, correlation_id, client_id })
}

fn take_uvarint(frame: &mut Bytes) -> Result<u32, MessageError> {
    let mut value = 0_u32;
    for shift in [0, 7, 14, 21, 28] {
        let byte = frame.try_get_u8().map_err(|_| MessageError::Head)?;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(MessageError::Head)
}

/// Decodes a request's body; byte fields are slices of `body`, not copies.
///
/// # Errors
/// [`MessageError::Shape`] and [`MessageError::Body`].
pub fn decode<R: Request>(version: i16, mut body: Bytes) -> Result<R, MessageError> {
    let key = ApiKey::try_from(R::KEY).map_err(|()| shape::ShapeError::Unserved)?;
    shape::check(key, version, &body)?;
    R::decode(&mut body, version).map_err(|e| MessageError::Body(e.to_string()))
}

/// A response with its length prefix and head.
///
/// # Errors
/// [`MessageError::Response`] when the response holds what `version` can't carry: a text of more than 32 KiB in a version
/// before the flexible ones, say.
pub fn encode<T: Encodable + HeaderVersion>(
    correlation_id: i32,
    version: i16,
    response: &T,
) -> Result<Bytes, MessageError> {
    let mut out = BytesMut::with_capacity(256);
    out.put_i32(0);
    out.put_i32(correlation_id);
    if T::header_version(version) >= 1 {
        out.put_u8(0);
    }
    let refused = |why: String| {
        MessageError::Response(format!("{} version {version}: {why}", std::any::type_name::<T>()))
    };
    response.encode(&mut out, version).map_err(|e| refused(e.to_string()))?;
    let len = i32::try_from(out.len() - 4).map_err(|_| refused("longer than 2 GiB".into()))?;
    out[..4].copy_from_slice(&len.to_be_bytes());
    Ok(out.freeze())
}

/// A request with its length prefix and head, as a client sends it: for tests and measurements.
///
/// # Panics
/// When `request` can't be encoded as `version`.
#[must_use]
pub fn encode_request<R: Request>(correlation_id: i32, version: i16, client_id: &str, request: &R) -> Bytes {
    let mut out = BytesMut::with_capacity(256);
    out.put_i32(0);
    out.put_i16(R::KEY);
    out.put_i16(version);
    out.put_i32(correlation_id);
    out.put_i16(i16::try_from(client_id.len()).expect("a client id is short"));
    out.put_slice(client_id.as_bytes());
    if R::header_version(version) >= 2 {
        out.put_u8(0);
    }
    request.encode(&mut out, version).expect("the request fits its version");
    let len = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&len.to_be_bytes());
    out.freeze()
}

/// Decodes a response frame (without its length prefix): its correlation id and the message.
///
/// # Errors
/// [`MessageError`]; what a broker sends is trusted as far as its lengths go, so this is for tests and measurements.
pub fn decode_response<T: Decodable + HeaderVersion>(
    version: i16,
    mut frame: Bytes,
) -> Result<(i32, T), MessageError> {
    let correlation_id = frame.try_get_i32().map_err(|_| MessageError::Head)?;
    if T::header_version(version) >= 1 && frame.try_get_u8() != Ok(0) {
        return Err(MessageError::Head);
    }
    let message = T::decode(&mut frame, version).map_err(|e| MessageError::Body(e.to_string()))?;
    Ok((correlation_id, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::messages::{ApiVersionsRequest, ApiVersionsResponse, MetadataRequest};

    #[test]
    fn a_request_survives_the_round_trip() {
        for version in [0, 9, 12] {
            let sent = MetadataRequest::default().with_topics(Some(vec![]));
            let mut frame = encode_request(7, version, "tester", &sent);
            frame.advance(4);
            let head = take_head(&mut frame, MetadataRequest::header_version(version) >= 2).unwrap();
            assert_eq!((head.api_key, head.version, head.correlation_id), (3, version, 7));
            assert_eq!(&*head.client_id, "tester");
            assert_eq!(decode::<MetadataRequest>(version, frame).unwrap().topics, Some(vec![]));
        }
    }

    #[test]
    fn api_versions_answers_keep_the_old_head() {
        let mut frame = encode(9, 3, &ApiVersionsResponse::default()).unwrap();
        frame.advance(4);
        let (correlation_id, _) = decode_response::<ApiVersionsResponse>(3, frame).unwrap();
        assert_eq!(correlation_id, 9);
    }

    #[test]
    fn heads_cut_short_are_refused() {
        let whole = encode_request(1, 3, "abc", &ApiVersionsRequest::default()).slice(4..);
        for end in 0..8 + 2 + 3 + 1 {
            assert!(take_head(&mut whole.slice(..end), true).is_err(), "cut at {end}");
        }
    }
}
