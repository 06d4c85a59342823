//! A node's part in replicated groups: per core a log, the consensus of its groups, and their state machines.
//!
//! ```text
//! propose, read ──> consensus ──(end of turn)──> peers · log ──(durable)──> consensus ──> apply, answer
//! ```
//!
//! Always holds: everything that happens in a turn is taken together; messages that promise something leave after what
//! they promise is durable; state machines are called in order, and never while anything here is borrowed, so they may
//! call back.
//!
//! The map: [`link`] is a connection, [`peer`] sends, [`accept`] receives, [`turn`] does what consensus asks for, [`snapshots`] moves
//! snapshots, [`machine`] is what an owner implements, [`figures`] what it may publish, [`recovering`] reads the log, [`options`] sets
//! all up, [`questions`] is a way for who belongs to no group to ask.

mod accept;
mod figures;
mod link;
mod machine;
mod options;
mod peer;
mod questions;
mod recovering;
mod snapshots;
mod turn;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use runtime::JoinHandle;
use runtime::net::{Address, BoundListener};
use runtime::sync::{MailReceiver, MailSender, Notify};
use runtime::time;

use self::accept::{Door, Inbound, Routes};
use self::figures::Counters;
pub use self::figures::{Figures, Latency, PeerFigures};
pub use self::link::Mutual;
pub use self::machine::{Pending, Role, SnapshotSink, SnapshotSource, StateMachine, gather};
pub use self::options::{NodeCore, NodeOptions};
use self::peer::Peer;
pub use self::questions::{Answer, Question, ask};
use self::recovering::{Opening, Recovering};
use self::snapshots::{Arriving, Leaving};
use crate::core::backlog::Backlog;
use crate::core::consensus::{
    self, Change, Consensus, Members, Read, ReadTicket, Refused, Settings, SnapshotMeta,
};
use crate::core::recovery::GroupState;
use crate::core::stream::Ticket;
use crate::limits;
use crate::shell::once::{Once, Setter, once};
use crate::shell::repair;
use crate::{Error, GroupId, Index, Log, NodeId, Options, Term};

/// Where a group's log begins when it is founded: behind an entry that there never was, so that every member, the
/// first ones too, has its members from a snapshot's position.
const FOUNDED: (Index, Term) = (Index(1), Term(1));

/// The groups of one core of a node. Clones share it; it lives on the core that opened it.
#[derive(Clone)]
pub struct Replicas {
    shared: Rc<Shared>,
}

struct Shared {
    node: NodeId,
    cluster: u64,
    mutual: Option<Mutual>,
    boot: u64,
    stream: u32,
    core: usize,
    tick: Duration,
    election_timeout: Duration,
    alive_every: Duration,
    log: Log,
    routes: Arc<Routes>,
    consensus: RefCell<Consensus>,
    groups: RefCell<BTreeMap<GroupId, Group>>,
    peers: RefCell<BTreeMap<NodeId, Rc<Peer>>>,
    /// When each node was last heard, and whether it was given up since.
    heard: RefCell<BTreeMap<NodeId, (Duration, bool)>>,
    /// What the log is writing, in order.
    persisting: RefCell<VecDeque<(Ticket, GroupId, u64)>>,
    /// Bytes of proposals and received entries that consensus has and the log has not yet.
    on_the_way_bytes: Cell<usize>,
    reads: RefCell<BTreeMap<(GroupId, ReadTicket), Vec<Outcome>>>,
    leaving: RefCell<BTreeMap<(GroupId, NodeId), Rc<Leaving>>>,
    /// Groups that were left, until that is durable, and who waits for it.
    forgetting: RefCell<BTreeMap<GroupId, Forgetting>>,
    /// The last proposal was turned away, as too much of its group waits for a majority.
    behind: Cell<bool>,
    /// A repair has cut the log, and later starts are still to know; with what must be durable before they need not.
    cut: Cell<Option<Option<Ticket>>>,
    counters: Counters,
    work: Notify,
    tasks: RefCell<Vec<JoinHandle<()>>>,
}

