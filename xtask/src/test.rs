//! `cargo xtask test`: units and integration, then real processes with real clients, then the fuzz targets.
//!
//! What always holds: one profile (release), one target folder and one build ([`programs`]) for all; no suite runs for
//! ever: what hangs is killed and named ([`watch`]); all that can run is run, and what failed is said at the end.

use crate::install;
use crate::programs::{self, Test};
use crate::run::output;
use crate::watch::watch;
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Which suites run.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only these suites; all by default.
    #[arg(value_enum)]
    suites: Vec<Suite>,
    /// Only test programs with this in their path: `verify/e2e/tests/up.rs`, `proxy/`.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Seconds for each fuzz target.
    #[arg(long, default_value_t = 30)]
    fuzz_seconds: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Suite {
    /// Unit and integration tests of every crate.
    Unit,
    /// Real processes driven by clients that are not ours.
    E2e,
    /// A fuzz target for each decoder.
    Fuzz,
}

/// Tests of processes that are built with them, on their own as they fill both cores.
const REAL_PROCESSES: [&str; 2] = ["verify/e2e/", "bench/tests/"];

/// A test program that has not ended after this long hangs. The slowest takes a third of it on two busy cores.
const UNIT_LIMIT: Duration = Duration::from_secs(300);
const E2E_LIMIT: Duration = Duration::from_secs(600);
/// With their compilation.
const DOC_LIMIT: Duration = Duration::from_secs(600);
const FUZZ_BUILD_LIMIT: Duration = Duration::from_secs(1200);
/// More than there are.
const FUZZ_TARGETS_MAX: u32 = 20;

/// So many of the slowest are listed.
const SLOWEST: usize = 10;

pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<(), String> {
    let all = [Suite::Unit, Suite::E2e, Suite::Fuzz];
    let chosen: Vec<Suite> = all
        .into_iter()
        .filter(|suite| arguments.suites.is_empty() || arguments.suites.contains(suite))
        .collect();
    install::programs(root)?;
    let mut outcomes = Outcomes::default();
    if chosen.iter().any(|suite| *suite != Suite::Fuzz) {
        let begun = now();
        let programs = programs::build(root, &cargo())?;
        outcomes.add("the build", begun, Ok(()));
        let (mut e2e, mut unit) = (Vec::new(), Vec::new());
        for test in programs.tests.iter().filter(|test| test.name.contains(&arguments.only)) {
            let real = REAL_PROCESSES.iter().any(|folder| test.name.starts_with(folder));
            if real { e2e.push(test) } else { unit.push(test) }
        }
        if chosen.contains(&Suite::Unit) {
            run_unit(root, &unit, arguments.only.is_empty(), &mut outcomes);
        }
        if chosen.contains(&Suite::E2e) {
            run_e2e(root, &e2e, &programs.folder, &mut outcomes)?;
        }
    }
    if chosen.contains(&Suite::Fuzz) && arguments.only.is_empty() {
        let begun = now();
        outcomes.add("the fuzz targets", begun, fuzz(root, arguments.fuzz_seconds, TEST_SEED, &[]));
    }
    outcomes.conclude(chosen.len())
}

#[expect(clippy::disallowed_methods, reason = "how long programs take; nothing is served here")]
fn now() -> Instant {
    Instant::now()
}

/// What ran, for how long, and what failed.
#[derive(Default)]
struct Outcomes {
    took: Vec<(Duration, String)>,
    failures: Vec<String>,
}

impl Outcomes {
    fn add(&mut self, name: &str, begun: Instant, outcome: Result<(), String>) {
        self.took.push((begun.elapsed(), name.to_owned()));
        if let Err(failure) = outcome {
            println!("xtask: {failure}");
            self.failures.push(failure);
        }
    }

    fn conclude(mut self, suites: usize) -> Result<(), String> {
        self.took.sort_unstable_by(|a, b| b.cmp(a));
        let all: Duration = self.took.iter().map(|(took, _)| *took).sum();
        println!("xtask: {} s in all; the slowest:", all.as_secs());
        for (took, name) in self.took.iter().take(SLOWEST) {
            println!("{:>8.1} s  {name}", took.as_secs_f64());
        }
        if self.failures.is_empty() {
            println!("suites: {suites} passed, 0 failed");
            return Ok(());
        }
        Err(format!("{} failed:\n  {}", self.failures.len(), self.failures.join("\n  ")))
    }
}

fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

/// Where cargo builds.
fn target_folder(root: &Path) -> Result<PathBuf, String> {
    let metadata = output(root, &cargo(), &["metadata", "--format-version", "1", "--no-deps"])?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata).map_err(|error| error.to_string())?;
    metadata["target_directory"]
        .as_str()
        .map(PathBuf::from)
        .ok_or_else(|| "cargo names no target folder".to_owned())
}

fn run_unit(root: &Path, tests: &[&Test], with_documentation: bool, outcomes: &mut Outcomes) {
    for test in tests {
        println!("xtask: {}", test.name);
        let begun = now();
        let outcome = watch(&test.name, Command::new(&test.path).current_dir(&test.folder), UNIT_LIMIT);
        outcomes.add(&test.name, begun, outcome);
    }
    if with_documentation {
        println!("xtask: the examples of the documentation");
        let mut command = Command::new(cargo());
        command.args(["test", "--release", "--workspace", "--doc"]).current_dir(root);
        let begun = now();
        outcomes.add("doctests", begun, watch("doctests", &mut command, DOC_LIMIT));
    }
}

/// The suite of real processes is told where they are, and the Python with the clients.
fn run_e2e(root: &Path, tests: &[&Test], programs: &Path, outcomes: &mut Outcomes) -> Result<(), String> {
    let python = install::python(root, &target_folder(root)?)?;
    for test in tests {
        println!("xtask: {}", test.name);
        let mut command = Command::new(&test.path);
        // One test at a time: each is a whole site or a load on two cores.
        command.arg("--test-threads=1").current_dir(&test.folder);
        command.env("MILLRACE_PROGRAMS", programs).env("MILLRACE_PYTHON", &python);
        command.env("MILLRACE_BENCH_OURS", programs.join("millrace"));
        let begun = now();
        outcomes.add(&test.name, begun, watch(&test.name, &mut command, E2E_LIMIT));
    }
    Ok(())
}

/// The fuzz seed of `test`: what it finds depends on the change, not on the day. `fuzz` hunts with a new one each time.
const TEST_SEED: u32 = 1;

/// Runs the fuzz targets (all, or those named) for `seconds` each; seed 0 is a new one each time.
pub(crate) fn fuzz(root: &Path, seconds: u32, seed: u32, targets: &[String]) -> Result<(), String> {
    let script = "verify/fuzz/run.sh";
    let mut command = Command::new("bash");
    command.args([script, "--seconds", &seconds.to_string(), "--seed", &seed.to_string()]).args(targets);
    command.current_dir(root).env("CARGO_TARGET_DIR", target_folder(root)?);
    println!("xtask: {script}");
    let limit = FUZZ_BUILD_LIMIT + FUZZ_TARGETS_MAX * Duration::from_secs(seconds.into());
    watch(script, &mut command, limit)
}
