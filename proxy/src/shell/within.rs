//! Deadlines counted from the beginning of the turn: no clock is read for them, and most are never reached.

use runtime::time::{Elapsed, deadline, turn_now};
use std::time::Duration;

/// `future`'s result, or [`Elapsed`] if it takes longer than `duration`, give or take a turn.
pub(super) fn within<F: Future>(
    duration: Duration,
    future: F,
) -> impl Future<Output = Result<F::Output, Elapsed>> {
    deadline(turn_now() + duration, future)
}
