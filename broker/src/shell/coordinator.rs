//! The groups of a shard and what they committed: the state machines of the core, fed with time and the log.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use replog::{GroupId, Index, Log};
use runtime::sync::Notify;
use runtime::time;
use wire::kafka::ResponseError;

use super::core::Shared;
use super::slot::Slot;
use super::stored;
use crate::Error;
use crate::core::group::{Answer, Groups, Join, JoinAnswer, SyncAnswer, SyncRequest, Token};
use crate::core::offsets::{Action, Change, Committed, Offsets, Place};
use crate::core::topics::Topics;

/// The committed offsets' group in a shard's write-ahead log.
pub(crate) const OFFSETS_GROUP: GroupId = GroupId(2);

/// How exactly sessions and rebalances are timed.
const TICK: Duration = Duration::from_millis(50);

/// The offsets are stored anew at the latest after this long, if they changed.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(30);

/// … or when the write-ahead log holds more segments than this.
const LOG_SEGMENTS_MAX: usize = 4;

/// See the module.
pub(crate) struct Coordinator {
    pub(crate) groups: RefCell<Groups>,
    pub(crate) offsets: RefCell<Offsets>,
    log: Log,
    path: PathBuf,
    next_token: Cell<Token>,
    waiting: RefCell<HashMap<Token, Slot<Answer>>>,
    busy: Notify,
    /// Proposed changes, in order.
    pending: RefCell<VecDeque<(Index, Change)>>,
    proposed_version: Cell<u64>,
    stored_version: Cell<u64>,
    stored_at: Cell<std::time::Instant>,
    applied: Cell<Index>,
}

impl Coordinator {
    /// From the checkpoint in `dir` and the entries of the log.
    pub(crate) async fn recover(
        shared: &Arc<Shared>,
        dir: &Path,
        log: Log,
        entries: Vec<(Index, Bytes)>,
    ) -> Result<Rc<Self>, Error> {
        let path = dir.join("offsets.json");
        let mut offsets: Offsets = stored::read(&path).await?.unwrap_or_default();
        offsets.count_bytes();
        let stored_version = offsets.version();
        let mut applied = Index(0);
        for (index, entry) in entries {
            let change: Change = serde_json::from_slice(&entry).map_err(|e| Error::Corrupt {
                path: path.clone(),
                what: format!("entry {index} of the write-ahead log is no change of offsets: {e}"),
            })?;
            offsets.apply(change);
            applied = index;
        }
        let coordinator = Rc::new(Self {
            groups: RefCell::new(Groups::new(shared.config.group_limits())),
            proposed_version: Cell::new(offsets.version()),
            stored_version: Cell::new(stored_version),
            stored_at: Cell::new(time::now()),
            applied: Cell::new(applied),
            offsets: RefCell::new(offsets),
            log: log.clone(),
            path,
            next_token: Cell::new(1),
            waiting: RefCell::default(),
            busy: Notify::new(),
            pending: RefCell::default(),
        });
        let weak = Rc::downgrade(&coordinator);
        log.on_commit(OFFSETS_GROUP, move |index| {
            if let Some(coordinator) = weak.upgrade() {
                coordinator.on_commit(index);
            }
        });
        Ok(coordinator)
    }

    fn on_commit(&self, index: Index) {
        loop {
            let change = {
                let mut pending = self.pending.borrow_mut();
                match pending.front() {
                    Some((at, _)) if *at <= index => pending.pop_front().map(|(_, change)| change),
                    _ => None,
                }
            };
            match change {
                Some(change) => self.offsets.borrow_mut().apply(change),
                None => break,
            }
        }
        self.applied.set(index);
    }

    /// Sessions and rebalances, while there are members.
    pub(crate) async fn keep_time(self: Rc<Self>, shared: Arc<Shared>) {
        loop {
            if self.groups.borrow().is_idle() {
                self.busy.notified().await;
            }
            time::sleep(TICK).await;
            self.groups.borrow_mut().tick(shared.uptime_ms());
            self.settle();
        }
    }

