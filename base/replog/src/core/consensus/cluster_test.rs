//! A cluster in memory, from a seed: messages are shuffled, doubled, delayed and lost; nodes are paused and restarted with
//! what their disk had; members change. A failing seed replays exactly.
//!
//! What is checked: one leader per term; what is committed anywhere is committed everywhere alike, and for ever; no read
//! misses what was committed before it; once the faults end, everybody gets everything.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::core::rng::Rng;

const NODES: u64 = 5;
const GROUPS: u64 = 2;
const TICK: u64 = 10;
const DRIFT_PERMILLE: u64 = 10;

/// What a node's disk holds of a group.
#[derive(Clone, Default)]
struct Disk {
    base: (Index, Term),
    entries: Vec<Entry>,
    hard_state: HardState,
    members: (Index, Members),
    /// The state machine's own durable state.
    saved: Machine,
}

/// A state machine that keeps everything.
#[derive(Clone, Default, PartialEq)]
struct Machine {
    applied: Index,
    seen: Vec<(Index, Bytes)>,
}

struct Node {
    id: NodeId,
    consensus: Option<Consensus>,
    boot: u64,
    /// The node's clock runs at `rate` thousandths of the true one.
    rate: u64,
    next_tick: u64,
    paused_until: u64,
    down_until: u64,
    disks: BTreeMap<GroupId, Disk>,
    machines: BTreeMap<GroupId, Machine>,
    /// Being written, in order, with what the members became.
    flight: VecDeque<Write>,
    /// Snapshots that were made here, or have come here.
    snapshots: BTreeMap<(GroupId, Index), Machine>,
    reads: BTreeMap<(GroupId, ReadTicket), Index>,
    /// The next start is one after a repair.
    voiceless: bool,
}

enum Write {
    Persist(Persist),
    Members(GroupId, Index, Members),
}

struct Packet {
    from: NodeId,
    to: NodeId,
    group: GroupId,
    bytes: Bytes,
    snapshot: Option<(Index, Machine)>,
}

struct World {
    rng: Rng,
    now: u64,
    nodes: Vec<Node>,
    net: BTreeMap<(u64, u64), Packet>,
    sent: u64,
    /// What was committed, by anybody.
    truth: BTreeMap<(GroupId, Index), Entry>,
    newest: BTreeMap<GroupId, Index>,
    leaders: BTreeMap<(GroupId, Term), NodeId>,
    faults: bool,
    /// One-way cuts.
    cut: Vec<(NodeId, NodeId)>,
    /// No clients.
    calm: bool,
    expect_faults: bool,
    faulty: bool,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    lease_reads: u64,
    index_reads: u64,
    restarts: u64,
    snapshots: u64,
    changes: u64,
    transfers: u64,
    quiet: u64,
    overwritten: u64,
}

fn settings(node: NodeId, boot: u64, seed: u64) -> Settings {
    Settings {
        node,
        boot,
        seed,
        tick: Duration::from_millis(TICK),
        heartbeat_ticks: 2,
        election_ticks: 10,
        clock_drift_permille: 2 * DRIFT_PERMILLE as u32,
        quiet_after_ticks: 30,
        group_memory_bytes: 2000,
    }
}

impl Node {
    fn clock(&self, now: u64) -> Duration {
        Duration::from_micros(now * self.rate)
    }

    fn start(&mut self, seed: u64, now: u64) {
        self.boot += 1;
        let mut consensus = Consensus::new(settings(self.id, self.boot, seed));
        self.machines.clear();
        let clock = self.clock(now);
        for (id, disk) in &mut self.disks {
            let commit = disk.hard_state.commit.max(disk.members.0).max(disk.base.0);
            disk.hard_state.commit = commit;
            let applied = disk.members.0.max(disk.base.0);
            let mut machine = disk.saved.clone();
            disk.entries.iter().filter(|entry| entry.index <= applied).for_each(|entry| machine.apply(entry));
            self.machines.insert(*id, machine);
            let voiceless = std::mem::take(&mut self.voiceless);
            if voiceless {
                disk.hard_state =
                    HardState { term: Term(disk.hard_state.term.0 + 1), vote: NodeId(0), commit };
            }
            let start = Start {
                base: disk.base,
                hard_state: disk.hard_state,
                members: disk.members.clone(),
                applied,
                entries: disk.entries.clone(),
                terms: Default::default(),
                voiceless,
            };
            consensus.start(*id, &start, clock);
        }
        self.consensus = Some(consensus);
    }

