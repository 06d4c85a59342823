//! The data folder: whose it is, and how it was made.
//!
//! `node.toml` says what can't change: the cluster's number, its nodes and this one's number, the number of shards, of their
//! replicas and of log streams. Beside it lie `wal/0`, `wal/1`, … (one log stream each) and `checkpoints/shard-N`. One process at a time.

use std::path::{Path, PathBuf};

use runtime::fs;
use serde::{Deserialize, Serialize};

use crate::config::EmptyFolder;
use crate::core::topology::nodes_of;
use crate::{Config, Error};

/// The version of the folder's layout and of all formats in it.
const FORMAT: u32 = 2;

/// What `node.toml` holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeFile {
    format: u32,
    /// The cluster's number, below 2^63.
    pub(super) cluster: u64,
    /// This node's number in it, from 1.
    pub(super) node: u64,
    /// The numbers of all nodes.
    nodes: Vec<u64>,
    /// How many shards share the slots.
    shards: usize,
    /// How many nodes have each shard.
    replicas: usize,
    /// How many log streams there are.
    pub(super) streams: usize,
    /// A shard whose group is not in the log is to be filled by the others. Otherwise this is a first start, and its group is
    /// founded.
    pub(super) fill: bool,
}

/// The folder, held until it is dropped.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) node: NodeFile,
    _lock: fs::DirLock,
}

/// The folder of a log stream.
pub(super) fn stream(data: &Path, number: usize) -> PathBuf {
    data.join("wal").join(number.to_string())
}

/// The checkpoint of a shard.
pub(super) fn checkpoint(data: &Path, shard: usize) -> PathBuf {
    data.join("checkpoints").join(format!("shard-{shard}"))
}

/// Opens the folder, or makes it.
pub(super) async fn open(config: &Config) -> Result<Folder, Error> {
    let data = &config.data;
    fs::create_dir_all(data).await.map_err(Error::folder("cannot make the data folder", data))?;
    let lock = fs::lock_dir(data)
        .await
        .map_err(Error::folder("cannot have the data folder alone, is it in use?", data))?;
    for folder in ["wal", "checkpoints"] {
        let path = data.join(folder);
        fs::create_dir_all(&path).await.map_err(Error::folder("cannot make the folder", path))?;
    }
    let path = data.join("node.toml");
    let node = match fs::read(&path).await {
        Ok(bytes) => read(config, &path, &bytes)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let node = make(config, &path).await?;
            write(data, &node).await?;
            node
        }
        Err(source) => return Err(Error::Folder { what: "cannot read", path, source }),
    };
    Ok(Folder { node, _lock: lock })
}

/// Writes `node.toml`.
pub(super) async fn write(data: &Path, node: &NodeFile) -> Result<(), Error> {
    let path = data.join("node.toml");
    let text =
        format!("# Made by dbshard with this data folder. Not to be changed.\n{}", ops::config::render(node));
    fs::write_atomic(&path, text.into_bytes()).await.map_err(Error::folder("cannot write", &path))
}