/// When it is durable that a group was left, and who waits for that.
type Forgetting = (Ticket, Vec<Setter<Result<(), Error>>>);

/// Tells what became of a proposal, or how far a read must see.
type Outcome = Setter<Result<Index, Error>>;

/// A group on this core.
struct Group {
    machine: Rc<RefCell<Box<dyn StateMachine>>>,
    applied: Index,
    /// What the machine had when the log was opened: it passes over entries up to here.
    had: Index,
    role: Role,
    /// Consensus leads it, whether it serves already or not.
    elected: bool,
    /// Its entries that are needed on the disk.
    backlog: Backlog,
    /// The state machine has everything up to here, which is not applied yet.
    to_truncate: Option<Index>,
    /// Who waits for what it has proposed, or for an index to be applied.
    proposals: BTreeMap<Index, Vec<(Term, Instant, Outcome)>>,
    waiting: BTreeMap<Index, Vec<Setter<()>>>,
    arriving: Option<Arriving>,
    /// The snapshot that was made last.
    source: Option<(Index, Rc<dyn SnapshotSource>)>,
    faulty: bool,
}

/// How a group stands on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStats {
    /// The part that the node has in it.
    pub role: Role,
    /// Entries up to here are not needed any more.
    pub truncated: Index,
    /// Its state machine was given everything up to here.
    pub applied: Index,
    /// A majority has everything up to here, as far as this node knows.
    pub committed: Index,
    /// The last entry in this node's log, or on its way there.
    pub last: Index,
    /// Bytes of entries in the log that its state machine has not reported to be durable with [`Replicas::truncate`]; too
    /// much by half a MiB at most, and by what was overwritten.
    pub log_bytes: u64,
}

/// A proposal on its way.
pub struct Proposal {
    /// The place that it has if it is committed.
    pub index: Index,
    outcome: Once<Result<Index, Error>>,
}

impl Proposal {
    /// Resolves when it is applied here.
    ///
    /// # Errors
    /// [`Error::Lost`]: it will never be. [`Error::Unknown`]: it may be yet.
    pub async fn applied(self) -> Result<Index, Error> {
        self.outcome.await
    }
}

impl Replicas {
    /// Opens the log in `log.dir` and takes part in the groups that are in it; `make` gives each its state machine.
    /// Committed entries are applied again before this resolves, those behind what the machine has.
    ///
    /// A damaged log is repaired by this, if each group in it has a majority without this node: it is cut in front of the
    /// damage (its files are kept in the folder `damaged` as they were), and its groups have what they lost from the others.
    /// They neither vote nor lead before they have it all. A log with any group that can't do without this node is refused.
    ///
    /// # Errors
    /// Those of [`Log::open`]; [`Error::Behind`]; [`Error::Refused`] when its groups are not replicated.
    pub async fn open(
        core: NodeCore,
        log: Options,
        mut make: impl FnMut(GroupId) -> Box<dyn StateMachine>,
    ) -> Result<Replicas, Error> {
        let NodeCore { options, core, listener, inbox, routes, questions } = core;
        let mut found: BTreeMap<GroupId, Recovering> = BTreeMap::new();
        let mut without_terms = None;
        let memory = options.group_memory_bytes;
        let handed_out = Cell::new(false);
        let mut each = |group, state: &GroupState, entry: consensus::Entry| {
            handed_out.set(true);
            if entry.term == Term(0) {
                without_terms = Some(group);
                return;
            }
            let recovering = found.entry(group).or_insert_with(|| Recovering::new(state, make(group)));
            recovering.take(&entry, memory);
        };
        let (log, states, cut) = match Log::open_groups(log.clone(), &mut each).await {
            // One that was whole when it was read first is left to the next start.
            Err(Error::Corrupt { .. }) if !handed_out.get() => {
                let repair = repair::heal(&log.dir, options.node).await?;
                for damage in repair.iter().flat_map(|repair| &repair.damage) {
                    tracing::warn!(
                        "{damage}: cut in front of that; the other members of its groups have what is lost"
                    );
                }
                Log::open_groups(log, &mut each).await?
            }
            opened => opened?,
        };
        if let Some(group) = without_terms {
            let why = "its entries were written by a release whose groups were not replicated: use that release, or an \
                       empty folder";
            return Err(Error::Refused { group, why: why.to_owned() });
        }
        let shared = Rc::new(Shared::new(&options, core, log, routes));
        let replicas = Replicas { shared };
        replicas.shared.cut.set(cut.then_some(None));
        for (group, state) in &states {
            if state.state.members.1 == Members::default() && state.state.hard_state.term == Term(0) {
                continue;
            }
            let recovering = found.remove(group).unwrap_or_else(|| Recovering::new(state, make(*group)));
            let mut opening = recovering.finish(*group, state)?;
            if cut {
                replicas.shared.doubt(*group, &mut opening.start);
            }
            let durable = opening.machine.durable();
            if durable > state.last && opening.start.members.1.is_alone(options.node) {
                tracing::warn!(
                    %group,
                    "its state machine has everything up to entry {durable}, and its log ends at {}: it goes on behind {durable}",
                    state.last
                );
                let (hard_state, members) = (opening.start.hard_state, opening.start.members.1);
                let term = hard_state.term.max(FOUNDED.1);
                let snapshot = SnapshotMeta { index: durable, term, members };
                opening.start = replicas.shared.begin(*group, snapshot, hard_state);
            }
            replicas.shared.start(*group, opening);
        }
        for (node, address) in &options.peers {
            replicas.set_peer(*node, address.clone());
        }
        replicas.shared.run(&options, listener.map(|listener| (listener, questions)), inbox)?;
        Ok(replicas)
    }