    /// Writes the oldest of what is in flight.
    fn write_one(&mut self, counts: &mut Counts) -> Option<(GroupId, u64)> {
        let persist = match self.flight.pop_front()? {
            Write::Members(group, index, members) => {
                self.disks.get_mut(&group).expect("started").members = (index, members);
                return None;
            }
            Write::Persist(persist) => persist,
        };
        let disk = self.disks.get_mut(&persist.group).expect("started");
        if let Some(snapshot) = &persist.snapshot {
            let machine = &self.snapshots[&(persist.group, snapshot.index)];
            disk.saved = machine.clone();
            disk.base = (snapshot.index, snapshot.term);
            disk.members = (snapshot.index, snapshot.members.clone());
            disk.entries.clear();
            self.machines.insert(persist.group, machine.clone());
            counts.snapshots += 1;
        }
        if let Some(first) = persist.entries.first() {
            let keep = (first.index.0 - disk.base.0.0 - 1) as usize;
            counts.overwritten += u64::from(disk.entries.len() > keep);
            assert!(keep <= disk.entries.len(), "a gap");
            disk.entries.truncate(keep);
            disk.entries.extend(persist.entries.iter().cloned());
        }
        if let Some(hard_state) = persist.hard_state {
            disk.hard_state = hard_state;
        }
        persist.urgent.then_some((persist.group, persist.number))
    }

    /// Saves the state machine of a group, and forgets entries that it has.
    fn save(&mut self, group: GroupId, keep: u64) {
        // The members go to the disk before what is truncated behind them, and a snapshot before all that follows it.
        let waits = self.flight.iter().any(|write| match write {
            Write::Persist(persist) => persist.group == group && persist.snapshot.is_some(),
            Write::Members(of, ..) => *of == group,
        });
        let (Some(machine), Some(disk)) = (self.machines.get(&group), self.disks.get_mut(&group)) else {
            return;
        };
        if waits {
            return;
        }
        disk.saved = machine.clone();
        let through = Index(machine.applied.0.saturating_sub(keep));
        if let Some(at) = disk.entries.iter().position(|entry| entry.index == through) {
            disk.base = (through, disk.entries[at].term);
            disk.entries.drain(..=at);
        }
    }
}

impl Machine {
    fn apply(&mut self, entry: &Entry) {
        if entry.index <= self.applied {
            return;
        }
        assert_eq!(entry.index, self.applied.next(), "in order");
        self.applied = entry.index;
        if entry.kind == Kind::App {
            self.seen.push((entry.index, entry.bytes.clone()));
        }
    }
}

impl World {
    fn new(seed: u64, voters: u64) -> World {
        let founded = (Index(1), Term(1));
        let members = Members::voters((1..=voters).map(NodeId));
        let mut rng = Rng(seed);
        let disk = |node: u64| {
            if node > voters {
                return Disk::default();
            }
            let hard_state = HardState { term: Term(1), vote: NodeId(0), commit: Index(1) };
            let saved = Machine { applied: Index(1), seen: Vec::new() };
            Disk {
                base: founded,
                entries: Vec::new(),
                hard_state,
                members: (Index(1), members.clone()),
                saved,
            }
        };
        let nodes = (1..=NODES).map(|id| Node {
            id: NodeId(id),
            consensus: None,
            boot: 0,
            rate: 1000 - DRIFT_PERMILLE + rng.draw() % (2 * DRIFT_PERMILLE + 1),
            next_tick: 0,
            paused_until: 0,
            down_until: 0,
            disks: (1..=GROUPS).map(|group| (GroupId(group), disk(id))).collect(),
            machines: BTreeMap::new(),
            flight: VecDeque::new(),
            snapshots: BTreeMap::new(),
            reads: BTreeMap::new(),
            voiceless: false,
        });
        let nodes = nodes.collect();
        World {
            rng,
            now: 0,
            nodes,
            net: BTreeMap::new(),
            sent: 0,
            truth: BTreeMap::new(),
            newest: BTreeMap::new(),
            leaders: BTreeMap::new(),
            faults: true,
            cut: Vec::new(),
            calm: false,
            expect_faults: false,
            faulty: false,
            counts: Counts::default(),
        }
    }

