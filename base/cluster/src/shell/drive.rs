//! The driver of a core: it founds, joins and leaves groups as the map says, and takes the next step of those that are led
//! here.
//!
//! Always holds: it acts on a map that knows of this start of the node; for each group one thing is under way at a time; groups
//! in which nothing happens are looked at when the map changes, and once a second.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use replog::{Change, GroupId, Members, NodeId, Pending, StateMachine};
use runtime::time;

use super::machine::{MetaState, files};
use super::options::Options;
use super::view::Cluster;
use super::watched::{Restless, Watched};
use crate::core::duty::{Duty, duty, is_fresh};
use crate::core::request::{Left, Report, Request};
use crate::core::step::{Seen, Step, step};
use crate::limits::{COMMANDS_MAX, LOOK_EVERY, TRANSFER_EVERY};
use crate::{Group, META, Map};

const LOOK_AT_ALL_EVERY: Duration = Duration::from_secs(1);

/// Who has the state machines.
pub trait Owner {
    /// The state machine of a group that is in the log, or is founded or joined; in the latter cases there is nothing of it
    /// yet. Asked again where it was dropped because the group could not be taken yet.
    fn machine(&self, group: GroupId) -> Box<dyn StateMachine>;

    /// The group has left this node: its state machine is dropped, and everything else of it is to go from memory and disk.
    /// Asked again until it succeeds.
    fn forget(&self, group: GroupId) -> Pending<'_, ()>;
}

pub(crate) struct Driver {
    pub(crate) cluster: Cluster,
    pub(crate) options: Arc<Options>,
    pub(crate) boot: u64,
    pub(crate) core: usize,
    pub(crate) cores: usize,
    pub(crate) owner: Rc<dyn Owner>,
    pub(crate) meta: Rc<RefCell<MetaState>>,
    pub(crate) restless: Rc<Restless>,
    pub(crate) doing: RefCell<Doing>,
}

/// What is under way.
#[derive(Default)]
pub(crate) struct Doing {
    groups: BTreeSet<GroupId>,
    reporting: Cell<bool>,
    /// When leadership was handed over last, or tried to be.
    transferred: BTreeMap<GroupId, std::time::Instant>,
    peers: BTreeMap<NodeId, String>,
    lost: BTreeSet<GroupId>,
}

/// Drives, until it is aborted.
pub(crate) async fn run(driver: Rc<Driver>) {
    let (mut version, mut looked) = (None, time::now());
    loop {
        let map = driver.cluster.map();
        let changed = version != Some(map.version);
        if changed {
            driver.peers(&map);
        }
        let all = changed || time::now() - looked >= LOOK_AT_ALL_EVERY;
        let mut groups = driver.restless.take();
        if all {
            let here = |group: &GroupId| driver.options.core_of(*group, driver.cores) == driver.core;
            groups.extend(map.groups.keys().copied().filter(here));
            looked = time::now();
        }
        if is_fresh(&map, driver.cluster.node(), driver.boot) {
            version = Some(map.version);
            let reports: Vec<Report> = groups.iter().filter_map(|group| driver.look(&map, *group)).collect();
            driver.report(reports);
        } else {
            groups.iter().for_each(|group| driver.restless.keep(*group));
        }
        let _ = time::timeout(LOOK_EVERY, driver.cluster.shared.work.notified()).await;
        if driver.cluster.is_closing() {
            return;
        }
    }
}

impl Driver {
    /// Connects to all nodes of the map.
    fn peers(&self, map: &Map) {
        let me = self.cluster.node();
        let others = map.nodes.values().filter(|node| node.id != me && !node.peer.is_empty());
        let wanted: BTreeMap<NodeId, String> = others.map(|node| (node.id, node.peer.clone())).collect();
        let mut doing = self.doing.borrow_mut();
        for gone in doing.peers.keys().filter(|node| !wanted.contains_key(node)) {
            self.cluster.replicas().drop_peer(*gone);
        }
        for (node, peer) in &wanted {
            match peer.parse() {
                Ok(address) if doing.peers.get(node) != Some(peer) => {
                    self.cluster.replicas().set_peer(*node, address);
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%node, %error, "a node's address makes no sense"),
            }
        }
        doing.peers = wanted;
    }

    /// Looks at a group, and does what there is to do. Gives what is to be reported of it.
    fn look(self: &Rc<Self>, map: &Arc<Map>, id: GroupId) -> Option<Report> {
        let group = map.groups.get(&id)?;
        if self.doing.borrow().groups.contains(&id) {
            self.restless.keep(id);
            return None;
        }
        let (me, replicas) = (self.cluster.node(), self.cluster.replicas());
        let taken = match duty(group, me, replicas.members(id).is_some()) {
            Duty::Nothing => Ok(()),
            Duty::Found => replicas.found(id, Members::voters([me]), self.machine(id)),
            Duty::Join => replicas.join(id, self.machine(id)),
            Duty::Forget => {
                self.forget(id, map.version);
                return None;
            }
            Duty::Lost => {
                if self.doing.borrow_mut().lost.insert(id) {
                    tracing::error!(group = %id, "this node has a vote in the group, and nothing of it on disk: make it a new node");
                }
                return None;
            }
        };
        if let Err(error) = taken {
            tracing::warn!(group = %id, %error, "can't take part in the group");
            self.restless.keep(id);
            return None;
        }
        self.lead(map, group)
    }

