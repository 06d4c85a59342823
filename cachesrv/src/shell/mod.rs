//! Sockets: binds, starts a core per thread, stops them.
//!
//! What always holds: it decides nothing about a request. When the service is asked to stop, no connection is accepted
//! any more, one with nothing half received is closed, and the others have until the drain time is over.

mod clock;
mod connection;
mod core;

use std::sync::Arc;

use runtime::net::{self, Address, BoundListener, ListenOptions};

use crate::core::cache::{Cache, CacheOptions};
use crate::metrics::Figures;
use crate::{Config, Error};

pub(crate) use clock::Clock;

/// What `version` says before our own version; clients that look at it look for memcached's level.
const MEMCACHED_LEVEL: &str = "1.6.38";

/// Receive buffers per core: they are used in turn, so all of them become resident, and count for nothing in `-m`.
const RECV_BUFFERS: u16 = 256;

/// A cache that has its addresses and serves from [`Server::run`] on.
#[derive(Debug)]
pub struct Server {
    config: Config,
    cache: Arc<Cache>,
    clock: Clock,
    /// Per address, one listener per core.
    listeners: Vec<Vec<BoundListener>>,
}

impl Server {
    /// Takes the addresses.
    ///
    /// # Errors
    /// [`Error::Config`] and [`Error::Listen`].
    pub fn bind(config: &Config) -> Result<Server, Error> {
        config.validate()?;
        let options = ListenOptions { backlog: config.backlog, unix_mode: Some(config.unix_mode) };
        let mut listeners = Vec::new();
        for address in config.addresses()? {
            let bound = net::listen(&address, config.cores(), &options);
            listeners.push(bound.map_err(|source| Error::Listen { address: address.to_string(), source })?);
        }
        let cache = Arc::new(Cache::new(cache_options(config, &listeners)));
        cache.verbosity.store(config.verbosity, std::sync::atomic::Ordering::Relaxed);
        Ok(Server { config: config.clone(), cache, clock: Clock::new(), listeners })
    }

    /// Where it listens, in the order of the configuration; port 0 has become a port.
    pub fn addresses(&self) -> Vec<Address> {
        self.listeners.iter().map(|copies| copies[0].local_addr()).collect()
    }

    /// Serves until the service is asked to stop and running requests have ended.
    ///
    /// # Errors
    /// [`Error::Core`] and [`Error::Panic`]; the service is asked to stop then.
    pub fn run(self, service: &ops::Service) -> Result<(), Error> {
        service.register(|registry| {
            let figures = Figures { cache: Arc::clone(&self.cache), clock: self.clock };
            registry.register_collector(Box::new(figures));
        });
        for address in self.addresses() {
            tracing::info!(%address, memory_bytes = self.config.memory_bytes, "cachesrv listens");
        }
        let cores = self.config.cores();
        let mut per_core: Vec<Vec<BoundListener>> = (0..cores).map(|_| Vec::new()).collect();
        for copies in self.listeners {
            for (core, listener) in copies.into_iter().enumerate() {
                per_core[core].push(listener);
            }
        }
        let mut threads = Vec::new();
        let mut outcome = Ok(());
        for (core, listeners) in per_core.into_iter().enumerate() {
            let start = core::Start {
                core,
                listeners,
                cache: Arc::clone(&self.cache),
                clock: self.clock,
                stop: service.stop().clone(),
                config: self.config.clone(),
            };
            let mut options = runtime::Options { recv_buffers: RECV_BUFFERS, ..runtime::Options::default() };
            if self.config.epoll {
                options.backend = runtime::Backend::Epoll;
            }
            match service.spawn_core(&format!("cachesrv-{core}"), options, move || core::serve(start)) {
                Ok(thread) => threads.push((core, thread)),
                Err(source) => {
                    service.stop().request();
                    outcome = Err(Error::Core { core, source });
                    break;
                }
            }
        }
        if outcome.is_ok() {
            service.ready();
        }
        for (core, thread) in threads {
            let ended = match thread.join() {
                Ok(Ok(Ok(()))) => Ok(()),
                Ok(Ok(Err(source)) | Err(source)) => Err(Error::Core { core, source }),
                Err(_) => Err(Error::Panic { core }),
            };
            if ended.is_err() {
                service.stop().request();
            }
            outcome = outcome.and(ended);
        }
        outcome
    }
}

fn cache_options(config: &Config, listeners: &[Vec<BoundListener>]) -> CacheOptions {
    let addresses: Vec<Address> = listeners.iter().map(|copies| copies[0].local_addr()).collect();
    let port = addresses.iter().find_map(|address| address.ip().map(|ip| ip.port()));
    let inter: Vec<String> =
        addresses.iter().filter_map(|address| address.ip().map(|ip| ip.to_string())).collect();
    let socket = addresses.iter().find_map(|address| match address {
        Address::Unix(path) => Some(path.display().to_string()),
        Address::Ip(_) => None,
    });
    let mut seed = [0; 8];
    runtime::random_bytes(&mut seed);
    CacheOptions {
        memory_bytes: usize::try_from(config.memory_bytes).expect("validated"),
        item_bytes_max: usize::try_from(config.item_bytes_max).expect("validated"),
        evict: config.evict,
        cas: config.cas,
        cores: config.cores(),
        seed: u64::from_le_bytes(seed),
        flush_all: config.flush_all,
        shutdown_command: config.shutdown_command,
        track_sizes: config.track_sizes,
        settings: vec![
            ("maxconns", config.connections_max.to_string()),
            ("tcpport", port.unwrap_or(0).to_string()),
            ("udpport", "0".to_owned()),
            ("inter", inter.join(",")),
            ("domain_socket", socket.unwrap_or_else(|| "NULL".to_owned())),
            ("umask", format!("{:o}", config.unix_mode)),
            ("tcp_backlog", config.backlog.to_string()),
            ("idle_timeout", config.idle_timeout_s.to_string()),
            ("maxconns_fast", "yes".to_owned()),
        ],
        version: format!("{MEMCACHED_LEVEL}-millrace-{}", env!("CARGO_PKG_VERSION")),
        pid: std::process::id(),
    }
}
