//! `kv`: dbshard beside redis-server, and beside etcd where three nodes agree. 16-byte keys, 32-byte values.
//!
//! Ours has as many shards and threads as it has by default, on the CPUs that the peers have; its clients ask each shard for
//! its own keys, as cluster clients do. Where SETs are synced, [`log_server`] shows what the replicated log alone costs.

pub(crate) mod log_server;
mod three_nodes;

use crate::error::Error;
use crate::harness::disk;
use crate::harness::metrics::Metrics;
use crate::harness::result::Report;
use crate::harness::server::{Place, Server, free_addresses, free_ports_in_a_row};
use crate::harness::summary::CROSSED_CORES;
use crate::harness::{self, Ask, Case, Contestant, Group, Load, Prepare, Started, Work};
use crate::load::outside::{self, Outside, Tool};
use crate::load::resp::{Resp, Shards, Work as Request};
use crate::load::stream;
use crate::peers::{self, ETCD, Found, OURS, REDIS};
use crate::settings::Settings;
use std::iter;

/// Ports for the shards that ours has by default.
const SHARDS: u16 = 8;
/// Connections allowed: more than the case of idle ones opens.
const CONNECTIONS_MAX: usize = 20_000;
/// Connections that fill a server, at least, and the requests each has under way.
const FILLERS: usize = 16;
const FILL_IN_FLIGHT: usize = 64;
/// What is true of an OK in the durable cases.
const SYNCED: &str = "on disk before every OK";

pub(crate) fn run(settings: &Settings) -> Result<Report, Error> {
    let (found, mut gaps) = peers::find(settings, &[REDIS, ETCD])?;
    let ours = peers::ours(settings)?;
    let (redis, etcd): (Vec<Found>, Vec<Found>) =
        found.into_iter().partition(|found| found.peer == REDIS.name);
    let all: Vec<Found> = ours.iter().cloned().chain(redis).collect();
    let benchmark = match outside::find(settings, Tool::RedisBenchmark)? {
        Ok(tool) => Some(tool),
        Err(gap) => {
            gaps.push(gap);
            None
        }
    };
    let group = |name, appends, cases| Group {
        name,
        contestants: all.iter().map(|found| contestant(settings, found.clone(), appends)).collect(),
        cases,
        files: Some(disk::target_folder()),
    };
    let mut synced = group("synced", true, synced_cases(settings, benchmark.as_ref()));
    synced.contestants.push(log_server::found()?.contestant(log_server::alone(settings)));
    let log_servers = log_server::found()?.contestant(three_nodes::log_servers(settings));
    let three_nodes = Group {
        name: "three nodes",
        contestants: iter::once(log_servers).chain(etcd.into_iter().map(three_nodes::contestant)).collect(),
        cases: three_nodes::cases(settings, &ours),
        files: Some(disk::target_folder()),
    };
    let groups =
        [group("in memory", false, memory_cases(settings, &all, benchmark.as_ref())), synced, three_nodes];
    harness::run("kv", settings, &groups, gaps)
}

/// Ours, or Redis with or without its append-only file.
fn contestant(settings: &Settings, found: Found, appends: bool) -> Contestant {
    let every_cpu = settings.every_cpu();
    found.contestant(move |found, place| match found.peer {
        OURS => ours(found, place, &every_cpu),
        _ => redis(found, place, appends),
    })
}

fn ours(found: &Found, place: Place, every_cpu: &str) -> Result<Started, Error> {
    let address = free_ports_in_a_row(SHARDS)?;
    let text = format!(
        "data = {:?}\nlisten = \"{address}\"\nconnections_max = {CONNECTIONS_MAX}\n",
        place.path().join("data")
    );
    let file = place.file("dbshard.toml", &text)?;
    let arguments = ["dbshard", "--config", &file.display().to_string()];
    let started = found.start_all_threads(place, every_cpu, arguments, address)?;
    Ok(Started { configuration: started.configuration + &text, ..started })
}

fn redis(found: &Found, place: Place, appends: bool) -> Result<Started, Error> {
    let address = free_addresses(1)?[0];
    let durability = if appends { "appendonly yes\nappendfsync always\n" } else { "appendonly no\n" };
    let text = format!(
        "bind {}\nport {}\ndir {}\nsave \"\"\n{durability}maxclients {CONNECTIONS_MAX}\n",
        address.ip(),
        address.port(),
        place.path().display(),
    );
    let file = place.file("redis.conf", &text)?;
    let launch = found.launch(&place, [file.display().to_string()], address);
    Ok(Started { configuration: format!("{launch}\n{text}"), server: Server::start(place, &[launch])? })
}

/// A case's requests.
#[derive(Clone, Copy)]
struct Shape<Work> {
    work: Work,
    connections: usize,
    in_flight: usize,
    keys: u64,
}

impl<Work> Shape<Work> {
    /// A case's name: `work` and how much of it is under way.
    fn name(&self, work: &str) -> String {
        match (self.connections, self.in_flight) {
            (connections, 1) => format!("{work}, {connections} in flight"),
            (connections, in_flight) => format!("{work}, {connections} × {in_flight} in flight"),
        }
    }
}

/// As much under way as by 64 connections, where connections cost little: what the log is like behind them.
const FEW_CONNECTIONS: (usize, usize) = (4, 16);
/// Connections, and the requests that each has under way.
const CONCURRENCY: [(usize, usize); 3] = [(1, 1), (64, 1), (64, 16)];

