//! What lies in a segment file: its header (block 0) and the stamp on every 512-byte sector after it.
//! docs/formats/wal.md draws both.
//!
//! A sector is the largest thing that every disk writes whole or not at all. So each carries a stamp of its own, and
//! recovery can tell a sector that a crash left *unwritten* (zeros, or what an earlier generation wrote there)
//! from one that was written and has since been *damaged* (neither).

use crc32fast::Hasher;

use crate::limits::{BLOCK_BYTES, SECTOR_BYTES, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};

/// The format that this program writes, and the only one it reads.
pub(crate) const VERSION: u32 = 2;
const MAGIC: [u8; 8] = *b"MILLRWAL";

/// Bytes of a sector that its stamp takes.
pub(crate) const STAMP_BYTES: usize = 16;
/// Bytes of a sector that are left for the batch.
pub(crate) const SECTOR_PAYLOAD: usize = SECTOR_BYTES - STAMP_BYTES;
/// Sectors in a block.
pub(crate) const SECTORS: usize = BLOCK_BYTES / SECTOR_BYTES;
/// Bytes of a block that are left for the batch.
pub(crate) const BLOCK_PAYLOAD: usize = SECTORS * SECTOR_PAYLOAD;

/// A place in the log: a block of a segment. Ordered as the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) generation: u32,
    pub(crate) block: u32,
}

/// What makes one log's checksums different from another's, and one segment's from its earlier lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Salt {
    /// Drawn when the log was made; the same in all its segments.
    pub(crate) log: u64,
    /// The segment's generation: a file that is used again gets a new one.
    pub(crate) generation: u32,
}

/// A segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) salt: Salt,
    pub(crate) segment_bytes: u64,
}

/// Why a header can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    /// Not written by this program at all.
    Foreign,
    /// Another version of the format.
    Version(u32),
    /// Ours, and damaged.
    Damaged,
}

impl Header {
    /// Writes the header into `block`, the first of its segment.
    pub(crate) fn encode(&self, block: &mut [u8]) {
        assert_eq!(block.len(), BLOCK_BYTES);
        block.fill(0);
        block[0..8].copy_from_slice(&MAGIC);
        put_u32(block, 8, VERSION);
        put_u64(block, 16, self.salt.log);
        put_u64(block, 24, self.segment_bytes);
        put_u32(block, 32, self.salt.generation);
        put_u32(block, 36, BLOCK_BYTES as u32);
        let checksum = crc32fast::hash(&block[16..SECTOR_BYTES]);
        put_u32(block, 12, checksum);
    }

    pub(crate) fn decode(block: &[u8]) -> Result<Header, BadHeader> {
        if block.len() < SECTOR_BYTES || block[0..8] != MAGIC {
            return Err(BadHeader::Foreign);
        }
        let version = get_u32(block, 8);
        if version != VERSION {
            return Err(BadHeader::Version(version));
        }
        if get_u32(block, 12) != crc32fast::hash(&block[16..SECTOR_BYTES])
            || get_u32(block, 36) as usize != BLOCK_BYTES
        {
            return Err(BadHeader::Damaged);
        }
        let salt = Salt { log: get_u64(block, 16), generation: get_u32(block, 32) };
        let segment_bytes = get_u64(block, 24);
        let sensible = (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&segment_bytes)
            && segment_bytes.is_multiple_of(BLOCK_BYTES as u64)
            && salt.generation > 0;
        if sensible { Ok(Header { salt, segment_bytes }) } else { Err(BadHeader::Damaged) }
    }
}

/// What a sector turned out to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sector {
    /// Zeros, or whole from an earlier generation: this generation never wrote it.
    Unwritten,
    /// Written by this generation, and whole. All before `watermark` was durable when it was written.
    Written { watermark: Position },
    /// None of these: written, and damaged since.
    Damaged,
}

