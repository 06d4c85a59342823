//! Consensus: many groups, each a member of a Raft group, as one state machine without input or output.
//!
//! ```text
//! propose, receive, tick, persisted, applied … ──> Consensus ──> take: messages, what to persist, what is committed, …
//! ```
//!
//! The calling contract: tell it what has happened, in any order; once per turn [`take`](Consensus::take) what is to be
//! done, and then
//! - send the messages, in any order; each may be lost, doubled or late;
//! - write what is to be persisted, in order, and say [`persisted`](Consensus::persisted) when it is durable;
//! - apply what is committed, in order, and say [`applied`](Consensus::applied);
//! - have snapshots made that are wanted, and say [`snapshot_made`](Consensus::snapshot_made).
//!
//! The `raft` crate does the work; nothing outside of this folder names it. What it leaves open, or does in a way that
//! can't be used here, is done around it: [`message`] (bytes), [`lease`] (time), [`membership`], and in [`group`] reads,
//! election timeouts, quiet groups, and votes after a restart.
//!
//! `now` is the time since any fixed moment, on a clock that goes on while the host sleeps.

pub(crate) mod entry;
mod group;
mod lease;
mod membership;
mod message;
mod store;

#[cfg(test)]
mod cluster_test;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

pub(crate) use entry::{Entry, Kind};
use group::Group;
pub use membership::{Change, Members};
pub(crate) use message::{Message, SnapshotMeta};

use crate::core::terms::Terms;
use crate::{GroupId, Index, NodeId, Term};

/// How this node takes part.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// This node.
    pub(crate) node: NodeId,
    /// A number that no earlier start on the same data folder has had.
    pub(crate) boot: u64,
    /// Spreads elections: the same on all nodes of a cluster, or not.
    pub(crate) seed: u64,
    /// The length of a tick. [`Consensus::tick`] is called at most once in it.
    pub(crate) tick: Duration,
    /// Ticks between heartbeats.
    pub(crate) heartbeat_ticks: u32,
    /// Ticks without a leader until the first node campaigns; the last does after twice as many.
    pub(crate) election_ticks: u32,
    /// How much faster one clock may be than another, in parts of a thousand.
    pub(crate) clock_drift_permille: u32,
    /// Idle ticks after which a group falls quiet.
    pub(crate) quiet_after_ticks: u32,
    /// Bytes of entries that a group keeps in memory for members that are a little behind.
    pub(crate) group_memory_bytes: usize,
}

impl Settings {
    fn election_timeout(&self) -> Duration {
        self.tick * self.election_ticks
    }

    /// How long the promise of a follower holds at least, by our clock.
    fn lease(&self) -> Duration {
        // A follower's first tick may come at once.
        let promised = self.tick * (self.election_ticks - 1);
        promised - promised * self.clock_drift_permille / 1000
    }

    /// Ticks until this node campaigns, in this term: from `election_ticks` to one less than twice that.
    fn election_spread(&self, group: GroupId, term: Term) -> usize {
        // The finishing steps of SplitMix64 after each number.
        let mixed = [self.node.0, group.0, term.0].into_iter().fold(self.seed, |state, number| {
            let mut z = (state ^ number).wrapping_add(0x9E37_79B9_7F4A_7C15);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        });
        let ticks = u64::from(self.election_ticks);
        (ticks + mixed % ticks) as usize
    }
}

/// What a node has promised and learned, and must not forget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HardState {
    pub(crate) term: Term,
    /// Whom it has its vote in this term; node 0: nobody.
    pub(crate) vote: NodeId,
    /// Known to be committed; what is recorded of it may lag.
    pub(crate) commit: Index,
}

impl HardState {
    fn to_raft(self) -> raft::eraftpb::HardState {
        raft::eraftpb::HardState {
            term: self.term.0,
            vote: self.vote.0,
            commit: self.commit.0,
            ..Default::default()
        }
    }
}