    /// Founds a group with these voters; done on each of them with the same members, before any of them is asked
    /// anything. It does nothing where the group is known.
    ///
    /// On a node alone the state machine may have something already, its log having been lost, say: the group begins
    /// behind that.
    ///
    /// # Errors
    /// [`Error::TooManyGroups`]; [`Error::Refused`] when this node is not among them, or its state machine has something
    /// and it is not alone, or the group is still being [forgotten](Replicas::forget).
    pub fn found(
        &self,
        group: GroupId,
        members: Members,
        machine: Box<dyn StateMachine>,
    ) -> Result<(), Error> {
        if !members.voters.contains(&self.shared.node) || members.all().len() > limits::MEMBERS_MAX {
            let why = format!("node {} is no voter of it, or they are too many", self.shared.node);
            return Err(Error::Refused { group, why });
        }
        if !self.admit(group)? {
            return Ok(());
        }
        let durable = machine.durable();
        if durable > FOUNDED.0 && !members.is_alone(self.shared.node) {
            let why = format!("it is new, and its state machine has everything up to entry {durable} here");
            return Err(Error::Refused { group, why });
        }
        let snapshot = SnapshotMeta { index: durable.max(FOUNDED.0), term: FOUNDED.1, members };
        let hard_state = consensus::HardState { term: FOUNDED.1, ..Default::default() };
        let start = self.shared.begin(group, snapshot, hard_state);
        self.shared.start(group, Opening { start, machine, backlog: Backlog::default() });
        Ok(())
    }

    /// Makes room for a group that this node is to become a member of: its leader adds it with [`Replicas::change`], and
    /// sends what there is. It does nothing where the group is known.
    ///
    /// The node may have been a member before, and have lost everything: it gives nobody its vote, and acknowledges nothing,
    /// before it was filled. Its leader must have taken it out before it adds it.
    ///
    /// # Errors
    /// [`Error::TooManyGroups`]; [`Error::Refused`] while the group is still being [forgotten](Replicas::forget).
    pub fn join(&self, group: GroupId, machine: Box<dyn StateMachine>) -> Result<(), Error> {
        if self.admit(group)? {
            let start = consensus::Start { voiceless: true, ..Default::default() };
            self.shared.start(group, Opening { start, machine, backlog: Backlog::default() });
        }
        Ok(())
    }

