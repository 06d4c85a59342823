//! Ours and the peers, side by side in one run: `cargo run --release -p bench -- SCENARIO`.
//!
//! | module | what |
//! |---|---|
//! | [`settings`] | the command line's flags |
//! | [`harness`] | runs contestants in turns, keeps rows, sums them up |
//! | [`peers`] | the programs that are compared |
//! | [`load`] | clients of each protocol, closed and open loop |
//! | [`scenario`] | who runs and what they are asked |
//!
//! What always holds: a figure is a ratio of runs alternated in one go, on the same machine, with the same load; a run that
//! went wrong gives an error and no figure.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods)] // measures by the system's own clock

mod error;
mod harness;
mod load;
mod peers;
mod scenario;
mod settings;

use clap::{Parser, Subcommand};
use error::Error;
use harness::result::Report;
use settings::Flags;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

/// Measures ours beside the peers, in turns in one run.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// The same small answer to the same small request on each runtime: what our facade costs
    Runtime(Flags),
    /// cachesrv beside memcached
    Cache(Flags),
    /// One echo server, started by the scenario
    #[command(hide = true)]
    EchoServer { runtime: scenario::echo::Runtime, address: SocketAddr },
}

fn main() -> ExitCode {
    match run(Cli::parse().scenario) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(if matches!(error, Error::Usage(_) | Error::NotInstalled { .. }) { 2 } else { 1 })
        }
    }
}

fn run(scenario: Scenario) -> Result<(), Error> {
    match scenario {
        Scenario::Runtime(flags) => measure("runtime", flags, scenario::runtimes::run),
        Scenario::Cache(flags) => measure("cache", flags, scenario::cache::run),
        Scenario::EchoServer { runtime, address } => {
            scenario::echo::serve(runtime, address).map_err(Error::io(format!("serving on {address}")))
        }
    }
}

fn measure(
    name: &str,
    flags: Flags,
    run: fn(&settings::Settings) -> Result<Report, Error>,
) -> Result<(), Error> {
    let settings = flags.resolve()?;
    let report = run(&settings)?;
    println!("\n{}", report.table());
    let folder = || Path::new(env!("CARGO_MANIFEST_DIR")).join("results").join(report.machine.folder());
    let default = (!settings.small).then(|| folder().join(format!("{name}.json")));
    if let Some(path) = settings.json.or(default) {
        report.write(&path)?;
        println!("written to {}", path.display());
    }
    Ok(())
}
