//! Small files of JSON behind a checksum, replaced whole: the layout, and the checkpoints of topics, offsets and logs.
//!
//! The first line is the CRC-32C of the rest in hexadecimal.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use runtime::fs;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::cluster_config::LONE;

/// The version of everything in a data folder.
pub(crate) const FORMAT_VERSION: u32 = 2;

/// What never changes in a data folder once it is made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Layout {
    pub(crate) version: u32,
    /// Whose it is.
    pub(crate) node: u64,
    /// How many shards there are.
    pub(crate) shards: usize,
    /// How many coordinators of groups the cluster has.
    pub(crate) coordinators: usize,
    /// Kafka's cluster id.
    pub(crate) cluster_id: String,
    /// The first half of topics' ids.
    pub(crate) topic_seed: u64,
}

/// What of each partition, by uid, is durable in its own files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    pub(crate) partitions: BTreeMap<u64, Place>,
    /// Partitions that were deleted, and whose replicated logs are still there: up to which entry that is known.
    pub(crate) buried: BTreeMap<u64, Index>,
}

/// A place in a replicated log.
pub(crate) type Index = u64;

/// Of one partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Everything up to this entry is in what follows.
    pub(crate) index: Index,
    /// The first offset that may be read.
    pub(crate) log_start: i64,
    /// Segments are synced up to here.
    pub(crate) synced_end: i64,
}

/// Replaces a file durably.
pub(crate) async fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let json = serde_json::to_vec(value).expect("our own tables are JSON");
    let mut bytes = format!("{:08x}\n", crc32c::crc32c(&json)).into_bytes();
    bytes.extend_from_slice(&json);
    fs::write_atomic(path, bytes).await.map_err(Error::io("cannot write", path))
}

/// Reads a file; `None` when there is none.
pub(crate) async fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let bytes = match fs::read(path).await {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("cannot read", path)(e)),
    };
    let damaged = |what: String| Error::Corrupt { path: path.to_owned(), what };
    let (crc, json) = bytes.split_at_checked(9).ok_or_else(|| damaged("cut short".into()))?;
    let stated = format!("{:08x}\n", crc32c::crc32c(json));
    if crc != stated.as_bytes() {
        return Err(damaged("the checksum in its first line is not that of the rest".into()));
    }
    serde_json::from_slice(json).map(Some).map_err(|e| damaged(e.to_string()))
}

/// Coordinators at most.
pub(crate) const COORDINATORS_MAX: usize = 32;

/// What a new folder is made for, and an older one must be of.
pub(crate) struct Founding {
    pub(crate) node: u64,
    pub(crate) shards: usize,
    /// The cluster's name, and how many nodes it has; absent when the node is alone.
    pub(crate) cluster: Option<(String, usize)>,
}

/// The folder's layout; made when the folder is new.
pub(crate) async fn layout(data: &Path, founding: &Founding) -> Result<Layout, Error> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let path = data.join("layout.json");
    if let Some(Version { version }) = read::<Version>(&path).await?
        && version != FORMAT_VERSION
    {
        return Err(Error::Version { path, found: version, reads: FORMAT_VERSION });
    }
    if let Some(layout) = read::<Layout>(&path).await? {
        if layout.shards == 0 || !(1..=COORDINATORS_MAX).contains(&layout.coordinators) {
            return Err(Error::Corrupt { path, what: "no shards, or no coordinators".into() });
        }
        check_owner(data, &layout, founding)?;
        return Ok(layout);
    }
    let (cluster_id, coordinators) = match &founding.cluster {
        Some((name, nodes)) => (name.clone(), *nodes),
        None => (format!("{LONE}{:016x}", runtime::random_u64()), founding.shards),
    };
    let layout = Layout {
        version: FORMAT_VERSION,
        node: founding.node,
        shards: founding.shards,
        coordinators: coordinators.clamp(1, COORDINATORS_MAX),
        cluster_id,
        topic_seed: runtime::random_u64(),
    };
    write(&path, &layout).await?;
    Ok(layout)
}

fn check_owner(data: &Path, layout: &Layout, founding: &Founding) -> Result<(), Error> {
    let fail = |what: String| Err(Error::Config(format!("{}: {what}", data.display())));
    if layout.node != founding.node {
        return fail(format!("is of node {}, and this is node {}", layout.node, founding.node));
    }
    match &founding.cluster {
        Some((name, _)) if *name != layout.cluster_id => {
            fail(format!("is of cluster {:?}, and cluster.name is {name:?}", layout.cluster_id))
        }
        None if !layout.cluster_id.starts_with(LONE) => fail(format!(
            "is of cluster {:?}, and there is no [cluster] in the configuration",
            layout.cluster_id
        )),
        _ => Ok(()),
    }
}

pub(crate) fn shard_dir(data: &Path, shard: usize) -> PathBuf {
    data.join("shards").join(shard.to_string())
}