    /// Leaves a group for good: its log, votes and members go, and its state machine is dropped. From the call on nothing of
    /// it is answered; what is given back resolves when that is durable: whatever happens then, the group does not come
    /// back by itself, and it has no place in the log any more. It does nothing where the group is not known.
    ///
    /// This is for a group that is deleted everywhere, or that this node does not belong to any more
    /// ([`Change::Out`]): a member that forgets while it is one has lost what it has promised. The node may
    /// [join](Replicas::join) the group again. The state machine's files are its owner's.
    ///
    /// # Errors
    /// [`Error::Closed`]: it is not known whether the group comes back at the next start.
    pub fn forget(&self, group: GroupId) -> impl Future<Output = Result<(), Error>> + use<> {
        let outcome = self.shared.forget(group);
        async move {
            match outcome {
                Some(outcome) => outcome.await,
                None => Ok(()),
            }
        }
    }

    fn admit(&self, group: GroupId) -> Result<bool, Error> {
        if self.shared.groups.borrow().contains_key(&group) {
            return Ok(false);
        }
        if self.shared.forgetting.borrow().contains_key(&group) {
            let why = "this node is still leaving it: wait for that first".to_owned();
            return Err(Error::Refused { group, why });
        }
        match self.shared.log.with_stream(|stream| stream.knows(group)) {
            true => Ok(true),
            false => Err(Error::TooManyGroups { max: self.shared.groups.borrow().len() }),
        }
    }

    /// Where a peer is. Messages to nodes without an address are dropped.
    pub fn set_peer(&self, node: NodeId, address: Address) {
        let shared = &self.shared;
        if node == shared.node {
            return;
        }
        if let Some(peer) = shared.peers.borrow().get(&node) {
            peer.set_address(address);
            return;
        }
        let peer = Rc::new(Peer::new(node, address));
        shared.peers.borrow_mut().insert(node, peer.clone());
        shared.heard.borrow_mut().insert(node, (time::boot_clock(), false));
        let task = runtime::spawn(peer::keep(shared.clone(), peer));
        shared.tasks.borrow_mut().push(task);
    }

    /// The node is no peer any more: nothing is sent to it, and it is not listened for.
    pub fn drop_peer(&self, node: NodeId) {
        self.shared.heard.borrow_mut().remove(&node);
        if let Some(peer) = self.shared.peers.borrow_mut().remove(&node) {
            peer.leave();
        }
    }

    /// For how long nothing was heard from a peer, by this core; counted from [`Replicas::set_peer`] if it never was.
    /// `None`: it is no peer.
    pub fn unheard(&self, node: NodeId) -> Option<Duration> {
        let (last, _) = *self.shared.heard.borrow().get(&node)?;
        Some(time::boot_clock().saturating_sub(last))
    }

    /// Proposes an entry.
    ///
    /// # Errors
    /// Nothing was taken: [`Error::NotLeader`], [`Error::Full`] (wait with [`Replicas::room`]), [`Error::ReadOnly`],
    /// [`Error::TooLarge`], [`Error::Refused`], [`Error::Closed`].
    pub fn propose(&self, group: GroupId, entry: impl Into<Bytes>) -> Result<Proposal, Error> {
        let (shared, entry) = (&self.shared, entry.into());
        let bytes = entry.len();
        let on_the_way = shared.on_the_way_bytes.get();
        shared.log.has_place_for(bytes, on_the_way)?;
        let proposed = shared.consensus.borrow_mut().propose(group, entry);
        shared.behind.set(proposed == Err(Refused::Full));
        let (index, term) = proposed.map_err(|refused| shared.refused(group, refused))?;
        shared.on_the_way_bytes.set(on_the_way + bytes + crate::core::batch::RECORD_HEAD_BYTES);
        Ok(shared.proposal(group, index, term))
    }

