//! Whether the cores still turn: each core that keeps a pulse says so every second, and who asks compares.
//!
//! A core that is stuck in one long computation or one blocking call answers nobody, yet its process lives: `/healthz`
//! then names it, and the watchdog of systemd is no longer fed, so that the process is restarted.

use crate::{Stop, limits};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The pulses of one process; clones are the same.
#[derive(Clone, Debug)]
pub struct Pulse {
    started: Instant,
    cores: Arc<Mutex<Vec<Arc<Core>>>>,
}

#[derive(Debug)]
struct Core {
    name: String,
    /// Milliseconds since `started`; [`ENDED`] when the core has ended as it should.
    last_ms: AtomicU64,
}

const ENDED: u64 = u64::MAX;

impl Pulse {
    pub(crate) fn new(now: Instant) -> Pulse {
        Pulse { started: now, cores: Arc::default() }
    }

    /// Beats until `stop` is requested: `runtime::spawn` it on the core that `name` names. During the drain nobody beats.
    pub fn keep(&self, name: &str, stop: &Stop) -> impl Future<Output = ()> + 'static {
        let core = self.enter(name, runtime::time::now());
        let (stop, started) = (stop.clone(), self.started);
        async move {
            // Dropped with its core, whatever the reason, it no longer counts: a panicked core ends its process otherwise.
            let core = Leave(core);
            while !stop.is_requested() {
                let now = runtime::time::now().saturating_duration_since(started);
                core.0.last_ms.store(millis(now), Ordering::Relaxed);
                let _ = runtime::time::timeout(limits::PULSE_EVERY, stop.requested()).await;
            }
        }
    }

    /// The cores that have not beaten for [`limits::PULSE_STALE`], with how long.
    pub(crate) fn stuck(&self, now: Instant) -> Vec<(String, Duration)> {
        let now_ms = millis(now.saturating_duration_since(self.started));
        let mut cores = self.cores.lock().expect("no code panics while it holds the list of pulses");
        cores.retain(|core| core.last_ms.load(Ordering::Relaxed) != ENDED);
        cores
            .iter()
            .map(|core| {
                let last_ms = core.last_ms.load(Ordering::Relaxed);
                (core.name.clone(), Duration::from_millis(now_ms.saturating_sub(last_ms)))
            })
            .filter(|(_, silent)| *silent > limits::PULSE_STALE)
            .collect()
    }

    fn enter(&self, name: &str, now: Instant) -> Arc<Core> {
        let last_ms = AtomicU64::new(millis(now.saturating_duration_since(self.started)));
        let core = Arc::new(Core { name: name.to_owned(), last_ms });
        self.cores.lock().expect("no code panics while it holds the list of pulses").push(core.clone());
        core
    }
}

struct Leave(Arc<Core>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.last_ms.store(ENDED, Ordering::Relaxed);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("a process does not run for 500 million years")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_core_that_went_silent_is_stuck() {
        let start = runtime::time::now();
        let pulse = Pulse::new(start);
        let silent = pulse.enter("cache-0", start);
        let alive = pulse.enter("cache-1", start);
        let later = start + limits::PULSE_STALE + Duration::from_secs(2);
        alive.last_ms.store(12_000, Ordering::Relaxed);
        assert_eq!(pulse.stuck(later), [("cache-0".to_owned(), Duration::from_secs(12))]);
        drop(Leave(silent));
        assert_eq!(pulse.stuck(later), []);
    }
}
