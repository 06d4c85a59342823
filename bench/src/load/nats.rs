//! NATS with JetStream, as a publisher that waits for acknowledgements and as a consumer that pulls.
//! (<https://docs.nats.io/reference/reference-protocols/nats-protocol>, `JetStream wire API` beside it.)
//!
//! A stream stands for a partition: it is what keeps an order and has files of its own.

use super::{Client, Tally};
use crate::error::Error;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a server may take over a call.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest line that is believed, in bytes; the server's greeting is one.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// As much of a payload as is looked at, in bytes.
const LOOKED_AT_BYTES: usize = 512;

const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\"lang\":\"rust\",\"version\":\"0\",\"protocol\":1,\"name\":\"bench\"}\r\n";

/// Makes `count` streams, each of one subject, in files; and for each so many durable consumers of all of it, which need
/// acknowledge nothing.
///
/// # Errors
/// When the server can't be asked or refuses.
pub(crate) fn create_streams(address: SocketAddr, count: u32, consumers: u64) -> Result<(), Error> {
    let mut calls = Vec::new();
    for stream in 0..count {
        let config = json!({
            "name": format!("s{stream}"), "subjects": [format!("p.{stream}")], "storage": "file",
            "retention": "limits", "discard": "old", "num_replicas": 1,
        });
        calls.push((format!("$JS.API.STREAM.CREATE.s{stream}"), config));
        calls.extend((0..consumers).map(|consumer| {
            let config = json!({
                "durable_name": format!("c{consumer}"), "ack_policy": "none", "deliver_policy": "all",
                "replay_policy": "instant", "max_waiting": 4, "mem_storage": true,
            });
            let subject = format!("$JS.API.CONSUMER.DURABLE.CREATE.s{stream}.c{consumer}");
            (subject, json!({ "stream_name": format!("s{stream}"), "config": config }))
        }));
    }
    let all = || {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "{CONNECT}SUB reply.setup 1\r\n")?;
        let mut reader = BufReader::new(stream.try_clone()?);
        calls.iter().try_for_each(|(subject, payload)| call(&mut stream, &mut reader, subject, payload))
    };
    all().map_err(Error::io(format!("making {count} streams on {address}")))
}

fn call(
    stream: &mut TcpStream,
    reader: &mut BufReader<TcpStream>,
    subject: &str,
    payload: &Value,
) -> std::io::Result<()> {
    let payload = payload.to_string();
    write!(stream, "PUB {subject} reply.setup {}\r\n{payload}\r\n", payload.len())?;
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        match line.split(' ').next() {
            Some("MSG") => break,
            Some("INFO") => {}
            _ if line.starts_with("PING") => stream.write_all(b"PONG\r\n")?,
            _ => return Err(std::io::Error::other(line.trim().to_owned())),
        }
    }
    let bytes: usize =
        line.trim().rsplit(' ').next().and_then(|bytes| bytes.parse().ok()).unwrap_or_default();
    let mut answer = vec![0; bytes + 2];
    reader.read_exact(&mut answer)?;
    let answer: Value = serde_json::from_slice(&answer[..bytes])?;
    match answer.get("error") {
        Some(error) => Err(std::io::Error::other(format!("{subject}: {error}"))),
        None => Ok(()),
    }
}

/// Publishes one message a request to one stream after another; an answer is the stream's acknowledgement.
#[derive(Debug)]
pub(crate) struct Publisher {
    payload: Vec<u8>,
    stream: u32,
    step: u32,
    streams: u32,
    inbox: Inbox,
    answers: Answers,
}

impl Publisher {
    /// Of messages of so many bytes, to stream `first` and every `step`-th from there, again and again.
    pub(crate) fn new(bytes: usize, first: usize, step: usize, streams: u32) -> Publisher {
        let number = |count: usize| u32::try_from(count).expect("few connections");
        let mut payload = vec![b'v'; bytes];
        payload.extend_from_slice(b"\r\n");
        let (stream, step) = (number(first) % streams, number(step));
        Publisher { payload, stream, step, streams, inbox: Inbox::of(first), answers: Answers::of(1, None) }
    }
}

