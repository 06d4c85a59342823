//! `broker`: ours beside nats-server with JetStream, each by its own protocol. A partition is beside a stream, a record batch
//! beside a message of as many bytes, an acknowledged batch beside an acknowledged message.
//!
//! Ours has as many threads as it has by default, on the CPUs that the peer has.

use crate::error::Error;
use crate::harness::disk;
use crate::harness::metrics::Metrics;
use crate::harness::result::{Gap, Report};
use crate::harness::server::{Place, Server, free_addresses};
use crate::harness::summary::CROSSED_CORES;
use crate::harness::{self, Ask, Case, Contestant, Group, Load, Prepare, Started, Work};
use crate::load::kafka::{self, Consumer, Producer};
use crate::load::nats::{self, Publisher, Puller};
use crate::load::stream;
use crate::peers::{self, Found, NATS, OURS};
use crate::settings::Settings;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// What is true of an acknowledgement in the durable cases.
const SYNCED: &str = "on disk before every acknowledgement";
/// Partitions, or streams, that are consumed from, each by one consumer.
const CONSUMED: usize = 16;
/// What is asked for at a time: a batch of so many bytes, or so many messages of a KiB.
const CHUNK_BYTES: usize = 64 * 1024;
const CHUNK_MESSAGES: usize = 64;
/// How long ours may take until what it holds in memory beside its tail is in files.
const WRITTEN: Duration = Duration::from_secs(60);
/// Messages under way on each connection while a server is filled.
const FILL_IN_FLIGHT: usize = 16;

pub(crate) fn run(settings: &Settings) -> Result<Report, Error> {
    let (found, mut gaps) = peers::find(settings, &[NATS])?;
    gaps.push(Gap {
        case: String::new(),
        contestant: "kafka".to_owned(),
        reason: "Debian has no package of it".to_owned(),
    });
    let all: Vec<Found> = peers::ours(settings)?.into_iter().chain(found).collect();
    let group = |name, synced, cases| Group {
        name,
        contestants: all.iter().map(|found| contestant(settings, found.clone(), synced)).collect(),
        cases,
        files: Some(disk::target_folder()),
    };
    let groups =
        [group("synced", true, produce_cases(&all)), group("consumed", false, consume_cases(settings))];
    harness::run("broker", settings, &groups, gaps)
}

/// Ours, or NATS with every message synced or with its own default, two minutes.
fn contestant(settings: &Settings, found: Found, synced: bool) -> Contestant {
    let every_cpu = settings.every_cpu();
    found.contestant(move |found, place| match found.peer {
        OURS => ours(found, place, &every_cpu),
        _ => nats(found, place, synced),
    })
}

fn ours(found: &Found, place: Place, every_cpu: &str) -> Result<Started, Error> {
    let address = free_addresses(1)?[0];
    let data = place.path().join("data").display().to_string();
    let arguments = ["broker", "--data", &data, "--listen", &address.to_string()];
    found.start_all_threads(place, every_cpu, arguments, address)
}

fn nats(found: &Found, place: Place, synced: bool) -> Result<Started, Error> {
    let address = free_addresses(1)?[0];
    let sync = if synced { "\n  sync_interval: always" } else { "" };
    let text =
        format!("listen: {address}\njetstream {{\n  store_dir: {:?}{sync}\n}}\n", place.path().join("data"));
    let file = place.file("nats.conf", &text)?;
    let launch = found.launch(&place, ["-c", &file.display().to_string()], address);
    Ok(Started { configuration: format!("{launch}\n{text}"), server: Server::start(place, &[launch])? })
}

/// Ours is the one with an admin endpoint.
fn admin(server: &Server) -> Option<SocketAddr> {
    server.others.first().copied()
}

/// Batches of so many bytes, and the connections that send them, one at a time each.
const BATCHES: [(usize, &str, usize); 4] =
    [(100, "100 B", 64), (1024, "1 KiB", 64), (64 << 10, "64 KiB", 16), (1 << 20, "1 MiB", 4)];

fn produce_cases(all: &[Found]) -> Vec<Case> {
    let unsynced = all.iter().filter(|found| found.peer == NATS.name && !syncs_each_message(&found.version));
    let gaps: Vec<(String, String)> = unsynced
        .map(|found| {
            let reason = "before 2.10 it can't be told to sync every message; --peer nats-server=PATH names a newer one";
            (found.name.clone(), reason.to_owned())
        })
        .collect();
    let of = |partitions: u32| {
        let gaps = gaps.clone();
        BATCHES.map(move |(bytes, size, connections)| {
            let case = produce(partitions, bytes, size, connections);
            Case { gaps: gaps.clone(), ..case }
        })
    };
    [1, 256].into_iter().flat_map(of).collect()
}

/// `sync_interval` came with 2.10.
fn syncs_each_message(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or_default());
    (numbers.next(), numbers.next()) >= (Some(2), Some(10))
}

