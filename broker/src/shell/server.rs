//! Starts the cores, and ends them: first no new connections, then the running requests, then the disks.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select, try_join_all};
use replog::{NodeCore, NodeId, NodeOptions};
use runtime::net::{self, Address, BoundListener, ListenOptions};
use runtime::sync::{MailReceiver, MailSender, mailbox};
use runtime::{fs, time};
use wire::kafka::StrBytes;

use super::core::{Core, Shared};
use super::mail::{MAILBOX_CAPACITY, Mail, Post};
use super::shard::Shard;
use super::{connection, flush, start, stored};
use crate::core::api::{self, Identity};
use crate::metrics::Metrics;
use crate::{Config, Error};

/// A broker that has its port but doesn't serve yet.
pub struct Server {
    config: Config,
    listeners: Vec<BoundListener>,
    address: Address,
    advertised: (String, u16),
}

impl Server {
    /// Checks the settings and takes the port.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Listen`].
    pub fn bind(config: Config) -> Result<Self, Error> {
        let wanted = config.validate()?;
        let cores = config.cores.unwrap_or_else(runtime::cores);
        let listeners = net::listen(&wanted, cores, &ListenOptions::default())
            .map_err(|source| Error::Listen { address: wanted.to_string(), source })?;
        let address = listeners.first().map_or(wanted, BoundListener::local_addr);
        let advertised = config.advertised(&address)?;
        Ok(Self { config, listeners, address, advertised })
    }

    /// Where it listens, the port resolved.
    #[must_use]
    pub fn local_addr(&self) -> &Address {
        &self.address
    }

    /// Serves until the service is asked to stop, then ends cleanly: running requests end within `drain_ms`, everything
    /// is synced.
    ///
    /// # Errors
    /// What kept it from starting or made it end: the data folder, the disk, a core.
    pub fn run(self, service: &ops::Service) -> Result<(), Error> {
        let metrics = Metrics::default();
        service.register(|registry| metrics.register(registry));
        let cores = self.listeners.len();
        let data = self.config.data.clone();
        let node = NodeId(u64::try_from(self.config.node()).unwrap_or(0));
        let founding = stored::Founding {
            node: node.0,
            shards: cores,
            cluster: self.config.cluster.as_ref().map(|cluster| (cluster.name.clone(), cluster.nodes.len())),
        };
        let prepare = prepare(data.clone(), founding);
        let (lock, layout) = runtime::block_on(&runtime::Options::default(), prepare)
            .map_err(|source| Error::Core { core: 0, source })??;
        let options = node_options(&self.config, node, &layout.cluster_id)?;
        let nodes = NodeCore::bind(&options, layout.shards)?;
        let (host, port) = self.advertised;
        let full_shards = (0..layout.shards).map(|_| AtomicBool::new(false)).collect();
        let shared = Arc::new(Shared {
            identity: Identity {
                node_id: self.config.node(),
                cluster_id: StrBytes::from_string(layout.cluster_id.clone()),
                nodes: nodes_of(&self.config, host, port),
            },
            config: self.config,
            metrics,
            stop: service.stop().clone(),
            layout,
            cores,
            started: time::now(),
            connections: AtomicUsize::new(0),
            buffered_bytes: AtomicUsize::new(0),
            full_shards,
        });
        let checked = shared.clone();
        service.add_check("log", move || {
            match checked.full_shards.iter().any(|full| full.load(Ordering::Relaxed)) {
                true => {
                    Err("the disk is full: batches and offsets are refused until there is space".to_owned())
                }
                false => Ok(()),
            }
        });
        let (senders, receivers): (Vec<MailSender<Mail>>, Vec<MailReceiver<Mail>>) =
            (0..cores).map(|_| mailbox(MAILBOX_CAPACITY)).unzip();
        let barrier = Arc::new(Barrier::default());
        let mut parts: Vec<Vec<(usize, NodeCore)>> = (0..cores).map(|_| Vec::new()).collect();
        for (shard, node) in nodes.into_iter().enumerate() {
            parts[shared.core_of(shard)].push((shard, node));
        }
        let mut parts = parts.into_iter();
        let mut threads = Vec::with_capacity(cores);
        for (id, (listener, mail)) in self.listeners.into_iter().zip(receivers).enumerate() {
            let (shared, senders, operated, barrier) =
                (shared.clone(), senders.clone(), service.clone(), barrier.clone());
            let stop = shared.stop.clone();
            let nodes = parts.next().unwrap_or_default();
            let make = move || async move {
                let core = Core::new(id, shared, Post::new(senders));
                let result = run_core(core, nodes, listener, mail, &operated, &barrier).await;
                if let Err(error) = &result {
                    tracing::error!(core = id, %error, "the broker stops");
                    barrier.failed.store(1, Ordering::SeqCst);
                    stop.request();
                }
                result
            };
            let thread = service
                .spawn_core(&format!("broker-{id}"), runtime::Options::default(), make)
                .map_err(|source| Error::Core { core: id, source })?;
            threads.push(thread);
        }
        let mut result = Ok(());
        for (core, thread) in threads.into_iter().enumerate() {
            let ended = thread
                .join()
                .map_err(|_| Error::Panic(core))
                .and_then(|ended| ended.map_err(|source| Error::Core { core, source })?);
            result = result.and(ended);
        }
        drop(lock);
        result
    }
}

/// A cluster's number, of its name.
fn number_of(cluster_id: &str) -> u64 {
    let [high, low] =
        [b"h", b"l"].map(|salt| crc32c::crc32c_append(crc32c::crc32c(salt), cluster_id.as_bytes()));
    u64::from(high) << 32 | u64::from(low)
}