    fn step(&mut self) {
        self.now += 1;
        if self.faults {
            self.break_something();
        }
        self.deliver();
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            if node.paused_until > self.now || node.down_until > self.now {
                continue;
            }
            if node.consensus.is_none() {
                node.start(7, self.now);
                node.next_tick = self.now + self.rng.draw() % TICK;
            }
            let consensus = node.consensus.as_mut().expect("started");
            if self.now >= node.next_tick {
                // By the node's own clock.
                node.next_tick = self.now + TICK * 1000 / node.rate;
                consensus.tick();
            }
            while !node.flight.is_empty() && self.rng.one_in(3) {
                if let Some((group, number)) = node.write_one(&mut self.counts) {
                    node.consensus.as_mut().expect("started").persisted(group, number);
                }
            }
            if !self.calm {
                self.client(at);
            }
            self.run(at);
        }
    }

    fn break_something(&mut self) {
        if !self.rng.one_in(60) {
            return;
        }
        let at = self.rng.below(self.nodes.len());
        match self.rng.below(5) {
            0 => {
                let down = self.rng.draw() % 300;
                self.crash(at, down);
            }
            1 => self.nodes[at].paused_until = self.now + self.rng.draw() % 400,
            2 => {
                let other = NodeId(self.rng.draw() % NODES + 1);
                let id = self.nodes[at].id;
                self.cut.push((id, other));
                if self.rng.one_in(2) {
                    self.cut.push((other, id));
                }
            }
            _ => {
                if !self.cut.is_empty() {
                    let healed = self.rng.below(self.cut.len());
                    self.cut.swap_remove(healed);
                }
            }
        }
        self.cut.truncate(6);
    }

    fn crash(&mut self, at: usize, down: u64) {
        let node = &mut self.nodes[at];
        // What is in flight gets to the disk in part, in order.
        while !node.flight.is_empty() && !self.rng.one_in(3) {
            node.write_one(&mut self.counts);
        }
        node.flight.clear();
        node.snapshots.clear();
        node.reads.clear();
        node.consensus = None;
        node.down_until = self.now + down;
        self.counts.restarts += 1;
    }

    fn deliver(&mut self) {
        let due: Vec<(u64, u64)> = self.net.range(..=(self.now, u64::MAX)).map(|(key, _)| *key).collect();
        for key in due {
            let node = &mut self.nodes[self.net[&key].to.0 as usize - 1];
            if node.paused_until > self.now {
                // It waits in the socket.
                let packet = self.net.remove(&key).expect("due");
                self.net.insert((node.paused_until, key.1), packet);
                continue;
            }
            let Packet { from, to, group, bytes, snapshot } = self.net.remove(&key).expect("due");
            // Whoever sends a snapshot learns what became of it.
            let arrived = snapshot.as_ref().map(|_| node.consensus.is_some() && self.rng.one_in(2));
            if let (Some((index, machine)), Some(true)) = (snapshot, arrived) {
                node.snapshots.insert((group, index), machine);
            }
            if let (Some(consensus), true) = (&mut node.consensus, arrived != Some(false)) {
                let message = Message::decode(bytes, from, to).expect("it was encoded");
                let clock = Duration::from_micros(self.now * node.rate);
                consensus.receive(from, group, message, clock);
            }
            if let (Some(arrived), Some(sender)) = (arrived, &mut self.nodes[from.0 as usize - 1].consensus) {
                sender.snapshot_sent(group, to, arrived);
            }
        }
    }

    /// Clients, and an operator.
    fn client(&mut self, at: usize) {
        let group = GroupId(self.rng.draw() % GROUPS + 1);
        let newest = self.newest.get(&group).copied().unwrap_or_default();
        let node = &mut self.nodes[at];
        let clock = node.clock(self.now);
        let consensus = node.consensus.as_mut().expect("started");
        match self.rng.below(60) {
            0..=2 => {
                let bytes = Bytes::from(vec![self.rng.draw() as u8; self.rng.below(200)]);
                let _ = consensus.propose(group, bytes);
            }
            3..=5 => match consensus.read(group, clock) {
                Ok(Read::At(index)) => {
                    assert!(index >= newest, "a stale read under the lease: {index} of {newest}");
                    let alone = consensus.members(group).expect("started").is_alone(node.id);
                    self.counts.lease_reads += u64::from(!alone);
                }
                Ok(Read::Wait(ticket)) => {
                    // Several share a ticket, and it must serve the latest.
                    let needed = node.reads.entry((group, ticket)).or_default();
                    *needed = newest.max(*needed);
                }
                Err(_) => {}
            },
            6 if self.rng.one_in(6) => {
                let node = |rng: &mut Rng| NodeId(rng.draw() % NODES + 1);
                let changes: Vec<Change> = (0..=self.rng.below(3))
                    .map(|_| match self.rng.below(4) {
                        0..=1 => Change::Voter(node(&mut self.rng)),
                        2 => Change::Learner(node(&mut self.rng)),
                        _ => Change::Out(node(&mut self.rng)),
                    })
                    .collect();
                self.counts.changes += u64::from(consensus.change(group, &changes).is_ok());
            }
            7 if self.rng.one_in(10) => {
                let to = NodeId(self.rng.draw() % NODES + 1);
                self.counts.transfers += u64::from(consensus.transfer(group, to).is_ok());
            }
            8 => {
                let keep = self.rng.draw() % 10;
                node.save(group, keep);
            }
            _ => {}
        }
    }

    /// Does what a batch asks for.
    fn run(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let clock = node.clock(self.now);
        loop {
            let consensus = node.consensus.as_mut().expect("started");
            if !consensus.has_work() {
                break;
            }
            let batch = consensus.take(clock);
            assert!(batch.faults.is_empty() || self.expect_faults, "{:?}", batch.faults);
            self.faulty |= !batch.faults.is_empty();
            node.flight.extend(batch.persist.into_iter().map(Write::Persist));
            let members = batch.members.into_iter();
            node.flight.extend(members.map(|(group, index, members)| Write::Members(group, index, members)));
            for (group, role) in batch.roles.iter().filter(|(_, role)| role.leads) {
                let leader = self.leaders.entry((*group, role.term)).or_insert(node.id);
                assert_eq!(*leader, node.id, "two leaders of group {group} in term {}", role.term);
            }
            for (group, ticket, index) in batch.reads {
                let newest = node.reads.remove(&(group, ticket)).expect("each ticket comes back once");
                assert!(index >= newest, "a stale read by index: {index} of {newest}");
                self.counts.index_reads += 1;
            }
            for (group, ticket) in batch.reads_lost {
                node.reads.remove(&(group, ticket)).expect("each ticket comes back once");
            }
            for committed in batch.committed {
                let machine = node.machines.get_mut(&committed.group).expect("started");
                for entry in &committed.entries {
                    let place = (committed.group, entry.index);
                    let known = self.truth.entry(place).or_insert_with(|| entry.clone());
                    assert_eq!(known, entry, "committed twice, differently, at {place:?}");
                    machine.apply(entry);
                }
                let newest = self.newest.entry(committed.group).or_default();
                *newest = machine.applied.max(*newest);
                let consensus = node.consensus.as_mut().expect("started");
                consensus.applied(committed.group, machine.applied);
            }
            for (group, _, at_least) in batch.snapshots_wanted {
                let machine = &node.machines[&group];
                let consensus = node.consensus.as_mut().expect("started");
                if machine.applied >= at_least && consensus.snapshot_made(group, machine.applied).is_some() {
                    node.snapshots.insert((group, machine.applied), machine.clone());
                }
            }
            for Envelope { group, to, message } in batch.messages {
                let snapshot = message.snapshot().map(|meta| {
                    let machine = &node.snapshots[&(group, meta.index)];
                    (meta.index, machine.clone())
                });
                let mut bytes = Vec::new();
                message.encode(&mut bytes);
                let bytes = Bytes::from(bytes);
                let lost = self.cut.contains(&(node.id, to)) || (self.faults && self.rng.one_in(20));
                let copies = if lost { 0 } else { 1 + usize::from(self.faults && self.rng.one_in(20)) };
                if lost && snapshot.is_some() {
                    node.consensus.as_mut().expect("started").snapshot_sent(group, to, false);
                }
                for _ in 0..copies {
                    let delay = if self.faults && self.rng.one_in(20) { 150 } else { 8 };
                    self.sent += 1;
                    let key = (self.now + 1 + self.rng.draw() % delay, self.sent);
                    let (bytes, snapshot) = (bytes.clone(), snapshot.clone());
                    self.net.insert(key, Packet { from: node.id, to, group, bytes, snapshot });
                }
            }
            self.counts.quiet += consensus_quiet(node);
        }
    }

    /// Ends the faults, and waits until everybody has everything.
    fn settle(&mut self) {
        self.faults = false;
        self.cut.clear();
        for _ in 0..6000 {
            self.step();
            if self.now.is_multiple_of(50) && self.is_settled() {
                return;
            }
        }
        panic!("the cluster does not settle: {:?}", self.roles());
    }

    fn is_settled(&self) -> bool {
        (1..=GROUPS).map(GroupId).all(|group| {
            let leader = self.nodes.iter().filter_map(|node| node.consensus.as_ref()).find(|consensus| {
                let role = consensus.role(group).expect("started");
                role.serves && consensus.committed(group) == consensus.last(group)
            });
            let Some(members) = leader.and_then(|leader| leader.members(group)) else { return false };
            let last = leader.expect("found").last(group);
            let everybody = members.all();
            !members.is_joint()
                && self.nodes.iter().filter(|node| everybody.contains(&node.id)).all(|node| {
                    node.consensus.is_some()
                        && node.machines.get(&group).is_some_and(|machine| machine.applied == last)
                })
        })
    }

    fn roles(&self) -> Vec<Option<(Role, Members, Index)>> {
        let all = self.nodes.iter().flat_map(|node| (1..=GROUPS).map(move |group| (node, GroupId(group))));
        all.map(|(node, group)| {
            let consensus = node.consensus.as_ref()?;
            Some((consensus.role(group)?, consensus.members(group)?.clone(), consensus.last(group)))
        })
        .collect()
    }

    fn check_machines(&self) {
        for node in &self.nodes {
            for (group, machine) in &node.machines {
                for (index, bytes) in &machine.seen {
                    assert_eq!(self.truth[&(*group, *index)].bytes, *bytes);
                }
            }
        }
    }
}

