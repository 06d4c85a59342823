//! Snapshots of a partition: its segments' bytes, as they are, behind a head that says what they are.
//!
//! On the way, in one piece after the other (numbers little-endian): the magic, the length of the head's rest; the first offset
//! that may be read; the number of segments, each with its first offset and its bytes; the idempotent producers; then the bytes
//! of all segments. What the sender has not written to a segment yet comes with its last.
//!
//! What arrives is put aside in the partition's folder. A file that names the new segments makes them the partition's, once
//! they are synced; then they take the place of the old ones, now or at the next start.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};

use bytes::{Buf, Bytes, BytesMut};
use replog::{Index, Pending, SnapshotSink, SnapshotSource};
use runtime::fs::{self, File, OpenOptions};
use serde::{Deserialize, Serialize};

use super::partition::Partition;
use super::recovery;
use super::segment_files::log_path;
use super::shard::Shard;
use super::stored::{self, Place};
use crate::Error;
use crate::core::log::PartitionLog;
use crate::core::producers::Producers;

const MAGIC: &[u8; 8] = b"mlrcsnp1";

/// Bytes of a head; what says more is no snapshot.
const HEAD_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The folder, in a partition's, of what arrives.
const ASIDE: &str = "incoming";

/// The file, in a partition's folder, that makes what has arrived the partition's.
const INSTALLED: &str = "installed.json";

/// What the file says.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Installed {
    place: Place,
    /// The new segments, by their first offsets.
    segments: Vec<i64>,
}

/// A snapshot that leaves.
pub(crate) struct Outgoing {
    partition: Rc<Partition>,
    head: Bytes,
    /// First offset of each segment, and bytes that are read from its file.
    files: Vec<(i64, u64)>,
    /// What is in no file yet.
    tail: Vec<Bytes>,
}

impl Outgoing {
    /// The partition as it is now.
    pub(crate) fn new(partition: Rc<Partition>) -> Self {
        let (head, files, tail) = {
            let log = partition.log.borrow();
            let files: Vec<(i64, u64)> =
                log.segments().iter().map(|s| (s.base_offset(), s.bytes())).collect();
            let tail: Vec<Bytes> = log.tail_from(log.written_end()).map(|b| b.bytes.clone()).collect();
            let tail_bytes: u64 = tail.iter().map(|b| b.len() as u64).sum();
            let mut segments = files.clone();
            match segments.last_mut() {
                Some((_, bytes)) => *bytes += tail_bytes,
                None if tail_bytes > 0 => segments.push((log.written_end(), tail_bytes)),
                None => {}
            }
            let start = if segments.is_empty() { log.high_watermark() } else { log.log_start() };
            (encode_head(start, &segments, log.producers()), files, tail)
        };
        Self { partition, head, files, tail }
    }

    async fn read(&self, mut offset: u64, bytes: usize) -> io::Result<Bytes> {
        let slice = |whole: &Bytes, at: u64| {
            let at = usize::try_from(at).unwrap_or(usize::MAX).min(whole.len());
            whole.slice(at..whole.len().min(at + bytes))
        };
        if offset < self.head.len() as u64 {
            return Ok(slice(&self.head, offset));
        }
        offset -= self.head.len() as u64;
        for (base, len) in &self.files {
            if offset < *len {
                let want = bytes.min(usize::try_from(len - offset).unwrap_or(usize::MAX));
                let read = self.partition.files.read(*base, offset, want).await?;
                return match read.is_empty() {
                    true => Err(io::ErrorKind::UnexpectedEof.into()),
                    false => Ok(read.into()),
                };
            }
            offset -= len;
        }
        for batch in &self.tail {
            if offset < batch.len() as u64 {
                return Ok(slice(batch, offset));
            }
            offset -= batch.len() as u64;
        }
        Ok(Bytes::new())
    }
}

impl SnapshotSource for Outgoing {
    fn read(&self, offset: u64, bytes: usize) -> Pending<'_, Bytes> {
        Box::pin(self.read(offset, bytes))
    }
}

/// The snapshot of a partition without records.
pub(crate) fn empty() -> Bytes {
    encode_head(0, &[], &Producers::default())
}

