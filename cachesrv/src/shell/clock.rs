//! The clock that the core is told.

use std::time::Instant;

use crate::core::clock::{Now, START_MS};

/// Starts with the process. Copies are the same clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(super) fn new() -> Clock {
        Clock { start: runtime::time::now() }
    }

    /// The moment, on any thread.
    pub(crate) fn now(&self) -> Now {
        Now { ms: self.ms_at(runtime::time::now()), unix_ms: runtime::time::unix_ms() }
    }

    /// The moment this turn began, on a core; the wall clock is so much ahead of ours as `offset_ms` says.
    pub(super) fn turn_now(&self, offset_ms: u64) -> Now {
        let ms = self.ms_at(runtime::time::turn_now());
        Now { ms, unix_ms: ms + offset_ms }
    }

    /// How far the wall clock is ahead of ours.
    pub(super) fn offset_ms(&self) -> u64 {
        let now = self.now();
        now.unix_ms.saturating_sub(now.ms)
    }

    fn ms_at(&self, instant: Instant) -> u64 {
        START_MS
            + u64::try_from(instant.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX / 2)
    }
}
