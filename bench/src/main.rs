//! Ours and the peers, side by side in one run: `cargo run --release -p bench -- SCENARIO`.
//!
//! | module | what |
//! |---|---|
//! | [`settings`] | the command line's flags |
//! | [`harness`] | runs contestants in turns, keeps rows, sums them up |
//! | [`peers`] | the programs that are compared |
//! | [`load`] | clients of each protocol, closed and open loop |
//! | [`scenario`] | who runs and what they are asked |
//! | [`report`] | docs/PERFORMANCE.md from the results |
//!
//! What always holds: a figure is a ratio of runs alternated in one go, on the same machine, with the same load; a run that
//! went wrong gives an error and no figure.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods)] // measures by the system's own clock

mod error;
mod harness;
mod load;
mod peers;
mod report;
mod scenario;
mod settings;

use clap::{Parser, Subcommand};
use error::Error;
use harness::result::Report;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use scenario::kv::log_server::LogServer;
use settings::{Flags, Settings};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
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
    /// geodns beside gdnsd and knot
    Dns(Flags),
    /// The proxy beside nginx and haproxy, in front of one origin
    Proxy(Flags),
    /// The broker beside nats-server: acknowledged on disk, and consumed
    Broker(Flags),
    /// dbshard beside redis-server, in memory and synced, and beside etcd on three nodes
    Kv(Flags),
    /// The whole site of `millrace up`
    Site(Flags),
    /// Miss ratios of cachesrv and memcached at equal memory, cache-aside over request traces
    Misses {
        #[command(flatten)]
        flags: Flags,
        /// A trace besides the built-in ones: oracleGeneral (24 bytes a request) or CSV (time, key, size)
        #[arg(long, value_name = "FILE")]
        trace: Vec<PathBuf>,
        /// Memory of each cache, in MiB
        #[arg(long, default_value_t = 64)]
        memory: usize,
    },
    /// Writes docs/PERFORMANCE.md and its charts from the results
    Report,
    /// One echo server, started by the scenario
    #[command(hide = true)]
    EchoServer { runtime: scenario::echo::Runtime, transport: scenario::echo::Transport, address: SocketAddr },
    /// One node of the replicated log alone, started by `kv`
    #[command(hide = true)]
    LogServer(LogServer),
}

/// How many times each contestant runs each case, unless told otherwise.
const PAIRS: u32 = 5;

/// Ten thousand connections are as many files, here and in the servers, which inherit the limit.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    // Where it can't be raised, opening one too many says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn main() -> ExitCode {
    allow_many_files();
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
        Scenario::Dns(flags) => measure("dns", flags, scenario::dns::run),
        Scenario::Proxy(flags) => measure("proxy", flags, scenario::proxy::run),
        Scenario::Broker(flags) => measure("broker", flags, scenario::broker::run),
        Scenario::Kv(flags) => measure("kv", flags, scenario::kv::run),
        Scenario::Site(flags) => measure("site", flags, scenario::site::run),
        Scenario::Misses { flags, trace, memory } => {
            let settings = flags.resolve(1)?;
            keep("misses", &settings, &scenario::misses::run(&settings, &trace, memory)?)
        }
        Scenario::Report => report::write(&root()),
        Scenario::LogServer(server) => server.serve(),
        Scenario::EchoServer { runtime, transport, address } => {
            let served = scenario::echo::serve(runtime, transport, address);
            served.map_err(Error::io(format!("serving on {address}")))
        }
    }
}

/// The checkout that this was built in.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("bench is in the checkout").to_owned()
}

fn measure(name: &str, flags: Flags, run: fn(&Settings) -> Result<Report, Error>) -> Result<(), Error> {
    let settings = flags.resolve(PAIRS)?;
    keep(name, &settings, &run(&settings)?)
}

/// Shows the report and writes its file.
fn keep(name: &str, settings: &Settings, report: &Report) -> Result<(), Error> {
    println!("\n{}", report.table());
    let folder = || root().join("bench/results").join(report.machine.folder());
    let default = (!settings.small).then(|| folder().join(format!("{name}.json")));
    if let Some(path) = settings.json.clone().or(default) {
        report.write(&path)?;
        println!("written to {}", path.display());
    }
    Ok(())
}
