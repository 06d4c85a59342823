//! The configuration as the cores use it: parsed, indexed, shared by all and never changed.

use crate::config::{Config, ForwardedFields, Policy, Start};
use crate::core::balance::{self, LeastConnections, RoundRobin};
use crate::core::forward;
use crate::core::health::Thresholds;
use crate::core::route::{Routes, Rule};
use crate::core::trust::Network;
use crate::error::Error;
use runtime::net::Address;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// A server; its index counts through all upstreams.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: Address,
    /// The address as configured: for logs, metrics and the Host of checks.
    pub(super) name: String,
    pub(super) upstream: usize,
    pub(super) weight: u32,
}

/// A group of servers.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) name: String,
    /// Its servers' indices.
    pub(super) servers: Range<usize>,
    pub(super) policy: Policy,
    pub(super) retries: u32,
    pub(super) idle_max: usize,
    pub(super) thresholds: Thresholds,
    pub(super) starts_up: bool,
    pub(super) check: Option<Check>,
}

/// A check of a server's health.
#[derive(Clone, Debug)]
pub(super) struct Check {
    pub(super) path: String,
    pub(super) host: Option<String>,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) expect: Vec<u16>,
}

#[derive(Debug)]
pub(super) struct Timeouts {
    pub(super) client_head: Duration,
    pub(super) client_body: Duration,
    pub(super) client_idle: Duration,
    pub(super) upstream_connect: Duration,
    pub(super) upstream_first_byte: Duration,
    pub(super) upstream_body: Duration,
    pub(super) upstream_idle: Duration,
    pub(super) tunnel_idle: Duration,
    pub(super) drain: Duration,
}

#[derive(Debug)]
pub(super) struct Setup {
    pub(super) upstreams: Vec<Upstream>,
    pub(super) servers: Vec<Server>,
    /// Which servers are up; written by the first core, read by all.
    pub(super) up: Arc<[AtomicBool]>,
    /// Servers whose last connection failed: an answer from one is news to the first core.
    pub(super) failing: Box<[AtomicBool]>,
    pub(super) routes: Routes,
    pub(super) forward: forward::Policy,
    trust: Vec<Network>,
    trust_unix: bool,
    pub(super) request_head: wire::http1::Limits,
    pub(super) answer_head: wire::http1::Limits,
    pub(super) body_bytes_max: u64,
    pub(super) hold_bytes_max: usize,
    pub(super) send_queue_bytes_max: usize,
    /// Client connections per core.
    pub(super) connections_max: usize,
    pub(super) timeouts: Timeouts,
    pub(super) log_one_in: u64,
}

impl Setup {
    /// Of a configuration for this many cores; validates it.
    pub(super) fn new(config: &Config, cores: usize) -> Result<Setup, Error> {
        config.validate()?;
        let mut servers = Vec::new();
        let mut upstreams = Vec::new();
        for (name, upstream) in &config.upstream {
            let first = servers.len();
            for server in &upstream.servers {
                let Ok(address) = server.address.parse() else {
                    let key = format!("upstream.{name}.servers");
                    return Err(Error::Config {
                        key,
                        problem: format!("`{}` is no address", server.address),
                    });
                };
                let index = upstreams.len();
                servers.push(Server {
                    address,
                    name: server.address.clone(),
                    upstream: index,
                    weight: server.weight,
                });
            }
            let health = &upstream.health;
            let check = health.path.clone().map(|path| Check {
                path,
                host: health.host.clone(),
                interval: Duration::from_millis(health.interval_ms),
                timeout: Duration::from_millis(health.timeout_ms),
                expect: health.expect.clone(),
            });
            let retry = check.is_none().then_some(Duration::from_millis(health.retry_ms));
            upstreams.push(Upstream {
                name: name.clone(),
                servers: first..servers.len(),
                policy: upstream.policy,
                retries: upstream.retries,
                idle_max: upstream.idle_connections_max,
                thresholds: Thresholds { rise: health.rise, fall: health.fall, retry },
                // Without checks nothing would ever bring it up.
                starts_up: health.start == Start::Up || check.is_none(),
                check,
            });
        }
        let up = servers.iter().map(|server| AtomicBool::new(upstreams[server.upstream].starts_up)).collect();
        let failing = servers.iter().map(|_| AtomicBool::new(false)).collect();
        let trust = &config.forwarded.trust;
        let fields = config.forwarded.fields;
        let limits = &config.limits;
        let timeouts = &config.timeouts;
        let request_head = limits.request_head();
        Ok(Setup {
            routes: routes(config, &upstreams),
            upstreams,
            servers,
            up,
            failing,
            forward: forward::Policy {
                x_forwarded: matches!(fields, ForwardedFields::XForwarded | ForwardedFields::Both),
                forwarded: matches!(fields, ForwardedFields::Forwarded | ForwardedFields::Both),
                via: config.via.clone(),
                request_id_field: config.request_id_field.clone(),
            },
            trust: trust.iter().filter_map(|network| network.parse().ok()).collect(),
            trust_unix: trust.iter().any(|network| network == "unix"),
            // A status line is short; its limit is the head's.
            answer_head: wire::http1::Limits {
                line_bytes_max: request_head.head_bytes_max - 1,
                ..request_head
            },
            request_head,
            body_bytes_max: if limits.body_bytes_max == 0 { u64::MAX } else { limits.body_bytes_max },
            hold_bytes_max: limits.hold_bytes_max,
            send_queue_bytes_max: limits.send_queue_bytes_max,
            connections_max: limits.connections_max.div_ceil(cores),
            timeouts: Timeouts {
                client_head: Duration::from_millis(timeouts.client_head_ms),
                client_body: Duration::from_millis(timeouts.client_body_ms),
                client_idle: Duration::from_millis(timeouts.client_idle_ms),
                upstream_connect: Duration::from_millis(timeouts.upstream_connect_ms),
                upstream_first_byte: Duration::from_millis(timeouts.upstream_first_byte_ms),
                upstream_body: Duration::from_millis(timeouts.upstream_body_ms),
                upstream_idle: Duration::from_millis(timeouts.upstream_idle_ms),
                tunnel_idle: Duration::from_millis(timeouts.tunnel_idle_ms),
                drain: Duration::from_millis(timeouts.drain_ms),
            },
            log_one_in: config.access_log.one_in,
        })
    }

    /// What is known of a client at `peer`.
    pub(super) fn client(&self, peer: &Address, secure: bool) -> forward::Client {
        let (address, trusted) = match peer {
            Address::Ip(address) => {
                let ip = address.ip().to_canonical();
                (ip.to_string(), self.trust.iter().any(|network| network.contains(ip)))
            }
            Address::Unix(_) => (String::new(), self.trust_unix),
        };
        forward::Client { address, secure, trusted }
    }
}

impl Upstream {
    /// Its policy, fresh: each core has its own.
    pub(super) fn balancer(&self) -> Box<dyn balance::Policy> {
        match self.policy {
            Policy::RoundRobin => Box::new(RoundRobin::default()),
            Policy::LeastConnections => Box::new(LeastConnections::default()),
        }
    }
}

fn routes(config: &Config, upstreams: &[Upstream]) -> Routes {
    if config.route.is_empty() {
        return Routes(vec![Rule { host: None, path: "/".into(), upstream: 0 }]);
    }
    let index = |name: &str| upstreams.iter().position(|upstream| upstream.name == name);
    let rule = |route: &crate::config::Route| {
        Some(Rule { host: route.host.clone(), path: route.path.clone(), upstream: index(&route.upstream)? })
    };
    Routes(config.route.iter().filter_map(rule).collect())
}
