//! Checkpoints as files: written beside the traffic, put in place at once, read at start.
//!
//! What always holds: the file under the shard's name is whole and on disk; entries leave the log only after that. A
//! checkpoint that fails costs nothing but itself: the log keeps everything, and the next one begins from nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use replog::Index;
use runtime::fs::{self, File, OpenOptions};

use super::folder;
use super::host::Host;
use crate::Error;
use crate::core::checkpoint::{self, Frame, Reader, Writer};
use crate::core::shard::Shard;

/// How much is read at a time.
const READ_BYTES: usize = 1 << 20;
/// After so many bytes the file is synced, so that the last sync is short.
const SYNC_BYTES: u64 = 16 << 20;
/// How long to rest after a checkpoint failed.
const RETRY: Duration = Duration::from_secs(10);

/// Reads a shard's checkpoint, if there is one, into a shard that `make` makes for the seed.
pub(super) async fn load(
    path: &Path,
    number: usize,
    group: u64,
    make: impl FnOnce(Option<u64>) -> Shard,
) -> Result<(Shard, Reader), Error> {
    let _ = fs::remove_file(temporary(path)).await;
    let mut reader = Reader::default();
    let file = match File::open(path, &OpenOptions::new().read(true)).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((make(None), reader)),
        Err(source) => return Err(Error::Folder { what: "cannot open", path: path.to_owned(), source }),
    };
    let wrong = |source| Error::Checkpoint { path: path.to_owned(), source };
    let unreadable = || Error::Unreadable { shard: number, what: path.display().to_string() };
    let (mut make, mut shard) = (Some(make), None);
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
                    let new = make.take().expect("one head")(Some(head.seed));
                    let slots = new.keyspace().slots();
                    if head.group != group || head.slots != (slots.start, slots.end) {
                        return Err(wrong(checkpoint::Error::OtherShard));
                    }
                    shard = Some(new);
                }
                Frame::Effects(effects) => {
                    let shard = shard.as_mut().expect("the head comes first");
                    shard.load(effects).map_err(|_| unreadable())?;
                }
                Frame::End => {}
            }
            taken += length;
        }
        buffer.drain(..taken);
    }
    reader.finish().map_err(wrong)?;
    let mut shard = shard.expect("a finished checkpoint has a head");
    if shard.keyspace().len() as u64 != reader.keys() {
        return Err(wrong(checkpoint::Error::Keys {
            said: reader.keys(),
            found: shard.keyspace().len() as u64,
        }));
    }
    shard.replayed(reader.started());
    Ok((shard, reader))
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
                tracing::info!(shard = number, bytes, "checkpoint written");
            }
            Ok(None) => host.checkpoint.notify_one(),
            Err(error) => {
                tracing::error!(shard = number, %error, path = %path.display(), "cannot write a checkpoint: the log goes on growing");
                let _ = fs::remove_file(temporary(&path)).await;
                runtime::time::sleep(RETRY).await;
                host.checkpoint.notify_one();
            }
        }
    }
}

/// Writes a checkpoint; gives its size, or `None` if all keys were deleted at once meanwhile.
async fn write(host: &Rc<Host>, path: &Path) -> io::Result<Option<u64>> {
    let new = temporary(path);
    let file = File::open(&new, &OpenOptions::new().write(true).create(true).truncate(true)).await?;
    let log_bytes = host.log_bytes.get();
    host.log_written.set(host.log.stats().bytes);
    between_batches(host).await;
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
    host.log.wait_committed(host.group, Index(writer.last())).await.map_err(io::Error::other)?;
    fs::rename(&new, path).await?;
    host.log.truncate(host.group, Index(writer.started()));
    host.log_bytes.set(host.log_bytes.get().saturating_sub(log_bytes));
    Ok(Some(offset + bytes))
}

/// Returns at a moment when the open batch is empty.
async fn between_batches(host: &Host) {
    loop {
        runtime::turn_end().await;
        host.propose_all().await;
        if host.shard.borrow().batch().is_none() {
            return;
        }
    }
}
