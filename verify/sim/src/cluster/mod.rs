//! Three or five nodes with replicated groups: clients write and read at whoever leads, while nodes are killed, lose power,
//! stand still and are cut off, disks fail, fill up and lie, clocks go wrong, members and leaders change.
//!
//! What must hold, checked as it happens:
//! - whatever any node applies at an index, every node does, before and after its deaths, and with the same result;
//! - a term has one leader;
//! - an operation that began after another had ended comes behind it in the log, or sees it;
//! - a log that no disk has damaged opens; a process ends by itself only after EIO.
//!
//! And at the end:
//! - once everything is mended, every group answers again, and all its members come to hold the same;
//! - what the clients were told is linearizable, key by key, for which the log is no witness.
//!
//! Damage that a disk tells nobody of is at one node of a run at most, where it can't cost anything: bits that flip at rest
//! at one voter of three or more (it is repaired from the others, unless both copies of its votes are hit, or the only word
//! of who they are), or writes that are lost and misdirected at a learner. That node alone may refuse its log.
//!
//! The map: [`books`] is what is known of all nodes and clients, [`registers`] the state machine, [`node`] the program of a
//! node and its clients, [`nemesis`] makes things go wrong and mends them, [`elections`] are misfortunes with a plan.

mod books;
mod elections;
mod nemesis;
mod node;
mod registers;

use crate::hunt::{Outcome, Scenario};
use books::Shared;

use nemesis::Nemesis;
use replog::GroupId;
use runtime::sim::{ClockFaults, Faults, World};

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

const GROUPS: u64 = 2;
/// In each group: the last is a counter, the others are registers.
const KEYS: u64 = 3;
/// Clients of a group at each node.
const CLIENTS: u64 = 5;
/// Of the cluster's clocks, parts per million: two of them differ by less than the leases allow for
/// (`clock_drift_permille`).
const DRIFT_PPM_MAX: u32 = 4900;
/// In how much virtual time everything must come to pass once nothing is in its way.
const PATIENCE: Duration = Duration::from_secs(120);
/// For an operation; whoever waits longer does not know what became of it.
const CLIENT_PATIENCE: Duration = Duration::from_secs(5);
const EXIT_CODE: i32 = 70;

type Place = (GroupId, u64);

fn groups() -> impl Iterator<Item = GroupId> {
    (1..=GROUPS).map(GroupId)
}

/// What a run is, by its seed.
struct Plan {
    size: u64,
    /// The first voters of each group.
    voters: BTreeSet<u64>,
    /// And its first learners.
    learners: BTreeSet<u64>,
    /// A change of members leaves so many.
    voters_min: usize,
    /// The node whose bits flip at rest.
    rotting: Option<u64>,
    /// The node whose disk lies, no voter ever.
    lying: Option<u64>,
}

impl Plan {
    fn draw(world: &World) -> Plan {
        let below = |bound| world.random_below(bound);
        let size = if below(3) == 0 { 5 } else { 3 };
        let damage = below(4);
        let lying = (damage == 0 && size == 5).then_some(5);
        let rotting = (damage == 1).then(|| 1 + below(3));
        let first = if size == 5 && (lying.is_some() || below(2) == 0) { 3 } else { size };
        let follow = size > first && (lying.is_some() || below(2) == 0);
        let learners = if follow { (first + 1..=size).collect() } else { BTreeSet::new() };
        let voters_min = if rotting.is_some() { 3 } else { 2 };
        Plan { size, voters: (1..=first).collect(), learners, voters_min, rotting, lying }
    }

    fn may_be_damaged(&self, node: u64) -> bool {
        self.rotting == Some(node) || self.lying == Some(node)
    }
}

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "cluster",
    run,
    kinds: &[
        "process killed",
        "power lost",
        "power lost everywhere",
        "unsynced sectors lost",
        "unsynced names lost",
        "process stopped",
        "machine suspended",
        "cut one way",
        "cut both ways",
        "link delayed",
        "packet slow",
        "packet held",
        "connection reset",
        "wall clock jumped",
        "clock speed changed",
        "write failed",
        "sync failed",
        "read failed",
        "disk full",
        "bit rot",
        "write lost",
        "write misdirected",
        "leadership handed over",
        "a member changed",
        "several members changed at once",
        "snapshot taken over",
        "elections on slow links",
        "a voter dies between two candidates",
        "answers come late, then never",
        "leadership handed over in silence",
        "followers die and are asked for their votes",
    ],
};

fn run(seed: u64, operations: u64, trace: bool) -> Outcome {
    let faults = Faults { clock: ClockFaults { drift_ppm_max: DRIFT_PPM_MAX }, ..Faults::usual() };
    let mut world = World::new(seed, faults);
    world.print_trace(trace);
    let plan = Rc::new(Plan::draw(&world));
    let shared: Shared = Rc::default();
    let nodes: Vec<usize> = (1..=plan.size)
        .map(|number| {
            let (shared, plan) = (shared.clone(), plan.clone());
            let main = move || node::process(shared.clone(), number, plan.clone());
            world.node(&format!("n{number}"), node::ip(number), main)
        })
        .collect();
    let failure = Nemesis::new(&mut world, &nodes, &shared, &plan).drive(operations).err();
    let failure = shared.borrow().failure.clone().or(failure).or_else(|| shared.borrow().unlawful());
    let books = shared.borrow();
    let mut notes = vec![if plan.size == 5 { "five nodes" } else { "three nodes" }];
    notes.extend(books.notes.iter());
    Outcome {
        trace_hash: world.trace_hash(),
        operations: books.operations,
        shape: books.histories.shape(),
        counters: world.counters(),
        did: books.did.clone(),
        failure,
        notes,
    }
}