fn memory_cases(settings: &Settings, all: &[Found], benchmark: Option<&Outside>) -> Vec<Case> {
    let ours = || all.iter().filter(|found| found.peer == OURS);
    let always_synced = || {
        let reason = "answers no SET before it is on disk; there is no other setting yet";
        ours().map(|found| (found.name.clone(), reason.to_owned())).collect()
    };
    let (keys, many_keys) = (settings.scaled(1_000_000), settings.scaled(5_000_000));
    let mut cases: Vec<Case> = CONCURRENCY
        .iter()
        .map(|&(connections, in_flight)| {
            requests("GET", "", Shape { work: Request::Get, connections, in_flight, keys })
        })
        .collect();
    cases.extend(CONCURRENCY.iter().map(|&(connections, in_flight)| {
        let set = requests("SET in memory", "", Shape { work: Request::Set, connections, in_flight, keys });
        Case { gaps: always_synced(), ..set }
    }));
    cases.extend(benchmark.map(|tool| by_redis_benchmark(tool, "GET", "", keys)));
    cases.push(Case {
        name: "memory of 5 million keys, 16-byte keys and 32-byte values".to_owned(),
        durability: "",
        work: Work::Items { count: many_keys, fill: fill(many_keys) },
        gaps: Vec::new(),
    });
    cases.push(Case {
        name: "memory of 10,000 idle connections".to_owned(),
        durability: "",
        work: Work::Idle { count: settings.scaled(10_000) },
        gaps: Vec::new(),
    });
    cases
}

fn synced_cases(settings: &Settings, benchmark: Option<&Outside>) -> Vec<Case> {
    let keys = settings.scaled(1_000_000);
    let set = |&(connections, in_flight): &(usize, usize)| {
        requests("SET synced", SYNCED, Shape { work: Request::Set, connections, in_flight, keys })
    };
    let outside = benchmark.map(|tool| by_redis_benchmark(tool, "SET", SYNCED, keys));
    CONCURRENCY.iter().chain(&[FEW_CONNECTIONS]).map(set).chain(outside).collect()
}

fn requests(name: &str, durability: &'static str, shape: Shape<Request>) -> Case {
    let name = shape.name(name);
    let Shape { work, connections, in_flight, keys } = shape;
    let load: Load = Box::new(move |server, settings, rate, counters| {
        let shards = Shards::of(server.address, keys)?;
        let spec = stream::Spec {
            connections,
            others: shards.addresses[1..].to_vec(),
            ..settings.spec(shards.addresses[0], in_flight, rate)
        };
        let client = move |number: usize| Resp::new(work, shards.keys(number), number as u64);
        stream::run(&spec, client, counters)
    });
    let work = Work::Requests {
        prepare: Some(fill(keys)),
        load,
        latency: connections > 1 && in_flight == 1,
        ask: Some(crossed()),
    };
    Case { name, durability, work, gaps: Vec::new() }
}

/// Stores every key once.
fn fill(keys: u64) -> Prepare {
    Box::new(move |server, settings| {
        if log_server::is(server) {
            return log_server::wait_until_ready(server.address);
        }
        let shards = Shards::of(server.address, keys)?;
        let of_each = FILLERS.div_ceil(shards.addresses.len());
        let clients = (0..of_each * shards.addresses.len()).map(|number| {
            let keys = shards.keys(number);
            let first = number / shards.addresses.len();
            let count = keys.len().saturating_sub(first).div_ceil(of_each) as u64;
            (Resp::new(Request::Fill { next: first, step: of_each }, keys, 0), count)
        });
        let spec = stream::Spec {
            others: shards.addresses[1..].to_vec(),
            ..settings.spec(shards.addresses[0], FILL_IN_FLIGHT, None)
        };
        let tally = stream::complete(&spec, clients.collect())?;
        if tally.answers != keys {
            return Err(Error::WrongAnswer(format!("{} of {keys} keys were stored", tally.answers)));
        }
        Ok(())
    })
}

/// Ours runs a command on the core that its connection came to, or refuses it (`MOVED`): there is no third way. So the share
/// of refused ones is the share that would have to cross cores.
fn crossed() -> Ask {
    Box::new(|server| {
        let Some(admin) = server.others.first() else { return Ok(Vec::new()) };
        let metrics = Metrics::of(*admin)?;
        let sums =
            (metrics.sum("millrace_dbshard_commands_total"), metrics.sum("millrace_dbshard_errors_total"));
        let (Some(commands), Some(errors)) = sums else { return Ok(Vec::new()) };
        Ok(vec![(CROSSED_CORES.to_owned(), errors * 100.0 / (commands + errors).max(1.0))])
    })
}

/// redis-benchmark's own `GET` or `SET`, of as many keys and values of the same length.
fn by_redis_benchmark(tool: &Outside, command: &'static str, durability: &'static str, keys: u64) -> Case {
    let name = format!("{command}{}, 64 in flight", if durability.is_empty() { "" } else { " synced" });
    let prepare: Prepare = Box::new(|server, _| match log_server::is(server) {
        true => log_server::wait_until_ready(server.address),
        false => Ok(()),
    });
    tool.case(&name, durability, Some(prepare), Some(crossed()), move |server| {
        let mut arguments = vec!["-h".to_owned(), server.address.ip().to_string()];
        let flags = format!("-p {} -c 64 -d 32 -r {keys} -t {command}", server.address.port());
        arguments.extend(flags.split(' ').map(str::to_owned));
        // Ours is a cluster to it; a thread for each shard would be its default.
        if !server.others.is_empty() {
            arguments.extend(["--cluster", "--threads", "1"].map(str::to_owned));
        }
        arguments
    })
}
