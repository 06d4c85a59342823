//! What `/metrics` shows. All figures are counted by the shards as they work and added up at the scrape.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::core::cache::Cache;
use crate::core::stats::totals;
use crate::shell::Clock;

/// The cache's figures.
pub(crate) struct Figures {
    pub(crate) cache: Arc<Cache>,
    pub(crate) clock: Clock,
}

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Figures")
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let totals = totals(&self.cache, self.clock.now());
        let commands = &totals.commands;
        let by_command = [
            ("get", commands.get),
            ("set", commands.set),
            ("touch", commands.touch),
            ("delete", commands.delete_hits + commands.delete_misses),
            ("incr", commands.incr_hits + commands.incr_misses),
            ("decr", commands.decr_hits + commands.decr_misses),
            ("cas", commands.cas_hits + commands.cas_misses + commands.cas_badval),
            ("flush_all", totals.flushes),
            ("meta", commands.meta),
        ];
        let name = "millrace_cachesrv_commands";
        let help = "Commands by kind; a meta command also counts as what it does";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (command, count) in by_command {
            ConstCounter::new(count).encode(family.encode_family(&[("command", command)])?)?;
        }
        let cache = &self.cache;
        let counters = [
            ("hits", "Keys asked for and found", commands.get_hits),
            ("misses", "Keys asked for and not found", commands.get_misses),
            ("evictions", "Live items removed for want of memory", totals.evictions),
            ("reclaimed", "Expired items removed for want of memory", totals.reclaimed),
            ("out_of_memory", "Stores refused for want of memory", commands.store_no_memory),
            ("too_large", "Stores refused for their size", commands.store_too_large),
            ("bytes_read", "Bytes received from clients", totals.traffic.0),
            ("bytes_written", "Bytes sent to clients", totals.traffic.1),
            ("connections_accepted", "Connections accepted", cache.connections_total.load(Ordering::Relaxed)),
            (
                "connections_rejected",
                "Connections over the limit",
                cache.connections_rejected.load(Ordering::Relaxed),
            ),
        ];
        for (name, help, count) in counters {
            let name = format!("millrace_cachesrv_{name}");
            let counter = ConstCounter::new(count);
            counter.encode(encoder.encode_descriptor(&name, help, None, counter.metric_type())?)?;
        }
        let gauges = [
            ("items", "Items", totals.items),
            ("item_bytes", "Bytes of all items, heads and keys included", totals.item_bytes),
            ("memory_bytes", "Bytes taken for items and index", totals.used_bytes),
            ("memory_limit_bytes", "The limit on these", cache.memory_bytes.load(Ordering::Relaxed) as u64),
            ("connections", "Open connections", cache.connections.load(Ordering::Relaxed) as u64),
        ];
        for (name, help, value) in gauges {
            let name = format!("millrace_cachesrv_{name}");
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(&name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
