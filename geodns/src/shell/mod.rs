//! Sockets and cores: moves octets between askers and [`crate::core`], decides nothing.
//!
//! | module | what |
//! |---|---|
//! | `udp` | datagrams, in batches |
//! | `tcp` | connections |
//! | `current` | the answers in force, replaced by a reload |
//!
//! What always holds: every core has its own sockets, tasks and count; cores share what is read only, and meet at counters once
//! per batch.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use ops::{Service, Stop};
use runtime::net::{self, BoundListener, BoundUdp, ListenOptions};
use runtime::sync::Notify;

use crate::core::Responder;
use crate::metrics::Metrics;
use crate::{Config, Error};

mod current;
mod tcp;
mod udp;

use current::{Current, View};

/// How often a pair of free ports is looked for when port 0 is asked for: UDP's may be taken for TCP.
const PORT_TRIES_MAX: usize = 16;

/// A server that has its ports and its answers, and serves when it is run.
#[derive(Debug)]
pub struct Bound {
    config: Config,
    responder: Responder,
    addresses: Vec<SocketAddr>,
    /// For each core.
    sockets: Vec<Sockets>,
}

#[derive(Debug, Default)]
struct Sockets {
    udp: Vec<BoundUdp>,
    tcp: Vec<BoundListener>,
}

/// What the tasks of one core share.
struct CoreState {
    view: RefCell<View>,
    metrics: Metrics,
    stop: Stop,
    tcp_idle: Duration,
    connections_max: usize,
    connections: Cell<usize>,
    connection_ended: Notify,
}

impl Bound {
    /// Loads the zones and binds every address on UDP and TCP.
    ///
    /// # Errors
    /// What can't be served or listened on.
    pub fn bind(config: Config) -> Result<Bound, Error> {
        let responder = config.load()?;
        let cores = if config.cores == 0 { runtime::cores() } else { config.cores };
        let mut addresses = Vec::new();
        let mut sockets: Vec<Sockets> = (0..cores).map(|_| Sockets::default()).collect();
        for &address in &config.listen {
            let (udp, tcp) = bind_pair(address, cores)?;
            addresses.push(udp[0].local_addr());
            for ((core, udp), tcp) in sockets.iter_mut().zip(udp).zip(tcp) {
                core.udp.push(udp);
                core.tcp.push(tcp);
            }
        }
        Ok(Bound { config, responder, addresses, sockets })
    }

    /// The addresses in the order of the configuration; port 0 has become a port.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves until a stop is requested and every core has drained. SIGHUP reads the zone files again; when one is not
    /// right, that is logged and the zones of before are served on.
    ///
    /// # Errors
    /// A core that could not be started or ended by itself.
    pub fn run(self, service: &Service) -> Result<(), Error> {
        let mut metrics = None;
        service.register(|registry| metrics = Some(Metrics::register(registry)));
        let shared = Shared {
            config: Arc::new(self.config),
            current: Arc::new(Current::new(self.responder)),
            metrics: metrics.expect("register calls back once"),
            cores: self.sockets.len(),
        };
        let reloaded = shared.clone();
        service.on_reload(move || reloaded.reload());

        let mut result = Ok(());
        let mut threads = Vec::new();
        for (core, sockets) in self.sockets.into_iter().enumerate() {
            let name = format!("geodns-{core}");
            let (pulse, shared, of) = (name.clone(), shared.clone(), service.clone());
            let make = move || shared.serve(pulse, sockets, of);
            match service.spawn_core(&name, runtime::Options::default(), make) {
                Ok(thread) => threads.push(thread),
                Err(source) => {
                    service.stop().request();
                    result = Err(Error::Core { core, source });
                    break;
                }
            }
        }
        if result.is_ok() {
            tracing::info!(addresses = ?self.addresses, cores = shared.cores, "serving DNS");
            service.ready();
        }
        for (core, thread) in threads.into_iter().enumerate() {
            let ended = thread.join().expect("a panic on a core ends the process");
            if let Err(source) = ended.flatten() {
                result = Err(Error::Core { core, source });
            }
        }
        result
    }
}

/// What all cores share; clones are the same.
#[derive(Clone)]
struct Shared {
    config: Arc<Config>,
    current: Arc<Current>,
    metrics: Metrics,
    cores: usize,
}

impl Shared {
    /// Serves on this core. A core that fails ends the others.
    async fn serve(self, name: String, sockets: Sockets, service: Service) -> io::Result<()> {
        let stop = service.stop().clone();
        runtime::spawn(service.pulse().keep(&name, &stop));
        let state = Rc::new(CoreState {
            view: RefCell::new(View::of(self.current)),
            metrics: self.metrics,
            stop: stop.clone(),
            tcp_idle: Duration::from_millis(self.config.timeouts.tcp_idle_ms),
            connections_max: self.config.limits.tcp_connections_max.div_ceil(self.cores),
            connections: Cell::new(0),
            connection_ended: Notify::new(),
        });
        let served = serve(sockets, state, Duration::from_millis(self.config.timeouts.drain_ms)).await;
        stop.request();
        served
    }

    fn reload(&self) {
        match self.config.load() {
            Ok(responder) => self.current.replace(responder),
            Err(why) => {
                self.metrics.reloads_failed.inc();
                tracing::error!("reload refused, the zones of before are served on: {why}");
            }
        }
    }
}

fn bind_pair(address: SocketAddr, cores: usize) -> Result<(Vec<BoundUdp>, Vec<BoundListener>), Error> {
    let failed = |protocol| move |source| Error::Listen { address, protocol, source };
    let mut tries = PORT_TRIES_MAX;
    loop {
        let udp = net::bind_udp(address, cores).map_err(failed("UDP"))?;
        let stream_address = udp[0].local_addr().into();
        match net::listen(&stream_address, cores, &ListenOptions::default()) {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(why) if address.port() == 0 && why.kind() == io::ErrorKind::AddrInUse && tries > 0 => {
                tries -= 1;
            }
            Err(why) => return Err(failed("TCP")(why)),
        }
    }
}

/// Serves `sockets` until the stop, then waits for the connections to end, at most `drain`.
async fn serve(sockets: Sockets, state: Rc<CoreState>, drain: Duration) -> io::Result<()> {
    let mut tasks = Vec::new();
    for socket in sockets.udp {
        tasks.push(runtime::spawn(udp::serve(socket.open()?, state.clone())));
    }
    for listener in sockets.tcp {
        tasks.push(runtime::spawn(tcp::serve(listener.open()?, state.clone())));
    }
    join_all(tasks).await;

    let drained = async {
        while state.connections.get() > 0 {
            state.connection_ended.notified().await;
        }
    };
    if runtime::time::timeout(drain, drained).await.is_err() {
        tracing::warn!(connections = state.connections.get(), "connections cut that did not end in time");
    }
    Ok(())
}
