//! What `/metrics` shows. Each shard puts its figures down once a second; a scrape reads them there.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::core::command::TABLE;
use crate::core::shard::Shard;

/// The figures of one shard.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    counters: [AtomicU64; COUNTERS.len()],
    gauges: [AtomicU64; GAUGES.len()],
    calls: Vec<AtomicU64>,
    /// The log took no writes of late.
    pub(crate) read_only: AtomicBool,
}

const COUNTERS: [(&str, &str); 9] = [
    ("connections_accepted", "Connections accepted"),
    ("connections_rejected", "Connections over the limit"),
    ("errors", "Error replies"),
    ("keyspace_hits", "Reads that found their key"),
    ("keyspace_misses", "Reads that did not find their key"),
    ("expired_keys", "Keys deleted because they had expired"),
    ("bytes_read", "Bytes received from clients"),
    ("bytes_written", "Bytes sent to clients"),
    ("checkpoints", "Checkpoints written"),
];

const GAUGES: [(&str, &str); 7] = [
    ("keys", "Keys"),
    ("keys_expiring", "Keys with an expiry"),
    ("memory_bytes", "Bytes of memory taken by keys and values"),
    ("memory_limit_bytes", "The limit on these, 0 for none"),
    ("connections", "Open connections"),
    ("leads", "1 where this replica leads its shard"),
    ("applied_index", "The last entry of the log that is applied"),
];

impl Figures {
    pub(crate) fn new() -> Self {
        let calls = TABLE.all().iter().map(|_| AtomicU64::new(0)).collect();
        Self { calls, ..Self::default() }
    }

    /// Puts a shard's figures down.
    pub(crate) fn take(&self, shard: &Shard) {
        let stats = &shard.stats;
        let counters = [
            stats.connections,
            stats.connections_refused,
            stats.errors,
            stats.hits,
            stats.misses,
            stats.expired,
            stats.bytes_in,
            stats.bytes_out,
            stats.checkpoints,
        ];
        let gauges = [
            shard.keyspace().len(),
            shard.keyspace().expiring(),
            shard.used_bytes(),
            shard.settings.maxmemory_bytes,
            shard.clients(),
            usize::from(shard.leads()),
            shard.applied() as usize,
        ];
        for (at, value) in self.counters.iter().zip(counters) {
            at.store(value, Ordering::Relaxed);
        }
        for (at, value) in self.gauges.iter().zip(gauges) {
            at.store(value as u64, Ordering::Relaxed);
        }
        for (at, value) in self.calls.iter().zip(&stats.calls) {
            at.store(*value, Ordering::Relaxed);
        }
    }
}

/// The figures of all shards that this node has, by number.
pub(crate) struct All(pub(crate) Vec<(usize, Arc<Figures>)>);

impl fmt::Debug for All {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("All")
    }
}

impl Collector for All {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let name = "millrace_dbshard_commands";
        let mut family = encoder.encode_descriptor(name, "Commands executed", None, MetricType::Counter)?;
        for (at, command) in TABLE.all().iter().enumerate() {
            let count = self.0.iter().map(|(_, shard)| shard.calls[at].load(Ordering::Relaxed)).sum::<u64>();
            if count > 0 {
                ConstCounter::new(count).encode(family.encode_family(&[("command", command.name)])?)?;
            }
        }
        for (at, (name, help)) in COUNTERS.iter().enumerate() {
            let name = format!("millrace_dbshard_{name}");
            let mut family = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
            for (number, shard) in &self.0 {
                let value = ConstCounter::new(shard.counters[at].load(Ordering::Relaxed));
                value.encode(family.encode_family(&[("shard", number.to_string().as_str())])?)?;
            }
        }
        for (at, (name, help)) in GAUGES.iter().enumerate() {
            let name = format!("millrace_dbshard_{name}");
            let mut family = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
            for (number, shard) in &self.0 {
                let value = shard.gauges[at].load(Ordering::Relaxed);
                let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
                value.encode(family.encode_family(&[("shard", number.to_string().as_str())])?)?;
            }
        }
        Ok(())
    }
}
