//! Three nodes that agree on every write, all on the servers' CPUs: the replicated log alone, etcd, and a gap where dbshard
//! will be.

use super::{Shape, log_server};
use crate::error::Error;
use crate::harness::server::{Launch, Place, Server, free_addresses};
use crate::harness::{Case, Contestant, Load, Prepare, Started, Work};
use crate::load::etcd::{self, Etcd, Work as Request};
use crate::load::resp::{Resp, Shards, Work::Set};
use crate::load::stream;
use crate::peers::Found;
use crate::settings::Settings;
use std::net::SocketAddr;

const NODES: usize = 3;
/// What is true of an answer to a put.
const SYNCED: &str = "on the disks of two nodes before every answer";
/// Connections that fill the cluster, and the requests each has under way.
const FILLERS: u64 = 16;
const FILL_IN_FLIGHT: usize = 16;

/// How three servers of the log are started.
pub(super) fn log_servers(settings: &Settings) -> impl Fn(&Found, Place) -> Result<Started, Error> + 'static {
    let every_cpu = settings.every_cpu();
    move |found, place| {
        let (peers, clients) = (free_addresses(NODES)?, free_addresses(NODES)?);
        let node = |node: usize| log_server::launch(found, &place, node, clients[node - 1], &peers);
        let launches = (1..=NODES).map(node).collect();
        Started::confined(place, &every_cpu, launches)
    }
}

/// etcd as it is by default, on three nodes.
pub(super) fn contestant(found: Found) -> Contestant {
    found.contestant(|found, place| {
        let (peers, clients) = (free_addresses(NODES)?, free_addresses(NODES)?);
        let members: Vec<String> =
            peers.iter().enumerate().map(|(node, peer)| format!("n{node}=http://{peer}")).collect();
        let launches: Vec<Launch> = (0..NODES)
            .map(|node| {
                let (peer, client) = (peers[node], clients[node]);
                let flags = [
                    format!("--name=n{node}"),
                    format!("--data-dir={}", place.path().join(format!("n{node}")).display()),
                    format!("--listen-peer-urls=http://{peer}"),
                    format!("--initial-advertise-peer-urls=http://{peer}"),
                    format!("--listen-client-urls=http://{client}"),
                    format!("--advertise-client-urls=http://{client}"),
                    format!("--initial-cluster={}", members.join(",")),
                ];
                // It takes connections there before it has found the others.
                Launch { name: format!("{} n{node}", found.name), ..found.launch(&place, flags, client) }
            })
            .collect();
        let configuration: Vec<String> = launches.iter().map(Launch::to_string).collect();
        Ok(Started { configuration: configuration.join("\n"), server: Server::start(place, &launches)? })
    })
}

/// Puts and reads, with ours as a gap.
pub(super) fn cases(settings: &Settings, ours: &[Found]) -> Vec<Case> {
    let keys = settings.scaled(10_000);
    let shape = |work, (connections, in_flight)| Shape { work, connections, in_flight, keys };
    let mut cases: Vec<Case> = super::CONCURRENCY
        .map(|load| requests("put on three nodes", SYNCED, shape(Request::Put, load)))
        .into();
    cases.push(requests("linearizable get on three nodes", "", shape(Request::Get, (64, 1))));
    let gaps = ours.iter().map(|found| (found.name.clone(), "one node only so far".to_owned()));
    let gaps: Vec<(String, String)> = gaps.collect();
    for case in &mut cases {
        case.gaps = gaps.clone();
    }
    if let Some(reads) = cases.last_mut() {
        reads.gaps.push((log_server::NAME.to_owned(), "it keeps nothing that could be read".to_owned()));
    }
    cases
}

fn requests(name: &str, durability: &'static str, shape: Shape<Request>) -> Case {
    let Shape { work, connections, in_flight, keys } = shape;
    let load: Load = Box::new(move |server, settings, rate, counters| {
        let spec = stream::Spec { connections, ..settings.spec(leader(server)?, in_flight, rate) };
        if log_server::is(server) {
            let keys = Shards::of(server.address, keys)?;
            let client = move |number: usize| Resp::new(Set, keys.keys(number), number as u64);
            return stream::run(&spec, client, counters);
        }
        stream::run(&spec, move |number| Etcd::new(work, keys, number as u64), counters)
    });
    Case {
        name: shape.name(name),
        durability,
        work: Work::Requests { prepare: Some(fill(keys)), load, latency: false, ask: None },
        gaps: Vec::new(),
    }
}

/// Puts every key once.
fn fill(keys: u64) -> Prepare {
    Box::new(move |server, settings| {
        if log_server::is(server) {
            return log_server::wait_until_ready(server.address);
        }
        let clients = (0..FILLERS).map(|next| {
            let etcd = Etcd::new(Request::Fill { next, step: FILLERS }, keys, 0);
            (etcd, keys.saturating_sub(next).div_ceil(FILLERS))
        });
        stream::complete(&settings.spec(leader(server)?, FILL_IN_FLIGHT, None), clients.collect())?;
        Ok(())
    })
}

/// The leader's address: clients of either kind send their writes there.
fn leader(server: &Server) -> Result<SocketAddr, Error> {
    if log_server::is(server) {
        return Ok(server.address);
    }
    let nodes: Vec<SocketAddr> =
        std::iter::once(server.address).chain(server.others.iter().copied()).collect();
    etcd::leader(&nodes)
}
