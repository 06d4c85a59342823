//! Signals: SIGTERM and SIGINT request the stop, SIGHUP reloads, a second SIGINT ends the process at once.
//!
//! SIGHUP without anything to reload asks for the stop, which is its default meaning (the terminal is gone), done cleanly;
//! started under `nohup` it stays ignored.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

/// The exit code of a process that was interrupted twice, as a shell would report SIGINT.
const INTERRUPTED: i32 = 130;

/// What the thread does on a signal.
pub(crate) enum Signal {
    /// SIGTERM, SIGINT.
    Stop(&'static str),
    /// SIGHUP.
    HangUp,
}

/// The thread that waits for signals.
#[derive(Debug)]
pub(crate) struct Watch {
    handle: Handle,
    thread: JoinHandle<()>,
}

impl Watch {
    /// From here on the signals no longer have their default effect, and `on_signal` is called for each on a thread of
    /// its own.
    pub(crate) fn start(on_signal: impl Fn(Signal) + Send + 'static) -> io::Result<Watch> {
        end_on_second_interrupt()?;
        let mut signals = Signals::new([SIGTERM, SIGINT])?;
        if !is_ignored(SIGHUP) {
            signals.add_signal(SIGHUP)?;
        }
        let handle = signals.handle();
        let wait = move || {
            for signal in &mut signals {
                on_signal(match signal {
                    SIGTERM => Signal::Stop("SIGTERM"),
                    SIGINT => Signal::Stop("SIGINT"),
                    _ => Signal::HangUp,
                });
            }
        };
        let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
        Ok(Watch { handle, thread })
    }

    /// Ends the thread. The signals are ignored from here on, save the second SIGINT.
    pub(crate) fn close(self) {
        self.handle.close();
        // It may be the signal thread itself that ends the service, from a reload's callback.
        if self.thread.thread().id() != std::thread::current().id() && self.thread.join().is_err() {
            tracing::error!("the signal thread panicked");
        }
    }
}

/// Within the signal handler itself, so that it works whatever the threads are stuck in.
fn end_on_second_interrupt() -> io::Result<()> {
    static INTERRUPTED_ONCE: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    let flag = Arc::new(AtomicBool::new(false));
    if INTERRUPTED_ONCE.set(flag.clone()).is_err() {
        return Ok(()); // this process has them already
    }
    // In this order: the first signal finds the flag down, then raises it.
    signal_hook::flag::register_conditional_shutdown(SIGINT, INTERRUPTED, flag.clone())?;
    signal_hook::flag::register(SIGINT, flag)?;
    Ok(())
}

fn is_ignored(signal: i32) -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores(&status, signal))
}

/// Whether the line `SigIgn` of `/proc/self/status` (a mask in hexadecimal, bit 0 is signal 1) has the signal.
fn ignores(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nohup_is_seen() {
        assert!(ignores("Name:\tx\nSigIgn:\t0000000000000001\n", SIGHUP));
        assert!(!ignores("Name:\tx\nSigIgn:\t0000000000001000\n", SIGHUP));
        assert!(!ignores("Name:\tx\n", SIGHUP));
    }
}
