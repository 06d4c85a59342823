//! One segment, block by block, from the front: the whole batches, and what lies behind the last of them.
//!
//! Decides nothing: whether what lies behind is a torn tail or damage is for [`recovery`](super::recovery), which
//! sees all segments.

use std::ops::Range;

use bytes::Bytes;

use crate::core::batch::{self, HEAD_BYTES, Head, Record};
use crate::core::format::{self, Position, Salt, Sector, judge};
use crate::limits::{BLOCK_BYTES, SECTOR_BYTES};

/// A batch that is there whole.
#[derive(Debug)]
pub(crate) struct Whole {
    /// Its first block.
    pub(crate) block: u32,
    pub(crate) records: Vec<Record>,
}

/// What a scan found behind the last whole batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// The first block behind the last whole batch.
    pub(crate) end: u32,
    /// Blocks from `end` on in which this generation wrote anything, from the first such to the last.
    pub(crate) touched: Option<Range<u32>>,
    /// The first block from `end` on that is not whole. Absent: the segment is full.
    pub(crate) first_not_whole: Option<u32>,
    /// The first block from `end` on with damage in it, and what is wrong.
    pub(crate) damaged: Option<(u32, &'static str)>,
    /// The highest watermark in the segment: all before it was durable once. Absent: this generation wrote nothing.
    pub(crate) durable: Option<Position>,
    /// The lowest watermark in the segment: that of its first batch, if anything of that is left.
    pub(crate) begins: Option<Position>,
}

/// The scan of one segment. Feed it the segment's blocks in order, from block 1 (after the header) to its end.
#[derive(Debug)]
pub(crate) struct Scan {
    salt: Salt,
    blocks: u32,
    next: u32,
    open: Option<Open>,
    in_tail: bool,
    tail: Tail,
}

/// A batch of which some blocks have been seen.
#[derive(Debug)]
struct Open {
    head: Head,
    body: Vec<u8>,
    blocks_seen: u32,
}

enum Block {
    Whole,
    Unwritten,
    Torn,
    Damaged,
}

impl Scan {
    /// Of a segment with `blocks` blocks, the header's among them.
    pub(crate) fn new(salt: Salt, blocks: u32) -> Scan {
        let tail =
            Tail { end: 1, touched: None, first_not_whole: None, damaged: None, durable: None, begins: None };
        Scan { salt, blocks, next: 1, open: None, in_tail: false, tail }
    }

    /// The next block of the segment; gives a batch when this block makes it whole.
    pub(crate) fn feed(&mut self, block: &[u8]) -> Option<Whole> {
        assert!(block.len() == BLOCK_BYTES && self.next < self.blocks, "as many blocks as the segment has");
        let number = self.next;
        self.next += 1;
        let seen = self.look(block, number);
        match seen {
            Block::Whole if !self.in_tail => self.take(block, number),
            _ => {
                self.behind(&seen, number);
                None
            }
        }
    }

    /// The first block behind the last batch that was whole so far.
    pub(crate) fn whole_until(&self) -> u32 {
        self.tail.end
    }

    /// All blocks have been fed.
    pub(crate) fn finish(self) -> Tail {
        assert_eq!(self.next, self.blocks, "the whole segment was read");
        self.tail
    }

    fn look(&mut self, block: &[u8], number: u32) -> Block {
        let (mut written, mut unwritten, mut damaged) = (false, false, false);
        for (sector, place) in block.chunks_exact(SECTOR_BYTES).zip(format::first_sector(number)..) {
            match judge(sector, self.salt, place) {
                Sector::Unwritten => unwritten = true,
                Sector::Damaged => damaged = true,
                Sector::Written { watermark } => {
                    written = true;
                    self.tail.durable = self.tail.durable.max(Some(watermark));
                    self.tail.begins =
                        Some(self.tail.begins.map_or(watermark, |lowest| lowest.min(watermark)));
                }
            }
        }
        // From the end of the last whole batch on; `take` forgets it again when the batch becomes whole.
        if written {
            let from = self.tail.touched.as_ref().map_or(number, |touched| touched.start);
            self.tail.touched = Some(from..number + 1);
        }
        match (written, unwritten, damaged) {
            (_, _, true) => Block::Damaged,
            (true, false, false) => Block::Whole,
            (true, true, false) => Block::Torn,
            (false, ..) => Block::Unwritten,
        }
    }

