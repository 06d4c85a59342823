//! The broker's settings.
//!
//! ```toml
//! data = "millrace-data/broker"
//! listen = "127.0.0.1:9092"
//! advertised = "broker.internal:9092"   # what clients are told; default: the listen address
//! partitions_default = 1
//! auto_create_topics = true
//! retention_ms = 604800000
//! message_bytes_max = 1048588
//! ```
//!
//! A `[cluster]` makes it one of several: see [`Cluster`].

use std::path::PathBuf;

use runtime::net::Address;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::cluster_config::Cluster;
use crate::core::api::create_topics::Bounds;
use crate::core::group;
use crate::core::topic_config::{Defaults, SEGMENT_BYTES_MIN};

/// The most that `message_bytes_max` may be: an entry of the write-ahead log holds it.
pub const MESSAGE_BYTES_LIMIT: usize = 16 * 1024 * 1024;

/// Replicas of a partition, when nobody says, where there are so many nodes.
const REPLICAS_DEFAULT: usize = 3;

/// See the module; every field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of all data; made if missing, used by one broker at a time.
    pub data: PathBuf,
    /// Address to listen on. Port 0 takes a free one.
    pub listen: String,
    /// `host:port` that clients are told to connect to; the listen address when absent.
    pub advertised: Option<String>,
    /// This broker's number, from 1 on; it stays with the data folder. In a cluster it is `cluster.node`.
    pub node_id: i32,
    /// The cluster that it belongs to; alone when absent.
    pub cluster: Option<Cluster>,
    /// Replicas of each partition of a topic whose creator doesn't say; three, or as many as there are nodes, when absent.
    pub replication_factor: Option<usize>,
    /// Cores to run on; as many as the process may use when absent.
    pub cores: Option<usize>,
    /// Partitions of a topic whose creator doesn't say.
    pub partitions_default: u32,
    /// Partitions in all.
    pub partitions_max: usize,
    /// Whether a topic that a client names comes to be.
    pub auto_create_topics: bool,
    /// Largest record batch, bytes (`max.message.bytes` of topics that don't say); at most 16 MiB.
    pub message_bytes_max: usize,
    /// Largest request, bytes.
    pub request_bytes_max: usize,
    /// Most bytes answered to one Fetch, save for a single larger batch.
    pub fetch_bytes_max: usize,
    /// Connections at a time; more are closed at once.
    pub connections_max: usize,
    /// Bytes of unfinished and unanswered requests, and of records on their way to clients, in all; at that, connections wait to be
    /// read, and fetches are answered without records.
    pub buffered_bytes_max: usize,
    /// A request that has begun to arrive must go on arriving within this time, ms.
    pub stall_ms: u64,
    /// A connection that asks nothing for this long is closed, ms.
    pub idle_ms: u64,
    /// `retention.ms` of topics that don't say; −1 for never.
    pub retention_ms: i64,
    /// `retention.bytes` of topics that don't say, per partition; −1 for no limit.
    pub retention_bytes: i64,
    /// `segment.bytes` of topics that don't say.
    pub segment_bytes: u64,
    /// `segment.ms` of topics that don't say.
    pub segment_ms: i64,
    /// The size of the write-ahead log's segment files, bytes; a multiple of 4096 up to 1 GiB, and twice `message_bytes_max` at
    /// least. Fixed when the data folder is made.
    pub wal_segment_bytes: u64,
    /// How often retention is looked at, ms.
    pub retention_check_ms: u64,
    /// How often written segments are synced and the write-ahead log is freed, ms.
    pub sync_ms: u64,
    /// Memory for the newest batches, bytes in all.
    pub tail_bytes: usize,
    /// Smallest session timeout of a group's member, ms.
    pub group_session_ms_min: u32,
    /// Largest session timeout of a group's member, ms.
    pub group_session_ms_max: u32,
    /// How long the first rebalance of a group waits for more members, ms.
    pub group_initial_delay_ms: u32,
    /// Members of one group.
    pub group_members_max: usize,
    /// Groups with members, per coordinator.
    pub groups_max: usize,
    /// What groups' members take with their metadata and assignments, bytes, per coordinator; more can't join at that.
    pub groups_bytes_max: usize,
    /// What committed offsets take, bytes, per coordinator; at that only those that are known already can be committed anew.
    pub offsets_bytes_max: usize,
    /// How long running requests may take to end when the broker stops, ms.
    pub drain_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "millrace-data/broker".into(),
            listen: "127.0.0.1:9092".into(),
            advertised: None,
            node_id: 1,
            cluster: None,
            replication_factor: None,
            cores: None,
            partitions_default: 1,
            partitions_max: 10_000,
            auto_create_topics: true,
            message_bytes_max: 1_048_588,
            request_bytes_max: 64 * 1024 * 1024,
            fetch_bytes_max: 64 * 1024 * 1024,
            connections_max: 10_000,
            buffered_bytes_max: 256 * 1024 * 1024,
            stall_ms: 30_000,
            idle_ms: 600_000,
            retention_ms: 7 * 24 * 3_600_000,
            retention_bytes: -1,
            segment_bytes: 256 * 1024 * 1024,
            segment_ms: 7 * 24 * 3_600_000,
            wal_segment_bytes: 64 * 1024 * 1024,
            retention_check_ms: 30_000,
            sync_ms: 1000,
            tail_bytes: 128 * 1024 * 1024,
            group_session_ms_min: 1000,
            group_session_ms_max: 1_800_000,
            group_initial_delay_ms: 200,
            group_members_max: 1000,
            groups_max: 10_000,
            groups_bytes_max: 64 * 1024 * 1024,
            offsets_bytes_max: 64 * 1024 * 1024,
            drain_ms: 5000,
        }
    }
}

