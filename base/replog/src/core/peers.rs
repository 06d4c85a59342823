//! What goes over a connection between two nodes: a greeting, its answer, then frames in one direction.
//!
//! ```text
//! hello  = "MILLPEER", version (4), checksum of the rest (4), cluster, from, to, boot (8 each), stream (4), zeros: 64 bytes
//! answer = "MILLPEER", version (4), checksum of the rest (4), code (4), zero (4), cluster, node (8 each), zeros: 64 bytes
//! frame  = bytes of the body (4), checksum of the body (4), body; an empty body only says that the sender lives
//! body   = items: kind (1), zero (3), bytes (4), group (8), the bytes
//! kinds  = 1 message · 2 piece of a snapshot · 3 how far a snapshot has come
//! ```
//!
//! Whoever comes to ask greets node 0, and may itself be node 0 of cluster 0, as it belongs to none yet; then each of its
//! frames is a question and each one that comes back an answer, whose bodies are the owner's.
//!
//! All numbers are little-endian. Always holds: nothing is reserved for more than [`FRAME_BYTES_MAX`], whatever a length
//! says; what fails its checksum, or does not parse, ends the connection.

use bytes::{Buf, Bytes};

use crate::core::format::{get_u32, get_u64, put_u32, put_u64};
use crate::limits::FRAME_BYTES_MAX;
use crate::{GroupId, Index, NodeId};

/// Bytes of a greeting, and of its answer.
pub(crate) const HELLO_BYTES: usize = 64;
/// The version of all that is described here, and of the messages inside.
pub(crate) const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"MILLPEER";
const FRAME_HEAD_BYTES: usize = 8;
const ITEM_HEAD_BYTES: usize = 16;
const PIECE_HEAD_BYTES: usize = 40;

/// What the node that connects says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) cluster: u64,
    pub(crate) from: NodeId,
    /// Whom it means to reach.
    pub(crate) to: NodeId,
    /// The number of its start.
    pub(crate) boot: u64,
    /// Which of its streams sends here.
    pub(crate) stream: u32,
}

/// Why a greeting is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stranger {
    #[error("it is no peer of this program")]
    Foreign,
    #[error(
        "it speaks version {0} of the peers' protocol, and this program version {VERSION}: run one release everywhere"
    )]
    Version(u32),
    #[error("it belongs to cluster {theirs:016x}, and this node to {ours:016x}")]
    Cluster { ours: u64, theirs: u64 },
    #[error("node {asked} was meant, and node {met} is here: correct the peers' addresses")]
    Node { asked: NodeId, met: NodeId },
    #[error("both are node {0}: give each node a number of its own")]
    Itself(NodeId),
}

impl Hello {
    pub(crate) fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut out = [0; HELLO_BYTES];
        for (number, at) in
            [self.cluster, self.from.0, self.to.0, self.boot].into_iter().zip((16..).step_by(8))
        {
            put_u64(&mut out, at, number);
        }
        put_u32(&mut out, 48, self.stream);
        sealed(out)
    }

    /// The greeting of who comes to ask.
    pub(crate) fn asking(cluster: u64, from: NodeId) -> Hello {
        Hello { cluster, from, to: NodeId(0), boot: 0, stream: 0 }
    }

    /// Whether it comes to ask.
    pub(crate) fn asks(&self) -> bool {
        self.to == NodeId(0)
    }

    /// Reads a greeting that came to node `node` of `cluster`.
    pub(crate) fn decode(bytes: &[u8; HELLO_BYTES], cluster: u64, node: NodeId) -> Result<Hello, Stranger> {
        opened(bytes)?;
        let hello = Hello {
            cluster: get_u64(bytes, 16),
            from: NodeId(get_u64(bytes, 24)),
            to: NodeId(get_u64(bytes, 32)),
            boot: get_u64(bytes, 40),
            stream: get_u32(bytes, 48),
        };
        if hello.asks() && (hello.cluster == 0 || hello.cluster == cluster) {
            return Ok(hello);
        }
        if hello.cluster != cluster {
            return Err(Stranger::Cluster { ours: cluster, theirs: hello.cluster });
        }
        if hello.to != node {
            return Err(Stranger::Node { asked: hello.to, met: node });
        }
        if hello.from == node || hello.from == NodeId(0) {
            return Err(Stranger::Itself(hello.from));
        }
        Ok(hello)
    }
}

