//! Why the broker can't start or go on, in words for its operator.

use std::io;
use std::path::{Path, PathBuf};

/// What ends the broker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting makes no sense.
    #[error("{0}")]
    Config(String),
    /// The listening socket.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file system.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A file doesn't hold what it must.
    #[error("{}: {what}. Nothing was changed. Restore the data folder from a copy", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong, where.
        what: String,
    },
    /// The data folder is of another version.
    #[error("{}: written in format version {found}, this program reads version {reads}: use another folder", path.display())]
    Version {
        /// The file that says so.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        reads: u32,
    },
    /// The write-ahead log.
    #[error(transparent)]
    Log(#[from] replog::Error),
    /// A core could not be started, or ended.
    #[error("core {core}: {source}")]
    Core {
        /// Which.
        core: usize,
        /// Why.
        source: io::Error,
    },
    /// A core panicked: a fault of ours, its message is in the log.
    #[error("core {0} ended in a panic")]
    Panic(usize),
}

impl Error {
    /// For `map_err`: `what` was tried on `path`.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, path: path.to_owned(), source }
    }
}
