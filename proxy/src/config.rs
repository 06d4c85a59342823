//! The proxy's configuration: what an operator may set, its defaults, and what is refused before anything starts.
//!
//! What always holds: a [`Config`] that [`Config::validate`] took can be served; every default is safe on a network nobody
//! trusts; times are milliseconds, sizes bytes, each said by its name.
//!
//! ```toml
//! [[listen]]
//! address = "127.0.0.1:8080"
//!
//! [[listen]]
//! address = "127.0.0.1:8443"
//! tls = { cert = "cert.pem", key = "key.pem" }
//!
//! [[route]]
//! host = "www.mysite.com"
//! path = "/"
//! upstream = "web"
//!
//! [upstream.web]
//! policy = "least_connections"
//! servers = [{ address = "127.0.0.1:9101" }, { address = "127.0.0.1:9102", weight = 2 }]
//! health = { path = "/healthz", interval_ms = 1000, timeout_ms = 500, rise = 2, fall = 3 }
//! ```

use crate::core::trust::Network;
use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Servers one upstream may have.
pub const SERVERS_MAX: usize = 128;
/// The heaviest weight a server may have.
pub const WEIGHT_MAX: u32 = 256;

/// The whole configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Cores to serve on; 0 is as many as this process may use.
    #[serde(default)]
    pub cores: usize,
    /// A field that carries an id of the request to the server, made here unless a trusted peer sent one; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id_field: Option<String>,
    /// The name under which the proxy adds itself to Via; empty adds none (RFC 9110 section 7.6.3 asks for it).
    #[serde(default = "default_via")]
    pub via: String,
    /// Where to listen; at least one.
    pub listen: Vec<Listen>,
    /// Which request goes to which upstream; the first that fits. With one upstream and no route, all go there.
    #[serde(default)]
    pub route: Vec<Route>,
    /// The groups of servers, by name; at least one.
    pub upstream: BTreeMap<String, Upstream>,
    /// Sizes that bound what a peer can make the proxy hold.
    #[serde(default)]
    pub limits: Limits,
    /// Deadlines.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// What is said to servers about the client, and whom to believe about it.
    #[serde(default)]
    pub forwarded: Forwarded,
    /// The log of requests; off by default.
    #[serde(default)]
    pub access_log: AccessLog,
}

/// No listener and no upstream yet; all else as in a file that says nothing of it.
impl Default for Config {
    fn default() -> Config {
        Config {
            cores: 0,
            request_id_field: None,
            via: default_via(),
            listen: Vec::new(),
            route: Vec::new(),
            upstream: BTreeMap::new(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            forwarded: Forwarded::default(),
            access_log: AccessLog::default(),
        }
    }
}

/// No server yet; all else as in a file that says nothing of it.
impl Default for Upstream {
    fn default() -> Upstream {
        Upstream {
            policy: Policy::default(),
            retries: default_retries(),
            idle_connections_max: default_idle_max(),
            health: Health::default(),
            servers: Vec::new(),
        }
    }
}

fn default_via() -> String {
    "millrace".into()
}

/// One address to listen on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// `IP:PORT` or `unix:/path`.
    pub address: String,
    /// Serve TLS here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// A certificate and its key, PEM files.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate chain, leaf first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// A rule that sends requests to an upstream.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The host it is for, without a port: `www.mysite.com`, or `*.mysite.com` for any name below. Any host if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The path it is for and all below it: `/photos` fits `/photos` and `/photos/1`, not `/photosets`.
    #[serde(default = "default_path")]
    pub path: String,
    /// The upstream's name.
    pub upstream: String,
}

fn default_path() -> String {
    "/".into()
}

/// How a server is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// In turn, by weight.
    #[default]
    RoundRobin,
    /// The one with the fewest requests running, by weight. Each core counts its own.
    LeastConnections,
}

/// A group of servers that answer alike.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// How a server is chosen.
    #[serde(default)]
    pub policy: Policy,
    /// Further servers tried for one request when a connection fails. A kept connection that its server just closed is
    /// replaced besides.
    #[serde(default = "default_retries")]
    pub retries: u32,
    /// The most idle connections kept per server and core.
    #[serde(default = "default_idle_max")]
    pub idle_connections_max: usize,
    /// How failure of a server is found and how it comes back.
    #[serde(default)]
    pub health: Health,
    /// The servers; at least one, at most [`SERVERS_MAX`].
    pub servers: Vec<Server>,
}

fn default_retries() -> u32 {
    3
}

fn default_idle_max() -> usize {
    256
}

