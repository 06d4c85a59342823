//! What a server writes: each function appends one reply, or the head of one, to a byte vector.
//!
//! Where RESP3 has a type that RESP2 lacks, the function takes the [`Protocol`] and falls back as Redis does.

use super::Protocol;
use super::number::push_integer;

fn head(out: &mut Vec<u8>, kind: u8, number: usize) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// `+text`. The text holds no CR or LF.
pub fn simple(out: &mut Vec<u8>, text: &str) {
    debug_assert!(!text.contains(['\r', '\n']), "a simple string is one line");
    out.push(b'+');
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// `-text`. CR and LF (from a peer's own words) become spaces, as in Redis.
pub fn error(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'-');
    out.extend(text.iter().map(|&byte| if byte == b'\r' || byte == b'\n' { b' ' } else { byte }));
    out.extend_from_slice(b"\r\n");
}

/// `:number`.
pub fn integer(out: &mut Vec<u8>, value: i64) {
    out.push(b':');
    push_integer(out, value);
    out.extend_from_slice(b"\r\n");
}

/// `$length`, the bytes, CRLF.
pub fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    head(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// The head of a bulk string whose bytes travel apart; a CRLF must follow them.
pub fn bulk_head(out: &mut Vec<u8>, length_bytes: usize) {
    head(out, b'$', length_bytes);
}

/// Nothing: `$-1` or `_`.
pub fn null(out: &mut Vec<u8>, protocol: Protocol) {
    out.extend_from_slice(if protocol == Protocol::Resp2 { b"$-1\r\n" } else { b"_\r\n" });
}

/// Nothing, where an array was expected: `*-1` or `_`.
pub fn null_array(out: &mut Vec<u8>, protocol: Protocol) {
    out.extend_from_slice(if protocol == Protocol::Resp2 { b"*-1\r\n" } else { b"_\r\n" });
}

/// The head of an array.
pub fn array(out: &mut Vec<u8>, count: usize) {
    head(out, b'*', count);
}

/// The head of a map of `count` pairs; in RESP2 an array of twice as many.
pub fn map(out: &mut Vec<u8>, count: usize, protocol: Protocol) {
    match protocol {
        Protocol::Resp2 => head(out, b'*', count * 2),
        Protocol::Resp3 => head(out, b'%', count),
    }
}

/// The head of a set; in RESP2 an array.
pub fn set(out: &mut Vec<u8>, count: usize, protocol: Protocol) {
    head(out, if protocol == Protocol::Resp2 { b'*' } else { b'~' }, count);
}

/// A text with its format (`txt`); in RESP2 a bulk string.
pub fn verbatim(out: &mut Vec<u8>, format: &str, text: &[u8], protocol: Protocol) {
    debug_assert_eq!(format.len(), 3);
    match protocol {
        Protocol::Resp2 => bulk(out, text),
        Protocol::Resp3 => {
            head(out, b'=', text.len() + 4);
            out.extend_from_slice(format.as_bytes());
            out.push(b':');
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn each_type_in_both_versions() {
        assert_eq!(written(|out| simple(out, "OK")), "+OK\r\n");
        assert_eq!(written(|out| error(out, b"ERR a\r\nb")), "-ERR a  b\r\n");
        assert_eq!(written(|out| integer(out, i64::MIN)), ":-9223372036854775808\r\n");
        assert_eq!(written(|out| bulk(out, b"ab")), "$2\r\nab\r\n");
        assert_eq!(written(|out| null(out, Protocol::Resp2)), "$-1\r\n");
        assert_eq!(written(|out| null(out, Protocol::Resp3)), "_\r\n");
        assert_eq!(written(|out| null_array(out, Protocol::Resp2)), "*-1\r\n");
        assert_eq!(written(|out| map(out, 2, Protocol::Resp2)), "*4\r\n");
        assert_eq!(written(|out| map(out, 2, Protocol::Resp3)), "%2\r\n");
        assert_eq!(written(|out| set(out, 2, Protocol::Resp3)), "~2\r\n");
        assert_eq!(written(|out| verbatim(out, "txt", b"hi", Protocol::Resp3)), "=6\r\ntxt:hi\r\n");
    }
}
