//! `cargo xtask test`: units and integration, then real processes with real clients, then the fuzz targets.
//!
//! One profile (release) and one target folder for all, so that nothing is built twice.

use crate::install;
use crate::run::{self, output, run_with};
use clap::Args;
use std::path::{Path, PathBuf};

/// Which suites run.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only these suites; all by default.
    #[arg(value_enum)]
    suites: Vec<Suite>,
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

pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<(), String> {
    let all = [Suite::Unit, Suite::E2e, Suite::Fuzz];
    let chosen: Vec<Suite> = all
        .into_iter()
        .filter(|suite| arguments.suites.is_empty() || arguments.suites.contains(suite))
        .collect();
    install::programs(root)?;
    for (index, suite) in chosen.iter().enumerate() {
        println!("xtask: suite {} of {}: {suite:?}", index + 1, chosen.len());
        match suite {
            Suite::Unit => run_cargo(root, &["test", "--release", "--workspace", "--exclude", "e2e"])?,
            Suite::E2e => e2e(root)?,
            Suite::Fuzz => fuzz(root, arguments.fuzz_seconds, TEST_SEED, &[])?,
        }
    }
    println!("suites: {} passed, 0 failed", chosen.len());
    Ok(())
}

fn run_cargo(root: &Path, arguments: &[&str]) -> Result<(), String> {
    run::run(root, &cargo(), arguments)
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

/// The suite of real processes: the command is built first, its path and the Python with the clients are handed over.
fn e2e(root: &Path) -> Result<(), String> {
    let target = target_folder(root)?;
    let python = install::python(root, &target)?;
    run_cargo(root, &["build", "--release", "--package", "millrace", "--package", "forgetful"])?;
    let programs = target.join("release");
    let programs = programs.to_str().ok_or("the target folder's path is not UTF-8")?;
    let python = python.to_str().ok_or("the target folder's path is not UTF-8")?;
    let variables = [("MILLRACE_PROGRAMS", programs), ("MILLRACE_PYTHON", python)];
    // One test at a time: each is a whole site or a load on two cores.
    let arguments = ["test", "--release", "--package", "e2e", "--no-fail-fast", "--", "--test-threads=1"];
    run_with(root, &cargo(), &arguments, &variables)
}

/// The fuzz seed of `test`: what it finds depends on the change, not on the day. `fuzz` hunts with a new one each time.
const TEST_SEED: u32 = 1;

/// Runs the fuzz targets (all, or those named) for `seconds` each; seed 0 is a new one each time.
pub(crate) fn fuzz(root: &Path, seconds: u32, seed: u32, targets: &[String]) -> Result<(), String> {
    let target = target_folder(root)?;
    let target = target.to_str().ok_or("the target folder's path is not UTF-8")?;
    let (seconds, seed) = (seconds.to_string(), seed.to_string());
    let mut arguments = vec!["verify/fuzz/run.sh", "--seconds", &seconds, "--seed", &seed];
    arguments.extend(targets.iter().map(String::as_str));
    run_with(root, "bash", &arguments, &[("CARGO_TARGET_DIR", target)])
}
