//! Clusters from seeds, with the groups' consensus reduced to what matters here: who is a member, who holds what, who leads.
//! Nodes see old maps, die at every step and come back with an older map; requests are lost and come late; nodes come, are
//! drained, given up for dead and come back.
//!
//! What must hold: no voter of a group ever loses what it holds; nobody is made a voter who does not hold it; there is
//! one founding; once nobody is disturbed any more, every group is where it is to be, evenly, and nobody holds anything else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use replog::{Change, GroupId, Index, Members, NodeId, Term};

use super::duty::{Duty, duty, is_fresh};
use super::entry::Entry;
use super::execute::{Batch, found};
use super::health::{Patience, health};
use super::map::{Map, NodeState};
use super::plan::plan;
use super::request::{Announced, Command, Joining, Left, Outcome, Report, Request};
use super::rng::Rng;
use super::step::{Seen, Step, step};

const MOVES_MAX: usize = 3;
const SECOND: Duration = Duration::from_secs(1);

#[derive(Default, Debug)]
struct Real {
    index: u64,
    /// Since when the members are what they are.
    since: u64,
    term: u64,
    members: Members,
    leader: Option<NodeId>,
    /// Who holds it, and how far each one is.
    holds: BTreeMap<NodeId, u64>,
    /// How far the leader believes each to be: it is not told of what they forget.
    known: BTreeMap<NodeId, u64>,
}

struct Machine {
    up: bool,
    boot: u64,
    /// The version of the map that it sees.
    sees: usize,
    silent: Duration,
}

struct World {
    rng: Rng,
    maps: Vec<Arc<Map>>,
    nodes: BTreeMap<NodeId, Machine>,
    groups: BTreeMap<GroupId, Real>,
    late: Vec<Request>,
    replace: bool,
    steps: BTreeMap<&'static str, usize>,
}

fn joining(token: u64) -> Joining {
    Joining { token, name: format!("n{token}"), kind: "test".to_owned() }
}

impl World {
    fn new(seed: u64) -> World {
        let rng = Rng(seed);
        let mut world = World {
            rng,
            maps: vec![Arc::default()],
            nodes: BTreeMap::new(),
            groups: BTreeMap::new(),
            late: Vec::new(),
            replace: seed.is_multiple_of(2),
            steps: BTreeMap::new(),
        };
        world.commit(&Entry { base: 0, effects: found(1, &joining(1), 5) });
        world.nodes.insert(NodeId(1), Machine { up: true, boot: 0, sees: 1, silent: Duration::ZERO });
        world.restart(NodeId(1));
        world
    }

    fn map(&self) -> Arc<Map> {
        self.maps[self.maps.len() - 1].clone()
    }

    fn commit(&mut self, entry: &Entry) {
        let entry = Entry::decode(&entry.encode()).expect("an entry comes back");
        let mut map = Map::clone(&self.map());
        if map.take_entry(&entry) {
            for group in map.groups.values() {
                let wanted_and_leaving = group.wanted.iter().any(|node| group.leaving.contains(node));
                assert!(!wanted_and_leaving, "{group:?}");
            }
            self.maps.push(Arc::new(map));
        }
    }

    fn ask(&mut self, request: &Request) -> Option<Outcome> {
        let map = self.map();
        let mut batch = Batch::new(&map);
        let outcome = batch.take(request).ok()?;
        batch.into_entry().into_iter().for_each(|entry| self.commit(&entry));
        Some(outcome)
    }

    /// A request that may be lost, or come again later.
    fn send(&mut self, request: Request) {
        match self.rng.below(4) {
            0 => {}
            1 => self.late.push(request),
            _ => {
                if self.rng.one_in(5) {
                    self.late.push(request.clone());
                }
                self.ask(&request);
            }
        }
    }

    fn join(&mut self) {
        let token = self.nodes.len() as u64 + 1;
        for _ in 0..2 {
            let joined = self.ask(&Request::Join(joining(token)));
            let Some(Outcome::Joined(id)) = joined else { panic!("{joined:?}") };
            assert_eq!(id.0, token, "the same number again");
        }
        self.nodes.insert(NodeId(token), Machine { up: true, boot: 0, sees: 0, silent: Duration::ZERO });
        self.restart(NodeId(token));
    }

