//! The few answers that are built rather than fixed.

use data_encoding::BASE64;

/// Appends `number` in decimal.
pub fn append_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Appends the head line of one item of a retrieval: `VALUE <key> <flags> <bytes> [<cas>]\r\n`.
pub fn append_value_head(out: &mut Vec<u8>, key: &[u8], flags: u32, bytes: usize, cas: Option<u64>) {
    out.extend_from_slice(b"VALUE ");
    out.extend_from_slice(key);
    out.push(b' ');
    append_decimal(out, u64::from(flags));
    out.push(b' ');
    append_decimal(out, bytes as u64);
    if let Some(cas) = cas {
        out.push(b' ');
        append_decimal(out, cas);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a binary key in base64.
pub fn append_binary_key(out: &mut Vec<u8>, key: &[u8]) {
    let start = out.len();
    out.resize(start + BASE64.encode_len(key.len()), 0);
    BASE64.encode_mut(key, &mut out[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals() {
        for number in [0, 9, 10, 4_294_967_296, u64::MAX] {
            let mut out = Vec::new();
            append_decimal(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }

    #[test]
    fn value_head() {
        let mut out = Vec::new();
        append_value_head(&mut out, b"k", 7, 3, Some(9));
        assert_eq!(out, b"VALUE k 7 3 9\r\n");
    }
}
