//! What is asked for: which scenario, which seeds, until when.

use crate::hunt::{self, Plan, Scenario};
use crate::{cluster, quiet, wal};
use clap::Parser;
use std::hash::BuildHasher;
use std::process::ExitCode;
use std::time::Duration;

/// Runs simulated machines from a seed. The same seed is the same run.
#[derive(Debug, Parser)]
#[command(name = "sim")]
pub(crate) struct Arguments {
    /// Replays this seed, twice, and says whether both runs were the same.
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds to run, from 0 or `--from` on; 100 by default.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Begins with a seed that was never tried.
    #[arg(long)]
    fresh: bool,
    /// Runs until a seed fails: for ever, or as far as `--seeds` or `--seconds` say.
    #[arg(long)]
    until_failure: bool,
    /// Runs for so many seconds in all, whatever the number of seeds; each scenario has an equal part.
    #[arg(long)]
    seconds: Option<u64>,
    /// Operations of the clients in each run.
    #[arg(long, default_value_t = 2000)]
    operations: u64,
    /// Only this scenario; all by default.
    #[arg(long, value_parser = ["wal", "cluster"])]
    scenario: Option<String>,
    /// Prints what happens, and what the programs log, to standard error.
    #[arg(long)]
    trace: bool,
    /// Runs at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

const SEEDS: u64 = 100;

const SCENARIOS: [Scenario; 2] = [wal::SCENARIO, cluster::SCENARIO];

pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let shown = arguments.trace;
    tracing::subscriber::set_global_default(quiet::Log { shown }).expect("set once");
    let chosen = |scenario: &&Scenario| arguments.scenario.as_ref().is_none_or(|name| name == scenario.name);
    let scenarios: Vec<&Scenario> = SCENARIOS.iter().filter(chosen).collect();
    let plan = plan(&arguments, scenarios.len());
    let mut failed = false;
    for scenario in scenarios {
        failed |= match arguments.seed {
            Some(seed) => !hunt::replay(scenario, seed, arguments.operations, arguments.trace),
            None => !hunt::hunt(scenario, &plan),
        };
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn plan(arguments: &Arguments, scenarios: usize) -> Plan {
    let unbounded = arguments.seconds.is_some() || arguments.until_failure;
    let from = if arguments.fresh {
        // The only chance in here that is not from a seed; the seed it gives is printed.
        std::hash::RandomState::new().hash_one(0) >> 16
    } else {
        arguments.from
    };
    Plan {
        from,
        seeds: arguments.seeds.unwrap_or(if unbounded { u64::MAX - from } else { SEEDS }),
        limit: arguments.seconds.map(|seconds| Duration::from_secs(seconds) / scenarios.max(1) as u32),
        until_failure: arguments.until_failure,
        operations: arguments.operations,
        jobs: arguments.jobs.max(1),
    }
}