impl Client for Publisher {
    fn request(&mut self, out: &mut Vec<u8>) {
        self.inbox.open(&mut self.answers, out);
        let bytes = self.payload.len() - 2;
        write!(out, "PUB p.{} {} {bytes}\r\n", self.stream, self.inbox.subject).expect("a vector takes all");
        out.extend_from_slice(&self.payload);
        self.stream = (self.stream + self.step) % self.streams;
    }

    fn receive(&mut self, bytes: &[u8], tally: &mut Tally) -> Result<(), String> {
        self.answers.take(bytes, tally)
    }
}

/// Pulls messages from a stream, so many a request; when all were read, its next consumer reads them again.
#[derive(Debug)]
pub(crate) struct Puller {
    stream: usize,
    messages: usize,
    /// Requests that one consumer answers, and how many it did.
    requests_of_each: u64,
    asked: u64,
    inbox: Inbox,
    answers: Answers,
}

impl Puller {
    /// Of `messages` at a time, of so many bytes each.
    pub(crate) fn new(stream: usize, requests_of_each: u64, messages: usize, bytes: usize) -> Puller {
        let answers = Answers::of(messages, Some(bytes));
        Puller { stream, messages, requests_of_each, asked: 0, inbox: Inbox::of(stream), answers }
    }
}

impl Client for Puller {
    fn request(&mut self, out: &mut Vec<u8>) {
        self.inbox.open(&mut self.answers, out);
        let consumer = self.asked / self.requests_of_each;
        let ask = format!("{{\"batch\":{},\"expires\":{}}}", self.messages, PATIENCE.as_nanos());
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.s{}.c{consumer}", self.stream);
        let inbox = &self.inbox.subject;
        write!(out, "PUB {subject} {inbox} {}\r\n{ask}\r\n", ask.len()).expect("a vector takes all");
        self.asked += 1;
    }

    fn receive(&mut self, bytes: &[u8], tally: &mut Tally) -> Result<(), String> {
        self.answers.take(bytes, tally)
    }
}

/// Where a connection's answers go: a subject that no other connection has.
#[derive(Debug)]
struct Inbox {
    subject: String,
    is_open: bool,
}

impl Inbox {
    fn of(connection: usize) -> Inbox {
        Inbox { subject: format!("reply.{connection}"), is_open: false }
    }

    /// Appends what stands before a connection's first request, and the answer to a ping.
    fn open(&mut self, answers: &mut Answers, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.is_open, true) {
            write!(out, "{CONNECT}SUB {} 1\r\n", self.subject).expect("a vector takes all");
        }
        if std::mem::take(&mut answers.pinged) {
            out.extend_from_slice(b"PONG\r\n");
        }
    }
}

/// Reads messages, cut anywhere.
#[derive(Debug)]
struct Answers {
    /// So many messages are one answer.
    messages_each: usize,
    messages: usize,
    /// What every message has, in bytes; none where messages are acknowledgements, which are looked at.
    bytes_each: Option<usize>,
    /// The part of a line that has arrived, or of a payload.
    part: Vec<u8>,
    /// Bytes of a payload, with its line end, still to come.
    payload_left: usize,
    pinged: bool,
}

impl Answers {
    fn of(messages_each: usize, bytes_each: Option<usize>) -> Answers {
        Answers { messages_each, messages: 0, bytes_each, part: Vec::new(), payload_left: 0, pinged: false }
    }