/// The answer of node `node` of `cluster` to a greeting.
pub(crate) fn answer(judged: &Result<Hello, Stranger>, cluster: u64, node: NodeId) -> [u8; HELLO_BYTES] {
    let code = match judged {
        Ok(_) => 0,
        Err(Stranger::Foreign) => 1,
        Err(Stranger::Version(_)) => 2,
        Err(Stranger::Cluster { .. }) => 3,
        Err(Stranger::Node { .. }) => 4,
        Err(Stranger::Itself(_)) => 5,
    };
    let mut out = [0; HELLO_BYTES];
    put_u32(&mut out, 16, code);
    put_u64(&mut out, 24, cluster);
    put_u64(&mut out, 32, node.0);
    sealed(out)
}

/// Whether the answer to `hello` is a welcome; gives the cluster and the node that it comes from.
pub(crate) fn check_answer(bytes: &[u8; HELLO_BYTES], hello: &Hello) -> Result<(u64, NodeId), Stranger> {
    opened(bytes)?;
    let (cluster, node) = (get_u64(bytes, 24), NodeId(get_u64(bytes, 32)));
    match get_u32(bytes, 16) {
        0 => Ok((cluster, node)),
        3 => Err(Stranger::Cluster { ours: hello.cluster, theirs: cluster }),
        4 => Err(Stranger::Node { asked: hello.to, met: node }),
        5 => Err(Stranger::Itself(node)),
        _ => Err(Stranger::Foreign),
    }
}

fn sealed(mut out: [u8; HELLO_BYTES]) -> [u8; HELLO_BYTES] {
    out[..8].copy_from_slice(&MAGIC);
    put_u32(&mut out, 8, VERSION);
    let checksum = crc32fast::hash(&out[16..]);
    put_u32(&mut out, 12, checksum);
    out
}

fn opened(bytes: &[u8; HELLO_BYTES]) -> Result<(), Stranger> {
    if bytes[..8] != MAGIC {
        return Err(Stranger::Foreign);
    }
    match get_u32(bytes, 8) {
        VERSION if get_u32(bytes, 12) == crc32fast::hash(&bytes[16..]) => Ok(()),
        VERSION => Err(Stranger::Foreign),
        version => Err(Stranger::Version(version)),
    }
}

/// One thing for a group on another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// A message of consensus, encoded.
    Message(Bytes),
    Piece(Piece),
    /// A snapshot has come so far: `offset` is what is wanted next; `done`: all of it is here.
    Reached {
        id: u64,
        offset: u64,
        done: bool,
    },
}

/// A piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Of this transfer, drawn by its sender.
    pub(crate) id: u64,
    /// The snapshot holds everything up to here.
    pub(crate) index: Index,
    pub(crate) offset: u64,
    /// With the last piece comes the message that announces the snapshot.
    pub(crate) message: Option<Bytes>,
    pub(crate) bytes: Bytes,
}

impl Item {
    /// Appends the item to a frame's body.
    pub(crate) fn encode(&self, group: GroupId, out: &mut Vec<u8>) {
        match self {
            Item::Message(bytes) => put(1, group, out, |out| out.extend_from_slice(bytes)),
            Item::Piece(piece) => put(2, group, out, |out| {
                let message = piece.message.as_deref().unwrap_or_default();
                [piece.id, piece.index.0, piece.offset]
                    .iter()
                    .for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
                out.extend_from_slice(&u64::from(piece.message.is_some()).to_le_bytes());
                out.extend_from_slice(&(message.len() as u64).to_le_bytes());
                out.extend_from_slice(message);
                out.extend_from_slice(&piece.bytes);
            }),
            Item::Reached { id, offset, done } => put(3, group, out, |out| {
                [*id, *offset, u64::from(*done)]
                    .iter()
                    .for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
            }),
        }
    }

