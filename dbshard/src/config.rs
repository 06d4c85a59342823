//! The settings.
//!
//! ```toml
//! data = "millrace-data/dbshard"
//! listen = "127.0.0.1:7001"      # the first shard; the others take the ports behind it
//! shards = 8
//! maxmemory_bytes = 1073741824   # per shard
//!
//! # Only where several nodes share the data: the same on all of them but for `node`.
//! [cluster]
//! name = "photos"
//! node = 1                       # this one
//! replicas = 3
//! nodes = [
//!     { id = 1, host = "10.0.0.1", port = 7001, peer = "10.0.0.1:17001" },
//!     { id = 2, host = "10.0.0.2", port = 7001, peer = "10.0.0.2:17001" },
//!     { id = 3, host = "10.0.0.3", port = 7001, peer = "10.0.0.3:17001" },
//! ]
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;

use ops::Secret;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The most shards of one node.
pub const SHARDS_MAX: usize = 1024;

/// The most replicas of one shard.
pub const REPLICAS_MAX: usize = 5;

/// The most nodes of a cluster.
pub const NODES_MAX: usize = 100;

/// What `dbshard` runs with.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The data folder, for one process alone; made if it is not there.
    pub data: PathBuf,
    /// Where the first shard listens; shard `i` listens `i` ports further. Port 0 takes a free port for each. In a cluster only
    /// the address counts: the port is this node's among `nodes`.
    pub listen: SocketAddr,
    /// How many shards share the slots: more than there are cores now, for the cores and nodes to come. Fixed when the data
    /// folder is made.
    pub shards: usize,
    /// The host that clients are told (`MOVED`, `CLUSTER SLOTS`); the address of `listen` if not set. In a cluster each node has
    /// its own there.
    pub announce_host: Option<String>,
    /// The nodes that share the data; absent where there is but one.
    pub cluster: Option<Cluster>,
    /// Log streams, each with its own syncs. Fixed when the data folder is made; 0 for one per core.
    pub wal_streams: usize,
    /// The size of the log's segment files, in bytes; 64 MiB to 1 GiB, a multiple of 4096. Fixed when the data folder is made.
    pub wal_segment_bytes: u64,
    /// A checkpoint is written once the log has grown by this many bytes, or by as much as the shard's keys take if that is
    /// more.
    pub checkpoint_log_bytes: u64,
    /// Keys and values of one shard may take this much memory; writes beyond are refused with `OOM`. 0 for no limit.
    pub maxmemory_bytes: u64,
    /// What clients must give with `AUTH`; none if not set.
    pub password: Option<Secret<String>>,
    /// Connections to one shard at a time; one more is told so and closed.
    pub connections_max: usize,
    /// The longest request, in bytes; 17 MiB at least, as one value may have 16 MiB.
    pub request_bytes_max: usize,
    /// What requests that are not yet complete, or are queued by `MULTI`, may take on one core, in bytes; a connection that takes
    /// more than 64 KiB of it is closed then.
    pub requests_bytes_max: usize,
    /// The longest reply that waits to be sent, in bytes; a connection that asks for more is closed.
    pub output_bytes_max: usize,
    /// What replies of more than 1 MiB that are on their way may take on one core, in bytes; one more closes its connection.
    pub replies_bytes_max: usize,
    /// A connection that leaves half a request for so many seconds, or reads nothing of its replies, is closed.
    pub stall_timeout_s: u64,
    /// A connection that asks nothing for so many seconds is closed; 0 for never.
    pub idle_timeout_s: u64,
    /// How long running requests may take when the service stops, in milliseconds.
    pub drain_ms: u64,
}

/// The nodes that share the data. Fixed when the data folders are made.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// What the cluster is called: nodes of one with another name are refused.
    pub name: String,
    /// This node's `id` among `nodes`.
    pub node: u64,
    /// How many nodes have each shard: 1, 3 or 5. A majority of them must be there.
    #[serde(default = "three")]
    pub replicas: usize,
    /// A replica that was longer without knowing that it has everything sends `READONLY` clients to the leader, in milliseconds.
    #[serde(default = "one_second_ms")]
    pub replica_lag_ms: u64,
    /// All nodes, this one among them.
    pub nodes: Vec<ClusterNode>,
    /// What a node with an empty data folder does; such a node does not start otherwise. `found` on the very first start of
    /// the cluster's nodes; `fill` where the cluster is there already, and this node is to get everything from the others.
    #[serde(default)]
    pub empty_folder: Option<EmptyFolder>,
}

