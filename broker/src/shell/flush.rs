//! To disk behind the write-ahead log: committed batches to segments, segments synced, then the log freed.
//!
//! One task per shard. Writing is buffered and soon ([`GATHER`]); syncing is rare (`sync_ms`) and in this order: segments,
//! checkpoint, then the entries leave the write-ahead log. A sync that fails ends the broker: what the kernel holds of
//! the file afterwards can't be trusted, and the write-ahead log still has everything.

use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, select};
use runtime::{fs, time};

use super::partition::{Partition, log_group};
use super::segment_files::index_path;
use super::shard::{Shard, UNWRITTEN_BYTES_MAX};
use super::stored;
use crate::Error;
use crate::core::log::WritePlan;

/// How long committed batches gather before they are written.
const GATHER: Duration = Duration::from_millis(20);

/// Bytes in one write.
const WRITE_BYTES_MAX: usize = 1024 * 1024;

/// How long to wait after a write failed before the next try.
const RETRY: Duration = Duration::from_secs(1);

/// The least memory for the newest batches of a partition, bytes.
const TAIL_BYTES_MIN: usize = 16 * 1024;

/// Keeps a shard's segments up with its log, until the broker is asked to stop.
pub(crate) async fn run(shard: Rc<Shard>) -> Result<(), Error> {
    let config = &shard.shared.config;
    let (sync_every, retention_every) =
        (Duration::from_millis(config.sync_ms), Duration::from_millis(config.retention_check_ms));
    let mut next_sync = time::now() + sync_every;
    let mut next_retention = time::now() + retention_every;
    while !shard.shared.stop.is_requested() {
        let waiting = pin!(time::deadline(next_sync.min(next_retention), shard.flush.notified()));
        let stopped = pin!(shard.shared.stop.requested());
        let woken = matches!(select(waiting, stopped).await, Either::Left((Ok(()), _)));
        if woken && shard.unwritten_bytes.get() < UNWRITTEN_BYTES_MAX / 8 {
            time::sleep(GATHER).await;
        }
        write_dirty(&shard).await;
        let now = time::now();
        if now >= next_sync {
            let is_full = shard.log.stats().no_space.is_some();
            shard.shared.full_shards[shard.id].store(is_full, Ordering::Relaxed);
            sync(&shard).await?;
            next_sync = later(now, sync_every);
        }
        if now >= next_retention {
            expire(&shard).await?;
            next_retention = later(now, retention_every);
        }
    }
    Ok(())
}

fn later(now: Instant, every: Duration) -> Instant {
    now + every
}

/// Everything to disk, the write-ahead log sealed: the clean end.
pub(crate) async fn close(shard: &Rc<Shard>) -> Result<(), Error> {
    write_dirty(shard).await;
    sync(shard).await?;
    shard.coordinator.checkpoint(true).await?;
    // What was proposed until now becomes durable with this, and is written once more.
    shard.log.close().await?;
    write_dirty(shard).await;
    sync(shard).await
}

async fn write_dirty(shard: &Rc<Shard>) {
    let mut dirty = std::mem::take(&mut *shard.dirty.borrow_mut());
    while let Some(uid) = dirty.pop_first() {
        let Some(partition) = shard.partition(uid) else { continue };
        if let Err(error) = write_partition(shard, &partition).await {
            tracing::error!(folder = %partition.files.dir().display(), %error, "cannot write a segment; trying again. Acknowledged records are safe in the write-ahead log");
            // The others will fare no better: it is the disk.
            dirty.insert(uid);
            shard.dirty.borrow_mut().append(&mut dirty);
            time::sleep(RETRY).await;
            shard.flush.notify_one();
        }
    }
}

async fn write_partition(shard: &Rc<Shard>, partition: &Rc<Partition>) -> Result<(), std::io::Error> {
    loop {
        let retention = partition.retention.get();
        let plan = partition.log.borrow().plan_write(WRITE_BYTES_MAX, &retention);
        let Some(plan) = plan else { break };
        if plan.rolls {
            seal(partition).await?;
        }
        let file = partition.files.writer(plan.segment, plan.rolls).await?;
        file.write_at(plan.position, bytes_of(&plan)).await?;
        partition.log.borrow_mut().wrote(&plan);
        shard.count_unwritten(-(plan.bytes as i64));
        shard.room.notify_all();
    }
    let partitions = shard.partitions.borrow().len().max(1);
    let share = shard.shared.config.tail_bytes / shard.shared.layout.shards / partitions;
    partition.log.borrow_mut().trim_tail(share.max(TAIL_BYTES_MIN));
    Ok(())
}

