//! What an operator can see of geodns.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use wire::dns::code::rcode;

use crate::core::{Outcome, Transport};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TransportLabel {
    transport: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RcodeLabel {
    rcode: &'static str,
}

/// The codes that we answer with.
const RCODES: [(u16, &str); 6] = [
    (rcode::NOERROR, "NOERROR"),
    (rcode::FORMERR, "FORMERR"),
    (rcode::NXDOMAIN, "NXDOMAIN"),
    (rcode::NOTIMP, "NOTIMP"),
    (rcode::REFUSED, "REFUSED"),
    (rcode::BADVERS, "BADVERS"),
];

/// The metrics of all cores; clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    udp_queries: Counter,
    tcp_queries: Counter,
    /// In the order of [`RCODES`].
    responses: [Counter; RCODES.len()],
    ignored: Counter,
    truncated: Counter,
    pub(crate) tcp_connections: Gauge,
    pub(crate) tcp_connections_refused: Counter,
    pub(crate) reloads_failed: Counter,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Metrics {
        let queries = Family::<TransportLabel, Counter>::default();
        let responses = Family::<RcodeLabel, Counter>::default();
        let of = |transport| queries.get_or_create(&TransportLabel { transport }).clone();
        let metrics = Metrics {
            udp_queries: of("udp"),
            tcp_queries: of("tcp"),
            responses: RCODES.map(|(_, rcode)| responses.get_or_create(&RcodeLabel { rcode }).clone()),
            ignored: Counter::default(),
            truncated: Counter::default(),
            tcp_connections: Gauge::default(),
            tcp_connections_refused: Counter::default(),
            reloads_failed: Counter::default(),
        };
        registry.register("millrace_geodns_queries", "Messages received", queries);
        registry.register("millrace_geodns_responses", "Messages answered, by response code", responses);
        let ignored = "Messages not answered: too short for a header, or responses";
        registry.register("millrace_geodns_ignored", ignored, metrics.ignored.clone());
        let truncated = "Responses that said TC, to be asked for again over TCP";
        registry.register("millrace_geodns_truncated", truncated, metrics.truncated.clone());
        let open = "TCP connections open";
        registry.register("millrace_geodns_tcp_connections", open, metrics.tcp_connections.clone());
        let refused = "TCP connections closed at once because limits.tcp_connections_max were open";
        registry.register(
            "millrace_geodns_tcp_connections_refused",
            refused,
            metrics.tcp_connections_refused.clone(),
        );
        let failed = "Reloads refused, the zones of before served on";
        registry.register("millrace_geodns_reloads_failed", failed, metrics.reloads_failed.clone());
        metrics
    }

    /// Adds what a core counted, and begins its count anew.
    pub(crate) fn add(&self, tally: &mut Tally, transport: Transport) {
        let queries = if transport == Transport::Udp { &self.udp_queries } else { &self.tcp_queries };
        queries.inc_by(tally.queries);
        for (counter, count) in self.responses.iter().zip(tally.responses) {
            if count > 0 {
                counter.inc_by(count);
            }
        }
        if tally.ignored > 0 {
            self.ignored.inc_by(tally.ignored);
        }
        if tally.truncated > 0 {
            self.truncated.inc_by(tally.truncated);
        }
        *tally = Tally::default();
    }
}

/// One core's count between two additions to the shared one, so that cores meet once per batch rather than per query.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    queries: u64,
    responses: [u64; RCODES.len()],
    ignored: u64,
    truncated: u64,
}

impl Tally {
    pub(crate) fn count(&mut self, outcome: Outcome) {
        self.queries += 1;
        self.truncated += u64::from(outcome.truncated);
        let place = outcome.rcode.and_then(|code| RCODES.iter().position(|(have, _)| *have == code));
        match place {
            Some(place) => self.responses[place] += 1,
            None => self.ignored += 1,
        }
    }
}
