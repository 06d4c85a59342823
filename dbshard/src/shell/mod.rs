//! Sockets and files: binds, reads the data folder, starts a core per thread, stops them.
//!
//! What always holds: nothing here decides about a request. A shard lives on one core, with its listener, its connections
//! and its group of one of the core's logs. A connection is accepted only once the shard has all its keys.

mod checkpoint;
mod connection;
mod core;
mod folder;
mod host;
mod machine;
mod membership;
mod turnstile;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use replog::{NodeCore, NodeId, NodeOptions};
use runtime::net::{self, Address, BoundListener, ListenOptions};

use crate::core::topology::{Node, Place, Topology, id_of, nodes_of, slots_of};
use crate::metrics::{All, Figures};
use crate::{Config, Error};

/// Connections that the kernel holds before they are accepted.
const BACKLOG: u32 = 1024;

/// A node that has its addresses and serves from [`Server::run`] on.
#[derive(Debug)]
pub struct Server {
    config: Config,
    /// The shards that this node has.
    listeners: Vec<(usize, SocketAddr, BoundListener)>,
}

impl Server {
    /// Takes the addresses.
    ///
    /// # Errors
    /// [`Error::Config`] and [`Error::Listen`].
    pub fn bind(config: &Config) -> Result<Server, Error> {
        config.validate()?;
        let options = ListenOptions { backlog: BACKLOG, ..ListenOptions::default() };
        let mut listeners = Vec::new();
        for number in folder::shards_of(config) {
            let mut address = config.listen;
            if let Some(cluster) = &config.cluster {
                address.set_port(cluster.here().port);
            }
            if address.port() != 0 {
                address.set_port(address.port() + number as u16);
            }
            let failed = |source| Error::Listen { address: address.to_string(), source };
            let listener = net::listen(&Address::Ip(address), 1, &options).map_err(failed)?.remove(0);
            let bound = listener.local_addr().ip().unwrap_or(address);
            listeners.push((number, bound, listener));
        }
        Ok(Server { config: config.clone(), listeners })
    }

    /// Where the shards listen that this node has; port 0 has become a port.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|(_, address, _)| *address).collect()
    }

    fn topology(&self, cluster: u64) -> Topology {
        let shards = self.config.shards;
        let replicas = |shard: usize| -> Vec<Node> {
            let Some(config) = &self.config.cluster else {
                let address = self.listeners[shard].1;
                let host = self.config.announce_host.clone().unwrap_or_else(|| address.ip().to_string());
                return vec![Node { id: id_of(cluster, 1, shard), number: 1, host, port: address.port() }];
            };
            let on = nodes_of(shard, config.nodes.len(), config.replicas).map(|at| &config.nodes[at]);
            on.map(|node| Node {
                id: id_of(cluster, node.id, shard),
                number: node.id,
                host: node.host.clone(),
                port: node.port + shard as u16,
            })
            .collect()
        };
        Topology::new((0..shards).map(|shard| Place::new(slots_of(shard, shards), replicas(shard))).collect())
    }

    /// How the node takes part in its groups.
    fn node_options(&self, node: &folder::NodeFile) -> NodeOptions {
        let mut options = NodeOptions::new(NodeId(node.node), node.cluster);
        if let Some(cluster) = &self.config.cluster {
            options.listen = Some(Address::Ip(cluster.here().peer));
            let others = cluster.nodes.iter().filter(|other| other.id != cluster.node);
            options.peers = others.map(|other| (NodeId(other.id), Address::Ip(other.peer))).collect();
        }
        options
    }

    /// Serves until the service is asked to stop, then lets running requests finish and closes the log.
    ///
    /// # Errors
    /// When the data can't be read or trusted, or a core fails; the service is asked to stop then.
    pub fn run(self, service: &ops::Service) -> Result<(), Error> {
        let opened = runtime::block_on(&runtime::Options::default(), folder::open(&self.config));
        let folder = opened.map_err(|source| Error::Core { core: 0, source })??;
        let topology = Arc::new(self.topology(folder.node.cluster));
        let figures: Vec<(usize, Arc<Figures>)> =
            self.listeners.iter().map(|(number, ..)| (*number, Arc::new(Figures::new()))).collect();
        service.register(|registry| registry.register_collector(Box::new(All(figures.clone()))));
        let checked = figures.clone();
        service.add_check("log", move || {
            match checked.iter().any(|(_, shard)| shard.read_only.load(Ordering::Relaxed)) {
                true => Err("the disk is full: writes are refused until there is space".to_owned()),
                false => Ok(()),
            }
        });
        for (number, address, _) in &self.listeners {
            let slots = &topology.shards[*number].slots;
            tracing::info!(%address, shard = number, slots = ?slots, "dbshard listens");
        }

        let streams = folder.node.streams;
        let cores = runtime::cores().min(streams);
        let parts = NodeCore::bind(&self.node_options(&folder.node), streams)?;
        let mut parts: Vec<Option<NodeCore>> = parts.into_iter().map(Some).collect();
        let loading = Arc::new(AtomicUsize::new(cores));
        let founding = Arc::new(AtomicUsize::new(cores));
        let mut starts: Vec<core::Start> = (0..cores)
            .map(|core| core::Start {
                config: self.config.clone(),
                node: folder.node.clone(),
                streams: (core..streams)
                    .step_by(cores)
                    .filter_map(|stream| Some((stream, parts[stream].take()?)))
                    .collect(),
                shards: Vec::new(),
                topology: Arc::clone(&topology),
                service: service.clone(),
                loading: Arc::clone(&loading),
                founding: Arc::clone(&founding),
            })
            .collect();
        for ((number, _, listener), (_, figures)) in self.listeners.into_iter().zip(figures) {
            starts[number % streams % cores].shards.push(core::ShardStart { number, listener, figures });
        }
        let outcome = run_cores(starts, service);
        drop(folder);
        outcome
    }
}

fn run_cores(starts: Vec<core::Start>, service: &ops::Service) -> Result<(), Error> {
    let mut threads = Vec::new();
    let mut outcome = Ok(());
    for (number, start) in starts.into_iter().enumerate() {
        let stop = service.stop().clone();
        // A core that fails takes the others with it: its shards would be missing, and nobody be told.
        let serve = move || async move {
            let ended = core::serve(start).await;
            if ended.is_err() {
                stop.request();
            }
            ended
        };
        match service.spawn_core(&format!("dbshard-{number}"), runtime::Options::default(), serve) {
            Ok(thread) => threads.push((number, thread)),
            Err(source) => {
                service.stop().request();
                outcome = Err(Error::Core { core: number, source });
                break;
            }
        }
    }
    for (core, thread) in threads {
        let ended = match thread.join() {
            Ok(Ok(ended)) => ended,
            Ok(Err(source)) => Err(Error::Core { core, source }),
            Err(_) => Err(Error::Panic { core }),
        };
        outcome = outcome.and(ended);
    }
    outcome
}
