//! The registry of one process and its text form, OpenMetrics 1.0
//! (<https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>).

use crate::process::Process;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::sync::Mutex;

/// What `/metrics` says it is.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The figures are read while the text is written; a daemon's own are atomics, which nobody waits for.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
}

impl Metrics {
    /// A registry with the process's figures and `millrace_build_info{daemon,version}`.
    pub(crate) fn new(daemon: &'static str) -> Metrics {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process));
        let build = Info::new([("daemon", daemon), ("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("millrace_build", "The program that answers", build);
        Metrics { registry: Mutex::new(registry) }
    }

    pub(crate) fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().expect("registering a metric does not panic"));
    }

    /// The whole text, ending in `# EOF`.
    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().expect("registering a metric does not panic");
        match prometheus_client::encoding::text::encode(&mut text, &registry) {
            Ok(()) => text,
            // Writing to a String does not fail; a collector that does gets its half text thrown away.
            Err(std::fmt::Error) => "# EOF\n".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn process_build_and_own_metrics_are_in_the_text() {
        let metrics = Metrics::new("cachesrv");
        let gets = Counter::<u64>::default();
        metrics.register(|registry| registry.register("millrace_cachesrv_gets", "Gets", gets.clone()));
        gets.inc_by(3);
        let text = metrics.encode();
        assert!(text.contains("\nmillrace_cachesrv_gets_total 3\n"), "{text}");
        assert!(text.contains("millrace_build_info{daemon=\"cachesrv\",version=\"0.1.0\"} 1\n"), "{text}");
        for name in [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
            "process_threads",
            "process_start_time_seconds",
            "process_open_fds",
            "process_max_fds",
        ] {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
            let value: f64 =
                line.unwrap_or_else(|| panic!("{name}\n{text}")).rsplit_once(' ').unwrap().1.parse().unwrap();
            assert!(value >= 0.0 && (value > 0.0 || name.contains("cpu")), "{name} {value}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
