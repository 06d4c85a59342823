//! A coordinator: some consumer groups and what they committed. The cluster has a fixed number of coordinators, each with a
//! replicated log of its own for the offsets; whoever leads it serves its groups. Members are known to the leader only: they
//! join again when another leads.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use replog::{GroupId, Index, Replicas, Role, SnapshotSink, SnapshotSource, StateMachine};
use runtime::sync::Notify;
use runtime::time;
use serde::{Deserialize, Serialize};
use wire::kafka::ResponseError;

use super::controller::LOG_SEGMENTS_MAX;
use super::core::Shared;
use super::leading::Leading;
use super::slot::Slot;
use super::stored::COORDINATORS_MAX;
use super::turns::Turns;
use super::{shard, stored};
use crate::Error;
use crate::core::group::{Answer, Groups, Join, JoinAnswer, SyncAnswer, SyncRequest, Token};
use crate::core::offsets::{Action, Committed, Offsets, Place};
use crate::core::topics::Topics;

/// Coordinators' replicated groups begin here.
const FIRST_GROUP: u64 = 2;

/// How exactly sessions and rebalances are timed.
const TICK: Duration = Duration::from_millis(50);

/// The offsets are stored anew at the latest after this long, if they changed.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(30);

/// A coordinator's replicated group.
pub(crate) fn log_group(number: usize) -> GroupId {
    GroupId(FIRST_GROUP + number as u64)
}

/// The coordinator that has this replicated group, if any.
pub(crate) fn number_of(group: GroupId) -> Option<usize> {
    let number = usize::try_from(group.0.checked_sub(FIRST_GROUP)?).ok()?;
    (number < COORDINATORS_MAX).then_some(number)
}

/// The offsets as stored, and up to which entry of their log.
#[derive(Serialize, Deserialize)]
struct Stored {
    index: u64,
    offsets: Offsets,
}

/// See the module.
pub(crate) struct Coordinator {
    number: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) leading: Leading,
    pub(crate) groups: RefCell<Groups>,
    pub(crate) offsets: RefCell<Offsets>,
    replicas: RefCell<Option<Replicas>>,
    path: PathBuf,
    next_token: Cell<Token>,
    waiting: RefCell<HashMap<Token, Slot<Result<Answer, ResponseError>>>>,
    busy: Notify,
    storing: Turns,
    applied: Cell<Index>,
    stored: Cell<Index>,
    stored_at: Cell<std::time::Instant>,
    fault: RefCell<Option<Error>>,
}

impl Coordinator {
    /// The offsets as the checkpoint in `dir` has them.
    pub(crate) async fn open(shared: &Arc<Shared>, dir: &Path, number: usize) -> Result<Rc<Self>, Error> {
        let path = dir.join(format!("offsets-{number}.json"));
        let stored = stored::read::<Stored>(&path).await?;
        let (index, mut offsets) = stored.map(|s| (s.index, s.offsets)).unwrap_or_default();
        offsets.count_bytes();
        Ok(Rc::new(Self {
            number,
            shared: shared.clone(),
            leading: Leading::default(),
            groups: RefCell::new(Groups::new(shared.config.group_limits())),
            offsets: RefCell::new(offsets),
            replicas: RefCell::default(),
            path,
            next_token: Cell::new(1),
            waiting: RefCell::default(),
            busy: Notify::new(),
            storing: Turns::default(),
            applied: Cell::new(Index(index)),
            stored: Cell::new(Index(index)),
            stored_at: Cell::new(time::now()),
            fault: RefCell::default(),
        }))
    }

    /// The log is open.
    pub(crate) fn set_replicas(&self, replicas: Replicas) {
        *self.replicas.borrow_mut() = Some(replicas);
    }

    fn replicas(&self) -> Replicas {
        self.replicas.borrow().clone().expect("the logs are open before anything is asked of them")
    }

