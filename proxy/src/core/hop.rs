//! Fields that are for one connection only and end here (RFC 9110 section 7.6.1), and those we write ourselves.
//!
//! What always holds: what decides a message's length, its host or its connection is never copied from a peer; the writer
//! of the next head states it anew from what was parsed.

use wire::http1::{ConnectionOptions, Field, FieldName};

/// Whether a field of a head with these `fields` and `options` ends here.
pub fn ends_here(
    field: &Field<'_>,
    name: FieldName,
    fields: &[Field<'_>],
    options: ConnectionOptions,
) -> bool {
    match name {
        FieldName::Connection
        | FieldName::ContentLength
        | FieldName::Http2Settings
        | FieldName::KeepAlive
        | FieldName::ProxyConnection
        | FieldName::Te
        | FieldName::TransferEncoding
        | FieldName::Upgrade => true,
        _ => options.names(fields, field.name),
    }
}

/// Whether a trailer field may be passed on: none that frames, routes or controls a message (RFC 9110 section 6.5.1).
pub fn may_trail(name: &str) -> bool {
    let forbidden =
        ["authorization", "cache-control", "set-cookie", "content-encoding", "content-type", "content-range"];
    FieldName::of(name) == FieldName::Other
        && !is_x_forwarded(name)
        && !forbidden.iter().any(|other| name.eq_ignore_ascii_case(other))
}

/// `X-Forwarded-` anything, also with `_` for `-`: servers that turn fields into variables take the two for one.
pub fn is_x_forwarded(name: &str) -> bool {
    let prefix = b"x-forwarded-";
    name.len() > prefix.len()
        && name
            .bytes()
            .zip(prefix)
            .all(|(byte, wanted)| byte.eq_ignore_ascii_case(wanted) || byte == b'_' && *wanted == b'-')
}

/// Writes one field line.
pub fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes a number in decimal.
pub fn write_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Writes the end of a chunked body: the last chunk and the trailer fields that may be passed on.
pub fn write_last_chunk(out: &mut Vec<u8>, body: &wire::http1::Body) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in body.trailers().filter(|(name, _)| may_trail(name)) {
        write_field(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for number in [0, 7, 10, 12345, u64::MAX] {
            let mut out = Vec::new();
            write_number(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }

    #[test]
    fn what_frames_or_forwards_may_not_trail() {
        for name in [
            "Content-Length",
            "transfer-encoding",
            "Host",
            "Authorization",
            "Set-Cookie",
            "Trailer",
            "TE",
            "Forwarded",
            "X-Forwarded-For",
            "X_Forwarded_Port",
        ] {
            assert!(!may_trail(name), "{name}");
        }
        assert!(may_trail("Digest") && may_trail("grpc-status"));
    }
}