/// A node of a cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterNode {
    /// Its number, from 1.
    pub id: u64,
    /// The host that clients, and the other nodes, are told.
    pub host: String,
    /// The port of shard 0 there; shard `i` has the port `i` further, where the node has it.
    pub port: u16,
    /// Where the other nodes reach it.
    pub peer: SocketAddr,
}

/// What a node with an empty data folder does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EmptyFolder {
    /// It founds the cluster together with the others.
    Found,
    /// It is filled by the others.
    Fill,
}

fn three() -> usize {
    3
}

fn one_second_ms() -> u64 {
    1000
}

impl Cluster {
    /// This node.
    ///
    /// # Panics
    /// When it is not among the nodes: see [`Config::validate`].
    #[must_use]
    pub fn here(&self) -> &ClusterNode {
        self.nodes.iter().find(|node| node.id == self.node).expect("validated")
    }

    fn validate(&self, shards: usize) -> Result<(), Error> {
        let refuse = |text: String| Err(Error::Config(text));
        if self.name.is_empty() || self.name.len() > 64 {
            return refuse("`cluster.name` has 1 to 64 bytes".to_owned());
        }
        if !matches!(self.replicas, 1 | 3 | 5) || self.replicas > self.nodes.len() {
            return refuse(format!(
                "`cluster.replicas` is {}, of {} nodes: 1, 3 or 5, and no more than there are nodes",
                self.replicas,
                self.nodes.len()
            ));
        }
        if self.nodes.len() > NODES_MAX {
            return refuse(format!("`cluster.nodes` has {}: at most {NODES_MAX}", self.nodes.len()));
        }
        if !self.nodes.iter().any(|node| node.id == self.node) {
            return refuse(format!("`cluster.node` is {}, which is none of `cluster.nodes`", self.node));
        }
        for (at, node) in self.nodes.iter().enumerate() {
            let name = format!("node {} of `cluster.nodes`", node.id);
            if node.id == 0 || node.id > NODES_MAX as u64 {
                return refuse(format!("{name}: `id` is from 1 to {NODES_MAX}"));
            }
            if node.host.is_empty() || node.host.contains(char::is_whitespace) {
                return refuse(format!("{name}: `host` must be a host name or an address"));
            }
            if node.port == 0 || usize::from(node.port) + shards - 1 > usize::from(u16::MAX) {
                return refuse(format!(
                    "{name}: `port` is {}, with {shards} shards from there on",
                    node.port
                ));
            }
            if node.peer.port() == 0 || node.peer.ip().is_unspecified() {
                return refuse(format!("{name}: `peer` is {}: where the others reach it", node.peer));
            }
            if self.nodes[..at].iter().any(|other| other.id == node.id || other.peer == node.peer) {
                return refuse(format!("{name} is there twice"));
            }
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "millrace-data/dbshard".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 7001)),
            shards: 8,
            announce_host: None,
            cluster: None,
            wal_streams: 0,
            wal_segment_bytes: 64 << 20,
            checkpoint_log_bytes: 64 << 20,
            maxmemory_bytes: 1 << 30,
            password: None,
            connections_max: 10_000,
            request_bytes_max: 32 << 20,
            requests_bytes_max: 512 << 20,
            output_bytes_max: 64 << 20,
            replies_bytes_max: 512 << 20,
            stall_timeout_s: 60,
            idle_timeout_s: 0,
            drain_ms: 5_000,
        }
    }
}