    /// Whether entries could be read.
    ///
    /// # Errors
    /// What was wrong with one.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.fault.take().map_or(Ok(()), Err)
    }

    /// Whether this node serves its groups.
    ///
    /// # Errors
    /// NOT_COORDINATOR.
    pub(crate) fn check_leads(&self) -> Result<(), ResponseError> {
        if self.leading.acts() { Ok(()) } else { Err(ResponseError::NotCoordinator) }
    }

    /// As [`check_leads`](Self::check_leads), and everything that was committed before this was called is applied.
    ///
    /// # Errors
    /// NOT_COORDINATOR.
    pub(crate) async fn caught_up(&self) -> Result<(), ResponseError> {
        self.check_leads()?;
        let read = self.replicas().read(log_group(self.number)).await;
        read.map_err(|_| ResponseError::NotCoordinator)?;
        self.check_leads()
    }

    fn set_role(self: Rc<Self>, role: Role) {
        self.leading.set_role(role);
        // Another one will serve them; or this one again, and nobody knows what has happened meanwhile.
        *self.groups.borrow_mut() = Groups::new(self.shared.config.group_limits());
        for (_, slot) in self.waiting.take() {
            slot.give(Err(ResponseError::NotCoordinator));
        }
        if role.leads {
            runtime::spawn(async move {
                if self.leading.caught_up(&self.replicas(), log_group(self.number), role).await {
                    self.leading.begin();
                }
            });
        }
    }

    /// Sessions and rebalances, while there are members.
    pub(crate) async fn keep_time(self: Rc<Self>) {
        loop {
            if self.groups.borrow().is_idle() {
                self.busy.notified().await;
            }
            time::sleep(TICK).await;
            self.groups.borrow_mut().tick(self.shared.uptime_ms());
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
                slot.give(Ok(answer));
            }
        }
    }

    fn wait_slot(&self) -> (Token, Slot<Result<Answer, ResponseError>>) {
        let token = self.next_token.get();
        self.next_token.set(token + 1);
        let slot = Slot::new();
        self.waiting.borrow_mut().insert(token, slot.clone());
        self.busy.notify_one();
        (token, slot)
    }

    pub(crate) async fn join(&self, now_ms: u64, join: Join) -> JoinAnswer {
        let member_id = join.member_id.clone();
        if let Err(error) = self.check_leads() {
            return JoinAnswer::failed(error, member_id);
        }
        let (token, slot) = self.wait_slot();
        self.groups.borrow_mut().join(now_ms, join, token);
        self.settle();
        match slot.await {
            Ok(Answer::Join(_, answer)) => answer,
            Ok(Answer::Sync(..)) => unreachable!("a join's token gets a join's answer"),
            Err(error) => JoinAnswer::failed(error, member_id),
        }
    }

    pub(crate) async fn sync(&self, now_ms: u64, request: SyncRequest) -> SyncAnswer {
        if let Err(error) = self.check_leads() {
            return SyncAnswer::failed(error);
        }
        let (token, slot) = self.wait_slot();
        self.groups.borrow_mut().sync(now_ms, request, token);
        self.settle();
        match slot.await {
            Ok(Answer::Sync(_, answer)) => answer,
            Ok(Answer::Join(..)) => unreachable!("a sync's token gets a sync's answer"),
            Err(error) => SyncAnswer::failed(error),
        }
    }

    /// Whether offsets of a group may be stored: what is known already may always change, and there is room for so much new.
    pub(crate) fn has_room_for(&self, group: &str, places: &[(Place, Committed)], bytes_max: usize) -> bool {
        let offsets = self.offsets.borrow();
        offsets.bytes() < bytes_max
            || places.iter().all(|((topic, index), _)| offsets.get(group, topic, *index).is_some())
    }

    /// Logs a change of the offsets; it is applied, and on disk on a majority, when this resolves.
    ///
    /// # Errors
    /// NOT_COORDINATOR, COORDINATOR_NOT_AVAILABLE.
    pub(crate) async fn change(&self, action: Action) -> Result<(), ResponseError> {
        self.check_leads()?;
        let entry = serde_json::to_vec(&action).expect("a change is JSON");
        let proposed = shard::propose(&self.replicas(), log_group(self.number), entry).await;
        proposed.map(drop).map_err(|error| match error {
            replog::Error::NotLeader { .. } | replog::Error::Lost { .. } => ResponseError::NotCoordinator,
            error => {
                tracing::warn!(%error, "offsets can't be committed");
                ResponseError::CoordinatorNotAvailable
            }
        })
    }

    /// Forgets offsets of topics that were deleted.
    pub(crate) fn forget_topics<'a>(self: &Rc<Self>, deleted: impl Iterator<Item = &'a str>) {
        if !self.leading.acts() {
            return;
        }
        let known = self.offsets.borrow().topics();
        for topic in deleted.filter(|topic| known.contains(*topic)).map(str::to_owned) {
            let this = self.clone();
            runtime::spawn(async move { this.change(Action::ForgetTopic { topic }).await });
        }
    }

    /// Forgets offsets of topics that are not in the table, which is known to be complete.
    pub(crate) fn forget_missing_topics(self: &Rc<Self>, topics: &Topics) {
        let known = self.offsets.borrow().topics();
        self.forget_topics(known.iter().map(String::as_str).filter(|topic| topics.get(topic).is_none()));
    }

    /// Stores the offsets and frees the log, if there is reason to, or `now`.
    pub(crate) async fn checkpoint(&self, now: bool) -> Result<(), Error> {
        let (replicas, group) = (self.replicas(), log_group(self.number));
        let due = now
            || replicas.stats().segments > LOG_SEGMENTS_MAX
            || time::now().saturating_duration_since(self.stored_at.get()) >= CHECKPOINT_EVERY;
        if !due {
            return Ok(());
        }
        let _turn = self.storing.take().await;
        let index = shard::applied(&replicas, group).max(self.applied.get());
        let offsets = self.offsets.borrow().clone();
        self.store(index, offsets).await?;
        replicas.truncate(group, index);
        Ok(())
    }

    async fn store(&self, index: Index, offsets: Offsets) -> Result<(), Error> {
        if index > self.stored.get() {
            stored::write(&self.path, &Stored { index: index.0, offsets }).await?;
            self.stored.set(index);
            self.stored_at.set(time::now());
        }
        Ok(())
    }
}

