//! To disk behind the replicated logs: committed batches to segments, segments synced, then the logs freed.
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
use replog::Index;
use runtime::{fs, time};

use super::partition::{Partition, log_group};
use super::segment_files::index_path;
use super::shard::{Shard, UNWRITTEN_BYTES_MAX};
use super::{snapshot, stored};
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
        check(&shard)?;
        write_dirty(&shard).await;
        let now = time::now();
        if now >= next_sync {
            let is_full = shard.replicas().stats().no_space.is_some();
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

/// Whether all entries could be applied.
fn check(shard: &Rc<Shard>) -> Result<(), Error> {
    shard.check()?;
    shard.coordinators.values().try_for_each(|coordinator| coordinator.check())
}

/// Everything to disk, the write-ahead log sealed: the clean end.
pub(crate) async fn close(shard: &Rc<Shard>) -> Result<(), Error> {
    write_dirty(shard).await;
    sync(shard).await?;
    for coordinator in shard.coordinators.values() {
        coordinator.checkpoint(true).await?;
    }
    Ok(shard.replicas().close().await?)
}

async fn write_dirty(shard: &Rc<Shard>) {
    let mut dirty = std::mem::take(&mut *shard.dirty.borrow_mut());
    while let Some(uid) = dirty.pop_first() {
        let Some(partition) = shard.partition(uid).filter(|partition| partition.files.has_folder()) else {
            // It went; or its topic is not known yet, and when it is, there is a next time.
            continue;
        };
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
    let _turn = partition.writing.take().await;
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
            sync_partition(partition).await?;
        }
    }
    checkpoint(shard).await?;
    let places = shard.checkpoint.borrow().clone();
    for (uid, place) in &places.partitions {
        shard.replicas().truncate(log_group(*uid), Index(place.index));
    }
    for (uid, index) in &places.buried {
        shard.replicas().truncate(log_group(*uid), Index(*index));
    }
    for partition in partitions.iter().filter(|partition| partition.installed.get()) {
        let _turn = partition.writing.take().await;
        // Not when another has come since.
        let known = places.partitions.get(&partition.uid).map_or(0, |place| place.index);
        if partition.durable().0 <= known {
            snapshot::forget_installed(partition.files.dir()).await?;
            partition.installed.set(false);
        }
    }
    for coordinator in shard.coordinators.values() {
        coordinator.checkpoint(false).await?;
    }
    Ok(())
}

async fn sync_partition(partition: &Rc<Partition>) -> Result<(), Error> {
    let _turn = partition.writing.take().await;
    let written_end = partition.log.borrow().written_end();
    // Written since the start, so the segment is open, and what was there before was synced then; or else a snapshot has come
    // meanwhile, synced.
    if let Some((_, file)) = partition.files.current().filter(|_| written_end > partition.synced_end.get()) {
        file.sync_data().await.map_err(Error::io("cannot sync a segment in", partition.files.dir()))?;
        partition.synced_end.set(written_end);
    }
    Ok(())
}

/// Stores where the partitions stand now, if that changed. Callers take turns: the file is replaced as a whole.
async fn checkpoint(shard: &Rc<Shard>) -> Result<(), Error> {
    let _turn = shard.checkpointing.take().await;
    let places = shard.places();
    if *shard.checkpoint.borrow() != places {
        stored::write(&shard.dir.join("checkpoint.json"), &places).await?;
        *shard.checkpoint.borrow_mut() = places;
    }
    Ok(())
}

/// Retention: the checkpoint says so before a file goes.
async fn expire(shard: &Rc<Shard>) -> Result<(), Error> {
    let now_ms = i64::try_from(time::unix_ms()).unwrap_or(i64::MAX);
    let partitions: Vec<Rc<Partition>> = shard.partitions.borrow().values().cloned().collect();
    let mut gone = Vec::new();
    for partition in &partitions {
        let _turn = partition.writing.take().await;
        let retention = partition.retention.get();
        let segments = partition.log.borrow_mut().expire(now_ms, &retention);
        if !segments.is_empty() {
            let log_start = partition.log.borrow().log_start();
            partition
                .synced_end
                .set(partition.synced_end.get().max(log_start.min(partition.log.borrow().written_end())));
            gone.push((partition.clone(), segments));
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

/// Partitions of deleted topics: the checkpoint says that they are gone, then their folders go.
async fn bury(shard: &Rc<Shard>) -> Result<(), Error> {
    let condemned = std::mem::take(&mut *shard.condemned.borrow_mut());
    if condemned.is_empty() {
        return Ok(());
    }
    shard.buried.borrow_mut().extend(condemned.iter().map(|partition| partition.uid));
    checkpoint(shard).await?;
    for partition in condemned {
        let _turn = partition.writing.take().await;
        let unwritten: usize = partition.log.borrow().unwritten_bytes();
        shard.count_unwritten(-i64::try_from(unwritten).unwrap_or(0));
        shard.room.notify_all();
        if partition.files.has_folder() {
            remove_folder(partition.files.dir()).await?;
        }
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
