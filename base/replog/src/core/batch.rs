//! A batch: the records of one write, in whole blocks. Encoded straight into the buffers that go to the disk.
//!
//! ```text
//! payload of the batch = head (24 bytes), record, record, …, zeros to the end of the last block
//! record               = kind, flavour, length, group, index, term (32 bytes), bytes
//! ```
//!
//! The payload is cut into 496-byte pieces, one to a sector, each behind its stamp. Head and body have checksums
//! apart: the head's lengths are trusted only after its own has held.

use std::ops::DerefMut;

use bytes::Bytes;
use crc32fast::Hasher;

use crate::core::consensus::{HardState, Kind, Members};
use crate::core::format::{
    self, BLOCK_PAYLOAD, Position, SECTOR_PAYLOAD, STAMP_BYTES, Salt, get_u32, get_u64, put_u32, put_u64,
};
use crate::limits::{BLOCK_BYTES, SECTOR_BYTES};
use crate::{GroupId, Index, NodeId, Term};

/// Bytes of a batch's head.
pub(crate) const HEAD_BYTES: usize = 24;
/// Bytes in front of each record.
pub(crate) const RECORD_HEAD_BYTES: usize = 32;

const ENTRY: u8 = 1;
const TRUNCATED: u8 = 2;
const GROUP: u8 = 3;
const HARD_STATE: u8 = 4;
const MEMBERS: u8 = 5;
const RESTORED: u8 = 6;
const FORGOTTEN: u8 = 7;

/// Bytes of a group's state behind its head, its members aside.
const GROUP_BYTES: usize = 48;

/// One record of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// An entry of a group. One within the group's log takes the place of what was there, and of everything behind it.
    Entry { group: GroupId, index: Index, term: Term, kind: Kind, bytes: Bytes },
    /// Entries of the group up to here are no longer needed.
    Truncated { group: GroupId, through: Index, term: Term },
    /// The state of a group when a segment began.
    Group { group: GroupId, last: Index, state: State },
    /// What this node has promised in the group.
    HardState { group: GroupId, state: HardState },
    /// The members of the group, from an index on.
    Members { group: GroupId, since: Index, members: Members },
    /// The group begins anew behind here, with these members: none of its entries is needed.
    Restored { group: GroupId, at: Index, term: Term, members: Members },
    /// This node has left the group: nothing that was said of it before is true any more.
    Forgotten { group: GroupId },
}

/// What a log knows of a group beside its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// Entries up to here are no longer needed; with the term of the last of them.
    pub(crate) truncated: (Index, Term),
    pub(crate) hard_state: HardState,
    /// The members, and since which index. None at all: the group is not replicated.
    pub(crate) members: (Index, Members),
}

impl State {
    /// Bytes of the record with which a segment begins.
    pub(crate) fn record_bytes(&self) -> usize {
        RECORD_HEAD_BYTES + GROUP_BYTES + members_bytes(&self.members.1)
    }
}

fn members_bytes(members: &Members) -> usize {
    let mut bytes = Vec::new();
    members.encode(&mut bytes);
    bytes.len()
}

impl Record {
    /// Bytes of the record in a batch, its head among them.
    pub(crate) fn encoded_len(&self) -> usize {
        RECORD_HEAD_BYTES
            + match self {
                Record::Entry { bytes, .. } => bytes.len(),
                Record::Truncated { .. } | Record::Forgotten { .. } => 0,
                Record::Group { state, .. } => return state.record_bytes(),
                Record::HardState { .. } => 8,
                Record::Members { members, .. } | Record::Restored { members, .. } => members_bytes(members),
            }
    }
}

/// Blocks that a batch with `body_bytes` of records takes.
pub(crate) fn blocks_for(body_bytes: usize) -> u32 {
    let blocks = (HEAD_BYTES + body_bytes).div_ceil(BLOCK_PAYLOAD);
    u32::try_from(blocks).expect("a batch is far smaller than 2^32 blocks")
}

/// What a batch's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) blocks: u32,
    pub(crate) body_bytes: usize,
    pub(crate) records: u32,
    pub(crate) body_checksum: u32,
}

