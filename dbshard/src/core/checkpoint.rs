//! A shard's keys as a file, written a piece at a time while the shard goes on.
//!
//! The file is a head, chunks and an end. A chunk holds the keys of a stretch of the walk order (see [`super::table`]) as
//! effects that make them, and the index of the last log entry that is in them. Entries up to a chunk's index are skipped
//! for its keys when the log is replayed over it, so that every effect counts exactly once, though the chunks are of
//! different moments. The head names the index of the entry after which the walk began: entries up to it are in every chunk
//! and may leave the log once the file is in place.
//!
//! A flush makes a walk worthless (its chunks would bring keys back), and so does the loss of the leadership, which takes back
//! what was not committed: the writer starts anew.
//!
//! Format: docs/formats/dbshard-checkpoint.md. Every frame is `length (4 bytes), CRC-32 (4 bytes), body`, little-endian.

use std::collections::VecDeque;

use super::effect;
use super::entry::{Entry, Value};
use super::key::{KEY_BYTES_MAX, Key};
use super::keyspace::Keyspace;
use super::overlay::ENTRY_BYTES_MAX;
use super::shard::Shard;
use super::table::Keyed;

/// What a head begins with: the format and its version.
pub const MAGIC: [u8; 8] = *b"mrshard1";
/// A chunk is closed once it holds so many bytes; one entry more may be in it.
pub const CHUNK_BYTES: usize = 256 << 10;
/// A chunk is closed once it holds so many keys.
const CHUNK_KEYS: usize = 1024;
/// Effects that make one hash hold so many bytes each at most, but for one field more.
const HASH_EFFECT_BYTES: usize = 1 << 20;
/// A chunk goes on in another frame once a frame holds so many bytes; one effect more may be in it.
const FRAME_BYTES: usize = 64 << 20;
/// The longest frame that is read.
pub const FRAME_BYTES_MAX: usize = 1 << 30;
// An effect has at most what one entry of the log brought, beside what it is gathered with.
const _: () = assert!(FRAME_BYTES + HASH_EFFECT_BYTES + ENTRY_BYTES_MAX + KEY_BYTES_MAX < FRAME_BYTES_MAX);

const HEAD: u8 = 1;
const CHUNK: u8 = 2;
const END: u8 = 3;

/// Why a file is no checkpoint that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It does not begin as one, or with another version.
    #[error("not a checkpoint of this version")]
    Version,
    /// It is of another shard.
    #[error("it is the checkpoint of another shard")]
    OtherShard,
    /// A frame's bytes are not what was written.
    #[error("the frame at byte {0} is damaged")]
    Damaged(u64),
    /// It does not hold as many keys as it says.
    #[error("it says that it holds {said} keys, but holds {found}")]
    Keys {
        /// As its end says.
        said: u64,
        /// As they were read.
        found: u64,
    },
    /// It has no end.
    #[error("it ends at byte {0} without its last frame")]
    Cut(u64),
}