    /// Waits until [`Replicas::propose`] would not say [`Error::Full`] to an entry of up to 4096 bytes for want of room in
    /// the log.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn room(&self) -> Result<(), Error> {
        self.room_for(limits::BLOCK_BYTES).await
    }

    /// As [`Replicas::room`], for an entry of `bytes` bytes, as long as nobody else takes the room first.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Closed`].
    pub async fn room_for(&self, bytes: usize) -> Result<(), Error> {
        if self.shared.behind.take() {
            // The log may have room while a group has none: who asks again and again must let it go on.
            time::sleep(Duration::from_millis(1)).await;
        }
        loop {
            let on_the_way = self.shared.on_the_way_bytes.get();
            match self.shared.log.has_place_for(bytes, on_the_way) {
                // It comes to the log when this turn ends.
                Err(Error::Full) if on_the_way > 0 => runtime::turn_end().await,
                Err(Error::Full) => self.shared.log.room_for(bytes).await?,
                Err(error @ (Error::TooLarge { .. } | Error::Closed)) => return Err(error),
                _ => return Ok(()),
            }
        }
    }

    /// Makes sure that everything that was committed when this was called is applied here; gives the index. The leader
    /// answers at once under its lease, and otherwise asks a majority first.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Unknown`] when leadership was lost meanwhile, [`Error::Refused`].
    pub async fn read(&self, group: GroupId) -> Result<Index, Error> {
        let shared = &self.shared;
        let read = shared.consensus.borrow_mut().read(group, time::boot_clock());
        let index = match read.map_err(|refused| shared.refused(group, refused))? {
            Read::At(index) => index,
            Read::Wait(ticket) => {
                let (setter, read) = once();
                shared.reads.borrow_mut().entry((group, ticket)).or_default().push(setter);
                shared.work.notify_one();
                read.await?
            }
        };
        self.applied(group, index).await;
        match shared.groups.borrow().contains_key(&group) {
            true => Ok(index),
            false => Err(Error::Unknown { group }),
        }
    }

    /// For how long this node, which follows, may not have had everything that the group's leader had committed: it had it
    /// so long ago, by the arrival of the leader's word. `None`: it has not, as far as it knows.
    pub fn staleness(&self, id: GroupId) -> Option<Duration> {
        let (groups, consensus) = (self.shared.groups.borrow(), self.shared.consensus.borrow());
        let group = groups.get(&id)?;
        let (index, mut at, is_quiet) = consensus.leader_has(id)?;
        if group.applied < index {
            return None;
        }
        if is_quiet && let Some((heard, _)) = self.shared.heard.borrow().get(&group.role.leader?) {
            // A quiet leader says only that its node lives; it would have woken us.
            at = at.max(*heard);
        }
        Some(time::boot_clock().saturating_sub(at))
    }

    /// Whether [`read`](Replicas::read) would let a read pass at once, as far as leadership is concerned: this node decides
    /// alone, or holds its lease. A leader that has shown everything up to its election may read first and ask then, in one
    /// go; it has read everything that was answered before the read began, though the process was stopped in between.
    pub fn reads_now(&self, group: GroupId) -> bool {
        self.shared.consensus.borrow().reads_now(group, time::boot_clock)
    }

    /// Waits until the group's state machine has applied everything up to `index`, or the group is not here.
    pub async fn applied(&self, group: GroupId, index: Index) {
        let waits = {
            let mut groups = self.shared.groups.borrow_mut();
            let Some(group) = groups.get_mut(&group).filter(|group| group.applied < index) else { return };
            let (setter, waits) = once();
            group.waiting.entry(index).or_default().push(setter);
            waits
        };
        waits.await;
    }

    /// The part that this node has in the group. The default: the group is not here.
    pub fn role(&self, group: GroupId) -> Role {
        self.shared.groups.borrow().get(&group).map(|group| group.role).unwrap_or_default()
    }

    /// The group's members, as of what is applied here.
    pub fn members(&self, group: GroupId) -> Option<Members> {
        self.members_since(group).map(|(_, members)| members)
    }

    /// The group's members, and an index that they have been so from, or from before; of two that were seen, anywhere, the
    /// one with the higher index is the later.
    pub fn members_since(&self, group: GroupId) -> Option<(Index, Members)> {
        self.shared.consensus.borrow().members_since(group).cloned()
    }

    /// How many entries each other member is behind the last one, known to the group's leader only.
    pub fn behind(&self, group: GroupId) -> Option<BTreeMap<NodeId, u64>> {
        self.shared.consensus.borrow().behind(group)
    }

    /// Changes the group's members, all at once or not at all. It resolves when the change is in force here.
    ///
    /// Who is to be a voter and is no member yet becomes a learner first, and a voter once it has begun to follow, so that
    /// the group never waits for the vote of a node that has nothing of it. Where such a node is not there that lasts for
    /// ever; when this is dropped then, the learner stays.
    ///
    /// # Errors
    /// Those of [`Replicas::propose`] and [`Proposal::applied`]; [`Error::Refused`] while another change is not finished.
    pub async fn change(&self, group: GroupId, changes: &[Change]) -> Result<(), Error> {
        let members = self.members(group).unwrap_or_default();
        let newcomer = |change: &Change| match change {
            Change::Voter(node) if !members.contains(*node) => Some(Change::Learner(*node)),
            _ => None,
        };
        let newcomers: Vec<Change> = changes.iter().filter_map(newcomer).collect();
        if !newcomers.is_empty() {
            self.change_now(group, &newcomers, false).await?.applied().await?;
        }
        self.change_now(group, changes, !newcomers.is_empty()).await?.applied().await.map(drop)
    }

    /// Proposes a change of members as soon as all that are to be voters have begun to follow.
    /// `follows`: there may still be another half of a change to wait for.
    async fn change_now(&self, group: GroupId, changes: &[Change], follows: bool) -> Result<Proposal, Error> {
        let shared = &self.shared;
        loop {
            let changed = shared.consensus.borrow_mut().change(group, changes);
            match changed {
                Ok((index, term)) => return Ok(shared.proposal(group, index, term)),
                Err(Refused::NotReady(_)) => {}
                Err(Refused::ChangePending) if follows => {}
                Err(refused) => return Err(shared.refused(group, refused)),
            }
            time::sleep(shared.tick).await;
        }
    }

    /// Hands the group's leadership to another voter. It takes an election timeout at most, or does not come about.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Refused`].
    pub fn transfer(&self, group: GroupId, to: NodeId) -> Result<(), Error> {
        let transferred = self.shared.consensus.borrow_mut().transfer(group, to);
        self.shared.work.notify_one();
        transferred.map_err(|refused| self.shared.refused(group, refused))
    }

    /// Says that the group's state machine has everything up to `through` in durable storage of its own: the log forgets
    /// those entries some time later.
    ///
    /// A state machine that was just opened may have more than the log knows to be committed. What is not applied here yet
    /// is remembered, and truncated when it is.
    pub fn truncate(&self, group: GroupId, through: Index) {
        if let Some(group) = self.shared.groups.borrow_mut().get_mut(&group) {
            group.to_truncate = group.to_truncate.max(Some(through));
        }
        self.shared.truncate_due(group);
    }

    /// What the log has done, and where it stands: whether the disk is full is in there too.
    pub fn stats(&self) -> crate::Stats {
        self.shared.log.stats()
    }

    /// How the group stands on this node. `None`: it is not here.
    pub fn group_stats(&self, id: GroupId) -> Option<GroupStats> {
        let groups = self.shared.groups.borrow();
        let (group, consensus) = (groups.get(&id)?, self.shared.consensus.borrow());
        Some(GroupStats {
            role: group.role,
            truncated: self.shared.log.truncated(id),
            applied: group.applied,
            committed: consensus.committed(id),
            last: consensus.last(id),
            log_bytes: group.backlog.bytes(),
        })
    }

    /// The groups that keep the log's oldest segment from being used again: they have entries there that were not
    /// [truncated](Replicas::truncate).
    pub fn holders(&self) -> Vec<GroupId> {
        self.shared.log.holders()
    }

    /// Takes nothing more, writes what was taken, and lets the folder go. Proposals that are not applied are not known to
    /// be committed: [`Error::Unknown`].
    ///
    /// # Errors
    /// Those of [`Log::close`].
    pub async fn close(&self) -> Result<(), Error> {
        self.shared.tasks.take().into_iter().for_each(JoinHandle::abort);
        let groups: Vec<GroupId> = self.shared.groups.borrow().keys().copied().collect();
        groups.into_iter().for_each(|group| self.shared.give_up_waiting(group, |_| true));
        let closed = self.shared.log.close().await;
        let forgetting = self.shared.forgetting.take();
        for setter in forgetting.into_values().flat_map(|(_, setters)| setters) {
            setter.set(Err(Error::Closed));
        }
        closed
    }
}