fn encode_head(log_start: i64, segments: &[(i64, u64)], producers: &Producers) -> Bytes {
    let mut rest = Vec::new();
    rest.extend_from_slice(&log_start.to_le_bytes());
    rest.extend_from_slice(&(segments.len() as u64).to_le_bytes());
    for (base, bytes) in segments {
        rest.extend_from_slice(&base.to_le_bytes());
        rest.extend_from_slice(&bytes.to_le_bytes());
    }
    producers.encode(&mut rest);
    let mut head = MAGIC.to_vec();
    head.extend_from_slice(&(rest.len() as u64).to_le_bytes());
    head.append(&mut rest);
    head.into()
}

#[derive(Debug)]
struct Head {
    log_start: i64,
    segments: VecDeque<(i64, u64)>,
    producers: Producers,
}

/// Takes the head off the front of `bytes`; `None` while it is not all there.
fn take_head(bytes: &mut BytesMut) -> io::Result<Option<Head>> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "not a partition's snapshot");
    let Some((magic, len)) = bytes.first_chunk::<16>().map(|first| first.split_at(8)) else {
        return Ok(None);
    };
    let len = u64::from_le_bytes(len.try_into().map_err(|_| wrong())?);
    if magic != MAGIC || len > HEAD_BYTES_MAX {
        return Err(wrong());
    }
    let len = len as usize;
    if bytes.len() < 16 + len {
        return Ok(None);
    }
    bytes.advance(16);
    let mut rest = bytes.split_to(len).freeze();
    if rest.len() < 16 {
        return Err(wrong());
    }
    let (log_start, count) = (rest.get_i64_le(), rest.get_u64_le());
    let mut segments = VecDeque::new();
    for _ in 0..count {
        if rest.len() < 16 {
            return Err(wrong());
        }
        segments.push_back((rest.get_i64_le(), rest.get_u64_le()));
    }
    let producers = Producers::decode(&rest).ok_or_else(wrong)?;
    Ok(Some(Head { log_start, segments, producers }))
}

/// A snapshot that arrives.
pub(crate) struct Incoming {
    partition: Rc<Partition>,
    shard: Weak<Shard>,
    /// What has come and is in no file.
    pending: BytesMut,
    head: Option<Head>,
    /// The segment that is being written: its file, bytes that it has, bytes that it will have.
    current: Option<(Rc<File>, u64, u64)>,
    segments: Vec<i64>,
}

impl Incoming {
    pub(crate) fn new(partition: Rc<Partition>, shard: Weak<Shard>) -> Self {
        Self { partition, shard, pending: BytesMut::new(), head: None, current: None, segments: Vec::new() }
    }

    async fn take(&mut self, bytes: Bytes) -> io::Result<()> {
        self.pending.extend_from_slice(&bytes);
        if self.head.is_none() {
            self.head = take_head(&mut self.pending)?;
            if self.head.is_none() {
                return Ok(());
            }
            if !self.partition.files.has_folder() {
                return Err(io::Error::other("the partition's topic is not known yet"));
            }
            let aside = self.partition.files.dir().join(ASIDE);
            remove_all(&aside).await?;
            fs::create_dir_all(&aside).await?;
        }
        while !self.pending.is_empty() {
            let (file, at, len) = match self.current.take() {
                Some(current) => current,
                None => self.next_segment().await?,
            };
            let want = usize::try_from(len - at).unwrap_or(usize::MAX).min(self.pending.len());
            file.write_at(at, self.pending.split_to(want).freeze()).await?;
            let at = at + want as u64;
            if at < len {
                self.current = Some((file, at, len));
            } else {
                file.sync_all().await?;
            }
        }
        Ok(())
    }

    async fn next_segment(&mut self) -> io::Result<(Rc<File>, u64, u64)> {
        let next = self.head.as_mut().and_then(|head| head.segments.pop_front());
        let Some((base, len)) = next.filter(|(_, len)| *len > 0) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more bytes than were announced"));
        };
        let path = log_path(&self.partition.files.dir().join(ASIDE), base);
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(true);
        let file = Rc::new(File::open(path, &options).await?);
        self.segments.push(base);
        Ok((file, 0, len))
    }

    async fn install(self, index: Index) -> io::Result<()> {
        let Some(head) = self.head.filter(|head| head.segments.is_empty() && self.current.is_none()) else {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the snapshot is cut short"));
        };
        let partition = self.partition;
        let dir = partition.files.dir().to_owned();
        let aside = dir.join(ASIDE);
        fs::sync_dir(&aside).await?;
        for folder in dir.ancestors().take(2) {
            fs::sync_dir(folder).await?;
        }
        let _turn = partition.writing.take().await;
        // Read once more: what takes the place of everything is to be whole.
        let scanned = recovery::scan_folder(&aside).await.map_err(io::Error::other)?;
        let synced_end = scanned.last().map_or(head.log_start, |segment| segment.next_offset());
        let place = Place { index: index.0, log_start: head.log_start, synced_end };
        let installed = Installed { place, segments: self.segments };
        stored::write(&dir.join(INSTALLED), &installed).await.map_err(io::Error::other)?;
        partition.files.close();
        move_in(&dir, &installed).await?;
        partition.installed.set(true);
        let before = partition.log.borrow().unwritten_bytes();
        partition.restore(index, PartitionLog::new(head.log_start, scanned, head.producers));
        if let Some(shard) = self.shard.upgrade() {
            shard.count_unwritten(-i64::try_from(before).unwrap_or(0));
            tracing::info!(folder = %dir.display(), end = synced_end, "a snapshot from the leader has been taken over");
        }
        Ok(())
    }
}

