//! RESP, as a client of one server or of a cluster's shards: each connection asks its shard for that shard's keys only, as
//! cluster clients do.

use super::keys::{KEY_BYTES, write_key};
use super::{Client, Tally};
use crate::error::Error;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;
use wire::resp::slot::{self, SLOTS};
use wire::resp::value::{self, Value};

/// Bytes of a value.
pub(crate) const VALUE_BYTES: usize = 32;
/// How long a server may take to say who has which slots.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest line of an answer, in bytes.
const LINE_BYTES_MAX: usize = 4096;

/// The servers of a key space, and the numbers of the keys that each has.
#[derive(Debug, Clone)]
pub(crate) struct Shards {
    pub(crate) addresses: Vec<SocketAddr>,
    keys: Vec<Rc<[u32]>>,
}

impl Shards {
    /// Asks who has which slots (`CLUSTER SLOTS`), and deals out `count` keys. A server that is no cluster has them all.
    ///
    /// # Errors
    /// When the server does not answer, or leaves a slot out.
    pub(crate) fn of(address: SocketAddr, count: u64) -> Result<Shards, Error> {
        let (addresses, owners) = match call(address, &["CLUSTER", "SLOTS"])? {
            Value::Error(_) => (vec![address], vec![0; usize::from(SLOTS)]),
            answer => owners(&answer)
                .ok_or_else(|| Error::WrongAnswer(format!("CLUSTER SLOTS was answered by {answer:?}")))?,
        };
        let mut keys = vec![Vec::new(); addresses.len()];
        let mut key = Vec::with_capacity(KEY_BYTES);
        for number in 0..u32::try_from(count).expect("fewer than 2^32 keys") {
            key.clear();
            write_key(number.into(), &mut key);
            keys[owners[usize::from(slot::of(&key))]].push(number);
        }
        Ok(Shards { addresses, keys: keys.into_iter().map(Rc::from).collect() })
    }

    /// The keys of connection `number`: its shard's, as connections go to all addresses in turn.
    pub(crate) fn keys(&self, number: usize) -> Rc<[u32]> {
        self.keys[number % self.keys.len()].clone()
    }
}

/// The addresses, and for each slot which of them has it. None when the answer is not that.
fn owners(answer: &Value) -> Option<(Vec<SocketAddr>, Vec<usize>)> {
    let Value::Array(ranges) = answer else { return None };
    let mut addresses = Vec::new();
    let mut owners = vec![None; usize::from(SLOTS)];
    for range in ranges {
        let Value::Array(range) = range else { return None };
        let [Value::Integer(from), Value::Integer(to), Value::Array(node), ..] = range.as_slice() else {
            return None;
        };
        let [Value::Bulk(host), Value::Integer(port), ..] = node.as_slice() else { return None };
        let host = std::str::from_utf8(host).ok()?.parse().ok()?;
        let address = SocketAddr::new(host, u16::try_from(*port).ok()?);
        let at = addresses.iter().position(|known| *known == address).unwrap_or_else(|| {
            addresses.push(address);
            addresses.len() - 1
        });
        owners.get_mut(usize::try_from(*from).ok()?..=usize::try_from(*to).ok()?)?.fill(Some(at));
    }
    Some((addresses, owners.into_iter().collect::<Option<_>>()?))
}

