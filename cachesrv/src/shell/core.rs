//! One core: its listeners, its connections, their end.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use runtime::net::{BoundListener, Listener, Stream};
use runtime::sync::Notify;
use slab::Slab;
use wire::memcached::answer;

use super::{Clock, connection};
use crate::Config;
use crate::core::cache::Cache;

/// How often the wall clock is looked at; absolute expiries are that exact when it is set.
const WALL_CLOCK_EVERY: Duration = Duration::from_secs(1);
/// How long accepting rests after it failed (no descriptors left, for one).
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// What a core is started with.
pub(super) struct Start {
    pub(super) core: usize,
    pub(super) listeners: Vec<BoundListener>,
    pub(super) cache: Arc<Cache>,
    pub(super) clock: Clock,
    pub(super) stop: ops::Stop,
    pub(super) config: Config,
}

/// What the tasks of a core share.
pub(super) struct Core {
    pub(super) number: usize,
    pub(super) cache: Arc<Cache>,
    pub(super) clock: Clock,
    pub(super) offset_ms: Cell<u64>,
    pub(super) stop: ops::Stop,
    pub(super) idle_timeout: Option<Duration>,
    /// No more commands are taken once the ones half received are whole.
    pub(super) draining: Cell<bool>,
    connections_max: usize,
    /// Every open connection: whether it is idle, and its task.
    connections: RefCell<Slab<Entry>>,
    gone: Notify,
}

struct Entry {
    idle: Rc<Cell<bool>>,
    task: Option<runtime::JoinHandle<()>>,
}

/// Serves until the stop is requested and the connections are closed.
pub(super) async fn serve(start: Start) -> io::Result<()> {
    let core = Rc::new(Core {
        number: start.core,
        offset_ms: Cell::new(start.clock.offset_ms()),
        clock: start.clock,
        connections_max: start.config.connections_max,
        idle_timeout: Some(start.config.idle_timeout_s).filter(|s| *s > 0).map(Duration::from_secs),
        cache: start.cache,
        stop: start.stop.clone(),
        draining: Cell::new(false),
        connections: RefCell::default(),
        gone: Notify::new(),
    });
    let mut acceptors = Vec::new();
    for listener in start.listeners {
        let listener = listener.open()?;
        acceptors.push(runtime::spawn(accept(listener, Rc::clone(&core))));
    }
    runtime::spawn(watch_wall_clock(Rc::clone(&core)));
    start.stop.requested().await;
    for acceptor in acceptors {
        acceptor.abort();
    }
    drain(&core, Duration::from_millis(start.config.drain_ms)).await;
    Ok(())
}

async fn watch_wall_clock(core: Rc<Core>) {
    loop {
        runtime::time::sleep(WALL_CLOCK_EVERY).await;
        core.offset_ms.set(core.clock.offset_ms());
    }
}

async fn accept(listener: Listener, core: Rc<Core>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if core.cache.verbosity.load(Ordering::Relaxed) > 1 {
                    tracing::info!(%peer, "connection opened");
                }
                admit(stream, &core);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                runtime::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Starts a connection's task, or says that there are too many.
fn admit(stream: Stream, core: &Rc<Core>) {
    let cache = &core.cache;
    if cache.connections.fetch_add(1, Ordering::Relaxed) >= core.connections_max {
        cache.connections.fetch_sub(1, Ordering::Relaxed);
        cache.connections_rejected.fetch_add(1, Ordering::Relaxed);
        runtime::spawn(async move {
            let _ = stream.send([answer::TOO_MANY_CONNECTIONS, "\r\n"].concat().into_bytes()).await;
        });
        return;
    }
    cache.connections_total.fetch_add(1, Ordering::Relaxed);
    let idle = Rc::new(Cell::new(true));
    let key = core.connections.borrow_mut().insert(Entry { idle: Rc::clone(&idle), task: None });
    let leaving = Leaving { core: Rc::clone(core), key };
    let task = runtime::spawn(async move {
        let core = Rc::clone(&leaving.core);
        if let Err(error) = connection::serve(&stream, &core, &idle).await
            && core.cache.verbosity.load(Ordering::Relaxed) > 0
        {
            tracing::info!(peer = ?stream.peer_addr().ok(), %error, "connection failed");
        }
        drop(leaving);
    });
    if let Some(entry) = core.connections.borrow_mut().get_mut(key) {
        entry.task = Some(task);
    }
}

/// Takes a connection off the list, however its task ends.
struct Leaving {
    core: Rc<Core>,
    key: usize,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let entry = self.core.connections.borrow_mut().remove(self.key);
        drop(entry);
        self.core.cache.connections.fetch_sub(1, Ordering::Relaxed);
        self.core.gone.notify_all();
    }
}

/// Closes what is idle and waits for the rest, at most `limit`.
async fn drain(core: &Rc<Core>, limit: Duration) {
    core.draining.set(true);
    let idle: Vec<runtime::JoinHandle<()>> = {
        let mut connections = core.connections.borrow_mut();
        connections
            .iter_mut()
            .filter(|(_, entry)| entry.idle.get())
            .filter_map(|(_, entry)| entry.task.take())
            .collect()
    };
    for task in idle {
        task.abort();
    }
    let all_gone = async {
        while !core.connections.borrow().is_empty() {
            core.gone.notified().await;
        }
    };
    if runtime::time::timeout(limit, all_gone).await.is_err() {
        let left = core.connections.borrow().len();
        tracing::warn!(left, "connections cut off in the middle of a request: the drain time is over");
    }
}