/// A group as it was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Start {
    /// The position in front of the first of `entries`.
    pub(crate) base: (Index, Term),
    pub(crate) hard_state: HardState,
    /// The members as of `applied`, and since which index.
    pub(crate) members: (Index, Members),
    /// The state machine has everything up to here; not below `base`, not beyond `hard_state.commit`, nor beyond a
    /// membership entry that `members` does not know of.
    pub(crate) applied: Index,
    pub(crate) entries: Vec<Entry>,
    /// The terms of entries that are on disk and not among `entries`.
    pub(crate) terms: Terms,
    /// The log may have lost what this node has acknowledged: no vote, and no candidacy, before a leader has shown all that
    /// is committed. The term must be one in which this node has said nothing. A node that decides alone has nobody to ask.
    pub(crate) voiceless: bool,
}

/// Why something was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// This node has no such group.
    NoGroup,
    /// This node does not lead the group; who does, as far as it knows.
    NotLeader(Option<NodeId>),
    /// Leadership is being handed over: try again soon.
    Transferring,
    /// Too much waits to be committed.
    Full,
    /// Another change of members is not finished.
    ChangePending,
    /// Who is to be a voter has nothing of the group yet, and could not vote: it is to be a learner first. Or one that is a
    /// voter already has nothing, and the others would be too few without it.
    NotReady(NodeId),
    /// It can't be done, whenever.
    Senseless(String),
    /// The group has stopped: see [`Fault`].
    Faulty,
}

/// Why a group has stopped on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A leader reckons with entries that this node acknowledged and does not have.
    Lost { from: NodeId, last: Index, reckoned: Index },
}

/// How a read is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// As soon as the state machine has applied this.
    At(Index),
    /// When the ticket comes back in a [`Batch`].
    Wait(ReadTicket),
}

/// A read that waits for the word of a quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReadTicket(u64);

/// The part that this node has in a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Role {
    pub(crate) term: Term,
    pub(crate) leader: Option<NodeId>,
    /// It is this node.
    pub(crate) leads: bool,
    /// It is, and it knows what is committed.
    pub(crate) serves: bool,
}

/// A message and where it goes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Envelope {
    pub(crate) group: GroupId,
    pub(crate) to: NodeId,
    pub(crate) message: Message,
}

/// What is to be written. Those of a group go to the disk in order.
#[derive(Clone, Debug)]
pub(crate) struct Persist {
    pub(crate) group: GroupId,
    /// Goes back with [`Consensus::persisted`], where `urgent`.
    pub(crate) number: u64,
    /// Something waits for it. Otherwise only the commit has moved on: it may be written with whatever comes next, or not.
    pub(crate) urgent: bool,
    pub(crate) hard_state: Option<HardState>,
    /// Takes the place of everything that was there. It is durable only when the state machine has it.
    pub(crate) snapshot: Option<SnapshotMeta>,
    /// They go behind what is there, or, where they begin within, take the place of its end.
    pub(crate) entries: Vec<Entry>,
}

/// Entries to apply.
#[derive(Clone, Debug)]
pub(crate) struct Committed {
    pub(crate) group: GroupId,
    pub(crate) entries: Vec<Entry>,
}

/// Everything that is to be done.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) messages: Vec<Envelope>,
    pub(crate) persist: Vec<Persist>,
    pub(crate) committed: Vec<Committed>,
    /// Changes of members that are in force; to be recorded with, or after, what is to be persisted.
    pub(crate) members: Vec<(GroupId, Index, Members)>,
    /// Of which group, for whom, and how new at least.
    pub(crate) snapshots_wanted: Vec<(GroupId, NodeId, Index)>,
    /// Reads that may go on once the index is applied.
    pub(crate) reads: Vec<(GroupId, ReadTicket, Index)>,
    /// Reads that were lost with the leadership.
    pub(crate) reads_lost: Vec<(GroupId, ReadTicket)>,
    pub(crate) roles: Vec<(GroupId, Role)>,
    pub(crate) faults: Vec<(GroupId, Fault)>,
}

/// All groups of a core on this node.
pub(crate) struct Consensus {
    settings: Settings,
    groups: BTreeMap<GroupId, Group>,
    /// Groups in which something has happened since the last batch.
    touched: BTreeSet<GroupId>,
    /// Groups that are not quiet.
    awake: BTreeSet<GroupId>,
    out: Batch,
}

