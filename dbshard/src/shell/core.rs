//! One core: its log streams, its shards, their listeners, their end.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use replog::{GroupId, Log};
use runtime::net::{Address, BoundListener, Listener, Stream};

use super::host::{Connection, Host};
use super::{checkpoint, connection, folder};
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
    /// The log streams that this core has, out of so many.
    pub(super) streams: Vec<usize>,
    pub(super) streams_in_all: usize,
    pub(super) shards: Vec<ShardStart>,
    pub(super) topology: Arc<Topology>,
    pub(super) service: ops::Service,
    /// How many cores have not all their keys yet.
    pub(super) loading: Arc<AtomicUsize>,
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
    let Start { config, streams, streams_in_all, shards, topology, service, loading } = start;
    let (request_bytes, reply_bytes) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (mut hosts, mut logs, mut acceptors) = (Vec::new(), Vec::new(), Vec::new());
    let mut shards_by_stream: BTreeMap<usize, Vec<ShardStart>> = BTreeMap::new();
    for shard in shards {
        shards_by_stream.entry(shard.number % streams_in_all).or_default().push(shard);
    }
    let mut ready = Vec::new();
    for stream in streams {
        let shards = shards_by_stream.remove(&stream).unwrap_or_default();
        let (log, recovered) = recover(&config, &topology, stream, &shards).await?;
        for (shard, start) in recovered.into_iter().zip(shards) {
            ready.push((log.clone(), shard, start));
        }
        logs.push(log);
    }
    for (log, (shard, log_bytes), start) in ready {
        let group = group_of(start.number);
        let shares = (Rc::clone(&request_bytes), Rc::clone(&reply_bytes));
        let host = Host::new(shard, &config, log, group, shares, start.figures);
        host.log_bytes.set(log_bytes);
        let failed =
            |source| Error::Listen { address: topology.nodes[start.number].port.to_string(), source };
        let listener = start.listener.open().map_err(failed)?;
        acceptors.push(runtime::spawn(accept(listener, Rc::clone(&host))));
        acceptors.push(runtime::spawn(Rc::clone(&host).tick()));
        acceptors.push(runtime::spawn(Rc::clone(&host).retry_writes()));
        acceptors.push(runtime::spawn(checkpoint::write_when_wanted(Rc::clone(&host))));
        runtime::spawn(Rc::clone(&host).propose_each_turn());
        hosts.push(host);
    }
    if loading.fetch_sub(1, Ordering::AcqRel) == 1 {
        service.ready();
    }
    service.stop().requested().await;
    for acceptor in acceptors {
        acceptor.abort();
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
    Ok(())
}

/// Opens a log stream and rebuilds its shards; gives each with the bytes of log that were replayed.
async fn recover(
    config: &Config,
    topology: &Arc<Topology>,
    stream: usize,
    starts: &[ShardStart],
) -> Result<(Log, Vec<(Shard, u64)>), Error> {
    let mut loaded = Vec::new();
    for start in starts {
        let make = |seed: Option<u64>| {
            let seed = seed.unwrap_or_else(|| {
                let mut bytes = [0; 8];
                runtime::random_bytes(&mut bytes);
                u64::from_le_bytes(bytes)
            });
            Shard::new(Arc::clone(topology), start.number, settings(config), seed, runtime::time::unix_ms())
        };
        let path = folder::checkpoint(&config.data, start.number);
        let (shard, saved) = checkpoint::load(&path, start.number, group_of(start.number).0, make).await?;
        loaded.push((shard, saved, 0));
    }
    let mut options = replog::Options::new(folder::stream(&config.data, stream));
    options.segment_bytes = config.wal_segment_bytes;
    let mut failed = None;
    let replay = |group: GroupId, index: replog::Index, entry: bytes::Bytes| {
        let found = starts.iter().position(|start| group_of(start.number) == group);
        let Some((shard, saved, bytes)) =
            found.and_then(|at| loaded.get_mut(at)).filter(|_| failed.is_none())
        else {
            return;
        };
        let (first, started) = (index.0, shard.last_index().max(saved.started()));
        if first > started + 1 {
            failed = Some(Error::Gap { shard: shard.number, first, saved: started });
            return;
        }
        *bytes += entry.len() as u64;
        if index.0 > saved.started() {
            let replayed = shard.replay(index.0, &entry, |keyspace, key| saved.has(keyspace, key, index.0));
            if replayed.is_err() {
                failed = Some(Error::Unreadable {
                    shard: shard.number,
                    what: format!("entry {index} of the log"),
                });
            }
        }
    };
    let log = Log::open_with(options, replay).await?;
    if let Some(error) = failed {
        return Err(error);
    }
    let mut shards = Vec::new();
    for (mut shard, saved, bytes) in loaded {
        let group = group_of(shard.number);
        // Ahead of its log, as after a repair that gave up the log's end.
        if saved.last() > log.last(group).0 {
            tracing::warn!(
                shard = shard.number,
                checkpoint = saved.last(),
                log = log.last(group).0,
                "the log ends before its checkpoint: what was written after that is gone"
            );
            log.truncate(group, replog::Index(saved.last()));
        }
        shard.replayed(saved.last().max(log.last(group).0));
        tracing::info!(
            shard = shard.number,
            keys = shard.keyspace().len(),
            log_bytes = bytes,
            "shard recovered"
        );
        shards.push((shard, bytes));
    }
    Ok((log, shards))
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
