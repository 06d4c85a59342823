//! What the proxy counts.
//!
//! What always holds: each core counts in memory of its own that only it writes, so counting costs no shared line and no
//! lock; the sums are made when somebody asks.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Upper ends of the duration histogram's buckets, in microseconds; the last bucket has none.
const DURATION_BOUNDS_US: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000,
    30_000_000,
];

/// The statuses the proxy gives itself; any other is counted as the last.
const OWN_STATUSES: [u16; 13] = [400, 404, 408, 413, 414, 417, 431, 501, 502, 503, 504, 505, 500];

/// A number that one core writes and anyone reads.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// One more.
    pub(crate) fn add(&self) {
        self.add_many(1);
    }

    /// `count` more. There is one writer, so no read-modify-write is needed.
    pub(crate) fn add_many(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// One less, of a number that rises and falls.
    pub(crate) fn remove(&self) {
        self.add_many(u64::MAX);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one core counts of one server.
#[derive(Debug, Default)]
pub(crate) struct ServerCounts {
    /// Answers sent on, by the first digit of their status.
    answers: [Count; 6],
    /// Connections made.
    pub(crate) connects: Count,
    /// Connections that could not be made.
    pub(crate) connect_errors: Count,
    /// Connections used again.
    pub(crate) reuses: Count,
    /// Requests tried elsewhere after this server failed them.
    pub(crate) retries: Count,
    /// Requests running.
    pub(crate) in_flight: Count,
}

impl ServerCounts {
    /// An answer of the server was sent on.
    pub(crate) fn answered(&self, status: u16) {
        self.answers[usize::from(status / 100).min(5)].add();
    }
}

/// What one core counts.
#[derive(Debug)]
pub(crate) struct CoreCounts {
    /// Of each server, all upstreams in a row.
    pub(crate) servers: Vec<ServerCounts>,
    own: [Count; OWN_STATUSES.len()],
    /// Client connections accepted.
    pub(crate) accepted: Count,
    /// Client connections open.
    pub(crate) connections: Count,
    /// TLS handshakes that failed.
    pub(crate) handshake_errors: Count,
    /// Requests left unanswered, their connections closed.
    pub(crate) unanswered: Count,
    durations: [Count; DURATION_BOUNDS_US.len() + 1],
    durations_us: Count,
}

impl CoreCounts {
    pub(crate) fn new(servers: usize) -> CoreCounts {
        CoreCounts {
            servers: (0..servers).map(|_| ServerCounts::default()).collect(),
            own: Default::default(),
            accepted: Count::default(),
            connections: Count::default(),
            handshake_errors: Count::default(),
            unanswered: Count::default(),
            durations: Default::default(),
            durations_us: Count::default(),
        }
    }

    /// The proxy gave an answer of its own.
    pub(crate) fn refused(&self, status: u16) {
        let index = OWN_STATUSES.iter().position(|own| *own == status).unwrap_or(OWN_STATUSES.len() - 1);
        self.own[index].add();
    }

    /// A request took this long, from the end of its head to the end of its answer.
    pub(crate) fn took(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.durations[DURATION_BOUNDS_US.partition_point(|bound| *bound < us)].add();
        self.durations_us.add_many(us);
    }
}

/// Gives the sums of all cores.
#[derive(Debug)]
pub(crate) struct Sums {
    /// Upstream and address of each server.
    pub(crate) names: Vec<(String, String)>,
    pub(crate) cores: Vec<Arc<CoreCounts>>,
    /// Which servers are up.
    pub(crate) up: Arc<[AtomicBool]>,
}

impl Sums {
    fn sum(&self, of: impl Fn(&CoreCounts) -> &Count) -> u64 {
        self.cores.iter().fold(0, |sum, core| sum.wrapping_add(of(core).get()))
    }

    fn per_server(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help): (&str, &str),
        kind: MetricType,
        of: impl Fn(&ServerCounts) -> &Count,
    ) -> std::fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, None, kind)?;
        for (index, (upstream, server)) in self.names.iter().enumerate() {
            let sum = self.sum(|core| of(&core.servers[index]));
            let labels = [("upstream", upstream.as_str()), ("server", server.as_str())];
            encode(&mut family, &labels, kind, sum)?;
        }
        Ok(())
    }

    fn plain(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help): (&str, &str),
        kind: MetricType,
        of: impl Fn(&CoreCounts) -> &Count,
    ) -> std::fmt::Result {
        let metric = encoder.encode_descriptor(name, help, None, kind)?;
        let sum = self.sum(of);
        match kind {
            MetricType::Gauge => ConstGauge::new(sum as i64).encode(metric),
            _ => ConstCounter::new(sum).encode(metric),
        }
    }
}

fn encode(
    family: &mut prometheus_client::encoding::MetricEncoder<'_>,
    labels: &[(&str, &str)],
    kind: MetricType,
    sum: u64,
) -> std::fmt::Result {
    let metric = family.encode_family(&labels)?;
    match kind {
        MetricType::Gauge => ConstGauge::new(sum as i64).encode(metric),
        _ => ConstCounter::new(sum).encode(metric),
    }
}

