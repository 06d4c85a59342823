//! HTTP/1.1, as a client: answers are read whole, by their framing, and each must have the length that was asked for.

use super::{Client, Tally};
use crate::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;
use wire::http1::{Body, FieldStorage, Framing, HeadKind, HeadScan, Limits, Piece, Response};

/// How long [`once`] waits for more.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers to GET of one path, again and again.
pub(crate) struct Get {
    request: Rc<[u8]>,
    body_bytes: u64,
    answers: Answers,
}

impl Get {
    /// Asks `request`, a whole head; the content of its answer has `body_bytes`.
    pub(crate) fn new(request: Rc<[u8]>, body_bytes: u64) -> Get {
        Get { request, body_bytes, answers: Answers::default() }
    }
}

impl Client for Get {
    fn request(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.request);
    }

    fn receive(&mut self, bytes: &[u8], tally: &mut Tally) -> Result<(), String> {
        let expected = self.body_bytes;
        self.answers.take(bytes, &mut |answer| {
            tally.answers += 1;
            match answer {
                Answer { status: 200..=299, body_bytes, .. } if body_bytes != expected => {
                    return Err(format!("content of {body_bytes} bytes, not {expected}"));
                }
                Answer { status: 200..=299, .. } => {}
                _ => tally.refused += 1,
            }
            Ok(())
        })
    }
}

/// The head of a GET. A server closes the connection after its answer when `close` is set.
pub(crate) fn get(path: &str, host: &str, close: bool) -> Vec<u8> {
    let close = if close { "Connection: close\r\n" } else { "" };
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{close}\r\n").into_bytes()
}

/// Sends one request, which asks the server to close the connection, and gives all that comes back.
pub(crate) fn once(address: SocketAddr, request: &[u8]) -> Result<Vec<u8>, Error> {
    let exchange = || {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    exchange().map_err(Error::io(format!("asking {address} once")))
}

/// An answer that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// 200 to 599.
    pub(crate) status: u16,
    /// Length of its content, codings of the transfer taken off.
    pub(crate) body_bytes: u64,
    /// The value of its first Set-Cookie field.
    pub(crate) cookie: Option<Vec<u8>>,
    /// Its X-Cache field says that a cache did not have it.
    pub(crate) is_miss: bool,
}

/// An error when more than one answer in a hundred was none of 200 to 299: then the figures would be of errors.
pub(crate) fn few_refusals(tally: &Tally) -> Result<(), Error> {
    if tally.refused * 100 > tally.answers {
        let text = format!("{} of {} had another status than 200 to 299", tally.refused, tally.answers);
        return Err(Error::WrongAnswer(text));
    }
    Ok(())
}

/// Reads answers to requests that are not HEAD, cut anywhere.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// The part of a head that has arrived.
    head: Vec<u8>,
    scan: Option<HeadScan>,
    /// The answer whose content is arriving.
    under_way: Option<(Answer, Body)>,
}

impl Answers {
    /// Takes what arrived and tells the answers that are whole.
    ///
    /// # Errors
    /// What is no answer, in words, or what `tell` says.
    pub(crate) fn take(
        &mut self,
        mut bytes: &[u8],
        tell: &mut impl FnMut(Answer) -> Result<(), String>,
    ) -> Result<(), String> {
        while !bytes.is_empty() {
            if let Some((answer, body)) = &mut self.under_way {
                let (taken, piece) = body.read(bytes).map_err(|error| error.to_string())?;
                bytes = &bytes[taken..];
                if let Piece::Data(data) = piece {
                    answer.body_bytes += data.len() as u64;
                }
            } else {
                let taken = self.head(bytes)?;
                bytes = &bytes[taken..];
            }
            if self.under_way.as_ref().is_some_and(|(_, body)| body.is_done()) {
                let (answer, _) = self.under_way.take().expect("just seen");
                tell(answer)?;
            }
        }
        Ok(())
    }

    /// Looks for the end of a head, of which an earlier part may be kept; gives how many of `bytes` belong to it.
    fn head(&mut self, bytes: &[u8]) -> Result<usize, String> {
        let kept = self.head.len();
        let mut joined = std::mem::take(&mut self.head);
        let whole = if kept == 0 {
            bytes
        } else {
            joined.extend_from_slice(bytes);
            &joined
        };
        let limits = Limits::default();
        let mut scan = self.scan.take().unwrap_or_else(|| HeadScan::new(HeadKind::Response));
        let begin = || String::from_utf8_lossy(&whole[..whole.len().min(100)]).into_owned();
        let wrong = |error: wire::http1::Error| format!("{error}: {}", begin());
        let Some(range) = scan.find(whole, &limits).map_err(wrong)? else {
            self.scan = Some(scan);
            if kept == 0 {
                joined.extend_from_slice(bytes);
            }
            self.head = joined;
            return Ok(bytes.len());
        };
        let end = range.end;
        let mut storage = FieldStorage::new();
        let response = Response::parse(&whole[range], &mut storage, false, &limits).map_err(wrong)?;
        if response.framing == Framing::UntilClose {
            return Err(format!("an answer without a length: {}", begin()));
        }
        if response.status >= 200 {
            let value = |name: &str| {
                let field = response.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name));
                field.map(|field| field.value)
            };
            let answer = Answer {
                status: response.status,
                body_bytes: 0,
                cookie: value("set-cookie").map(<[u8]>::to_vec),
                is_miss: value("x-cache") == Some(b"miss"),
            };
            self.under_way = Some((answer, Body::new(response.framing)));
        }
        Ok(end - kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body_bytes: u64) -> Answer {
        Answer { status, body_bytes, cookie: None, is_miss: false }
    }

    #[test]
    fn answers_are_told_however_they_are_cut() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\
            HTTP/1.1 100 Continue\r\n\r\n\
            HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a=b\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n\
            HTTP/1.1 204 No Content\r\n\r\n\
            HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno";
        let expected = [
            answer(200, 5),
            Answer { cookie: Some(b"a=b".to_vec()), ..answer(200, 5) },
            answer(204, 0),
            answer(503, 2),
        ];
        for cut in 1..text.len() {
            let (mut answers, mut told) = (Answers::default(), Vec::new());
            for part in text.chunks(cut) {
                let tell = &mut |answer| {
                    told.push(answer);
                    Ok(())
                };
                answers.take(part, tell).unwrap();
            }
            assert_eq!(told, expected, "cut every {cut}");
        }
    }

    #[test]
    fn a_wrong_length_is_an_error_and_a_refusal_is_counted() {
        let mut get = Get::new(get("/", "a.test", false).into(), 5);
        let mut tally = Tally::default();
        get.receive(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 1\r\n\r\nx", &mut tally).unwrap();
        get.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", &mut tally).unwrap();
        assert_eq!(tally, Tally { answers: 2, refused: 1, ..Tally::default() });
        let error = get.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhell", &mut tally).unwrap_err();
        assert_eq!(error, "content of 4 bytes, not 5");
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let take = |bytes: &[u8]| Answers::default().take(bytes, &mut |_| Ok(())).unwrap_err();
        assert!(take(b"ERROR\r\n\r\n").contains("ERROR"));
        assert!(take(b"HTTP/1.1 200 OK\r\n\r\n").contains("without a length"));
    }
}
