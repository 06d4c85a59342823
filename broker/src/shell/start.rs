//! The start of one core, until it may serve: its shards are opened, then the topic table says which partitions there are.
//!
//! A node that is alone in its cluster serves once it leads everything; what came before it is applied then.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use replog::{NodeCore, Replicas};
use runtime::{fs, time};

use super::controller::{self, Controller, TOPICS_GROUP};
use super::coordinator::{self, Coordinator};
use super::core::Core;
use super::shard::Shard;
use super::stored::{self, Checkpoint};
use super::{flush, recovery};
use crate::Error;
use crate::core::topics::Topics;

/// How long the start waits until this node leads what nobody else can. On a full disk it may never.
const LEAD_WITHIN: Duration = Duration::from_secs(10);

/// Opens the shards of this core; `nodes` has their parts in the replication, by number.
pub(crate) async fn open_shards(core: &Rc<Core>, nodes: Vec<(usize, NodeCore)>) -> Result<(), Error> {
    let folders = folders(&core.shared.config.data.join("partitions")).await?;
    for (id, node) in nodes {
        let shard = open_shard(core, id, &folders).await?;
        if id == 0 {
            let controller = Controller::open(&core.shared.config.data).await?;
            *core.controller.borrow_mut() = Some(controller);
        }
        open_log(core, &shard, node).await?;
    }
    Ok(())
}

/// The partitions' folders, by uid.
async fn folders(dir: &Path) -> Result<BTreeMap<u64, PathBuf>, Error> {
    let mut folders = BTreeMap::new();
    for path in fs::read_dir(dir).await.map_err(Error::io("cannot list", dir))? {
        match path.extension().and_then(|uid| uid.to_str()?.parse().ok()) {
            Some(uid) => drop(folders.insert(uid, path)),
            None => tracing::warn!(path = %path.display(), "not a partition's folder: left alone"),
        }
    }
    Ok(folders)
}

/// A shard as its checkpoint, and the partitions' folders, have it.
async fn open_shard(
    core: &Rc<Core>,
    id: usize,
    folders: &BTreeMap<u64, PathBuf>,
) -> Result<Rc<Shard>, Error> {
    let shared = &core.shared;
    let dir = stored::shard_dir(&shared.config.data, id);
    let checkpoint = stored::read::<Checkpoint>(&dir.join("checkpoint.json")).await?.unwrap_or_default();
    let mut coordinators = BTreeMap::new();
    for number in (0..shared.layout.coordinators).filter(|n| shared.shard_of_coordinator(*n) == id) {
        coordinators.insert(number, Coordinator::open(shared, &dir, number).await?);
    }
    let shard = Shard::new(id, shared.clone(), dir, coordinators, checkpoint.clone());
    core.shards.borrow_mut().insert(id, shard.clone());
    let known = folders.keys().chain(checkpoint.partitions.keys()).copied();
    for uid in known.filter(|uid| shared.shard_of(*uid) == id).collect::<BTreeSet<u64>>() {
        let folder = folders.get(&uid);
        if checkpoint.buried.contains_key(&uid) {
            if let Some(folder) = folder {
                flush::remove_folder(folder).await?;
            }
            continue;
        }
        let place = checkpoint.partitions.get(&uid).copied();
        shard.insert(recovery::partition(uid, folder.cloned(), place).await?);
    }
    Ok(shard)
}

/// Opens a shard's log, and founds what every cluster has.
async fn open_log(core: &Rc<Core>, shard: &Rc<Shard>, node: NodeCore) -> Result<(), Error> {
    let mut options = replog::Options::new(shard.dir.join("wal"));
    options.segment_bytes = core.shared.config.wal_segment_bytes;
    let controller = core.controller.borrow().clone().filter(|_| shard.id == 0);
    let table_machine = |controller: &Rc<Controller>| {
        Box::new(controller::Machine { controller: controller.clone(), core: Rc::downgrade(core) })
    };
    let replicas = Replicas::open(node, options, |group| match &controller {
        Some(controller) if group == TOPICS_GROUP => table_machine(controller),
        _ => shard.machine(group),
    })
    .await?;
    shard.set_replicas(replicas.clone());
    shard.check()?;
    for coordinator in shard.coordinators.values() {
        coordinator.set_replicas(replicas.clone());
        coordinator.check()?;
    }
    let members = || core.shared.all_nodes();
    if let Some(controller) = &controller {
        controller.check()?;
        replicas.found(TOPICS_GROUP, members(), table_machine(controller))?;
    }
    for (number, coordinator) in &shard.coordinators {
        let machine = Box::new(coordinator::Machine(coordinator.clone()));
        replicas.found(coordinator::log_group(*number), members(), machine)?;
    }
    Ok(())
}

/// Has every core of the node adopt the topic table; on the core that has shard 0.
pub(crate) async fn take_table(core: &Rc<Core>) -> Result<(), Error> {
    let controller = core.controller.borrow().clone().expect("the core of shard 0 has the topic table");
    if core.shared.identity.nodes.len() == 1 {
        let _ = time::timeout(LEAD_WITHIN, controller.leading.acting()).await;
    }
    controller.check()?;
    runtime::spawn(controller.clone().keep_told(core.clone()));
    runtime::spawn(controller.clone().keep_stored(core.shard(0).replicas().clone()));
    controller::publish(core, &controller.table()).await;
    Ok(())
}

/// Waits until this core leads what nobody else can.
pub(crate) async fn lead(core: &Rc<Core>) -> Result<(), Error> {
    if core.shared.identity.nodes.len() > 1 {
        return Ok(());
    }
    let shards: Vec<Rc<Shard>> = core.shards.borrow().values().cloned().collect();
    for shard in shards {
        let partitions: Vec<_> = shard.partitions.borrow().values().cloned().collect();
        let led = async {
            join_all(partitions.iter().map(|partition| partition.leading.acting())).await;
            join_all(shard.coordinators.values().map(|coordinator| coordinator.leading.acting())).await;
        };
        if time::timeout(LEAD_WITHIN, led).await.is_err() {
            tracing::warn!(shard = shard.id, "not everything is led yet: clients are told to try again");
        }
        shard.check()?;
        let topics: Arc<Topics> = core.topics();
        for coordinator in shard.coordinators.values() {
            coordinator.check()?;
            coordinator.forget_missing_topics(&topics);
        }
    }
    Ok(())
}
