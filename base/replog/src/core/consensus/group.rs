//! One group's member on this node: the library's state machine, with what the library leaves open done around it.
//!
//! Always holds:
//! - a message that promises something (a vote, an acknowledgement) is given out only when what it promises is
//!   persisted; committed entries are persisted here;
//! - nothing that a peer can send makes the library panic: what would is refused before, or stops the group with a
//!   [`Fault`], as when a leader reckons with entries that are not here any more;
//! - a read's context is used once in the life of a data folder: number of the start, then a counter.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use raft::eraftpb::{self, HardState as RaftHardState, MessageType};
use raft::{Changer, Config as RaftConfig, RawNode, SnapshotStatus, StateRole};

use super::entry::{self, Entry, Kind};
use super::lease::Lease;
use super::membership::{self, Change, Members};
use super::message::{Message, SnapshotMeta};
use super::store::Store;
use super::{
    Batch, Committed, Envelope, Fault, HardState, Persist, Read, ReadTicket, Refused, Role, Settings, Start,
};
use crate::limits;
use crate::{GroupId, Index, NodeId, Term};

/// What stands in front of a heartbeat's context: the round's number, and what is committed.
const HEARTBEAT_BYTES: usize = 16;

pub(super) struct Group {
    id: GroupId,
    settings: Settings,
    raw: RawNode<Store>,
    lease: Lease,
    /// What was given out to be persisted, oldest first.
    pending: VecDeque<Pending>,
    /// The hard state that was last given out.
    given: RaftHardState,
    role: Role,
    /// The last entry that was given to the state machine.
    handed_out: Index,
    /// Proposals of this turn.
    proposed: Vec<eraftpb::Entry>,
    proposed_bytes: usize,
    /// A snapshot is being installed: until it is persisted, nothing else happens.
    installing: bool,
    /// Reads that were asked for since the last were sent to the peers share this ticket.
    read_wanted: Option<ReadTicket>,
    reads_asked: VecDeque<ReadTicket>,
    next_read: u64,
    /// Before this, no vote: an answer to a leader's heartbeat may have been given before a restart.
    no_vote_before: Duration,
    /// No vote at all, and no candidacy, until a leader's commit, of its own term, is persisted here.
    voiceless: bool,
    /// The newest commit of a leader, with its term.
    shown: (Term, Index),
    /// How long it has been without a voice; and whether the others are to be told.
    voiceless_ticks: u32,
    nudge: bool,
    /// What the leader had committed when it was last heard, and when that was.
    leader_has: Option<(Index, Duration)>,
    quiet: bool,
    /// The heartbeats that leave next say that we fall quiet.
    falling_quiet: bool,
    idle_ticks: u32,
    fault: Option<Fault>,
}

/// A batch for the disk, and what may be said once it is there.
struct Pending {
    number: u64,
    persisted: bool,
    /// Our term or vote has changed with it: nothing at all is said before it is persisted.
    promises: bool,
    installs: Option<Index>,
    messages: Vec<Envelope>,
}

