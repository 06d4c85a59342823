//! One core: its log streams, its shards, their listeners, their end.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use replog::{GroupId, Index, Members, NodeCore, NodeId, Replicas, StateMachine};
use runtime::net::{Address, BoundListener, Listener, Stream};

use super::folder::NodeFile;
use super::host::{Connection, Host};
use super::machine::Machine;
use super::{checkpoint, connection, folder, membership};
use crate::core::checkpoint::Reader;
use crate::core::session::Session;
use crate::core::shard::{Settings, Shard};
use crate::core::topology::Topology;
use crate::metrics::Figures;
use crate::{Config, Error};

/// How long accepting rests after it failed (no descriptors left, for one).
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// What a core is started with.
pub(super) struct Start {
    pub(super) config: Config,
    /// What the data folder was made for.
    pub(super) node: NodeFile,
    /// The log streams that this core has, each with its part of the node.
    pub(super) streams: Vec<(usize, NodeCore)>,
    pub(super) shards: Vec<ShardStart>,
    pub(super) topology: Arc<Topology>,
    pub(super) service: ops::Service,
    /// How many cores have not all their keys yet.
    pub(super) loading: Arc<AtomicUsize>,
    /// How many cores have groups that no leader was seen of since they were founded.
    pub(super) founding: Arc<AtomicUsize>,
}

/// What a shard is started with.
pub(super) struct ShardStart {
    pub(super) number: usize,
    pub(super) listener: BoundListener,
    pub(super) figures: Arc<Figures>,
}

/// The group of a shard in the log.
fn group_of(shard: usize) -> GroupId {
    GroupId(shard as u64 + 1)
}

