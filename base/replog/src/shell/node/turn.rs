//! What is done at the end of each turn: everything that consensus asks for.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use runtime::sync::MailReceiver;
use runtime::{fs, time};

use super::accept::Inbound;
use super::{Role, Shared, snapshots};
use crate::core::consensus::{self, Committed, Entry, Envelope, Fault, Kind, Message, Persist, ReadTicket};
use crate::core::peers::Item;
use crate::core::stream::Ticket;
use crate::{Error, GroupId, Index, NodeId};

/// Takes turns, until it is aborted.
pub(super) async fn run(shared: Rc<Shared>) {
    loop {
        // What else happens in this turn goes along.
        runtime::turn_end().await;
        take(&shared);
        shared.work.notified().await;
    }
}

/// Ticks, until it is aborted. Never two ticks at once, however late the first was: a follower's promise to its leader is
/// counted in them.
pub(super) async fn tick(shared: Rc<Shared>, every: Duration) {
    loop {
        time::sleep(every).await;
        shared.consensus.borrow_mut().tick();
        shared.look_for_lost_nodes();
        shared.look_whether_healed();
        shared.work.notify_one();
    }
}

/// Takes what comes from peers, until it is aborted.
pub(super) async fn receive(shared: Rc<Shared>, inbox: MailReceiver<Inbound>) {
    let mut batch = Vec::new();
    while inbox.recv_batch(&mut batch).await {
        for inbound in batch.drain(..) {
            match inbound {
                Inbound::Alive(node) => shared.heard_of(node),
                Inbound::Items(from, items) => {
                    shared.heard_of(from);
                    for (group, item) in items {
                        shared.item(from, group, item);
                    }
                }
            }
        }
        shared.work.notify_one();
    }
}

/// Does everything that there is to do.
fn take(shared: &Rc<Shared>) {
    loop {
        let batch = {
            let mut consensus = shared.consensus.borrow_mut();
            if !consensus.has_work() {
                break;
            }
            consensus.take(time::boot_clock())
        };
        shared.on_the_way_bytes.set(0);
        for envelope in batch.messages {
            send(shared, envelope);
        }
        for persist in batch.persist {
            shared.persist(persist);
        }
        for (group, since, members) in batch.members {
            if !shared.groups.borrow().contains_key(&group) {
                continue;
            }
            shared.log.with_stream(|stream| stream.set_members(group, since, members));
        }
        // Whoever leads no more takes back what it has begun before it sees what others have put in its place; whoever
        // leads from now on has seen everything before.
        let (serving, others): (Vec<_>, Vec<_>) = batch.roles.into_iter().partition(|(_, role)| role.serves);
        for (group, role) in &others {
            shared.tell_role(*group, *role);
        }
        for committed in batch.committed {
            shared.apply(committed);
        }
        for (group, role) in &serving {
            shared.tell_role(*group, *role);
        }
        for (group, role) in others.into_iter().chain(serving) {
            // What was proposed in an earlier term, or in this one before it was lost.
            shared.give_up_waiting(group, |term| !role.leads || term != role.term);
        }
        for (group, ticket, index) in batch.reads {
            shared.answer_reads(group, ticket, || Ok(index));
        }
        for (group, ticket) in batch.reads_lost {
            shared.answer_reads(group, ticket, || Err(Error::Unknown { group }));
        }
        for (group, _, at_least) in batch.snapshots_wanted {
            snapshots::make(shared, group, at_least);
        }
        for (group, fault) in batch.faults {
            shared.fault(group, &fault);
        }
        shared.probe_where_dropped();
    }
}

fn send(shared: &Rc<Shared>, envelope: Envelope) {
    let Envelope { group, to, message } = envelope;
    let Some(peer) = shared.peers.borrow().get(&to).cloned() else { return };
    match message.snapshot() {
        None => peer.send_message(group, |out| message.encode(out)),
        Some(snapshot) => snapshots::send(shared, &peer, group, &message, snapshot.index),
    }
}

