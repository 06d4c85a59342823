//! How many proposals a second become durable, with 1, 64 and 1024 in flight: in a plain log, and as a cluster of one.
//! And what idle groups cost, and how long a large log takes to open.
//!
//!     cargo run --release -p replog --example speed -- FOLDER [BYTES]
//!     cargo run --release -p replog --example speed -- FOLDER groups COUNT
//!     cargo run --release -p replog --example speed -- FOLDER recovery MIB [BYTES]

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use replog::{
    Error, GroupId, Index, Log, Members, NodeCore, NodeId, NodeOptions, Options, Replicas, SnapshotSink,
    SnapshotSource, StateMachine, Stats,
};
use runtime::time;

const RUN: Duration = Duration::from_secs(3);
const GROUP: GroupId = GroupId(1);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("name a folder on the disk to be measured")?;
    let options = runtime::Options::default();
    match args.next().as_deref() {
        Some("groups") => {
            let count = args.next().ok_or("how many groups?")?.parse()?;
            runtime::block_on(&options, groups(&dir, count))??;
        }
        Some("recovery") => {
            let mib: u64 = args.next().ok_or("how many MiB?")?.parse()?;
            let bytes: usize = args.next().map_or(Ok(1000), |bytes| bytes.parse())?;
            runtime::block_on(&options, fill(&dir, mib, bytes))??;
            runtime::block_on(&options, recover(&dir))??;
        }
        bytes => {
            let bytes: usize = bytes.map_or(Ok(100), str::parse)?;
            println!("entries of {bytes} bytes, each on disk before it counts");
            for in_flight in [1, 64, 1024] {
                runtime::block_on(&options, plain(&dir, bytes, in_flight))??;
                runtime::block_on(&options, alone(&dir, bytes, in_flight))??;
            }
        }
    }
    Ok(())
}

/// A state machine that forgets everything.
struct Nothing;

impl StateMachine for Nothing {
    fn durable(&self) -> Index {
        Index(0)
    }

    fn apply(&mut self, _: Index, _: &Bytes) {}

    fn snapshot(&mut self) -> Rc<dyn SnapshotSource> {
        Rc::new(Bytes::new())
    }

    fn receive_snapshot(&mut self) -> Box<dyn SnapshotSink> {
        replog::gather(|_, _| async { Ok(()) })
    }
}

async fn open(dir: String) -> Result<Replicas, Error> {
    let core = NodeCore::bind(&NodeOptions::new(NodeId(1), 1), 1)?.remove(0);
    Replicas::open(core, Options::new(dir), |_| Box::new(Nothing)).await
}

async fn leads(replicas: &Replicas, group: GroupId) {
    while !replicas.role(group).leads {
        time::sleep(Duration::from_millis(1)).await;
    }
}

async fn plain(dir: &str, bytes: usize, in_flight: usize) -> Result<(), Error> {
    let (log, _) = Log::open(Options::new(format!("{dir}/plain/{in_flight}"))).await?;
    let (entry, write) = (Bytes::from(vec![0xA5; bytes]), log.clone());
    let (done, seconds) = load(in_flight, move || {
        let (log, entry) = (write.clone(), entry.clone());
        async move {
            log.room_for(entry.len()).await?;
            let index = log.propose(GROUP, entry.clone())?;
            log.wait_committed(GROUP, index).await?;
            if index.0.is_multiple_of(1000) {
                log.truncate(GROUP, index);
            }
            Ok(())
        }
    })
    .await?;
    report("plain log", in_flight, done, seconds, &log.stats());
    log.close().await
}

