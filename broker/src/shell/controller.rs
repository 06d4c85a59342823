//! The topic table: a replicated log of its own, on shard 0. Its leader, the controller, decides changes, one at a time;
//! every node applies them, and tells all its cores.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use replog::{GroupId, Index, Replicas, Role, SnapshotSink, SnapshotSource, StateMachine};
use runtime::sync::Notify;
use runtime::time;
use serde::{Deserialize, Serialize};
use wire::kafka::ResponseError;

use super::core::Core;
use super::leading::Leading;
use super::shard;
use super::stored;
use super::turns::Turns;
use crate::Error;
use crate::core::api::Refusal;
use crate::core::topics::{self, Change, Topics};

/// The topic table's replicated group.
pub(crate) const TOPICS_GROUP: GroupId = GroupId(1);

/// The table is stored anew, and the log freed, at the latest after this long, if it changed.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(30);

/// … or when the write-ahead log holds more segments than this: an entry of the table keeps everything behind it there.
pub(crate) const LOG_SEGMENTS_MAX: usize = 4;

/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The table as stored, and up to which entry of its log.
#[derive(Serialize, Deserialize)]
struct Stored {
    index: u64,
    topics: topics::Stored,
}

/// See the module.
pub(crate) struct Controller {
    path: PathBuf,
    changing: Turns,
    storing: Turns,
    pub(crate) leading: Leading,
    table: RefCell<Arc<Topics>>,
    applied: Cell<Index>,
    stored: Cell<Index>,
    /// The table has changed.
    changed: Notify,
    /// The version that all cores have.
    published: Cell<u64>,
    /// It has become newer.
    told: Notify,
    fault: RefCell<Option<Error>>,
}

impl Controller {
    /// The table as its checkpoint has it.
    pub(crate) async fn open(data: &Path) -> Result<Rc<Self>, Error> {
        let path = data.join("topics.json");
        let stored = stored::read::<Stored>(&path).await?;
        let (index, table) = stored.map(|s| (s.index, Topics::load(s.topics))).unwrap_or_default();
        Ok(Rc::new(Self {
            path,
            changing: Turns::default(),
            storing: Turns::default(),
            leading: Leading::default(),
            table: RefCell::new(Arc::new(table)),
            applied: Cell::new(Index(index)),
            stored: Cell::new(Index(index)),
            changed: Notify::new(),
            published: Cell::new(0),
            told: Notify::new(),
            fault: RefCell::default(),
        }))
    }

    /// The table, as far as it is applied here.
    pub(crate) fn table(&self) -> Arc<Topics> {
        self.table.borrow().clone()
    }

