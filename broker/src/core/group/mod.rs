//! Consumer groups, the classic protocol (JoinGroup, SyncGroup, Heartbeat, LeaveGroup), as a state machine with `now`.
//!
//! ```text
//! Empty ──join──> PreparingRebalance ──all joined, or time is up──> CompletingRebalance ──leader's sync──> Stable
//!   ^                    ^                                                   │                              │
//!   └──no members────────┴────────── a member joins, leaves, expires ────────┴──────────────────────────────┘
//! ```
//!
//! A join or a sync that has to wait is known by a [`Token`]; its answer comes out of [`Groups::take_answers`], after
//! any call. Time is a count of milliseconds that never goes back; [`Groups::tick`] lets deadlines happen.
//!
//! What always holds: a generation's members got the same generation, protocol and leader; an answer is given once per
//! token; a member that neither heartbeats nor waits is gone after its session timeout.
//!
//! It keeps no offsets (see [`crate::core::offsets`]) and nothing of it is stored: after a restart members are unknown
//! and join again.

mod join;
mod member;
mod membership;
mod rebalance;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use wire::kafka::{ResponseError, StrBytes};

pub use join::Join;
pub use member::Member;
pub use membership::{Identity, SyncRequest};

/// Milliseconds on a clock that never goes back.
pub type Millis = u64;

/// A join or sync that waits for its answer.
pub type Token = u64;

/// How groups are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// group.min.session.timeout.ms
    pub session_ms_min: u32,
    /// group.max.session.timeout.ms
    pub session_ms_max: u32,
    /// group.initial.rebalance.delay.ms: how long the first rebalance of an empty group waits for more members.
    pub initial_delay_ms: u32,
    /// group.max.size
    pub members_max: usize,
    /// Groups with members at one coordinator. At that, groups that have lost their members are forgotten.
    pub groups_max: usize,
    /// What the members of all groups of one coordinator take with their metadata and assignments, bytes.
    pub bytes_max: usize,
}

/// The longest name of a group, of a static member, and of what members offer and are, bytes: every version of every
/// response can carry it, with room for what is added to it.
pub const NAME_BYTES_MAX: usize = 1024;

/// What one member may take, bytes: names, and metadata of all its protocols.
pub const MEMBER_BYTES_MAX: usize = 1024 * 1024;

/// What a join is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinAnswer {
    /// No error when `None`.
    pub error: Option<ResponseError>,
    /// −1 with an error.
    pub generation: i32,
    /// The group's.
    pub protocol_type: Option<StrBytes>,
    /// The one chosen.
    pub protocol: Option<StrBytes>,
    /// Member id of the leader.
    pub leader: StrBytes,
    /// The asking member's id.
    pub member_id: StrBytes,
    /// For the leader, all members: id, instance id, metadata of the chosen protocol.
    pub members: Vec<(StrBytes, Option<StrBytes>, Bytes)>,
    /// The leader need not compute an assignment (KIP-814).
    pub skip_assignment: bool,
}

/// What a sync is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncAnswer {
    /// No error when `None`.
    pub error: Option<ResponseError>,
    /// The group's.
    pub protocol_type: Option<StrBytes>,
    /// The one chosen.
    pub protocol: Option<StrBytes>,
    /// The member's assignment.
    pub assignment: Bytes,
}

/// An answer to something that waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To a join.
    Join(Token, JoinAnswer),
    /// To a sync.
    Sync(Token, SyncAnswer),
}

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No members.
    Empty,
    /// Waiting for its members to join.
    PreparingRebalance,
    /// Waiting for the leader's assignment.
    CompletingRebalance,
    /// Everybody has an assignment.
    Stable,
}

impl State {
    /// Kafka's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// One group.
#[derive(Debug)]
pub struct Group {
    state: State,
    generation: i32,
    protocol_type: Option<StrBytes>,
    protocol: Option<StrBytes>,
    leader: Option<StrBytes>,
    members: BTreeMap<StrBytes, Member>,
    /// instance id → member id
    instances: HashMap<StrBytes, StrBytes>,
    /// Member ids given out with MEMBER_ID_REQUIRED and not yet used → when they are void.
    pending: HashMap<StrBytes, Millis>,
    /// While preparing: not before.
    join_opens: Millis,
    /// While preparing: who hasn't joined by then is out. While completing: who hasn't synced.
    rebalance_deadline: Millis,
    answers: Vec<Answer>,
}

impl Group {
    fn new() -> Self {
        Self {
            state: State::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: HashMap::new(),
            pending: HashMap::new(),
            join_opens: 0,
            rebalance_deadline: Millis::MAX,
            answers: Vec::new(),
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// The kind of its members ("consumer"); empty when it never had any.
    #[must_use]
    pub fn protocol_type(&self) -> &str {
        self.protocol_type.as_deref().unwrap_or_default()
    }

    /// The protocol chosen; empty when there is none.
    #[must_use]
    pub fn protocol(&self) -> &str {
        self.protocol.as_deref().unwrap_or_default()
    }

    /// Its members, by id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    fn is_unused(&self) -> bool {
        self.members.is_empty() && self.pending.is_empty()
    }

    fn bytes(&self) -> usize {
        self.members.values().map(Member::bytes).sum()
    }
}

/// All groups of a coordinator.
#[derive(Debug)]
pub struct Groups {
    limits: Limits,
    by_id: BTreeMap<StrBytes, Group>,
    /// What members take at most, bytes: counted up with what comes, and counted anew once that is too much.
    bytes_at_most: usize,
    answers: Vec<Answer>,
}

impl Groups {
    /// None yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, by_id: BTreeMap::new(), bytes_at_most: 0, answers: Vec::new() }
    }

    /// Whether members may take so many bytes more; counts them.
    fn take_room(&mut self, bytes: usize) -> bool {
        if self.bytes_at_most + bytes > self.limits.bytes_max {
            self.bytes_at_most = self.by_id.values().map(Group::bytes).sum();
        }
        let fits = self.bytes_at_most + bytes <= self.limits.bytes_max;
        if fits {
            self.bytes_at_most += bytes;
        }
        fits
    }

    /// A group with members, now or before in this process.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Group> {
        self.by_id.get(id.as_bytes())
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&StrBytes, &Group)> {
        self.by_id.iter()
    }

    /// Whether no group has anything that time could change.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.by_id.values().all(Group::is_unused)
    }

    /// The answers that have become due since the last call.
    pub fn take_answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.answers)
    }

    /// Lets what is due by `now` happen: sessions end, rebalances complete.
    pub fn tick(&mut self, now: Millis) {
        for group in self.by_id.values_mut() {
            group.tick(now);
            self.answers.append(&mut group.answers);
        }
    }

    /// Forgets an empty group.
    ///
    /// # Errors
    /// NON_EMPTY_GROUP while it has members.
    pub fn delete(&mut self, id: &str) -> Result<(), ResponseError> {
        match self.by_id.get(id.as_bytes()) {
            Some(group) if !group.members.is_empty() => Err(ResponseError::NonEmptyGroup),
            _ => {
                self.by_id.remove(id.as_bytes());
                Ok(())
            }
        }
    }

    /// Runs `f` on a group and collects its answers.
    fn with<T>(&mut self, id: &str, f: impl FnOnce(&mut Group, &Limits) -> T) -> Option<T> {
        let limits = self.limits;
        let group = self.by_id.get_mut(id.as_bytes())?;
        let result = f(group, &limits);
        self.answers.append(&mut group.answers);
        Some(result)
    }
}