fn frame(kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    bytes.push(kind);
    write(&mut bytes);
    let body = &bytes[8..];
    let (length, checksum) = (body.len() as u32, crc32fast::hash(body));
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// A walk under way.
#[derive(Debug)]
pub struct Writer {
    group: u64,
    started: u64,
    cursor: Option<u64>,
    /// Frames of the chunk that was last taken.
    frames: VecDeque<Vec<u8>>,
    /// The last index in any chunk: the file may be put in place once it is committed.
    last: u64,
    keys: u64,
    chunks: u64,
    upheavals: u64,
}

impl Writer {
    /// Begins a walk. Every effect so far must have been proposed: the open batch is empty.
    ///
    /// # Panics
    /// If it is not.
    #[must_use]
    pub fn new(shard: &Shard, group: u64) -> (Self, Vec<u8>) {
        assert!(shard.batch().is_none(), "a checkpoint begins between batches");
        let started = shard.last_index();
        let head = frame(HEAD, |out| {
            out.extend_from_slice(&MAGIC);
            for number in [group, started, shard.keyspace().hasher().seed()] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            let slots = shard.keyspace().slots();
            out.extend_from_slice(&slots.start.to_le_bytes());
            out.extend_from_slice(&slots.end.to_le_bytes());
        });
        let upheavals = shard.upheavals();
        let (cursor, frames) = (Some(0), VecDeque::new());
        (Self { group, started, cursor, frames, last: started, keys: 0, chunks: 0, upheavals }, head)
    }

    /// Entries up to this one may leave the log once the file is in place.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.started
    }

    /// The file may be put in place once this entry is committed.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The shard's group in the log.
    #[must_use]
    pub fn group(&self) -> u64 {
        self.group
    }

    /// Whether all keys were deleted, taken back or replaced since: the walk is worth nothing any more.
    #[must_use]
    pub fn is_void(&self, shard: &Shard) -> bool {
        shard.upheavals() != self.upheavals
    }

    /// The next piece of the file; `None` after the last. The open batch must be empty.
    ///
    /// # Panics
    /// If it is not.
    pub fn next(&mut self, shard: &Shard) -> Option<Vec<u8>> {
        assert!(shard.batch().is_none(), "a chunk is taken between batches");
        if self.frames.is_empty() {
            self.take_chunk(shard);
        }
        self.frames.pop_front()
    }

    /// Takes the keys of the next stretch, mostly as one frame; a hash of any size makes as many as it needs.
    fn take_chunk(&mut self, shard: &Shard) {
        let Some(from) = self.cursor else { return };
        self.last = shard.last_index();
        let (mut full, mut effects, mut keys, mut cursor) = (Vec::new(), Vec::new(), 0, Some(from));
        while let Some(at) = cursor {
            if effects.len() >= CHUNK_BYTES || !full.is_empty() || keys >= CHUNK_KEYS {
                break;
            }
            // Few at a time where they are large.
            let each = effects.len().checked_div(keys).unwrap_or(CHUNK_BYTES);
            let count = (CHUNK_BYTES / each.max(1)).clamp(1, 64);
            cursor = shard.keyspace().scan(at, count, |_, entry| {
                keys += 1;
                put_entry(&mut effects, &mut full, entry);
            });
        }
        self.cursor = cursor;
        if keys == 0 && cursor.is_none() {
            return;
        }
        self.keys += keys as u64;
        for effects in full.into_iter().chain([effects]) {
            self.chunks += 1;
            self.frames.push_back(frame(CHUNK, |out| {
                out.reserve_exact(24 + effects.len());
                for number in [from, cursor.unwrap_or(u64::MAX), self.last] {
                    out.extend_from_slice(&number.to_le_bytes());
                }
                out.extend_from_slice(&effects);
            }));
        }
    }

    /// The end of the file, after the last piece.
    #[must_use]
    pub fn end(&self) -> Vec<u8> {
        frame(END, |out| {
            for number in [self.chunks, self.keys, self.last] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        })
    }
}

/// Appends the effects that make an entry; what is in front of them leaves for `full` when it is enough for a frame.
fn put_entry(out: &mut Vec<u8>, full: &mut Vec<Vec<u8>>, entry: &Entry) {
    let (key, expire_at_ms) = (entry.key(), entry.expire_at_ms());
    let mut turn_over = |out: &mut Vec<u8>| {
        if out.len() >= FRAME_BYTES {
            full.push(std::mem::take(out));
        }
    };
    turn_over(out);
    match entry.value() {
        Value::Small(value) => effect::put_set(out, key, value, expire_at_ms),
        Value::Large(value) => effect::put_set(out, key, value, expire_at_ms),
        Value::Hash(hash) => {
            let (mut strings, mut bytes, mut left) = (Vec::new(), 0, hash.len());
            hash.for_each(|field, value| {
                strings.extend([field, value]);
                bytes += field.len() + value.len();
                left -= 1;
                if bytes < HASH_EFFECT_BYTES && left > 0 {
                    return;
                }
                turn_over(out);
                effect::put_hash_set(out, key, strings.drain(..));
                bytes = 0;
            });
            if expire_at_ms != 0 {
                effect::put_expire(out, key, expire_at_ms);
            }
        }
    }
}

/// What a head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The shard's group in the log.
    pub group: u64,
    /// Entries up to this one are in all chunks.
    pub started: u64,
    /// The seed of the hash that ordered the walk.
    pub seed: u64,
    /// The slots.
    pub slots: (u16, u16),
}

/// Reads a checkpoint's frames as they come, and remembers which entries each key already has.
#[derive(Debug, Default)]
pub struct Reader {
    head: Option<Head>,
    /// For each chunk: where its stretch ends (exclusive) and its index.
    chunks: Vec<(u64, u64)>,
    at: u64,
    keys: u64,
    done: bool,
    last: u64,
}