impl Config {
    /// The address to listen on, once everything else makes sense too.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<Address, Error> {
        let fail = |text: String| Err(Error::Config(text));
        if !(1024..=MESSAGE_BYTES_LIMIT).contains(&self.message_bytes_max) {
            return fail(format!("message_bytes_max must be from 1024 to {MESSAGE_BYTES_LIMIT}"));
        }
        if self.request_bytes_max < self.message_bytes_max + 1024
            || self.request_bytes_max > i32::MAX as usize
        {
            return fail(
                "request_bytes_max must exceed message_bytes_max by 1024 at least, and be below 2 GiB".into(),
            );
        }
        if self.buffered_bytes_max < self.request_bytes_max {
            return fail("buffered_bytes_max must be at least request_bytes_max".into());
        }
        if !(SEGMENT_BYTES_MIN..=i32::MAX as u64).contains(&self.segment_bytes) {
            return fail(format!("segment_bytes must be from {SEGMENT_BYTES_MIN} to {}", i32::MAX));
        }
        let wal_min = 2 * self.message_bytes_max as u64 + 1024 * 1024;
        if !(wal_min..=1 << 30).contains(&self.wal_segment_bytes)
            || !self.wal_segment_bytes.is_multiple_of(4096)
        {
            return fail(format!(
                "wal_segment_bytes must be from {wal_min} to {}, a multiple of 4096",
                1 << 30
            ));
        }
        if self.fetch_bytes_max > 1 << 30 {
            return fail(format!("fetch_bytes_max must be at most {}", 1 << 30));
        }
        if self.retention_ms < -1 || self.retention_bytes < -1 || self.segment_ms < 1 {
            return fail("retention_ms and retention_bytes must be -1 or more, segment_ms positive".into());
        }
        if self.node_id < 1 || self.partitions_default == 0 || self.cores == Some(0) {
            return fail("node_id, partitions_default and cores must be 1 or more".into());
        }
        if self.sync_ms == 0 || self.retention_check_ms == 0 || self.stall_ms == 0 {
            return fail("sync_ms, retention_check_ms and stall_ms must be 1 or more".into());
        }
        if let Some(cluster) = &self.cluster {
            cluster.validate()?;
            if self.node_id != 1 && self.node_id != cluster.node {
                return fail("node_id and cluster.node differ: leave node_id out".into());
            }
            if self.advertised.is_some() {
                return fail("advertised: in a cluster, clients are told what cluster.nodes says".into());
            }
        }
        if !(1..=self.nodes()).contains(&self.replication_factor()) {
            return fail(format!(
                "replication_factor must be from 1 to {}, as there are nodes",
                self.nodes()
            ));
        }
        if let Some(advertised) = &self.advertised {
            split_host(advertised)
                .ok_or_else(|| Error::Config(format!("advertised = {advertised:?}: expected host:port")))?;
        }
        self.listen.parse().map_err(|e| Error::Config(format!("listen = {:?}: {e}", self.listen)))
    }

    fn nodes(&self) -> usize {
        self.cluster.as_ref().map_or(1, |cluster| cluster.nodes.len())
    }

    /// This node's number.
    pub(crate) fn node(&self) -> i32 {
        self.cluster.as_ref().map_or(self.node_id, |cluster| cluster.node)
    }

    /// Replicas of each partition of a topic whose creator doesn't say.
    pub(crate) fn replication_factor(&self) -> usize {
        self.replication_factor.unwrap_or(self.nodes().min(REPLICAS_DEFAULT))
    }

    /// What clients are told to connect to, given where the broker listens.
    pub(crate) fn advertised(&self, listening: &Address) -> Result<(String, u16), Error> {
        if let Some(cluster) = &self.cluster {
            let own = cluster.nodes.iter().find(|node| node.id == cluster.node);
            return own
                .map(|node| (node.host.clone(), node.port))
                .ok_or_else(|| Error::Config("cluster.node is not among cluster.nodes".into()));
        }
        if let Some((host, port)) = self.advertised.as_deref().and_then(split_host) {
            return Ok((host, port));
        }
        match listening.ip() {
            Some(address) if address.ip().is_unspecified() => Err(Error::Config(format!(
                "listen = {address} is every address of this host: set advertised to the one that clients reach"
            ))),
            Some(address) => Ok((address.ip().to_string(), address.port())),
            None => Err(Error::Config(
                "Kafka clients connect by TCP only: set listen to an address and port".into(),
            )),
        }
    }

    pub(crate) fn defaults(&self) -> Defaults {
        Defaults {
            retention_ms: self.retention_ms,
            retention_bytes: self.retention_bytes,
            segment_bytes: self.segment_bytes,
            segment_ms: self.segment_ms,
            message_bytes_max: self.message_bytes_max,
            message_bytes_limit: MESSAGE_BYTES_LIMIT
                .min(self.request_bytes_max - 1024)
                .min(usize::try_from(self.wal_segment_bytes / 2).unwrap_or(usize::MAX) - 512 * 1024),
        }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            partitions_default: self.partitions_default,
            partitions_max: self.partitions_max,
            replicas_default: self.replication_factor(),
        }
    }

    pub(crate) fn group_limits(&self) -> group::Limits {
        group::Limits {
            session_ms_min: self.group_session_ms_min,
            session_ms_max: self.group_session_ms_max,
            initial_delay_ms: self.group_initial_delay_ms,
            members_max: self.group_members_max,
            groups_max: self.groups_max,
            bytes_max: self.groups_bytes_max,
        }
    }
}

fn split_host(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() { None } else { Some((host.to_owned(), port.parse().ok()?)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold_and_nonsense_is_named() {
        assert!(Config::default().validate().is_ok());
        let broken = [
            ("message_bytes_max", Config { message_bytes_max: 1 << 30, ..Config::default() }),
            ("request_bytes_max", Config { request_bytes_max: 100, ..Config::default() }),
            ("segment_bytes", Config { segment_bytes: 1, ..Config::default() }),
            ("advertised", Config { advertised: Some("nowhere".into()), ..Config::default() }),
            ("listen", Config { listen: "here".into(), ..Config::default() }),
        ];
        for (field, config) in broken {
            let text = config.validate().unwrap_err().to_string();
            assert!(text.contains(field), "{text}");
        }
    }

    #[test]
    fn clients_are_told_a_reachable_address() {
        let everywhere = "0.0.0.0:9092".parse().unwrap();
        assert!(Config::default().advertised(&everywhere).is_err());
        let named = Config { advertised: Some("[::1]:1234".into()), ..Config::default() };
        assert_eq!(named.advertised(&everywhere).unwrap(), ("::1".into(), 1234));
    }
}
