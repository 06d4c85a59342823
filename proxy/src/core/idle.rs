//! Connections to one server that no request uses.
//!
//! What always holds: at most `max` are kept; the one used last is used first, so that the rest age and go; none is given
//! out that has been idle for `age_max` or longer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The idle connections of one server, oldest first.
#[derive(Debug)]
pub struct Idle<T> {
    kept: VecDeque<(Instant, T)>,
    max: usize,
    age_max: Duration,
}

impl<T> Idle<T> {
    /// Room for `max` connections.
    pub fn new(max: usize, age_max: Duration) -> Idle<T> {
        Idle { kept: VecDeque::new(), max, age_max }
    }

    /// Keeps a connection; gives back the one to close instead when there is no room.
    pub fn put(&mut self, connection: T, now: Instant) -> Option<T> {
        if self.max == 0 {
            return Some(connection);
        }
        let evicted = if self.kept.len() == self.max { self.kept.pop_front() } else { None };
        self.kept.push_back((now, connection));
        evicted.map(|(_, connection)| connection)
    }

    /// The connection used last, if it is not too old.
    pub fn take(&mut self, now: Instant) -> Option<T> {
        let (since, connection) = self.kept.pop_back()?;
        if now.saturating_duration_since(since) < self.age_max {
            return Some(connection);
        }
        // All others are older still.
        self.kept.clear();
        None
    }

    /// Takes out one that is too old, to be closed; `None` when there is no more.
    pub fn expire(&mut self, now: Instant) -> Option<T> {
        let (since, _) = self.kept.front()?;
        if now.saturating_duration_since(*since) < self.age_max {
            return None;
        }
        self.kept.pop_front().map(|(_, connection)| connection)
    }

    /// Takes all out, to be closed.
    pub fn clear(&mut self) {
        self.kept.clear();
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests need some instant to count from")]
mod tests {
    use super::*;

    #[test]
    fn last_in_first_out_and_bounded() {
        let now = Instant::now();
        let mut idle = Idle::new(2, Duration::from_secs(10));
        assert_eq!(idle.put(1, now), None);
        assert_eq!(idle.put(2, now), None);
        assert_eq!(idle.put(3, now), Some(1));
        assert_eq!((idle.take(now), idle.take(now), idle.take(now)), (Some(3), Some(2), None));
        assert_eq!(Idle::new(0, Duration::from_secs(1)).put(1, now), Some(1));
    }

    #[test]
    fn old_ones_go() {
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        let mut idle = Idle::new(9, Duration::from_secs(10));
        idle.put(1, now);
        idle.put(2, later(5));
        assert_eq!(idle.expire(later(9)), None);
        assert_eq!(idle.expire(later(10)), Some(1));
        assert_eq!(idle.expire(later(10)), None);
        assert_eq!(idle.take(later(15)), None);
        assert!(idle.is_empty());
    }
}
