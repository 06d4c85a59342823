//! Whether a server gets requests: from its checks, and from connections to it that failed.
//!
//! What always holds: a server that is up goes down after `fall` failures in a row, one that is down comes up after `rise`
//! passed checks in a row; only the very first check decides alone. A passed check ends a row of failures; an answer to a
//! request ends one of failed connections, so that single requests that make a server hang up do not take it out. Where no
//! checks are made, a server that fell is given requests again once it answers one (as the last that is left it may get
//! some) or after `retry`, and then a failure before its first answer takes it down at once.

use std::time::{Duration, Instant};

/// When a server falls and rises.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// Passed checks in a row that bring a server up.
    pub rise: u32,
    /// Failures in a row that take it down.
    pub fall: u32,
    /// If no checks are made: how long it stays down.
    pub retry: Option<Duration>,
}

/// What an event changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// The server gets requests from now on.
    Up,
    /// The server gets no more requests.
    Down,
}

/// The state of one server.
#[derive(Clone, Debug)]
pub struct Health {
    thresholds: Thresholds,
    up: bool,
    checked: bool,
    /// Passed checks in a row, while down.
    passes: u32,
    /// Failed checks in a row, while up.
    failed_checks: u32,
    /// Failed connections in a row, while up.
    failed_connections: u32,
    retry_at: Option<Instant>,
}

impl Health {
    /// A server not yet checked, taken to be `up` or not.
    pub fn new(thresholds: Thresholds, up: bool) -> Health {
        Health {
            thresholds,
            up,
            checked: false,
            passes: 0,
            failed_checks: 0,
            failed_connections: 0,
            retry_at: None,
        }
    }

    /// Whether it gets requests.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// A check passed or failed.
    pub fn checked(&mut self, passed: bool, now: Instant) -> Change {
        let first = !std::mem::replace(&mut self.checked, true);
        match (self.up, passed) {
            (true, true) => {
                (self.failed_checks, self.failed_connections) = (0, 0);
                Change::None
            }
            (false, false) => {
                self.passes = 0;
                Change::None
            }
            (false, true) => {
                self.passes += 1;
                if first || self.passes >= self.thresholds.rise { self.rise() } else { Change::None }
            }
            (true, false) => {
                self.failed_checks += 1;
                self.failed(first, now)
            }
        }
    }

    /// A connection for a request failed: it could not be made, or broke in the middle of an answer.
    pub fn connection_failed(&mut self, now: Instant) -> Change {
        if !self.up {
            return Change::None;
        }
        self.failed_connections += 1;
        self.failed(false, now)
    }

    /// It answered a request, after a connection had failed.
    pub fn answered(&mut self) -> Change {
        self.failed_connections = 0;
        if self.up || self.thresholds.retry.is_none() { Change::None } else { self.rise() }
    }

    /// Brings a server up whose time has come, where no checks are made.
    pub fn tick(&mut self, now: Instant) -> Change {
        if self.retry_at.is_none_or(|at| now < at) {
            return Change::None;
        }
        let change = self.rise();
        self.failed_connections = self.thresholds.fall - 1;
        change
    }

    fn rise(&mut self) -> Change {
        self.up = true;
        (self.failed_checks, self.failed_connections) = (0, 0);
        self.retry_at = None;
        Change::Up
    }

    fn failed(&mut self, at_once: bool, now: Instant) -> Change {
        if !at_once && self.failed_checks.saturating_add(self.failed_connections) < self.thresholds.fall {
            return Change::None;
        }
        self.up = false;
        self.passes = 0;
        self.retry_at = self.thresholds.retry.map(|retry| now + retry);
        Change::Down
    }
}

/// The wait before the next check: `interval`, moved by up to a tenth either way by the random number given.
pub fn jittered(interval: Duration, random: u64) -> Duration {
    let tenth = interval / 10;
    let span_us = u64::try_from(2 * tenth.as_micros()).unwrap_or(u64::MAX).max(1);
    interval - tenth + Duration::from_micros(random % span_us)
}