async fn alone(dir: &str, bytes: usize, in_flight: usize) -> Result<(), Error> {
    let replicas = open(format!("{dir}/alone/{in_flight}")).await?;
    replicas.found(GROUP, Members::voters([NodeId(1)]), Box::new(Nothing))?;
    leads(&replicas, GROUP).await;
    let (entry, write) = (Bytes::from(vec![0xA5; bytes]), replicas.clone());
    let (done, seconds) = load(in_flight, move || {
        let (replicas, entry) = (write.clone(), entry.clone());
        async move {
            replicas.room().await?;
            let index = replicas.propose(GROUP, entry.clone())?.applied().await?;
            if index.0.is_multiple_of(1000) {
                replicas.truncate(GROUP, index);
            }
            Ok(())
        }
    })
    .await?;
    report("cluster of one", in_flight, done, seconds, &replicas.stats());
    replicas.close().await
}

/// Writes again and again, so many at once; gives how many were written, in how many seconds.
async fn load<W: Future<Output = Result<(), Error>> + 'static>(
    in_flight: usize,
    write: impl Fn() -> W + 'static,
) -> Result<(f64, f64), Error> {
    let (write, done, start) = (Rc::new(write), Rc::new(Cell::new(0_u64)), time::now());
    let tasks: Vec<_> = (0..in_flight)
        .map(|_| {
            let (write, done) = (write.clone(), done.clone());
            runtime::spawn(async move {
                while time::turn_now() - start < RUN {
                    write().await?;
                    done.set(done.get() + 1);
                }
                Ok::<(), Error>(())
            })
        })
        .collect();
    for task in tasks {
        task.await?;
    }
    Ok((done.get() as f64, (time::now() - start).as_secs_f64()))
}

fn report(what: &str, in_flight: usize, done: f64, seconds: f64, stats: &Stats) {
    println!(
        "{what:14} {in_flight:5} in flight: {:8.0} entries/s, {:6.0} writes/s, {:6.1} entries a write, {:6.1} MB/s",
        done / seconds,
        stats.batches as f64 / seconds,
        stats.entries as f64 / stats.batches as f64,
        stats.bytes as f64 / seconds / 1e6
    );
}

async fn groups(dir: &str, count: u64) -> Result<(), Error> {
    let before = resident_kib();
    let replicas = open(format!("{dir}/groups")).await?;
    let begun = time::now();
    for group in (1..=count).map(GroupId) {
        replicas.found(group, Members::voters([NodeId(1)]), Box::new(Nothing))?;
    }
    for group in (1..=count).map(GroupId) {
        leads(&replicas, group).await;
    }
    let seconds = (time::now() - begun).as_secs_f64();
    let kib = resident_kib() - before;
    println!(
        "{count} groups lead after {seconds:.2} s and take {kib} KiB, {} bytes each",
        kib * 1024 / count
    );
    replicas.close().await
}

/// Writes a log of so many MiB, in entries of `bytes` bytes, that nobody truncates.
async fn fill(dir: &str, mib: u64, bytes: usize) -> Result<(), Error> {
    let replicas = open(format!("{dir}/recovery")).await?;
    replicas.found(GROUP, Members::voters([NodeId(1)]), Box::new(Nothing))?;
    leads(&replicas, GROUP).await;
    let (entry, mut last) = (Bytes::from(vec![0xA5; bytes]), None);
    while replicas.stats().bytes < mib << 20 {
        replicas.room_for(bytes).await?;
        last = replicas.propose(GROUP, entry.clone()).ok().or(last);
    }
    if let Some(last) = last {
        last.applied().await?;
    }
    replicas.close().await
}

/// Opens that log, and applies everything in it.
async fn recover(dir: &str) -> Result<(), Error> {
    let begun = time::now();
    let replicas = open(format!("{dir}/recovery")).await?;
    let seconds = (time::now() - begun).as_secs_f64();
    let stats = replicas.stats();
    let mib = (stats.segments as u64 * stats.segment_bytes) >> 20;
    let entries = replicas.group_stats(GROUP).map_or(0, |group| group.last.0);
    println!("{mib} MiB, {entries} entries, opened in {seconds:.2} s: {:.0} MiB/s", mib as f64 / seconds);
    replicas.close().await
}

/// Resident memory (`VmRSS` of proc(5)).
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
