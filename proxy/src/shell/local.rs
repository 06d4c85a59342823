//! What one core holds: its policies, its idle connections, its counts. Other cores have their own.

use super::drain::Drain;
use super::setup::Setup;
use super::upstream::Upconn;
use super::watch::News;
use crate::core::attempt::Attempts;
use crate::core::balance::{Load, Policy};
use crate::core::date::{DATE_BYTES, imf_fixdate};
use crate::core::idle::Idle;
use crate::metrics::CoreCounts;
use runtime::sync::{MailSender, Notify};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a Date is used before the clock is asked again.
const DATE_AGE_MAX: Duration = Duration::from_millis(250);

/// One core's share of the proxy.
pub(super) struct Local {
    pub(super) setup: Arc<Setup>,
    pub(super) counts: Arc<CoreCounts>,
    pub(super) drain: Drain,
    /// Idle connections of each server.
    pub(super) idle: Vec<RefCell<Idle<Upconn>>>,
    balancers: Vec<RefCell<Balancer>>,
    /// To the core that keeps the servers' health.
    news: MailSender<News>,
    connections: Cell<usize>,
    /// A client connection has ended.
    pub(super) connection_ended: Notify,
    date: Cell<(Option<Instant>, [u8; DATE_BYTES])>,
    logged: Cell<u64>,
}

struct Balancer {
    policy: Box<dyn Policy>,
    loads: Vec<Load>,
}

/// A request running on a server: counted until dropped.
pub(super) struct Running {
    local: Rc<Local>,
    pub(super) server: usize,
}

/// An open client connection: counted until dropped.
pub(super) struct Admitted(Rc<Local>);

/// No server to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoServer {
    /// None is up.
    AllDown,
    /// Those that may be tried have failed this request.
    AllFailed,
}

impl Local {
    pub(super) fn new(setup: &Arc<Setup>, counts: Arc<CoreCounts>, news: MailSender<News>) -> Local {
        let idle = |server: &super::setup::Server| {
            let upstream = &setup.upstreams[server.upstream];
            RefCell::new(Idle::new(upstream.idle_max, setup.timeouts.upstream_idle))
        };
        let balancer = |upstream: &super::setup::Upstream| {
            let load =
                |index: usize| Load { weight: setup.servers[index].weight, in_flight: 0, available: true };
            let loads = upstream.servers.clone().map(load).collect();
            RefCell::new(Balancer { policy: upstream.balancer(), loads })
        };
        Local {
            idle: setup.servers.iter().map(idle).collect(),
            balancers: setup.upstreams.iter().map(balancer).collect(),
            setup: setup.clone(),
            counts,
            drain: Drain::default(),
            news,
            connections: Cell::new(0),
            connection_ended: Notify::new(),
            date: Cell::new((None, [b' '; DATE_BYTES])),
            logged: Cell::new(0),
        }
    }

    /// Chooses a server of `upstream` for a request, and counts the request on it.
    pub(super) fn choose(
        self: &Rc<Local>,
        upstream: usize,
        attempts: &Attempts,
    ) -> Result<Running, NoServer> {
        let first = self.setup.upstreams[upstream].servers.start;
        let mut balancer = self.balancers[upstream].borrow_mut();
        let Balancer { policy, loads } = &mut *balancer;
        let is_up = |offset: usize| self.setup.up[first + offset].load(Ordering::Relaxed);
        // Where no checks are made none would be found up before its time: better to try them than to refuse.
        let any_up = (0..loads.len()).any(is_up);
        let all = !any_up && self.setup.upstreams[upstream].check.is_none();
        for (offset, load) in loads.iter_mut().enumerate() {
            load.available = (all || is_up(offset)) && attempts.may_use(offset);
        }
        match policy.choose(loads) {
            Some(offset) => {
                loads[offset].in_flight += 1;
                self.counts.servers[first + offset].in_flight.add();
                Ok(Running { local: self.clone(), server: first + offset })
            }
            None if any_up || all => Err(NoServer::AllFailed),
            None => Err(NoServer::AllDown),
        }
    }

    /// A server's index among those of its upstream.
    pub(super) fn offset(&self, server: usize) -> usize {
        server - self.setup.upstreams[self.setup.servers[server].upstream].servers.start
    }

    /// A connection to `server` failed. If the mailbox is full the others in it say the same.
    pub(super) fn report_failure(&self, server: usize) {
        self.setup.failing[server].store(true, Ordering::Relaxed);
        let _ = self.news.try_send(News::Failed(server));
    }

    /// `server` answered, which is news only after a failure.
    pub(super) fn report_answer(&self, server: usize) {
        let failing = &self.setup.failing[server];
        if failing.load(Ordering::Relaxed) && failing.swap(false, Ordering::Relaxed) {
            let _ = self.news.try_send(News::Answered(server));
        }
    }

    /// Whether this core may have another client connection.
    pub(super) fn has_room(&self) -> bool {
        self.connections.get() < self.setup.connections_max
    }

    /// Counts a client connection.
    pub(super) fn admit(self: &Rc<Local>) -> Admitted {
        self.connections.set(self.connections.get() + 1);
        self.counts.accepted.add();
        self.counts.connections.add();
        Admitted(self.clone())
    }

    /// Open client connections.
    pub(super) fn connections(&self) -> usize {
        self.connections.get()
    }

    /// The Date field's value.
    pub(super) fn date(&self) -> [u8; DATE_BYTES] {
        let now = runtime::time::turn_now();
        let (since, date) = self.date.get();
        if since.is_some_and(|since| now.saturating_duration_since(since) < DATE_AGE_MAX) {
            return date;
        }
        let date = imf_fixdate(runtime::time::unix_ms() / 1000);
        self.date.set((Some(now), date));
        date
    }

    /// Whether this request is one of those logged.
    pub(super) fn is_logged(&self) -> bool {
        let one_in = self.setup.log_one_in;
        if one_in == 0 {
            return false;
        }
        let count = self.logged.get();
        self.logged.set(count.wrapping_add(1));
        count.is_multiple_of(one_in)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let local = &self.local;
        let upstream = local.setup.servers[self.server].upstream;
        local.balancers[upstream].borrow_mut().loads[local.offset(self.server)].in_flight -= 1;
        local.counts.servers[self.server].in_flight.remove();
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
        self.0.counts.connections.remove();
        self.0.connection_ended.notify_all();
    }
}