    fn take(&mut self, mut bytes: &[u8], tally: &mut Tally) -> Result<(), String> {
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let taken = self.payload_left.min(bytes.len());
                if self.bytes_each.is_none() {
                    let looked_at = taken.min(LOOKED_AT_BYTES.saturating_sub(self.part.len()));
                    self.part.extend_from_slice(&bytes[..looked_at]);
                }
                bytes = &bytes[taken..];
                self.payload_left -= taken;
                if self.payload_left == 0 {
                    self.message_is_whole(tally)?;
                }
                continue;
            }
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                self.part.extend_from_slice(bytes);
                return if self.part.len() > LINE_BYTES_MAX { Err(words(&self.part)) } else { Ok(()) };
            };
            let mut line = std::mem::take(&mut self.part);
            line.extend_from_slice(&bytes[..end]);
            self.line_is(&line)?;
            // The allocation serves the next line too.
            line.clear();
            self.part = line;
            bytes = &bytes[end + 1..];
        }
        Ok(())
    }

    fn line_is(&mut self, line: &[u8]) -> Result<(), String> {
        let line = line.strip_suffix(b"\r").ok_or_else(|| words(line))?;
        if line.starts_with(b"MSG ") {
            let digits = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
            let bytes = std::str::from_utf8(digits).ok().and_then(|text| text.parse::<usize>().ok());
            let bytes = bytes.filter(|bytes| self.bytes_each.is_none_or(|each| each == *bytes));
            self.payload_left = bytes.ok_or_else(|| words(line))? + 2;
        } else if line == b"PING" {
            self.pinged = true;
        } else if !(line == b"PONG" || line == b"+OK" || line.starts_with(b"INFO ")) {
            // Among them a message with headers, which is how a status comes: 404, 408, 503.
            return Err(words(line));
        }
        Ok(())
    }

    fn message_is_whole(&mut self, tally: &mut Tally) -> Result<(), String> {
        if self.bytes_each.is_none() {
            let stored = self.part.starts_with(b"{\"stream\":");
            let said = words(&self.part);
            self.part.clear();
            if !stored {
                return Err(said);
            }
        }
        self.messages += 1;
        if self.messages == self.messages_each {
            self.messages = 0;
            tally.answers += 1;
        }
        Ok(())
    }
}

/// An answer for an operator: its beginning, as text.
fn words(answer: &[u8]) -> String {
    String::from_utf8_lossy(&answer[..answer.len().min(200)]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(answers: impl Fn() -> Answers, text: &str) -> Result<(u64, bool), String> {
        let results = (1..=text.len()).map(|cut| {
            let (mut answers, mut tally) = (answers(), Tally::default());
            text.as_bytes().chunks(cut).try_for_each(|part| answers.take(part, &mut tally))?;
            Ok((tally.answers, answers.pinged))
        });
        let results: Vec<Result<(u64, bool), String>> = results.collect();
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{results:?}");
        results[0].clone()
    }

    #[test]
    fn acknowledgements_are_counted_however_they_are_cut() {
        let ack = "MSG reply.0 1 25\r\n{\"stream\":\"s0\", \"seq\":12}\r\n";
        let answers = || Answers::of(1, None);
        assert_eq!(taken(answers, &format!("INFO {{\"a\":1}}\r\n{ack}PING\r\n{ack}")), Ok((2, true)));
        let refusal = "MSG reply.0 1 36\r\n{\"error\":{\"code\":503},\"stream\":\"s0\"}\r\n";
        assert!(taken(answers, refusal).unwrap_err().contains("503"));
        assert!(taken(answers, "-ERR 'Unknown Protocol Operation'\r\n").is_err());
        assert!(taken(answers, "HMSG reply.0 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n").is_err());
    }

    #[test]
    fn messages_are_answers_by_the_batch() {
        let message = "MSG p.0 1 $JS.ACK.s0.c0.1.2.3.4.5 4\r\n\r\nMS\r\n";
        let answers = || Answers::of(2, Some(4));
        assert_eq!(taken(answers, &message.repeat(5)), Ok((2, false)));
        assert!(taken(answers, "MSG p.0 1 5\r\nvvvvv\r\n").is_err());
    }

    #[test]
    fn requests_are_well_formed() {
        let mut out = Vec::new();
        let mut publisher = Publisher::new(3, 1, 2, 4);
        (0..2).for_each(|_| publisher.request(&mut out));
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text.strip_prefix(CONNECT).unwrap(),
            "SUB reply.1 1\r\nPUB p.1 reply.1 3\r\nvvv\r\nPUB p.3 reply.1 3\r\nvvv\r\n"
        );
        let mut out = Vec::new();
        let mut puller = Puller::new(7, 2, 64, 1024);
        (0..3).for_each(|_| puller.request(&mut out));
        let text = String::from_utf8(out).unwrap();
        assert_eq!((text.matches(".NEXT.s7.c0 ").count(), text.matches(".NEXT.s7.c1 ").count()), (2, 1));
        assert!(text.contains(" reply.7 34\r\n{\"batch\":64,\"expires\":10000000000}\r\n"), "{text}");
    }
}
