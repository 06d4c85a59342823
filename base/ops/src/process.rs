//! The process's own figures as Linux tells them, by the names every Prometheus client uses
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>).
//!
//! Reading happens at the scrape and nowhere else. What the system does not tell is left out of the answer.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::fmt;

/// Reads `/proc/self` at each scrape.
#[derive(Debug)]
pub(crate) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut figure = |name: &str, help: &str, unit: Option<&Unit>, metric: &dyn EncodeMetric| {
            metric.encode(encoder.encode_descriptor(name, help, unit, metric.metric_type())?)
        };
        let status = std::fs::read_to_string("/proc/self/stat").ok();
        if let Some(status) = status.as_deref().and_then(Status::parse) {
            let ticks = rustix::param::clock_ticks_per_second() as f64;
            let cpu = ConstCounter::new(status.cpu_ticks as f64 / ticks);
            figure("process_cpu", "User and system time of all threads", Some(&Unit::Seconds), &cpu)?;
            let resident = ConstGauge::new(clamp(status.resident_pages * rustix::param::page_size() as u64));
            figure("process_resident_memory", "Memory in RAM", Some(&Unit::Bytes), &resident)?;
            let virtual_bytes = ConstGauge::new(clamp(status.virtual_bytes));
            figure("process_virtual_memory", "Address space in use", Some(&Unit::Bytes), &virtual_bytes)?;
            let threads = ConstGauge::new(clamp(status.threads));
            figure("process_threads", "Threads of this process", None, &threads)?;
            if let Some(boot) = std::fs::read_to_string("/proc/stat").ok().as_deref().and_then(boot_seconds) {
                let start = ConstGauge::new(boot as f64 + status.start_ticks as f64 / ticks);
                figure("process_start_time", "Start, since 1970-01-01 UTC", Some(&Unit::Seconds), &start)?;
            }
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            // The folder being read is one of them while it is read.
            let open = ConstGauge::new(clamp(open.count().saturating_sub(1) as u64));
            figure("process_open_fds", "Open file descriptors", None, &open)?;
        }
        let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let most = ConstGauge::new(clamp(most.unwrap_or(u64::MAX)));
        figure("process_max_fds", "Most file descriptors that may be open", None, &most)
    }
}

/// What is used of `/proc/self/stat` (proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
struct Status {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Status {
    fn parse(text: &str) -> Option<Status> {
        // The name of the program, field 2, stands in brackets and may hold anything, brackets and spaces too.
        let (_, after_name) = text.rsplit_once(')')?;
        let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
        // Numbered as in the manual, where the state after the name is field 3.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Status {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// When the system started, from `/proc/stat`.
fn boot_seconds(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn clamp(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_program_may_hold_anything() {
        let text = "4242 (a) b (c) S 1 4242 4242 0 -1 4194560 100 0 0 0 70 30 0 0 20 0 5 0 999 123456789 2500 18446744073709551615";
        let status = Status::parse(text).unwrap();
        let expected = Status {
            cpu_ticks: 100,
            threads: 5,
            start_ticks: 999,
            virtual_bytes: 123_456_789,
            resident_pages: 2500,
        };
        assert_eq!(status, expected);
        assert_eq!(Status::parse("4242 (short) S 1"), None);
        assert_eq!(Status::parse(""), None);
    }

    #[test]
    fn boot_time_is_found() {
        assert_eq!(boot_seconds("cpu 1 2 3\nbtime 1700000000\nprocesses 5\n"), Some(1_700_000_000));
        assert_eq!(boot_seconds("cpu 1 2 3\n"), None);
    }
}