    fn restart(&mut self, id: NodeId) {
        let versions = self.maps.len();
        let back = self.rng.below(versions);
        let machine = self.nodes.get_mut(&id).expect("there");
        machine.up = true;
        machine.boot += 1;
        // With an older map than it has seen, or than anybody has.
        machine.sees = back;
        self.announce(id);
    }

    fn announce(&mut self, id: NodeId) {
        let boot = self.nodes[&id].boot;
        let announced = Announced { node: id, boot, peer: id.to_string(), clients: [].into(), weight: 100 };
        self.ask(&Request::Announce(announced));
    }

    fn up(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|machine| machine.up)
    }

    fn count(&mut self, what: &'static str) {
        *self.steps.entry(what).or_insert(0) += 1;
    }

    /// A node looks at a group.
    fn look(&mut self, me: NodeId, id: GroupId) {
        let machine = &self.nodes[&me];
        let map = self.maps[machine.sees].clone();
        if !machine.up || !is_fresh(&map, me, machine.boot) {
            return;
        }
        if matches!(map.state(me), Some(NodeState::Dead)) {
            return self.announce(me);
        }
        let Some(group) = map.groups.get(&id) else { return };
        let real = self.groups.entry(id).or_default();
        match duty(group, me, real.holds.contains_key(&me)) {
            Duty::Nothing => {}
            Duty::Lost => panic!("node {me} has lost its vote in {group:?}"),
            Duty::Found => {
                assert_eq!(real.index, 0, "founded twice: {group:?}");
                (real.index, real.since) = (1, 1);
                real.members = Members::voters([me]);
                real.holds.insert(me, 1);
            }
            Duty::Join => drop(real.holds.insert(me, 0)),
            Duty::Forget => {
                let vote = real.members.voters.contains(&me) || real.members.outgoing.contains(&me);
                assert!(!vote || group.gone, "node {me} forgets what it votes in: {group:?}");
                real.holds.remove(&me);
                if real.leader == Some(me) {
                    real.leader = None;
                }
                self.count("forgotten");
                self.send(Request::Left(Left { node: me, version: map.version, groups: vec![id] }));
            }
        }
    }

    fn quorum(&self, real: &Real, at: u64) -> bool {
        let has = |node: &&NodeId| self.up(**node) && real.holds.get(*node).is_some_and(|held| *held >= at);
        let enough = |list: &[NodeId]| list.is_empty() || list.iter().filter(has).count() > list.len() / 2;
        enough(&real.members.voters) && enough(&real.members.outgoing)
    }

    /// What consensus does by itself: it elects, writes, brings others up to date, and leaves the joint stage.
    fn consensus(&mut self, id: GroupId) {
        let Some(mut real) = self.groups.remove(&id) else { return };
        let leads = |leader: &NodeId| {
            let members = &real.members;
            self.up(*leader) && (members.voters.contains(leader) || members.outgoing.contains(leader))
        };
        if !real.leader.is_some_and(|leader| leads(&leader)) || self.rng.one_in(30) {
            real.leader = None;
            if self.quorum(&real, 0) {
                let both = || real.members.voters.iter().chain(&real.members.outgoing).copied();
                let held = |node: NodeId| real.holds.get(&node).copied().filter(|_| self.up(node));
                let latest = both().filter_map(held).max();
                let fit: Vec<NodeId> =
                    both().filter(|node| latest.is_some() && held(*node) == latest).collect();
                if !fit.is_empty() {
                    real.leader = Some(fit[self.rng.below(fit.len())]);
                    real.term += 1;
                    real.known.clear();
                }
            }
        }
        if real.leader.is_some() {
            real.index += self.rng.below(3) as u64;
            for (node, held) in &mut real.holds {
                if self.nodes[node].up && (real.leader == Some(*node) || !self.rng.one_in(3)) {
                    *held = real.index;
                    real.known.insert(*node, real.index);
                }
            }
            if real.members.is_joint() && self.quorum(&real, 1) {
                real.members.outgoing.clear();
                real.index += 1;
                real.since = real.index;
            }
        }
        self.groups.insert(id, real);
    }

    fn change(&mut self, id: GroupId, changes: &[Change]) {
        let real = &self.groups[&id];
        if !self.quorum(real, 1) {
            return;
        }
        let real = self.groups.get_mut(&id).expect("there");
        let before = real.members.clone();
        real.index += 1;
        real.since = real.index;
        for change in changes {
            let (Change::Voter(node) | Change::Learner(node) | Change::Out(node)) = change;
            real.members.voters.retain(|member| member != node);
            real.members.learners.retain(|member| member != node);
            match change {
                Change::Voter(node) => {
                    assert!(
                        real.holds.contains_key(node),
                        "node {node} votes in group {id} and holds nothing"
                    );
                    real.members.voters.push(*node);
                }
                Change::Learner(node) => {
                    real.members.learners.push(*node);
                    real.known.remove(node);
                }
                Change::Out(node) => drop(real.known.remove(node)),
            }
        }
        real.members.voters.sort_unstable();
        real.members.learners.sort_unstable();
        if changes.len() > 1 && before.voters != real.members.voters {
            real.members.outgoing = before.voters;
        }
        self.count("changed");
    }

    /// The group's leader takes a step.
    fn step(&mut self, id: GroupId) {
        let Some(real) = self.groups.get(&id) else { return };
        let Some(leader) = real.leader.filter(|leader| self.up(*leader)) else { return };
        let machine = &self.nodes[&leader];
        let map = self.maps[machine.sees].clone();
        let Some(group) = map.groups.get(&id).filter(|_| is_fresh(&map, leader, machine.boot)) else {
            return;
        };
        let behind = real.known.iter().map(|(node, held)| (*node, (real.index - held) * 1000)).collect();
        let members = (Index(real.since), &real.members);
        let seen = Seen { me: leader, group, members, behind: &behind };
        let term = Term(real.term);
        match step(&seen, |node| map.is_up(node)) {
            Step::Wait => {}
            Step::Report(actual) => {
                self.send(Request::Report(leader, vec![Report { group: id, term, actual }]));
            }
            Step::Change(changes) => self.change(id, &changes),
            Step::Transfer(to) => {
                let real = self.groups.get_mut(&id).expect("there");
                if real.members.voters.contains(&to) && real.holds.get(&to) == Some(&real.index) {
                    real.leader = Some(to);
                    real.known.clear();
                    real.term += 1;
                    self.count("handed over");
                }
            }
        }
    }

    fn plan(&mut self) {
        // By a leader that may be an old one.
        let back = if self.rng.one_in(10) { self.rng.below(3.min(self.maps.len())) } else { 0 };
        let map = self.maps[self.maps.len() - 1 - back].clone();
        let unheard = self.nodes.iter().map(|(id, machine)| (*id, machine.silent)).collect();
        let replace_after = self.replace.then_some(20 * SECOND);
        let patience = Patience { down_after: 3 * SECOND, replace_after };
        let mut batch = Batch::new(&map);
        batch.add(health(&map, NodeId(0), &unheard, &patience));
        batch.add(plan(batch.map(), MOVES_MAX));
        batch.into_entry().into_iter().for_each(|entry| self.commit(&entry));
        let moving = self.map().groups.values().filter(|group| group.formed && !group.is_settled()).count();
        self.steps.entry("moving").and_modify(|most| *most = moving.max(*most)).or_insert(moving);
    }

    /// One round of everything, with disturbances or without.
    fn round(&mut self, calm: bool) {
        for machine in self.nodes.values_mut() {
            machine.silent = if machine.up { Duration::ZERO } else { machine.silent + SECOND };
            let last = self.maps.len() - 1;
            let ahead = last - machine.sees;
            machine.sees = if calm { last } else { machine.sees + self.rng.below(ahead + 1) };
        }
        self.plan();
        let ids: Vec<GroupId> = self.map().groups.keys().copied().collect();
        let nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            self.consensus(id);
            self.step(id);
            for node in &nodes {
                if calm || !self.rng.one_in(3) {
                    self.look(*node, id);
                }
            }
        }
        if !self.late.is_empty() && self.rng.one_in(2) {
            let at = self.rng.below(self.late.len());
            let request = self.late.swap_remove(at);
            self.ask(&request);
        }
    }

    fn disturb(&mut self) {
        let nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        let node = nodes[self.rng.below(nodes.len())];
        match self.rng.below(12) {
            0 if self.nodes.len() < 8 => self.join(),
            1 | 2 if self.nodes[&node].up => self.nodes.get_mut(&node).expect("there").up = false,
            3..=5 if !self.nodes[&node].up => self.restart(node),
            6 => drop(self.ask(&Request::Change(vec![Command::Drain(node)]))),
            7 => drop(self.ask(&Request::Change(vec![Command::Return(node)]))),
            8 if self.map().groups.len() < 12 => {
                let replicas = 1 + 2 * self.rng.below(2) as u8;
                let create = Command::Create { replicas, payload: Bytes::from_static(b"p") };
                self.ask(&Request::Change(vec![create.clone(), create]));
            }
            9 => {
                let owned: Vec<GroupId> = self.map().owned().map(|group| group.id).collect();
                if owned.len() > 4 {
                    let id = owned[self.rng.below(owned.len())];
                    self.ask(&Request::Change(vec![Command::Delete(id)]));
                }
            }
            _ => {}
        }
    }
}

