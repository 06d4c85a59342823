//! How much log a group's state machine has not made durable yet, in bytes.
//!
//! Not every entry is remembered: a mark every [`MARK_BYTES`], so what is said is too much by that at most, and by what
//! was overwritten. A group without entries takes no memory for it.

use std::collections::VecDeque;

use crate::Index;
use crate::core::batch::RECORD_HEAD_BYTES;

/// Bytes from one mark to the next, or a little more.
const MARK_BYTES: u64 = 256 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Backlog {
    last: Index,
    /// Bytes of all entries that ever came, and of those that are needed no more.
    total: u64,
    gone: u64,
    /// Up to an entry, how many bytes had come.
    marks: VecDeque<(Index, u64)>,
}

impl Backlog {
    /// An entry of so many bytes comes; in place of what was there, if it is not behind the last.
    pub(crate) fn add(&mut self, index: Index, bytes: usize) {
        while self.marks.back().is_some_and(|(at, _)| *at >= index) {
            self.marks.pop_back();
        }
        self.total += (RECORD_HEAD_BYTES + bytes) as u64;
        self.last = index;
        let marked = self.marks.back().map_or(self.gone, |(_, total)| *total);
        if self.total - marked >= MARK_BYTES {
            self.marks.push_back((index, self.total));
        }
    }

    /// Entries up to `through` are needed no more.
    pub(crate) fn truncate(&mut self, through: Index) {
        while self.marks.front().is_some_and(|(at, _)| *at <= through) {
            self.gone = self.marks.pop_front().map_or(self.gone, |(_, total)| total);
        }
        if through >= self.last {
            self.gone = self.total;
        }
    }

    /// The last that came.
    pub(crate) fn last(&self) -> Index {
        self.last
    }

    /// Bytes of the entries that are needed.
    pub(crate) fn bytes(&self) -> u64 {
        self.total - self.gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_a_little_too_much_at_most() {
        let mut backlog = Backlog::default();
        let each = (RECORD_HEAD_BYTES + 1000) as u64;
        (1..=2000).for_each(|index| backlog.add(Index(index), 1000));
        assert_eq!(backlog.bytes(), 2000 * each);
        for through in [1, 700, 1999] {
            backlog.truncate(Index(through));
            let left = (2000 - through) * each;
            assert!((left..=left + MARK_BYTES + each).contains(&backlog.bytes()), "{through}");
        }
        backlog.truncate(Index(2000));
        assert_eq!(backlog.bytes(), 0);
        // An end that is overwritten stays counted until it is truncated.
        (2001..=3000).for_each(|index| backlog.add(Index(index), 1000));
        backlog.add(Index(2501), 1000);
        backlog.truncate(Index(2500));
        assert!(backlog.bytes() >= each);
        backlog.truncate(Index(2501));
        assert_eq!(backlog.bytes(), 0);
    }
}
