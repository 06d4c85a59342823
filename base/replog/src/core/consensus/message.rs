//! The messages between the members of a group, and their bytes: our own, bounded codec. The library's generated parser
//! never sees what a peer sent (RUSTSEC-2024-0437: it recurses as deeply as the input asks).
//!
//! ```text
//! kind (1), flags (1), bytes of context (2), entries (4),
//! term, log term, index, commit, commit's term, hint (8 each)
//! context
//! per entry: kind (1), zero (3), bytes (4), term (8), the bytes      their indexes follow on `index`
//! of a snapshot: index (8), term (8), members
//! ```
//!
//! Always holds of a decoded message: it is of a kind that members send each other (what the library forwards or tells
//! itself is refused), its sizes are within the limits, and its entries' terms are in order and not beyond its own.

use bytes::{Buf, Bytes};
use raft::eraftpb::{self, MessageType};

use super::entry::{Entry, Kind};
use super::membership::Members;
use crate::core::format::{get_u32, get_u64, put_u32, put_u64};
use crate::limits::{ENTRY_BYTES_MAX, MESSAGE_ENTRIES_MAX};
use crate::{Index, NodeId, Term};

const HEAD_BYTES: usize = 56;
const ENTRY_HEAD_BYTES: usize = 16;
/// A heartbeat's round and a read's context.
const CONTEXT_BYTES_MAX: usize = 32;

const REJECT: u8 = 1;
const QUIET: u8 = 2;
const TRANSFER: u8 = 4;

/// Entries smaller than this are copied out of what was received, so that they do not keep all of it in memory.
const COPIED_BELOW: usize = 16 * 1024;

/// What the library puts into a vote request that follows a transfer of leadership.
const CAMPAIGN_TRANSFER: &[u8] = b"CampaignTransfer";

const KINDS: [(u8, MessageType); 10] = [
    (1, MessageType::MsgAppend),
    (2, MessageType::MsgAppendResponse),
    (3, MessageType::MsgRequestVote),
    (4, MessageType::MsgRequestVoteResponse),
    (5, MessageType::MsgSnapshot),
    (6, MessageType::MsgHeartbeat),
    (7, MessageType::MsgHeartbeatResponse),
    (8, MessageType::MsgTimeoutNow),
    (9, MessageType::MsgRequestPreVote),
    (10, MessageType::MsgRequestPreVoteResponse),
];

/// A message of one member of a group to another.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    pub(super) raft: eraftpb::Message,
    /// A heartbeat after which the leader falls quiet.
    pub(super) quiet: bool,
}

/// The position and the members that a snapshot has, without its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotMeta {
    pub(crate) index: Index,
    pub(crate) term: Term,
    pub(crate) members: Members,
}

impl Message {
    /// The snapshot that this message announces. Its data goes to the peer first.
    pub(crate) fn snapshot(&self) -> Option<SnapshotMeta> {
        (self.raft.get_msg_type() == MessageType::MsgSnapshot)
            .then(|| SnapshotMeta::from_raft(self.raft.get_snapshot()))
    }

    /// The size of the largest entry that it brings, in bytes; `None`: it brings none.
    pub(crate) fn largest_entry(&self) -> Option<usize> {
        self.raft.entries.iter().map(|entry| entry.data.len()).max()
    }

    pub(super) fn kind(&self) -> MessageType {
        self.raft.get_msg_type()
    }

    /// Whether it is a vote request of a node that was asked to take over.
    pub(super) fn is_transfer(&self) -> bool {
        self.raft.context == CAMPAIGN_TRANSFER
    }