fn consensus_quiet(node: &Node) -> u64 {
    node.consensus.as_ref().map_or(0, |consensus| consensus.quiet() as u64)
}

fn live(seed: u64, steps: usize) -> World {
    let mut world = World::new(seed, [1, 3, 3, 3, 5][seed as usize % 5]);
    for _ in 0..steps {
        world.step();
    }
    world.settle();
    world.check_machines();
    world
}

#[test]
fn a_cluster_agrees_whatever_happens() {
    let mut total = Counts::default();
    let mut committed = 0;
    for seed in 0..40 {
        let world = live(seed, 4000);
        committed += world.truth.len();
        let counts = &world.counts;
        total.lease_reads += counts.lease_reads;
        total.index_reads += counts.index_reads;
        total.restarts += counts.restarts;
        total.snapshots += counts.snapshots;
        total.changes += counts.changes;
        total.transfers += counts.transfers;
        total.overwritten += counts.overwritten;
        total.quiet += counts.quiet;
    }
    println!("{committed} entries, {total:?}");
    assert!(committed > 4000, "{committed}");
    let Counts { lease_reads, index_reads, restarts, snapshots, changes, transfers, overwritten, quiet: _ } =
        total;
    for count in [lease_reads, index_reads, restarts, snapshots, changes, transfers] {
        assert!(count > 20, "{total:?}");
    }
    assert!(overwritten > 5, "{total:?}");
}

