//! A core's view of the cluster: the map as it is, news of it, and a way to change it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use replog::{GroupId, NodeId, Replicas};
use runtime::JoinHandle;
use runtime::sync::{MailReceiver, MailSender, Notify, mailbox};
use runtime::time;

use super::drive::{self, Driver, Owner};
use super::hub::Hub;
use super::machine::{MetaState, files};
use super::seat::CoreSeat;
use super::watched::{Restless, Watched};
use crate::core::request::{Outcome, Request};
use crate::limits::REQUEST_PATIENCE;
use crate::{Changed, Command, Error, META, Map};

/// A request from one of the node's cores.
pub(crate) struct Asked {
    pub(crate) request: Request,
    pub(crate) answer: MailSender<Result<Outcome, Error>>,
}

/// What core 0 tells the others.
pub(crate) struct Newer {
    pub(crate) map: Arc<Map>,
}

/// The cluster, as one core of a node sees it. Clones share it.
#[derive(Clone)]
pub struct Cluster {
    pub(crate) shared: Rc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) node: NodeId,
    pub(crate) replicas: Replicas,
    map: RefCell<Arc<Map>>,
    changed: Notify,
    /// For the driver, which has a notification of its own.
    pub(crate) work: Rc<Notify>,
    requests: MailSender<Asked>,
    closing: Cell<bool>,
    tasks: RefCell<Vec<JoinHandle<()>>>,
}

impl Cluster {
    /// Opens the log of this core and takes part in the groups that are in it, and in those that the cluster puts here from
    /// now on; `owner` has their state machines. On core 0 the node's part in the cluster itself begins. It does not
    /// wait for other nodes.
    ///
    /// # Errors
    /// [`Error::Log`], [`Error::File`].
    pub async fn open(seat: CoreSeat, log: replog::Options, owner: Rc<dyn Owner>) -> Result<Cluster, Error> {
        let CoreSeat { options, identity, boot, core, cores, peer, node_core, requests, newer, hub } = seat;
        let (known, meta) = match hub {
            Some(_) => files::load(&options).await?,
            None => (Arc::default(), MetaState::default()),
        };
        let meta = Rc::new(RefCell::new(meta));
        let work = Rc::new(Notify::new());
        let restless = Rc::new(Restless::new(work.clone()));
        let make = |group: GroupId| {
            let machine = match group == META {
                true => MetaState::machine(&meta, &options),
                false => owner.machine(group),
            };
            Watched::around(group, machine, &restless)
        };
        let replicas = Replicas::open(node_core, log, make).await?;
        let shared = Rc::new(Shared {
            node: identity.node,
            replicas: replicas.clone(),
            map: RefCell::new(known.clone()),
            changed: Notify::new(),
            work,
            requests,
            closing: Cell::new(false),
            tasks: RefCell::default(),
        });
        let cluster = Cluster { shared };
        let mut tasks = Vec::new();
        if let Some(seat) = hub {
            let hub = Hub::new(options.clone(), identity, boot, peer, replicas.clone(), meta.clone(), known);
            hub.begin(&restless).await?;
            tasks.extend(hub.run(seat));
        }
        let driver = Driver {
            cluster: cluster.clone(),
            options,
            boot,
            core,
            cores,
            owner,
            meta,
            restless,
            doing: RefCell::default(),
        };
        tasks.push(runtime::spawn(listen(cluster.clone(), newer)));
        tasks.push(runtime::spawn(drive::run(Rc::new(driver))));
        *cluster.shared.tasks.borrow_mut() = tasks;
        Ok(cluster)
    }

    /// The map, as far as this core knows. Version 0: it knows nothing yet.
    pub fn map(&self) -> Arc<Map> {
        self.shared.map.borrow().clone()
    }

    /// Resolves when the map is another than the one of `version`, at once if it is.
    pub async fn changed_since(&self, version: u64) -> Arc<Map> {
        loop {
            let map = self.map();
            if map.version != version {
                return map;
            }
            self.shared.changed.notified().await;
        }
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.shared.node
    }

    /// The groups of this core.
    pub fn replicas(&self) -> &Replicas {
        &self.shared.replicas
    }

    /// Changes the cluster: all of the commands, or none. It resolves when this core's map has the change.
    ///
    /// # Errors
    /// [`Error::Refused`] and [`Error::Unavailable`]: nothing was done. [`Error::Unknown`].
    pub async fn propose(&self, commands: Vec<Command>) -> Result<Changed, Error> {
        match self.ask(Request::Change(commands)).await? {
            Outcome::Done(changed) => {
                while self.map().version < changed.version {
                    self.shared.changed.notified().await;
                }
                Ok(changed)
            }
            Outcome::Joined(_) => Err(Error::Unknown),
        }
    }

    /// Takes nothing more, and closes the log.
    ///
    /// # Errors
    /// Those of [`Replicas::close`].
    pub async fn close(&self) -> Result<(), Error> {
        self.shared.closing.set(true);
        self.shared.tasks.take().into_iter().for_each(JoinHandle::abort);
        Ok(self.shared.replicas.close().await?)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.shared.closing.get()
    }

    pub(crate) async fn ask(&self, request: Request) -> Result<Outcome, Error> {
        let (answer, answers) = mailbox(1);
        let full = || Error::Unavailable { why: "too many requests wait".to_owned() };
        self.shared.requests.try_send(Asked { request, answer }).map_err(|_| full())?;
        let mut answered = Vec::new();
        let waits = time::timeout(2 * REQUEST_PATIENCE, answers.recv_batch(&mut answered));
        waits.await.map_err(|_| Error::Unknown)?;
        answered.pop().unwrap_or(Err(Error::Closed))
    }
}

/// Takes maps from core 0.
async fn listen(cluster: Cluster, newer: MailReceiver<Newer>) {
    let mut batch = Vec::new();
    while newer.recv_batch(&mut batch).await {
        for Newer { map } in batch.drain(..) {
            if map.version > cluster.map().version {
                *cluster.shared.map.borrow_mut() = map;
            }
        }
        cluster.shared.changed.notify_all();
        cluster.shared.work.notify_one();
    }
}
