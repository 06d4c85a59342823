//! What a node does for the cluster as such, on its core 0: it has the newest map, hands it to the other cores, answers
//! other nodes, and asks them.
//!
//! Always holds: the map only ever gets newer; a request goes to whoever leads the metadata group, here or elsewhere, and
//! one that may be done twice is tried again until there is an answer or patience ends.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use replog::{Members, NodeId, Question, Replicas};
use runtime::net::Address;
use runtime::sync::{MailReceiver, MailSender, Notify, mailbox};
use runtime::{JoinHandle, fs, time};

use super::machine::{MetaState, files};
use super::options::Options;
use super::seat::{HubSeat, Identity};
use super::view::{Asked, Newer};
use super::watched::{Restless, Watched};
use super::{follow, lead};
use crate::core::request::{Announced, Outcome, Refusal, Request};
use crate::core::wire::{self, Reply};
use crate::limits::WATCH_PATIENCE;
use crate::limits::{ASK_AGAIN, LOOK_EVERY, REQUEST_PATIENCE, REQUESTS_WAITING_MAX, SAVE_EVERY_ENTRIES};
use crate::{Error, META, Map, NodeState};

/// Who is asked one after the other for the metadata group's leader, before it counts as not there.
const HOPS_MAX: usize = 8;

pub(crate) struct Hub {
    pub(crate) options: Arc<Options>,
    pub(crate) identity: RefCell<Identity>,
    pub(crate) node: NodeId,
    cluster: u64,
    boot: u64,
    peer: String,
    pub(crate) replicas: Replicas,
    pub(crate) meta: Rc<RefCell<MetaState>>,
    map: RefCell<Arc<Map>>,
    pub(crate) changed: Notify,
    /// Requests for the leader, which is this node.
    pub(crate) queue: RefCell<VecDeque<(Request, MailSender<Reply>)>>,
    /// There is something for the leader.
    pub(crate) work: Notify,
    /// The version of the map in which nothing was to be moved.
    pub(crate) planned: Cell<u64>,
    /// When that was looked at last.
    pub(crate) planned_at: Cell<std::time::Instant>,
}

impl Hub {
    pub(crate) fn new(
        options: Arc<Options>,
        identity: Identity,
        boot: u64,
        peer: String,
        replicas: Replicas,
        meta: Rc<RefCell<MetaState>>,
        known: Arc<Map>,
    ) -> Rc<Hub> {
        // What was applied while the log was opened may be newer.
        let applied = meta.borrow().map.clone();
        let map = if applied.version > known.version { applied } else { known };
        Rc::new(Hub {
            options,
            node: identity.node,
            cluster: identity.cluster,
            identity: RefCell::new(identity),
            boot,
            peer,
            replicas,
            meta,
            map: RefCell::new(map),
            changed: Notify::new(),
            queue: RefCell::default(),
            work: Notify::new(),
            planned: Cell::new(0),
            planned_at: Cell::new(time::now()),
        })
    }

    /// Founds the metadata group where that is this node's part, and has not been done.
    pub(crate) async fn begin(&self, restless: &Rc<Restless>) -> Result<(), Error> {
        if self.replicas.members(META).is_some() {
            return Ok(());
        }
        // Of a membership that has ended, or of a founding that nobody has seen.
        self.meta.borrow_mut().forget();
        let path = files::map(&self.options);
        let failed = |error: std::io::Error| Error::File { path, why: error.to_string() };
        files::forget(&self.options).await.map_err(failed)?;
        if self.identity.borrow().founds {
            let machine = MetaState::machine(&self.meta, &self.options);
            let machine = Watched::around(META, machine, restless);
            self.replicas.found(META, Members::voters([self.node]), machine)?;
        }
        Ok(())
    }

    /// Begins its tasks.
    pub(crate) fn run(self: &Rc<Hub>, seat: HubSeat) -> Vec<JoinHandle<()>> {
        let HubSeat { questions, requests, newer } = seat;
        let mut tasks = vec![
            runtime::spawn(publish(self.clone())),
            runtime::spawn(lead::run(self.clone())),
            runtime::spawn(follow::run(self.clone())),
            runtime::spawn(announce(self.clone())),
            runtime::spawn(answer_nodes(self.clone(), questions)),
            runtime::spawn(answer_cores(self.clone(), requests)),
        ];
        tasks.extend(newer.into_iter().map(|core| runtime::spawn(relay(self.clone(), core))));
        tasks
    }

    pub(crate) fn map(&self) -> Arc<Map> {
        self.map.borrow().clone()
    }

    pub(crate) fn leads(&self) -> bool {
        self.replicas.role(META).leads
    }

