//! The suite of the simulator: whole clusters from seeds, and the runtime's contract on the simulated kernel.
//!
//! What always holds: everything here is built with `--cfg sim` in a folder of its own below the target folder, the one that
//! `cargo run -p sim` uses; a seed that fails is printed with the line that replays it.

use crate::watch::watch_beside;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Seeds of each scenario that run every time, from 0 on.
const SEEDS: u32 = 60;
/// Of the clients in each run.
const OPERATIONS: u32 = 2000;

const BUILD_LIMIT: Duration = Duration::from_secs(1200);
/// A run takes a second, where nothing hangs.
const SEEDS_LIMIT: Duration = Duration::from_secs(600);
/// Beyond the time that was asked for.
const LATE: Duration = Duration::from_secs(120);

/// A part of the suite: its name, and how it went.
pub(crate) type Part = (&'static str, fn(&Suite<'_>) -> Result<(), String>);

/// In this order: the first builds what the others run.
const PARTS: [Part; 4] = [
    ("the simulator's build", |suite| suite.build()),
    ("the runtime's contract, simulated", |suite| suite.contract()),
    ("a simulated run, twice", |suite| suite.run("a simulated run, twice", &["--seed", "1"], SEEDS_LIMIT)),
    ("simulated seeds", |suite| suite.run("simulated seeds", &["--seeds", &SEEDS.to_string()], SEEDS_LIMIT)),
];

/// Seeds that were never tried. It takes the time that was asked for.
const FRESH: Part = ("fresh simulated seeds", |suite| {
    let seconds = suite.fresh_seconds;
    let limit = Duration::from_secs(seconds.into()) + LATE;
    suite.run("fresh simulated seeds", &["--fresh", "--jobs", "1", "--seconds", &seconds.to_string()], limit)
});

/// All that this run is asked for.
pub(crate) fn parts(suite: &Suite<'_>) -> Vec<Part> {
    PARTS.into_iter().chain((suite.fresh_seconds > 0).then_some(FRESH)).collect()
}

/// Where it runs, and for how long.
pub(crate) struct Suite<'a> {
    pub(crate) root: &'a Path,
    pub(crate) cargo: &'a str,
    /// Of everything else; the simulator's is below.
    pub(crate) target: &'a Path,
    /// Seconds for seeds that were never tried.
    pub(crate) fresh_seconds: u32,
}

impl Suite<'_> {
    fn cargo(&self, arguments: &[&str]) -> Command {
        let flags = |name: &str| {
            format!("{} --cfg sim", std::env::var(name).unwrap_or_default()).trim_start().to_owned()
        };
        let mut command = nice();
        command
            .arg(self.cargo)
            .args(arguments)
            .arg("--target-dir")
            .arg(self.target.join("sim"))
            .current_dir(self.root);
        command.env("RUSTFLAGS", flags("RUSTFLAGS")).env("RUSTDOCFLAGS", flags("RUSTDOCFLAGS"));
        command
    }

    fn build(&self) -> Result<(), String> {
        let mut build = self.cargo(&["build", "--release", "--package", "sim"]);
        watch_beside("the simulator's build", &mut build, BUILD_LIMIT)
    }

    fn contract(&self) -> Result<(), String> {
        let mut test = self.cargo(&["test", "--release", "--package", "runtime"]);
        watch_beside("the runtime's contract, simulated", &mut test, BUILD_LIMIT)
    }

    fn run(&self, name: &str, arguments: &[&str], limit: Duration) -> Result<(), String> {
        let mut command = nice();
        command.arg(self.target.join("sim/release/sim"));
        command.args(arguments).args(["--operations", &OPERATIONS.to_string()]).current_dir(self.root);
        watch_beside(name, &mut command, limit)
    }
}

/// A simulated run does not depend on how fast it is.
fn nice() -> Command {
    let mut command = Command::new("nice");
    command.args(["-n", "19"]);
    command
}
