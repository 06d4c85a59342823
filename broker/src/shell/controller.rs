//! The topic table: shard 0 decides changes, one at a time, logs them, and tells every core before it answers.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use replog::{GroupId, Index, Log};
use runtime::sync::Notify;
use runtime::time;
use wire::kafka::ResponseError;

use super::core::Core;
use super::stored;
use crate::Error;
use crate::core::api::Refusal;
use crate::core::topics::{Change, Stored, Topics};

/// The topic table's group in shard 0's write-ahead log.
pub(crate) const TOPICS_GROUP: GroupId = GroupId(1);

/// The table is stored anew, and the log freed, at the latest after this long, if it changed.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(30);

/// … or when the write-ahead log holds more segments than this: an entry of the table keeps everything behind it there.
const LOG_SEGMENTS_MAX: usize = 4;

/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Controller {
    log: Log,
    path: PathBuf,
    busy: Cell<bool>,
    free: Notify,
    stored_version: Cell<u64>,
    applied: Cell<Index>,
}

impl Controller {
    /// The table from its checkpoint and the entries of the log.
    pub(crate) async fn recover(
        data: &Path,
        log: Log,
        entries: Vec<(Index, Bytes)>,
    ) -> Result<(Self, Topics), Error> {
        let path = data.join("topics.json");
        let mut topics = stored::read::<Stored>(&path).await?.map(Topics::load).unwrap_or_default();
        let stored_version = topics.version();
        let mut applied = Index(0);
        for (index, entry) in entries {
            let change: Change = serde_json::from_slice(&entry).map_err(|e| Error::Corrupt {
                path: path.clone(),
                what: format!("entry {index} of the write-ahead log is no change of topics: {e}"),
            })?;
            topics.apply(&change);
            applied = index;
        }
        let controller = Self {
            log,
            path,
            busy: Cell::new(false),
            free: Notify::new(),
            stored_version: Cell::new(stored_version),
            applied: Cell::new(applied),
        };
        Ok((controller, topics))
    }

    /// Decides a change against the table as it then is, makes it durable, and has every core adopt it. It runs to its
    /// end even if nobody waits for it any more: a change that is logged must also be applied.
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
        let _turn = self.turn().await;
        let topics = core.topics();
        let (change, result) = decide(&topics)?;
        let failed = |e: replog::Error| Refusal::new(ResponseError::KafkaStorageError, e.to_string());
        let entry = serde_json::to_vec(&change).expect("a change is JSON");
        let index = loop {
            match self.log.propose(TOPICS_GROUP, entry.clone()) {
                Err(replog::Error::Full) => self.log.room().await.map_err(failed)?,
                other => break other.map_err(failed)?,
            }
        };
        self.log.wait_committed(TOPICS_GROUP, index).await.map_err(failed)?;
        let mut table = Topics::clone(&topics);
        table.apply(&change);
        let table = Arc::new(table);
        self.applied.set(index);
        publish(core, &table).await;
        Ok(result)
    }

    async fn turn(&self) -> Turn<'_> {
        while self.busy.replace(true) {
            self.free.notified().await;
        }
        Turn(self)
    }

    /// Keeps the stored table up with the log's, so that the log can let go of what it has.
    pub(crate) async fn keep_stored(self: Rc<Self>, core: Rc<Core>) {
        let mut stored_at = time::now();
        loop {
            time::sleep(LOOK_EVERY).await;
            let late = time::now().saturating_duration_since(stored_at) >= CHECKPOINT_EVERY;
            if !late && self.log.stats().segments <= LOG_SEGMENTS_MAX {
                continue;
            }
            if let Err(error) = self.checkpoint(&core).await {
                tracing::error!(%error, "cannot store the topic table; trying again. The write-ahead log has it, and goes on growing");
            }
            stored_at = time::now();
        }
    }

    /// Stores the table, if it changed, and frees the log.
    pub(crate) async fn checkpoint(&self, core: &Core) -> Result<(), Error> {
        // Between changes: what was applied is what the core has.
        let _turn = self.turn().await;
        let table = core.topics();
        if table.version() != self.stored_version.get() {
            let applied = self.applied.get();
            stored::write(&self.path, &table.store()).await?;
            self.stored_version.set(table.version());
            self.log.truncate(TOPICS_GROUP, applied);
        }
        Ok(())
    }
}

/// One change at a time.
struct Turn<'a>(&'a Controller);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.busy.set(false);
        self.0.free.notify_one();
    }
}

/// Every core adopts the table.
pub(crate) async fn publish(core: &Rc<Core>, table: &Arc<Topics>) {
    for to in 0..core.shared.cores {
        let table = table.clone();
        core.send(to, move |core: Rc<Core>| async move { core.adopt(&table) }).await.await;
    }
}