    /// A map has come from somewhere.
    pub(crate) fn take_map(&self, map: &Arc<Map>) {
        if map.version > self.map().version {
            *self.map.borrow_mut() = map.clone();
            self.changed.notify_all();
            self.work.notify_one();
        }
    }

    /// Who leads the metadata group, and where, as far as is known.
    fn leader(&self) -> Option<(NodeId, String)> {
        let map = self.map();
        let told = || map.groups.get(&META).and_then(|meta| meta.led).map(|(_, node)| node);
        let leader = self.replicas.role(META).leader.or_else(told)?;
        let node = map.nodes.get(&leader).filter(|node| node.id != self.node && !node.peer.is_empty())?;
        Some((node.id, node.peer.clone()))
    }

    /// Whom to ask, the likeliest first.
    pub(crate) fn others(&self) -> Vec<Address> {
        let map = self.map();
        let mut nodes: Vec<_> = map.nodes.values().filter(|node| node.id != self.node).collect();
        let leader = self.leader().map(|(node, _)| node);
        let member = |node: NodeId| map.groups.get(&META).is_some_and(|meta| meta.has_member(node));
        nodes.sort_by_key(|node| (Some(node.id) != leader, !member(node.id), !node.up, node.id));
        let known = nodes.into_iter().filter_map(|node| node.peer.parse().ok());
        let own: Option<Address> = self.peer.parse().ok();
        let seeds = self.options.join.iter().filter(|seed| Some(*seed) != own.as_ref()).cloned();
        let mut all: Vec<Address> = known.chain(seeds).collect();
        let mut seen = Vec::new();
        all.retain(|address| {
            !seen.contains(address) && {
                seen.push(address.clone());
                true
            }
        });
        all.truncate(HOPS_MAX);
        all
    }

    /// Asks a node of this cluster.
    pub(crate) async fn ask_node(
        &self,
        address: &Address,
        question: &wire::Question,
    ) -> Result<Reply, replog::Error> {
        let answer = {
            let tls = self.options.groups.tls.as_ref();
            replog::ask(address, tls, self.cluster, self.node, &question.encode()).await?
        };
        Reply::decode(&answer.bytes)
            .map_err(|why| replog::Error::Stranger { address: address.to_string(), why })
    }

    /// Has a request done.
    pub(crate) async fn ask(self: &Rc<Hub>, request: Request) -> Result<Outcome, Error> {
        let repeatable = request.is_repeatable();
        let until = time::now() + REQUEST_PATIENCE;
        let mut wait = ASK_AGAIN.0;
        loop {
            let reply = match self.leads() {
                true => self.decide(request.clone()).await,
                false => self.forward(&request).await,
            };
            let why = match reply {
                Reply::Done(outcome) => return Ok(outcome),
                Reply::Refused(refusal) => return Err(refusal.into()),
                Reply::Unknown(_) if !repeatable => return Err(Error::Unknown),
                Reply::Unknown(why) | Reply::Again(why) => why,
                _ => "nobody is known to lead it".to_owned(),
            };
            if time::now() > until {
                return Err(Error::Unavailable { why });
            }
            time::sleep(wait).await;
            wait = (wait * 2).min(ASK_AGAIN.1);
        }
    }

    /// Has the leader, which is this node, decide.
    async fn decide(&self, request: Request) -> Reply {
        if self.queue.borrow().len() >= REQUESTS_WAITING_MAX {
            return Reply::Again("too many requests wait".to_owned());
        }
        let (answer, answers) = mailbox(1);
        self.queue.borrow_mut().push_back((request, answer));
        self.work.notify_one();
        let mut answered = Vec::new();
        answers.recv_batch(&mut answered).await;
        answered.pop().unwrap_or(Reply::Again("the node is stopping".to_owned()))
    }

    /// Asks who leads, wherever that is.
    async fn forward(&self, request: &Request) -> Reply {
        let question = wire::Question::Do(request.clone());
        let mut others: VecDeque<Address> = self.others().into();
        let mut why = "no other node is known".to_owned();
        for _ in 0..HOPS_MAX {
            let Some(address) = others.pop_front() else { break };
            match self.ask_node(&address, &question).await {
                Ok(Reply::Elsewhere(hint)) => {
                    why = format!("{address} does not lead it");
                    if let Some(hint) = hint.and_then(|(_, hint)| hint.parse().ok()) {
                        others.push_front(hint);
                    }
                }
                Ok(reply) => return reply,
                Err(error @ replog::Error::Unanswered { asked: true, .. }) => {
                    return Reply::Unknown(error.to_string());
                }
                Err(error) => why = error.to_string(),
            }
        }
        Reply::Again(why)
    }