/// Three nodes that have agreed on something; gives the leader's place and those of the others.
fn calm(seed: u64) -> (World, usize, [usize; 2]) {
    let mut world = World::new(seed, 3);
    world.faults = false;
    world.calm = true;
    let leader = loop {
        world.step();
        if let Some(leader) = world.leader() {
            break leader;
        }
    };
    // The lease comes with the answers to a heartbeat.
    for _ in 0..6 * TICK {
        world.step();
    }
    assert!(world.reads_at_once(leader), "a leader in peace has a lease");
    let others = [0, 1, 2].into_iter().filter(|at| *at != leader).collect::<Vec<_>>();
    (world, leader, [others[0], others[1]])
}

const GROUP: GroupId = GroupId(1);

impl World {
    /// The node that leads and serves, not being `but`.
    fn leader_but(&self, but: usize) -> Option<usize> {
        let serves = |node: &Node| {
            node.paused_until <= self.now
                && node
                    .consensus
                    .as_ref()
                    .and_then(|consensus| consensus.role(GROUP))
                    .is_some_and(|role| role.serves)
        };
        (0..self.nodes.len()).find(|at| *at != but && serves(&self.nodes[*at]))
    }

    fn leader(&self) -> Option<usize> {
        self.leader_but(usize::MAX)
    }

