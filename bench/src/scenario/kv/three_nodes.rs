//! Three nodes that agree on every write, all on the servers' CPUs: etcd, and a gap where ours will be.

use super::Shape;
use crate::error::Error;
use crate::harness::server::{Launch, Place, Server, free_addresses};
use crate::harness::{Case, Contestant, Load, Prepare, Started, Work};
use crate::load::etcd::{self, Etcd, Work as Request};
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

/// etcd as it is by default, on three nodes.
pub(super) fn contestant(found: Found) -> Contestant {
    let (name, version) = (found.name.clone(), found.version.clone());
    let start = move |place: Place| {
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
                Launch {
                    name: format!("{} n{node}", found.name),
                    program: found.path.clone(),
                    arguments: flags.to_vec(),
                    cpus: place.cpus.clone(),
                    // It takes connections there before it has found the others.
                    ready: client,
                }
            })
            .collect();
        let configuration: Vec<String> = launches.iter().map(Launch::to_string).collect();
        Ok(Started { configuration: configuration.join("\n"), server: Server::start(place, &launches)? })
    };
    Contestant { name, version, start: Box::new(start) }
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
    cases.into_iter().map(|case| Case { gaps: gaps.clone(), ..case }).collect()
}

fn requests(name: &str, durability: &'static str, shape: Shape<Request>) -> Case {
    let Shape { work, connections, in_flight, keys } = shape;
    let load: Load = Box::new(move |server, settings, rate, counters| {
        let spec = stream::Spec { connections, ..settings.spec(leader(server)?, in_flight, rate) };
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
    let nodes: Vec<SocketAddr> =
        std::iter::once(server.address).chain(server.others.iter().copied()).collect();
    etcd::leader(&nodes)
}