/// One server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// `IP:PORT` or `unix:/path`.
    pub address: String,
    /// Its share, 1 to [`WEIGHT_MAX`].
    #[serde(default = "default_weight")]
    pub weight: u32,
}

fn default_weight() -> u32 {
    1
}

/// What a server is taken for before its first check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// It gets requests at once; one failed first check takes it out.
    #[default]
    Up,
    /// It gets none until one check has passed.
    Down,
}

/// How failure of a server is found and how it comes back.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// The path asked for by GET. Without it no checks are made, and a server that fell is tried again after `retry_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The Host it is asked with; the server's address if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Between two checks of a server; each wait is moved by up to a tenth, so that checks do not fall in step.
    pub interval_ms: u64,
    /// For a check as a whole.
    pub timeout_ms: u64,
    /// Checks in a row that must pass before a server that is down gets requests again.
    pub rise: u32,
    /// Checks and connections in a row that must fail before a server gets no more requests; an answer ends a row of
    /// connections.
    pub fall: u32,
    /// The statuses that pass; if none are named, 200 to 399.
    pub expect: Vec<u16>,
    /// What a server is taken for before its first check.
    pub start: Start,
    /// Without checks: how long a server that fell is left alone, as long as another is up.
    pub retry_ms: u64,
}

impl Default for Health {
    fn default() -> Health {
        Health {
            path: None,
            host: None,
            interval_ms: 1000,
            timeout_ms: 500,
            rise: 2,
            fall: 3,
            expect: Vec::new(),
            start: Start::Up,
            retry_ms: 5000,
        }
    }
}

/// Sizes that bound what a peer can make the proxy hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Client connections, all cores together (each core takes an equal share). Beyond it new ones wait to be accepted.
    pub connections_max: usize,
    /// The request line; beyond it 414.
    pub request_line_bytes_max: usize,
    /// The whole head; beyond it 431 (from a client) or 502 (from a server).
    pub head_bytes_max: usize,
    /// Fields in a head; beyond it 431 or 502. At most 128.
    pub fields_max: usize,
    /// A request's body; beyond it 413. 0 is no limit: bodies are never held whole.
    pub body_bytes_max: u64,
    /// An answer up to this size is sent on only when whole, so that a request can still go to another server when its
    /// server dies in the middle of it; also the body of a request that is kept for another try.
    pub hold_bytes_max: usize,
    /// Bytes queued towards one peer before reading from the other pauses.
    pub send_queue_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 65_536,
            request_line_bytes_max: 8 * 1024,
            head_bytes_max: 32 * 1024,
            fields_max: 100,
            body_bytes_max: 0,
            hold_bytes_max: 16 * 1024,
            send_queue_bytes_max: 256 * 1024,
        }
    }
}

/// Deadlines, all in milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// From a head's first byte (or the TLS handshake's) to its last; beyond it 408.
    pub client_head_ms: u64,
    /// The longest silence within a request's body; beyond it 408. Also how long a client may take none of its answer.
    pub client_body_ms: u64,
    /// Between two requests of a connection, and before the first.
    pub client_idle_ms: u64,
    /// To connect to a server; beyond it another is tried, then 504.
    pub upstream_connect_ms: u64,
    /// From the end of the request to the first byte of the answer; beyond it 504. Also how long a server may take none of
    /// a request's body.
    pub upstream_first_byte_ms: u64,
    /// The longest silence within an answer; beyond it the answer is cut off.
    pub upstream_body_ms: u64,
    /// How long an unused connection to a server is kept; less than the servers' own limit.
    pub upstream_idle_ms: u64,
    /// The longest silence on a connection that was upgraded.
    pub tunnel_idle_ms: u64,
    /// How long running requests may go on when the proxy stops.
    pub drain_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            client_head_ms: 10_000,
            client_body_ms: 30_000,
            client_idle_ms: 60_000,
            upstream_connect_ms: 2_000,
            upstream_first_byte_ms: 30_000,
            upstream_body_ms: 30_000,
            upstream_idle_ms: 15_000,
            tunnel_idle_ms: 3_600_000,
            drain_ms: 5_000,
        }
    }
}

/// The fields that tell a server about the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedFields {
    /// X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host.
    #[default]
    XForwarded,
    /// Forwarded (RFC 7239).
    Forwarded,
    /// All of them.
    Both,
    /// None of them; a client's own are still taken out unless it is trusted.
    None,
}

/// What is said to servers about the client, and whom to believe about it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Forwarded {
    /// Which fields are set.
    pub fields: ForwardedFields,
    /// Networks (`10.0.0.0/8`, `::1`) of proxies in front: what such a peer says in these fields is kept and added to.
    /// From anyone else they are taken out. Peers on a Unix socket are trusted if `unix` is among them.
    pub trust: Vec<String>,
}