impl Consensus {
    pub(crate) fn new(settings: Settings) -> Consensus {
        assert!(settings.node.0 > 0, "node 0 is nobody");
        assert!(
            settings.heartbeat_ticks > 0 && settings.election_ticks > settings.heartbeat_ticks + 1,
            "an election waits for longer than a heartbeat takes to come"
        );
        Consensus {
            settings,
            groups: BTreeMap::new(),
            touched: BTreeSet::new(),
            awake: BTreeSet::new(),
            out: Batch::default(),
        }
    }

    /// Takes part in a group.
    pub(crate) fn start(&mut self, id: GroupId, start: &Start, now: Duration) {
        let group = Group::start(id, &self.settings, start, now);
        assert!(self.groups.insert(id, group).is_none(), "group {id} was started twice");
        self.touch(id);
    }

    /// Leaves a group, as if it had never been here.
    pub(crate) fn stop(&mut self, id: GroupId) {
        self.groups.remove(&id);
        self.touched.remove(&id);
        self.awake.remove(&id);
    }

    #[cfg(test)]
    pub(crate) fn role(&self, group: GroupId) -> Option<Role> {
        self.groups.get(&group).map(Group::role)
    }

    #[cfg(test)]
    pub(crate) fn members(&self, group: GroupId) -> Option<&Members> {
        self.members_since(group).map(|(_, members)| members)
    }

    /// The members, and since when they are known to be so.
    pub(crate) fn members_since(&self, group: GroupId) -> Option<&(Index, Members)> {
        self.groups.get(&group).map(Group::members_since)
    }

    /// How far behind the others are, at the leader.
    pub(crate) fn behind(&self, group: GroupId) -> Option<BTreeMap<NodeId, u64>> {
        self.groups.get(&group).and_then(Group::behind)
    }

    /// Entries of the group up to `through` are not needed here any more; gives the term of the last of them. `None`: they
    /// were not needed before.
    pub(crate) fn truncate(&mut self, group: GroupId, through: Index) -> Option<Term> {
        let member = self.groups.get_mut(&group)?;
        let term = member.term_of(through);
        member.truncated(through);
        term
    }

    pub(crate) fn committed(&self, group: GroupId) -> Index {
        self.groups.get(&group).map(Group::committed).unwrap_or_default()
    }

    /// The last entry, proposals among them.
    pub(crate) fn last(&self, group: GroupId) -> Index {
        self.groups.get(&group).map(Group::last).unwrap_or_default()
    }

    /// How many entries each other member of the group is behind this node, which leads it.
    pub(crate) fn lags(&self, group: GroupId) -> Vec<(NodeId, u64)> {
        self.groups.get(&group).map(Group::lags).unwrap_or_default()
    }

    /// How many groups have no voice.
    pub(crate) fn voiceless(&self) -> usize {
        self.groups.values().filter(|group| group.is_voiceless()).count()
    }

    /// How many groups are quiet.
    #[cfg(test)]
    pub(crate) fn quiet(&self) -> usize {
        self.groups.len() - self.awake.len()
    }

    /// A tick has passed: never called twice within one, however late the first came.
    pub(crate) fn tick(&mut self) {
        let awake: Vec<GroupId> = self.awake.iter().copied().collect();
        for id in awake {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            if group.tick() {
                self.touched.insert(id);
            }
        }
    }

    /// Proposes an entry; gives the place that it will have if it is committed. At that place another may come to be,
    /// of another term: then this one is lost.
    pub(crate) fn propose(&mut self, group: GroupId, bytes: Bytes) -> Result<(Index, Term), Refused> {
        self.leading(group, |member| member.propose(bytes))
    }

    /// Proposes a change of members.
    pub(crate) fn change(&mut self, group: GroupId, changes: &[Change]) -> Result<(Index, Term), Refused> {
        self.leading(group, |member| member.change(changes))
    }

