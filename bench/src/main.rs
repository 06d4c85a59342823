//! Ours and the peers, side by side in one run: `cargo run --release -p bench -- SCENARIO`.
//!
//! | module | what |
//! |---|---|
//! | [`echo`] | the `runtime` scenario's servers, one per runtime, all doing the same |
//! | [`load`] | closed-loop load, on our runtime |
//! | [`process`] | a server as a pinned child process, its CPU time |
//! | [`report`] | rows, medians, the result file |
//!
//! What always holds: a figure is a ratio of runs alternated in one go, on the same machine, with the same load.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods)] // measures by the system's own clock

mod echo;
mod load;
mod process;
mod report;

use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Measures ours beside the peers.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// The same small answer to the same small request on each runtime: what our facade costs.
    Runtime {
        /// Rounds; in each, every runtime runs once.
        #[arg(long, default_value_t = 5)]
        pairs: usize,
        /// Seconds of each run.
        #[arg(long, default_value_t = 4)]
        seconds: u64,
        /// Where the result goes.
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// One echo server, started by the scenario.
    #[command(hide = true)]
    EchoServer { runtime: echo::Runtime },
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Cli::parse().scenario {
        Scenario::Runtime { pairs, seconds, json } => {
            let result = report::runtimes(pairs, seconds)?;
            println!("\n{}", result.table());
            if let Some(path) = json {
                result.write(&path)?;
                println!("written to {}", path.display());
            }
        }
        Scenario::EchoServer { runtime } => echo::serve(runtime)?,
    }
    Ok(())
}
