//! Load: what clients of each protocol send, at full speed or at a fixed rate, from one thread on a CPU of its own.
//!
//! | module | what |
//! |---|---|
//! | [`stream`] | connections, closed and open loop, latencies |
//! | [`datagrams`] | sockets of datagrams, closed and open loop, latencies |
//! | [`measure`] | warm-up, the counted part, what the tasks of a load share |
//! | [`keys`] | which keys, how long the values |
//! | [`trace`] | recorded and made-up sequences of requests |
//! | [`aside`] | cache-aside over a trace |
//! | [`outside`] | load by others' tools |
//! | others | a protocol's requests and answers each: a [`Client`] |

pub(crate) mod aside;
pub(crate) mod datagrams;
pub(crate) mod dns;
pub(crate) mod etcd;
pub(crate) mod http;
pub(crate) mod kafka;
pub(crate) mod keys;
mod measure;
pub(crate) mod memcached;
pub(crate) mod nats;
pub(crate) mod outside;
pub(crate) mod resp;
pub(crate) mod site;
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
    /// Requests that were never answered, where the protocol may lose them. Not among the answers.
    pub(crate) lost: u64,
    /// Bytes received.
    pub(crate) bytes: u64,
}

impl Tally {
    fn since(self, before: Tally) -> Tally {
        Tally {
            answers: self.answers - before.answers,
            misses: self.misses - before.misses,
            refused: self.refused - before.refused,
            lost: self.lost - before.lost,
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

/// What the kernel has counted so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counters {
    pub(crate) server_cpu: Duration,
    /// Time in which the load's CPU was not idle, whatever ran there.
    pub(crate) load_core_busy: Duration,
    /// Flush requests of the disk; 0 where none is watched.
    pub(crate) flushes: u64,
}

impl Counters {
    /// What was counted since `before`.
    pub(crate) fn since(self, before: Counters) -> Counters {
        Counters {
            server_cpu: self.server_cpu.saturating_sub(before.server_cpu),
            load_core_busy: self.load_core_busy.saturating_sub(before.load_core_busy),
            flushes: self.flushes - before.flushes,
        }
    }
}

/// What a run saw between its first and its last moment, the warm-up left out.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) tally: Tally,
    pub(crate) elapsed: Duration,
    pub(crate) counted: Counters,
    /// CPU time of the load's own thread or process.
    pub(crate) load_cpu: Duration,
    /// Latencies in nanoseconds; empty at full speed.
    pub(crate) latency: Histogram<u64>,
    /// How late requests left, in nanoseconds: the load's own delay, part of the latencies.
    pub(crate) lateness: Histogram<u64>,
    /// What the scenario's load counted besides, by name.
    pub(crate) others: Vec<(String, f64)>,
}

impl Seen {
    /// Of a closed loop: without latencies.
    pub(crate) fn saturated(tally: Tally, elapsed: Duration, counted: Counters, load_cpu: Duration) -> Seen {
        let (latency, lateness) = (histogram(), histogram());
        Seen { tally, elapsed, counted, load_cpu, latency, lateness, others: Vec::new() }
    }
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