/// The log of requests.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessLog {
    /// One in this many requests is logged; 0 logs none.
    pub one_in: u64,
}

impl Config {
    /// Checks what the types cannot say. The message names the key and what to do.
    pub fn validate(&self) -> Result<(), Error> {
        let fail = |key: String, problem: String| Err(Error::Config { key, problem });
        if self.listen.is_empty() {
            return fail("listen".into(), "at least one [[listen]] is needed".into());
        }
        for (index, listen) in self.listen.iter().enumerate() {
            check_address(format!("listen[{index}].address"), &listen.address)?;
        }
        if self.upstream.is_empty() {
            return fail("upstream".into(), "at least one [upstream.NAME] is needed".into());
        }
        for (name, upstream) in &self.upstream {
            upstream.validate(name)?;
        }
        if self.route.is_empty() && self.upstream.len() > 1 {
            return fail(
                "route".into(),
                "with more than one upstream, a [[route]] must say which gets what".into(),
            );
        }
        for (index, route) in self.route.iter().enumerate() {
            if !self.upstream.contains_key(&route.upstream) {
                return fail(
                    format!("route[{index}].upstream"),
                    format!("there is no [upstream.{}]", route.upstream),
                );
            }
            if !route.path.starts_with('/') {
                return fail(format!("route[{index}].path"), "must begin with `/`".into());
            }
        }
        if let Some(name) = self.request_id_field.as_deref().filter(|name| !is_token(name)) {
            return fail("request_id_field".into(), format!("`{name}` is no field name"));
        }
        if !self.via.is_empty() && !is_token(&self.via) {
            return fail("via".into(), format!("`{}` is no token", self.via));
        }
        for network in self.forwarded.trust.iter().filter(|network| *network != "unix") {
            if network.parse::<Network>().is_err() {
                return fail(
                    "forwarded.trust".into(),
                    format!("`{network}` is no network such as 10.0.0.0/8"),
                );
            }
        }
        self.limits.validate()?;
        self.timeouts.validate()
    }
}

impl Upstream {
    fn validate(&self, name: &str) -> Result<(), Error> {
        let fail = |key: &str, problem: String| {
            Err(Error::Config { key: format!("upstream.{name}.{key}"), problem })
        };
        if self.servers.is_empty() || self.servers.len() > SERVERS_MAX {
            return fail(
                "servers",
                format!("1 to {SERVERS_MAX} servers are needed, not {}", self.servers.len()),
            );
        }
        for (index, server) in self.servers.iter().enumerate() {
            check_address(format!("upstream.{name}.servers[{index}].address"), &server.address)?;
            if !(1..=WEIGHT_MAX).contains(&server.weight) {
                return fail("servers", format!("a weight is 1 to {WEIGHT_MAX}, not {}", server.weight));
            }
        }
        let health = &self.health;
        if health.rise == 0 || health.fall == 0 {
            return fail("health", "rise and fall are at least 1".into());
        }
        if health.interval_ms == 0 || health.timeout_ms == 0 || health.retry_ms == 0 {
            return fail("health", "interval_ms, timeout_ms and retry_ms are at least 1".into());
        }
        if let Some(path) = &health.path
            && (!path.starts_with('/') || path.bytes().any(|byte| !(0x21..=0x7e).contains(&byte)))
        {
            return fail("health.path", format!("`{path}` is no path such as /healthz"));
        }
        if let Some(status) = health.expect.iter().find(|status| !(200..600).contains(*status)) {
            return fail("health.expect", format!("{status} is no final status"));
        }
        Ok(())
    }
}

impl Limits {
    fn validate(&self) -> Result<(), Error> {
        let fail = |key: &str, problem: &str| {
            Err(Error::Config { key: format!("limits.{key}"), problem: problem.to_owned() })
        };
        if self.connections_max == 0 {
            return fail("connections_max", "must be at least 1");
        }
        if !(256..=1 << 20).contains(&self.head_bytes_max) {
            return fail("head_bytes_max", "must be 256 to 1048576");
        }
        if self.request_line_bytes_max < 64 || self.request_line_bytes_max >= self.head_bytes_max {
            return fail("request_line_bytes_max", "must be at least 64 and less than head_bytes_max");
        }
        if self.fields_max == 0 || self.fields_max > wire::http1::FIELDS_MAX {
            return fail("fields_max", "must be 1 to 128");
        }
        if self.hold_bytes_max > 1 << 20 {
            return fail("hold_bytes_max", "must be at most 1048576");
        }
        if self.send_queue_bytes_max < 4096 {
            return fail("send_queue_bytes_max", "must be at least 4096");
        }
        Ok(())
    }