impl Head {
    fn encode(&self, salt: Salt, block: u32) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        put_u32(&mut head, 4, self.body_checksum);
        put_u32(&mut head, 8, u32::try_from(self.body_bytes).expect("bounded by the segment"));
        put_u32(&mut head, 12, self.blocks);
        put_u32(&mut head, 16, self.records);
        let checksum = head_checksum(&head, salt, block);
        put_u32(&mut head, 0, checksum);
        head
    }

    /// Reads the head of the batch that begins at `block`, from the payload of its first sector.
    pub(crate) fn decode(payload: &[u8], salt: Salt, block: u32) -> Option<Head> {
        let head = payload.get(..HEAD_BYTES)?;
        if get_u32(head, 0) != head_checksum(head, salt, block) {
            return None;
        }
        let decoded = Head {
            blocks: get_u32(head, 12),
            body_bytes: get_u32(head, 8) as usize,
            records: get_u32(head, 16),
            body_checksum: get_u32(head, 4),
        };
        (decoded.blocks == blocks_for(decoded.body_bytes)).then_some(decoded)
    }
}

fn head_checksum(head: &[u8], salt: Salt, block: u32) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&salted(salt, block));
    hasher.update(&head[4..]);
    hasher.finalize()
}

fn body_hasher(salt: Salt, block: u32) -> Hasher {
    let mut hasher = Hasher::new();
    hasher.update(&salted(salt, block));
    hasher
}

fn salted(salt: Salt, block: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    put_u64(&mut bytes, 0, salt.log);
    put_u32(&mut bytes, 8, salt.generation);
    put_u32(&mut bytes, 12, block);
    bytes
}

/// The body's checksum, for a reader who has it whole.
pub(crate) fn body_checksum(body: &[u8], salt: Salt, block: u32) -> u32 {
    let mut hasher = body_hasher(salt, block);
    hasher.update(body);
    hasher.finalize()
}

/// Writes `records` as the batch at `block` into `pieces`, whose lengths are multiples of a block and add up to
/// exactly the blocks that [`blocks_for`] asks. Whatever the pieces held before is overwritten.
pub(crate) fn encode<B: DerefMut<Target = [u8]>>(
    records: &[Record],
    salt: Salt,
    block: u32,
    watermark: Position,
    pieces: &mut [B],
) {
    let body_bytes = records.iter().map(Record::encoded_len).sum();
    let blocks = blocks_for(body_bytes);
    let room: usize = pieces.iter().map(|piece| piece.len()).sum();
    assert_eq!(room, blocks as usize * BLOCK_BYTES, "the buffers are as long as the batch");

    let mut body = body_hasher(salt, block);
    let mut cursor = Cursor { pieces, piece: 0, at: STAMP_BYTES };
    cursor.put(&[0; HEAD_BYTES]);
    for record in records {
        let (head, bytes, tail) = parts(record);
        for part in [&head[..], bytes, &tail[..]] {
            body.update(part);
            cursor.put(part);
        }
    }
    cursor.zero_the_rest();

    let head = Head { blocks, body_bytes, records: records.len() as u32, body_checksum: body.finalize() };
    pieces[0][STAMP_BYTES..STAMP_BYTES + HEAD_BYTES].copy_from_slice(&head.encode(salt, block));
    let sectors = pieces.iter_mut().flat_map(|piece| piece.chunks_exact_mut(SECTOR_BYTES));
    for (sector, number) in sectors.zip(format::first_sector(block)..) {
        format::stamp(sector, salt, number, watermark);
    }
}

/// A record's head, the bytes that it shares with its owner, and others.
fn parts(record: &Record) -> ([u8; RECORD_HEAD_BYTES], &[u8], Vec<u8>) {
    let (mut flavour, mut bytes, mut tail): (u8, &[u8], Vec<u8>) = (0, &[], Vec::new());
    let mut number = |number: u64| tail.extend_from_slice(&number.to_le_bytes());
    let (kind, group, index, term) = match record {
        Record::Entry { group, index, term, kind, bytes: entry } => {
            (flavour, bytes) = (kind.code(), entry);
            (ENTRY, group, *index, *term)
        }
        Record::Truncated { group, through, term } => (TRUNCATED, group, *through, *term),
        Record::Group { group, last, state } => {
            let State { truncated, hard_state, members } = state;
            let numbers =
                [truncated.0.0, truncated.1.0, hard_state.vote.0, hard_state.commit.0, members.0.0, 0];
            numbers.into_iter().for_each(number);
            members.1.encode(&mut tail);
            (GROUP, group, *last, hard_state.term)
        }
        Record::HardState { group, state } => {
            number(state.vote.0);
            (HARD_STATE, group, state.commit, state.term)
        }
        Record::Members { group, since, members } => {
            members.encode(&mut tail);
            (MEMBERS, group, *since, Term(0))
        }
        Record::Restored { group, at, term, members } => {
            members.encode(&mut tail);
            (RESTORED, group, *at, *term)
        }
        Record::Forgotten { group } => (FORGOTTEN, group, Index(0), Term(0)),
    };
    let mut head = [0; RECORD_HEAD_BYTES];
    (head[0], head[1]) = (kind, flavour);
    put_u32(&mut head, 4, (bytes.len() + tail.len()) as u32);
    put_u64(&mut head, 8, group.0);
    put_u64(&mut head, 16, index.0);
    put_u64(&mut head, 24, term.0);
    (head, bytes, tail)
}