    fn decode(kind: u8, mut bytes: Bytes) -> Option<Item> {
        match (kind, bytes.len()) {
            (1, _) => Some(Item::Message(bytes)),
            (2, PIECE_HEAD_BYTES..) => {
                let (id, index, offset) = (bytes.get_u64_le(), Index(bytes.get_u64_le()), bytes.get_u64_le());
                let (last, len) = (bytes.get_u64_le(), bytes.get_u64_le());
                let len = usize::try_from(len).ok().filter(|len| *len <= bytes.len())?;
                let message = bytes.split_to(len);
                let message = (last == 1).then_some(message);
                Some(Item::Piece(Piece { id, index, offset, message, bytes }))
            }
            (3, 24) => {
                let (id, offset) = (bytes.get_u64_le(), bytes.get_u64_le());
                Some(Item::Reached { id, offset, done: bytes.get_u64_le() == 1 })
            }
            _ => None,
        }
    }
}

/// Appends an item whose bytes are one message of consensus.
pub(crate) fn put_message(group: GroupId, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    put(1, group, out, write);
}

fn put(kind: u8, group: GroupId, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; ITEM_HEAD_BYTES]);
    write(out);
    let len = out.len() - start - ITEM_HEAD_BYTES;
    out[start] = kind;
    put_u32(out, start + 4, u32::try_from(len).expect("within FRAME_BYTES_MAX"));
    put_u64(out, start + 8, group.0);
}

/// A frame being put together: room for its head, then the items.
pub(crate) fn begin_frame() -> Vec<u8> {
    vec![0; FRAME_HEAD_BYTES]
}

/// Bytes of the items in a frame that is being put together.
pub(crate) fn body_bytes(frame: &[u8]) -> usize {
    frame.len() - FRAME_HEAD_BYTES
}

/// Fills in the head.
pub(crate) fn finish_frame(mut frame: Vec<u8>) -> Vec<u8> {
    let checksum = crc32fast::hash(&frame[FRAME_HEAD_BYTES..]);
    let len = u32::try_from(body_bytes(&frame)).expect("within FRAME_BYTES_MAX");
    put_u32(&mut frame, 0, len);
    put_u32(&mut frame, 4, checksum);
    frame
}

/// What a peer sent can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("a frame of {len} bytes: at most {max}")]
    TooLong { len: usize, max: usize },
    #[error("a frame does not match its checksum")]
    Checksum,
    #[error("a frame holds what this version does not know")]
    Unknown,
}

/// Puts frames together from what is received.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    buffer: Vec<u8>,
}

impl Frames {
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The items of the next whole frame; `None`: more bytes are needed.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Vec<(GroupId, Item)>>, Malformed> {
        let Some(mut body) = self.next_body(FRAME_BYTES_MAX)? else { return Ok(None) };
        let mut items = Vec::new();
        while !body.is_empty() {
            if body.len() < ITEM_HEAD_BYTES {
                return Err(Malformed::Unknown);
            }
            let head = body.split_to(ITEM_HEAD_BYTES);
            let len = get_u32(&head, 4) as usize;
            if len > body.len() {
                return Err(Malformed::Unknown);
            }
            let item = Item::decode(head[0], body.split_to(len)).ok_or(Malformed::Unknown)?;
            items.push((GroupId(get_u64(&head, 8)), item));
        }
        Ok(Some(items))
    }