    /// Appends the message's bytes.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let raft = &self.raft;
        let transfer = self.is_transfer();
        let context: &[u8] = if transfer { &[] } else { &raft.context };
        let flag = |on: bool, flag: u8| if on { flag } else { 0 };
        let kind = KINDS.iter().find(|(_, kind)| *kind == raft.get_msg_type());
        let mut head = [0; HEAD_BYTES];
        head[0] = kind.expect("only members' messages are sent").0;
        head[1] = flag(raft.reject, REJECT) | flag(self.quiet, QUIET) | flag(transfer, TRANSFER);
        head[2..4].copy_from_slice(&u16::try_from(context.len()).expect("a few bytes").to_le_bytes());
        put_u32(&mut head, 4, raft.entries.len() as u32);
        let numbers = [raft.term, raft.log_term, raft.index, raft.commit, raft.commit_term, raft.reject_hint];
        for (number, at) in numbers.into_iter().zip((8..).step_by(8)) {
            put_u64(&mut head, at, number);
        }
        out.extend_from_slice(&head);
        out.extend_from_slice(context);
        for (entry, at) in raft.entries.iter().map(Entry::from_raft).zip(1..) {
            assert_eq!(entry.index.0, raft.index + at, "entries follow on what the message says");
            let mut head = [0; ENTRY_HEAD_BYTES];
            head[0] = entry.kind.code();
            put_u32(&mut head, 4, entry.bytes.len() as u32);
            put_u64(&mut head, 8, entry.term.0);
            out.extend_from_slice(&head);
            out.extend_from_slice(&entry.bytes);
        }
        if let Some(snapshot) = self.snapshot() {
            out.extend_from_slice(&snapshot.index.0.to_le_bytes());
            out.extend_from_slice(&snapshot.term.0.to_le_bytes());
            snapshot.members.encode(out);
        }
    }

    /// Reads a message of `from` to `to`. `None`: it makes no sense, whoever sent it.
    pub(crate) fn decode(mut bytes: Bytes, from: NodeId, to: NodeId) -> Option<Message> {
        if bytes.len() < HEAD_BYTES {
            return None;
        }
        let head = bytes.split_to(HEAD_BYTES);
        let (_, kind) = KINDS.into_iter().find(|(code, _)| *code == head[0])?;
        let context_bytes = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let count = get_u32(&head, 4) as usize;
        if context_bytes > CONTEXT_BYTES_MAX || context_bytes > bytes.len() || count > MESSAGE_ENTRIES_MAX {
            return None;
        }
        let mut raft = eraftpb::Message {
            from: from.0,
            to: to.0,
            term: get_u64(&head, 8),
            log_term: get_u64(&head, 16),
            index: get_u64(&head, 24),
            commit: get_u64(&head, 32),
            commit_term: get_u64(&head, 40),
            reject_hint: get_u64(&head, 48),
            reject: head[1] & REJECT > 0,
            context: Bytes::copy_from_slice(&bytes.split_to(context_bytes)),
            ..eraftpb::Message::default()
        };
        raft.set_msg_type(kind);
        if head[1] & TRANSFER > 0 {
            raft.context = Bytes::from_static(CAMPAIGN_TRANSFER);
        }
        let mut entries = Vec::with_capacity(count.min(bytes.len() / ENTRY_HEAD_BYTES));
        for number in 0..count {
            entries.push(decode_entry(&mut bytes, raft.index.checked_add(1 + number as u64)?)?.to_raft());
        }
        if kind == MessageType::MsgSnapshot {
            raft.set_snapshot(decode_snapshot(&mut bytes)?.to_raft());
        }
        let terms = std::iter::once(raft.log_term).chain(entries.iter().map(|entry| entry.term));
        let in_order = terms.chain([raft.term]).is_sorted();
        let fits = (kind == MessageType::MsgAppend && in_order) || entries.is_empty();
        raft.set_entries(entries.into());
        // Term 0 would pass for a message to oneself.
        let sensible = bytes.is_empty() && fits && raft.term > 0 && head[1] < 8;
        sensible.then_some(Message { raft, quiet: head[1] & QUIET > 0 })
    }
}

fn decode_entry(bytes: &mut Bytes, index: u64) -> Option<Entry> {
    if bytes.len() < ENTRY_HEAD_BYTES {
        return None;
    }
    let head = bytes.split_to(ENTRY_HEAD_BYTES);
    let (kind, len) = (Kind::of(head[0])?, get_u32(&head, 4) as usize);
    let term = Term(get_u64(&head, 8));
    if len > ENTRY_BYTES_MAX || len > bytes.len() || term.0 == 0 {
        return None;
    }
    let whole = bytes.split_to(len);
    let bytes = if len < COPIED_BELOW { Bytes::copy_from_slice(&whole) } else { whole };
    let sensible = match kind {
        Kind::Noop => bytes.is_empty(),
        Kind::App => true,
        Kind::Members => super::membership::decode_changes(&bytes).is_some(),
    };
    sensible.then_some(Entry { index: Index(index), term, kind, bytes })
}

fn decode_snapshot(bytes: &mut Bytes) -> Option<SnapshotMeta> {
    if bytes.len() < 16 {
        return None;
    }
    let (index, term) = (Index(bytes.get_u64_le()), Term(bytes.get_u64_le()));
    let (members, rest) = Members::decode(bytes)?;
    let used = bytes.len() - rest.len();
    bytes.advance(used);
    (index.0 > 0 && term.0 > 0 && !members.voters.is_empty()).then_some(SnapshotMeta { index, term, members })
}

