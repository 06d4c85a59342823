//! The host's clocks.

use std::time::{Duration, Instant, SystemTime};

pub(super) fn monotonic() -> Instant {
    Instant::now()
}

pub(super) fn wall() -> SystemTime {
    SystemTime::now()
}

pub(super) fn boot() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable for the whole call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    assert_eq!(result, 0, "every Linux since 2.6.39 has CLOCK_BOOTTIME");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
