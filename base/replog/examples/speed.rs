//! How many proposals a second become durable, with 1, 64 and 1024 in flight.
//!
//!     cargo run --release -p replog --example speed -- FOLDER [BYTES]

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use replog::{GroupId, Log, Options};
use runtime::time;

const RUN: Duration = Duration::from_secs(3);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("name a folder on the disk to be measured")?;
    let bytes: usize = args.next().map_or(Ok(100), |text| text.parse())?;
    println!("entries of {bytes} bytes, each on disk before it counts");
    for in_flight in [1, 64, 1024] {
        runtime::block_on(&runtime::Options::default(), run(&dir, bytes, in_flight))??;
    }
    Ok(())
}

async fn run(dir: &str, bytes: usize, in_flight: usize) -> Result<(), replog::Error> {
    let (log, _) = Log::open(Options::new(format!("{dir}/{in_flight}"))).await?;
    let (entry, group) = (Bytes::from(vec![0xA5; bytes]), GroupId(1));
    let done = Rc::new(Cell::new(0_u64));
    let start = time::now();
    let tasks: Vec<_> = (0..in_flight)
        .map(|_| {
            let (log, entry, done) = (log.clone(), entry.clone(), done.clone());
            runtime::spawn(async move {
                while time::turn_now() - start < RUN {
                    log.room_for(entry.len()).await?;
                    let index = log.propose(group, entry.clone())?;
                    log.wait_committed(group, index).await?;
                    done.set(done.get() + 1);
                    if index.0.is_multiple_of(1000) {
                        log.truncate(group, index);
                    }
                }
                Ok::<(), replog::Error>(())
            })
        })
        .collect();
    for task in tasks {
        task.await?;
    }
    let seconds = (time::now() - start).as_secs_f64();
    let (stats, done) = (log.stats(), done.get() as f64);
    println!(
        "{in_flight:5} in flight: {:8.0} entries/s, {:6.0} writes/s, {:6.1} entries a write, {:6.1} MB/s",
        done / seconds,
        stats.batches as f64 / seconds,
        stats.entries as f64 / stats.batches as f64,
        stats.bytes as f64 / seconds / 1e6
    );
    log.close().await
}