/// A coordinator as the state machine of its replicated log.
pub(crate) struct Machine(pub(crate) Rc<Coordinator>);

impl StateMachine for Machine {
    fn durable(&self) -> Index {
        self.0.stored.get()
    }

    fn apply(&mut self, index: Index, entry: &Bytes) {
        match serde_json::from_slice::<Action>(entry) {
            Ok(action) => self.0.offsets.borrow_mut().apply(action),
            Err(error) => {
                let what = format!("entry {index} of the write-ahead log is no change of offsets: {error}");
                let fault = Error::Corrupt { path: self.0.path.clone(), what };
                self.0.fault.borrow_mut().get_or_insert(fault);
            }
        }
        self.0.applied.set(index);
    }

    fn role(&mut self, role: Role) {
        self.0.clone().set_role(role);
    }

    fn snapshot(&mut self) -> Rc<dyn SnapshotSource> {
        Rc::new(Bytes::from(serde_json::to_vec(&*self.0.offsets.borrow()).expect("offsets are JSON")))
    }

    fn receive_snapshot(&mut self) -> Box<dyn SnapshotSink> {
        let coordinator = self.0.clone();
        replog::gather(move |index, bytes| async move {
            let mut offsets: Offsets = serde_json::from_slice(&bytes)?;
            offsets.count_bytes();
            let _turn = coordinator.storing.take().await;
            coordinator.store(index, offsets.clone()).await.map_err(std::io::Error::other)?;
            *coordinator.offsets.borrow_mut() = offsets;
            coordinator.applied.set(index);
            Ok(())
        })
    }
}
