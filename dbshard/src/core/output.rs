//! The replies of a connection that are not yet sent.
//!
//! Each stretch of the output may wait for a write: it may leave only once that write is committed, and nothing behind it
//! leaves before it. Large values are not copied but shared.
//!
//! Bounded: past its limit the output takes nothing more and says so ([`Output::overflowed`]); its connection is then closed.

use bytes::Bytes;
use std::collections::VecDeque;
use wire::resp::{Protocol, reply};

use super::entry::Value;

/// Replies in order, and what they wait for.
#[derive(Debug)]
pub struct Output {
    bytes: Vec<u8>,
    /// Large values, each with where in `bytes` it belongs.
    large: VecDeque<(usize, Bytes)>,
    large_bytes: usize,
    /// From this place on, wait for this write.
    gates: VecDeque<(usize, u64)>,
    limit_bytes: usize,
    overflowed: bool,
    /// The version that the connection speaks.
    pub protocol: Protocol,
}

/// Output that may leave: the bytes, and the large values with their places among them.
#[derive(Debug, Default)]
pub struct Ready {
    /// All but the large values.
    pub bytes: Vec<u8>,
    /// Where in `bytes` each large value belongs, in order.
    pub large: VecDeque<(usize, Bytes)>,
}

impl Ready {
    /// How many bytes in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() + self.large.iter().map(|(_, value)| value.len()).sum::<usize>()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.large.is_empty()
    }

    /// The pieces in order.
    pub fn pieces(self) -> impl Iterator<Item = Bytes> {
        let bytes = Bytes::from(self.bytes);
        let mut from = 0;
        let end = bytes.len();
        let mut large = self.large.into_iter().map(Some).chain([None]);
        std::iter::from_fn(move || {
            let (to, value) = match large.next()? {
                Some((at, value)) => (at, Some(value)),
                None => (end, None),
            };
            let before = bytes.slice(from..to);
            from = to;
            Some([Some(before), value])
        })
        .flatten()
        .flatten()
        .filter(|piece| !piece.is_empty())
    }
}

/// A place in the output to go back to.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    bytes: usize,
    large: usize,
}