impl Shared {
    /// An item from a peer.
    fn item(self: &Rc<Shared>, from: NodeId, group: GroupId, item: Item) {
        match item {
            Item::Message(bytes) => {
                let len = bytes.len();
                // A snapshot is announced with its last piece, or not at all.
                let message =
                    Message::decode(bytes, from, self.node).filter(|message| message.snapshot().is_none());
                let Some(message) = message else {
                    tracing::warn!(peer = %from, %group, "a message that makes no sense was dropped");
                    return;
                };
                if let Some(largest) = message.largest_entry() {
                    let max = self.log.entry_bytes_max();
                    if largest > max {
                        tracing::error!(
                            %group,
                            "an entry of {largest} bytes has no place in this node's log, which takes {max}: give all nodes \
                             segments of one size"
                        );
                        return;
                    }
                    let on_the_way = self.on_the_way_bytes.get();
                    if !self.log.has_room_for(len, on_the_way) {
                        // The log is behind, or the disk full. The leader asks again.
                        return;
                    }
                    self.on_the_way_bytes.set(on_the_way + len);
                }
                self.consensus.borrow_mut().receive(from, group, message, time::boot_clock());
            }
            Item::Piece(piece) => snapshots::piece(self, from, group, piece),
            Item::Reached { id, offset, done } => {
                let leaving = self.leaving.borrow().get(&(group, from)).cloned();
                if let Some(leaving) = leaving {
                    leaving.reached(id, offset, done);
                }
            }
        }
    }

    /// Gives the log what is to be persisted. A snapshot is first taken over by its state machine.
    fn persist(self: &Rc<Shared>, persist: Persist) {
        if persist.snapshot.is_some() {
            snapshots::install(self, persist);
        } else {
            self.write(persist);
        }
    }

    pub(super) fn write(&self, persist: Persist) {
        let Persist { group, number, urgent, hard_state, snapshot, entries } = persist;
        match self.groups.borrow_mut().get_mut(&group) {
            Some(known) => {
                if let Some(snapshot) = &snapshot {
                    known.backlog.truncate(snapshot.index.max(known.backlog.last()));
                }
                entries.iter().for_each(|entry| known.backlog.add(entry.index, entry.bytes.len()));
            }
            None => return,
        }
        let ticket = self.log.with_stream(|stream| {
            let mut ticket = snapshot.map(|snapshot| stream.restore(group, &snapshot));
            for entry in entries {
                ticket = Some(stream.append(group, entry));
            }
            match hard_state {
                Some(state) if urgent => ticket = Some(stream.set_hard_state(group, state)),
                Some(state) => stream.set_commit(group, state),
                None => {}
            }
            ticket
        });
        if let Some(ticket) = ticket.filter(|_| urgent) {
            self.persisting.borrow_mut().push_back((ticket, group, number));
        }
    }

    /// The log has made more durable.
    pub(super) fn durable(&self, through: Ticket) {
        let mut persisting = self.persisting.borrow_mut();
        let mut consensus = self.consensus.borrow_mut();
        while persisting.front().is_some_and(|(ticket, ..)| *ticket <= through) {
            if let Some((_, group, number)) = persisting.pop_front() {
                consensus.persisted(group, number);
            }
        }
        drop((persisting, consensus));
        self.cut.set(self.cut.get().map(|ticket| ticket.filter(|ticket| *ticket > through)));
        let is_over = |(group, (ticket, _)): (&GroupId, &(Ticket, _))| (*ticket <= through).then_some(*group);
        let over: Vec<GroupId> = self.forgetting.borrow().iter().filter_map(is_over).collect();
        for group in over {
            let forgotten = self.forgetting.borrow_mut().remove(&group);
            forgotten.into_iter().flat_map(|(_, waiting)| waiting).for_each(|setter| setter.set(Ok(())));
        }
        self.work.notify_one();
    }

    fn apply(&self, committed: Committed) {
        let Committed { group: id, entries } = committed;
        let known = self.groups.borrow().get(&id).map(|group| (group.machine.clone(), group.had));
        let Some((machine, had)) = known else { return };
        let Some(last) = entries.last().map(|entry| entry.index) else { return };
        for entry in entries {
            let Entry { index, term, kind, bytes } = entry;
            if kind == Kind::App && index > had {
                machine.borrow_mut().apply(index, &bytes);
            }
            let waiting = {
                let mut groups = self.groups.borrow_mut();
                let Some(group) = groups.get_mut(&id) else { return };
                group.applied = index;
                group.proposals.remove(&index)
            };
            for (proposed, since, setter) in waiting.into_iter().flatten() {
                if proposed == term {
                    self.counters.committed(time::turn_now().saturating_duration_since(since));
                    setter.set(Ok(index));
                } else {
                    self.counters.proposal_lost();
                    setter.set(Err(Error::Lost { group: id, index }));
                }
            }
        }
        self.wake_applied(id, last);
        self.consensus.borrow_mut().applied(id, last);
        self.truncate_due(id);
    }