impl Group {
    pub(super) fn start(id: GroupId, settings: &Settings, start: &Start, now: Duration) -> Group {
        let alone = start.members.1.is_alone(settings.node);
        let heard_of_others = start.hard_state.term.0 > 0 && !alone;
        let store = Store::new(start);
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&raft_config(settings, start.applied), store, &logger)
            .expect("the settings were checked, and the store gives no errors");
        let mut group = Group {
            id,
            settings: settings.clone(),
            lease: Lease::new(settings.lease()),
            raw,
            pending: VecDeque::new(),
            given: start.hard_state.to_raft(),
            role: Role::default(),
            handed_out: start.applied,
            proposed: Vec::new(),
            proposed_bytes: 0,
            installing: false,
            read_wanted: None,
            reads_asked: VecDeque::new(),
            next_read: 1,
            no_vote_before: if heard_of_others { now + settings.election_timeout() } else { now },
            voiceless: start.voiceless && !alone,
            shown: (Term(0), Index(0)),
            voiceless_ticks: 0,
            nudge: false,
            leader_has: None,
            quiet: false,
            falling_quiet: false,
            idle_ticks: 0,
            fault: None,
        };
        group.spread();
        if alone {
            // Nobody else to wait for.
            let _ = group.raw.campaign();
        }
        group
    }

    pub(super) fn is_voiceless(&self) -> bool {
        self.voiceless
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.quiet
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// What the leader had committed when it was last heard, and when that was.
    pub(super) fn leader_has(&self) -> Option<(Index, Duration)> {
        self.leader_has
    }

    fn members(&self) -> &Members {
        &self.members_since().1
    }

    pub(super) fn members_since(&self) -> &(Index, Members) {
        self.raw.store().members()
    }

    /// By how many entries the others are behind, if this node leads.
    pub(super) fn behind(&self) -> Option<BTreeMap<NodeId, u64>> {
        let last = self.last().0;
        let others = self.raw.raft.prs().iter().filter(|(id, _)| **id != self.settings.node.0);
        let behind = others.map(|(id, other)| (NodeId(*id), last.saturating_sub(other.matched)));
        self.role.serves.then(|| behind.collect())
    }

    pub(super) fn term_of(&self, index: Index) -> Option<Term> {
        self.raw.store().known_term_of(index)
    }

    /// Entries up to `through` are not needed here any more, on disk either.
    pub(super) fn truncated(&mut self, through: Index) {
        self.raw.mut_store().truncate(through);
    }

    pub(super) fn committed(&self) -> Index {
        Index(self.raw.raft.raft_log.committed)
    }

    /// The last entry, proposals among them.
    pub(super) fn last(&self) -> Index {
        Index(self.raw.raft.raft_log.last_index() + self.proposed.len() as u64)
    }

    /// How many entries each other member is behind. None, where this one does not lead.
    pub(super) fn lags(&self) -> Vec<(NodeId, u64)> {
        let raft = &self.raw.raft;
        let last = raft.raft_log.last_index();
        let others = raft.prs().iter().filter(|(id, _)| self.is_leader() && **id != self.settings.node.0);
        others.map(|(id, progress)| (NodeId(*id), last.saturating_sub(progress.matched))).collect()
    }

    fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    fn leader(&self) -> Option<NodeId> {
        let leader = self.raw.raft.leader_id;
        (leader != raft::INVALID_ID).then_some(NodeId(leader))
    }

    fn check_leads(&self) -> Result<(), Refused> {
        match &self.fault {
            Some(_) => Err(Refused::Faulty),
            None if !self.is_leader() => Err(Refused::NotLeader(self.leader())),
            None => Ok(()),
        }
    }

    pub(super) fn propose(&mut self, bytes: Bytes) -> Result<(Index, Term), Refused> {
        self.check_leads()?;
        if self.raw.raft.lead_transferee.is_some() {
            return Err(Refused::Transferring);
        }
        if !self.members().contains(self.settings.node) {
            return Err(Refused::NotLeader(None));
        }
        let waiting = self.raw.raft.uncommitted_size() + self.proposed_bytes;
        if waiting > 0 && waiting + bytes.len() > limits::PROPOSED_BYTES_MAX {
            return Err(Refused::Full);
        }
        self.wake();
        self.proposed_bytes += bytes.len();
        self.proposed.push(entry::app(bytes));
        Ok((self.last(), Term(self.raw.raft.term)))
    }

    /// Hands all proposals to the library at once. Its own way of putting messages together (`batch_append`) joins entries
    /// to a message that ends before them.
    fn flush(&mut self) {
        if self.proposed.is_empty() {
            return;
        }
        let last = self.last();
        let mut message = eraftpb::Message { from: self.settings.node.0, ..eraftpb::Message::default() };
        message.set_msg_type(MessageType::MsgPropose);
        message.set_entries(std::mem::take(&mut self.proposed).into());
        self.proposed_bytes = 0;
        let taken = self.raw.step(message);
        assert!(
            taken.is_ok() && self.last() == last,
            "a proposal gets the place that it was promised: {taken:?}"
        );
    }

    pub(super) fn change(&mut self, changes: &[Change]) -> Result<(Index, Term), Refused> {
        self.check_leads()?;
        self.flush();
        if self.raw.raft.has_pending_conf()
            || self.members().is_joint()
            || self.raw.raft.lead_transferee.is_some()
        {
            return Err(Refused::ChangePending);
        }
        let change = membership::to_raft(changes);
        // What the library will do when it applies the change, tried out.
        let mut changer = Changer::new(self.raw.raft.prs());
        let tried = match change.enter_joint() {
            _ if changes.is_empty() => return Err(Refused::Senseless("nothing to change".to_owned())),
            Some(auto_leave) => changer.enter_joint(auto_leave, &change.changes),
            None => changer.simple(&change.changes),
        };
        let becoming = match tried {
            Ok((becoming, _)) => Members::from_raft(&becoming.to_conf_state()),
            Err(error) => return Err(Refused::Senseless(error.to_string())),
        };
        let mut nodes: Vec<u64> = change.changes.iter().map(|change| change.node_id).collect();
        nodes.sort_unstable();
        let twice = nodes.windows(2).any(|pair| pair[0] == pair[1]);
        let begun = |node: u64| self.raw.raft.prs().get(node).is_some_and(|progress| progress.matched > 0);
        let not_ready = |change: &Change| match change {
            Change::Voter(node) if !self.members().voters.contains(node) && !begun(node.0) => Some(*node),
            _ => None,
        };
        if let Some(node) = changes.iter().find_map(not_ready) {
            return Err(Refused::NotReady(node));
        }
        // One that was a voter from the beginning may never have been here: with nothing, it does not vote.
        let has_begun = |node: NodeId| node == self.settings.node || begun(node.0);
        if !becoming.has_quorum(has_begun) {
            let voters = becoming.voters.iter().chain(&becoming.outgoing);
            let missing = voters.copied().find(|node| !has_begun(*node));
            return Err(Refused::NotReady(missing.expect("no quorum, so one is missing")));
        }
        if twice || nodes.contains(&0) || self.members().all().len() + changes.len() > limits::MEMBERS_MAX {
            return Err(Refused::Senseless(format!("at most {} members, each once", limits::MEMBERS_MAX)));
        }
        self.wake();
        let context = membership::encode_changes(changes).to_vec();
        match self.raw.propose_conf_change(context, change) {
            Ok(()) => Ok((self.last(), Term(self.raw.raft.term))),
            Err(_) => Err(Refused::Full),
        }
    }

    pub(super) fn transfer(&mut self, to: NodeId) -> Result<(), Refused> {
        self.check_leads()?;
        if to == self.settings.node || !self.members().voters.contains(&to) {
            return Err(Refused::Senseless(format!("node {to} is no other voter")));
        }
        self.wake();
        self.flush();
        // Before a word of it leaves: the other's campaign will ask nobody to wait.
        self.lease.forfeit();
        self.raw.transfer_leader(to.0);
        Ok(())
    }

    /// Whether a read need not wait for the word of a quorum. `now` is asked for where a lease decides.
    pub(super) fn reads_now(&self, now: impl FnOnce() -> Duration) -> bool {
        self.check_leads().is_ok()
            && self.raw.raft.commit_to_current_term()
            && (self.members().is_alone(self.settings.node) || self.lease.holds(now()))
    }

    pub(super) fn read(&mut self, now: Duration) -> Result<Read, Refused> {
        self.check_leads()?;
        if self.reads_now(|| now) {
            return Ok(Read::At(self.committed()));
        }
        self.wake();
        let next = &mut self.next_read;
        Ok(Read::Wait(*self.read_wanted.get_or_insert_with(|| {
            *next += 1;
            ReadTicket(*next - 1)
        })))
    }

    /// A tick has passed. Gives whether anything may have come of it.
    pub(super) fn tick(&mut self) -> bool {
        if self.quiet || self.installing || self.fault.is_some() {
            return false;
        }
        self.flush();
        if self.voiceless {
            let due = self.voiceless_ticks.is_multiple_of(self.settings.election_ticks);
            self.voiceless_ticks += 1;
            self.nudge = due && self.leader().is_none();
            return self.nudge;
        }
        let ready = self.raw.tick();
        self.spread();
        self.fall_quiet() || ready || self.leaves_joint()
    }

    /// A message of another member.
    pub(super) fn receive(&mut self, from: NodeId, mut message: Message, now: Duration) {
        if self.fault.is_some() || self.installing {
            return;
        }
        self.flush();
        let term = self.raw.raft.term;
        let kind = message.kind();
        let raft = &mut message.raft;
        match kind {
            MessageType::MsgHeartbeat if raft.term >= term && raft.context.len() >= HEARTBEAT_BYTES => {
                self.leader_has = Some((Index(crate::core::format::get_u64(&raft.context, 8)), now));
            }
            MessageType::MsgAppend if raft.term >= term => self.leader_has = Some((Index(raft.commit), now)),
            _ => {}
        }
        match kind {
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote
                if now < self.no_vote_before && raft.context.is_empty() =>
            {
                return;
            }
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote | MessageType::MsgTimeoutNow
                if self.voiceless || self.members() == &Members::default() =>
            {
                // One that knows no members yet may have been one before, and have forgotten what it had promised.
                return;
            }
            MessageType::MsgAppend if raft.term >= term => self.shown = (Term(raft.term), Index(raft.commit)),
            MessageType::MsgHeartbeat if raft.term >= term && raft.commit > self.last().0 => {
                if self.members() == &Members::default() {
                    // It has acknowledged nothing yet: this is meant for an earlier life here, and was still under way.
                    return;
                }
                let (last, reckoned) = (self.last(), Index(raft.commit));
                self.fault = Some(Fault::Lost { from, last, reckoned });
                return;
            }
            MessageType::MsgAppendResponse if raft.index > self.last().0 && !raft.reject => return,
            MessageType::MsgHeartbeat if raft.term >= term => {
                self.shown = self.shown.max((Term(raft.term), Index(raft.commit)));
            }
            MessageType::MsgHeartbeatResponse => {
                if raft.context.len() < HEARTBEAT_BYTES {
                    return;
                }
                let rest = raft.context.split_off(HEARTBEAT_BYTES);
                let round = crate::core::format::get_u64(&raft.context, 0);
                raft.context = rest;
                if self.is_leader() && raft.term == term {
                    let (node, members) = (self.settings.node, &self.raw.store().members().1);
                    let quorum = |set: &std::collections::BTreeSet<NodeId>| {
                        members.has_quorum(|member| member == node || set.contains(&member))
                    };
                    self.lease.answered(from, round, quorum);
                }
            }
            _ => {}
        }
        if kind != MessageType::MsgHeartbeatResponse && !message.quiet {
            self.wake();
        }
        let (asks_quiet, commit) = (message.quiet && kind == MessageType::MsgHeartbeat, message.raft.commit);
        // An error is a message from somebody who is no member, or one to a role that we do not have.
        let _ = self.raw.step(message.raft);
        self.spread();
        if asks_quiet
            && self.leader() == Some(from)
            && self.raw.raft.state == StateRole::Follower
            && self.last().0 == commit
        {
            self.quiet = true;
        }
    }

    /// Everything up to batch `number` is on disk.
    pub(super) fn persisted(&mut self, number: u64, out: &mut Batch) {
        for pending in self.pending.iter_mut().take_while(|pending| pending.number <= number) {
            pending.persisted = true;
        }
        self.release(out);
    }

    fn release(&mut self, out: &mut Batch) {
        while self.pending.front().is_some_and(|pending| pending.persisted) {
            let Some(pending) = self.pending.pop_front() else { return };
            self.raw.on_persist_ready(pending.number);
            if let Some(index) = pending.installs {
                self.raw.advance_apply_to(index.0);
                self.handed_out = index;
                self.installing = false;
            }
            out.messages.extend(pending.messages);
        }
        let (term, commit) = self.shown;
        if self.voiceless
            && term > Term(0)
            && Index(self.raw.raft.raft_log.persisted) >= commit
            && self.term_of(commit) == Some(term)
        {
            // The leader has committed in its own term, so whatever was ever committed is at or in front of this.
            self.voiceless = false;
        }
    }

    /// The state machine has applied everything up to `through`.
    pub(super) fn applied(&mut self, through: Index) {
        // A state machine whose own storage is ahead of what was recorded as committed has more than was given to it.
        let through = through.min(self.handed_out);
        if through.0 <= self.raw.raft.raft_log.applied || self.installing {
            return;
        }
        self.raw.advance_apply_to(through.0);
        self.compact();
    }

    /// Drops entries that neither we nor, probably, anybody else needs from memory.
    fn compact(&mut self) {
        let applied = Index(self.raw.raft.raft_log.applied);
        let node = self.settings.node.0;
        let store = self.raw.store();
        let others =
            || self.raw.raft.prs().iter().filter(|(id, _)| **id != node).map(|(_, progress)| progress);
        let through = if others().next().is_none() {
            applied
        } else if store.bytes() > limits::GROUP_MEMORY_BYTES_MAX {
            store.oldest_within(limits::GROUP_MEMORY_BYTES_MAX)
        } else {
            let matched =
                others().filter(|other| other.recent_active).map(|other| Index(other.matched)).min();
            let needed = if self.is_leader() { matched.unwrap_or(applied) } else { applied };
            store.oldest_within(self.settings.group_memory_bytes).min(needed)
        };
        let through = through.min(applied);
        // In steps, as each costs something.
        let all = through == applied && through == self.last();
        if through > store.base() && (all || through.0 - store.base().0 >= 64 || store.bytes() > 1 << 20) {
            self.raw.mut_store().compact(through);
            self.raw.mut_store().forget_members_before(through);
        }
    }

    /// The state machine has a snapshot at `index`; gives what belongs to it. `None`: it is too old by now.
    pub(super) fn snapshot_made(&mut self, index: Index) -> Option<SnapshotMeta> {
        let store = self.raw.mut_store();
        let term = store.term_of(index)?;
        let members = store.members_at(index)?.clone();
        let snapshot = SnapshotMeta { index, term, members };
        store.set_snapshot(snapshot.clone());
        Some(snapshot)
    }

    pub(super) fn forget_snapshot(&mut self) {
        self.raw.mut_store().forget_snapshot();
    }

    /// The snapshot that was on its way to `to` has arrived, or will not.
    pub(super) fn snapshot_sent(&mut self, to: NodeId, arrived: bool) {
        let status = if arrived { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.raw.report_snapshot(to.0, status);
    }

    /// Messages to `node` were lost: probe it before more are sent.
    pub(super) fn unreachable(&mut self, node: NodeId) {
        if self.is_leader() && self.raw.raft.prs().get(node.0).is_some() {
            self.raw.report_unreachable(node.0);
        }
    }

    /// Ticks again, if it was quiet.
    pub(super) fn wake(&mut self) {
        self.idle_ticks = 0;
        if !std::mem::take(&mut self.quiet) {
            return;
        }
        // Whatever was counted before counts no more: a leader gives its quorum time to answer, a follower its leader
        // time to be heard.
        self.raw.raft.election_elapsed = 0;
        self.raw.ping();
    }

    /// Moves everything that there is to do into `out`.
    pub(super) fn collect(&mut self, now: Duration, out: &mut Batch) {
        let mut round = None;
        self.flush();
        loop {
            self.ask_reads();
            if self.installing || !self.raw.has_ready() {
                break;
            }
            self.collect_ready(now, &mut round, out);
            self.leaves_joint();
        }
        self.falling_quiet = false;
        if std::mem::take(&mut self.nudge) {
            self.tell_term(out);
        }
        self.report(out);
        if let Some((to, at_least)) = self.raw.store().take_wanted() {
            out.snapshots_wanted.push((self.id, to, at_least));
        }
        if let Some(fault) = &self.fault {
            out.faults.push((self.id, fault.clone()));
        }
    }

    fn collect_ready(&mut self, now: Duration, round: &mut Option<u64>, out: &mut Batch) {
        let mut ready = self.raw.ready();
        if ready.ss().is_some_and(|state| state.raft_state == StateRole::Leader) {
            self.lease.new_term();
        }
        let promises = ready.hs().is_some_and(|state| self.term_or_vote_differ(state));
        self.given = ready.hs().cloned().unwrap_or_else(|| self.given.clone());
        let mut messages: Vec<Envelope> =
            ready.take_messages().into_iter().map(|message| self.envelope(message, now, round)).collect();
        // A leader need not wait for its own disk, but for one thing: one that elected itself alone has told nobody of
        // its term yet, and after a crash it would take the same term once more.
        if !promises && !self.pending.iter().any(|pending| pending.promises && !pending.persisted) {
            out.messages.append(&mut messages);
        }
        for state in ready.take_read_states() {
            if let Some(ticket) = self.own_ticket(&state.request_ctx) {
                out.reads.push((self.id, ticket, Index(state.index)));
            }
        }
        let later = ready.take_persisted_messages();
        messages.extend(later.into_iter().map(|message| self.envelope(message, now, round)));
        let committed: Vec<Entry> = ready.take_committed_entries().iter().map(Entry::from_raft).collect();
        let snapshot = (!ready.snapshot().is_empty()).then(|| SnapshotMeta::from_raft(ready.snapshot()));
        if let Some(snapshot) = &snapshot {
            self.raw.mut_store().restore(snapshot);
            self.installing = true;
        }
        let entries = ready.take_entries();
        self.raw.mut_store().append(&entries);
        let hard_state = ready.hs().map(|state| HardState {
            term: Term(state.term),
            vote: NodeId(state.vote),
            commit: Index(state.commit),
        });
        let (number, urgent) = (ready.number(), ready.must_sync());
        self.raw.advance_append_async(ready);
        let installs = snapshot.as_ref().map(|snapshot| snapshot.index);
        self.pending.push_back(Pending { number, persisted: !urgent, promises, installs, messages });
        if urgent || hard_state.is_some() {
            let entries = entries.iter().map(Entry::from_raft).collect();
            out.persist.push(Persist { group: self.id, number, urgent, hard_state, snapshot, entries });
        }
        self.release(out);
        for entry in committed.iter().filter(|entry| entry.kind == Kind::Members) {
            self.apply_change(entry, out);
        }
        if let Some(last) = committed.last() {
            self.handed_out = last.index;
            out.committed.push(Committed { group: self.id, entries: committed });
        }
    }

    fn term_or_vote_differ(&self, state: &RaftHardState) -> bool {
        state.term != self.given.term || state.vote != self.given.vote
    }

    fn envelope(
        &mut self,
        mut message: eraftpb::Message,
        now: Duration,
        round: &mut Option<u64>,
    ) -> Envelope {
        let to = NodeId(message.to);
        let mut quiet = false;
        if message.get_msg_type() == MessageType::MsgHeartbeat {
            let round = *round.get_or_insert_with(|| self.lease.begin(now));
            // The library tells a member no commit beyond what that member has.
            let committed = self.committed().0.to_le_bytes();
            message.context = [&round.to_le_bytes()[..], &committed, &message.context].concat().into();
            quiet = self.falling_quiet;
        }
        Envelope { group: self.id, to, message: Message { raft: message, quiet } }
    }

    /// Tells everybody our term. A leader of an earlier one, which reckons with what was lost here, gives way to one that
    /// asks what there is; it may be quiet, and would not notice otherwise.
    fn tell_term(&self, out: &mut Batch) {
        let node = self.settings.node;
        for to in self.members().all().into_iter().filter(|to| *to != node) {
            let mut raft = eraftpb::Message {
                from: node.0,
                to: to.0,
                term: self.raw.raft.term,
                reject: true,
                ..eraftpb::Message::default()
            };
            raft.set_msg_type(MessageType::MsgAppendResponse);
            out.messages.push(Envelope { group: self.id, to, message: Message { raft, quiet: false } });
        }
    }

    /// Puts a committed change of members into force.
    fn apply_change(&mut self, entry: &Entry, out: &mut Batch) {
        let changes = membership::decode_changes(&entry.bytes).unwrap_or_default();
        // One that makes no sense, on every node alike, changes nothing. It was tried out before it was proposed.
        let Ok(state) = self.raw.apply_conf_change(&membership::to_raft(&changes)) else { return };
        let members = Members::from_raft(&state);
        self.raw.mut_store().set_members(entry.index, members.clone());
        self.lease.void();
        let voter =
            members.voters.contains(&self.settings.node) || members.outgoing.contains(&self.settings.node);
        if self.is_leader() && !voter {
            // The library would go on leading, and stumble over its own absence. The others hear that we are out, and elect.
            self.raw.raft.bcast_append();
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, raft::INVALID_ID);
            self.spread();
        }
        out.members.push((self.id, entry.index, members));
    }

    /// Proposes the second half of a change of several members, as soon as the first is in force. Whoever leads does it.
    fn leaves_joint(&mut self) -> bool {
        let due = self.is_leader()
            && self.members().is_joint()
            && !self.raw.raft.has_pending_conf()
            && self.raw.raft.lead_transferee.is_none();
        due && self.raw.propose_conf_change(Vec::new(), eraftpb::ConfChangeV2::default()).is_ok()
    }

    /// Asks the peers whether we still lead, for all reads that have come since the last time.
    fn ask_reads(&mut self) {
        // Before it has committed something in its own term, a leader does not know what is committed.
        if self.read_wanted.is_none() || !self.is_leader() || !self.raw.raft.commit_to_current_term() {
            return;
        }
        let Some(ticket) = self.read_wanted.take() else { return };
        self.reads_asked.push_back(ticket);
        let context = [self.settings.boot.to_le_bytes(), ticket.0.to_le_bytes()].concat();
        self.raw.read_index(context);
    }

    fn own_ticket(&mut self, context: &[u8]) -> Option<ReadTicket> {
        let (boot, number) = context.split_at_checked(8)?;
        if boot != self.settings.boot.to_le_bytes() || number.len() != 8 {
            return None;
        }
        let ticket = ReadTicket(crate::core::format::get_u64(number, 0));
        let at = self.reads_asked.iter().position(|asked| *asked == ticket)?;
        self.reads_asked.remove(at)
    }

    /// Reports a change of role, and the reads that it has cost.
    fn report(&mut self, out: &mut Batch) {
        let leads = self.is_leader();
        let role = Role {
            term: Term(self.raw.raft.term),
            leader: self.leader(),
            leads,
            serves: leads && self.raw.raft.commit_to_current_term(),
        };
        if role == self.role {
            return;
        }
        if !leads || role.term != self.role.term {
            let asked = self.reads_asked.drain(..);
            out.reads_lost.extend(asked.map(|ticket| (self.id, ticket)));
            if !leads && let Some(ticket) = self.read_wanted.take() {
                out.reads_lost.push((self.id, ticket));
            }
        }
        self.role = role;
        out.roles.push((self.id, role));
    }

    /// Falls quiet after some idle ticks, once everybody has everything.
    fn fall_quiet(&mut self) -> bool {
        let raft = &self.raw.raft;
        let last = raft.raft_log.last_index();
        let node = self.settings.node.0;
        let idle = self.is_leader()
            && raft.raft_log.applied == last
            && raft.commit_to_current_term()
            && raft.lead_transferee.is_none()
            && self.read_wanted.is_none()
            && self.reads_asked.is_empty()
            && !self.members().is_joint()
            && raft.prs().iter().all(|(id, peer)| *id == node || peer.matched == last);
        let all_heard = raft.prs().iter().all(|(id, peer)| *id == node || peer.recent_active);
        if !idle {
            self.idle_ticks = 0;
            return false;
        }
        self.idle_ticks += 1;
        if self.idle_ticks < self.settings.quiet_after_ticks || !all_heard {
            return false;
        }
        self.falling_quiet = true;
        self.raw.ping();
        self.quiet = true;
        true
    }

    /// Sets the election timeout that this node has in this term. The library draws one from the operating system's
    /// randomness whenever its role changes; that one never comes to anything, as this follows every step.
    fn spread(&mut self) {
        let raft = &mut self.raw.raft;
        let ticks = self.settings.election_spread(self.id, Term(raft.term));
        if raft.randomized_election_timeout() != ticks {
            raft.set_randomized_election_timeout(ticks);
        }
    }
}

fn raft_config(settings: &Settings, applied: Index) -> RaftConfig {
    RaftConfig {
        id: settings.node.0,
        election_tick: settings.election_ticks as usize,
        heartbeat_tick: settings.heartbeat_ticks as usize,
        min_election_tick: settings.election_ticks as usize,
        max_election_tick: 2 * settings.election_ticks as usize,
        applied: applied.0,
        max_size_per_msg: limits::APPEND_BYTES_MAX as u64,
        max_inflight_msgs: limits::APPENDS_IN_FLIGHT_MAX,
        // It counts only where there is a limit; ours is met first.
        max_uncommitted_size: 2 * limits::PROPOSED_BYTES_MAX as u64,
        max_committed_size_per_ready: limits::APPLY_BYTES_MAX as u64,
        check_quorum: true,
        pre_vote: true,
        ..RaftConfig::default()
    }
}