    fn machine(&self, id: GroupId) -> Box<dyn StateMachine> {
        let machine = match id {
            META => MetaState::machine(&self.meta, &self.options),
            id => self.owner.machine(id),
        };
        Watched::around(id, machine, &self.restless)
    }

    fn forget(self: &Rc<Self>, id: GroupId, version: u64) {
        let driver = self.clone();
        self.spawn(id, async move {
            driver.cluster.replicas().forget(id).await.map_err(|error| error.to_string())?;
            if id == META {
                driver.meta.borrow_mut().forget();
                files::keep_seen(&driver.options, &driver.cluster.map()).await;
                files::forget(&driver.options).await.map_err(|error| error.to_string())?;
            } else {
                driver.owner.forget(id).await.map_err(|error| error.to_string())?;
            }
            let left = Left { node: driver.cluster.node(), version, groups: vec![id] };
            driver.cluster.ask(Request::Left(left)).await.map_err(|error| error.to_string())?;
            tracing::info!(group = %id, "the group has left this node");
            Ok(())
        });
    }

    /// The next step of a group that is led here.
    fn lead(self: &Rc<Self>, map: &Arc<Map>, group: &Group) -> Option<Report> {
        let (me, id, replicas) = (self.cluster.node(), group.id, self.cluster.replicas());
        let role = replicas.role(id);
        let (index, members) = replicas.members_since(id)?;
        if !role.leads {
            return None;
        }
        let behind = replicas.behind(id).unwrap_or_default();
        let seen = Seen { me, group, members: (index, &members), behind: &behind };
        let step = step(&seen, |node| map.is_up(node));
        if step != Step::Wait || !group.is_settled() || members.is_joint() || group.preferred != me {
            self.restless.keep(id);
        }
        let report = |actual| Some(Report { group: id, term: role.term, actual });
        match step {
            Step::Report(actual) => report(actual),
            _ if group.led.is_none_or(|(term, _)| term < role.term) => {
                self.restless.keep(id);
                // Its members are known already.
                group.actual.clone().filter(|_| !members.is_joint()).and_then(report)
            }
            Step::Wait => None,
            Step::Change(changes) => {
                self.change(id, changes);
                None
            }
            Step::Transfer(to) => {
                self.transfer(id, to);
                None
            }
        }
    }

    fn change(self: &Rc<Self>, id: GroupId, changes: Vec<Change>) {
        let driver = self.clone();
        self.spawn(id, async move {
            tracing::info!(group = %id, ?changes, "its members change");
            let changed = driver.cluster.replicas().change(id, &changes).await;
            changed.map_err(|error| error.to_string())
        });
    }

    fn transfer(&self, id: GroupId, to: NodeId) {
        let now = time::now();
        let mut doing = self.doing.borrow_mut();
        let recent = doing.transferred.get(&id).is_some_and(|at| now - *at < TRANSFER_EVERY);
        if !recent {
            doing.transferred.retain(|_, at| now - *at < TRANSFER_EVERY);
            doing.transferred.insert(id, now);
            if let Err(error) = self.cluster.replicas().transfer(id, to) {
                tracing::debug!(group = %id, %error, "not handed over");
            }
        }
    }

    /// Does something for a group that takes time.
    fn spawn(self: &Rc<Self>, id: GroupId, what: impl Future<Output = Result<(), String>> + 'static) {
        self.doing.borrow_mut().groups.insert(id);
        let driver = self.clone();
        runtime::spawn(async move {
            if let Err(why) = what.await {
                tracing::debug!(group = %id, %why, "it is tried again");
                time::sleep(LOOK_EVERY).await;
            }
            driver.doing.borrow_mut().groups.remove(&id);
            driver.restless.wake(id);
        });
    }

    fn report(self: &Rc<Self>, mut reports: Vec<Report>) {
        if reports.is_empty() || self.doing.borrow().reporting.replace(true) {
            // Those that are left out are restless.
            return;
        }
        reports.truncate(COMMANDS_MAX);
        let driver = self.clone();
        runtime::spawn(async move {
            let request = Request::Report(driver.cluster.node(), reports);
            if let Err(error) = driver.cluster.ask(request).await {
                tracing::debug!(%error, "not reported");
            }
            driver.doing.borrow().reporting.set(false);
        });
    }
}
