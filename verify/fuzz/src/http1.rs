//! `wire::http1`: the messages of a stream, however it is cut.

use wire::http1::{Body, FieldStorage, Framing, HeadKind, HeadScan, Limits, Piece, Request, Response};

const LIMITS: Limits = Limits { line_bytes_max: 512, head_bytes_max: 4096, fields_max: 16 };

/// Reads `data` as requests or as answers, whole and in pieces; both must give the same.
pub fn run(data: &[u8]) {
    let [choice, data @ ..] = data else { return };
    let kind = if choice & 1 == 0 { HeadKind::Request } else { HeadKind::Response };
    let to_head = choice & 2 != 0;
    let (sizes, input) = crate::pieces::take_cuts(data);
    let whole = crate::bounded(input.len(), 256, || read(kind, to_head, input, &[]));
    let pieces = crate::bounded(input.len(), 256, || read(kind, to_head, input, sizes));
    assert_eq!(whole, pieces, "cut by {sizes:?}");
}

/// What was read, in order.
#[derive(Debug, PartialEq)]
enum Event {
    Head(String, Framing),
    /// Content, joined.
    Data(Vec<u8>),
    End,
    Error(wire::http1::Error),
}

fn read(kind: HeadKind, to_head: bool, input: &[u8], sizes: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    let mut buffer: Vec<u8> = Vec::new();
    let mut scan = HeadScan::new(kind);
    let mut body: Option<Body> = None;
    for piece in crate::pieces::cut(input, sizes) {
        buffer.extend_from_slice(piece);
        while let Some(step) = step(kind, to_head, &mut buffer, &mut scan, &mut body, &mut events) {
            if let Err(error) = step {
                events.push(Event::Error(error));
                return events;
            }
        }
    }
    events
}

/// Reads a head or some of a body off the front of `buffer`; none when more must come first.
fn step(
    kind: HeadKind,
    to_head: bool,
    buffer: &mut Vec<u8>,
    scan: &mut HeadScan,
    body: &mut Option<Body>,
    events: &mut Vec<Event>,
) -> Option<Result<(), wire::http1::Error>> {
    let Some(reading) = body else {
        let range = match scan.find(buffer, &LIMITS) {
            Ok(range) => range?,
            Err(error) => return Some(Err(error)),
        };
        let head = &buffer[range.clone()];
        let (text, framing) = match parse(kind, to_head, head) {
            Ok(parsed) => parsed,
            Err(error) => return Some(Err(error)),
        };
        events.push(Event::Head(text, framing));
        buffer.drain(..range.end);
        *scan = HeadScan::new(kind);
        *body = Some(Body::new(framing));
        return Some(Ok(()));
    };
    let (taken, piece) = match reading.read(buffer) {
        Ok(read) => read,
        Err(error) => return Some(Err(error)),
    };
    assert!(taken <= buffer.len());
    let goes_on = match piece {
        Piece::Data(data) => {
            assert!(!data.is_empty());
            match events.last_mut() {
                Some(Event::Data(before)) => before.extend_from_slice(data),
                _ => events.push(Event::Data(data.to_vec())),
            }
            true
        }
        Piece::More => {
            assert_eq!(taken, buffer.len(), "all is taken when more is asked for");
            false
        }
        Piece::End => {
            for (name, value) in reading.trailers() {
                assert!(!name.is_empty() && !value.contains(&b'\n'));
            }
            events.push(Event::End);
            *body = None;
            true
        }
    };
    buffer.drain(..taken);
    goes_on.then_some(Ok(()))
}

fn parse(kind: HeadKind, to_head: bool, head: &[u8]) -> Result<(String, Framing), wire::http1::Error> {
    let mut storage = FieldStorage::new();
    match kind {
        HeadKind::Request => {
            let request = Request::parse(head, &mut storage, &LIMITS)?;
            assert!(request.framing != Framing::UntilClose, "a request's body does not end at the close");
            Ok((format!("{request:?}"), request.framing))
        }
        HeadKind::Response => {
            let response = Response::parse(head, &mut storage, to_head, &LIMITS)?;
            Ok((format!("{response:?}"), response.framing))
        }
    }
}