impl Config {
    /// Refuses what can't work, naming the setting.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |text: String| Err(Error::Config(text));
        if !(1..=SHARDS_MAX).contains(&self.shards) {
            return refuse(format!("`shards` is {}: from 1 to {SHARDS_MAX}", self.shards));
        }
        if let Some(cluster) = &self.cluster {
            cluster.validate(self.shards)?;
        }
        let last = usize::from(self.listen.port()) + self.shards - 1;
        if self.listen.port() != 0 && last > usize::from(u16::MAX) {
            return refuse(format!(
                "`listen` is {}: the last of {} shards would have port {last}",
                self.listen, self.shards
            ));
        }
        if self.cluster.is_none() && self.announce_host.is_none() && self.listen.ip().is_unspecified() {
            return refuse(format!(
                "`listen` is {}: set `announce_host` to what clients are to connect to",
                self.listen
            ));
        }
        if self
            .announce_host
            .as_ref()
            .is_some_and(|host| host.is_empty() || host.contains(char::is_whitespace))
        {
            return refuse("`announce_host` must be a host name or an address".to_owned());
        }
        let segment = self.wal_segment_bytes;
        if !(64 << 20..=1 << 30).contains(&segment) || !segment.is_multiple_of(4096) {
            return refuse(format!(
                "`wal_segment_bytes` is {segment}: from 67108864 to 1073741824, a multiple of 4096"
            ));
        }
        if self.connections_max == 0 {
            return refuse("`connections_max` is 0: nobody could connect".to_owned());
        }
        if !(17 << 20..1 << 30).contains(&self.request_bytes_max) {
            return refuse(format!(
                "`request_bytes_max` is {}: from 17825792 to 1073741823",
                self.request_bytes_max
            ));
        }
        if self.requests_bytes_max < self.request_bytes_max {
            return refuse(format!(
                "`requests_bytes_max` is {}: at least `request_bytes_max`",
                self.requests_bytes_max
            ));
        }
        if self.output_bytes_max < 17 << 20 {
            return refuse(format!("`output_bytes_max` is {}: at least 17825792", self.output_bytes_max));
        }
        if self.replies_bytes_max < self.output_bytes_max {
            return refuse(format!(
                "`replies_bytes_max` is {}: at least `output_bytes_max`",
                self.replies_bytes_max
            ));
        }
        if self.stall_timeout_s == 0 {
            return refuse("`stall_timeout_s` is 0: no request could be received in pieces".to_owned());
        }
        if self.password.as_ref().is_some_and(|password| password.expose().is_empty()) {
            return refuse("`password` is empty: leave it out for none".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_work_is_named() {
        let said = |config: Config| config.validate().expect_err("refused").to_string();
        Config::default().validate().expect("the defaults work");
        assert!(said(Config { shards: 0, ..Config::default() }).contains("`shards`"));
        assert!(
            said(Config { listen: ([127, 0, 0, 1], 65535).into(), ..Config::default() })
                .contains("port 65542")
        );
        assert!(
            said(Config { listen: ([0, 0, 0, 0], 7001).into(), ..Config::default() })
                .contains("`announce_host`")
        );
        assert!(said(Config { wal_segment_bytes: 1, ..Config::default() }).contains("`wal_segment_bytes`"));
    }

    #[test]
    fn a_cluster_is_checked() {
        let text = r#"
            shards = 3
            [cluster]
            name = "test"
            node = 2
            nodes = [
                { id = 1, host = "127.0.0.1", port = 7001, peer = "127.0.0.1:17001" },
                { id = 2, host = "127.0.0.1", port = 7011, peer = "127.0.0.1:17011" },
                { id = 3, host = "127.0.0.1", port = 7021, peer = "127.0.0.1:17021" },
            ]
        "#;
        let good: Config = ops::config::parse(text, "test").expect("valid");
        good.validate().expect("works");
        let cluster = good.cluster.clone().expect("there");
        assert_eq!((cluster.replicas, cluster.here().port, cluster.empty_folder), (3, 7011, None));
        let said = |change: fn(&mut Cluster)| {
            let mut config = good.clone();
            change(config.cluster.as_mut().expect("there"));
            config.validate().expect_err("refused").to_string()
        };
        assert!(said(|cluster| cluster.node = 4).contains("`cluster.node` is 4"));
        assert!(said(|cluster| cluster.replicas = 2).contains("`cluster.replicas` is 2"));
        assert!(said(|cluster| cluster.replicas = 5).contains("of 3 nodes"));
        assert!(said(|cluster| cluster.nodes[0].id = 2).contains("twice"));
        assert!(said(|cluster| cluster.nodes[0].port = 65534).contains("with 3 shards"));
        assert!(said(|cluster| cluster.nodes[0].id = 0).contains("`id` is from 1"));
        assert!(said(|cluster| cluster.name.clear()).contains("`cluster.name`"));
    }

    #[test]
    fn unknown_keys_are_refused() {
        let parse = |text: &str| ops::config::parse::<Config>(text, "test");
        assert_eq!(parse("shards = 5\npassword = \"x\"").expect("valid").shards, 5);
        assert!(parse("shard = 5").expect_err("refused").to_string().contains("shard"));
    }
}
