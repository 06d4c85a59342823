//! Why a node can't start or go on. Each says what failed, where, and what to do.

use std::io;
use std::path::PathBuf;

use crate::core::checkpoint;

/// An error of the node.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting, or two that do not go together.
    #[error("dbshard: {0}")]
    Config(String),
    /// An address that can't be listened on.
    #[error("dbshard: cannot listen on {address}: {source}; free it or set another `listen`")]
    Listen {
        /// As set.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The data folder can't be used.
    #[error("dbshard: {what} {}: {source}", path.display())]
    Folder {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The data folder was made otherwise.
    #[error("dbshard: {}: {why}", path.display())]
    Node {
        /// The file that says how.
        path: PathBuf,
        /// What does not fit, and what to do.
        why: String,
    },
    /// A checkpoint can't be trusted.
    #[error(
        "dbshard: {}: {source}. Nothing was changed. Restore the data folder from a copy; the log alone does not have all keys",
        path.display()
    )]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: checkpoint::Error,
    },
    /// An entry of the log, or a chunk of a checkpoint, that this version does not understand.
    #[error(
        "dbshard: shard {shard}: {what} holds what this version does not understand: use the version that wrote it"
    )]
    Unreadable {
        /// The shard's number.
        shard: usize,
        /// Which entry or file.
        what: String,
    },
    /// The log.
    #[error("dbshard: {0}")]
    Log(#[from] replog::Error),
    /// A core's thread or ring.
    #[error("dbshard: cannot run core {core}: {source}")]
    Core {
        /// Its number, from 0.
        core: usize,
        /// What the system said.
        source: io::Error,
    },
    /// A core ended by a broken invariant; the journal has the message.
    #[error("dbshard: core {core} panicked")]
    Panic {
        /// Its number, from 0.
        core: usize,
    },
}

impl Error {
    /// For `map_err`: `what` was tried on `path`.
    pub(crate) fn folder(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Folder { what, path, source }
    }
}