    /// Whether entries could be read.
    ///
    /// # Errors
    /// What was wrong with one.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.fault.take().map_or(Ok(()), Err)
    }

    /// Decides a change against the table as it then is, makes it durable, and waits until every core of this node has it. It
    /// runs to its end even if nobody waits for it any more.
    pub(crate) async fn change<T: 'static>(
        self: Rc<Self>,
        core: Rc<Core>,
        decide: impl FnOnce(&Topics) -> Result<(Change, T), Refusal> + 'static,
    ) -> Result<T, Refusal> {
        runtime::spawn(async move { self.run(&core, decide).await }).await
    }

    async fn run<T>(
        &self,
        core: &Rc<Core>,
        decide: impl FnOnce(&Topics) -> Result<(Change, T), Refusal>,
    ) -> Result<T, Refusal> {
        let _turn = self.changing.take().await;
        if !self.leading.acts() {
            return Err(Refusal::new(ResponseError::NotController, "this node is not the controller"));
        }
        let (change, result) = decide(&self.table())?;
        let entry = serde_json::to_vec(&change).expect("a change is JSON");
        let replicas = core.shard(0).replicas().clone();
        shard::propose(&replicas, TOPICS_GROUP, entry).await.map_err(|error| {
            let code = match &error {
                replog::Error::NotLeader { .. }
                | replog::Error::Refused { .. }
                | replog::Error::Lost { .. } => ResponseError::NotController,
                replog::Error::Unknown { .. } => ResponseError::RequestTimedOut,
                _ => ResponseError::KafkaStorageError,
            };
            Refusal::new(code, error.to_string())
        })?;
        while self.published.get() < change.version {
            self.told.notified().await;
        }
        Ok(result)
    }

    /// Tells every core of each new table.
    pub(crate) async fn keep_told(self: Rc<Self>, core: Rc<Core>) {
        loop {
            self.changed.notified().await;
            let table = self.table();
            publish(&core, &table).await;
            self.published.set(table.version());
            self.told.notify_all();
        }
    }

    /// Keeps the stored table up with the log's, so that the log can let go of what it has.
    pub(crate) async fn keep_stored(self: Rc<Self>, replicas: Replicas) {
        let mut stored_at = time::now();
        loop {
            time::sleep(LOOK_EVERY).await;
            let late = time::now().saturating_duration_since(stored_at) >= CHECKPOINT_EVERY;
            if !late && replicas.stats().segments <= LOG_SEGMENTS_MAX {
                continue;
            }
            if let Err(error) = self.checkpoint(&replicas).await {
                tracing::error!(%error, "cannot store the topic table; trying again. The write-ahead log has it, and goes on growing");
            }
            stored_at = time::now();
        }
    }

    /// Stores the table, if it changed, and frees the log.
    pub(crate) async fn checkpoint(&self, replicas: &Replicas) -> Result<(), Error> {
        let _turn = self.storing.take().await;
        let index = shard::applied(replicas, TOPICS_GROUP).max(self.applied.get());
        self.store(index, &self.table()).await?;
        replicas.truncate(TOPICS_GROUP, index);
        Ok(())
    }

    async fn store(&self, index: Index, table: &Topics) -> Result<(), Error> {
        if index > self.stored.get() {
            stored::write(&self.path, &Stored { index: index.0, topics: table.store() }).await?;
            self.stored.set(index);
        }
        Ok(())
    }
}

/// The controller as the state machine of its replicated log.
pub(crate) struct Machine {
    pub(crate) controller: Rc<Controller>,
    pub(crate) core: Weak<Core>,
}

impl StateMachine for Machine {
    fn durable(&self) -> Index {
        self.controller.stored.get()
    }

    fn apply(&mut self, index: Index, entry: &Bytes) {
        let controller = &self.controller;
        match serde_json::from_slice::<Change>(entry) {
            Ok(change) => Arc::make_mut(&mut controller.table.borrow_mut()).apply(&change),
            Err(error) => {
                let what = format!("entry {index} of the write-ahead log is no change of topics: {error}");
                let fault = Error::Corrupt { path: controller.path.clone(), what };
                controller.fault.borrow_mut().get_or_insert(fault);
            }
        }
        controller.applied.set(index);
        controller.changed.notify_one();
    }

    fn role(&mut self, role: Role) {
        let controller = self.controller.clone();
        controller.leading.set_role(role);
        let Some(core) = self.core.upgrade().filter(|_| role.leads) else { return };
        let replicas = core.shard(0).replicas().clone();
        runtime::spawn(async move {
            if controller.leading.caught_up(&replicas, TOPICS_GROUP, role).await {
                controller.leading.begin();
            }
        });
    }

    fn snapshot(&mut self) -> Rc<dyn SnapshotSource> {
        Rc::new(Bytes::from(serde_json::to_vec(&self.controller.table().store()).expect("a table is JSON")))
    }

    fn receive_snapshot(&mut self) -> Box<dyn SnapshotSink> {
        let controller = self.controller.clone();
        replog::gather(move |index, bytes| async move {
            let table = Topics::load(serde_json::from_slice(&bytes)?);
            let _turn = controller.storing.take().await;
            controller.store(index, &table).await.map_err(std::io::Error::other)?;
            *controller.table.borrow_mut() = Arc::new(table);
            controller.applied.set(index);
            controller.changed.notify_one();
            Ok(())
        })
    }
}

/// Every core adopts the table.
pub(crate) async fn publish(core: &Rc<Core>, table: &Arc<Topics>) {
    for to in 0..core.shared.cores {
        let table = table.clone();
        core.send(to, move |core: Rc<Core>| async move { core.adopt(&table).await }).await.await;
    }
}
