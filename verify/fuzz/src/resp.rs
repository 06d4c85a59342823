//! `wire::resp`: requests however they are cut, replies.

use wire::resp::request::{Error, Limits, Parser};
use wire::resp::value;

const LIMITS: Limits = Limits {
    bulk_bytes_max: 32 * 1024,
    arguments_max: 1024,
    inline_bytes_max: 1024,
    request_bytes_max: 48 * 1024,
};
/// The longest reply whose every prefix is tried.
const PREFIXES_BYTES_MAX: usize = 64;

/// Reads `data` as requests, whole and in pieces, and as a reply.
pub fn run(data: &[u8]) {
    let (sizes, input) = crate::pieces::take_cuts(data);
    let whole = crate::bounded(input.len(), 256, || requests(input, &[]));
    let pieces = crate::bounded(input.len(), 256, || requests(input, sizes));
    assert_eq!(whole, pieces, "cut by {sizes:?}");
    for arguments in &whole.0 {
        written_is_read(arguments);
    }
    crate::bounded(input.len(), 256, || reply(input));
}

type Requests = (Vec<Vec<Vec<u8>>>, Option<Error>);

fn requests(input: &[u8], sizes: &[u8]) -> Requests {
    let mut parser = Parser::new(LIMITS);
    let mut buffer: Vec<u8> = Vec::new();
    let mut found = Vec::new();
    for piece in crate::pieces::cut(input, sizes) {
        buffer.extend_from_slice(piece);
        loop {
            match parser.parse(&buffer) {
                Ok(Some(taken)) => {
                    assert!(taken > 0 && taken <= buffer.len());
                    found.push(parser.arguments(&buffer).iter().map(<[u8]>::to_vec).collect());
                    parser.finish();
                    buffer.drain(..taken);
                }
                Ok(None) => {
                    assert!(parser.bytes_needed() <= LIMITS.request_bytes_max + 2);
                    break;
                }
                Err(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}

fn written_is_read(arguments: &[Vec<u8>]) {
    let mut out = Vec::new();
    value::request(&mut out, arguments);
    if out.len() > LIMITS.request_bytes_max {
        return;
    }
    let mut parser = Parser::new(LIMITS);
    assert_eq!(parser.parse(&out), Ok(Some(out.len())));
    assert!(parser.arguments(&out).iter().eq(arguments.iter().map(Vec::as_slice)));
}

/// A reply that is there takes exactly its own bytes: they alone give it, and no fewer do.
fn reply(input: &[u8]) {
    let Ok(Some((value, taken))) = value::decode(input) else { return };
    assert!(taken > 0 && taken <= input.len());
    // NaN differs from itself; its text does not.
    let text = |value| format!("{value:?}");
    let again = value::decode(&input[..taken]).expect("its own bytes give it").expect("and all of it");
    assert_eq!((text(&again.0), again.1), (text(&value), taken));
    for end in 0..taken.min(PREFIXES_BYTES_MAX) {
        assert!(
            matches!(value::decode(&input[..end]), Ok(None) | Err(_)),
            "{end} of {taken} bytes are a whole reply"
        );
    }
}
