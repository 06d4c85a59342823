//! An entry of a replicated group, and its two faces: ours, and that of the `raft` crate.
//!
//! Always holds: the bytes of a membership entry are in our own encoding ([`membership`](super::membership)). The
//! library wants its own in the entry that a leader proposes, and never looks at it afterwards, so that one lives only
//! until the entry is turned into ours.

use bytes::Bytes;
use raft::eraftpb::{self, EntryType};

use crate::{Index, Term};

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A leader begins its term with it; the state machine does not see it.
    Noop,
    /// The state machine's.
    App,
    /// A change of the group's members.
    Members,
}

/// An entry with its place in the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) index: Index,
    pub(crate) term: Term,
    pub(crate) kind: Kind,
    pub(crate) bytes: Bytes,
}

/// Marks the entries of the state machine, so that an empty one is told from a leader's own.
const APP: &[u8] = b"a";

impl Kind {
    pub(crate) fn code(self) -> u8 {
        match self {
            Kind::Noop => 0,
            Kind::App => 1,
            Kind::Members => 2,
        }
    }

    pub(crate) fn of(code: u8) -> Option<Kind> {
        [Kind::Noop, Kind::App, Kind::Members].into_iter().find(|kind| kind.code() == code)
    }
}

impl Entry {
    pub(super) fn from_raft(entry: &eraftpb::Entry) -> Entry {
        let (kind, bytes) = match entry.get_entry_type() {
            EntryType::EntryNormal if entry.context.is_empty() => (Kind::Noop, Bytes::new()),
            EntryType::EntryNormal => (Kind::App, entry.data.clone()),
            EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
                (Kind::Members, entry.context.clone())
            }
        };
        Entry { index: Index(entry.index), term: Term(entry.term), kind, bytes }
    }

    pub(super) fn to_raft(&self) -> eraftpb::Entry {
        let mut entry = match self.kind {
            Kind::Noop => eraftpb::Entry::default(),
            Kind::App => app(self.bytes.clone()),
            Kind::Members => {
                let mut entry = eraftpb::Entry::default();
                entry.set_entry_type(EntryType::EntryConfChangeV2);
                entry.context = self.bytes.clone();
                entry
            }
        };
        entry.index = self.index.0;
        entry.term = self.term.0;
        entry
    }
}

/// A proposal of the state machine's.
pub(super) fn app(bytes: Bytes) -> eraftpb::Entry {
    eraftpb::Entry { data: bytes, context: Bytes::from_static(APP), ..eraftpb::Entry::default() }
}
