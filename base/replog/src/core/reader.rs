//! One segment, block by block, read on past whatever is wrong in it: for people who want to know what there is.
//!
//! Judges nothing: whether a log can be used is for [`recovery`](super::recovery) alone. A batch is given as such only when
//! its checksums hold; of one that is broken, the records in front of the first bad sector are given with the bad blocks.

use std::ops::Range;

use bytes::Bytes;

use crate::core::batch::{self, HEAD_BYTES, Head, Record};
use crate::core::format::{self, Position, SECTORS, Salt, Sector, judge};
use crate::limits::SECTOR_BYTES;

/// What lies in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A batch that is whole.
    Batch { blocks: Range<u32>, watermark: Position, records: Vec<Record> },
    /// Blocks that are no batch, and are not free either.
    Bad(Bad),
}

/// Blocks that are no batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bad {
    pub(crate) blocks: Range<u32>,
    /// How many sectors of them were written and match, were never written, or were and don't match.
    pub(crate) written: u32,
    pub(crate) unwritten: u32,
    pub(crate) damaged: u32,
    /// What can still be read of batches that begin here; of the last record of each, perhaps only its head.
    pub(crate) records: Vec<Record>,
}

/// A batch of which some blocks have been seen.
#[derive(Debug)]
struct Open {
    head: Head,
    watermark: Position,
    start: u32,
    body: Vec<u8>,
}

/// Reads one segment: feed it the blocks in order, from block 1 on.
#[derive(Debug)]
pub(crate) struct Reader {
    salt: Salt,
    next: u32,
    open: Option<Open>,
    bad: Option<Bad>,
    /// Where blocks that were never written begin.
    free: Option<u32>,
}

impl Reader {
    pub(crate) fn new(salt: Salt) -> Reader {
        Reader { salt, next: 1, open: None, bad: None, free: None }
    }

    /// The next block; gives what it completes to `each`.
    pub(crate) fn feed(&mut self, block: &[u8], each: &mut impl FnMut(Piece)) {
        let number = self.next;
        self.next += 1;
        let sectors: Vec<Sector> = block
            .chunks_exact(SECTOR_BYTES)
            .zip(format::first_sector(number)..)
            .map(|(sector, place)| judge(sector, self.salt, place))
            .collect();
        let whole = sectors.iter().all(|sector| matches!(sector, Sector::Written { .. }));
        if let Some(open) = self.open.take() {
            return if whole { self.go_on(open, block, each) } else { self.broken(open, block, &sectors) };
        }
        match self.begins(block, &sectors, number) {
            Some(open) if whole => {
                self.end_bad(number, each);
                self.go_on(open, block, each);
            }
            Some(open) => self.broken(open, block, &sectors),
            None if sectors.iter().all(|sector| *sector == Sector::Unwritten) => {
                self.free.get_or_insert(number);
            }
            None => self.note_bad(number..number + 1, &sectors),
        }
    }

    /// The segment has ended; what is left goes to `each`.
    pub(crate) fn finish(mut self, each: &mut impl FnMut(Piece)) {
        if let Some(open) = self.open.take() {
            // More blocks than the segment has: only its head is right.
            self.note_whole(open.start..self.next);
        }
        self.bad.take().map(Piece::Bad).into_iter().for_each(each);
    }

    fn begins(&self, block: &[u8], sectors: &[Sector], number: u32) -> Option<Open> {
        let Some(Sector::Written { watermark }) = sectors.first() else { return None };
        let head = Head::decode(batch::payload(block).next()?, self.salt, number)?;
        Some(Open { head, watermark: *watermark, start: number, body: Vec::new() })
    }

    /// A whole block of a batch.
    fn go_on(&mut self, mut open: Open, block: &[u8], each: &mut impl FnMut(Piece)) {
        open.take(block, SECTORS);
        let Open { head, watermark, start, .. } = open;
        if self.next - start < head.blocks {
            self.open = Some(open);
            return;
        }
        let body = Bytes::from(open.body);
        let matches = batch::body_checksum(&body, self.salt, start) == head.body_checksum;
        match batch::decode(body, head.records).filter(|_| matches) {
            Some(records) => each(Piece::Batch { blocks: start..self.next, watermark, records }),
            None => self.note_whole(start..self.next),
        }
    }

    /// A block of a batch that has bad sectors.
    fn broken(&mut self, mut open: Open, block: &[u8], sectors: &[Sector]) {
        let number = self.next - 1;
        let good = sectors.iter().take_while(|sector| matches!(sector, Sector::Written { .. })).count();
        open.take(block, good);
        if open.start < number {
            self.note_whole(open.start..number);
        }
        self.note_bad(number..number + 1, sectors);
        let records = batch::decode_front(Bytes::from(open.body), open.head.records);
        self.bad.get_or_insert_default().records.extend(records);
    }

    /// Blocks whose sectors are whole each by itself.
    fn note_whole(&mut self, blocks: Range<u32>) {
        let written = (blocks.end - blocks.start) * SECTORS as u32;
        self.extend_bad(blocks).written += written;
    }

    fn note_bad(&mut self, blocks: Range<u32>, sectors: &[Sector]) {
        let bad = self.extend_bad(blocks);
        for sector in sectors {
            match sector {
                Sector::Written { .. } => bad.written += 1,
                Sector::Unwritten => bad.unwritten += 1,
                Sector::Damaged => bad.damaged += 1,
            }
        }
    }

