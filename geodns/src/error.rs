//! Why geodns cannot start or go on.

use std::io;
use std::net::SocketAddr;

use crate::core::ZoneError;

/// Why geodns cannot start or go on. What is wrong with one query is answered to its asker and counted, not given here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that cannot be served.
    #[error("configuration: {key}: {problem}")]
    Config {
        /// The key, as in the file.
        key: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// A zone file that cannot be read.
    #[error("zone {zone}: cannot read {path}: {source}")]
    ReadZone {
        /// The zone's name.
        zone: String,
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A zone that cannot be served.
    #[error(transparent)]
    Zone(#[from] ZoneError),
    /// An address that cannot be listened on.
    #[error("cannot listen on {address} ({protocol}): {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// UDP or TCP.
        protocol: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A core could not be started, or ended by itself.
    #[error("core {core}: {source}")]
    Core {
        /// Which.
        core: usize,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn config(key: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::Config { key: key.into(), problem: problem.into() }
    }
}
