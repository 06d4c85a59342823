//! The health of servers, on the first core: it alone checks them, hears of their connections and tells all cores who is up.

use super::setup::{Check, Setup};
use crate::core::health::{Change, Health, jittered, passes};
use runtime::net::Stream;
use runtime::sync::MailReceiver;
use runtime::time::{now, sleep, timeout};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use wire::http1::{FieldStorage, HeadKind, HeadScan, Limits, Response};

/// How often servers without checks are looked at for their time to come back.
const TICK: std::time::Duration = std::time::Duration::from_millis(100);

/// What cores tell of a server.
#[derive(Clone, Copy, Debug)]
pub(super) enum News {
    /// A connection to it failed.
    Failed(usize),
    /// It answered, after a connection had failed.
    Answered(usize),
}

struct Watch {
    setup: Arc<Setup>,
    servers: RefCell<Vec<Health>>,
}

/// Starts all checks on this core; `news` comes from any core.
pub(super) fn start(setup: &Arc<Setup>, news: MailReceiver<News>) {
    let health = |server: &super::setup::Server| {
        let upstream = &setup.upstreams[server.upstream];
        Health::new(upstream.thresholds, upstream.starts_up)
    };
    let servers = RefCell::new(setup.servers.iter().map(health).collect());
    let watch = Rc::new(Watch { setup: setup.clone(), servers });
    for (index, server) in setup.servers.iter().enumerate() {
        if let Some(check) = &setup.upstreams[server.upstream].check {
            runtime::spawn(watch.clone().check_on(index, check.clone()));
        }
    }
    let listening = watch.clone();
    runtime::spawn(async move {
        let mut batch = Vec::new();
        while news.recv_batch(&mut batch).await {
            for news in batch.drain(..) {
                listening.hear(news);
            }
        }
    });
    if setup.upstreams.iter().any(|upstream| upstream.check.is_none()) {
        runtime::spawn(async move {
            loop {
                sleep(TICK).await;
                for server in 0..watch.setup.servers.len() {
                    watch.apply(server, |health| health.tick(now()), "its time out is over");
                }
            }
        });
    }
}

impl Watch {
    async fn check_on(self: Rc<Watch>, server: usize, check: Check) {
        let request = request(&check, &self.setup.servers[server].name);
        loop {
            let result =
                match timeout(check.timeout, ask(&self.setup.servers[server].address, &request)).await {
                    Ok(result) => result,
                    Err(_) => Err("no answer in time".to_owned()),
                };
            let verdict = match result {
                Ok(status) if passes(&check.expect, status) => Ok(()),
                Ok(status) => Err(format!("status {status}")),
                Err(reason) => Err(reason),
            };
            let reason = verdict.as_ref().err().map_or("its checks pass", String::as_str);
            self.apply(server, |health| health.checked(verdict.is_ok(), now()), reason);
            sleep(jittered(check.interval, runtime::random_u64())).await;
        }
    }

    fn hear(&self, news: News) {
        match news {
            News::Failed(server) => {
                self.apply(server, |health| health.connection_failed(now()), "connections to it fail");
            }
            News::Answered(server) => self.apply(server, Health::answered, "it answers"),
        }
    }

    fn apply(&self, server: usize, event: impl FnOnce(&mut Health) -> Change, reason: &str) {
        let change = event(&mut self.servers.borrow_mut()[server]);
        let name = &self.setup.servers[server].name;
        let upstream = &self.setup.upstreams[self.setup.servers[server].upstream].name;
        match change {
            Change::None => {}
            Change::Up => tracing::info!(upstream, server = name, reason, "server up"),
            Change::Down => {
                tracing::warn!(upstream, server = name, reason, "server down: it gets no requests");
            }
        }
        if change != Change::None {
            self.setup.up[server].store(change == Change::Up, Ordering::Relaxed);
        }
    }
}

fn request(check: &Check, server: &str) -> Vec<u8> {
    // A Unix socket's path is no host.
    let host = match &check.host {
        Some(host) => host,
        None if server.starts_with("unix:") => "localhost",
        None => server,
    };
    let path = &check.path;
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: millrace-check\r\nAccept: */*\r\nConnection: close\r\n\r\n")
        .into_bytes()
}

/// Asks once over a connection of its own; gives the status, or why there is none.
async fn ask(address: &runtime::net::Address, request: &[u8]) -> Result<u16, String> {
    let stream = Stream::connect(address).await.map_err(|error| format!("connect: {error}"))?;
    stream.send(request.to_vec()).await.map_err(|error| format!("send: {error}"))?;
    let limits = Limits::default();
    let mut scan = HeadScan::new(HeadKind::Response);
    let mut received = Vec::new();
    loop {
        match scan.find(&received, &limits) {
            Err(error) => return Err(error.to_string()),
            Ok(None) => {}
            Ok(Some(range)) => {
                let end = range.end;
                let status = {
                    let mut storage = FieldStorage::new();
                    Response::parse(&received[range], &mut storage, false, &limits)
                        .map_err(|error| error.to_string())?
                        .status
                };
                if status >= 200 {
                    return Ok(status);
                }
                received.drain(..end);
                scan = HeadScan::new(HeadKind::Response);
                continue;
            }
        }
        let lease = stream.recv().await.map_err(|error| format!("receive: {error}"))?;
        if lease.is_empty() {
            return Err("closed without an answer".to_owned());
        }
        received.extend_from_slice(&lease);
    }
}
