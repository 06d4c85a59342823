//! The process as its operator sees it: started, ready, stopping; its metrics, its checks, its pages.
//!
//! The life of a service: [`Service::start`], then metrics, checks and pages are added, then [`Service::ready`], then
//! [`Service::stop`] is requested by a signal or by the daemon itself, the daemon drains, then [`Service::shutdown`].
//! The admin endpoint answers from the first to the last, so that a drain can be watched.

use crate::admin::core::{Answer, Status};
use crate::admin::shell::Admin;
use crate::metrics::{self, Metrics};
use crate::signals::{Signal, Watch};
use crate::{Pulse, Stop, descriptors, sockets, systemd};
use prometheus_client::registry::Registry;
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// What the process says of itself.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The daemon's name: `"cachesrv"`.
    pub name: &'static str,
    /// Where the admin endpoint listens; `None` for none. Keep it private: it asks for no login.
    pub admin: Option<SocketAddr>,
    /// The effective configuration, shown on `/config`: [`crate::config::render`] of a type that keeps its secrets in
    /// [`crate::Secret`].
    pub config: String,
}

/// Why a service could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refuses to tell us of signals.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    /// The admin endpoint's address can't be had.
    #[error(
        "cannot open the admin endpoint on {address}: {source}; set another address for it or free this one"
    )]
    Admin {
        /// As set.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The thread of the endpoint and the watchdog can't start.
    #[error("cannot start the thread of the admin endpoint: {0}")]
    Thread(io::Error),
}

/// A handle on the process; clones are the same service. Any thread may use it.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
    threads: Arc<Mutex<Threads>>,
}