    /// The limits of a request's head.
    pub fn request_head(&self) -> wire::http1::Limits {
        wire::http1::Limits {
            line_bytes_max: self.request_line_bytes_max,
            head_bytes_max: self.head_bytes_max,
            fields_max: self.fields_max,
        }
    }
}

impl Timeouts {
    fn validate(&self) -> Result<(), Error> {
        for (key, value) in [
            ("client_head_ms", self.client_head_ms),
            ("client_body_ms", self.client_body_ms),
            ("client_idle_ms", self.client_idle_ms),
            ("upstream_connect_ms", self.upstream_connect_ms),
            ("upstream_first_byte_ms", self.upstream_first_byte_ms),
            ("upstream_body_ms", self.upstream_body_ms),
            ("upstream_idle_ms", self.upstream_idle_ms),
            ("tunnel_idle_ms", self.tunnel_idle_ms),
        ] {
            if value == 0 {
                return Err(Error::Config {
                    key: format!("timeouts.{key}"),
                    problem: "must be at least 1".into(),
                });
            }
        }
        Ok(())
    }
}

fn check_address(key: String, text: &str) -> Result<(), Error> {
    let good = match text.strip_prefix("unix:") {
        Some(path) => !path.is_empty(),
        None => text.parse::<std::net::SocketAddr>().is_ok(),
    };
    if good {
        Ok(())
    } else {
        Err(Error::Config { key, problem: format!("`{text}` is neither IP:PORT nor unix:/path") })
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(address: &str) -> Server {
        Server { address: address.into(), weight: 1 }
    }

    fn good() -> Config {
        let servers = vec![server("127.0.0.1:9101"), server("unix:/run/web")];
        let upstream = Upstream { servers, ..Upstream::default() };
        Config {
            listen: vec![Listen { address: "127.0.0.1:0".into(), tls: None }],
            upstream: BTreeMap::from([("web".to_owned(), upstream)]),
            ..Config::default()
        }
    }

    fn fault(change: impl FnOnce(&mut Config)) -> String {
        let mut config = good();
        change(&mut config);
        config.validate().expect_err("must be refused").to_string()
    }

    #[test]
    fn what_cannot_be_served_is_refused_by_key() {
        good().validate().unwrap();
        let web = |config: &mut Config, change: &dyn Fn(&mut Upstream)| {
            change(config.upstream.get_mut("web").unwrap());
        };
        for (message, key) in [
            (fault(|config| config.listen.clear()), "listen:"),
            (
                fault(|config| config.listen[0].address = "localhost".into()),
                "listen[0].address: `localhost` is neither",
            ),
            (fault(|config| config.upstream.clear()), "upstream:"),
            (fault(|config| web(config, &|web| web.servers.clear())), "upstream.web.servers:"),
            (
                fault(|config| web(config, &|web| web.servers[1].address = "x".into())),
                "upstream.web.servers[1].address:",
            ),
            (fault(|config| web(config, &|web| web.servers[0].weight = 0)), "upstream.web.servers: a weight"),
            (fault(|config| web(config, &|web| web.health.rise = 0)), "upstream.web.health:"),
            (
                fault(|config| web(config, &|web| web.health.path = Some("x".into()))),
                "upstream.web.health.path:",
            ),
            (
                fault(|config| web(config, &|web| web.health.expect = vec![700])),
                "upstream.web.health.expect: 700",
            ),
            (
                fault(|config| drop(config.upstream.insert("b".into(), config.upstream["web"].clone()))),
                "route:",
            ),
            (
                fault(|config| {
                    config.route.push(Route { host: None, path: "/".into(), upstream: "x".into() });
                }),
                "route[0].upstream: there is no [upstream.x]",
            ),
            (fault(|config| config.via = "a b".into()), "via:"),
            (fault(|config| config.request_id_field = Some("a:b".into())), "request_id_field:"),
            (
                fault(|config| config.forwarded.trust.push("10.0.0.0/99".into())),
                "forwarded.trust: `10.0.0.0/99`",
            ),
            (fault(|config| config.limits.fields_max = 1000), "limits.fields_max:"),
            (
                fault(|config| config.limits.request_line_bytes_max = 1 << 16),
                "limits.request_line_bytes_max:",
            ),
            (fault(|config| config.timeouts.client_head_ms = 0), "timeouts.client_head_ms:"),
        ] {
            assert!(message.starts_with("configuration: ") && message.contains(key), "{message}");
        }
    }
}