    /// Whether a node answers a read at once; it must not be stale then.
    fn reads_at_once(&mut self, at: usize) -> bool {
        let newest = self.newest.get(&GROUP).copied().unwrap_or_default();
        let node = &mut self.nodes[at];
        let clock = node.clock(self.now);
        match node.consensus.as_mut().map(|consensus| consensus.read(GROUP, clock)) {
            Some(Ok(Read::At(index))) => {
                assert!(index >= newest, "a stale read under the lease: {index} of {newest}");
                true
            }
            Some(Ok(Read::Wait(ticket))) => {
                node.reads.insert((GROUP, ticket), newest);
                false
            }
            _ => false,
        }
    }

    /// Changes the members of the group, through a node that leads it all the time, and waits until that is over.
    fn change(&mut self, leader: usize, changes: &[Change]) {
        let mut changed = false;
        for _ in 0..100 * TICK {
            let consensus = self.nodes[leader].consensus.as_mut().expect("up");
            changed = changed || consensus.change(GROUP, changes).is_ok();
            self.step();
            let consensus = self.nodes[leader].consensus.as_ref().expect("up");
            let over = !consensus.members(GROUP).expect("there").is_joint();
            if changed && over && consensus.committed(GROUP) == consensus.last(GROUP) {
                return;
            }
        }
        panic!("{changes:?} is never over: {:?}", self.roles());
    }

    fn cut_both_ways(&mut self, a: usize, b: usize) {
        let (a, b) = (self.nodes[a].id, self.nodes[b].id);
        self.cut.extend([(a, b), (b, a)]);
    }

    /// Runs until another than `old` leads and has committed something of its own, then a while; `old` is asked to read
    /// all the time.
    fn until_replaced(&mut self, old: usize, asked: bool) {
        let mut replaced = 0;
        for _ in 0..3000 {
            self.step();
            if asked {
                self.reads_at_once(old);
            }
            if let Some(leader) = self.leader_but(old) {
                let consensus = self.nodes[leader].consensus.as_mut().expect("leads");
                let _ = consensus.propose(GROUP, Bytes::from_static(b"new"));
                replaced += 1;
                if replaced == 60 {
                    return;
                }
            }
        }
        panic!("nobody took over");
    }
}

#[test]
fn a_leader_that_was_stopped_does_not_answer_from_its_old_lease() {
    for seed in 0..40 {
        let (mut world, leader, _) = calm(seed);
        world.nodes[leader].paused_until = u64::MAX;
        world.until_replaced(leader, false);
        // It wakes up, and a read is the first that it does.
        assert!(!world.reads_at_once(leader));
    }
}

#[test]
fn a_leader_that_was_cut_off_loses_its_lease_before_another_has_it() {
    for seed in 0..40 {
        let (mut world, leader, others) = calm(seed);
        others.into_iter().for_each(|other| world.cut_both_ways(leader, other));
        world.until_replaced(leader, true);
    }
}

#[test]
fn a_follower_that_restarts_keeps_the_promise_it_has_given() {
    for seed in 0..40 {
        let (mut world, leader, [near, far]) = calm(seed);
        world.cut_both_ways(leader, far);
        // Long enough for the far one to campaign, again and again; the near one still hears its leader.
        for _ in 0..30 * TICK + seed {
            world.step();
            world.reads_at_once(leader);
        }
        assert!(world.reads_at_once(leader), "seed {seed}: the near one is enough for a lease");
        world.crash(near, 0);
        world.cut_both_ways(leader, near);
        world.until_replaced(leader, true);
    }
}

#[test]
fn a_leader_that_hands_over_reads_under_no_lease_any_more() {
    for seed in 0..40 {
        let (mut world, leader, others) = calm(seed);
        let to = world.nodes[others[0]].id;
        world.nodes[leader].consensus.as_mut().expect("leads").transfer(GROUP, to).expect("it leads");
        // The word has left; nothing comes back.
        world.run(leader);
        others.into_iter().for_each(|other| world.cut_both_ways(leader, other));
        world.until_replaced(leader, true);
    }
}

