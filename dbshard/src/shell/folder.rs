//! The data folder: whose it is, and how it was made.
//!
//! `node.toml` says what can't change: the cluster's number and the node's in it, the number of shards and of log streams, and
//! the shards' ids. Beside it lie `wal/0`, `wal/1`, … (one log stream each) and `checkpoints/shard-N`. One process at a time.

use std::path::{Path, PathBuf};

use runtime::fs;
use serde::{Deserialize, Serialize};

use crate::{Config, Error};

/// The version of the folder's layout and of all formats in it.
const FORMAT: u32 = 2;

/// What `node.toml` holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeFile {
    format: u32,
    /// The cluster's number, below 2^63.
    pub(super) cluster: u64,
    /// This node's number in it, from 1.
    pub(super) node: u64,
    /// How many shards share the slots.
    shards: usize,
    /// How many log streams there are.
    pub(super) streams: usize,
    /// The shards' ids, 40 hexadecimal digits each.
    pub(super) ids: Vec<String>,
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
            let text = format!(
                "# Made by dbshard with this data folder. Not to be changed.\n{}",
                ops::config::render(&node)
            );
            fs::write_atomic(&path, text.into_bytes()).await.map_err(Error::folder("cannot write", &path))?;
            node
        }
        Err(source) => return Err(Error::Folder { what: "cannot read", path, source }),
    };
    Ok(Folder { node, _lock: lock })
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
    let sound = node.streams > 0
        && node.node > 0
        && node.ids.len() == node.shards
        && node.ids.iter().all(|id| id.len() == 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if !sound {
        return Err(refuse("not as dbshard wrote it: restore it from a copy".to_owned()));
    }
    Ok(node)
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
    let ids = (0..config.shards).map(|_| {
        let mut bytes = [0; 20];
        runtime::random_bytes(&mut bytes);
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    });
    let streams = match config.wal_streams {
        0 => runtime::cores().min(config.shards),
        streams => streams.min(config.shards),
    };
    let mut cluster = [0; 8];
    runtime::random_bytes(&mut cluster);
    Ok(NodeFile {
        format: FORMAT,
        cluster: u64::from_le_bytes(cluster) >> 1,
        node: 1,
        shards: config.shards,
        streams,
        ids: ids.collect(),
    })
}
