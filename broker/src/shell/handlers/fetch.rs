//! Fetch: reads on every shard concerned; a long poll waits there until something becomes readable, then reads again.

use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select, select_all};
use runtime::{Segment, time};
use wire::kafka::fetch::{self as wire_fetch, Partition};
use wire::kafka::message::Head;
use wire::kafka::messages::FetchRequest;
use wire::kafka::{ResponseError, StrBytes};

use crate::core::api::fetch;
use crate::shell::core::{Core, Reservation};
use crate::shell::handlers::{Answer, per_shard};
use crate::shell::shard::{Part, Shard};

/// The longest wait of a poll, whatever is asked for.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// One partition that is asked for.
struct Asked {
    index: i32,
    place: Result<Part, ResponseError>,
}

/// The whole answer.
pub(super) async fn handle(core: &Rc<Core>, head: &Head, request: FetchRequest) -> Answer {
    let answer = |error: i16, topics: &[wire_fetch::Topic], held: Vec<Reservation>| {
        let pieces = wire_fetch::encode(head.correlation_id, head.version, error, topics);
        Answer { pieces: pieces.into_iter().map(Segment::from).collect(), held }
    };
    if let Some(error) = fetch::session_error(&request) {
        return answer(error.code(), &[], Vec::new());
    }
    let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0).min(core.shared.config.fetch_bytes_max);
    let bytes_min = usize::try_from(request.min_bytes).unwrap_or(0).min(bytes_max);
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(WAIT_MAX);
    let deadline = time::now() + wait;
    let asked = asked(core, &request);
    let (partitions, held) = loop {
        let (partitions, held) = read(core, &asked, bytes_max).await;
        let bytes: usize = partitions.iter().map(Partition::records_bytes).sum();
        let failed = partitions.iter().any(|p| p.error_code != 0);
        let nothing_to_wait_for = asked.is_empty() || failed || bytes >= bytes_min;
        if nothing_to_wait_for || time::now() >= deadline {
            break (partitions, held);
        }
        let high_watermarks: Vec<i64> = partitions.iter().map(|p| p.high_watermark).collect();
        // What was read is read again: nothing is held meanwhile.
        drop((partitions, held));
        if !wait_moved(core, &asked, high_watermarks, deadline).await {
            break read(core, &asked, bytes_max).await;
        }
    };
    let topics = fetch::assemble(&request, partitions, bytes_max);
    let bytes: usize = topics.iter().flat_map(|t| &t.partitions).map(Partition::records_bytes).sum();
    core.shared.metrics.fetched_bytes.inc_by(bytes as u64);
    answer(0, &topics, held)
}

fn asked(core: &Rc<Core>, request: &FetchRequest) -> Vec<Asked> {
    let topics = core.topics();
    let place = |name: &StrBytes, p: &wire::kafka::messages::fetch_request::FetchPartition| {
        let uid = topics.partition(name, p.partition).ok_or(ResponseError::UnknownTopicOrPartition)?;
        let bytes_max = usize::try_from(p.partition_max_bytes).unwrap_or(0);
        Ok(Part { uid, epoch: p.current_leader_epoch, offset: p.fetch_offset, bytes_max })
    };
    let mut asked = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            asked.push(Asked { index: partition.partition, place: place(&topic.topic, partition) });
        }
    }
    asked
}

/// What there is in each partition, and the memory that it takes.
async fn read(core: &Rc<Core>, asked: &[Asked], bytes_max: usize) -> (Vec<Partition>, Vec<Reservation>) {
    let items = asked.iter().filter_map(|a| a.place.ok());
    let items = items.map(|part| (core.shared.shard_of(part.uid), part)).collect();
    let run = move |shard: Rc<Shard>, parts| async move { shard.read(parts, bytes_max).await };
    let mut reads = per_shard(core, items, run).await.into_iter();
    let mut partitions = Vec::with_capacity(asked.len());
    let mut held = Vec::new();
    for a in asked {
        let partition = match a.place {
            Err(error) => fetch::failed(a.index, error),
            Ok(_) => {
                let read = reads.next().expect("a read for every place");
                held.extend(read.reserved);
                Partition {
                    index: a.index,
                    error_code: read.error.map_or(0, |e| e.code()),
                    high_watermark: read.high_watermark,
                    log_start_offset: read.log_start,
                    records: read.records,
                }
            }
        };
        partitions.push(partition);
    }
    (partitions, held)
}

/// Waits until something moved beyond what was seen; false when time is up or the broker stops.
async fn wait_moved(core: &Rc<Core>, asked: &[Asked], seen: Vec<i64>, deadline: Instant) -> bool {
    let mut by_shard: Vec<(usize, Vec<(u64, i64)>)> = Vec::new();
    for (a, high_watermark) in asked.iter().zip(seen) {
        let Ok(place) = a.place else { continue };
        let shard = core.shared.shard_of(place.uid);
        let seen = (place.uid, high_watermark);
        match by_shard.iter_mut().find(|(s, _)| *s == shard) {
            Some((_, all)) => all.push(seen),
            None => by_shard.push((shard, vec![seen])),
        }
    }
    let mut waits = Vec::with_capacity(by_shard.len());
    for (shard, seen) in by_shard {
        let to = core.shared.core_of(shard);
        let job = move |core: Rc<Core>| {
            let shard = core.shard(shard);
            async move { shard.wait_moved(seen).await }
        };
        waits.push(core.send(to, job).await);
    }
    let stopped = Box::pin(core.shared.stop.requested());
    let either = select(select_all(waits), stopped);
    matches!(time::deadline(deadline, either).await, Ok(Either::Left(_)))
}
