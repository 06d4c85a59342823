//! What an operator sees of the broker.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use wire::kafka::messages::ApiKey;

use crate::core::api::api_versions::SERVED;

/// Which API.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Api {
    /// Its name.
    pub(crate) api: String,
}

/// Counters shared by all cores.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    requests: Family<Api, Counter>,
    /// Of `requests`, each API's by its number: found without the family's lock.
    requests_of: Arc<[Option<Counter>]>,
    pub(crate) malformed: Counter,
    pub(crate) jobs_own_core: Counter,
    pub(crate) jobs_other_core: Counter,
    pub(crate) connections: Gauge<i64, AtomicI64>,
    pub(crate) refused_connections: Counter,
    pub(crate) produced_records: Counter,
    pub(crate) produced_bytes: Counter,
    pub(crate) refused_batches: Counter,
    pub(crate) fetched_bytes: Counter,
    pub(crate) file_reads: Counter,
    pub(crate) unwritten_bytes: Gauge<i64, AtomicI64>,
    pub(crate) partitions: Gauge<i64, AtomicI64>,
    pub(crate) segments_deleted: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let requests = Family::<Api, Counter>::default();
        let mut requests_of = Vec::new();
        for served in SERVED {
            let number = served.key as usize;
            requests_of.resize(requests_of.len().max(number + 1), None);
            let api = format!("{:?}", served.key);
            requests_of[number] = Some(requests.get_or_create(&Api { api }).clone());
        }
        Self {
            requests,
            requests_of: requests_of.into(),
            malformed: Counter::default(),
            jobs_own_core: Counter::default(),
            jobs_other_core: Counter::default(),
            connections: Gauge::default(),
            refused_connections: Counter::default(),
            produced_records: Counter::default(),
            produced_bytes: Counter::default(),
            refused_batches: Counter::default(),
            fetched_bytes: Counter::default(),
            file_reads: Counter::default(),
            unwritten_bytes: Gauge::default(),
            partitions: Gauge::default(),
            segments_deleted: Counter::default(),
        }
    }
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("millrace_broker");
        r.register("requests", "Requests, by API", self.requests.clone());
        r.register("malformed_requests", "Requests that ended their connection", self.malformed.clone());
        r.register(
            "jobs_own_core",
            "Pieces of requests worked on by the core of their connection",
            self.jobs_own_core.clone(),
        );
        r.register(
            "jobs_other_core",
            "Pieces of requests sent to another core, which has their shard",
            self.jobs_other_core.clone(),
        );
        r.register("connections", "Open connections", self.connections.clone());
        r.register(
            "refused_connections",
            "Connections above connections_max",
            self.refused_connections.clone(),
        );
        r.register("produced_records", "Records made durable", self.produced_records.clone());
        r.register("produced_bytes", "Bytes of record batches made durable", self.produced_bytes.clone());
        r.register("refused_batches", "Record batches refused", self.refused_batches.clone());
        r.register("fetched_bytes", "Bytes of record batches answered", self.fetched_bytes.clone());
        r.register("file_reads", "Reads of segment files", self.file_reads.clone());
        r.register(
            "unwritten_bytes",
            "Bytes durable but not yet in segment files",
            self.unwritten_bytes.clone(),
        );
        r.register("partitions", "Partitions", self.partitions.clone());
        r.register("segments_deleted", "Segments deleted by retention", self.segments_deleted.clone());
    }

    /// One more request of this API.
    pub(crate) fn request(&self, api: ApiKey) {
        if let Some(Some(counter)) = self.requests_of.get(api as usize) {
            counter.inc();
        }
    }
}
