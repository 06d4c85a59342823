//! Produce 0–2: read far enough to refuse it in its own form.
//!
//! Brokers advertise Produce from version 0 (older librdkafka stops compressing otherwise), yet nothing before
//! record batch v2 is stored. A client that does send one is told UNSUPPORTED_FOR_MESSAGE_FORMAT (43) per partition.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;

use super::ResponseError;
use super::message::MessageError;
use super::shape;

/// The answer to a Produce request of version 0, 1 or 2 that stores nothing; `None` when the client asked for none
/// (acks = 0).
///
/// # Errors
/// [`MessageError`] when the request is malformed.
pub fn refuse_produce(correlation_id: i32, version: i16, body: &[u8]) -> Result<Option<Bytes>, MessageError> {
    shape::check(ApiKey::Produce, version, body)?;
    let mut rest = body;
    let acks = take_i16(&mut rest)?;
    let _timeout_ms = take_i32(&mut rest)?;
    let mut out = BytesMut::with_capacity(64);
    out.put_i32(0);
    out.put_i32(correlation_id);
    let topics = take_i32(&mut rest)?;
    out.put_i32(topics.max(0));
    for _ in 0..topics.max(0) {
        let len = take_i16(&mut rest)?;
        let name = take(&mut rest, usize::try_from(len.max(0)).unwrap_or(0))?;
        out.put_i16(len.max(0));
        out.put_slice(name);
        let partitions = take_i32(&mut rest)?;
        out.put_i32(partitions.max(0));
        for _ in 0..partitions.max(0) {
            out.put_i32(take_i32(&mut rest)?);
            let len = take_i32(&mut rest)?;
            take(&mut rest, usize::try_from(len.max(0)).unwrap_or(0))?;
            out.put_i16(ResponseError::UnsupportedForMessageFormat.code());
            out.put_i64(-1);
            if version >= 2 {
                out.put_i64(-1);
            }
        }
    }
    if version >= 1 {
        out.put_i32(0);
    }
    let len = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&len.to_be_bytes());
    Ok((acks != 0).then(|| out.freeze()))
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], MessageError> {
    let (head, tail) = rest.split_at_checked(len).ok_or(shape::ShapeError::Truncated)?;
    *rest = tail;
    Ok(head)
}

fn take_i16(rest: &mut &[u8]) -> Result<i16, MessageError> {
    let bytes = take(rest, 2)?;
    Ok(i16::from_be_bytes([bytes[0], bytes[1]]))
}

fn take_i32(rest: &mut &[u8]) -> Result<i32, MessageError> {
    let bytes = take(rest, 4)?;
    Ok(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(acks: i16) -> Vec<u8> {
        let mut body = acks.to_be_bytes().to_vec();
        body.extend_from_slice(&1000_i32.to_be_bytes());
        body.extend_from_slice(&1_i32.to_be_bytes());
        body.extend_from_slice(b"\0\x01t");
        body.extend_from_slice(&1_i32.to_be_bytes());
        body.extend_from_slice(&5_i32.to_be_bytes());
        body.extend_from_slice(&3_i32.to_be_bytes());
        body.extend_from_slice(b"old");
        body
    }

    #[test]
    fn each_version_is_refused_in_its_form() {
        for (version, len) in [(0, 4 + 4 + 3 + 4 + 4 + 2 + 8), (1, 33), (2, 41)] {
            let answer = refuse_produce(3, version, &request(1)).unwrap().unwrap();
            assert_eq!(answer.len(), 4 + len, "version {version}");
            assert_eq!(&answer[4 + 4 + 4 + 3 + 4 + 4..][..2], &43_i16.to_be_bytes());
        }
        assert_eq!(refuse_produce(3, 2, &request(0)), Ok(None));
        assert!(refuse_produce(3, 2, &request(1)[..20]).is_err());
    }
}