fn bytes_of(plan: &WritePlan) -> Bytes {
    if let [one] = &plan.batches[..] {
        return one.bytes.clone();
    }
    let mut bytes = BytesMut::with_capacity(plan.bytes);
    for batch in &plan.batches {
        bytes.extend_from_slice(&batch.bytes);
    }
    bytes.freeze()
}

/// The newest segment is full: synced, and its index stored, before another begins.
async fn seal(partition: &Rc<Partition>) -> Result<(), std::io::Error> {
    let full = {
        let log = partition.log.borrow();
        log.segments().last().map(|s| (s.base_offset(), s.encode(log.producers())))
    };
    let Some((base, index)) = full else { return Ok(()) };
    // Opened if need be: after a restart the newest segment isn't open.
    let file = partition.files.writer(base, false).await?;
    file.sync_data().await?;
    fs::write_atomic(index_path(partition.files.dir(), base), index).await
}

/// Segments, then checkpoint, then the write-ahead log.
async fn sync(shard: &Rc<Shard>) -> Result<(), Error> {
    bury(shard).await?;
    let partitions: Vec<Rc<Partition>> = shard.partitions.borrow().values().cloned().collect();
    for partition in &partitions {
        let written_end = partition.log.borrow().written_end();
        if written_end > partition.synced_end.get() {
            // Written since the start, so the segment is open: what was there before was synced then.
            let (_, file) = partition.files.current().expect("a segment that was written to is open");
            file.sync_data().await.map_err(Error::io("cannot sync a segment in", partition.files.dir()))?;
            partition.synced_end.set(written_end);
        }
    }
    checkpoint(shard).await?;
    for partition in &partitions {
        if let Some(index) = partition.take_synced_entries() {
            shard.log.truncate(log_group(partition.uid), index);
        }
    }
    shard.coordinator.checkpoint(false).await
}

/// Stores where the partitions stand now, if that changed. Callers take turns: the file is replaced as a whole.
pub(crate) async fn checkpoint(shard: &Rc<Shard>) -> Result<(), Error> {
    while shard.checkpointing.replace(true) {
        shard.checkpointed.notified().await;
    }
    let places = shard.places();
    let mut result = Ok(());
    if *shard.checkpoint.borrow() != places {
        result = stored::write(&shard.dir.join("checkpoint.json"), &places).await;
        if result.is_ok() {
            *shard.checkpoint.borrow_mut() = places;
        }
    }
    shard.checkpointing.set(false);
    shard.checkpointed.notify_one();
    result
}

/// Retention: the checkpoint says so before a file goes.
async fn expire(shard: &Rc<Shard>) -> Result<(), Error> {
    let now_ms = i64::try_from(time::unix_ms()).unwrap_or(i64::MAX);
    let partitions: Vec<Rc<Partition>> = shard.partitions.borrow().values().cloned().collect();
    let mut gone = Vec::new();
    for partition in partitions {
        let retention = partition.retention.get();
        let segments = partition.log.borrow_mut().expire(now_ms, &retention);
        if !segments.is_empty() {
            let log_start = partition.log.borrow().log_start();
            partition
                .synced_end
                .set(partition.synced_end.get().max(log_start.min(partition.log.borrow().written_end())));
            gone.push((partition, segments));
        }
    }
    if gone.is_empty() {
        return Ok(());
    }
    checkpoint(shard).await?;
    for (partition, segments) in gone {
        for segment in segments {
            let deleted = partition.files.delete(segment.base_offset()).await;
            deleted.map_err(Error::io("cannot delete a segment in", partition.files.dir()))?;
            shard.shared.metrics.segments_deleted.inc();
        }
    }
    Ok(())
}

/// Partitions of deleted topics: their entries leave the write-ahead log, then their folders go.
async fn bury(shard: &Rc<Shard>) -> Result<(), Error> {
    let condemned = std::mem::take(&mut *shard.condemned.borrow_mut());
    for partition in condemned {
        let group = log_group(partition.uid);
        let last = shard.log.last(group);
        if shard.log.committed(group) < last {
            shard.condemned.borrow_mut().push(partition);
            continue;
        }
        shard.log.truncate(group, last);
        let unwritten: usize = partition.log.borrow().unwritten_bytes();
        shard.count_unwritten(-i64::try_from(unwritten).unwrap_or(0));
        shard.room.notify_all();
        remove_folder(partition.files.dir()).await?;
    }
    Ok(())
}

/// Removes a partition's folder with all in it.
pub(crate) async fn remove_folder(dir: &std::path::Path) -> Result<(), Error> {
    let path = dir.to_owned();
    match runtime::blocking(move || std::fs::remove_dir_all(path)).await {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("cannot delete", dir)(e)),
        _ => Ok(()),
    }
}