/// One frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The first.
    Head(Head),
    /// Effects to be applied.
    Effects(&'a [u8]),
    /// The last.
    End,
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

impl Reader {
    /// Reads a frame at the start of `bytes`: `Ok(None)` if it is not all there, else the frame and its length.
    ///
    /// # Errors
    /// The bytes are not what was written.
    pub fn read<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(Frame<'a>, usize)>, Error> {
        let Some(header) = bytes.first_chunk::<8>() else { return Ok(None) };
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let checksum = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        let damaged = Error::Damaged(self.at);
        if length == 0 || length > FRAME_BYTES_MAX {
            return Err(if self.head.is_none() { Error::Version } else { damaged });
        }
        let Some(body) = bytes.get(8..8 + length) else { return Ok(None) };
        if crc32fast::hash(body) != checksum {
            return Err(damaged);
        }
        let frame = self.frame(body).ok_or(if self.head.is_none() { Error::Version } else { damaged })?;
        self.at += 8 + length as u64;
        Ok(Some((frame, 8 + length)))
    }

    fn frame<'a>(&mut self, body: &'a [u8]) -> Option<Frame<'a>> {
        match (body[0], self.head.is_some(), self.done) {
            (HEAD, false, false) => {
                if body.get(1..9)? != MAGIC || body.len() != 37 {
                    return None;
                }
                let short = |at: usize| u16::from_le_bytes([body[at], body[at + 1]]);
                let head = Head {
                    group: number(body, 9)?,
                    started: number(body, 17)?,
                    seed: number(body, 25)?,
                    slots: (short(33), short(35)),
                };
                self.head = Some(head);
                self.last = head.started;
                Some(Frame::Head(head))
            }
            (CHUNK, true, false) => {
                let (to, index) = (number(body, 9)?, number(body, 17)?);
                self.chunks.push((to, index));
                self.last = self.last.max(index);
                Some(Frame::Effects(&body[25..]))
            }
            (END, true, false) => {
                if number(body, 1)? != self.chunks.len() as u64 {
                    return None;
                }
                self.keys = number(body, 9)?;
                self.done = true;
                Some(Frame::End)
            }
            _ => None,
        }
    }

    /// To be asked at the end of the file.
    ///
    /// # Errors
    /// The file ends before its end.
    pub fn finish(&self) -> Result<(), Error> {
        if self.done { Ok(()) } else { Err(Error::Cut(self.at)) }
    }

    /// Entries up to this one are in all chunks; 0 without a file.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.head.map_or(0, |head| head.started)
    }

    /// How many keys the end says there are.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// The last index in any chunk.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Whether the chunk of a key has this entry already; for a flush (no key), whether all have.
    #[must_use]
    pub fn has(&self, keyspace: &Keyspace, key: Option<&Key<'_>>, index: u64) -> bool {
        let Some(head) = &self.head else { return false };
        if index <= head.started {
            return true;
        }
        match key {
            // A walk never spans a flush: one within the walk's entries came before none of them.
            None => false,
            Some(key) => {
                let place = keyspace.cursor_of(key);
                let chunk = self.chunks.partition_point(|(to, _)| *to <= place);
                self.chunks.get(chunk).is_some_and(|(_, had)| index <= *had)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::console::{Console, START_MS, topology};
    use super::super::shard::Settings;
    use super::*;

    /// All keys with their values, as effects, in the order of the walk.
    fn picture(shard: &Shard) -> Vec<u8> {
        let mut all = Vec::new();
        shard.keyspace().scan(0, usize::MAX, |_, entry| {
            let mut one = Vec::new();
            put_entry(&mut one, &mut Vec::new(), entry);
            all.push(one);
        });
        all.sort();
        all.concat()
    }

    fn restored(file: &[u8], log: &[Vec<u8>], log_from: u64) -> Shard {
        let mut reader = Reader::default();
        let (mut rest, mut shard) = (file, None);
        while let Some((frame, length)) = reader.read(rest).expect("sound") {
            match frame {
                Frame::Head(head) => {
                    shard = Some(Shard::new(topology(1), (0, 1), Settings::default(), head.seed, START_MS));
                }
                Frame::Effects(effects) => {
                    shard.as_mut().expect("a head").keyspace.load(effects).expect("readable");
                }
                Frame::End => {}
            }
            rest = &rest[length..];
        }
        reader.finish().expect("whole");
        let mut shard = shard.expect("a head");
        assert_eq!(shard.keyspace().len() as u64, reader.keys());
        for (index, entry) in (1..).zip(log).filter(|(index, _)| *index >= log_from) {
            if index > reader.started() {
                let applied = shard.commit(index, entry, |keyspace, key| reader.has(keyspace, key, index));
                applied.expect("readable");
            }
        }
        shard
    }

    fn write_some(console: &mut Console, dice: &mut u64) {
        for _ in 0..40 {
            *dice = dice.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let number = (*dice >> 33) % 6000;
            let request = match (*dice >> 20) % 8 {
                0 => format!("DEL key{number}\r\n"),
                1 => format!("HSET hash{number} f{} v\r\n", *dice % 7),
                2 => format!("EXPIRE key{number} {number}\r\n"),
                _ => format!("APPEND key{number} x\r\n"),
            };
            console.execute(request.as_bytes());
        }
        console.commit();
    }

    #[test]
    fn what_changes_during_the_walk_counts_once() {
        let (mut console, mut dice) = (Console::new(), 9);
        for _ in 0..400 {
            write_some(&mut console, &mut dice);
        }
        let (mut writer, mut file) = Writer::new(&console.shard, 1);
        let mut chunks = 0;
        while let Some(chunk) = writer.next(&console.shard) {
            file.extend(chunk);
            chunks += 1;
            write_some(&mut console, &mut dice);
        }
        file.extend(writer.end());
        write_some(&mut console, &mut dice);
        assert!(chunks > 3 && writer.last() > writer.started(), "{chunks} chunks");
        let wanted = picture(&console.shard);
        let log = std::mem::take(&mut console.log);
        assert!(picture(&restored(&file, &log, 1)) == wanted, "with the whole log");
        assert!(
            picture(&restored(&file, &log, writer.started() + 1)) == wanted,
            "with what must be kept of it"
        );
        assert!(picture(&restored(&file, &log, writer.last() + 1)) != wanted, "the log is needed");
    }

    #[test]
    fn a_hash_longer_than_a_frame_is_saved_whole() {
        let mut console = Console::new();
        let value = "v".repeat(3 << 20);
        for number in 0..50 {
            console.execute(
                format!(
                    "*4\r\n$4\r\nHSET\r\n$1\r\nh\r\n$3\r\nf{number:02}\r\n${}\r\n{value}\r\n",
                    value.len()
                )
                .as_bytes(),
            );
            console.answer();
        }
        console.script("PEXPIREAT h 1700000000000 -> (1)\nSET other 1 -> OK");
        console.log.clear();
        let (mut writer, mut file) = Writer::new(&console.shard, 1);
        let mut longest = 0;
        while let Some(piece) = writer.next(&console.shard) {
            longest = longest.max(piece.len());
            file.extend(piece);
        }
        file.extend(writer.end());
        assert!(
            longest < FRAME_BYTES + (4 << 20) && file.len() > 2 * FRAME_BYTES,
            "{longest} of {}",
            file.len()
        );
        let mut again = Console::new();
        again.shard = restored(&file, &[], 1);
        again.shard.lead();
        again.script("HLEN h -> (50)\nPEXPIRETIME h -> (1700000000000)\nGET other -> 1");
        for number in 0..50 {
            assert_eq!(again.ask(&format!("HSTRLEN h f{number:02}")), format!("({})", value.len()));
        }
    }

    #[test]
    fn damage_anywhere_is_seen() {
        let mut console = Console::new();
        write_some(&mut console, &mut 1);
        let (mut writer, mut file) = Writer::new(&console.shard, 1);
        while let Some(chunk) = writer.next(&console.shard) {
            file.extend(chunk);
        }
        file.extend(writer.end());
        let read = |file: &[u8]| -> Result<(), Error> {
            let (mut reader, mut rest) = (Reader::default(), file);
            while let Some((_, length)) = reader.read(rest)? {
                rest = &rest[length..];
            }
            reader.finish()
        };
        read(&file).expect("whole");
        for at in 0..file.len() {
            let mut bad = file.clone();
            bad[at] ^= 0x40;
            assert!(read(&bad).is_err(), "byte {at}");
            assert!(read(&file[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_flush_voids_the_walk() {
        let mut console = Console::new();
        console.script("SET k v -> OK");
        let (writer, _) = Writer::new(&console.shard, 1);
        assert!(!writer.is_void(&console.shard));
        console.script("FLUSHALL -> OK");
        assert!(writer.is_void(&console.shard));
    }

    #[test]
    fn what_is_taken_back_voids_the_walk() {
        let mut console = Console::new();
        console.script("SET k v -> OK");
        let (writer, _) = Writer::new(&console.shard, 1);
        console.shard.follow();
        assert!(!writer.is_void(&console.shard), "nothing was taken back");
        console.shard.lead();
        console.execute(b"SET k w\r\n");
        console.propose();
        let (writer, _) = Writer::new(&console.shard, 1);
        console.shard.follow();
        assert!(writer.is_void(&console.shard));
        let (writer, _) = Writer::new(&console.shard, 1);
        let other = Console::new().shard.keyspace;
        console.shard.replace(other, 9);
        assert!(writer.is_void(&console.shard));
    }
}
