//! How a node is set up, and what is bound before its cores run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use runtime::net::{Address, BoundListener, ListenOptions};
use runtime::sync::{MailReceiver, MailSender, mailbox};

use super::accept::{Inbound, Routes};
use super::link::Mutual;
use super::questions::Question;
use crate::{Error, NodeId, limits};

/// How a node takes part.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// This node.
    pub node: NodeId,
    /// The cluster's number: nodes of another are refused.
    pub cluster: u64,
    /// Where peers connect to. Absent: this node has none.
    pub listen: Option<Address>,
    /// What peers are shown, and have to show. Absent: connections between nodes are plain.
    pub tls: Option<Mutual>,
    /// Where the peers are, as far as known: see [`Replicas::set_peer`].
    pub peers: BTreeMap<NodeId, Address>,
    /// The unit of the next three.
    pub tick: Duration,
    /// Ticks between heartbeats.
    pub heartbeat_ticks: u32,
    /// Ticks without a leader until the first node campaigns; the last does after twice as many.
    pub election_ticks: u32,
    /// Ticks without work after which a group sends nothing more.
    pub quiet_after_ticks: u32,
    /// How much faster one node's clock may run than another's, in thousandths: a leader's lease ends so much sooner.
    pub clock_drift_permille: u32,
    /// Spreads elections.
    pub seed: u64,
    /// Bytes of entries that a group keeps in memory for members that are a little behind.
    pub group_memory_bytes: usize,
}

impl NodeOptions {
    /// Node `node` of cluster `cluster`, without peers; ticks of 50 ms, a heartbeat every two, an election after 8 to 15.
    pub fn new(node: NodeId, cluster: u64) -> NodeOptions {
        NodeOptions {
            node,
            cluster,
            listen: None,
            peers: BTreeMap::new(),
            tls: None,
            tick: Duration::from_millis(50),
            heartbeat_ticks: 2,
            election_ticks: 8,
            quiet_after_ticks: 200,
            clock_drift_permille: 10,
            seed: 0,
            group_memory_bytes: 4 * 1024 * 1024,
        }
    }

    fn check(&self) -> Result<(), Error> {
        let wrong = match () {
            () if self.node == NodeId(0) => "node 0 is nobody: number nodes from 1 on",
            () if self.heartbeat_ticks == 0 || self.election_ticks < self.heartbeat_ticks + 2 => {
                "election_ticks: at least two more than heartbeat_ticks, which is at least 1"
            }
            () if self.tick < Duration::from_millis(1) => "tick: at least 1 ms",
            () if self.clock_drift_permille >= 500 => "clock_drift_permille: below 500",
            () => return Ok(()),
        };
        Err(Error::Options(wrong.to_owned()))
    }
}

/// A node that is bound and not running yet: what one of its cores needs.
pub struct NodeCore {
    pub(super) options: NodeOptions,
    pub(super) core: usize,
    pub(super) listener: Option<BoundListener>,
    pub(super) inbox: MailReceiver<Inbound>,
    pub(super) routes: Arc<Routes>,
    pub(super) questions: Option<MailSender<Question>>,
}

impl NodeCore {
    /// Binds a node of so many cores; gives each its part.
    ///
    /// # Errors
    /// [`Error::Options`]; [`Error::Io`] when the address can't be bound.
    pub fn bind(options: &NodeOptions, cores: usize) -> Result<Vec<NodeCore>, Error> {
        options.check()?;
        let mut listeners = Vec::new();
        if let Some(address) = &options.listen {
            let bound = runtime::net::listen(address, cores, &ListenOptions::default());
            let path = || PathBuf::from(address.to_string());
            listeners = bound.map_err(|source| Error::Io { what: "listen on", path: path(), source })?;
        }
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..cores).map(|_| mailbox(limits::INBOX_MAX)).unzip();
        let routes = Arc::new(Routes { groups: RwLock::default(), inboxes: senders });
        let mut listeners = listeners.into_iter();
        let cores = receivers.into_iter().enumerate().map(|(core, inbox)| NodeCore {
            options: options.clone(),
            core,
            listener: listeners.next(),
            inbox,
            routes: routes.clone(),
            questions: None,
        });
        Ok(cores.collect())
    }

    /// Hands questions that come to this core ([`ask`](crate::ask)) to whoever answers them. Without it they are refused.
    pub fn answer_with(&mut self, questions: MailSender<Question>) {
        self.questions = Some(questions);
    }

    /// Where peers connect to; port 0 has become a port.
    pub fn address(&self) -> Option<Address> {
        self.listener.as_ref().map(BoundListener::local_addr)
    }
}