/// Serves until the stop is requested, the connections are closed and the log too.
pub(super) async fn serve(start: Start) -> Result<(), Error> {
    let Start { config, node, streams, shards, topology, service, loading, founding } = start;
    let shares = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (mut hosts, mut logs, mut listeners) = (Vec::new(), Vec::new(), Vec::new());
    let mut shards_by_stream: BTreeMap<usize, Vec<ShardStart>> = BTreeMap::new();
    for shard in shards {
        shards_by_stream.entry(shard.number % node.streams).or_default().push(shard);
    }
    for (stream, part) in streams {
        let mut replicas = Vec::new();
        for shard in shards_by_stream.remove(&stream).unwrap_or_default() {
            let stop = service.stop().clone();
            let host = load(&config, &topology, &shard, node.node, shares.clone(), stop).await?;
            replicas.push(host.clone());
            hosts.push(host);
            listeners.push((shard.number, shard.listener));
        }
        logs.push(recover(&config, &node, (stream, part), &replicas).await?);
    }
    let mut tasks = Vec::new();
    for host in &hosts {
        tasks.push(runtime::spawn(Rc::clone(host).tick()));
        tasks.push(runtime::spawn(Rc::clone(host).retry_writes()));
        tasks.push(runtime::spawn(checkpoint::write_when_wanted(Rc::clone(host))));
        runtime::spawn(Rc::clone(host).propose_each_turn());
        if !host.is_alone() {
            tasks.push(runtime::spawn(membership::watch(Rc::clone(host))));
            tasks.push(runtime::spawn(membership::ask_for_vote(Rc::clone(host))));
        }
    }
    if config.cluster.is_some() && !node.fill {
        tasks.push(runtime::spawn(founded(hosts.clone(), config.data.clone(), node, founding)));
    }
    let stop = service.stop().clone();
    let complete = async {
        for host in &hosts {
            host.complete().await;
        }
    };
    if let Either::Left(_) = select(pin!(complete), pin!(stop.requested())).await {
        for ((number, listener), host) in listeners.into_iter().zip(&hosts) {
            let failed = |source| Error::Listen { address: format!("the port of shard {number}"), source };
            let listener = listener.open().map_err(failed)?;
            tasks.push(runtime::spawn(accept(listener, Rc::clone(host))));
        }
    }
    if loading.fetch_sub(1, Ordering::AcqRel) == 1 {
        service.ready();
    }
    service.stop().requested().await;
    for task in tasks {
        task.abort();
    }
    let limit = Duration::from_millis(config.drain_ms);
    for host in &hosts {
        host.draining.set(true);
        cut_idle(host);
    }
    let all_gone = async {
        for host in &hosts {
            while !host.connections.borrow().is_empty() {
                host.gone.notified().await;
            }
        }
    };
    if runtime::time::timeout(limit, all_gone).await.is_err() {
        tracing::warn!("connections cut off in the middle of a request: the drain time is over");
        hosts.iter().for_each(cut_all);
    }
    for host in &hosts {
        host.propose_all().await;
    }
    for log in logs {
        log.close().await?;
    }
    match hosts.iter().find_map(|host| host.take_failure()) {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}

/// Notes in the data folder that its groups are founded, once that is durable: a leader was elected since. A group that is
/// missing later was lost, and is not to be founded again.
async fn founded(hosts: Vec<Rc<Host>>, data: PathBuf, mut node: NodeFile, founding: Arc<AtomicUsize>) {
    for host in &hosts {
        while host.role.get().leader.is_none() {
            host.role_changed.notified().await;
        }
    }
    node.fill = true;
    if founding.fetch_sub(1, Ordering::AcqRel) == 1
        && let Err(error) = folder::write(&data, &node).await
    {
        tracing::error!(%error, "cannot note that the cluster is founded");
    }
}

/// A shard's replica as its checkpoint has it.
async fn load(
    config: &Config,
    topology: &Arc<Topology>,
    start: &ShardStart,
    node: u64,
    shares: (Rc<Cell<usize>>, Rc<Cell<usize>>),
    stop: ops::Stop,
) -> Result<Rc<Host>, Error> {
    let mut seed = [0; 8];
    runtime::random_bytes(&mut seed);
    let seed = u64::from_le_bytes(seed);
    let now_ms = runtime::time::unix_ms();
    let mut shard = Shard::new(Arc::clone(topology), (start.number, node), settings(config), seed, now_ms);
    let (path, group) = (folder::checkpoint(&config.data, start.number), group_of(start.number));
    checkpoint::sweep(&path).await;
    let loaded = checkpoint::load(&path, start.number, group.0, shard.keyspace().slots()).await?;
    let (mut saved, mut reader) = (None, Reader::default());
    if let Some(loaded) = loaded {
        reader = loaded.reader;
        saved = Some(reader.started());
        shard.replace(loaded.keyspace, reader.started());
    }
    let host = Host::new(shard, config, (NodeId(node), group), shares, Arc::clone(&start.figures), stop);
    host.saved.set(saved);
    host.loaded.replace(reader);
    Ok(host)
}

/// Opens a log stream and brings its shards up to date.
async fn recover(
    config: &Config,
    node: &NodeFile,
    (stream, part): (usize, NodeCore),
    hosts: &[Rc<Host>],
) -> Result<Replicas, Error> {
    let mut options = replog::Options::new(folder::stream(&config.data, stream));
    options.segment_bytes = config.wal_segment_bytes;
    let host_of = |group| hosts.iter().find(|host| host.group == group);
    let make = |group| -> Box<dyn StateMachine> {
        let host = host_of(group).expect("a folder keeps its shards, each in its stream");
        Box::new(Machine(Rc::clone(host)))
    };
    let replicas = Replicas::open(part, options, make).await?;
    for host in hosts {
        let machine = Box::new(Machine(Rc::clone(host)));
        let members: Vec<NodeId> =
            host.shard.borrow().home().replicas.iter().map(|replica| NodeId(replica.number)).collect();
        if node.fill && members.len() > 1 {
            replicas.join(host.group, machine)?;
        } else {
            replicas.found(host.group, Members::voters(members), machine)?;
        }
        let _ = host.replicas.set(replicas.clone());
        if let Some(failure) = host.take_failure() {
            return Err(failure);
        }
        if let Some(saved) = host.saved.get() {
            replicas.truncate(host.group, Index(saved));
        }
        let shard = host.shard.borrow();
        tracing::info!(
            shard = shard.number,
            keys = shard.keyspace().len(),
            log_bytes = host.log_bytes.get(),
            "shard recovered"
        );
    }
    Ok(replicas)
}

fn settings(config: &Config) -> Settings {
    Settings {
        maxmemory_bytes: usize::try_from(config.maxmemory_bytes).unwrap_or(usize::MAX),
        password: config.password.as_ref().map(|password| password.expose().clone()),
        transaction_bytes_max: config.request_bytes_max,
        clients_max: config.connections_max,
        dir: config.data.display().to_string(),
        idle_timeout_s: config.idle_timeout_s,
        process_id: std::process::id(),
    }
}

async fn accept(listener: Listener, host: Rc<Host>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => admit(stream, &peer, &host),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                runtime::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

thread_local! {
    static LAST_ID: Cell<u64> = const { Cell::new(0) };
}

/// Starts a connection's task, or says that there are too many.
fn admit(stream: Stream, peer: &Address, host: &Rc<Host>) {
    let (Some(peer), Some(local)) = (peer.ip(), stream.local_addr().ok().and_then(|address| address.ip()))
    else {
        return;
    };
    if host.connections.borrow().len() >= host.config.connections_max {
        host.shard.borrow_mut().stats.connections_refused += 1;
        runtime::spawn(async move {
            let _ = stream.send("-ERR max number of clients reached\r\n").await;
        });
        return;
    }
    let id = LAST_ID.get() + 1;
    LAST_ID.set(id);
    let open = host.config.password.is_none();
    let session = Session::new(id, peer, local, open, runtime::time::unix_ms());
    let session = Rc::new(std::cell::RefCell::new(session));
    host.shard.borrow_mut().register(Rc::clone(&session));
    let idle = Rc::new(Cell::new(true));
    host.connections.borrow_mut().insert(id, Connection { idle: Rc::clone(&idle), task: None });
    let leaving = Leaving { host: Rc::clone(host), id };
    let task = runtime::spawn(async move {
        let host = Rc::clone(&leaving.host);
        if let Err(error) = connection::serve(&stream, &host, &session, &idle).await {
            tracing::debug!(%peer, %error, "connection failed");
        }
        drop(leaving);
    });
    if let Some(connection) = host.connections.borrow_mut().get_mut(&id) {
        connection.task = Some(task);
    }
}

/// Takes a connection off the lists, however its task ends.
struct Leaving {
    host: Rc<Host>,
    id: u64,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let connection = self.host.connections.borrow_mut().remove(&self.id);
        drop(connection);
        self.host.shard.borrow_mut().forget(self.id);
        self.host.gone.notify_all();
    }
}

/// Ends the connections that wait for their peers.
fn cut_idle(host: &Rc<Host>) {
    let tasks: Vec<_> = host
        .connections
        .borrow_mut()
        .values_mut()
        .filter(|connection| connection.idle.get())
        .filter_map(|connection| connection.task.take())
        .collect();
    tasks.into_iter().for_each(runtime::JoinHandle::abort);
}

fn cut_all(host: &Rc<Host>) {
    let tasks: Vec<_> =
        host.connections.borrow_mut().values_mut().filter_map(|connection| connection.task.take()).collect();
    tasks.into_iter().for_each(runtime::JoinHandle::abort);
}