fn produce(partitions: u32, bytes: usize, size: &str, connections: usize) -> Case {
    let prepare: Prepare = Box::new(move |server, _| match admin(server) {
        Some(_) => kafka::create_topic(server.address, partitions),
        None => nats::create_streams(server.address, partitions, 0),
    });
    let load: Load = Box::new(move |server, settings, rate, counters| {
        let spec = stream::Spec { connections, ..settings.spec(server.address, 1, rate) };
        if admin(server).is_some() {
            let (batch, _) = kafka::batch_of(bytes);
            stream::run(&spec, move |number| Producer::new(&batch, number, connections, partitions), counters)
        } else {
            stream::run(&spec, move |number| Publisher::new(bytes, number, connections, partitions), counters)
        }
    });
    let of = if partitions == 1 { "1 partition".to_owned() } else { format!("{partitions} partitions") };
    Case {
        name: format!("produce {size}, {of}, {connections} in flight"),
        durability: SYNCED,
        work: Work::Requests { prepare: Some(prepare), load, latency: bytes == 1024, ask: Some(crossed()) },
        gaps: Vec::new(),
    }
}

fn consume_cases(settings: &Settings) -> Vec<Case> {
    vec![
        // 64 MiB in all, which is in the server's memory, sixteen times over.
        consume("consume the newest 64 MiB", settings.scaled(64), settings.scaled(64), 16, false),
        // The oldest three quarters of a GiB; what ours keeps in memory is newer.
        consume("consume cold, the page cache dropped", settings.scaled(1024), settings.scaled(768), 1, true),
    ]
}

/// Every consumer reads `read` of the `stored` chunks of its partition, so many rounds.
fn consume(name: &str, stored: u64, read: u64, rounds: u64, cold: bool) -> Case {
    let prepare: Prepare = Box::new(move |server, settings| {
        fill(server, settings, stored, rounds)?;
        if !cold {
            return Ok(());
        }
        if let Some(admin) = admin(server) {
            wait_until_written(admin)?;
        }
        disk::drop_cached(server.folder())
    });
    let load: Load = Box::new(move |server, settings, _, counters| {
        let spec = settings.spec(server.address, 1, None);
        if admin(server).is_some() {
            let (batch, records) = kafka::batch_of(CHUNK_BYTES);
            let clients = (0..CONSUMED).map(|number| Consumer::new(number, read, batch.len(), records));
            stream::complete_counted(&spec, clients.map(|client| (client, read * rounds)).collect(), counters)
        } else {
            let message = CHUNK_BYTES / CHUNK_MESSAGES;
            let clients = (0..CONSUMED).map(|number| Puller::new(number, read, CHUNK_MESSAGES, message));
            stream::complete_counted(&spec, clients.map(|client| (client, read * rounds)).collect(), counters)
        }
    });
    Case {
        name: format!("{name}, {CHUNK_MESSAGES} messages of 1 KiB at a time, {CONSUMED} consumers"),
        durability: "",
        work: Work::Requests { prepare: Some(prepare), load, latency: false, ask: Some(crossed()) },
        gaps: Vec::new(),
    }
}

/// So many chunks into each partition.
fn fill(server: &Server, settings: &Settings, chunks: u64, rounds: u64) -> Result<(), Error> {
    let partitions = u32::try_from(CONSUMED).expect("few");
    let spec = settings.spec(server.address, FILL_IN_FLIGHT, None);
    if admin(server).is_some() {
        kafka::create_topic(server.address, partitions)?;
        let (batch, _) = kafka::batch_of(CHUNK_BYTES);
        let clients = (0..CONSUMED).map(|number| Producer::new(&batch, number, CONSUMED, partitions));
        stream::complete(&spec, clients.map(|client| (client, chunks)).collect())?;
    } else {
        nats::create_streams(server.address, partitions, rounds)?;
        let message = CHUNK_BYTES / CHUNK_MESSAGES;
        let clients = (0..CONSUMED).map(|number| Publisher::new(message, number, CONSUMED, partitions));
        let messages = chunks * CHUNK_MESSAGES as u64;
        stream::complete(&spec, clients.map(|client| (client, messages)).collect())?;
    }
    Ok(())
}

/// Until nothing waits in memory for its file.
fn wait_until_written(admin: SocketAddr) -> Result<(), Error> {
    let begun = Instant::now();
    while Metrics::of(admin)?.sum("millrace_broker_unwritten_bytes").is_some_and(|bytes| bytes > 0.0) {
        if begun.elapsed() > WRITTEN {
            let line = format!("not everything was in files after {} s", WRITTEN.as_secs());
            return Err(Error::WrongAnswer(line));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Ours: the share of its requests' pieces that went to another core. A request of these cases has one piece.
fn crossed() -> Ask {
    Box::new(|server| {
        let Some(admin) = admin(server) else { return Ok(Vec::new()) };
        let metrics = Metrics::of(admin)?;
        let sum = |core: &str| metrics.sum(&format!("millrace_broker_jobs_{core}_core_total"));
        let (Some(own), Some(other)) = (sum("own"), sum("other")) else { return Ok(Vec::new()) };
        Ok(vec![(CROSSED_CORES.to_owned(), other * 100.0 / (own + other).max(1.0))])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_sync_each_message() {
        assert_eq!(["2.9.10", "2.10.0", "2.15.1", "3.0"].map(syncs_each_message), [false, true, true, true]);
    }
}