/// One request on a connection of its own.
pub(crate) fn call(address: SocketAddr, arguments: &[&str]) -> Result<Value, Error> {
    let exchange = || {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut bytes = Vec::new();
        value::request(&mut bytes, arguments);
        stream.write_all(&bytes)?;
        let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            match value::decode(&answer) {
                Ok(Some((value, _))) => return Ok(value),
                Ok(None) => {}
                Err(error) => return Err(std::io::Error::other(error)),
            }
            match stream.read(&mut piece) {
                Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => answer.extend_from_slice(&piece[..bytes]),
                // By work of this thread's ring that is done just now.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    };
    exchange().map_err(Error::io(format!("asking {address}: {}", arguments.join(" "))))
}

/// What a connection asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Get,
    Set,
    /// `SET` of every `step`-th of the keys from the `next`-th on, once each.
    Fill {
        next: usize,
        step: usize,
    },
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Resp {
    work: Work,
    keys: Rc<[u32]>,
    random: SmallRng,
    answers: Answers,
}

impl Resp {
    /// A connection that asks for keys out of `keys`; the same seed draws the same ones.
    pub(crate) fn new(work: Work, keys: Rc<[u32]>, seed: u64) -> Resp {
        Resp { work, keys, random: SmallRng::seed_from_u64(seed), answers: Answers::default() }
    }
}

/// What a `SET` of a 32-byte value has behind its key.
const VALUE: &[u8] = b"\r\n$32\r\nvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv\r\n";

impl Client for Resp {
    fn request(&mut self, out: &mut Vec<u8>) {
        let at = match &mut self.work {
            Work::Get | Work::Set => self.random.random_range(0..self.keys.len()),
            Work::Fill { next, step } => std::mem::replace(next, *next + *step),
        };
        let number = self.keys[at].into();
        if self.work == Work::Get {
            out.extend_from_slice(b"*2\r\n$3\r\nGET\r\n$16\r\n");
            write_key(number, out);
            out.extend_from_slice(b"\r\n");
        } else {
            out.extend_from_slice(b"*3\r\n$3\r\nSET\r\n$16\r\n");
            write_key(number, out);
            out.extend_from_slice(VALUE);
        }
    }

    fn receive(&mut self, bytes: &[u8], tally: &mut Tally) -> Result<(), String> {
        self.answers.take(bytes, tally)
    }
}

/// Reads answers of one line or one value, cut anywhere.
#[derive(Debug, Default)]
struct Answers {
    /// The part of a line that has arrived.
    line: Vec<u8>,
    /// Bytes of a value, with its line end, still to come.
    value_left: usize,
}

impl Answers {
    fn take(&mut self, mut bytes: &[u8], tally: &mut Tally) -> Result<(), String> {
        while !bytes.is_empty() {
            if self.value_left > 0 {
                let taken = self.value_left.min(bytes.len());
                bytes = &bytes[taken..];
                self.value_left -= taken;
                tally.answers += u64::from(self.value_left == 0);
                continue;
            }
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                self.line.extend_from_slice(bytes);
                return if self.line.len() > LINE_BYTES_MAX { Err(words(&self.line)) } else { Ok(()) };
            };
            if self.line.is_empty() {
                self.line_is(&bytes[..end], tally)?;
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&bytes[..end]);
                self.line_is(&line, tally)?;
            }
            bytes = &bytes[end + 1..];
        }
        Ok(())
    }

    /// An error (`-MOVED …`, `-OOM …`) is a wrong answer: every request of ours can be served where it was sent.
    fn line_is(&mut self, line: &[u8], tally: &mut Tally) -> Result<(), String> {
        match line {
            b"+OK\r" => tally.answers += 1,
            b"$-1\r" | b"_\r" => {
                tally.misses += 1;
                tally.answers += 1;
            }
            [b'$', digits @ .., b'\r'] => {
                let bytes = std::str::from_utf8(digits).ok().and_then(|text| text.parse::<usize>().ok());
                self.value_left = bytes.filter(|bytes| *bytes == VALUE_BYTES).ok_or_else(|| words(line))? + 2;
            }
            _ => return Err(words(line)),
        }
        Ok(())
    }
}

/// An answer for an operator: its beginning, as text.
fn words(answer: &[u8]) -> String {
    String::from_utf8_lossy(&answer[..answer.len().min(100)]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_however_they_are_cut() {
        let value = "v".repeat(VALUE_BYTES);
        let text = format!("+OK\r\n$32\r\n{value}\r\n$-1\r\n_\r\n$32\r\n{}\r\n+OK\r\n", "\r\n".repeat(16));
        let expected = Tally { answers: 6, misses: 2, ..Tally::default() };
        for cut in 1..text.len() {
            let (mut answers, mut tally) = (Answers::default(), Tally::default());
            for part in text.as_bytes().chunks(cut) {
                answers.take(part, &mut tally).unwrap();
            }
            assert_eq!(tally, expected, "cut every {cut}");
        }
    }

    #[test]
    fn wrong_answers_are_errors() {
        for wrong in
            ["-MOVED 1 127.0.0.1:7001\r\n", "$31\r\n", "$x\r\n", ":1\r\n", "+OK\n", "HTTP/1.1 400\r\n"]
        {
            assert!(Answers::default().take(wrong.as_bytes(), &mut Tally::default()).is_err(), "{wrong}");
        }
        assert!(Answers::default().take(&[b'x'; 5000], &mut Tally::default()).is_err());
    }

    #[test]
    fn requests_are_what_the_codec_writes() {
        let mut key = Vec::new();
        write_key(7, &mut key);
        let asked = |work: Work| {
            let mut out = Vec::new();
            Resp::new(work, Rc::from([7]), 0).request(&mut out);
            out
        };
        let mut expected = Vec::new();
        value::request(&mut expected, &[b"GET".as_slice(), &key]);
        assert_eq!(asked(Work::Get), expected);
        expected.clear();
        value::request(&mut expected, &[b"SET".as_slice(), &key, &[b'v'; VALUE_BYTES]]);
        assert_eq!(asked(Work::Set), expected);
        assert_eq!(asked(Work::Fill { next: 0, step: 1 }), expected);
    }

    #[test]
    fn slots_have_owners() {
        let range = |from: i64, to: i64, port: i64| {
            let node = vec![Value::Bulk(b"127.0.0.1".to_vec()), Value::Integer(port)];
            Value::Array(vec![Value::Integer(from), Value::Integer(to), Value::Array(node)])
        };
        let answer = Value::Array(vec![range(0, 99, 7001), range(100, 16_383, 7002), range(50, 60, 7002)]);
        let (addresses, owners) = super::owners(&answer).unwrap();
        assert_eq!(addresses.iter().map(SocketAddr::port).collect::<Vec<_>>(), [7001, 7002]);
        assert_eq!([0, 50, 99, 100, 16_383].map(|slot| owners[slot]), [0, 1, 0, 1, 1]);
        assert!(super::owners(&Value::Array(vec![range(0, 99, 7001)])).is_none(), "a slot of nobody");
        assert!(super::owners(&Value::Array(vec![range(0, 16_384, 7001)])).is_none(), "a slot too many");
    }
}
