//! What a client sends and reads: requests as bytes, replies as a tree.
//!
//! For tests, load generators and tools; a server uses [`super::request`] and [`super::reply`].
//! Always: no reply nests deeper than [`DEPTH_MAX`] or names more than the bytes that follow could hold.

use super::number;

/// How deep replies may nest.
pub const DEPTH_MAX: usize = 32;

/// One reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `+`
    Simple(String),
    /// `-`
    Error(String),
    /// `:`
    Integer(i64),
    /// `$`, and `=` without its format
    Bulk(Vec<u8>),
    /// `$-1`, `*-1`, `_`
    Null,
    /// `*`
    Array(Vec<Value>),
    /// `%`
    Map(Vec<(Value, Value)>),
    /// `~`
    Set(Vec<Value>),
    /// `>`
    Push(Vec<Value>),
    /// `,`
    Double(f64),
    /// `#`
    Boolean(bool),
    /// `(`, as text
    BigNumber(String),
}

/// The bytes are no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a RESP reply: {0}")]
pub struct Error(&'static str);

/// Appends a request as a multibulk array.
pub fn request<A: AsRef<[u8]>>(out: &mut Vec<u8>, arguments: &[A]) {
    super::reply::array(out, arguments.len());
    for argument in arguments {
        super::reply::bulk(out, argument.as_ref());
    }
}

/// Reads one reply: the value and how many bytes it takes; `None` while it is not all there.
///
/// # Errors
/// The bytes are no reply.
pub fn decode(input: &[u8]) -> Result<Option<(Value, usize)>, Error> {
    let mut at = 0;
    Ok(value(input, &mut at, 0)?.map(|value| (value, at)))
}

fn value(input: &[u8], at: &mut usize, depth: usize) -> Result<Option<Value>, Error> {
    if depth > DEPTH_MAX {
        return Err(Error("nested too deep"));
    }
    let rest = &input[*at..];
    let Some(end) = memchr::memchr(b'\r', rest).filter(|end| end + 1 < rest.len()) else { return Ok(None) };
    let (kind, line) = rest[..end].split_first().ok_or(Error("an empty line"))?;
    *at += end + 2;
    let text = || String::from_utf8_lossy(line).into_owned();
    let count = || match number::integer(line) {
        Some(-1) => Ok(None),
        Some(count) => usize::try_from(count).map(Some).map_err(|_| Error("a negative count")),
        None => Err(Error("a count that is no number")),
    };
    Ok(Some(match kind {
        b'+' => Value::Simple(text()),
        b'-' => Value::Error(text()),
        b':' => Value::Integer(number::integer(line).ok_or(Error("an integer that is none"))?),
        b'_' => Value::Null,
        b'#' => Value::Boolean(line == b"t"),
        b',' => Value::Double(number::float(line).ok_or(Error("a double that is none"))?),
        b'(' => Value::BigNumber(text()),
        b'$' | b'=' => {
            let Some(length) = count()? else { return Ok(Some(Value::Null)) };
            let Some(body) = input.get(*at..).and_then(|rest| rest.get(..length.checked_add(2)?)) else {
                return Ok(None);
            };
            *at += length + 2;
            let skip = if *kind == b'=' { 4.min(length) } else { 0 };
            Value::Bulk(body[skip..length].to_vec())
        }
        b'*' | b'~' | b'>' => {
            let Some(count) = count()? else { return Ok(Some(Value::Null)) };
            let Some(items) = values(input, at, depth, count)? else { return Ok(None) };
            match kind {
                b'~' => Value::Set(items),
                b'>' => Value::Push(items),
                _ => Value::Array(items),
            }
        }
        b'%' => {
            let count = count()?.ok_or(Error("a map of -1"))?;
            let count = count.checked_mul(2).ok_or(Error("a map too large"))?;
            let Some(items) = values(input, at, depth, count)? else { return Ok(None) };
            let mut items = items.into_iter();
            let mut pairs = Vec::new();
            while let (Some(key), Some(value)) = (items.next(), items.next()) {
                pairs.push((key, value));
            }
            Value::Map(pairs)
        }
        _ => return Err(Error("an unknown type")),
    }))
}

fn values(input: &[u8], at: &mut usize, depth: usize, count: usize) -> Result<Option<Vec<Value>>, Error> {
    let mut items = Vec::new();
    for _ in 0..count {
        match value(input, at, depth + 1)? {
            Some(item) => items.push(item),
            None => return Ok(None),
        }
    }
    Ok(Some(items))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_in_pieces_and_whole() {
        let input = b"*3\r\n$1\r\na\r\n:-5\r\n%1\r\n+k\r\n,1.5\r\n";
        for cut in 0..input.len() {
            assert_eq!(decode(&input[..cut]), Ok(None));
        }
        let map = Value::Map(vec![(Value::Simple("k".into()), Value::Double(1.5))]);
        let whole = Value::Array(vec![Value::Bulk(b"a".to_vec()), Value::Integer(-5), map]);
        assert_eq!(decode(input), Ok(Some((whole, input.len()))));
        assert_eq!(decode(b"$-1\r\n"), Ok(Some((Value::Null, 5))));
        assert_eq!(decode(b"=6\r\ntxt:hi\r\n"), Ok(Some((Value::Bulk(b"hi".to_vec()), 12))));
    }

    #[test]
    fn nonsense_is_refused_and_depth_bounded() {
        assert!(decode(b"?\r\n").is_err());
        assert!(decode(b"$x\r\n").is_err());
        assert!(decode(&b"*1\r\n".repeat(40)).is_err());
        assert_eq!(decode(b"*1000000000000\r\n"), Ok(None));
    }

    #[test]
    fn requests_are_multibulk() {
        let mut out = Vec::new();
        request(&mut out, &["GET", "k"]);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    }
}
