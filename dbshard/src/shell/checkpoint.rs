//! Checkpoints as files: written beside the traffic, put in place at once, read at start.
//!
//! What always holds: the file under the shard's name is whole and on disk; entries leave the log only after that. A
//! checkpoint that fails costs nothing but itself: the log keeps everything, and the next one begins from nothing.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use replog::Index;
use runtime::fs::{self, File, OpenOptions};

use super::folder;
use super::host::Host;
use crate::Error;
use crate::core::checkpoint::{self, Frame, Reader, Writer};
use crate::core::key::KeyHash;
use crate::core::keyspace::Keyspace;

/// How much is read at a time.
const READ_BYTES: usize = 1 << 20;
/// After so many bytes the file is synced, so that the last sync is short.
const SYNC_BYTES: u64 = 16 << 20;
/// How long to rest after a checkpoint failed.
const RETRY: Duration = Duration::from_secs(10);

/// What a checkpoint held.
pub(super) struct Loaded {
    pub(super) keyspace: Keyspace,
    /// Knows which entries are in it.
    pub(super) reader: Reader,
}

/// Reads a shard's checkpoint, if there is one.
pub(super) async fn load(
    path: &Path,
    number: usize,
    group: u64,
    slots: Range<u16>,
) -> Result<Option<Loaded>, Error> {
    let mut reader = Reader::default();
    let file = match File::open(path, &OpenOptions::new().read(true)).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Folder { what: "cannot open", path: path.to_owned(), source }),
    };
    let wrong = |source| Error::Checkpoint { path: path.to_owned(), source };
    let unreadable = || Error::Unreadable { shard: number, what: path.display().to_string() };
    let mut keyspace = None;
    let (mut buffer, mut offset) = (Vec::new(), 0);
    loop {
        let read = file.read_at(offset, READ_BYTES).await.map_err(Error::folder("cannot read", path))?;
        if read.is_empty() {
            break;
        }
        offset += read.len() as u64;
        buffer.extend_from_slice(&read);
        let mut taken = 0;
        while let Some((frame, length)) = reader.read(&buffer[taken..]).map_err(wrong)? {
            match frame {
                Frame::Head(head) => {
                    if head.group != group || head.slots != (slots.start, slots.end) {
                        return Err(wrong(checkpoint::Error::OtherShard));
                    }
                    keyspace = Some(Keyspace::new(KeyHash::new(head.seed), slots.clone()));
                }
                Frame::Effects(effects) => {
                    let keyspace = keyspace.as_mut().expect("the head comes first");
                    keyspace.load(effects).map_err(|_| unreadable())?;
                }
                Frame::End => {}
            }
            taken += length;
        }
        buffer.drain(..taken);
    }
    reader.finish().map_err(wrong)?;
    let keyspace = keyspace.expect("a finished checkpoint has a head");
    if keyspace.len() as u64 != reader.keys() {
        return Err(wrong(checkpoint::Error::Keys { said: reader.keys(), found: keyspace.len() as u64 }));
    }
    Ok(Some(Loaded { keyspace, reader }))
}

/// Removes what a stop left behind of checkpoints that were not whole.
pub(super) async fn sweep(path: &Path) {
    for half in [temporary(path), path.with_extension("incoming")] {
        let _ = fs::remove_file(half).await;
    }
}

fn temporary(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Writes a checkpoint each time one is wanted.
pub(super) async fn write_when_wanted(host: Rc<Host>) {
    loop {
        host.checkpoint.notified().await;
        let number = host.shard.borrow().number;
        let path = folder::checkpoint(&host.config.data, number);
        match write(&host, &path).await {
            Ok(Some(bytes)) => {
                let mut shard = host.shard.borrow_mut();
                shard.stats.checkpoints += 1;
                shard.stats.checkpoint_at_s = runtime::time::unix_ms() / 1000;
                drop(shard);
                host.checkpointed.notify_all();
                tracing::info!(shard = number, bytes, "checkpoint written");
            }
            Ok(None) => host.checkpoint.notify_one(),
            Err(error) => {
                tracing::error!(shard = number, %error, path = %path.display(), "cannot write a checkpoint: the log goes on growing");
                host.checkpoints_failed.set(host.checkpoints_failed.get() + 1);
                host.checkpointed.notify_all();
                let _ = fs::remove_file(temporary(&path)).await;
                runtime::time::sleep(RETRY).await;
                host.checkpoint.notify_one();
            }
        }
    }
}

/// Writes a checkpoint; gives its size, or `None` if all keys were deleted, taken back or replaced at once meanwhile.
async fn write(host: &Rc<Host>, path: &Path) -> io::Result<Option<u64>> {
    let new = temporary(path);
    let file = File::open(&new, &OpenOptions::new().write(true).create(true).truncate(true)).await?;
    let log_bytes = host.log_bytes.get();
    host.log_written.set(host.replicas().stats().bytes);
    between_batches(host).await;
    // Entries of the log's own count too.
    host.shard.borrow_mut().replayed(host.applied());
    let (mut writer, head) = Writer::new(&host.shard.borrow(), host.group.0);
    let mut offset = head.len() as u64;
    let mut synced = 0;
    file.write_at(0, head).await?;
    loop {
        between_batches(host).await;
        if writer.is_void(&host.shard.borrow()) {
            return Ok(None);
        }
        let Some(chunk) = writer.next(&host.shard.borrow()) else { break };
        let bytes = chunk.len() as u64;
        file.write_at(offset, chunk).await?;
        offset += bytes;
        if offset - synced >= SYNC_BYTES {
            file.sync_data().await?;
            synced = offset;
        }
    }
    let end = writer.end();
    let bytes = end.len() as u64;
    file.write_at(offset, end).await?;
    file.sync_all().await?;
    drop(file);
    // What a chunk holds must be sure to stay.
    while host.shard.borrow().applied() < writer.last() && !writer.is_void(&host.shard.borrow()) {
        host.settled.notified().await;
    }
    let within = host.file.enter().await;
    if writer.is_void(&host.shard.borrow()) {
        return Ok(None);
    }
    fs::rename(&new, path).await?;
    host.saved.set(Some(writer.started()));
    drop(within);
    host.replicas().truncate(host.group, Index(writer.started()));
    host.log_bytes.set(host.log_bytes.get().saturating_sub(log_bytes));
    Ok(Some(offset + bytes))
}

/// Returns at a moment when the open batch is empty, and all keys are of the same entry.
async fn between_batches(host: &Host) {
    loop {
        runtime::turn_end().await;
        host.propose_all().await;
        if host.shard.borrow().batch().is_some() {
            continue;
        }
        if !host.is_patchy() {
            return;
        }
        host.settled.notified().await;
    }
}