    async fn answer(self: &Rc<Hub>, question: wire::Question) -> Reply {
        match question {
            wire::Question::Do(request) if self.leads() => self.decide(request).await,
            wire::Question::Do(_) => Reply::Elsewhere(self.leader()),
            wire::Question::Newer(version) => self.newer(version).await,
        }
    }

    /// What has changed since `version`, as soon as something has.
    async fn newer(&self, version: u64) -> Reply {
        let _ = time::timeout(WATCH_PATIENCE, async {
            while self.map().version <= version {
                self.changed.notified().await;
            }
        })
        .await;
        let map = self.map();
        if map.version <= version {
            return Reply::Entries(Vec::new());
        }
        let meta = self.meta.borrow();
        match meta.entries_behind(version).filter(|_| meta.map.version == map.version) {
            Some(entries) if !entries.is_empty() => Reply::Entries(entries),
            _ => Reply::Whole(map),
        }
    }
}

/// What the state machine has becomes the map, and is kept in its file from time to time.
async fn publish(hub: Rc<Hub>) {
    let changed = hub.meta.borrow().changed.clone();
    loop {
        let (map, applied, durable) = {
            let meta = hub.meta.borrow();
            (meta.map.clone(), meta.applied, meta.durable)
        };
        hub.take_map(&map);
        if map.version > 0 && hub.identity.borrow().founds {
            let mut founded = hub.identity.borrow().clone();
            founded.founds = false;
            match founded.save(&hub.options).await {
                Ok(()) => *hub.identity.borrow_mut() = founded,
                Err(error) => tracing::error!(%error, "can't note that the cluster is founded"),
            }
        }
        if applied.0 >= durable.0 + SAVE_EVERY_ENTRIES {
            match fs::write_atomic(files::map(&hub.options), map.to_file(applied)).await {
                Ok(()) if hub.replicas.members(META).is_some() => {
                    hub.meta.borrow_mut().durable = applied;
                    hub.replicas.truncate(META, applied);
                }
                Ok(()) => {}
                Err(error) => tracing::error!(%error, "can't keep the map of the cluster"),
            }
        }
        if hub.meta.borrow().applied == applied {
            changed.notified().await;
        }
    }
}

/// Tells the cluster that this node is there, and where, until the map says so.
async fn announce(hub: Rc<Hub>) {
    let mut said = String::new();
    loop {
        let map = hub.map();
        let known = map.nodes.get(&hub.node).is_some_and(|node| {
            node.boot == hub.boot && node.state != NodeState::Dead && node.state != NodeState::Joining
        });
        if known {
            hub.changed.notified().await;
            continue;
        }
        let announced = Announced {
            node: hub.node,
            boot: hub.boot,
            peer: hub.peer.clone(),
            clients: hub.options.clients.clone(),
            weight: hub.options.weight,
        };
        match hub.ask(Request::Announce(announced)).await {
            // The map is on its way.
            Ok(_) => {
                let _ = time::timeout(LOOK_EVERY, hub.changed.notified()).await;
            }
            Err(error) => {
                if said != error.to_string() {
                    said = error.to_string();
                    match error {
                        Error::Refused(Refusal::Removed(_)) => {
                            tracing::error!(%error, "this node is not let in");
                        }
                        error => tracing::warn!(%error, "the cluster does not know of this start yet"),
                    }
                }
                time::sleep(ASK_AGAIN.1).await;
            }
        }
    }
}

async fn answer_nodes(hub: Rc<Hub>, questions: MailReceiver<Question>) {
    let mut batch = Vec::new();
    while questions.recv_batch(&mut batch).await {
        for question in batch.drain(..) {
            match wire::Question::decode(&question.bytes) {
                Ok(asked) => {
                    let hub = hub.clone();
                    runtime::spawn(async move { question.answer(hub.answer(asked).await.encode()) });
                }
                Err(why) => {
                    tracing::warn!(from = %question.from, %why, "a question was refused");
                    question.answer(Reply::Refused(Refusal::Senseless(why)).encode());
                }
            }
        }
    }
}

async fn answer_cores(hub: Rc<Hub>, requests: MailReceiver<Asked>) {
    let mut batch = Vec::new();
    while requests.recv_batch(&mut batch).await {
        for Asked { request, answer } in batch.drain(..) {
            let hub = hub.clone();
            runtime::spawn(async move {
                // Nobody waits any more: the core has closed.
                let _ = answer.try_send(hub.ask(request).await);
            });
        }
    }
}

/// Keeps one core's map new.
async fn relay(hub: Rc<Hub>, core: MailSender<Newer>) {
    let mut sent = 0;
    loop {
        let map = hub.map();
        if map.version == sent {
            hub.changed.notified().await;
            continue;
        }
        sent = map.version;
        if core.send(Newer { map }).await.is_err() {
            return;
        }
    }
}
