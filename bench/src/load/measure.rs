//! A run of any load: what its tasks share, the warm-up, the counted part, what was seen in it.
//!
//! What always holds: nothing of the warm-up is counted; a task's failure ends the run at once and is its result.

use super::{Counters, LoadCpu, Seen, Tally, histogram};
use crate::error::Error;
use hdrhistogram::Histogram;
use runtime::sync::Notify;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How much longer than asked the counted part may last, until there is an answer at all.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// What the tasks of a run share.
pub(super) struct Run {
    tally: Tally,
    latency: Histogram<u64>,
    lateness: Histogram<u64>,
    /// Handshakes of TLS, and those among them that resumed a session.
    handshakes: u64,
    resumed: u64,
    counting: bool,
    failure: Option<Error>,
}

pub(super) type Shared = Rc<(RefCell<Run>, Notify)>;

impl Run {
    pub(super) fn shared() -> Shared {
        let run = Run {
            tally: Tally::default(),
            latency: histogram(),
            lateness: histogram(),
            handshakes: 0,
            resumed: 0,
            counting: false,
            failure: None,
        };
        Rc::new((RefCell::new(run), Notify::new()))
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    pub(super) fn add(&mut self, more: Tally) {
        let all = &mut self.tally;
        all.answers += more.answers;
        all.misses += more.misses;
        all.refused += more.refused;
        all.lost += more.lost;
        all.bytes += more.bytes;
    }

    /// A request that was due then was answered now.
    pub(super) fn answered(&mut self, due: Instant, now: Instant) {
        if self.counting {
            self.latency.saturating_record(nanoseconds(now.saturating_duration_since(due)));
        }
    }

    /// A request that was due then leaves now.
    pub(super) fn left(&mut self, due: Instant, now: Instant) {
        if self.counting {
            self.lateness.saturating_record(nanoseconds(now.saturating_duration_since(due)));
        }
    }

    pub(super) fn handshake(&mut self, is_resumed: bool) {
        self.handshakes += u64::from(self.counting);
        self.resumed += u64::from(self.counting && is_resumed);
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Ends the run with an error; the first one counts.
pub(super) fn fail(shared: &Shared, error: Error) {
    shared.0.borrow_mut().failure.get_or_insert(error);
    shared.1.notify_all();
}

/// Lets the tasks that have begun run for `warm_up`, then for `duration`, and gives what was seen in the second.
///
/// # Errors
/// A task's failure, or when there was no answer at all.
pub(super) async fn counted(
    shared: &Shared,
    warm_up: Duration,
    duration: Duration,
    counters: impl Fn() -> Counters,
) -> Result<Seen, Error> {
    pause(shared, warm_up).await?;
    let (begun, before, load_before) = (runtime::time::now(), counters(), LoadCpu::now());
    let tally_before = {
        let mut run = shared.0.borrow_mut();
        run.counting = true;
        run.tally
    };
    pause(shared, duration).await?;
    let answered = || shared.0.borrow().tally.answers > tally_before.answers;
    while !answered() && begun.elapsed() < duration + FIRST_ANSWER {
        pause(shared, duration).await?;
    }
    let (elapsed, after, load_cpu) = (begun.elapsed(), counters(), load_before.since());
    let mut run = shared.0.borrow_mut();
    run.counting = false;
    let tally = run.tally.since(tally_before);
    if tally.answers == 0 {
        return Err(Error::WrongAnswer(format!("none at all within {:.1} s", elapsed.as_secs_f64())));
    }
    let resumed = run.resumed as f64 / run.handshakes as f64 * 100.0;
    let others = (run.handshakes > 0).then(|| ("resumed handshakes, %".to_owned(), resumed));
    Ok(Seen {
        latency: run.latency.clone(),
        lateness: run.lateness.clone(),
        others: others.into_iter().collect(),
        ..Seen::saturated(tally, elapsed, after.since(before), load_cpu)
    })
}

/// Waits, and ends early when a task has failed.
async fn pause(shared: &Shared, duration: Duration) -> Result<(), Error> {
    let _ = runtime::time::timeout(duration, shared.1.notified()).await;
    match shared.0.borrow_mut().failure.take() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
