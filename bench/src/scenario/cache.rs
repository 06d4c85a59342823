//! `cache`: cachesrv beside memcached. 16-byte keys; 32-byte values unless a case says otherwise.

use crate::error::Error;
use crate::harness::result::Report;
use crate::harness::server::{Server, free_addresses};
use crate::harness::{self, Case, Contestant, Group, Load, Prepare, Started, Work};
use crate::load::keys::{Keys, Popularity, Sizes};
use crate::load::memcached::{Memcached, Work as Ask};
use crate::load::stream;
use crate::peers::{self, Found, MEMCACHED, OURS};
use crate::settings::Settings;

/// Memory for items: more than any case fills.
const MEMORY_MIB: usize = 4096;
/// Connections allowed: more than the case of idle ones opens.
const CONNECTIONS_MAX: usize = 20_000;
/// Connections that fill a cache, and the requests each has under way.
const FILLERS: usize = 16;
const FILL_IN_FLIGHT: usize = 64;

pub(crate) fn run(settings: &Settings) -> Result<Report, Error> {
    let (found, gaps) = peers::find(settings, &[MEMCACHED])?;
    let contestants =
        peers::ours(settings)?.into_iter().chain(found).map(|found| contestant(found, MEMORY_MIB)).collect();
    let groups = [Group { name: "", contestants, cases: cases(settings), files: None }];
    harness::run("cache", settings, &groups, gaps)
}

/// Ours or memcached, which take the same flags, with so much memory for items.
pub(super) fn contestant(found: Found, memory_mib: usize) -> Contestant {
    found.contestant(move |found, place| {
        let address = free_addresses(1)?[0];
        let mut arguments: Vec<String> = Vec::new();
        if found.peer == OURS {
            arguments.push("cachesrv".to_owned());
        } else {
            arguments.extend(["-u".to_owned(), "root".to_owned()]);
        }
        let flags = format!(
            "-l 127.0.0.1 -p {} -U 0 -t {} -m {memory_mib} -c {CONNECTIONS_MAX}",
            address.port(),
            place.threads
        );
        arguments.extend(flags.split(' ').map(str::to_owned));
        let launch = found.launch(&place, arguments, address);
        Ok(Started { configuration: launch.to_string(), server: Server::start(place, &[launch])? })
    })
}

/// A case's requests.
#[derive(Clone, Copy)]
struct Shape {
    ask: Ask,
    connections: usize,
    in_flight: usize,
    items: u64,
    popularity: Popularity,
    sizes: Sizes,
}

fn cases(settings: &Settings) -> Vec<Case> {
    let million = settings.scaled(1_000_000);
    let five_million = settings.scaled(5_000_000);
    let plain = Shape {
        ask: Ask::Get { keys: 1 },
        connections: 64,
        in_flight: 1,
        items: million,
        popularity: Popularity::Uniform,
        sizes: Sizes::Fixed(32),
    };
    let set = Shape { ask: Ask::Set, ..plain };
    let mixed = Shape {
        ask: Ask::Mixed { sets: 0.1 },
        popularity: Popularity::Zipf { s: 0.99 },
        sizes: Sizes::Etc,
        ..plain
    };
    vec![
        requests("get, 64 connections", plain, true),
        requests("get, 64 connections × 16 in flight", Shape { in_flight: 16, ..plain }, false),
        requests("get, 512 connections", Shape { connections: 512, ..plain }, false),
        requests(
            "mg v, 64 connections × 16 in flight",
            Shape { ask: Ask::MetaGet, in_flight: 16, ..plain },
            false,
        ),
        requests(
            "get of 100 keys out of 5 million, 16 connections",
            Shape { ask: Ask::Get { keys: 100 }, connections: 16, items: five_million, ..plain },
            false,
        ),
        requests("set, 64 connections", set, true),
        requests("set, 64 connections × 16 in flight", Shape { in_flight: 16, ..set }, false),
        requests("90 % get and 10 % set, Zipf 0.99, sizes of a busy cache, 64 connections", mixed, true),
        Case {
            name: "memory of 5 million items, 16-byte keys and 32-byte values".to_owned(),
            durability: "",
            work: Work::Items { count: five_million, fill: fill(Shape { items: five_million, ..plain }) },
            gaps: Vec::new(),
        },
        Case {
            name: "memory of 10,000 idle connections".to_owned(),
            durability: "",
            work: Work::Idle { count: settings.scaled(10_000) },
            gaps: Vec::new(),
        },
    ]
}

fn requests(name: &str, shape: Shape, latency: bool) -> Case {
    let load: Load = Box::new(move |server, settings, rate, counters| {
        let spec = stream::Spec {
            connections: shape.connections,
            ..settings.spec(server.address, shape.in_flight, rate)
        };
        let client = move |number: usize| {
            Memcached::new(shape.ask, Keys::new(shape.items, shape.popularity, number as u64), shape.sizes)
        };
        stream::run(&spec, client, counters)
    });
    let work = Work::Requests { prepare: Some(fill(shape)), load, latency, ask: None };
    Case { name: name.to_owned(), durability: "", work, gaps: Vec::new() }
}

/// Stores every item once.
fn fill(shape: Shape) -> Prepare {
    Box::new(move |server, settings| {
        let clients = (0..FILLERS as u64).map(|first| {
            let ask = Ask::Fill { first, step: FILLERS as u64 };
            let client = Memcached::new(ask, Keys::new(1, Popularity::Uniform, 0), shape.sizes);
            (client, (shape.items + FILLERS as u64 - 1 - first) / FILLERS as u64)
        });
        let tally =
            stream::complete(&settings.spec(server.address, FILL_IN_FLIGHT, None), clients.collect())?;
        if tally.refused > 0 {
            return Err(Error::WrongAnswer(format!(
                "{} of {} items were refused",
                tally.refused, shape.items
            )));
        }
        Ok(())
    })
}