#[test]
fn a_quiet_group_sends_nothing_and_wakes_when_its_leader_is_lost() {
    let (mut world, leader, others) = calm(3);
    // Nothing but the clients' calls is left to keep them awake.
    for _ in 0..200 * TICK {
        world.step();
    }
    let consensus = world.nodes[leader].consensus.as_ref().expect("leads");
    assert_eq!(consensus.quiet(), GROUPS as usize, "{:?}", world.roles());
    let sent = world.sent;
    for _ in 0..200 * TICK {
        world.step();
    }
    assert_eq!(world.sent, sent, "not one message");
    assert_eq!(world.leader(), Some(leader));

    let id = world.nodes[leader].id;
    world.nodes[leader].paused_until = u64::MAX;
    for other in others {
        world.nodes[other].consensus.as_mut().expect("up").node_lost(id);
    }
    world.until_replaced(leader, false);
}

#[test]
fn a_leader_that_reckons_with_what_is_gone_stops_the_group() {
    let (mut world, leader, [near, _]) = calm(5);
    let consensus = world.nodes[leader].consensus.as_mut().expect("leads");
    consensus.propose(GROUP, Bytes::from_static(b"to be lost")).expect("it leads");
    for _ in 0..10 * TICK {
        world.step();
    }
    world.crash(near, 0);
    let disk = world.nodes[near].disks.get_mut(&GROUP).expect("there");
    // The disk comes back as it was before it acknowledged.
    disk.entries.clear();
    disk.saved = Machine { applied: disk.base.0, seen: Vec::new() };
    disk.hard_state.commit = disk.base.0;
    world.expect_faults = true;
    for _ in 0..40 * TICK {
        world.step();
    }
    assert!(world.faulty, "it noticed");
    let consensus = world.nodes[near].consensus.as_mut().expect("up");
    assert_eq!(consensus.propose(GROUP, Bytes::new()), Err(Refused::Faulty));
}

#[test]
fn a_node_that_was_repaired_votes_only_once_it_has_everything() {
    let mut regained = 0;
    for seed in 0..20 {
        let (mut world, leader, [near, far]) = calm(seed);
        // The far one misses an entry that the near one has acknowledged, and loses in a repair.
        world.cut_both_ways(leader, far);
        world.cut_both_ways(near, far);
        let consensus = world.nodes[leader].consensus.as_mut().expect("leads");
        consensus.propose(GROUP, Bytes::from_static(b"answered")).expect("it leads");
        for _ in 0..10 * TICK {
            world.step();
        }
        let answered = world.newest[&GROUP];
        world.crash(near, 0);
        world.expect_faults = true;
        let node = &mut world.nodes[near];
        node.voiceless = true;
        let disk = node.disks.get_mut(&GROUP).expect("there");
        disk.entries.retain(|entry| entry.index < answered);
        disk.hard_state.commit = Index(answered.0 - 1);
        disk.saved = Machine { applied: disk.base.0, seen: Vec::new() };
        // The leader is gone for a while; the two that are left must not agree on anything without it.
        world.nodes[leader].paused_until = world.now + 100 * TICK;
        world.cut.clear();
        for _ in 0..90 * TICK {
            world.step();
            assert_eq!(world.leader_but(leader), None, "seed {seed}: without what was answered");
        }
        if world.faulty {
            // A heartbeat of the old leader was still under way, and gave the loss away.
            continue;
        }
        regained += 1;
        // A leader of a new term shows everything, and then there are three again.
        world.crash(leader, 0);
        world.nodes[leader].paused_until = 0;
        for _ in 0..200 * TICK {
            world.step();
        }
        let first = world.leader().expect("one leads");
        let id = world.nodes[first].id;
        world.nodes[first].paused_until = u64::MAX;
        for node in world.nodes.iter_mut().filter(|node| node.id != id) {
            node.consensus.as_mut().expect("up").node_lost(id);
        }
        world.until_replaced(first, false);
    }
    assert!(regained > 10, "{regained}");
}