    /// The body of the next whole frame, of `max` bytes at most; `None`: more bytes are needed.
    pub(crate) fn next_body(&mut self, max: usize) -> Result<Option<Bytes>, Malformed> {
        if self.buffer.len() < FRAME_HEAD_BYTES {
            return Ok(None);
        }
        let (len, checksum) = (get_u32(&self.buffer, 0) as usize, get_u32(&self.buffer, 4));
        if len > max {
            return Err(Malformed::TooLong { len, max });
        }
        if self.buffer.len() < FRAME_HEAD_BYTES + len {
            return Ok(None);
        }
        let behind = self.buffer.split_off(FRAME_HEAD_BYTES + len);
        let mut body = Bytes::from(std::mem::replace(&mut self.buffer, behind));
        body.advance(FRAME_HEAD_BYTES);
        match crc32fast::hash(&body) == checksum {
            true => Ok(Some(body)),
            false => Err(Malformed::Checksum),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items() -> Vec<(GroupId, Item)> {
        let piece = |message: Option<&'static [u8]>| Piece {
            id: 3,
            index: Index(4),
            offset: 5,
            message: message.map(Bytes::from_static),
            bytes: Bytes::from_static(b"data"),
        };
        vec![
            (GroupId(1), Item::Message(Bytes::from_static(b"message"))),
            (GroupId(2), Item::Piece(piece(None))),
            (GroupId(2), Item::Piece(piece(Some(b"announced")))),
            (GroupId(u64::MAX), Item::Reached { id: 3, offset: 9, done: true }),
        ]
    }

    fn frame() -> Vec<u8> {
        let mut frame = begin_frame();
        items().iter().for_each(|(group, item)| item.encode(*group, &mut frame));
        finish_frame(frame)
    }

    #[test]
    fn frames_come_back_however_they_are_cut() {
        let bytes = [frame(), finish_frame(begin_frame()), frame()].concat();
        for step in [1, 7, 64, bytes.len()] {
            let (mut frames, mut seen) = (Frames::default(), Vec::new());
            for piece in bytes.chunks(step) {
                frames.feed(piece);
                while let Some(items) = frames.next_frame().expect("well-formed") {
                    seen.push(items);
                }
            }
            assert_eq!(seen, [items(), Vec::new(), items()]);
        }
    }

    #[test]
    fn a_flip_and_a_length_without_end_are_refused() {
        let whole = frame();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            let mut frames = Frames::default();
            frames.feed(&bytes);
            assert!(!matches!(frames.next_frame(), Ok(Some(_))), "byte {at}");
        }
        let mut frames = Frames::default();
        frames.feed(&[0xFF; 8]);
        assert_eq!(
            frames.next_frame(),
            Err(Malformed::TooLong { len: u32::MAX as usize, max: FRAME_BYTES_MAX })
        );
    }

    #[test]
    fn strangers_are_told_why() {
        let hello = Hello { cluster: 7, from: NodeId(1), to: NodeId(2), boot: 3, stream: 0 };
        let bytes = hello.encode();
        assert_eq!(Hello::decode(&bytes, 7, NodeId(2)), Ok(hello));
        let refusal = |cluster, node| {
            let judged = Hello::decode(&bytes, cluster, node);
            let told = check_answer(&answer(&judged, cluster, node), &hello);
            assert_eq!(judged.is_ok(), told.is_ok());
            told.err().map(|stranger| stranger.to_string()).unwrap_or_default()
        };
        assert_eq!(refusal(7, NodeId(2)), "");
        assert!(refusal(8, NodeId(2)).contains("cluster 0000000000000008"));
        assert!(refusal(7, NodeId(3)).contains("node 2 was meant, and node 3 is here"));
        assert!(refusal(7, NodeId(1)).contains("node 2 was meant"));
        // Who comes to ask may belong to nobody yet, or to the same cluster, and hears whom it has met.
        for (asking, welcome) in [(0, true), (7, true), (6, false)] {
            let hello = Hello::asking(asking, NodeId(0));
            let judged = Hello::decode(&hello.encode(), 7, NodeId(2));
            let told = check_answer(&answer(&judged, 7, NodeId(2)), &hello);
            assert_eq!((judged.is_ok(), told.ok()), (welcome, welcome.then_some((7, NodeId(2)))));
        }
        let mut older = bytes;
        older[8] = 9;
        assert_eq!(Hello::decode(&older, 7, NodeId(2)), Err(Stranger::Version(9)));
        assert_eq!(Hello::decode(&[b'x'; 64], 7, NodeId(2)), Err(Stranger::Foreign));
    }
}