/// Walks the payload of the pieces, stepping over the stamps.
struct Cursor<'a, B> {
    pieces: &'a mut [B],
    piece: usize,
    /// Offset in the piece; never inside a stamp, save at the end of a piece.
    at: usize,
}

impl<B: DerefMut<Target = [u8]>> Cursor<'_, B> {
    fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.sector_room();
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            self.at += now.len();
            bytes = later;
        }
    }

    fn zero_the_rest(&mut self) {
        loop {
            if self.at.is_multiple_of(SECTOR_BYTES) {
                self.at += STAMP_BYTES;
            }
            if self.at > self.pieces[self.piece].len() {
                if self.piece + 1 == self.pieces.len() {
                    return;
                }
                self.piece += 1;
                self.at = STAMP_BYTES;
            }
            let room = self.sector_room();
            let zeroed = room.len();
            room.fill(0);
            self.at += zeroed;
        }
    }

    /// What is left of the current sector's payload, never empty.
    fn sector_room(&mut self) -> &mut [u8] {
        if self.at.is_multiple_of(SECTOR_BYTES) {
            if self.at == self.pieces[self.piece].len() {
                self.piece += 1;
                self.at = 0;
            }
            self.at += STAMP_BYTES;
        }
        let end = self.at.next_multiple_of(SECTOR_BYTES);
        &mut self.pieces[self.piece][self.at..end]
    }
}

/// Takes a block's payload out from between its stamps.
pub(crate) fn payload(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    block.chunks_exact(SECTOR_BYTES).map(|sector| &sector[STAMP_BYTES..STAMP_BYTES + SECTOR_PAYLOAD])
}

/// Reads the records of a body whose checksum has held. `None`: it does not parse, which only a program that
/// writes another format can have caused.
pub(crate) fn decode(mut body: Bytes, records: u32) -> Option<Vec<Record>> {
    // Each record has a head, so a count that the body can't hold reserves nothing.
    let mut decoded = Vec::with_capacity((records as usize).min(body.len() / RECORD_HEAD_BYTES));
    for _ in 0..records {
        if body.len() < RECORD_HEAD_BYTES {
            return None;
        }
        let head = body.split_to(RECORD_HEAD_BYTES);
        let len = get_u32(&head, 4) as usize;
        if body.len() < len {
            return None;
        }
        decoded.push(record(&head, body.split_to(len))?);
    }
    body.is_empty().then_some(decoded)
}

/// Reads the records at the front of a body that ends too early. Of the last, only a part of the bytes may be there.
pub(crate) fn decode_front(mut body: Bytes, records: u32) -> Vec<Record> {
    let mut decoded = Vec::new();
    while decoded.len() < records as usize && body.len() >= RECORD_HEAD_BYTES {
        let head = body.split_to(RECORD_HEAD_BYTES);
        let len = (get_u32(&head, 4) as usize).min(body.len());
        let Some(record) = record(&head, body.split_to(len)) else { break };
        decoded.push(record);
    }
    decoded
}