impl Shared {
    fn new(options: &NodeOptions, core: usize, log: Log, routes: Arc<Routes>) -> Shared {
        let boot = runtime::random_u64();
        let settings = Settings {
            node: options.node,
            boot,
            seed: options.seed,
            tick: options.tick,
            heartbeat_ticks: options.heartbeat_ticks,
            election_ticks: options.election_ticks,
            clock_drift_permille: options.clock_drift_permille,
            quiet_after_ticks: options.quiet_after_ticks,
            group_memory_bytes: options.group_memory_bytes,
        };
        Shared {
            node: options.node,
            cluster: options.cluster,
            mutual: options.tls.clone(),
            boot,
            stream: core as u32,
            core,
            tick: options.tick,
            election_timeout: options.tick * options.election_ticks,
            alive_every: options.tick * options.heartbeat_ticks,
            log,
            routes,
            consensus: RefCell::new(Consensus::new(settings)),
            groups: RefCell::default(),
            peers: RefCell::default(),
            heard: RefCell::default(),
            persisting: RefCell::default(),
            on_the_way_bytes: Cell::new(0),
            reads: RefCell::default(),
            leaving: RefCell::default(),
            forgetting: RefCell::default(),
            behind: Cell::new(false),
            cut: Cell::new(None),
            counters: Counters::default(),
            work: Notify::new(),
            tasks: RefCell::default(),
        }
    }

