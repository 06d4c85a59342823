//! `cargo xtask test`: units and integration, then simulated clusters, then real processes with real clients, then the fuzz
//! targets.
//!
//! What always holds: one profile (release), one target folder and one build ([`programs`]) for all but what is built
//! differently ([`sim`], fuzz targets); no suite runs for ever: what hangs is killed and named ([`watch`]); all that can run
//! is run, and what failed is said at the end. Tests wait most of their time: what is built differently is built beside
//! them, at the lowest priority.

use crate::install;
use crate::programs::{self, Test};
use crate::run::output;
use crate::sim;
use crate::watch::{watch, watch_beside};
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
    /// Seconds for seeds of the simulator that were never tried; none by default until a long hunt has found nothing.
    #[arg(long, default_value_t = 0)]
    fresh_seconds: u32,
    /// Seconds for each fuzz target.
    #[arg(long, default_value_t = 30)]
    fuzz_seconds: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Suite {
    /// Unit and integration tests of every crate.
    Unit,
    /// Simulated clusters, from fixed seeds and fresh ones.
    Sim,
    /// Real processes driven by clients that are not ours.
    E2e,
    /// A fuzz target for each decoder.
    Fuzz,
}

/// Tests of processes that are built with them. Their ports are apart: site offsets from 1000 on, from 10,000 on.
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
    let all = [Suite::Unit, Suite::Sim, Suite::E2e, Suite::Fuzz];
    let chosen: Vec<Suite> = all
        .into_iter()
        .filter(|suite| arguments.suites.is_empty() || arguments.suites.contains(suite))
        .collect();
    let all_begun = now();
    if chosen != [Suite::Sim] {
        install::programs(root)?;
    }
    let mut outcomes = Outcomes::default();
    let all_of_them = arguments.only.is_empty();
    let (cargo, target) = (cargo(), target_folder(root)?);
    let (mut programs, mut python) = (None, None);
    if chosen.contains(&Suite::Unit) || chosen.contains(&Suite::E2e) {
        let begun = now();
        std::thread::scope(|scope| {
            // It waits for the network while the compiler has the cores.
            let install =
                chosen.contains(&Suite::E2e).then(|| scope.spawn(|| install::python(root, &target)));
            programs = Some(programs::build(root, &cargo)?);
            python = install.map(|thread| thread.join().expect("it does not panic")).transpose()?;
            Ok::<(), String>(())
        })?;
        outcomes.add("the build", begun, Ok(()));
    }
    let (mut e2e, mut unit) = (Vec::new(), Vec::new());
    let tests = programs.iter().flat_map(|programs| &programs.tests);
    for test in tests.filter(|test| test.name.contains(&arguments.only)) {
        let real = REAL_PROCESSES.iter().any(|folder| test.name.starts_with(folder));
        if real { e2e.push(test) } else { unit.push(test) }
    }
    let simulator =
        sim::Suite { root, cargo: &cargo, target: &target, fresh_seconds: arguments.fresh_seconds };
    let simulates = chosen.contains(&Suite::Sim) && all_of_them;
    let fuzzes = chosen.contains(&Suite::Fuzz) && all_of_them;
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| {
            let mut outcomes = Outcomes::default();
            if simulates {
                sim::parts(&simulator).into_iter().for_each(|part| run_part(&simulator, part, &mut outcomes));
            }
            if fuzzes {
                let begun = now();
                outcomes.add("the fuzz targets' build", begun, build_fuzz(root));
            }
            outcomes
        });
        if chosen.contains(&Suite::Unit) {
            run_unit(root, &unit, all_of_them, &mut outcomes);
        }
        if let (Some(programs), Some(python)) = (&programs, &python) {
            run_e2e(&e2e, &programs.folder, python, &mut outcomes);
        }
        outcomes.join(beside.join().expect("it does not panic"));
    });
    if fuzzes {
        let begun = now();
        outcomes.add("the fuzz targets", begun, fuzz(root, arguments.fuzz_seconds, TEST_SEED, &[]));
    }
    outcomes.conclude(all_begun, chosen.len())
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

    /// Those of another thread.
    fn join(&mut self, other: Outcomes) {
        self.took.extend(other.took);
        self.failures.extend(other.failures);
    }

    fn conclude(mut self, begun: Instant, suites: usize) -> Result<(), String> {
        self.took.sort_unstable_by(|a, b| b.cmp(a));
        println!("xtask: {} s in all; the slowest:", begun.elapsed().as_secs());
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

fn run_part(suite: &sim::Suite<'_>, (name, part): sim::Part, outcomes: &mut Outcomes) {
    let begun = now();
    outcomes.add(name, begun, part(suite));
}

/// The suite of real processes is told where they are, and the Python with the clients. Those of [`REAL_PROCESSES`] that
/// are in different folders run side by side.
fn run_e2e(tests: &[&Test], programs: &Path, python: &Path, outcomes: &mut Outcomes) {
    let run = |folder: &str| {
        let mut outcomes = Outcomes::default();
        for test in tests.iter().filter(|test| test.name.starts_with(folder)) {
            let mut command = Command::new(&test.path);
            // One test at a time: each is a whole site or a load on two cores.
            command.arg("--test-threads=1").current_dir(&test.folder);
            command.env("MILLRACE_PROGRAMS", programs).env("MILLRACE_PYTHON", python);
            command.env("MILLRACE_BENCH_OURS", programs.join("millrace"));
            let begun = now();
            outcomes.add(&test.name, begun, watch_beside(&test.name, &mut command, E2E_LIMIT));
        }
        outcomes
    };
    std::thread::scope(|scope| {
        for folder in REAL_PROCESSES.map(|folder| scope.spawn(|| run(folder))) {
            outcomes.join(folder.join().expect("it does not panic"));
        }
    });
}

/// The fuzz seed of `test`: what it finds depends on the change, not on the day. `fuzz` hunts with a new one each time.
const TEST_SEED: u32 = 1;

const FUZZ: &str = "verify/fuzz/run.sh";

/// Runs the fuzz targets (all, or those named) for `seconds` each; seed 0 is a new one each time.
pub(crate) fn fuzz(root: &Path, seconds: u32, seed: u32, targets: &[String]) -> Result<(), String> {
    let mut command = Command::new("bash");
    command.args([FUZZ, "--seconds", &seconds.to_string(), "--seed", &seed.to_string()]).args(targets);
    command.current_dir(root).env("CARGO_TARGET_DIR", target_folder(root)?);
    println!("xtask: {FUZZ}");
    let limit = FUZZ_BUILD_LIMIT + FUZZ_TARGETS_MAX * Duration::from_secs(seconds.into());
    watch(FUZZ, &mut command, limit)
}

fn build_fuzz(root: &Path) -> Result<(), String> {
    let mut command = Command::new("nice");
    command.args(["-n", "19", "bash", FUZZ, "--build"]);
    command.current_dir(root).env("CARGO_TARGET_DIR", target_folder(root)?);
    watch_beside("the fuzz targets' build", &mut command, FUZZ_BUILD_LIMIT)
}