    /// The bad blocks now reach to the end of `blocks`, over free ones between.
    fn extend_bad(&mut self, blocks: Range<u32>) -> &mut Bad {
        let free = self.free.take();
        let bad = self.bad.get_or_insert_with(|| Bad { blocks: blocks.clone(), ..Bad::default() });
        if let Some(free) = free.filter(|free| *free >= bad.blocks.start) {
            bad.unwritten += (blocks.start - free) * SECTORS as u32;
        }
        bad.blocks.end = blocks.end;
        bad
    }

    /// A batch begins: free blocks in front of it are none, as batches follow each other.
    fn end_bad(&mut self, number: u32, each: &mut impl FnMut(Piece)) {
        if let Some(free) = self.free.take() {
            let unwritten = (number - free) * SECTORS as u32;
            let bad = self.bad.get_or_insert_with(|| Bad { blocks: free..number, ..Bad::default() });
            bad.unwritten += unwritten;
            bad.blocks.end = number;
        }
        self.bad.take().map(Piece::Bad).into_iter().for_each(each);
    }
}

impl Open {
    /// Takes the payload of the first `sectors` sectors of the batch's next block.
    fn take(&mut self, block: &[u8], sectors: usize) {
        let mut skip = if self.body.is_empty() { HEAD_BYTES } else { 0 };
        for piece in batch::payload(block).take(sectors) {
            let piece = &piece[skip..];
            skip = 0;
            let wanted = piece.len().min(self.head.body_bytes - self.body.len());
            self.body.extend_from_slice(&piece[..wanted]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::consensus::Kind;
    use crate::limits::BLOCK_BYTES;
    use crate::{GroupId, Index, Term};

    const SALT: Salt = Salt { log: 5, generation: 2 };
    const MARK: Position = Position { generation: 2, block: 1 };

    fn entry(index: u64, bytes: usize) -> Record {
        let (group, index, term) = (GroupId(1), Index(index), Term(3));
        Record::Entry { group, index, term, kind: Kind::App, bytes: Bytes::from(vec![index.0 as u8; bytes]) }
    }

    /// Batches at blocks 1, 2 to 4 and 5, then three free blocks.
    fn segment() -> Vec<u8> {
        let put = |block: u32, records: &[Record], blocks: usize| {
            let mut pieces = [vec![0; blocks * BLOCK_BYTES]];
            batch::encode(records, SALT, block, MARK, &mut pieces);
            pieces.concat()
        };
        let middle = [entry(2, 3000), entry(3, 3000), entry(4, 3000)];
        [put(1, &[entry(1, 9)], 1), put(2, &middle, 3), put(5, &[entry(5, 9)], 1), vec![0; 3 * BLOCK_BYTES]]
            .concat()
    }

    fn read(segment: &[u8]) -> (Vec<u64>, Vec<Bad>) {
        let (mut indexes, mut bad) = (Vec::new(), Vec::new());
        let mut each = |piece| match piece {
            Piece::Bad(found) => bad.push(found),
            Piece::Batch { records, .. } => indexes.extend(records.iter().map(index)),
        };
        let mut reader = Reader::new(SALT);
        segment.chunks_exact(BLOCK_BYTES).for_each(|block| reader.feed(block, &mut each));
        reader.finish(&mut each);
        (indexes, bad)
    }

    fn index(record: &Record) -> u64 {
        match record {
            Record::Entry { index, .. } => index.0,
            _ => unreachable!("there are only entries"),
        }
    }

    #[test]
    fn what_is_whole_is_read_and_free_blocks_are_nothing() {
        assert_eq!(read(&segment()), (vec![1, 2, 3, 4, 5], vec![]));
    }

    #[test]
    fn it_reads_on_behind_a_flip_and_says_what_was_hit() {
        let mut bytes = segment();
        // In the second block of the batch of three.
        bytes[2 * BLOCK_BYTES + 700] ^= 1;
        let (indexes, bad) = read(&bytes);
        assert_eq!((indexes, bad.len()), (vec![1, 5], 1));
        let bad = &bad[0];
        assert_eq!((bad.blocks.clone(), bad.damaged, bad.unwritten, bad.written), (2..5, 1, 0, 23));
        assert_eq!(bad.records.iter().map(index).collect::<Vec<_>>(), [2, 3], "the second only by its head");
    }

    #[test]
    fn blocks_that_are_gone_between_batches_are_bad() {
        let mut bytes = segment();
        bytes[BLOCK_BYTES..4 * BLOCK_BYTES].fill(0);
        let (indexes, bad) = read(&bytes);
        assert_eq!((indexes, bad.len()), (vec![1, 5], 1));
        assert_eq!((bad[0].blocks.clone(), bad[0].unwritten), (2..5, 24));
        bytes[0..BLOCK_BYTES].fill(0);
        let (indexes, bad) = read(&bytes);
        assert_eq!((indexes, bad[0].blocks.clone()), (vec![5], 1..5));
    }

    #[test]
    fn a_torn_end_is_bad_up_to_where_something_was_written() {
        let mut bytes = segment();
        let end = 4 * BLOCK_BYTES;
        bytes[end + SECTOR_BYTES..end + 2 * SECTOR_BYTES].fill(0);
        let (indexes, bad) = read(&bytes);
        assert_eq!(indexes, [1, 2, 3, 4]);
        assert_eq!((bad[0].blocks.clone(), bad[0].unwritten, bad[0].written), (5..6, 1, 7));
        assert_eq!(bad[0].records.iter().map(index).collect::<Vec<_>>(), [5]);
    }
}