impl Output {
    /// Nothing to say yet.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            bytes: Vec::new(),
            large: VecDeque::new(),
            large_bytes: 0,
            gates: VecDeque::new(),
            limit_bytes,
            overflowed: false,
            protocol: Protocol::Resp2,
        }
    }

    /// How many bytes wait, shared values among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() + self.large_bytes
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether something waits for a write to be committed.
    #[must_use]
    pub fn is_gated(&self) -> bool {
        !self.gates.is_empty()
    }

    /// Whether a reply did not fit: what is here is of no use.
    #[must_use]
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// Where the next reply begins.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { bytes: self.bytes.len(), large: self.large.len() }
    }

    /// Forgets everything written after the mark.
    pub fn rewind(&mut self, mark: Mark) {
        self.bytes.truncate(mark.bytes);
        for (_, value) in self.large.drain(mark.large..) {
            self.large_bytes -= value.len();
        }
    }

    /// What was written after the mark waits for the write `sequence`.
    pub fn gate(&mut self, mark: Mark, sequence: u64) {
        if self.gates.back().is_none_or(|(_, last)| *last < sequence) {
            self.gates.push_back((mark.bytes, sequence));
        }
    }

    /// The reply that waits for what no commit brings (`WAIT`) may leave.
    pub fn lift(&mut self) {
        while self.gates.back().is_some_and(|(_, sequence)| *sequence == u64::MAX) {
            self.gates.pop_back();
        }
    }

    /// Whether any waiting reply rests on a write in this range.
    #[must_use]
    pub fn waits_for(&self, sequences: &std::ops::RangeInclusive<u64>) -> bool {
        self.gates.iter().any(|(_, sequence)| sequences.contains(sequence))
    }

    /// Whether something may leave, given that all writes up to `committed` are.
    #[must_use]
    pub fn has_ready(&self, committed: u64) -> bool {
        let end = self.gates.iter().find(|(_, sequence)| *sequence > committed).map(|(end, _)| *end);
        !self.is_empty() && end != Some(0)
    }

    /// Takes what may leave, given that all writes up to `committed` are.
    pub fn take(&mut self, committed: u64) -> Ready {
        while self.gates.front().is_some_and(|(_, sequence)| *sequence <= committed) {
            self.gates.pop_front();
        }
        let Some(&(end, _)) = self.gates.front() else {
            self.large_bytes = 0;
            return Ready { bytes: std::mem::take(&mut self.bytes), large: std::mem::take(&mut self.large) };
        };
        if end == 0 {
            return Ready::default();
        }
        let rest = self.bytes.split_off(end);
        let bytes = std::mem::replace(&mut self.bytes, rest);
        // A large value at the very end is followed by its CRLF, so `end` lies behind it or before its head.
        let keep = self.large.partition_point(|(at, _)| *at < end);
        let mut later = self.large.split_off(keep);
        std::mem::swap(&mut later, &mut self.large);
        for (at, _) in &mut self.large {
            *at -= end;
        }
        for (at, _) in &mut self.gates {
            *at -= end;
        }
        self.large_bytes = self.large.iter().map(|(_, value)| value.len()).sum();
        Ready { bytes, large: later }
    }

    fn fits(&mut self, more_bytes: usize) -> bool {
        if self.len() + more_bytes > self.limit_bytes {
            self.overflowed = true;
        }
        !self.overflowed
    }

    /// `+OK`.
    pub fn ok(&mut self) {
        self.bytes.extend_from_slice(b"+OK\r\n");
    }

    /// A simple string.
    pub fn simple(&mut self, text: &str) {
        reply::simple(&mut self.bytes, text);
    }

    /// An error; its first word is its code.
    pub fn error(&mut self, text: &[u8]) {
        reply::error(&mut self.bytes, text);
    }

    /// An integer.
    pub fn integer(&mut self, value: i64) {
        if self.fits(24) {
            reply::integer(&mut self.bytes, value);
        }
    }

    /// A bulk string.
    pub fn bulk(&mut self, bytes: &[u8]) {
        if self.fits(bytes.len() + 32) {
            reply::bulk(&mut self.bytes, bytes);
        }
    }

    /// A string value, shared if it is large.
    pub fn value(&mut self, value: Value<'_>) {
        match value {
            Value::Small(bytes) => self.bulk(bytes),
            Value::Large(shared) => {
                if self.fits(shared.len() + 32) {
                    reply::bulk_head(&mut self.bytes, shared.len());
                    self.large.push_back((self.bytes.len(), shared.clone()));
                    self.large_bytes += shared.len();
                    self.bytes.extend_from_slice(b"\r\n");
                }
            }
            Value::Hash(_) => unreachable!("types are checked before"),
        }
    }

    /// Nothing.
    pub fn null(&mut self) {
        if self.fits(8) {
            reply::null(&mut self.bytes, self.protocol);
        }
    }

    /// Nothing, where an array was expected.
    pub fn null_array(&mut self) {
        reply::null_array(&mut self.bytes, self.protocol);
    }

    /// The head of an array.
    pub fn array(&mut self, count: usize) {
        reply::array(&mut self.bytes, count);
    }

    /// The head of a map.
    pub fn map(&mut self, count: usize) {
        reply::map(&mut self.bytes, count, self.protocol);
    }

    /// The head of a set.
    pub fn set(&mut self, count: usize) {
        reply::set(&mut self.bytes, count, self.protocol);
    }

    /// A text for people.
    pub fn verbatim(&mut self, text: &str) {
        if self.fits(text.len() + 32) {
            reply::verbatim(&mut self.bytes, "txt", text.as_bytes(), self.protocol);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(ready: Ready) -> Vec<u8> {
        ready.pieces().flatten().collect()
    }

    #[test]
    fn what_waits_stays_and_so_does_what_is_behind_it() {
        let mut out = Output::new(1 << 20);
        out.ok();
        for sequence in [1, 1, 2] {
            let mark = out.mark();
            out.value(Value::Large(&Bytes::from(sequence.to_string())));
            out.gate(mark, sequence);
        }
        out.integer(9);
        assert_eq!(text(out.take(0)), b"+OK\r\n");
        assert_eq!(text(out.take(0)), b"");
        assert_eq!(text(out.take(1)), b"$1\r\n1\r\n$1\r\n1\r\n");
        assert!(out.is_gated() && out.waits_for(&(2..=2)) && !out.waits_for(&(3..=9)));
        assert_eq!(text(out.take(5)), b"$1\r\n2\r\n:9\r\n");
        assert!(out.is_empty() && !out.is_gated());
    }

    #[test]
    fn rewinding_and_the_limit() {
        let mut out = Output::new(100);
        out.ok();
        let mark = out.mark();
        out.value(Value::Large(&Bytes::from_static(b"xy")));
        out.rewind(mark);
        assert_eq!(out.len(), 5);
        out.bulk(&[0; 100]);
        assert!(out.overflowed());
        assert_eq!(out.len(), 5);
    }
}
