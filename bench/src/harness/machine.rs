//! What a figure was measured on.

use serde::{Deserialize, Serialize};
use std::fs;
use std::process::Command;
use std::time::Duration;

/// The machine and the state of the code.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) virtual_machine: bool,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    /// The commit, with `+changes` when files differ from it.
    pub(crate) commit: String,
    /// The day, in UTC.
    pub(crate) date: String,
}

impl Machine {
    pub(crate) fn this() -> Machine {
        let cpuinfo = read("/proc/cpuinfo");
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let memory = read("/proc/meminfo");
        let memory_kib = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
        // But for results: a run of all scenarios writes one after the other.
        let status = [
            "status",
            "--porcelain",
            "--untracked-files=no",
            "--",
            ":!bench/results",
            ":!docs/PERFORMANCE.md",
        ];
        let changes = if git(&status).is_empty() { "" } else { "+changes" };
        Machine {
            cpu: field("model name"),
            cores: runtime::cores(),
            virtual_machine: field("flags").split(' ').any(|flag| flag == "hypervisor"),
            memory_mib: memory_kib.unwrap_or_default() / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            commit: git(&["rev-parse", "HEAD"]) + changes,
            date: ::time::OffsetDateTime::now_utc().date().to_string(),
        }
    }

    /// The folder of its results: the day and the kind of machine.
    pub(crate) fn folder(&self) -> String {
        format!("{}-{}core-{}", self.date, self.cores, if self.virtual_machine { "vm" } else { "metal" })
    }
}

/// Time since the machine started in which a CPU was not idle: it ran something, or another machine had it
/// (proc_stat(5): user, nice, system, idle, iowait, irq, softirq and steal, in ticks of 10 ms).
pub(crate) fn busy_time(cpu: usize) -> Duration {
    let stat = read("/proc/stat");
    let line = stat.lines().find_map(|line| line.strip_prefix(&format!("cpu{cpu} "))).unwrap_or_default();
    let fields = line.split_whitespace().take(8).enumerate().filter(|(field, _)| !matches!(field, 3 | 4));
    let ticks: u64 = fields.filter_map(|(_, ticks)| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn git(arguments: &[&str]) -> String {
    let output = Command::new("git").args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
