//! etcd by its own gRPC: a put or a read of one key a request, over HTTP/2 in the clear. (RFC 9113, RFC 7541; gRPC over
//! HTTP2; etcd's rpc.proto.)
//!
//! What always holds: header blocks are written without the dynamic table, so that every request has the same one; of answers,
//! frames are counted and header blocks are not decoded: a call that succeeds has a message before its trailers, one that fails
//! has none.

use super::keys::{KEY_BYTES, write_key};
use super::{Client, Tally};
use crate::error::Error;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long a cluster may take to agree on a leader, and one of its nodes to say who that is.
const ELECTION: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a value.
const VALUE_BYTES: usize = 32;

/// The leader among the nodes at these addresses, once there is one.
///
/// # Errors
/// When they do not agree on one in time.
pub(crate) fn leader(nodes: &[SocketAddr]) -> Result<SocketAddr, Error> {
    let begun = Instant::now();
    while begun.elapsed() < ELECTION {
        for node in nodes {
            let Ok(status) = status(*node) else { continue };
            let leader = &status["leader"];
            if leader.is_string() && *leader == status["header"]["member_id"] {
                return Ok(*node);
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(Error::WrongAnswer(format!("no leader among {nodes:?} within {} s", ELECTION.as_secs())))
}

/// What a node says of itself, by the JSON gateway beside its gRPC.
fn status(node: SocketAddr) -> std::io::Result<Value> {
    let mut stream = TcpStream::connect_timeout(&node, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "POST /v3/maintenance/status HTTP/1.1\r\nHost: {node}\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    Ok(serde_json::from_str(body)?)
}

/// What a connection asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// `Put` of any key.
    Put,
    /// `Range` of any one key: linearizable, as it is by default.
    Get,
    /// `Put` of every `step`-th key from the `next`-th on.
    Fill { next: u64, step: u64 },
}

/// Frame types (RFC 9113, §6) and flags.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// What the server may send beyond the first 64 KiB before we would have to say more: all of a run.
const WINDOW_BYTES: u32 = 1 << 30;

/// One connection.
#[derive(Debug)]
pub(crate) struct Etcd {
    work: Work,
    count: u64,
    random: SmallRng,
    header_block: Vec<u8>,
    /// The next stream: odd, rising (RFC 9113, §5.1.1). 0 before the connection's first bytes.
    stream: u32,
    answers: Answers,
}

impl Etcd {
    /// Of `count` keys; the same seed draws the same ones.
    pub(crate) fn new(work: Work, count: u64, seed: u64) -> Etcd {
        let method = if work == Work::Get { "Range" } else { "Put" };
        let header_block = header_block(&format!("/etcdserverpb.KV/{method}"));
        let random = SmallRng::seed_from_u64(seed);
        Etcd { work, count, random, header_block, stream: 0, answers: Answers::default() }
    }
}

/// The request's fields, none of them entered into the dynamic table (RFC 7541, §6.1 and §6.2.2).
fn header_block(path: &str) -> Vec<u8> {
    // :method POST and :scheme http are entries 3 and 6 of the static table; names 4 :path, 1 :authority, 31 content-type.
    let mut block = vec![0x83, 0x86];
    let mut literal = |name: &[u8], value: &str| {
        block.extend_from_slice(name);
        block.push(u8::try_from(value.len()).expect("short"));
        block.extend_from_slice(value.as_bytes());
    };
    literal(&[0x04], path);
    literal(&[0x01], "bench");
    literal(&[0x0f, 31 - 15], "application/grpc");
    literal(b"\x00\x02te", "trailers");
    block
}

fn frame(kind: u8, flags: u8, stream: u32, bytes: usize, out: &mut Vec<u8>) {
    let length = u32::try_from(bytes).expect("a frame is small").to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

impl Client for Etcd {
    fn request(&mut self, out: &mut Vec<u8>) {
        if self.stream == 0 {
            out.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
            frame(SETTINGS, 0, 0, 0, out);
            frame(WINDOW_UPDATE, 0, 0, 4, out);
            out.extend_from_slice(&WINDOW_BYTES.to_be_bytes());
            self.stream = 1;
        }
        out.append(&mut self.answers.owed);
        let key = match &mut self.work {
            Work::Put | Work::Get => self.random.random_range(0..self.count),
            Work::Fill { next, step } => std::mem::replace(next, *next + *step),
        };
        frame(HEADERS, END_HEADERS, self.stream, self.header_block.len(), out);
        out.extend_from_slice(&self.header_block);
        // PutRequest and RangeRequest: key = 1; PutRequest: value = 2. Before it, not compressed, and the length.
        let value_bytes = if self.work == Work::Get { 0 } else { 2 + VALUE_BYTES };
        let bytes = 2 + KEY_BYTES + value_bytes;
        frame(DATA, END_STREAM, self.stream, 5 + bytes, out);
        out.extend_from_slice(&[0, 0, 0, 0, bytes as u8, 0x0a, KEY_BYTES as u8]);
        write_key(key, out);
        if value_bytes > 0 {
            out.extend_from_slice(&[0x12, VALUE_BYTES as u8]);
            out.resize(out.len() + VALUE_BYTES, b'v');
        }
        self.stream += 2;
    }

    fn receive(&mut self, bytes: &[u8], tally: &mut Tally) -> Result<(), String> {
        self.answers.take(bytes, tally)
    }
}

/// Reads frames, cut anywhere.
#[derive(Debug, Default)]
struct Answers {
    /// The part of a frame's nine bytes of head that has arrived, and of a ping's payload.
    part: Vec<u8>,
    /// Bytes of a frame still to come that are passed over.
    skip: usize,
    /// Streams that have had a message.
    messages: Vec<u32>,
    /// What the server waits to hear.
    owed: Vec<u8>,
}

/// Bytes of a frame's head.
const HEAD: usize = 9;

impl Answers {
    fn take(&mut self, mut bytes: &[u8], tally: &mut Tally) -> Result<(), String> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let taken = self.skip.min(bytes.len());
                bytes = &bytes[taken..];
                self.skip -= taken;
                continue;
            }
            let is_ping = self.part.get(3) == Some(&PING);
            let wanted = if is_ping { HEAD + 8 } else { HEAD };
            let taken = (wanted - self.part.len()).min(bytes.len());
            self.part.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            // A ping is found out by its head, and then has more to read.
            if self.part.len() < wanted || (self.part[3] == PING && self.part.len() == HEAD) {
                continue;
            }
            let whole = std::mem::take(&mut self.part);
            self.frame_is(&whole, tally)?;
        }
        Ok(())
    }

    fn frame_is(&mut self, whole: &[u8], tally: &mut Tally) -> Result<(), String> {
        let length = u32::from_be_bytes([0, whole[0], whole[1], whole[2]]) as usize;
        let (kind, flags) = (whole[3], whole[4]);
        let stream = u32::from_be_bytes([whole[5], whole[6], whole[7], whole[8]]);
        self.skip = if kind == PING { 0 } else { length };
        match kind {
            DATA if length > 0 && !self.messages.contains(&stream) => self.messages.push(stream),
            HEADERS if flags & END_STREAM != 0 => {
                let at = self.messages.iter().position(|known| *known == stream);
                let at = at.ok_or("a call failed: trailers without a message before them")?;
                self.messages.swap_remove(at);
                tally.answers += 1;
            }
            PING if length != 8 => return Err(format!("a ping of {length} bytes")),
            PING if flags & ACK == 0 => {
                frame(PING, ACK, 0, 8, &mut self.owed);
                self.owed.extend_from_slice(&whole[HEAD..]);
            }
            SETTINGS if flags & ACK == 0 => frame(SETTINGS, ACK, 0, 0, &mut self.owed),
            RST_STREAM | GOAWAY => return Err(format!("a frame of type {kind}, which ends calls")),
            // "HTT", as the length of a frame.
            _ if length == 0x48_5454 => return Err("HTTP/1.1, where HTTP/2 was spoken".to_owned()),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        frame(kind, flags, stream, payload.len(), &mut out);
        out.extend_from_slice(payload);
        out
    }

    fn taken(bytes: &[u8]) -> Result<(u64, Vec<u8>), String> {
        let results = (1..=bytes.len()).map(|cut| {
            let (mut answers, mut tally) = (Answers::default(), Tally::default());
            bytes.chunks(cut).try_for_each(|part| answers.take(part, &mut tally))?;
            Ok((tally.answers, answers.owed))
        });
        let results: Vec<Result<(u64, Vec<u8>), String>> = results.collect();
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{results:?}");
        results[0].clone()
    }

    #[test]
    fn answers_are_counted_however_they_are_cut() {
        let settings = framed(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]);
        let head = |stream| framed(HEADERS, END_HEADERS, stream, &[0x88]);
        let message = |stream| framed(DATA, 0, stream, &[0, 0, 0, 0, 1, 7]);
        let trailers = |stream| framed(HEADERS, END_HEADERS | END_STREAM, stream, &[0xbf, 0xbe]);
        let ping = framed(PING, 0, 0, b"01234567");
        let both = [head(1), head(3), message(3), message(1), ping, trailers(3), trailers(1)].concat();
        let owed = [framed(SETTINGS, ACK, 0, &[]), framed(PING, ACK, 0, b"01234567")].concat();
        assert_eq!(taken(&[settings, both].concat()), Ok((2, owed)));
        assert!(taken(&[message(3), trailers(1)].concat()).unwrap_err().contains("a call failed"));
        assert!(taken(&framed(GOAWAY, 0, 0, &[0; 8])).is_err());
        assert!(taken(b"HTTP/1.1 400 Bad Request\r\n\r\n").is_err());
    }

    #[test]
    fn requests_have_the_lengths_that_they_say() {
        for (work, bytes) in [(Work::Put, 5 + 18 + 34), (Work::Get, 5 + 18)] {
            let mut etcd = Etcd::new(work, 10, 0);
            let (mut first, mut second) = (Vec::new(), Vec::new());
            etcd.request(&mut first);
            etcd.request(&mut second);
            // The second one has no preface: a head, a block, a head, a message.
            let block = usize::from(second[2]);
            assert_eq!(second[HEAD..HEAD + block], etcd.header_block);
            assert_eq!(usize::from(second[HEAD + block + 2]), bytes);
            assert_eq!(second.len(), HEAD + block + HEAD + bytes);
            assert_eq!(second[8], 3, "the second odd stream");
            assert!(first.starts_with(b"PRI * HTTP/2.0"));
        }
    }
}