    /// Has the group's log begin behind `snapshot`, in the term and with the vote of `hard_state`.
    fn begin(
        &self,
        group: GroupId,
        snapshot: SnapshotMeta,
        hard_state: consensus::HardState,
    ) -> consensus::Start {
        let hard_state = consensus::HardState { commit: snapshot.index, ..hard_state };
        self.log.with_stream(|stream| {
            stream.restore(group, &snapshot);
            stream.set_hard_state(group, hard_state)
        });
        consensus::Start {
            base: (snapshot.index, snapshot.term),
            hard_state,
            members: (snapshot.index, snapshot.members),
            applied: snapshot.index,
            ..Default::default()
        }
    }

    /// The group may have lost what it had acknowledged. It takes a term in which it has said nothing, so that no leader
    /// reckons with that any more, and keeps its voice only where nothing can be decided without it.
    fn doubt(&self, group: GroupId, start: &mut consensus::Start) {
        let node = self.node;
        let members = &start.members.1;
        if members.is_alone(node) {
            return;
        }
        start.voiceless = *members == Members::default() || members.has_quorum(|member| member != node);
        let term = Term(start.hard_state.term.0 + 1);
        start.hard_state = consensus::HardState { term, vote: NodeId(0), ..start.hard_state };
        let ticket = self.log.with_stream(|stream| stream.set_hard_state(group, start.hard_state));
        self.cut.set(Some(Some(ticket)));
    }

    fn start(&self, id: GroupId, Opening { start, machine, backlog }: Opening) {
        let group = Group {
            had: machine.durable(),
            machine: Rc::new(RefCell::new(machine)),
            applied: start.applied,
            role: Role::default(),
            elected: false,
            backlog,
            to_truncate: None,
            proposals: BTreeMap::new(),
            waiting: BTreeMap::new(),
            arriving: None,
            source: None,
            faulty: false,
        };
        self.groups.borrow_mut().insert(id, group);
        self.consensus.borrow_mut().start(id, &start, time::boot_clock());
        self.routes.set(id, self.core);
        self.work.notify_one();
    }

