//! memcached's classic and meta text, as a client.

use super::keys::{Keys, Sizes, write_key};
use super::{Client, Tally};
use std::io::Write;

/// What a connection asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Work {
    /// `get`, of so many keys each.
    Get { keys: usize },
    /// `mg … v`.
    MetaGet,
    /// `set`.
    Set,
    /// `get`, and `set` in a share of the requests.
    Mixed { sets: f64 },
    /// `set` of every `step`-th key from `first` on, once each: to fill a cache.
    Fill { first: u64, step: u64 },
}

/// One connection.
pub(crate) struct Memcached {
    work: Work,
    keys: Keys,
    sizes: Sizes,
    answers: Answers,
}

impl Memcached {
    pub(crate) fn new(work: Work, keys: Keys, sizes: Sizes) -> Memcached {
        Memcached { work, keys, sizes, answers: Answers::default() }
    }

    fn set(&self, number: u64, out: &mut Vec<u8>) {
        write_set(number, self.sizes.of(number), out);
    }
}

/// Appends a `set` of a value of `bytes`.
pub(super) fn write_set(number: u64, bytes: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"set ");
    write_key(number, out);
    write!(out, " 0 0 {bytes}\r\n").expect("a vector takes all");
    out.resize(out.len() + bytes, b'v');
    out.extend_from_slice(b"\r\n");
}

/// Appends a `get`.
pub(super) fn write_get(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"get ");
    write_key(number, out);
    out.extend_from_slice(b"\r\n");
}

impl Client for Memcached {
    fn request(&mut self, out: &mut Vec<u8>) {
        match &mut self.work {
            Work::Get { keys } => {
                out.extend_from_slice(b"get");
                for _ in 0..*keys {
                    out.push(b' ');
                    write_key(self.keys.draw(), out);
                }
                out.extend_from_slice(b"\r\n");
            }
            Work::MetaGet => {
                out.extend_from_slice(b"mg ");
                write_key(self.keys.draw(), out);
                out.extend_from_slice(b" v\r\n");
            }
            Work::Set => {
                let number = self.keys.draw();
                self.set(number, out);
            }
            Work::Mixed { sets } => {
                let is_set = self.keys.chance(*sets);
                let number = self.keys.draw();
                if is_set {
                    self.set(number, out);
                } else {
                    write_get(number, out);
                }
            }
            Work::Fill { first, step } => {
                let number = *first;
                *first += *step;
                self.set(number, out);
            }
        }
    }

    fn receive(&mut self, bytes: &[u8], tally: &mut Tally) -> Result<(), String> {
        self.answers.take(bytes, &mut |answer| {
            tally.answers += 1;
            match answer {
                Answer::Done => {}
                Answer::Miss => tally.misses += 1,
                Answer::Refused => tally.refused += 1,
            }
        })
    }
}

/// An answer, as far as a load cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Found, or stored.
    Done,
    Miss,
    /// An error, or not stored.
    Refused,
}

/// Reads answers, cut anywhere.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// The part of a line that has arrived.
    line: Vec<u8>,
    /// Bytes of a value, with its line end, still to come.
    value_left: usize,
    /// The value is a meta answer of its own.
    value_ends_answer: bool,
    /// Values of the classic answer under way.
    values: u64,
}

impl Answers {
    /// Takes what arrived and gives each answer that is whole, in order.
    ///
    /// # Errors
    /// The line that is no answer of memcached's.
    pub(super) fn take(&mut self, mut bytes: &[u8], each: &mut impl FnMut(Answer)) -> Result<(), String> {
        while !bytes.is_empty() {
            if self.value_left > 0 {
                let taken = self.value_left.min(bytes.len());
                bytes = &bytes[taken..];
                self.value_left -= taken;
                if self.value_left == 0 && self.value_ends_answer {
                    each(Answer::Done);
                }
                continue;
            }
            let Some(end) = memchr::memchr(b'\n', bytes) else {
                self.line.extend_from_slice(bytes);
                return Ok(());
            };
            let answer = if self.line.is_empty() {
                self.line_is(&bytes[..end])?
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&bytes[..end]);
                self.line_is(&line)?
            };
            answer.into_iter().for_each(&mut *each);
            bytes = &bytes[end + 1..];
        }
        Ok(())
    }

    /// The answer that a line ends; none where a value follows.
    fn line_is(&mut self, line: &[u8]) -> Result<Option<Answer>, String> {
        let wrong = || String::from_utf8_lossy(&line[..line.len().min(100)]).trim().to_owned();
        let line = line.strip_suffix(b"\r").ok_or_else(wrong)?;
        let mut words = line.split(|byte| *byte == b' ');
        let number = |word: Option<&[u8]>| std::str::from_utf8(word?).ok()?.parse::<usize>().ok();
        Ok(Some(match words.next().unwrap_or_default() {
            b"VALUE" => {
                let bytes = number(words.nth(2)).ok_or_else(wrong)?;
                (self.value_left, self.value_ends_answer) = (bytes + 2, false);
                self.values += 1;
                return Ok(None);
            }
            b"VA" => {
                let bytes = number(words.next()).ok_or_else(wrong)?;
                (self.value_left, self.value_ends_answer) = (bytes + 2, true);
                return Ok(None);
            }
            b"END" if std::mem::take(&mut self.values) == 0 => Answer::Miss,
            b"EN" | b"NF" | b"NOT_FOUND" => Answer::Miss,
            b"END" | b"STORED" | b"DELETED" | b"HD" => Answer::Done,
            b"ERROR" | b"CLIENT_ERROR" | b"SERVER_ERROR" | b"NS" | b"NOT_STORED" => Answer::Refused,
            _ => return Err(wrong()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_however_they_are_cut() {
        let text = b"VALUE a 0 3\r\nx\ny\r\nVALUE b 0 0\r\n\r\nEND\r\nEND\r\nSTORED\r\nVA 5 v\r\nEND\r\n\r\nEN\r\nSERVER_ERROR out of memory\r\nHD\r\n";
        use Answer::{Done, Miss, Refused};
        for cut in 1..text.len() {
            let (mut answers, mut told) = (Answers::default(), Vec::new());
            for part in text.chunks(cut) {
                answers.take(part, &mut |answer| told.push(answer)).unwrap();
            }
            assert_eq!(told, [Done, Miss, Done, Done, Miss, Refused, Done], "cut every {cut}");
        }
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let take = |text: &[u8]| Answers::default().take(text, &mut |_| ());
        assert_eq!(take(b"HTTP/1.1 400\r\n"), Err("HTTP/1.1 400".to_owned()));
        assert!(take(b"VALUE a 0\r\n").is_err());
    }
}
