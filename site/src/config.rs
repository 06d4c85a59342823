//! The settings of both halves. Defaults are the ports of docs/ARCHITECTURE.md on loopback.
//!
//! ```
//! let config: site::WebConfig = toml::from_str(r#"
//!     listen = "127.0.0.1:9102"
//!     name = "web2"
//!     [stores]
//!     dbshard = ["127.0.0.1:7001"]
//! "#).unwrap();
//! assert_eq!(config.stores.cachesrv, "127.0.0.1:11211");
//! config.validate().unwrap();
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Error;

/// Where the site keeps what it keeps. Addresses are `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoresConfig {
    /// Nodes of the database cluster to begin with; the others are learnt from them.
    pub dbshard: Vec<String>,
    /// The cache.
    pub cachesrv: String,
    /// Brokers to begin with, separated by commas.
    pub broker: String,
    /// Partitions of the topic `photo-jobs` when this site creates it: the most workers that can share the jobs.
    pub photo_partitions: u16,
}

impl Default for StoresConfig {
    fn default() -> Self {
        Self {
            dbshard: ["127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003"].map(String::from).to_vec(),
            cachesrv: "127.0.0.1:11211".into(),
            broker: "127.0.0.1:9092".into(),
            photo_partitions: 8,
        }
    }
}

/// A web server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebConfig {
    /// Where to listen. Web servers stand behind the proxy and trust its `X-Forwarded-Proto`: keep them private.
    pub listen: SocketAddr,
    /// The name that `x-served-by` carries.
    pub name: String,
    /// Threads that serve, 1 to 256; 0 for as many as there are cores.
    pub threads: usize,
    /// Connections open at once; more wait in the kernel's queue.
    pub connections_max: usize,
    /// A connection that sends no whole request head for this long is closed, in seconds: an idle one too.
    pub idle_timeout_s: u64,
    /// How long running requests may take to end after a stop, in seconds.
    pub drain_s: u64,
    /// How long a cached user may be served, in seconds: the bound of staleness when a delete on write is lost.
    pub cache_ttl_s: u32,
    /// How long a session lasts, in seconds.
    pub session_ttl_s: u32,
    /// Whether a fresh site gets its hundred users.
    pub seed: bool,
    /// Where things are kept.
    pub stores: StoresConfig,
}

impl Default for WebConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9101)),
            name: "web1".into(),
            threads: 0,
            connections_max: 4096,
            idle_timeout_s: 60,
            drain_s: 5,
            cache_ttl_s: 60,
            session_ttl_s: 24 * 3600,
            seed: true,
            stores: StoresConfig::default(),
        }
    }
}

/// A photo worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerConfig {
    /// The name in logs and in the consumer group.
    pub name: String,
    /// Jobs worked on at once, 1 to 64; each is a member of the group of its own and takes about
    /// [`crate::worker::JOB_MEMORY_BYTES`] at most.
    pub jobs_at_once: usize,
    /// After this long without a heartbeat the group gives a worker's jobs to others, in milliseconds.
    pub session_timeout_ms: u32,
    /// How long the job in hand may take to end after a stop, in seconds.
    pub drain_s: u64,
    /// Where things are kept.
    pub stores: StoresConfig,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            name: "worker1".into(),
            jobs_at_once: 1,
            session_timeout_ms: 6000,
            drain_s: 20,
            stores: StoresConfig::default(),
        }
    }
}

impl WebConfig {
    /// Refuses what parses but can't work, naming the setting.
    pub fn validate(&self) -> Result<(), Error> {
        check(is_token(&self.name), "name must be 1 to 64 letters, digits, dots, dashes or underscores")?;
        check(self.threads <= 256, "threads must be at most 256")?;
        check(self.connections_max > 0, "connections_max must be at least 1")?;
        check(self.idle_timeout_s > 0, "idle_timeout_s must be at least 1")?;
        check((1..=2_592_000).contains(&self.cache_ttl_s), "cache_ttl_s must be 1 to 2592000 (30 days)")?;
        check(self.session_ttl_s > 0, "session_ttl_s must be at least 1")?;
        self.stores.validate()
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.idle_timeout_s)
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_s)
    }
}

impl WorkerConfig {
    /// Refuses what parses but can't work, naming the setting.
    pub fn validate(&self) -> Result<(), Error> {
        check(is_token(&self.name), "name must be 1 to 64 letters, digits, dots, dashes or underscores")?;
        check((1..=64).contains(&self.jobs_at_once), "jobs_at_once must be 1 to 64")?;
        check(
            (1000..=300_000).contains(&self.session_timeout_ms),
            "session_timeout_ms must be 1000 to 300000",
        )?;
        self.stores.validate()
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_s)
    }
}

impl StoresConfig {
    fn validate(&self) -> Result<(), Error> {
        check(!self.dbshard.is_empty(), "stores.dbshard needs at least one host:port")?;
        for address in self.dbshard.iter().chain([&self.cachesrv]).chain(self.broker_list().iter()) {
            check(is_host_port(address), &format!("stores: `{address}` is not host:port"))?;
        }
        check((1..=1024).contains(&self.photo_partitions), "stores.photo_partitions must be 1 to 1024")
    }

    fn broker_list(&self) -> Vec<String> {
        self.broker.split(',').map(|address| address.trim().to_string()).collect()
    }
}

fn check(holds: bool, otherwise: &str) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::Config(otherwise.to_string())) }
}

fn is_token(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

fn is_host_port(address: &str) -> bool {
    address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        WebConfig::default().validate().unwrap();
        WorkerConfig::default().validate().unwrap();
    }

    #[test]
    fn a_bad_address_is_named() {
        let mut config = WorkerConfig::default();
        config.stores.broker = "127.0.0.1:9092, nowhere".into();
        assert!(config.validate().unwrap_err().to_string().contains("`nowhere` is not host:port"));
    }

    #[test]
    fn a_header_can_not_be_smuggled_through_the_name() {
        let config = WebConfig { name: "web1\r\nx: y".into(), ..WebConfig::default() };
        assert!(config.validate().is_err());
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(toml::from_str::<WebConfig>("lisen = \"127.0.0.1:1\"").is_err());
    }
}