    fn forget(&self, id: GroupId) -> Option<Once<Result<(), Error>>> {
        let (setter, outcome) = once();
        if let Some((_, waiting)) = self.forgetting.borrow_mut().get_mut(&id) {
            waiting.push(setter);
            return Some(outcome);
        }
        self.give_up_waiting(id, |_| true);
        let gone = self.groups.borrow_mut().remove(&id)?;
        self.consensus.borrow_mut().stop(id);
        self.routes.remove(id);
        self.leaving.borrow_mut().retain(|(group, _), _| *group != id);
        gone.waiting.into_values().flatten().for_each(|waiting| waiting.set(()));
        let reads: Vec<_> = self.reads.borrow().keys().filter(|(group, _)| *group == id).copied().collect();
        for (_, ticket) in reads {
            self.answer_reads(id, ticket, || Err(Error::Unknown { group: id }));
        }
        if self.log.is_open() {
            let ticket = self.log.with_stream(|stream| stream.forget(id));
            self.forgetting.borrow_mut().insert(id, (ticket, vec![setter]));
        } else {
            setter.set(Err(Error::Closed));
        }
        Some(outcome)
    }

    fn run(
        self: &Rc<Shared>,
        options: &NodeOptions,
        listener: Option<(BoundListener, Option<MailSender<Question>>)>,
        inbox: MailReceiver<Inbound>,
    ) -> Result<(), Error> {
        let durable = Rc::downgrade(self);
        self.log.on_durable(move |through| {
            if let Some(shared) = durable.upgrade() {
                shared.durable(through);
            }
        });
        let mut tasks = vec![
            runtime::spawn(turn::run(self.clone())),
            runtime::spawn(turn::tick(self.clone(), options.tick)),
            runtime::spawn(turn::receive(self.clone(), inbox)),
        ];
        if let Some((bound, questions)) = listener {
            let path = PathBuf::from(bound.local_addr().to_string());
            let listener = bound.open().map_err(Error::io("listen on", &path))?;
            let routes = self.routes.clone();
            let (cluster, node, mutual) = (self.cluster, self.node, self.mutual.clone());
            let door = Door { cluster, node, mutual, routes, questions };
            tasks.push(runtime::spawn(accept::accept(listener, door)));
        }
        self.tasks.borrow_mut().extend(tasks);
        Ok(())
    }

    fn proposal(&self, group: GroupId, index: Index, term: Term) -> Proposal {
        let (setter, outcome) = once();
        if let Some(group) = self.groups.borrow_mut().get_mut(&group) {
            group.proposals.entry(index).or_default().push((term, time::turn_now(), setter));
        }
        self.work.notify_one();
        Proposal { index, outcome }
    }

    fn refused(&self, group: GroupId, refused: Refused) -> Error {
        let why = |why: &str| Error::Refused { group, why: why.to_owned() };
        match refused {
            Refused::NoGroup => why("this node does not have it"),
            Refused::NotLeader(leader) => Error::NotLeader { group, leader },
            Refused::Transferring => why("its leadership is being handed over: try again"),
            Refused::Full => Error::Full,
            Refused::ChangePending => why("another change of its members is not finished: try again"),
            Refused::NotReady(node) => {
                why(&format!("node {node} has nothing of it yet: make it a learner first"))
            }
            Refused::Senseless(what) => why(&what),
            Refused::Faulty => why("it has stopped on this node: see the log"),
        }
    }

    /// Tells those who wait for proposals of such terms that nothing is known of them.
    fn give_up_waiting(&self, id: GroupId, of_term: impl Fn(Term) -> bool) {
        let mut given_up = Vec::new();
        if let Some(group) = self.groups.borrow_mut().get_mut(&id) {
            for waiting in group.proposals.values_mut() {
                given_up.extend(waiting.extract_if(.., |(term, ..)| of_term(*term)));
            }
            group.proposals.retain(|_, waiting| !waiting.is_empty());
        }
        for (.., setter) in given_up {
            self.counters.proposal_lost();
            setter.set(Err(Error::Unknown { group: id }));
        }
    }
}
