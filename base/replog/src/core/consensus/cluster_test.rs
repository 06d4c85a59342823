//! A cluster in memory, from a seed: messages are shuffled, doubled, delayed and lost; nodes are paused and restarted with
//! what their disk had; members change. A failing seed replays exactly.
//!
//! What is checked: one leader per term; what is committed anywhere is committed everywhere alike, and for ever; no read
//! misses what was committed before it; once the faults end, everybody gets everything.

mod scenarios;

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

#[test]
#[ignore = "a hunt, of minutes"]
fn a_cluster_agrees_over_many_seeds() {
    for seed in 1000..2200 {
        println!("seed {seed}");
        live(seed, 4000);
    }
}
