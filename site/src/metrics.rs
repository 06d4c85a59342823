//! What both halves count. Names follow the OpenMetrics rules; `_total` and units are added or spelt as they ask.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Requests by method and status: both sets are small, whatever a client sends.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    pub(crate) method: &'static str,
    pub(crate) status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct ResultLabel {
    pub(crate) result: &'static str,
}

/// Of a web server.
#[derive(Clone, Debug)]
pub(crate) struct WebMetrics {
    pub(crate) requests: Family<RequestLabels, Counter>,
    pub(crate) request_seconds: Histogram,
    pub(crate) cache_lookups: Family<ResultLabel, Counter>,
}

impl WebMetrics {
    pub(crate) fn new() -> Self {
        Self {
            requests: Family::default(),
            request_seconds: Histogram::new(exponential_buckets(0.000_5, 2.0, 16)),
            cache_lookups: Family::default(),
        }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("millrace_site_requests", "Requests answered", self.requests.clone());
        registry.register(
            "millrace_site_request_seconds",
            "Time from a request's head to its answer's head",
            self.request_seconds.clone(),
        );
        registry.register(
            "millrace_site_cache_lookups",
            "Users looked up in the cache: hit, miss or bypass",
            self.cache_lookups.clone(),
        );
    }
}

/// Of a worker.
#[derive(Clone, Debug)]
pub(crate) struct WorkerMetrics {
    pub(crate) jobs: Family<ResultLabel, Counter>,
    pub(crate) job_seconds: Histogram,
}

impl WorkerMetrics {
    pub(crate) fn new() -> Self {
        Self { jobs: Family::default(), job_seconds: Histogram::new(exponential_buckets(0.005, 2.0, 15)) }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "millrace_site_photo_jobs",
            "Photo jobs ended: done, failed, or skipped as done before or deleted",
            self.jobs.clone(),
        );
        registry.register(
            "millrace_site_photo_job_seconds",
            "Time from taking a photo job to its stored end",
            self.job_seconds.clone(),
        );
    }
}
