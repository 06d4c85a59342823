//! The command line's flags, which all scenarios share, and what they come to.

use crate::error::Error;
use clap::Args;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// As given.
#[derive(Debug, Clone, Args)]
pub(crate) struct Flags {
    /// Peers to run, by name with commas between; all of the scenario's that are installed by default
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    peers: Option<Vec<String>>,
    /// One more peer: a binary of another version (memcached=PATH); `millrace=PATH` is another build of ours
    #[arg(long = "peer", value_name = "NAME=PATH")]
    binaries: Vec<Binary>,
    /// Our command, instead of building it
    #[arg(long, value_name = "PATH", env = "MILLRACE_BENCH_OURS")]
    ours: Option<PathBuf>,
    /// Install the peers that are missing, from Debian
    #[arg(long)]
    install_peers: bool,
    /// How many times each contestant runs each case, in turns [default: 5; misses: 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    pairs: Option<u32>,
    /// How long each run lasts, in seconds
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Threads of each server, on CPUs 0 and up; the load has the last CPU
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Only the cases with this in their name
    #[arg(long, value_name = "PART")]
    cases: Option<String>,
    /// Where the result goes (default: bench/results/DATE-MACHINE/SCENARIO.json)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Everything once, short and with little data, to see that it works; writes no result unless --json says where
    #[arg(long)]
    small: bool,
}

/// A peer's name and its binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binary {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

impl FromStr for Binary {
    type Err = String;

    fn from_str(text: &str) -> Result<Binary, String> {
        let (name, path) = text.split_once('=').ok_or("write NAME=PATH")?;
        let path = std::fs::canonicalize(path).map_err(|error| format!("{path}: {error}"))?;
        Ok(Binary { name: name.to_owned(), path })
    }
}

/// As they hold.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) peers: Option<Vec<String>>,
    pub(crate) binaries: Vec<Binary>,
    pub(crate) ours: Option<PathBuf>,
    pub(crate) install_peers: bool,
    pub(crate) pairs: usize,
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
    pub(crate) threads: usize,
    pub(crate) load_cpu: usize,
    pub(crate) cases: Option<String>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) small: bool,
}

impl Flags {
    /// The settings; `pairs` when the flags do not say how many.
    ///
    /// # Errors
    /// When the machine has not a CPU for each server thread and one for the load.
    pub(crate) fn resolve(self, pairs: u32) -> Result<Settings, Error> {
        let cores = runtime::cores();
        if self.threads == 0 || self.threads >= cores {
            return Err(Error::Usage(format!(
                "--threads {}: this machine has {cores} CPUs, and the load needs one for itself",
                self.threads
            )));
        }
        if !(0.1..=3600.0).contains(&self.seconds) {
            return Err(Error::Usage(format!("--seconds {}: from 0.1 to 3600", self.seconds)));
        }
        let (warm_up, seconds) = if self.small { (0.05, 0.3) } else { (0.5, self.seconds) };
        Ok(Settings {
            peers: self.peers,
            binaries: self.binaries,
            ours: self.ours,
            install_peers: self.install_peers,
            pairs: if self.small { 1 } else { self.pairs.unwrap_or(pairs) as usize },
            warm_up: Duration::from_secs_f64(warm_up),
            duration: Duration::from_secs_f64(seconds),
            threads: self.threads,
            load_cpu: cores - 1,
            cases: self.cases,
            json: self.json,
            small: self.small,
        })
    }
}

impl Settings {
    /// The servers' CPUs and the load's, as taskset(1) lists them.
    pub(crate) fn every_cpu(&self) -> String {
        format!("0-{}", self.load_cpu)
    }

    /// A count of items or the like: as is, or a hundredth in the small mode, and at least one.
    pub(crate) fn scaled(&self, count: u64) -> u64 {
        if self.small { (count / 100).max(1) } else { count }
    }
}