impl SnapshotSink for Incoming {
    fn write(&mut self, bytes: Bytes) -> Pending<'_, ()> {
        Box::pin(self.take(bytes))
    }

    fn install(self: Box<Self>, index: Index) -> Pending<'static, ()> {
        Box::pin((*self).install(index))
    }
}

/// Ends what a crash has interrupted: gives what the newest snapshot that was taken over says, if the checkpoint may not know it.
pub(crate) async fn recover(dir: &Path) -> Result<Option<Place>, Error> {
    let aside = dir.join(ASIDE);
    let installed = stored::read::<Installed>(&dir.join(INSTALLED)).await?;
    if let Some(installed) = &installed {
        move_in(dir, installed).await.map_err(Error::io("cannot end a snapshot in", dir))?;
    } else {
        remove_all(&aside).await.map_err(Error::io("cannot remove", &aside))?;
    }
    Ok(installed.map(|installed| installed.place))
}

/// The checkpoint knows of the snapshot.
pub(crate) async fn forget_installed(dir: &Path) -> Result<(), Error> {
    let path = dir.join(INSTALLED);
    match fs::remove_file(&path).await {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("cannot remove", &path)(e)),
        _ => Ok(()),
    }
}

/// New segments take the place of old ones. It may be done again, from wherever it was interrupted.
async fn move_in(dir: &Path, installed: &Installed) -> io::Result<()> {
    let aside = dir.join(ASIDE);
    let waiting = match fs::read_dir(&aside).await {
        Ok(paths) => paths,
        // All of it was done before.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for path in fs::read_dir(dir).await? {
        let kind = path.extension().and_then(|e| e.to_str());
        let base = path.file_stem().and_then(|stem| stem.to_str()?.parse::<i64>().ok());
        let goes = match (kind, base) {
            (Some("index"), _) => true,
            (Some("log"), Some(base)) => !installed.segments.contains(&base),
            _ => false,
        };
        if goes {
            fs::remove_file(&path).await?;
        }
    }
    for path in waiting {
        if let Some(name) = path.file_name() {
            fs::rename(&path, dir.join(name)).await?;
        }
    }
    fs::sync_dir(dir).await?;
    remove_all(&aside).await
}

async fn remove_all(dir: &Path) -> io::Result<()> {
    let path: PathBuf = dir.to_owned();
    match runtime::blocking(move || std::fs::remove_dir_all(path)).await {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_comes_in_any_pieces_and_nonsense_is_refused() {
        let whole = encode_head(7, &[(0, 10), (9, 20)], &Producers::default());
        let mut bytes = BytesMut::new();
        for (at, byte) in whole.iter().enumerate() {
            bytes.extend_from_slice(&[*byte]);
            let taken = take_head(&mut bytes).unwrap();
            assert_eq!(taken.is_some(), at + 1 == whole.len());
            if let Some(mut head) = taken {
                assert_eq!(
                    (head.log_start, head.segments.make_contiguous()),
                    (7, &mut [(0, 10), (9, 20)][..])
                );
            }
        }
        let mut wrong = BytesMut::from(&whole[..]);
        wrong[0] ^= 1;
        assert!(take_head(&mut wrong).is_err());
        let mut endless = BytesMut::from(&whole[..]);
        endless[15] = 0xff;
        assert!(take_head(&mut endless).is_err());
        let mut short = BytesMut::from(&whole[..]);
        short[24] = 9;
        assert!(take_head(&mut short).is_err());
    }
}