    /// Gives the answers that have become due to whoever waits.
    pub(crate) fn settle(&self) {
        let answers = self.groups.borrow_mut().take_answers();
        for answer in answers {
            let (Answer::Join(token, _) | Answer::Sync(token, _)) = &answer;
            let slot = self.waiting.borrow_mut().remove(token);
            if let Some(slot) = slot {
                slot.give(answer);
            }
        }
    }

    fn wait_slot(&self) -> (Token, Slot<Answer>) {
        let token = self.next_token.get();
        self.next_token.set(token + 1);
        let slot = Slot::new();
        self.waiting.borrow_mut().insert(token, slot.clone());
        self.busy.notify_one();
        (token, slot)
    }

    pub(crate) async fn join(&self, now_ms: u64, join: Join) -> JoinAnswer {
        let (token, slot) = self.wait_slot();
        self.groups.borrow_mut().join(now_ms, join, token);
        self.settle();
        match slot.await {
            Answer::Join(_, answer) => answer,
            Answer::Sync(..) => unreachable!("a join's token gets a join's answer"),
        }
    }

    pub(crate) async fn sync(&self, now_ms: u64, request: SyncRequest) -> SyncAnswer {
        let (token, slot) = self.wait_slot();
        self.groups.borrow_mut().sync(now_ms, request, token);
        self.settle();
        match slot.await {
            Answer::Sync(_, answer) => answer,
            Answer::Join(..) => unreachable!("a sync's token gets a sync's answer"),
        }
    }

    /// Whether offsets of a group may be stored: what is known already may always change, and there is room for so much new.
    pub(crate) fn has_room_for(&self, group: &str, places: &[(Place, Committed)], bytes_max: usize) -> bool {
        let offsets = self.offsets.borrow();
        offsets.bytes() < bytes_max
            || places.iter().all(|((topic, index), _)| offsets.get(group, topic, *index).is_some())
    }

    /// Logs a change of the offsets; it is applied, and on disk, when this resolves.
    pub(crate) async fn change(&self, action: Action) -> Result<(), ResponseError> {
        let index = loop {
            let change = Change { version: self.proposed_version.get() + 1, action: action.clone() };
            let entry = serde_json::to_vec(&change).expect("a change is JSON");
            match self.log.propose(OFFSETS_GROUP, entry) {
                Ok(index) => {
                    self.proposed_version.set(change.version);
                    self.pending.borrow_mut().push_back((index, change));
                    break index;
                }
                Err(replog::Error::Full) => {
                    self.log.room().await.map_err(|_| ResponseError::CoordinatorNotAvailable)?;
                }
                Err(error) => {
                    tracing::warn!(%error, "offsets can't be committed");
                    return Err(ResponseError::CoordinatorNotAvailable);
                }
            }
        };
        let committed = self.log.wait_committed(OFFSETS_GROUP, index).await;
        committed.map_err(|_| ResponseError::CoordinatorNotAvailable)
    }

    /// Forgets offsets of topics that are no more.
    pub(crate) fn forget_missing_topics(self: &Rc<Self>, topics: &Topics) {
        let gone = self
            .offsets
            .borrow()
            .topics()
            .into_iter()
            .filter(|t| topics.get(t).is_none())
            .collect::<Vec<_>>();
        for topic in gone {
            let this = self.clone();
            // Should it fail, the next deletion or start tries again.
            runtime::spawn(async move { this.change(Action::ForgetTopic { topic }).await });
        }
    }

    /// Stores the offsets and frees the log, if there is reason to, or `now`.
    pub(crate) async fn checkpoint(&self, now: bool) -> Result<(), Error> {
        let changed = self.offsets.borrow().version() != self.stored_version.get();
        let due = now
            || self.log.stats().segments > LOG_SEGMENTS_MAX
            || time::now().saturating_duration_since(self.stored_at.get()) >= CHECKPOINT_EVERY;
        if !changed || !due {
            return Ok(());
        }
        let applied = self.applied.get();
        let offsets = self.offsets.borrow().clone();
        stored::write(&self.path, &offsets).await?;
        self.stored_version.set(offsets.version());
        self.stored_at.set(time::now());
        self.log.truncate(OFFSETS_GROUP, applied);
        Ok(())
    }
}
