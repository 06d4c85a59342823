//! Time: the only clocks of the project, and timers on the core's wheel (one-millisecond ticks, rounded up).

#[cfg(not(sim))]
mod clock;
mod wheel;

pub(crate) use wheel::Wheel;

use crate::exec::Core;
#[cfg(sim)]
use crate::sim::clock;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The monotonic clock, read now.
pub fn now() -> Instant {
    clock::monotonic()
}

/// The monotonic clock as it was when this turn began: free to read, at most one turn old.
pub fn turn_now() -> Instant {
    Core::current().turn_started()
}

/// Time since the machine started, its sleep included (CLOCK_BOOTTIME): what a lease is measured on, as the monotonic clock
/// stands still while a machine is suspended.
pub fn boot_clock() -> Duration {
    clock::boot()
}

/// The wall clock; it may jump.
pub fn wall_clock() -> SystemTime {
    clock::wall()
}

/// The wall clock in milliseconds since the Unix epoch; it may jump.
pub fn unix_ms() -> u64 {
    wall_clock().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Resolves once `duration` has passed.
pub fn sleep(duration: Duration) -> Sleep {
    // A duration beyond the clock is as good as a century.
    let century = Duration::from_secs(100 * 365 * 24 * 3600);
    sleep_until(now() + duration.min(century))
}

/// Resolves at `deadline`.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, timer: None, core: Core::current() }
}

/// The future of [`sleep`] and [`sleep_until`].
#[must_use = "futures do nothing unless awaited"]
pub struct Sleep {
    deadline: Instant,
    timer: Option<wheel::Key>,
    core: Rc<Core>,
}

impl Future for Sleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let core = self.core.clone();
        let mut wheel = core.timers.borrow_mut();
        match self.timer {
            Some(key) if wheel.fired(key) => return Poll::Ready(()),
            Some(key) => wheel.set_waker(key, context.waker()),
            None if self.deadline <= core.turn_started() => return Poll::Ready(()),
            None => self.timer = Some(wheel.insert(core.tick_at(self.deadline), context.waker())),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.timer {
            self.core.timers.borrow_mut().remove(key);
        }
    }
}

/// A deadline passed before the future was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

impl std::fmt::Display for Elapsed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("deadline passed")
    }
}

impl std::error::Error for Elapsed {}

/// `future`'s result, or [`Elapsed`] if it takes longer than `duration`. The future is dropped then; operations of
/// this crate lose nothing by that.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    or_elapsed(sleep(duration), future).await
}

/// `future`'s result, or [`Elapsed`] if it is not done at `deadline`.
pub async fn deadline<F: Future>(deadline: Instant, future: F) -> Result<F::Output, Elapsed> {
    or_elapsed(sleep_until(deadline), future).await
}

async fn or_elapsed<F: Future>(sleep: Sleep, future: F) -> Result<F::Output, Elapsed> {
    let mut sleep = std::pin::pin!(sleep);
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => sleep.as_mut().poll(context).map(|()| Err(Elapsed)),
    })
    .await
}
