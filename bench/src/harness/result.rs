//! What a scenario found: every run as a row, with what is needed to judge it and to do it again.

use super::machine::Machine;
use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// A scenario's result file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) scenario: String,
    /// The arguments that were given.
    pub(crate) command: String,
    pub(crate) machine: Machine,
    /// Who ran: ours first.
    pub(crate) contestants: Vec<Described>,
    pub(crate) rows: Vec<Row>,
    /// What was not measured, and why.
    pub(crate) gaps: Vec<Gap>,
}

/// A contestant as it was run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Described {
    pub(crate) name: String,
    pub(crate) version: String,
    /// The exact command lines and the files that they name.
    pub(crate) configuration: String,
    /// The cases of this configuration; all when empty.
    pub(crate) group: String,
}

/// A figure that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gap {
    /// The case, or all of them when empty.
    pub(crate) case: String,
    pub(crate) contestant: String,
    pub(crate) reason: String,
}

/// What one run measured. What it did not measure is absent.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) case: String,
    pub(crate) contestant: String,
    /// Which round of the alternation, from 0.
    pub(crate) pair: usize,
    /// What was durable when the answer was sent; empty where nothing was written.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) durability: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) saturation: Option<Saturation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) latency: Option<Latency>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<Memory>,
}

/// A closed loop at full speed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Saturation {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    pub(crate) requests_per_second: f64,
    /// User and system time of the server's processes for each request.
    pub(crate) cpu_us_per_request: f64,
    /// How many CPUs' worth of time the server used, and the load.
    pub(crate) server_cpus: f64,
    pub(crate) load_cpus: f64,
    /// The share of the time in which the load's CPU was not idle: the load, and whatever else ran there.
    #[serde(default)]
    pub(crate) load_core_busy: f64,
    /// True when the load's CPU was full and the server's was not: then the requests per second are the load's.
    pub(crate) load_was_the_limit: bool,
    pub(crate) misses: u64,
    pub(crate) refused: u64,
    /// Requests that were never answered, where the protocol may lose them.
    #[serde(default)]
    pub(crate) lost: u64,
    pub(crate) bytes_received: u64,
    pub(crate) rss_bytes: u64,
    /// Flush requests of the disk, counted by the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) syncs_per_second: Option<f64>,
    /// What the scenario counted besides, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) others: Vec<(String, f64)>,
}

impl Saturation {
    /// The share of requests that found nothing; none where all found something.
    pub(crate) fn miss_percent(&self) -> Option<f64> {
        (self.misses > 0).then(|| self.misses as f64 * 100.0 / self.requests as f64)
    }
}

/// An open loop at a fixed rate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) requests_per_second: f64,
    pub(crate) answers: u64,
    /// Requests that were never answered; the latencies leave them out.
    #[serde(default)]
    pub(crate) lost: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
    /// The load's own delay, which the latencies contain.
    pub(crate) late_p99_us: f64,
    /// True when the load answered for more than a tenth of the 99th percentile, or the server fell behind.
    pub(crate) suspect: bool,
}

/// Memory by count of things held.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// `item` or `idle connection`.
    pub(crate) of: String,
    pub(crate) count: u64,
    pub(crate) rss_before_bytes: u64,
    pub(crate) rss_after_bytes: u64,
    pub(crate) bytes_each: f64,
}

impl Row {
    /// Requests that were never answered, in either kind of run.
    pub(crate) fn lost(&self) -> u64 {
        let saturated = self.saturation.as_ref().map(|seen| seen.lost);
        saturated.unwrap_or_default() + self.latency.as_ref().map(|seen| seen.lost).unwrap_or_default()
    }
}

impl Report {
    /// Writes the file, and the folders above it.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let doing = || format!("writing {}", path.display());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Error::io(doing()))?;
        }
        let text = serde_json::to_string_pretty(self).expect("a report is JSON") + "\n";
        fs::write(path, text).map_err(Error::io(doing()))
    }

    /// Reads a file that [`Report::write`] wrote.
    pub(crate) fn read(path: &Path) -> Result<Report, Error> {
        let text = fs::read_to_string(path).map_err(Error::io(format!("reading {}", path.display())))?;
        serde_json::from_str(&text).map_err(|error| Error::Usage(format!("{}: {error}", path.display())))
    }
}