fn record(head: &[u8], bytes: Bytes) -> Option<Record> {
    let group = GroupId(get_u64(head, 8));
    let (index, term) = (Index(get_u64(head, 16)), Term(get_u64(head, 24)));
    let members =
        |bytes: &[u8]| Members::decode(bytes).filter(|(_, rest)| rest.is_empty()).map(|(members, _)| members);
    Some(match (head[0], bytes.len()) {
        (ENTRY, _) => Record::Entry { group, index, term, kind: Kind::of(head[1])?, bytes },
        (TRUNCATED, 0) => Record::Truncated { group, through: index, term },
        (GROUP, GROUP_BYTES..) => {
            let number = |at: usize| get_u64(&bytes, at * 8);
            let state = State {
                truncated: (Index(number(0)), Term(number(1))),
                hard_state: HardState { term, vote: NodeId(number(2)), commit: Index(number(3)) },
                members: (Index(number(4)), members(&bytes[GROUP_BYTES..])?),
            };
            Record::Group { group, last: index, state }
        }
        (HARD_STATE, 8) => {
            let vote = NodeId(get_u64(&bytes, 0));
            Record::HardState { group, state: HardState { term, vote, commit: index } }
        }
        (MEMBERS, _) => Record::Members { group, since: index, members: members(&bytes)? },
        (FORGOTTEN, 0) => Record::Forgotten { group },
        (RESTORED, _) => Record::Restored { group, at: index, term, members: members(&bytes)? },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::format::{Sector, judge};

    const SALT: Salt = Salt { log: 9, generation: 3 };
    const MARK: Position = Position { generation: 3, block: 4 };

    fn round_trip(records: &[Record], piece_blocks: &[usize]) {
        let mut pieces: Vec<Vec<u8>> = piece_blocks.iter().map(|n| vec![0xEE; n * BLOCK_BYTES]).collect();
        encode(records, SALT, 4, MARK, &mut pieces);
        let bytes = pieces.concat();
        for (sector, number) in bytes.chunks_exact(SECTOR_BYTES).zip(format::first_sector(4)..) {
            assert_eq!(judge(sector, SALT, number), Sector::Written { watermark: MARK });
        }
        let whole: Vec<u8> = payload(&bytes).flatten().copied().collect();
        let head = Head::decode(&whole, SALT, 4).expect("the head holds");
        assert_eq!(head.blocks as usize, piece_blocks.iter().sum::<usize>());
        let body = Bytes::copy_from_slice(&whole[HEAD_BYTES..HEAD_BYTES + head.body_bytes]);
        assert_eq!(body_checksum(&body, SALT, 4), head.body_checksum);
        assert!(whole[HEAD_BYTES + head.body_bytes..].iter().all(|byte| *byte == 0));
        assert_eq!(decode(body, head.records).expect("parses"), records);
        assert_eq!(Head::decode(&whole, SALT, 5), None, "at its own place only");
    }

    fn entry(bytes: usize) -> Record {
        let bytes = Bytes::from(vec![0xAB; bytes]);
        Record::Entry { group: GroupId(1), index: Index(2), term: Term(3), kind: Kind::App, bytes }
    }

    #[test]
    fn batches_come_back_whatever_their_size() {
        round_trip(&[], &[1]);
        for bytes in [0, 1, 439, 440, 441, 3911, 3912] {
            round_trip(&[entry(bytes)], &[1]);
        }
        round_trip(&[entry(3913)], &[2]);
        round_trip(&[entry(40_000)], &[8, 2, 1]);
        let group = GroupId(u64::MAX);
        let members = Members::voters((1..=5).map(NodeId));
        let hard_state = HardState { term: Term(8), vote: NodeId(9), commit: Index(6) };
        let state =
            State { truncated: (Index(5), Term(2)), hard_state, members: (Index(4), members.clone()) };
        let state = Record::Group { group, last: Index(7), state };
        round_trip(&[Record::Group { group, last: Index(7), state: State::default() }], &[1]);
        let hard_state = Record::HardState { group, state: hard_state };
        let restored = Record::Restored { group, at: Index(3), term: Term(2), members: members.clone() };
        let members = Record::Members { group, since: Index(3), members };
        round_trip(&[Record::Forgotten { group }, hard_state, members, restored], &[1]);
        let truncated = Record::Truncated { group: GroupId(4), through: Index(1 << 60), term: Term(1) };
        round_trip(&[state, truncated, entry(10), entry(0)], &[1]);
    }

    #[test]
    fn a_body_with_something_left_over_or_missing_does_not_parse() {
        let mut pieces = vec![vec![0; BLOCK_BYTES]];
        encode(&[entry(10), entry(20)], SALT, 4, MARK, &mut pieces);
        let whole: Vec<u8> = payload(&pieces[0]).flatten().copied().collect();
        let body = Bytes::copy_from_slice(&whole[HEAD_BYTES..HEAD_BYTES + 94]);
        assert!(decode(body.clone(), 2).is_some());
        assert!(decode(body.clone(), 1).is_none());
        assert!(decode(body.clone(), 3).is_none());
        assert!(decode(body.slice(..93), 2).is_none());
        assert!(decode(body, u32::MAX).is_none());
    }
}
