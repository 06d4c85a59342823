//! What can go wrong, in words for an operator.

use std::path::PathBuf;

use crate::Refusal;

/// An error of the cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request was not done, and won't be.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nobody could be asked who leads the metadata group. Nothing was done.
    #[error("the cluster's metadata group has no leader that answers: {why}")]
    Unavailable {
        /// What the last one that was asked has said.
        why: String,
    },
    /// It is not known whether it was done: look at the map.
    #[error("the cluster's metadata group has not said what became of the change")]
    Unknown,
    /// This node can't join, and trying again won't help.
    #[error("{address}: {why}")]
    Join {
        /// Who was asked.
        address: String,
        /// What it said.
        why: String,
    },
    /// A file of the cluster can't be used.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The options make no sense.
    #[error("{0}")]
    Options(String),
    /// The log.
    #[error(transparent)]
    Log(#[from] replog::Error),
    /// The node is stopping.
    #[error("the node is stopping")]
    Closed,
}
