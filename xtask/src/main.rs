//! The project's own chores: `cargo xtask tidy`, `cargo xtask test`, `cargo xtask fuzz`.
#![forbid(unsafe_code)]

mod install;
mod programs;
mod run;
mod sim;
mod test;
mod tidy;
mod watch;

use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The project's own chores.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Checks the rules of docs/ARCHITECTURE.md and of style that a machine can check, and explains each refusal.
    Tidy,
    /// Runs all tests: units, simulated clusters, real processes driven by real clients, fuzz targets. Installs what they
    /// need.
    Test(test::Arguments),
    /// Runs the fuzz targets.
    Fuzz {
        /// Seconds for each target.
        #[arg(long, default_value_t = 30)]
        seconds: u32,
        /// Only these targets; all by default.
        targets: Vec<String>,
    },
}

fn main() -> ExitCode {
    let root = root();
    let result = match Cli::parse().command {
        Command::Tidy => tidy::run(&root),
        Command::Test(arguments) => test::run(&root, &arguments),
        Command::Fuzz { seconds, targets } => test::fuzz(&root, seconds, 0, &targets),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
}
