//! Time as the core is told it, and what a client's expiry means.
//!
//! The store's clock counts milliseconds from [`START_MS`] at the start of the process, so that 0 can mean "never"
//! and 1 "already over". An expiry is exact: an item with a TTL of one second is served for one second and not a
//! millisecond longer (memcached's clock ticks in seconds).

/// What the store's clock shows when the process starts, in milliseconds.
pub const START_MS: u64 = 1000;

/// An expiry in the past.
pub(crate) const OVER: u64 = 1;

/// The furthest an expiry can be, 34 years from the start of the process: what an item's head has room for.
pub(crate) const EXPIRY_MS_MAX: u64 = (1 << 40) - 1;

/// A relative expiry may not be longer than this, in seconds; what is above is seconds since 1970 (protocol.txt,
/// "Expiration times").
const RELATIVE_MAX_S: i32 = 60 * 60 * 24 * 30;

/// The moment of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of the store's clock, at least [`START_MS`].
    pub ms: u64,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
}

impl Now {
    /// Seconds of the store's clock.
    pub(crate) fn seconds(self) -> u32 {
        u32::try_from(self.ms / 1000).unwrap_or(u32::MAX)
    }

    /// The expiry that a client means, in milliseconds of the store's clock; 0 for never.
    pub(crate) fn expiry_ms(self, exptime: i32) -> u64 {
        match exptime {
            0 => 0,
            ..0 => OVER,
            1..=RELATIVE_MAX_S => self.ms + exptime as u64 * 1000,
            _ => match (exptime as u64 * 1000).checked_sub(self.unix_ms) {
                None | Some(0) => OVER,
                // Further than that only if the wall clock is decades behind.
                Some(left_ms) => (self.ms + left_ms).min(EXPIRY_MS_MAX),
            },
        }
    }

    /// How long until `expiry_ms`, in seconds, a started second counted whole. `None` for never.
    pub(crate) fn seconds_until(self, expiry_ms: u64) -> Option<u64> {
        (expiry_ms != 0).then(|| expiry_ms.saturating_sub(self.ms).div_ceil(1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_relative_up_to_thirty_days() {
        let now = Now { ms: 5_000, unix_ms: 1_700_000_000_500 };
        assert_eq!(now.expiry_ms(0), 0);
        assert_eq!(now.expiry_ms(-1), OVER);
        assert_eq!(now.expiry_ms(1), 6_000);
        assert_eq!(now.expiry_ms(2_592_000), 2_592_005_000);
        assert_eq!(now.expiry_ms(2_592_001), OVER, "that was in 1970");
        assert_eq!(now.expiry_ms(1_700_000_010), 14_500);
        assert_eq!(now.seconds_until(14_500), Some(10));
        let in_1970 = Now { ms: 5_000, unix_ms: 0 };
        assert_eq!(in_1970.expiry_ms(i32::MAX), EXPIRY_MS_MAX);
        assert_eq!(now.seconds_until(0), None);
    }
}
