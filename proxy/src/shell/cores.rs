//! Binding, one thread per core, stop and drain.
//!
//! What always holds: every address is bound and every certificate read before any core starts, so a mistake stops the
//! proxy with nothing half done; when the stop is requested no connection is accepted any more, idle ones end, running
//! requests finish or the drain time does.

use super::client::serve;
use super::local::Local;
use super::setup::Setup;
use super::watch::{self, News};
use crate::config::Config;
use crate::error::Error;
use crate::metrics::{CoreCounts, Sums};
use runtime::net::{Address, BoundListener, ListenOptions, Listener};
use runtime::sync::{MailReceiver, MailSender, mailbox};
use runtime::time::{sleep, timeout};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tls::rustls::ServerConfig;

/// News of servers told to the first core and not yet taken; more say little that is new.
const NEWS_MAX: usize = 1024;
/// Between two tries to accept when the system has no room.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// How often connections to servers that were idle for too long are closed.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);

/// A proxy that has its addresses and certificates, not yet serving.
pub struct Bound {
    setup: Arc<Setup>,
    addresses: Vec<Address>,
    /// Of each core, its listeners.
    cores: Vec<Vec<Door>>,
}

/// A listener of one core.
struct Door {
    listener: BoundListener,
    tls: Option<Arc<ServerConfig>>,
}

impl Bound {
    /// Validates `config`, reads its certificates and binds its addresses.
    pub fn new(config: &Config) -> Result<Bound, Error> {
        let count = if config.cores == 0 { runtime::cores() } else { config.cores };
        let setup = Arc::new(Setup::new(config, count)?);
        let mut cores: Vec<Vec<Door>> = (0..count).map(|_| Vec::new()).collect();
        let mut addresses = Vec::new();
        for listen in &config.listen {
            let tls = match &listen.tls {
                None => None,
                Some(files) => {
                    let files = tls::CertifiedFiles { cert: files.cert.clone(), key: files.key.clone() };
                    let config = tls::ServerConfig::from_pem(&[files], &[b"http/1.1"]);
                    Some(config.map_err(|source| Error::Tls { address: listen.address.clone(), source })?)
                }
            };
            let failed = |source| Error::Listen { address: listen.address.clone(), source };
            let address: Address = listen
                .address
                .parse()
                .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
            let listeners =
                runtime::net::listen(&address, count, &ListenOptions::default()).map_err(failed)?;
            addresses.extend(listeners.first().map(BoundListener::local_addr));
            for (core, listener) in cores.iter_mut().zip(listeners) {
                core.push(Door { listener, tls: tls.clone() });
            }
        }
        Ok(Bound { setup, addresses, cores })
    }

    /// The addresses bound, in the order of the configuration, with the ports that port 0 became.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Serves until `service` is asked to stop and running requests have ended.
    pub fn run(self, service: &ops::Service) -> Result<(), Error> {
        let Bound { setup, addresses, cores } = self;
        let counts: Vec<_> = cores.iter().map(|_| Arc::new(CoreCounts::new(setup.servers.len()))).collect();
        let names = setup
            .servers
            .iter()
            .map(|server| (setup.upstreams[server.upstream].name.clone(), server.name.clone()));
        let sums = Sums { names: names.collect(), cores: counts.clone(), up: setup.up.clone() };
        service.register(|registry| registry.register_collector(Box::new(sums)));
        let checked = setup.clone();
        service.add_check("upstreams", move || upstreams_up(&checked));

        let (news, told) = mailbox(NEWS_MAX);
        let mut told = Some(told);
        let (started, starting) = std::sync::mpsc::channel();
        let mut threads = Vec::new();
        let mut first_error = None;
        for (core, (doors, counts)) in cores.into_iter().zip(counts).enumerate() {
            let share = Share {
                setup: setup.clone(),
                counts,
                news: news.clone(),
                told: told.take(),
                doors,
                stop: service.stop().clone(),
                started: started.clone(),
            };
            match service.spawn_core(&format!("proxy-{core}"), options(), move || share.run()) {
                Ok(thread) => threads.push((core, thread)),
                Err(source) => {
                    service.stop().request();
                    first_error.get_or_insert(Error::Core { core, source });
                }
            }
        }
        drop(started);
        // Ends early if a core fails to start: its sender goes with it.
        if starting.iter().take(threads.len()).count() == threads.len() && first_error.is_none() {
            for address in &addresses {
                tracing::info!(%address, "listening");
            }
            service.ready();
        }
        for (core, thread) in threads {
            let source = match thread.join() {
                Ok(Ok(Ok(()))) => continue,
                Ok(Ok(Err(error)) | Err(error)) => error,
                Err(_) => io::Error::other("panicked"),
            };
            service.stop().request();
            first_error.get_or_insert(Error::Core { core, source });
        }
        first_error.map_or(Ok(()), Err)
    }
}

/// Ready is a proxy that can answer: each upstream has a server that is up.
fn upstreams_up(setup: &Setup) -> Result<(), String> {
    let down = setup
        .upstreams
        .iter()
        .find(|upstream| !setup.up[upstream.servers.clone()].iter().any(|up| up.load(Ordering::Relaxed)));
    down.map_or(Ok(()), |upstream| Err(format!("no server of `{}` is up", upstream.name)))
}

/// Larger and fewer receive buffers than usual: most bytes through a proxy are bodies.
fn options() -> runtime::Options {
    runtime::Options { recv_buffer_bytes: 64 * 1024, recv_buffers: 256, ..runtime::Options::default() }
}

/// What one core gets when it starts.
struct Share {
    setup: Arc<Setup>,
    counts: Arc<CoreCounts>,
    news: MailSender<News>,
    /// The first core keeps the health of all servers.
    told: Option<MailReceiver<News>>,
    doors: Vec<Door>,
    stop: ops::Stop,
    started: std::sync::mpsc::Sender<()>,
}

impl Share {
    async fn run(self) -> io::Result<()> {
        let local = Rc::new(Local::new(&self.setup, self.counts, self.news));
        let mut accepting = Vec::new();
        for door in self.doors {
            let listener = door.listener.open()?;
            accepting.push(runtime::spawn(accept(local.clone(), listener, door.tls)));
        }
        if let Some(told) = self.told {
            watch::start(&self.setup, told);
        }
        let expiring = local.clone();
        runtime::spawn(async move {
            loop {
                sleep(EXPIRE_EVERY).await;
                expiring.expire_idle();
            }
        });
        // Nobody listens any more only if the start was given up.
        let _ = self.started.send(());
        self.stop.requested().await;
        local.drain.begin();
        for accepting in accepting {
            accepting.await;
        }
        let drained = async {
            while local.connections() > 0 {
                local.connection_ended.notified().await;
            }
        };
        if timeout(self.setup.timeouts.drain, drained).await.is_err() {
            tracing::warn!(connections = local.connections(), "stopping though connections are still open");
        }
        Ok(())
    }
}

/// Accepts until the core stops. While the core has as many connections as it may, new ones wait in the kernel; each
/// listener looks for itself, so a core may have one more per listener.
async fn accept(local: Rc<Local>, listener: Listener, tls: Option<Arc<ServerConfig>>) {
    loop {
        if !local.has_room() {
            if local.drain.unless(local.connection_ended.notified()).await.is_none() {
                return;
            }
            continue;
        }
        match local.drain.unless(listener.accept()).await {
            None => return,
            Some(Ok((stream, peer))) => {
                runtime::spawn(serve(local.admit(), local.clone(), stream, peer, tls.clone()));
            }
            // No descriptors, no memory: it is for others to end first.
            Some(Err(error)) => {
                tracing::debug!(%error, "accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