fn live(seed: u64, totals: &mut BTreeMap<&'static str, usize>) {
    let mut world = World::new(seed);
    // The metadata group's founder has founded it before anything else.
    for _ in 0..200 {
        if world.rng.one_in(3) {
            world.disturb();
        }
        world.round(false);
    }
    let nodes: Vec<NodeId> = world.nodes.keys().copied().collect();
    nodes
        .iter()
        .filter(|node| !world.up(**node))
        .copied()
        .collect::<Vec<_>>()
        .into_iter()
        .for_each(|node| world.restart(node));
    for _ in 0..400 {
        world.round(true);
    }
    world.late.clear();
    let before = world.map();
    for _ in 0..20 {
        world.round(true);
    }
    let map = world.map();
    let stuck: Vec<_> =
        map.groups.values().filter(|group| !group.is_settled() || !group.leaving.is_empty()).collect();
    let real: Vec<_> = stuck.iter().map(|group| &world.groups[&group.id]).collect();
    assert!(stuck.is_empty(), "seed {seed}: {stuck:?}, really {real:?}, of {:?}", map.nodes);
    let quiet = |map: &Map| {
        // Elections go on, and are reported.
        let mut map = map.clone();
        map.groups.values_mut().for_each(|group| Arc::make_mut(group).led = None);
        map.version = 0;
        map
    };
    assert_eq!(quiet(&before), quiet(&map), "seed {seed}: nothing moves any more");
    let mut loads: BTreeMap<NodeId, usize> = BTreeMap::new();
    let takers: BTreeSet<NodeId> =
        map.nodes.values().filter(|node| node.state == NodeState::In).map(|node| node.id).collect();
    for group in map.groups.values() {
        group.wanted.iter().for_each(|node| *loads.entry(*node).or_insert(0) += 1);
        let real = &world.groups[&group.id];
        let holds: Vec<NodeId> = real.holds.keys().copied().collect();
        assert_eq!(holds, group.wanted, "seed {seed}: group {}", group.id);
        let enough = takers.len() >= usize::from(group.replicas);
        assert!(!enough || group.wanted.len() == usize::from(group.replicas), "seed {seed}: {group:?}");
        assert!(!enough || real.leader == Some(group.preferred) || real.term > 1, "seed {seed}: {group:?}");
    }
    let counts: Vec<usize> = takers.iter().map(|node| loads.get(node).copied().unwrap_or(0)).collect();
    if takers.len() > 5 {
        let (least, most) = (counts.iter().min(), counts.iter().max());
        assert!(most.unwrap_or(&0) - least.unwrap_or(&0) <= 1, "seed {seed}: {loads:?}");
    }
    for node in map.nodes.values().filter(|node| node.state == NodeState::Draining) {
        // There was nobody to take what it has.
        assert!(takers.len() < 5, "seed {seed}: {node:?}");
    }
    for (what, count) in world.steps {
        *totals.entry(what).or_insert(0) += count;
    }
}

fn live_all(seeds: std::ops::Range<u64>) {
    let mut totals = BTreeMap::new();
    let count = seeds.clone().count();
    seeds.for_each(|seed| live(seed, &mut totals));
    println!("{totals:?}");
    assert!(
        ["forgotten", "changed", "handed over"].iter().all(|what| totals[what] > 10 * count),
        "{totals:?}"
    );
}

#[test]
fn whatever_dies_whenever_nothing_held_is_lost_and_all_arrives() {
    live_all(0..60);
}

#[test]
#[ignore = "the same for longer: about two minutes"]
fn whatever_dies_whenever_for_longer() {
    live_all(1000..2000);
}