impl Collector for Sums {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let encoder = &mut encoder;
        let counter = MetricType::Counter;
        let mut family = encoder.encode_descriptor(
            "millrace_proxy_answers",
            "Answers of servers sent on to clients",
            None,
            counter,
        )?;
        for (index, (upstream, server)) in self.names.iter().enumerate() {
            for (digit, class) in ["0xx", "1xx", "2xx", "3xx", "4xx", "5xx"].iter().enumerate().skip(1) {
                let sum = self.sum(|core| &core.servers[index].answers[digit]);
                let labels = [("upstream", upstream.as_str()), ("server", server.as_str()), ("class", class)];
                encode(&mut family, &labels, counter, sum)?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "millrace_proxy_own_answers",
            "Answers the proxy gave itself",
            None,
            counter,
        )?;
        for (index, status) in OWN_STATUSES.iter().enumerate() {
            let status = status.to_string();
            encode(&mut family, &[("status", status.as_str())], counter, self.sum(|core| &core.own[index]))?;
        }
        let name = ("millrace_proxy_upstream_connects", "Connections made to servers");
        self.per_server(encoder, name, counter, |server| &server.connects)?;
        let name =
            ("millrace_proxy_upstream_connect_errors", "Connections to servers that could not be made");
        self.per_server(encoder, name, counter, |server| &server.connect_errors)?;
        let name = ("millrace_proxy_upstream_reuses", "Requests sent over a connection used before");
        self.per_server(encoder, name, counter, |server| &server.reuses)?;
        let name = ("millrace_proxy_retries", "Requests tried again after this server failed them");
        self.per_server(encoder, name, counter, |server| &server.retries)?;
        let name = ("millrace_proxy_in_flight", "Requests running on servers");
        self.per_server(encoder, name, MetricType::Gauge, |server| &server.in_flight)?;

        let mut family = encoder.encode_descriptor(
            "millrace_proxy_server_up",
            "1 if the server gets requests",
            None,
            MetricType::Gauge,
        )?;
        for ((upstream, server), up) in self.names.iter().zip(self.up.iter()) {
            let labels = [("upstream", upstream.as_str()), ("server", server.as_str())];
            encode(&mut family, &labels, MetricType::Gauge, u64::from(up.load(Ordering::Relaxed)))?;
        }
        let name = ("millrace_proxy_accepted_connections", "Client connections accepted");
        self.plain(encoder, name, counter, |core| &core.accepted)?;
        let name = ("millrace_proxy_connections", "Client connections open");
        self.plain(encoder, name, MetricType::Gauge, |core| &core.connections)?;
        let name = ("millrace_proxy_tls_handshake_errors", "TLS handshakes that failed");
        self.plain(encoder, name, counter, |core| &core.handshake_errors)?;
        let name = (
            "millrace_proxy_unanswered_requests",
            "Requests left to their clients because a server closed a kept connection under them",
        );
        self.plain(encoder, name, counter, |core| &core.unanswered)?;

        let mut metric = encoder.encode_descriptor(
            "millrace_proxy_request_duration_seconds",
            "From the end of a request's head to the end of its answer",
            None,
            MetricType::Histogram,
        )?;
        let buckets: Vec<(f64, u64)> = (0..=DURATION_BOUNDS_US.len())
            .map(|index| {
                let bound = DURATION_BOUNDS_US.get(index).map_or(f64::INFINITY, |us| *us as f64 / 1e6);
                (bound, self.sum(|core| &core.durations[index]))
            })
            .collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let seconds = self.sum(|core| &core.durations_us) as f64 / 1e6;
        metric.encode_histogram::<[(&str, &str); 0]>(seconds, count, &buckets, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::Registry;

    #[test]
    fn the_text_has_sums_of_all_cores() {
        let cores: Vec<_> = (0..2).map(|_| Arc::new(CoreCounts::new(1))).collect();
        for core in &cores {
            core.servers[0].answered(200);
            core.servers[0].in_flight.add();
            core.refused(503);
            core.took(Duration::from_micros(300));
        }
        cores[1].servers[0].in_flight.remove();
        cores[0].took(Duration::from_secs(100));
        let names = vec![("web".to_owned(), "127.0.0.1:1".to_owned())];
        let up: Arc<[AtomicBool]> = Arc::new([AtomicBool::new(true)]);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Sums { names, cores, up }));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "millrace_proxy_answers_total{upstream=\"web\",server=\"127.0.0.1:1\",class=\"2xx\"} 2",
            "millrace_proxy_own_answers_total{status=\"503\"} 2",
            "millrace_proxy_in_flight{upstream=\"web\",server=\"127.0.0.1:1\"} 1",
            "millrace_proxy_server_up{upstream=\"web\",server=\"127.0.0.1:1\"} 1",
            "millrace_proxy_request_duration_seconds_bucket{le=\"0.0005\"} 2",
            "millrace_proxy_request_duration_seconds_bucket{le=\"30.0\"} 2",
            "millrace_proxy_request_duration_seconds_bucket{le=\"+Inf\"} 3",
            "millrace_proxy_request_duration_seconds_count 3",
        ] {
            assert!(text.contains(line), "{line}\nis not in\n{text}");
        }
    }
}
