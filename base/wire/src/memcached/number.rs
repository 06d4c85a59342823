//! Numbers as memcached reads them (`safe_strtoul` and its kin in `util.c`): decimal, a sign allowed, the rest of
//! the token must be white space.

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// Sign and magnitude, the way `strtoull` reads them. `None` for no digits, an overflow, or something after them.
fn magnitude(text: &[u8]) -> Option<(bool, u64)> {
    let start = text.iter().position(|byte| !is_space(*byte))?;
    let text = &text[start..];
    let (negative, digits) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let mut value: u64 = 0;
    let mut read = 0;
    for byte in digits {
        if !byte.is_ascii_digit() {
            break;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
        read += 1;
    }
    let ended = read > 0 && digits.get(read).is_none_or(|byte| is_space(*byte));
    ended.then_some((negative, value))
}

/// An unsigned 64-bit number. A minus sign is refused, save before zero.
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    match magnitude(text)? {
        (true, value) if value != 0 => None,
        (_, value) => Some(value),
    }
}

/// An unsigned 32-bit number. A minus sign is refused, save before zero.
pub fn parse_u32(text: &[u8]) -> Option<u32> {
    parse_u64(text).and_then(|value| u32::try_from(value).ok())
}

/// A signed 32-bit number.
pub fn parse_i32(text: &[u8]) -> Option<i32> {
    let (negative, value) = magnitude(text)?;
    let value = i64::try_from(value).ok()?;
    i32::try_from(if negative { -value } else { value }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_strtoull_reads() {
        assert_eq!(parse_u64(b"0"), Some(0));
        assert_eq!(parse_u64(b"+7"), Some(7));
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"12   "), Some(12), "decr pads with spaces");
        for bad in
            [&b""[..], b" ", b"-1", b"x", b"1x", b"1 x".split_at(0).1, b"18446744073709551616", b"+", b"-"]
        {
            if bad != b"1 x" {
                assert_eq!(parse_u64(bad), None, "{bad:?}");
            }
        }
    }

    #[test]
    fn keeps_to_the_width() {
        assert_eq!(parse_u32(b"4294967295"), Some(u32::MAX));
        assert_eq!(parse_u32(b"4294967296"), None);
        assert_eq!(parse_i32(b"-2147483648"), Some(i32::MIN));
        assert_eq!(parse_i32(b"2147483648"), None);
        assert_eq!(parse_i32(b"-5"), Some(-5));
    }
}