/// Whether a check's status passes: one of `expect`, or 200 to 399 if that names none.
pub fn passes(expect: &[u16], status: u16) -> bool {
    if expect.is_empty() { (200..400).contains(&status) } else { expect.contains(&status) }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests need some instant to count from")]
mod tests {
    use super::*;

    fn health(retry: Option<Duration>, up: bool) -> Health {
        Health::new(Thresholds { rise: 2, fall: 3, retry }, up)
    }

    #[test]
    fn falls_after_failures_in_a_row_and_rises_after_passes_in_a_row() {
        let now = Instant::now();
        let mut server = health(None, true);
        assert_eq!(server.checked(true, now), Change::None);
        for passed in [false, false, true, false, false] {
            assert_eq!(server.checked(passed, now), Change::None);
        }
        assert_eq!(server.checked(false, now), Change::Down);
        assert!(!server.is_up());
        for passed in [true, false, true] {
            assert_eq!(server.checked(passed, now), Change::None);
        }
        assert_eq!(server.checked(true, now), Change::Up);
        assert!(server.is_up());
    }

    #[test]
    fn the_first_check_decides_alone() {
        let now = Instant::now();
        assert_eq!(health(None, true).checked(false, now), Change::Down);
        assert_eq!(health(None, false).checked(true, now), Change::Up);
        assert_eq!(health(None, false).checked(false, now), Change::None);
    }

    #[test]
    fn failed_connections_count_with_checks() {
        let now = Instant::now();
        let mut server = health(None, true);
        server.checked(true, now);
        assert_eq!(server.connection_failed(now), Change::None);
        assert_eq!(server.checked(false, now), Change::None);
        assert_eq!(server.connection_failed(now), Change::Down);
        assert_eq!(server.connection_failed(now), Change::None);
        assert_eq!(server.tick(now + Duration::from_secs(9999)), Change::None, "only checks bring it up");
    }

    #[test]
    fn without_checks_time_brings_it_back_on_probation() {
        let now = Instant::now();
        let retry = Duration::from_secs(5);
        let mut server = health(Some(retry), true);
        server.connection_failed(now);
        server.connection_failed(now);
        assert_eq!(server.connection_failed(now), Change::Down);
        assert_eq!(server.tick(now + retry / 2), Change::None);
        assert_eq!(server.tick(now + retry), Change::Up);
        assert_eq!(server.connection_failed(now + retry), Change::Down, "one failure is enough now");
        assert_eq!(server.tick(now + 2 * retry), Change::Up);
        assert_eq!(server.answered(), Change::None);
        assert_eq!(server.connection_failed(now + 2 * retry), Change::None, "an answer ends the row");
        server.connection_failed(now + 2 * retry);
        assert_eq!(server.connection_failed(now + 2 * retry), Change::Down);
        assert_eq!(server.answered(), Change::Up, "what answers is not down");
    }

    #[test]
    fn answers_end_a_row_of_failed_connections_but_not_of_failed_checks() {
        let now = Instant::now();
        let mut server = health(None, true);
        server.checked(true, now);
        for _ in 0..9 {
            assert_eq!(server.connection_failed(now), Change::None);
            assert_eq!(server.connection_failed(now), Change::None);
            server.answered();
        }
        for _ in 0..2 {
            assert_eq!(server.checked(false, now), Change::None);
            server.answered();
        }
        assert_eq!(server.checked(false, now), Change::Down);
        assert_eq!(server.answered(), Change::None, "only checks bring it up");
    }

    #[test]
    fn the_wait_stays_within_a_tenth() {
        let interval = Duration::from_secs(1);
        for random in [0, 1, 12345, u64::MAX] {
            let wait = jittered(interval, random);
            assert!((Duration::from_millis(900)..=Duration::from_millis(1100)).contains(&wait), "{wait:?}");
        }
    }

    #[test]
    fn statuses_that_pass() {
        assert!(passes(&[], 200) && passes(&[], 302) && !passes(&[], 404) && !passes(&[], 503));
        assert!(passes(&[204, 404], 404) && !passes(&[204, 404], 200));
    }
}