    /// Hands leadership over. It takes an election timeout at most, or does not come about.
    pub(crate) fn transfer(&mut self, group: GroupId, to: NodeId) -> Result<(), Refused> {
        self.leading(group, |member| member.transfer(to))
    }

    /// A read that must see everything that was committed before now.
    pub(crate) fn read(&mut self, group: GroupId, now: Duration) -> Result<Read, Refused> {
        self.leading(group, |member| member.read(now))
    }

    /// What the group's leader had committed when it was last heard, when that was, and whether it has fallen quiet since.
    pub(crate) fn leader_has(&self, group: GroupId) -> Option<(Index, Duration, bool)> {
        let member = self.groups.get(&group)?;
        member.leader_has().map(|(index, at)| (index, at, member.is_quiet()))
    }

    /// Whether a read need not wait for the word of a quorum.
    pub(crate) fn reads_now(&self, group: GroupId, now: impl FnOnce() -> Duration) -> bool {
        self.groups.get(&group).is_some_and(|member| member.reads_now(now))
    }

    fn leading<T>(
        &mut self,
        group: GroupId,
        what: impl FnOnce(&mut Group) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        let member = self.groups.get_mut(&group).ok_or(Refused::NoGroup)?;
        let done = what(member)?;
        self.touch(group);
        Ok(done)
    }

    /// A message has come. For a group that is not here it is dropped.
    pub(crate) fn receive(&mut self, from: NodeId, group: GroupId, message: Message, now: Duration) {
        self.with(group, |member, _| member.receive(from, message, now));
    }

    /// Everything of the group up to batch `number` is durable.
    pub(crate) fn persisted(&mut self, group: GroupId, number: u64) {
        self.with(group, |member, out| member.persisted(number, out));
    }

    /// The group's state machine has applied everything up to `through`.
    pub(crate) fn applied(&mut self, group: GroupId, through: Index) {
        self.with(group, |member, _| member.applied(through));
    }

    /// The state machine has a snapshot at `index`. `None`: it is too old already.
    pub(crate) fn snapshot_made(&mut self, group: GroupId, index: Index) -> Option<SnapshotMeta> {
        self.groups.get_mut(&group)?.snapshot_made(index)
    }

    /// The snapshot that was made last is not there any more.
    pub(crate) fn forget_snapshot(&mut self, group: GroupId) {
        if let Some(member) = self.groups.get_mut(&group) {
            member.forget_snapshot();
        }
    }

    /// A snapshot that was on its way has arrived, or will not.
    pub(crate) fn snapshot_sent(&mut self, group: GroupId, to: NodeId, arrived: bool) {
        self.with(group, |member, _| member.snapshot_sent(to, arrived));
    }

    /// Messages to `node` were lost.
    pub(crate) fn unreachable(&mut self, node: NodeId) {
        self.groups.values_mut().for_each(|member| member.unreachable(node));
    }

    /// A node is not heard any more: groups that it led quietly begin to count.
    pub(crate) fn node_lost(&mut self, node: NodeId) {
        let quiet: Vec<GroupId> = self.groups.keys().copied().filter(|id| !self.awake.contains(id)).collect();
        for id in quiet {
            self.with(id, |member, _| {
                if member.role().leader == Some(node) {
                    member.wake();
                }
            });
        }
    }

    /// Takes everything that is to be done.
    pub(crate) fn take(&mut self, now: Duration) -> Batch {
        let mut out = std::mem::take(&mut self.out);
        while let Some(id) = self.touched.pop_first() {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            group.collect(now, &mut out);
            if group.is_quiet() {
                self.awake.remove(&id);
            } else {
                self.awake.insert(id);
            }
        }
        out
    }

    /// Whether [`take`](Consensus::take) would give anything.
    pub(crate) fn has_work(&self) -> bool {
        !self.touched.is_empty()
    }

    fn with(&mut self, id: GroupId, what: impl FnOnce(&mut Group, &mut Batch)) {
        if let Some(group) = self.groups.get_mut(&id) {
            what(group, &mut self.out);
            self.touch(id);
        }
    }

    fn touch(&mut self, id: GroupId) {
        self.touched.insert(id);
        self.awake.insert(id);
    }
}
