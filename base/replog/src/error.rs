//! What can go wrong, in words for an operator.

use std::io;
use std::path::PathBuf;

use crate::{GroupId, Index, NodeId, Term};

/// An error of the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// [`PROPOSED_BYTES_MAX`](crate::limits::PROPOSED_BYTES_MAX) are waiting to become durable. Nothing was taken:
    /// wait with `Log::room`, or turn the client away.
    #[error("the log is behind: too much waits to be written")]
    Full,
    /// The disk has no room for another segment. Nothing was taken; what was taken before is safe. Ends by itself once
    /// there is space.
    #[error("the log is read-only: can't make another segment in {}: {why}: free some space", dir.display())]
    ReadOnly {
        /// The log's folder.
        dir: PathBuf,
        /// What the file system said.
        why: String,
    },
    /// The entry is larger than the log takes.
    #[error("an entry of {bytes} bytes is too large: at most {max}")]
    TooLarge {
        /// The entry's size.
        bytes: usize,
        /// The largest that this log takes.
        max: usize,
    },
    /// The log has as many groups as it takes.
    #[error("the log has {max} groups, which is the most: use more streams, or larger segments")]
    TooManyGroups {
        /// The most groups that this log takes.
        max: usize,
    },
    /// Waited for an entry that nobody has proposed.
    #[error("entry {index} of group {group} was never proposed: the last is {last}")]
    NotProposed {
        /// The group.
        group: GroupId,
        /// The entry waited for.
        index: Index,
        /// The group's last entry.
        last: Index,
    },
    /// This node does not lead the group.
    #[error("group {group} is led by {}", leader.map_or("nobody known".to_owned(), |node| format!("node {node}")))]
    NotLeader {
        /// The group.
        group: GroupId,
        /// Who does, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// The node has lost the leadership before it knew what became of a proposal or a read. The proposal may be
    /// committed yet.
    #[error("group {group} has changed its leader: the outcome is not known")]
    Unknown {
        /// The group.
        group: GroupId,
    },
    /// Another entry was committed in the place of the proposal.
    #[error("another entry of group {group} took the place of entry {index}")]
    Lost {
        /// The group.
        group: GroupId,
        /// Where the proposal would have been.
        index: Index,
    },
    /// It can't be done in the state that the group is in.
    #[error("group {group}: {why}")]
    Refused {
        /// The group.
        group: GroupId,
        /// Why not.
        why: String,
    },
    /// A state machine has less than what its log has already given up.
    #[error(
        "group {group}: the state machine has everything up to entry {durable}, and the log begins behind {truncated}: \
         restore the data folder from one copy, or make this node a new member"
    )]
    Behind {
        /// The group.
        group: GroupId,
        /// What the state machine has.
        durable: Index,
        /// Where the log begins.
        truncated: Index,
    },
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// A segment is damaged, or one is missing. Nothing was changed.
    #[error(
        "{}: damaged at byte {offset}: {what}. Nothing was changed. Restore {} from a copy; or give up this and \
         everything written after it by an explicit repair (--accept-loss)",
        segment.display(),
        segment.parent().unwrap_or(segment).display()
    )]
    Corrupt {
        /// The segment file.
        segment: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// Both copies of a vote are whole, and differ.
    #[error(
        "{}: says that group {group} voted for another node in term {term} than the log does: restore both from one copy",
        path.display()
    )]
    Votes {
        /// The second copy.
        path: PathBuf,
        /// The group.
        group: GroupId,
        /// The term.
        term: Term,
    },
    /// The folder was written in another version of the format.
    #[error(
        "{}: written in format version {found}, and this program reads version {reads}: use the program that wrote it, \
         or an empty folder",
        segment.display()
    )]
    Version {
        /// The segment file.
        segment: PathBuf,
        /// The version found.
        found: u32,
        /// The version that this program reads.
        reads: u32,
    },
    /// There is something in the folder that no log has put there.
    #[error("{}: not a part of a log: give the log a folder of its own", path.display())]
    Foreign {
        /// What was found.
        path: PathBuf,
    },
    /// Another process has the log open.
    #[error("{}: in use by another process", dir.display())]
    Locked {
        /// The log's folder.
        dir: PathBuf,
    },
    /// A node could not be asked, or gave no answer.
    #[error("{address}: {why}")]
    Unanswered {
        /// Where it was sought.
        address: String,
        /// What has happened.
        why: String,
        /// Whether it may have taken the question.
        asked: bool,
    },
    /// A node does not speak to this one, and won't another time either.
    #[error("{address}: {why}")]
    Stranger {
        /// Where it is.
        address: String,
        /// Why not.
        why: String,
    },
    /// The options make no sense.
    #[error("{0}")]
    Options(String),
    /// The file system refused something while the log was opened, repaired or closed.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: `what` was tried on `path`.
    pub(crate) fn io(what: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { what, path: path.to_owned(), source }
    }
}