    /// A whole block where the next batch begins or goes on.
    fn take(&mut self, block: &[u8], number: u32) -> Option<Whole> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => match self.begin(block, number) {
                Some(open) => open,
                None => {
                    self.wrong(number, "the head of a batch does not match its checksum");
                    return None;
                }
            },
        };
        let skip = if open.blocks_seen == 0 { HEAD_BYTES } else { 0 };
        let mut skip = skip;
        for piece in batch::payload(block) {
            let piece = &piece[skip..];
            skip = 0;
            let wanted = piece.len().min(open.head.body_bytes - open.body.len());
            open.body.extend_from_slice(&piece[..wanted]);
        }
        open.blocks_seen += 1;
        if open.blocks_seen < open.head.blocks {
            self.open = Some(open);
            return None;
        }
        self.complete(open)
    }

    fn begin(&self, block: &[u8], number: u32) -> Option<Open> {
        let first = batch::payload(block).next()?;
        let head = Head::decode(first, self.salt, number)?;
        if head.blocks > self.blocks - number {
            return None;
        }
        // The head's checksum has held and its length fits the segment, so this much is really there to be read.
        Some(Open { head, body: Vec::with_capacity(head.body_bytes), blocks_seen: 0 })
    }

    fn complete(&mut self, open: Open) -> Option<Whole> {
        let start = self.tail.end;
        if batch::body_checksum(&open.body, self.salt, start) != open.head.body_checksum {
            self.wrong(start, "the body of a batch does not match its checksum");
            return None;
        }
        let Some(records) = batch::decode(Bytes::from(open.body), open.head.records) else {
            self.wrong(start, "a batch holds records that this version does not know");
            return None;
        };
        self.tail.end = self.next;
        self.tail.touched = None;
        Some(Whole { block: start, records })
    }

    fn wrong(&mut self, block: u32, what: &'static str) {
        self.in_tail = true;
        self.tail.first_not_whole.get_or_insert(block);
        self.tail.damaged.get_or_insert((block, what));
    }

    fn behind(&mut self, seen: &Block, number: u32) {
        self.in_tail = true;
        self.open = None;
        if !matches!(seen, Block::Whole) {
            self.tail.first_not_whole.get_or_insert(number);
        }
        if matches!(seen, Block::Damaged) {
            self.tail.damaged.get_or_insert((number, "a block was written and does not match its checksum"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::consensus::Kind;
    use crate::{GroupId, Index, Term};

    const SALT: Salt = Salt { log: 5, generation: 2 };
    const MARK: Position = Position { generation: 1, block: 40 };

    /// The blocks of one batch at block 1 of a segment of 8.
    fn batch() -> Vec<u8> {
        let bytes = Bytes::from(vec![0x5A; 9000]);
        let (group, index, term) = (GroupId(1), Index(1), Term(0));
        let records = [Record::Entry { group, index, term, kind: Kind::App, bytes }];
        let mut blocks = [vec![0; 3 * BLOCK_BYTES]];
        batch::encode(&records, SALT, 1, MARK, &mut blocks);
        blocks.concat()
    }

    fn scan(blocks: &[u8]) -> (usize, Tail) {
        let mut scan = Scan::new(SALT, 8);
        let mut whole = 0;
        let padded = [blocks, &vec![0; 7 * BLOCK_BYTES - blocks.len()]].concat();
        for block in padded.chunks_exact(BLOCK_BYTES) {
            whole += scan.feed(block).into_iter().count();
        }
        (whole, scan.finish())
    }

    #[test]
    fn a_whole_batch_leaves_nothing_behind_it() {
        let (whole, tail) = scan(&batch());
        assert_eq!((whole, tail.end, tail.touched, tail.damaged), (1, 4, None, None));
        assert_eq!((tail.durable, tail.begins), (Some(MARK), Some(MARK)));
    }

    #[test]
    fn a_batch_without_one_of_its_sectors_is_torn() {
        for sector in 0..24 {
            let mut blocks = batch();
            blocks[sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES].fill(0);
            let (whole, tail) = scan(&blocks);
            assert_eq!((whole, tail.end, tail.damaged), (0, 1, None), "sector {sector}");
            assert_eq!(tail.touched, Some(1..4), "sector {sector}");
        }
    }

    #[test]
    fn sectors_that_hold_each_by_itself_and_not_together_are_damage() {
        let mut blocks = batch();
        blocks[BLOCK_BYTES + 100] ^= 1;
        let number = format::first_sector(2);
        format::stamp(&mut blocks[BLOCK_BYTES..BLOCK_BYTES + SECTOR_BYTES], SALT, number, MARK);
        let (whole, tail) = scan(&blocks);
        assert_eq!((whole, tail.end), (0, 1));
        assert_eq!(tail.damaged, Some((1, "the body of a batch does not match its checksum")));
    }
}