    /// Truncates what was said before it was applied here.
    pub(super) fn truncate_due(&self, id: GroupId) {
        let due = self
            .groups
            .borrow_mut()
            .get_mut(&id)
            .and_then(|group| group.to_truncate.take_if(|through| *through <= group.applied));
        if let Some(through) = due {
            self.truncate(id, through);
        }
    }

    /// Entries of the group up to `through`, which is applied, are needed no more.
    pub(super) fn truncate(&self, id: GroupId, through: Index) {
        if let Some(group) = self.groups.borrow_mut().get_mut(&id) {
            group.backlog.truncate(through);
        }
        // One whose term is not known any more was truncated before.
        let term = self.consensus.borrow_mut().truncate(id, through);
        if let Some(term) = term {
            self.log.with_stream(|stream| stream.truncate_at(id, through, term));
        }
    }

    pub(super) fn wake_applied(&self, id: GroupId, through: Index) {
        let woken = {
            let mut groups = self.groups.borrow_mut();
            let Some(group) = groups.get_mut(&id) else { return };
            let later = group.waiting.split_off(&through.next());
            std::mem::replace(&mut group.waiting, later)
        };
        woken.into_values().flatten().for_each(|setter| setter.set(()));
    }

    fn tell_role(&self, id: GroupId, role: consensus::Role) {
        let told = Role { term: role.term, leader: role.leader, leads: role.serves };
        let machine = {
            let mut groups = self.groups.borrow_mut();
            let Some(group) = groups.get_mut(&id) else { return };
            self.counters.role(group.role, told, role.leads && !group.elected);
            (group.role, group.elected) = (told, role.leads);
            group.machine.clone()
        };
        machine.borrow_mut().role(told);
    }

    pub(super) fn answer_reads(
        &self,
        group: GroupId,
        ticket: ReadTicket,
        answer: impl Fn() -> Result<Index, Error>,
    ) {
        let waiting = self.reads.borrow_mut().remove(&(group, ticket));
        waiting.into_iter().flatten().for_each(|setter| setter.set(answer()));
    }

    fn fault(&self, id: GroupId, fault: &Fault) {
        let known = match self.groups.borrow_mut().get_mut(&id) {
            Some(group) => std::mem::replace(&mut group.faulty, true),
            None => true,
        };
        if !known {
            let Fault::Lost { from, last, reckoned } = fault;
            tracing::error!(
                group = %id,
                "the group has stopped on this node: node {from} knows it to have acknowledged entry {reckoned}, and its \
                 last is {last}. Its disk has lost what it had confirmed: make this node a new member"
            );
        }
    }

    fn probe_where_dropped(&self) {
        let dropped: Vec<NodeId> =
            self.peers.borrow().values().filter(|peer| peer.take_dropped()).map(|peer| peer.node).collect();
        for node in dropped {
            self.consensus.borrow_mut().unreachable(node);
        }
    }

    /// Once no group is without a voice after a repair, later starts need not know of it.
    fn look_whether_healed(&self) {
        if self.cut.get() != Some(None) || self.consensus.borrow().voiceless() > 0 {
            return;
        }
        self.cut.set(None);
        let file = self.log.dir().join("CUT");
        runtime::spawn(async move {
            match fs::remove_file(&file).await {
                Ok(()) => tracing::info!(
                    log = %file.parent().unwrap_or(&file).display(),
                    "repaired: the log's groups have everything again that a leader knows to be committed"
                ),
                Err(error) => tracing::warn!(file = %file.display(), %error, "can't remove"),
            }
        });
    }

    fn heard_of(&self, node: NodeId) {
        if let Some(heard) = self.heard.borrow_mut().get_mut(&node) {
            *heard = (time::boot_clock(), false);
        }
    }

    /// Groups that a node led quietly begin to count when it is not heard any more.
    fn look_for_lost_nodes(&self) {
        let now = time::boot_clock();
        let silent = |(last, given_up): &(Duration, bool)| !given_up && now - *last > self.election_timeout;
        let lost: BTreeMap<NodeId, (Duration, bool)> = self
            .heard
            .borrow()
            .iter()
            .filter(|(_, heard)| silent(heard))
            .map(|(node, heard)| (*node, *heard))
            .collect();
        for (node, (last, _)) in lost {
            self.heard.borrow_mut().insert(node, (last, true));
            self.consensus.borrow_mut().node_lost(node);
        }
    }
}