fn read(config: &Config, path: &Path, bytes: &[u8]) -> Result<NodeFile, Error> {
    let refuse = |why: String| Error::Node { path: path.to_owned(), why };
    let text = String::from_utf8_lossy(bytes);
    let format = text.lines().find_map(|line| line.strip_prefix("format = "));
    if let Some(format) = format.filter(|format| *format != FORMAT.to_string()) {
        return Err(refuse(format!(
            "the folder has format {format}, and this program reads format {FORMAT}: use the program that wrote it, or an \
             empty folder"
        )));
    }
    let node: NodeFile =
        ops::config::parse(&text, &path.display().to_string()).map_err(|error| refuse(error.to_string()))?;
    if node.shards != config.shards {
        return Err(refuse(format!(
            "the folder was made for {} shards, and `shards` is {}: set it back, or use an empty folder",
            node.shards, config.shards
        )));
    }
    if config.wal_streams != 0 && node.streams != config.wal_streams {
        return Err(refuse(format!(
            "the folder was made with {} log streams, and `wal_streams` is {}: set it back, or leave it out",
            node.streams, config.wal_streams
        )));
    }
    let wanted = Wanted::of(config);
    if (&node.nodes, node.node, node.replicas) != (&wanted.nodes, wanted.node, wanted.replicas) {
        return Err(refuse(format!(
            "the folder was made for node {} of {:?} with {} replicas, and the configuration says node {} of {:?} with {}: set it \
             back, or use an empty folder",
            node.node, node.nodes, node.replicas, wanted.node, wanted.nodes, wanted.replicas
        )));
    }
    if wanted.cluster.is_some_and(|cluster| cluster != node.cluster) {
        return Err(refuse(
            "the folder was made for a cluster with another `cluster.name`: set it back".to_owned(),
        ));
    }
    if node.streams == 0 || node.node == 0 {
        return Err(refuse("not as dbshard wrote it: restore it from a copy".to_owned()));
    }
    Ok(node)
}

/// What the configuration says of the nodes.
struct Wanted {
    /// Given by the name; absent for a node by itself, which draws one.
    cluster: Option<u64>,
    node: u64,
    nodes: Vec<u64>,
    replicas: usize,
}

impl Wanted {
    fn of(config: &Config) -> Wanted {
        let Some(cluster) = &config.cluster else {
            return Wanted { cluster: None, node: 1, nodes: vec![1], replicas: 1 };
        };
        // FNV-1a.
        let name = cluster.name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Wanted {
            cluster: Some(name >> 1),
            node: cluster.node,
            nodes: cluster.nodes.iter().map(|node| node.id).collect(),
            replicas: cluster.replicas,
        }
    }
}

async fn make(config: &Config, path: &Path) -> Result<NodeFile, Error> {
    // A folder that lost its file must not be taken for a new one: its logs would be read with other shards in mind.
    let wal = config.data.join("wal");
    let found = fs::read_dir(&wal).await.map_err(Error::folder("cannot read the folder", &wal))?;
    if let Some(stream) = found.first() {
        let why = format!(
            "missing, although {} is there: restore it from a copy, or use an empty folder",
            stream.display()
        );
        return Err(Error::Node { path: path.to_owned(), why });
    }
    let empty_folder = match &config.cluster {
        None => EmptyFolder::Found,
        Some(cluster) => cluster.empty_folder.ok_or_else(|| Error::Node {
            path: path.to_owned(),
            why: "not there, as the data folder is empty, and a node that forgot what it had must not take part as if it had not. \
                  Say --found on the very first start of the cluster's nodes, and --fill where the cluster is there already and \
                  this node is to get everything from the others"
                .to_owned(),
        })?,
    };
    let Wanted { cluster, node, nodes, replicas } = Wanted::of(config);
    let mut drawn = [0; 8];
    runtime::random_bytes(&mut drawn);
    let most = shards_of(config).count().max(1);
    let streams = match config.wal_streams {
        0 => runtime::cores().min(most),
        streams => streams.min(most),
    };
    Ok(NodeFile {
        format: FORMAT,
        cluster: cluster.unwrap_or(u64::from_le_bytes(drawn) >> 1),
        node,
        nodes,
        shards: config.shards,
        replicas,
        streams,
        fill: empty_folder == EmptyFolder::Fill,
    })
}

/// The shards that this node has a replica of.
pub(super) fn shards_of(config: &Config) -> impl Iterator<Item = usize> {
    let (here, nodes, replicas) = match &config.cluster {
        None => (0, 1, 1),
        Some(cluster) => {
            let here = cluster.nodes.iter().position(|node| node.id == cluster.node).unwrap_or(0);
            (here, cluster.nodes.len(), cluster.replicas)
        }
    };
    (0..config.shards).filter(move |shard| nodes_of(*shard, nodes, replicas).any(|node| node == here))
}