/// How this node takes part in the replication.
fn node_options(config: &Config, node: NodeId, cluster_id: &str) -> Result<NodeOptions, Error> {
    let mut options = NodeOptions::new(node, number_of(cluster_id));
    for peer in config.cluster.iter().flat_map(|cluster| &cluster.nodes) {
        let id = NodeId(u64::try_from(peer.id).unwrap_or(0));
        if id == node {
            options.listen = Some(peer.peer()?);
        } else {
            options.peers.insert(id, peer.peer()?);
        }
    }
    Ok(options)
}

/// The nodes as clients are told of them.
fn nodes_of(config: &Config, host: String, port: u16) -> Vec<api::Node> {
    match &config.cluster {
        None => vec![api::Node { id: config.node(), host: StrBytes::from_string(host), port }],
        Some(cluster) => {
            let node = |node: &crate::Node| api::Node {
                id: node.id,
                host: StrBytes::from_string(node.host.clone()),
                port: node.port,
            };
            cluster.nodes.iter().map(node).collect()
        }
    }
}

async fn prepare(data: PathBuf, founding: stored::Founding) -> Result<(fs::DirLock, stored::Layout), Error> {
    fs::create_dir_all(&data).await.map_err(Error::io("cannot make", &data))?;
    let lock = fs::lock_dir(&data).await.map_err(Error::io("cannot lock", &data))?;
    let partitions = data.join("partitions");
    fs::create_dir_all(&partitions).await.map_err(Error::io("cannot make", &partitions))?;
    let layout = stored::layout(&data, &founding).await?;
    for shard in 0..layout.shards {
        let dir = stored::shard_dir(&data, shard);
        fs::create_dir_all(&dir).await.map_err(Error::io("cannot make", &dir))?;
    }
    Ok((lock, layout))
}

/// Cores wait for one another at a few points of the start and the end.
#[derive(Default)]
struct Barrier {
    arrived: AtomicUsize,
    failed: AtomicUsize,
}

impl Barrier {
    /// Waits until every core has come to point `step` (1, 2 …); false when one failed.
    async fn wait(&self, cores: usize, step: usize) -> bool {
        self.arrived.fetch_add(1, Ordering::SeqCst);
        while self.arrived.load(Ordering::SeqCst) < cores * step {
            if self.failed.load(Ordering::SeqCst) != 0 {
                return false;
            }
            time::sleep(Duration::from_millis(1)).await;
        }
        true
    }
}

async fn run_core(
    core: Rc<Core>,
    nodes: Vec<(usize, NodeCore)>,
    listener: BoundListener,
    mail: MailReceiver<Mail>,
    service: &ops::Service,
    barrier: &Barrier,
) -> Result<(), Error> {
    let shared = core.shared.clone();
    start::open_shards(&core, nodes).await?;
    runtime::spawn(core.clone().open_mail(mail));
    // From here on every core takes mail.
    if !barrier.wait(shared.cores, 1).await {
        return Ok(());
    }
    if shared.core_of(0) == core.id {
        start::take_table(&core).await?;
    }
    if !barrier.wait(shared.cores, 2).await {
        return Ok(());
    }
    start::lead(&core).await?;
    if !barrier.wait(shared.cores, 3).await {
        return Ok(());
    }
    serve(&core, listener, service, barrier).await
}

async fn serve(
    core: &Rc<Core>,
    listener: BoundListener,
    service: &ops::Service,
    barrier: &Barrier,
) -> Result<(), Error> {
    let shared = core.shared.clone();
    let shards: Vec<Rc<Shard>> = core.shards.borrow().values().cloned().collect();
    for coordinator in shards.iter().flat_map(|shard| shard.coordinators.values()) {
        runtime::spawn(coordinator.clone().keep_time());
    }
    let listener = listener.open().map_err(|source| Error::Core { core: core.id, source })?;
    if core.id == 0 {
        tracing::info!(address = %listener.local_addr(), topics = core.topics().len(), "serving");
        service.ready();
    }
    let flushers = try_join_all(shards.iter().map(|shard| flush::run(shard.clone())));
    let accepting = accept(core, listener);
    // Flushers end when a stop is requested, or with an error that must end the broker.
    let flushed = match select(Box::pin(flushers), Box::pin(accepting)).await {
        Either::Left((flushed, _)) => flushed,
        Either::Right(((), flushers)) => flushers.await,
    };
    flushed?;
    drain(&shared).await;
    // Nobody asks any core for anything any more.
    if !barrier.wait(shared.cores, 4).await {
        return Ok(());
    }
    let controller = core.controller.borrow().clone();
    if let Some(controller) = controller {
        controller.checkpoint(core.shard(0).replicas()).await?;
    }
    for shard in &shards {
        flush::close(shard).await?;
    }
    Ok(())
}

async fn accept(core: &Rc<Core>, listener: net::Listener) {
    let stop = core.shared.stop.clone();
    while !stop.is_requested() {
        let accepted = Box::pin(listener.accept());
        match select(accepted, Box::pin(stop.requested())).await {
            Either::Left((Ok((stream, peer)), _)) => {
                runtime::spawn(connection::serve(core.clone(), stream, peer));
            }
            Either::Left((Err(error), _)) => {
                // Out of descriptors, mostly: others may end.
                tracing::warn!(%error, "cannot accept a connection");
                time::sleep(Duration::from_millis(50)).await;
            }
            Either::Right(_) => break,
        }
    }
}

/// Running requests end, within bounds.
async fn drain(shared: &Shared) {
    let deadline = time::now() + Duration::from_millis(shared.config.drain_ms);
    while shared.connections.load(Ordering::Relaxed) > 0 && time::now() < deadline {
        time::sleep(Duration::from_millis(5)).await;
    }
}