impl SnapshotMeta {
    pub(super) fn to_raft(&self) -> eraftpb::Snapshot {
        let mut snapshot = eraftpb::Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = self.index.0;
        metadata.term = self.term.0;
        metadata.set_conf_state(self.members.to_raft());
        snapshot
    }

    pub(super) fn from_raft(snapshot: &eraftpb::Snapshot) -> SnapshotMeta {
        let metadata = snapshot.get_metadata();
        let members = Members::from_raft(metadata.get_conf_state());
        SnapshotMeta { index: Index(metadata.index), term: Term(metadata.term), members }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append() -> Message {
        let entry = |index, term, kind, bytes: &'static [u8]| Entry {
            index: Index(index),
            term: Term(term),
            kind,
            bytes: Bytes::from_static(bytes),
        };
        let changes = super::super::membership::encode_changes(&[super::super::Change::Out(NodeId(7))]);
        let entries = [
            entry(6, 2, Kind::App, b"one"),
            entry(7, 2, Kind::App, b""),
            entry(8, 3, Kind::Noop, b""),
            Entry { index: Index(9), term: Term(3), kind: Kind::Members, bytes: changes },
        ];
        let mut raft = eraftpb::Message {
            from: 1,
            to: 2,
            term: 3,
            log_term: 2,
            index: 5,
            commit: 4,
            commit_term: 2,
            reject_hint: 1,
            ..eraftpb::Message::default()
        };
        raft.set_msg_type(MessageType::MsgAppend);
        raft.set_entries(entries.iter().map(Entry::to_raft).collect::<Vec<_>>().into());
        Message { raft, quiet: false }
    }

    fn of_kind(kind: MessageType) -> Message {
        let mut message = Message { quiet: true, ..append() };
        message.raft.set_msg_type(kind);
        message.raft.clear_entries();
        message.raft.reject = true;
        message.raft.context = Bytes::from_static(b"24 bytes at most, or so.");
        if kind == MessageType::MsgSnapshot {
            let members = Members::voters([NodeId(1), NodeId(2)]);
            message.raft.set_snapshot(SnapshotMeta { index: Index(9), term: Term(2), members }.to_raft());
        }
        message
    }

    fn bytes(message: &Message) -> Bytes {
        let mut out = Vec::new();
        message.encode(&mut out);
        out.into()
    }

    fn decode(bytes: Bytes) -> Option<Message> {
        Message::decode(bytes, NodeId(1), NodeId(2))
    }

    #[test]
    fn every_kind_comes_back() {
        assert_eq!(decode(bytes(&append())), Some(append()));
        for (_, kind) in KINDS {
            let message = of_kind(kind);
            assert_eq!(decode(bytes(&message)), Some(message));
        }
        let mut transfer = of_kind(MessageType::MsgRequestVote);
        transfer.raft.context = Bytes::from_static(CAMPAIGN_TRANSFER);
        assert!(decode(bytes(&transfer)).expect("decodes").is_transfer());
    }

    #[test]
    fn what_is_cut_short_or_too_long_is_refused() {
        for message in [append(), of_kind(MessageType::MsgSnapshot), of_kind(MessageType::MsgHeartbeat)] {
            let whole = bytes(&message);
            assert!((0..whole.len()).all(|len| decode(whole.slice(..len)).is_none()));
            assert!(decode([&whole[..], &[0]].concat().into()).is_none());
        }
    }

    #[test]
    fn terms_out_of_order_and_foreign_kinds_are_refused() {
        let whole = bytes(&append());
        let changed = |at: usize, value: u8| {
            let mut bytes = whole.to_vec();
            bytes[at] = value;
            decode(bytes.into())
        };
        assert!(changed(8, 2).is_none(), "entries from a later term than the message's");
        assert!(changed(8, 0).is_none(), "no term");
        assert!(changed(16, 3).is_none(), "an entry from before the one it follows");
        for kind in [0, 11, 255] {
            assert!(changed(0, kind).is_none());
        }
        for kind in 2..=10 {
            assert!(changed(0, kind).is_none(), "entries in kind {kind}");
        }
        assert!(changed(7, 255).is_none(), "more entries than can be");
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut state = 1_u64;
        let mut draw = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize
        };
        let whole = [bytes(&append()), bytes(&of_kind(MessageType::MsgSnapshot))];
        for round in 0..20_000 {
            let mut bytes = whole[round % 2].to_vec();
            for _ in 0..=draw() % 4 {
                let at = draw() % bytes.len();
                bytes[at] = draw() as u8;
            }
            if let Some(message) = decode(bytes.into()) {
                let mut again = Vec::new();
                message.encode(&mut again);
                assert_eq!(decode(again.into()), Some(message));
            }
        }
    }
}
