//! Load: what clients of each protocol send, at full speed or at a fixed rate, from one thread on a CPU of its own.
//!
//! | module | what |
//! |---|---|
//! | [`stream`] | connections, closed and open loop, latencies |
//! | [`keys`] | which keys, how long the values |
//! | [`trace`] | recorded and made-up sequences of requests |
//! | [`aside`] | cache-aside over a trace |
//! | [`outside`] | load by others' tools |
//! | others | a protocol's requests and answers each: a [`Client`] |

pub(crate) mod aside;
pub(crate) mod keys;
pub(crate) mod memcached;
pub(crate) mod outside;
pub(crate) mod stream;
pub(crate) mod trace;

use hdrhistogram::Histogram;
use std::time::Duration;

/// One connection's half of a protocol: pure, so that the same one drives any loop.
pub(crate) trait Client {
    /// Appends the next request.
    fn request(&mut self, out: &mut Vec<u8>);

    /// Takes what arrived, which may end anywhere within an answer, and counts the answers that are whole.
    ///
    /// # Errors
    /// The answer that can't be right, in words.
    fn receive(&mut self, bytes: &[u8], tally: &mut Tally) -> Result<(), String>;
}

/// What was answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Whole answers, of every kind.
    pub(crate) answers: u64,
    /// Of these, the ones that found nothing.
    pub(crate) misses: u64,
    /// Of these, the ones by which the server refused.
    pub(crate) refused: u64,
    /// Bytes received.
    pub(crate) bytes: u64,
}

impl Tally {
    fn since(self, before: Tally) -> Tally {
        Tally {
            answers: self.answers - before.answers,
            misses: self.misses - before.misses,
            refused: self.refused - before.refused,
            bytes: self.bytes - before.bytes,
        }
    }
}

/// How requests are paced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// Closed loop: every connection has so many requests under way and sends the next when all are answered.
    Saturate { in_flight: usize },
    /// Open loop: so many requests a second in all, sent when due whether or not others were answered. A latency counts
    /// from when the request was due.
    Rate { requests_per_second: f64 },
}

/// What the kernel has counted for the server so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counters {
    pub(crate) server_cpu: Duration,
    /// Flush requests of the disk; 0 where none is watched.
    pub(crate) flushes: u64,
}

/// What a run saw between its first and its last moment, the warm-up left out.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) tally: Tally,
    pub(crate) elapsed: Duration,
    pub(crate) server_cpu: Duration,
    pub(crate) load_cpu: Duration,
    pub(crate) flushes: u64,
    /// Latencies in nanoseconds; empty at full speed.
    pub(crate) latency: Histogram<u64>,
    /// How late requests left, in nanoseconds: the load's own delay, part of the latencies.
    pub(crate) lateness: Histogram<u64>,
}

/// A histogram from 1 µs to a minute, in nanoseconds, three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("bounds in order")
}

/// CPU time of the calling thread, which is the load's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoadCpu(Duration);

impl LoadCpu {
    pub(crate) fn now() -> LoadCpu {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        LoadCpu(Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).expect("below a second")))
    }

    /// What was used since.
    pub(crate) fn since(self) -> Duration {
        LoadCpu::now().0 - self.0
    }
}
