//! Real processes on free ports, driven by clients that are not ours: curl, dig, wrk, redis-cli, kcat, Python packages.
//!
//! `cargo xtask test e2e` builds the programs, installs the clients and runs `tests/`, one behaviour a file.
//!
//! | module | what |
//! |---|---|
//! | [`site`] | `millrace up` in a folder of its own, on ports of its own |
//! | [`daemon`] | one daemon alone, to be killed and started again |
//! | [`client`] | programs and Python scripts run to their end |
//! | [`forgetful`] | a file system that forgets what was not synced |
//!
//! What always holds: every process started here has ended when its handle is dropped, also in a failing test.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods)] // tests may block

pub mod client;
pub mod daemon;
pub mod forgetful;
pub mod process;
pub mod site;

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long anything may take to come true before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A program that was built for this suite: `millrace`, `forgetful`.
///
/// # Panics
/// When the suite was not started by `cargo xtask test e2e`, which builds them.
pub fn program(name: &str) -> PathBuf {
    let folder = std::env::var_os("MILLRACE_PROGRAMS").expect("run this suite by: cargo xtask test e2e");
    PathBuf::from(folder).join(name)
}

/// Asks again and again until `condition` gives something.
///
/// # Panics
/// When it has given nothing for [`PATIENCE`].
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "waited {} s for {what}", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}