#[test]
fn a_leader_that_reckons_with_what_was_lost_makes_way_and_who_was_repaired_gets_it_back() {
    for seed in 0..20 {
        let (mut world, leader, [near, _]) = calm(seed);
        let consensus = world.nodes[leader].consensus.as_mut().expect("leads");
        consensus.propose(GROUP, Bytes::from_static(b"to be lost")).expect("it leads");
        // In every second life they all have fallen quiet before.
        let rest = if seed % 2 == 0 { 10 } else { 200 };
        for _ in 0..rest * TICK {
            world.step();
        }
        let answered = world.newest[&GROUP];
        world.crash(near, 0);
        let node = &mut world.nodes[near];
        node.voiceless = true;
        let disk = node.disks.get_mut(&GROUP).expect("there");
        disk.entries.retain(|entry| entry.index < answered);
        disk.hard_state.commit = Index(answered.0 - 1);
        disk.saved = Machine { applied: disk.base.0, seen: Vec::new() };
        for _ in 0..200 * TICK {
            world.step();
        }
        assert!(world.nodes[near].machines[&GROUP].applied >= answered, "seed {seed}: it is there again");
        let consensus = world.nodes[near].consensus.as_ref().expect("up");
        assert_eq!(consensus.voiceless(), 0, "seed {seed}: {:?}", world.roles());
        assert!(world.leader().is_some(), "seed {seed}");
    }
}

#[test]
fn who_has_forgotten_a_group_is_no_vote_for_those_that_were_left_behind() {
    for seed in 0..20 {
        let (mut world, leader, [near, far]) = calm(seed);
        let ids = world.nodes.iter().map(|node| node.id).collect::<Vec<_>>();
        (0..ids.len()).filter(|at| *at != far).for_each(|at| world.cut_both_ways(at, far));
        // The far one hears nothing of this: the group moves away from both.
        world.change(leader, &[Change::Learner(ids[3]), Change::Learner(ids[4])]);
        let moved = [3, 4].map(|at| Change::Voter(ids[at]));
        world.change(leader, &[&moved[..], &[Change::Out(ids[near]), Change::Out(ids[far])]].concat());
        while !world.nodes[near].flight.is_empty() {
            world.step();
        }
        let now = world.now;
        let node = &mut world.nodes[near];
        node.disks.insert(GROUP, Disk::default());
        node.machines.insert(GROUP, Machine::default());
        let clock = node.clock(now);
        let consensus = node.consensus.as_mut().expect("up");
        consensus.stop(GROUP);
        consensus.start(GROUP, &Start::default(), clock);
        // Both together were a majority once.
        world.cut.clear();
        [leader, 3, 4].into_iter().for_each(|at| world.cut_both_ways(at, far));
        for _ in 0..100 * TICK {
            world.step();
            let role = world.nodes[far].consensus.as_ref().expect("up").role(GROUP).expect("there");
            assert!(!role.leads, "seed {seed}: a second leader");
        }
        world.change(leader, &[Change::Learner(ids[near])]);
        world.change(leader, &[Change::Voter(ids[near])]);
        assert!(world.nodes[near].machines[&GROUP].applied.0 > 1, "seed {seed}: it follows again");
    }
}

#[test]
fn who_elects_itself_alone_tells_nobody_before_its_term_is_durable() {
    let mut consensus = Consensus::new(settings(NodeId(1), 1, 1));
    let base = (Index(1), Term(1));
    let members = Members { learners: vec![NodeId(2)], ..Members::voters([NodeId(1)]) };
    let hard_state = HardState { term: Term(1), vote: NodeId(0), commit: Index(1) };
    let start =
        Start { base, hard_state, members: (Index(1), members), applied: Index(1), ..Start::default() };
    consensus.start(GROUP, &start, Duration::ZERO);
    consensus.propose(GROUP, Bytes::from_static(b"early")).expect("it leads already");
    let batch = consensus.take(Duration::ZERO);
    assert!(batch.messages.is_empty(), "{:?}", batch.messages);
    let last = batch.persist.last().expect("its term, and its entries");
    assert_eq!(
        batch.persist.iter().filter_map(|persist| persist.hard_state).next().map(|state| state.term),
        Some(Term(2))
    );
    consensus.persisted(GROUP, last.number);
    let batch = consensus.take(Duration::ZERO);
    assert!(batch.messages.iter().any(|envelope| envelope.to == NodeId(2)));
}

#[test]
#[ignore = "a hunt, of minutes"]
fn a_cluster_agrees_over_many_seeds() {
    for seed in 1000..2200 {
        println!("seed {seed}");
        live(seed, 4000);
    }
}