type Check = dyn Fn() -> Result<(), String> + Send + Sync;
type Page = dyn Fn() -> (&'static str, String) + Send + Sync;
type Reload = dyn Fn() + Send + Sync;

/// What the threads of the service share.
pub(crate) struct Shared {
    options: Options,
    stop: Stop,
    metrics: Metrics,
    pulse: Pulse,
    is_ready: AtomicBool,
    said_stopping: AtomicBool,
    checks: Mutex<Vec<(&'static str, Arc<Check>)>>,
    pages: Mutex<Vec<(&'static str, Arc<Page>)>>,
    reloads: Mutex<Vec<Arc<Reload>>>,
}

#[derive(Default)]
struct Threads {
    signals: Option<Watch>,
    admin: Option<Admin>,
    admin_address: Option<SocketAddr>,
}

impl Service {
    /// Takes note of handed-over sockets, raises the limit of open files, waits for signals from here on, and opens the
    /// admin endpoint, which answers `/readyz` with 503 until [`Service::ready`].
    pub fn start(options: Options) -> Result<Service, Error> {
        sockets::take_note();
        descriptors::raise_limit();
        let shared = Arc::new(Shared {
            stop: Stop::new(),
            metrics: Metrics::new(options.name),
            pulse: Pulse::new(runtime::time::now()),
            is_ready: AtomicBool::new(false),
            said_stopping: AtomicBool::new(false),
            checks: Mutex::default(),
            pages: Mutex::default(),
            reloads: Mutex::default(),
            options,
        });
        let admin = Admin::start(shared.options.admin, shared.clone())?;
        let admin_address = admin.as_ref().and_then(Admin::address);
        let watched = shared.clone();
        let signals = match Watch::start(move |signal| watched.on_signal(&signal)) {
            Ok(signals) => signals,
            Err(error) => {
                admin.into_iter().for_each(Admin::close);
                return Err(Error::Signals(error));
            }
        };
        let name = shared.options.name;
        tracing::info!(daemon = name, version = env!("CARGO_PKG_VERSION"), admin = ?admin_address, "starting");
        let threads = Threads { signals: Some(signals), admin, admin_address };
        Ok(Service { shared, threads: Arc::new(Mutex::new(threads)) })
    }

    /// The request to end: by SIGTERM, SIGINT, or whoever calls [`Stop::request`].
    pub fn stop(&self) -> &Stop {
        &self.shared.stop
    }

    /// Whether the cores still turn; a daemon spawns [`Pulse::keep`] on each of its cores.
    pub fn pulse(&self) -> &Pulse {
        &self.shared.pulse
    }

    /// [`runtime::spawn_core`] for a core of the daemon, whose [`Pulse`] is kept: if it no longer turns, `/healthz` says so
    /// and systemd's watchdog is not fed.
    ///
    /// # Errors
    /// As [`runtime::spawn_core`].
    pub fn spawn_core<F, Fut, T>(
        &self,
        name: &str,
        options: runtime::Options,
        make: F,
    ) -> io::Result<std::thread::JoinHandle<io::Result<T>>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let (pulse, stop, core) = (self.pulse().clone(), self.stop().clone(), name.to_owned());
        runtime::spawn_core(name, options, move || {
            runtime::spawn(pulse.keep(&core, &stop));
            make()
        })
    }

    /// Adds metrics. Names are whole (`millrace_cachesrv_commands`); a counter's `_total` is added in the text.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        self.shared.metrics.register(add);
    }

    /// Adds a condition of readiness: `/readyz` asks it, on the endpoint's thread, and shows its reason to say no. It
    /// must not block.
    pub fn add_check(
        &self,
        name: &'static str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        lock(&self.shared.checks).push((name, Arc::new(check)));
    }

    /// Adds a page to the admin endpoint at `path`, which begins with `/`; it gives content type and body. It runs on
    /// the endpoint's thread and must not block. A page added later at the same path wins.
    pub fn add_page(
        &self,
        path: &'static str,
        page: impl Fn() -> (&'static str, String) + Send + Sync + 'static,
    ) {
        assert!(path.starts_with('/'), "the path {path} of an admin page begins with /");
        lock(&self.shared.pages).push((path, Arc::new(page)));
    }

    /// Adds what SIGHUP does, on the signal thread: certificates, zones and the like read again. Without any, SIGHUP
    /// requests the stop.
    pub fn on_reload(&self, reload: impl Fn() + Send + Sync + 'static) {
        lock(&self.shared.reloads).push(Arc::new(reload));
    }

    /// The daemon serves: `/readyz` asks the checks from here on, and systemd is told.
    pub fn ready(&self) {
        if !self.shared.is_ready.swap(true, Ordering::SeqCst) {
            tracing::info!("ready");
            systemd::ready();
        }
    }

    /// Where the admin endpoint listens: with port 0 in the options, the port that it got.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        lock(&self.threads).admin_address
    }

    /// Requests the stop if nobody has, tells systemd, closes the admin endpoint and ends the service's threads. Called
    /// last, when the daemon has drained; again it does nothing.
    pub fn shutdown(&self) {
        self.shared.stop.request();
        self.shared.say_stopping();
        let (signals, admin) = {
            let mut threads = lock(&self.threads);
            (threads.signals.take(), threads.admin.take())
        };
        admin.into_iter().for_each(Admin::close);
        signals.into_iter().for_each(Watch::close);
    }
}

impl Shared {
    fn on_signal(&self, signal: &Signal) {
        let reloads = lock(&self.reloads).clone();
        match signal {
            Signal::HangUp if !reloads.is_empty() => {
                tracing::info!("SIGHUP: reloading");
                systemd::reloading();
                for reload in &reloads {
                    reload();
                }
                systemd::ready();
            }
            Signal::HangUp => self.request_stop("SIGHUP, and nothing to reload"),
            Signal::Stop(name) => self.request_stop(name),
        }
    }

    fn request_stop(&self, why: &str) {
        if !self.stop.is_requested() {
            tracing::info!(why, "stopping");
        }
        self.stop.request();
        self.say_stopping();
    }

    fn say_stopping(&self) {
        if !self.said_stopping.swap(true, Ordering::SeqCst) {
            systemd::stopping();
        }
    }

    /// Whether every core that keeps a pulse turns.
    pub(crate) fn is_alive(&self) -> bool {
        self.pulse.stuck(runtime::time::now()).is_empty()
    }

    /// What the admin endpoint says at `path`.
    pub(crate) fn answer(&self, path: &str) -> Answer {
        let page = lock(&self.pages).iter().rev().find(|(at, _)| *at == path).map(|(_, page)| page.clone());
        if let Some(page) = page {
            let (content_type, body) = page();
            return Answer { status: Status::Ok, content_type, body };
        }
        match path {
            "/" => Answer::text(Status::Ok, self.contents()),
            "/metrics" => Answer {
                status: Status::Ok,
                content_type: metrics::CONTENT_TYPE,
                body: self.metrics.encode(),
            },
            "/healthz" => self.health(),
            "/readyz" => self.readiness(),
            "/config" => Answer::text(Status::Ok, self.options.config.clone()),
            _ => Answer::text(Status::NotFound, "no such page\n"),
        }
    }

    fn contents(&self) -> String {
        let mut text = format!("{} {}\n\n", self.options.name, env!("CARGO_PKG_VERSION"));
        let mut paths = vec!["/metrics", "/healthz", "/readyz", "/config"];
        paths.extend(lock(&self.pages).iter().map(|(path, _)| *path));
        paths.sort_unstable();
        paths.dedup();
        for path in paths {
            text.push_str(path);
            text.push('\n');
        }
        text
    }

    fn health(&self) -> Answer {
        let stuck = self.pulse.stuck(runtime::time::now());
        if stuck.is_empty() {
            return Answer::text(Status::Ok, "ok\n");
        }
        let mut body = String::new();
        for (core, silent) in stuck {
            writeln!(body, "core {core} has not turned for {} s", silent.as_secs())
                .expect("a String takes it");
        }
        Answer::text(Status::Unavailable, body)
    }

    fn readiness(&self) -> Answer {
        if self.stop.is_requested() {
            return Answer::text(Status::Unavailable, "stopping\n");
        }
        if !self.is_ready.load(Ordering::SeqCst) {
            return Answer::text(Status::Unavailable, "starting\n");
        }
        let checks = lock(&self.checks).clone();
        let mut body = String::new();
        for (name, check) in checks {
            if let Err(reason) = check() {
                writeln!(body, "{name}: {reason}").expect("a String takes it");
            }
        }
        match body.is_empty() {
            true => Answer::text(Status::Ok, "ready\n"),
            false => Answer::text(Status::Unavailable, body),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no code panics while it holds a lock of the service")
}