/// Stamps `sector`, whose payload is in place, as number `number` of its segment.
pub(crate) fn stamp(sector: &mut [u8], salt: Salt, number: u64, watermark: Position) {
    put_u32(sector, 4, salt.generation);
    put_u32(sector, 8, watermark.generation);
    put_u32(sector, 12, watermark.block);
    let checksum = sector_checksum(sector, salt.log, number);
    put_u32(sector, 0, checksum);
}

/// Judges sector `number` of a segment.
pub(crate) fn judge(sector: &[u8], salt: Salt, number: u64) -> Sector {
    let generation = get_u32(sector, 4);
    if generation > salt.generation {
        return Sector::Damaged;
    }
    if generation == 0 {
        return if *sector == [0; SECTOR_BYTES] { Sector::Unwritten } else { Sector::Damaged };
    }
    if get_u32(sector, 0) != sector_checksum(sector, salt.log, number) {
        return Sector::Damaged;
    }
    if generation < salt.generation {
        return Sector::Unwritten;
    }
    Sector::Written { watermark: Position { generation: get_u32(sector, 8), block: get_u32(sector, 12) } }
}

/// The number of a block's first sector.
pub(crate) fn first_sector(block: u32) -> u64 {
    u64::from(block) * SECTORS as u64
}

/// Over the log's number, the sector's place and all of the sector but the checksum itself. The generation is in there.
fn sector_checksum(sector: &[u8], log: u64, number: u64) -> u32 {
    let mut hasher = Hasher::new();
    let mut place = [0; 16];
    put_u64(&mut place, 0, log);
    put_u64(&mut place, 8, number);
    hasher.update(&place);
    hasher.update(&sector[4..SECTOR_BYTES]);
    hasher.finalize()
}

pub(crate) fn get_u32(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

pub(crate) fn get_u64(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}

pub(crate) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: Salt = Salt { log: 77, generation: 5 };
    const MARK: Position = Position { generation: 5, block: 9 };

    #[test]
    fn a_header_comes_back_and_every_flip_in_it_is_noticed() {
        let header = Header { salt: SALT, segment_bytes: 1 << 20 };
        let mut block = vec![0; BLOCK_BYTES];
        header.encode(&mut block);
        assert_eq!(Header::decode(&block), Ok(header));
        for bit in 0..SECTOR_BYTES * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&block).is_err(), "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn another_version_and_another_program_are_told_apart() {
        let mut block = vec![0; BLOCK_BYTES];
        assert_eq!(Header::decode(&block), Err(BadHeader::Foreign));
        Header { salt: SALT, segment_bytes: 1 << 20 }.encode(&mut block);
        put_u32(&mut block, 8, 1);
        assert_eq!(Header::decode(&block), Err(BadHeader::Version(1)));
    }

    #[test]
    fn a_sector_is_written_unwritten_or_damaged() {
        let mut sector = vec![0; SECTOR_BYTES];
        assert_eq!(judge(&sector, SALT, 3), Sector::Unwritten);
        sector[100] = 1;
        assert_eq!(judge(&sector, SALT, 3), Sector::Damaged);
        stamp(&mut sector, SALT, 3, MARK);
        assert_eq!(judge(&sector, SALT, 3), Sector::Written { watermark: MARK });
        assert_eq!(judge(&sector, SALT, 4), Sector::Damaged, "misdirected");
        let later = Salt { generation: 6, ..SALT };
        assert_eq!(judge(&sector, later, 3), Sector::Unwritten, "an earlier generation's");
        let earlier = Salt { generation: 4, ..SALT };
        assert_eq!(judge(&sector, earlier, 3), Sector::Damaged, "from the future");
        assert_eq!(judge(&sector, Salt { log: 78, ..SALT }, 3), Sector::Damaged, "another log's");
    }

    #[test]
    fn every_flip_in_a_sector_is_damage_even_read_by_a_later_generation() {
        let mut sector: Vec<u8> = (0..SECTOR_BYTES).map(|at| at as u8).collect();
        stamp(&mut sector, SALT, 3, MARK);
        for bit in 0..SECTOR_BYTES * 8 {
            sector[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(judge(&sector, SALT, 3), Sector::Damaged, "bit {bit}");
            sector[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
