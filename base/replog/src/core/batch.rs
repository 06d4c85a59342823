//! A batch: the records of one write, in whole blocks. Encoded straight into the buffers that go to the disk.
//!
//! ```text
//! payload of the batch = head (24 bytes), record, record, …, zeros to the end of the last block
//! record               = kind, length, group, index (24 bytes), bytes
//! ```
//!
//! The payload is cut into 496-byte pieces, one to a sector, each behind its stamp. Head and body have checksums
//! apart: the head's lengths are trusted only after its own has held.

use std::ops::DerefMut;

use bytes::{Buf, Bytes};
use crc32fast::Hasher;

use crate::core::format::{
    self, BLOCK_PAYLOAD, Position, SECTOR_PAYLOAD, STAMP_BYTES, Salt, get_u32, get_u64, put_u32, put_u64,
};
use crate::limits::{BLOCK_BYTES, SECTOR_BYTES};
use crate::{GroupId, Index};

/// Bytes of a batch's head.
pub(crate) const HEAD_BYTES: usize = 24;
/// Bytes in front of each record.
pub(crate) const RECORD_HEAD_BYTES: usize = 24;

const ENTRY: u8 = 1;
const TRUNCATED: u8 = 2;
const GROUP: u8 = 3;

/// One record of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// An entry of a group.
    Entry { group: GroupId, index: Index, bytes: Bytes },
    /// Entries of the group up to here are no longer needed.
    Truncated { group: GroupId, through: Index },
    /// The state of a group when a segment began.
    Group { group: GroupId, last: Index, truncated: Index },
}

impl Record {
    /// Bytes of the record in a batch, its head among them.
    pub(crate) fn encoded_len(&self) -> usize {
        RECORD_HEAD_BYTES
            + match self {
                Record::Entry { bytes, .. } => bytes.len(),
                Record::Truncated { .. } => 0,
                Record::Group { .. } => 8,
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

fn parts(record: &Record) -> ([u8; RECORD_HEAD_BYTES], &[u8], Vec<u8>) {
    let (kind, group, index, bytes, tail): (u8, &GroupId, &Index, &[u8], Vec<u8>) = match record {
        Record::Entry { group, index, bytes } => (ENTRY, group, index, bytes, Vec::new()),
        Record::Truncated { group, through } => (TRUNCATED, group, through, &[], Vec::new()),
        Record::Group { group, last, truncated } => {
            (GROUP, group, last, &[], truncated.0.to_le_bytes().to_vec())
        }
    };
    let mut head = [0; RECORD_HEAD_BYTES];
    head[0] = kind;
    put_u32(&mut head, 4, (bytes.len() + tail.len()) as u32);
    put_u64(&mut head, 8, group.0);
    put_u64(&mut head, 16, index.0);
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
        let (kind, len) = (body[0], get_u32(&body, 4) as usize);
        let (group, index) = (GroupId(get_u64(&body, 8)), Index(get_u64(&body, 16)));
        body.advance(RECORD_HEAD_BYTES);
        if body.len() < len {
            return None;
        }
        let bytes = body.split_to(len);
        decoded.push(match (kind, len) {
            (ENTRY, _) => Record::Entry { group, index, bytes },
            (TRUNCATED, 0) => Record::Truncated { group, through: index },
            (GROUP, 8) => Record::Group { group, last: index, truncated: Index(get_u64(&bytes, 0)) },
            _ => return None,
        });
    }
    body.is_empty().then_some(decoded)
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
        Record::Entry { group: GroupId(1), index: Index(2), bytes: Bytes::from(vec![0xAB; bytes]) }
    }

    #[test]
    fn batches_come_back_whatever_their_size() {
        round_trip(&[], &[1]);
        for bytes in [0, 1, 447, 448, 449, 3919, 3920] {
            round_trip(&[entry(bytes)], &[1]);
        }
        round_trip(&[entry(3921)], &[2]);
        round_trip(&[entry(40_000)], &[8, 2, 1]);
        let state = Record::Group { group: GroupId(u64::MAX), last: Index(7), truncated: Index(5) };
        let truncated = Record::Truncated { group: GroupId(4), through: Index(1 << 60) };
        round_trip(&[state, truncated, entry(10), entry(0)], &[1]);
    }

    #[test]
    fn a_body_with_something_left_over_or_missing_does_not_parse() {
        let mut pieces = vec![vec![0; BLOCK_BYTES]];
        encode(&[entry(10), entry(20)], SALT, 4, MARK, &mut pieces);
        let whole: Vec<u8> = payload(&pieces[0]).flatten().copied().collect();
        let body = Bytes::copy_from_slice(&whole[HEAD_BYTES..HEAD_BYTES + 78]);
        assert!(decode(body.clone(), 2).is_some());
        assert!(decode(body.clone(), 1).is_none());
        assert!(decode(body.clone(), 3).is_none());
        assert!(decode(body.slice(..77), 2).is_none());
        assert!(decode(body, u32::MAX).is_none());
    }
}
