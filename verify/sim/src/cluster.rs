//! Three or five nodes with replicated groups: clients write and read at whoever leads, while nodes are killed, lose power,
//! stand still and are cut off, disks fail and clocks go wrong.
//!
//! What must hold, checked as it happens:
//! - whatever any node applies at an index, every node does, before and after its deaths;
//! - a term has one leader;
//! - histories are linearizable per key, with the log's order as the witness: an operation that began after another had
//!   ended sees its effect, or a later one. Operations whose end nobody heard of may have happened or not;
//! - a log that no disk has damaged opens; a process ends by itself only after EIO;
//! - once everything is mended, every group answers again and all nodes come to hold the same.

use crate::hunt::Outcome;
use bytes::Bytes;
use replog::{
    Error, GroupId, Index, Members, NodeCore, NodeId, NodeOptions, Options, Pending, Replicas, Role,
    SnapshotSink, SnapshotSource, StateMachine, limits,
};
use runtime::net::Address;
use runtime::sim::{ClockFaults, Crash, DiskFaults, Faults, Pause, World};
use runtime::{fs, time};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

const GROUPS: u64 = 2;
const KEYS: u64 = 4;
const CLIENTS: u64 = 4;
/// Of the cluster's clocks, parts per million: within what the leases allow for (`clock_drift_permille`).
const DRIFT_PPM_MAX: u32 = 4000;
/// In how much virtual time everything must come to pass once nothing is in its way.
const PATIENCE: Duration = Duration::from_secs(120);
/// For an operation; whoever waits longer does not know what became of it.
const CLIENT_PATIENCE: Duration = Duration::from_secs(5);
const EXIT_CODE: i32 = 70;

type Place = (GroupId, u64);

/// What is known of all nodes and clients.
#[derive(Default)]
struct History {
    /// What was applied at an index, by its serial number, by whichever node was first.
    applied: BTreeMap<(GroupId, Index), u64>,
    leaders: BTreeMap<(GroupId, u64), u64>,
    /// The latest effect that an operation that has ended has had or seen, by key.
    floors: BTreeMap<Place, Index>,
    serial: u64,
    operations: u64,
    /// Operations that have ended well, by group; and reads among them.
    ended: BTreeMap<GroupId, u64>,
    reads: u64,
    opened: BTreeMap<u64, u64>,
    states: BTreeMap<(u64, GroupId), Rc<RefCell<Registers>>>,
    failure: Option<String>,
}

type Shared = Rc<RefCell<History>>;

impl History {
    fn fail(&mut self, what: String) {
        self.failure.get_or_insert(what);
    }

    fn applied(&mut self, node: u64, group: GroupId, index: Index, serial: u64) {
        let first = *self.applied.entry((group, index)).or_insert(serial);
        if first != serial {
            self.fail(format!(
                "node {node} applies write {serial} as entry {index} of group {group}, another {first}"
            ));
        }
    }

    fn leads(&mut self, node: u64, group: GroupId, term: u64) {
        let first = *self.leaders.entry((group, term)).or_insert(node);
        if first != node {
            self.fail(format!("nodes {first} and {node} both lead group {group} in term {term}"));
        }
    }

    /// An operation begins; gives what it has to see.
    fn begin(&mut self, place: Place) -> Index {
        self.operations += 1;
        self.floors.get(&place).copied().unwrap_or_default()
    }

    fn wrote(&mut self, place: Place, floor: Index, index: Index, serial: u64) {
        if index <= floor {
            self.fail(format!("write {serial} of {place:?} was put at {index}, behind {floor}, which had ended before it began"));
        }
        if self.applied.get(&(place.0, index)) != Some(&serial) {
            self.fail(format!(
                "write {serial} of {place:?} was acknowledged at {index}, where another one is"
            ));
        }
        self.end(place, index);
    }

    fn read(&mut self, place: Place, floor: Index, seen: Index) {
        if seen < floor {
            self.fail(format!("a read of {place:?} saw entry {seen}, and {floor} had ended before it began"));
        }
        self.reads += 1;
        self.end(place, seen);
    }

    fn end(&mut self, place: Place, index: Index) {
        *self.ended.entry(place.0).or_default() += 1;
        let floor = self.floors.entry(place).or_default();
        *floor = (*floor).max(index);
    }
}

/// The state machine: the last write of each key, and the entry that it was.
#[derive(Clone, Default, PartialEq)]
struct Registers {
    applied: u64,
    values: BTreeMap<u64, (u64, u64)>,
}

impl Registers {
    fn encode(&self) -> Bytes {
        let mut out = self.applied.to_le_bytes().to_vec();
        for (key, (index, serial)) in &self.values {
            for word in [key, index, serial] {
                out.extend_from_slice(&word.to_le_bytes());
            }
        }
        out.into()
    }

    fn decode(bytes: &[u8]) -> Registers {
        let mut words =
            bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")));
        let mut registers = Registers { applied: words.next().expect("a number"), ..Registers::default() };
        while let (Some(key), Some(index), Some(serial)) = (words.next(), words.next(), words.next()) {
            registers.values.insert(key, (index, serial));
        }
        registers
    }
}

struct Machine {
    node: u64,
    group: GroupId,
    file: PathBuf,
    durable: Index,
    state: Rc<RefCell<Registers>>,
    shared: Shared,
}

impl StateMachine for Machine {
    fn durable(&self) -> Index {
        self.durable
    }

    fn apply(&mut self, index: Index, entry: &Bytes) {
        let word = |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().expect("eight bytes"));
        let (key, serial) = (word(0), word(8));
        let mut state = self.state.borrow_mut();
        let mut history = self.shared.borrow_mut();
        if index.0 <= state.applied {
            history.fail(format!(
                "node {} applies {index} of group {} after {}",
                self.node, self.group, state.applied
            ));
        }
        state.applied = index.0;
        state.values.insert(key, (index.0, serial));
        history.applied(self.node, self.group, index, serial);
    }

    fn role(&mut self, role: Role) {
        if role.leads {
            self.shared.borrow_mut().leads(self.node, self.group, role.term.0);
        }
    }

    fn snapshot(&mut self) -> Rc<dyn SnapshotSource> {
        Rc::new(self.state.borrow().encode())
    }

    fn receive_snapshot(&mut self) -> Box<dyn SnapshotSink> {
        Box::new(Sink { file: self.file.clone(), state: self.state.clone(), bytes: Vec::new() })
    }
}

struct Sink {
    file: PathBuf,
    state: Rc<RefCell<Registers>>,
    bytes: Vec<u8>,
}

impl SnapshotSink for Sink {
    fn write(&mut self, bytes: Bytes) -> Pending<'_, ()> {
        self.bytes.extend_from_slice(&bytes);
        Box::pin(async { Ok(()) })
    }

    fn install(self: Box<Self>, index: Index) -> Pending<'static, ()> {
        Box::pin(async move {
            let mut state = Registers::decode(&self.bytes);
            state.applied = index.0; // entries of the log's own may lie between
            fs::write_atomic(&self.file, state.encode()).await?;
            *self.state.borrow_mut() = state;
            Ok(())
        })
    }
}

fn ip(node: u64) -> std::net::IpAddr {
    std::net::Ipv4Addr::new(10, 0, 0, node as u8).into()
}

fn peer_address(node: u64) -> Address {
    std::net::SocketAddr::new(ip(node), 17_001).into()
}

/// The program of one node.
async fn process(shared: Shared, node: u64, size: u64) {
    if let Err(error) = serve(&shared, node, size).await {
        // A disk that says EIO while the log is opened: the process is started again.
        let eio = matches!(&error, Error::Io { .. });
        if !eio {
            shared.borrow_mut().fail(format!("node {node} does not open: {error}"));
        }
        runtime::exit_process(EXIT_CODE);
    }
}

fn io(source: std::io::Error) -> Error {
    Error::Io { what: "the state machine's file", path: "/data".into(), source }
}

async fn serve(shared: &Shared, node: u64, size: u64) -> Result<(), Error> {
    let mut options = NodeOptions::new(NodeId(node), 0xC1);
    options.listen = Some(peer_address(node));
    options.peers = (1..=size).map(|peer| (NodeId(peer), peer_address(peer))).collect();
    let core = NodeCore::bind(&options, 1)?.remove(0);
    fs::create_dir_all("/data").await.map_err(io)?;
    let mut saved = BTreeMap::new();
    for group in (1..=GROUPS).map(GroupId) {
        let state = match fs::read(format!("/data/group-{group}")).await {
            Ok(bytes) => Registers::decode(&bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Registers::default(),
            Err(error) => return Err(io(error)),
        };
        let durable = Index(state.applied);
        let state = Rc::new(RefCell::new(state));
        shared.borrow_mut().states.insert((node, group), state.clone());
        saved.insert(group, (durable, state));
    }
    let make = |group: GroupId| -> Box<dyn StateMachine> {
        let (durable, state) = saved[&group].clone();
        let file = PathBuf::from(format!("/data/group-{group}"));
        Box::new(Machine { node, group, file, durable, state, shared: shared.clone() })
    };
    let mut log = Options::new("/data/wal");
    log.segment_bytes = limits::SEGMENT_BYTES_MIN;
    let replicas = Replicas::open(core, log, make).await?;
    for group in saved.keys() {
        let members = Members::voters((1..=size).map(NodeId));
        replicas.found(*group, members, make(*group))?;
    }
    *shared.borrow_mut().opened.entry(node).or_default() += 1;
    for client in 0..CLIENTS {
        let group = GroupId(1 + client % GROUPS);
        let state = saved[&group].1.clone();
        runtime::spawn(ask(replicas.clone(), shared.clone(), group, state));
    }
    loop {
        time::sleep(Duration::from_millis(300 + runtime::random_u64() % 3000)).await;
        for (group, (_, state)) in &saved {
            let (applied, bytes) = {
                let state = state.borrow();
                (Index(state.applied), state.encode())
            };
            fs::write_atomic(format!("/data/group-{group}"), bytes).await.map_err(io)?;
            // After a restart, what was saved may be ahead of what the log knows to be committed.
            if time::timeout(CLIENT_PATIENCE, replicas.applied(*group, applied)).await.is_ok() {
                replicas.truncate(*group, applied);
            }
        }
    }
}

/// A client at one node: it asks where that leads.
async fn ask(replicas: Replicas, shared: Shared, group: GroupId, state: Rc<RefCell<Registers>>) {
    loop {
        time::sleep(Duration::from_millis(1 + runtime::random_u64() % 30)).await;
        if !replicas.role(group).leads {
            continue;
        }
        let key = runtime::random_u64() % KEYS;
        let place = (group, key);
        let floor = shared.borrow_mut().begin(place);
        if runtime::random_u64() % 10 < 4 {
            if let Ok(Ok(_)) = time::timeout(CLIENT_PATIENCE, replicas.read(group)).await {
                let seen = state.borrow().values.get(&key).map_or(Index(0), |(index, _)| Index(*index));
                shared.borrow_mut().read(place, floor, seen);
            }
            continue;
        }
        let serial = {
            let mut history = shared.borrow_mut();
            history.serial += 1;
            history.serial
        };
        let mut entry = [key.to_le_bytes(), serial.to_le_bytes()].concat();
        entry.resize(16 + (runtime::random_u64() % 500) as usize, serial as u8);
        let Ok(proposal) = replicas.propose(group, entry) else { continue };
        if let Ok(Ok(index)) = time::timeout(CLIENT_PATIENCE, proposal.applied()).await {
            shared.borrow_mut().wrote(place, floor, index, serial);
        }
    }
}

pub(crate) fn run(seed: u64, operations: u64, trace: bool) -> Outcome {
    let faults = Faults { clock: ClockFaults { drift_ppm_max: DRIFT_PPM_MAX }, ..Faults::usual() };
    let mut world = World::new(seed, faults);
    world.print_trace(trace);
    let shared: Shared = Rc::default();
    let size = if world.random_below(3) == 0 { 5 } else { 3 };
    let nodes: Vec<usize> = (1..=size)
        .map(|number| {
            let shared = shared.clone();
            world.node(&format!("n{number}"), ip(number), move || process(shared.clone(), number, size))
        })
        .collect();
    let mut nemesis = Nemesis { world: &mut world, nodes: &nodes, shared: &shared };
    let failure = nemesis.drive(operations).err();
    let history = shared.borrow();
    Outcome {
        trace_hash: world.trace_hash(),
        operations: history.operations,
        counters: world.counters(),
        failure: history.failure.clone().or(failure),
        notes: vec![if size == 5 { "five nodes" } else { "three nodes" }],
    }
}

/// Whoever makes things go wrong, and mends them.
struct Nemesis<'a> {
    world: &'a mut World,
    nodes: &'a [usize],
    shared: &'a Shared,
}

impl Nemesis<'_> {
    fn drive(&mut self, operations: u64) -> Result<(), String> {
        let end = self.world.now() + Duration::from_secs(3600);
        while self.shared.borrow().operations < operations && self.world.now() < end {
            let calm = Duration::from_millis(10 + self.world.random_below(1500));
            self.run(calm)?;
            if self.world.random_below(6) == 0 {
                self.flurry()?;
            } else {
                self.misfortune();
            }
            let after = Duration::from_millis(self.world.random_below(2000));
            self.run(after)?;
            self.mend_some();
        }
        self.last()
    }

    fn run(&mut self, duration: Duration) -> Result<(), String> {
        let shared = self.shared.clone();
        self.world.run_until(duration, || shared.borrow().failure.is_some());
        if let Some(failure) = &self.shared.borrow().failure {
            return Err(failure.clone());
        }
        let counters = self.world.counters();
        let told = counters.get("write failed") + counters.get("sync failed") + counters.get("read failed");
        for node in self.nodes {
            match self.world.exit_code(*node) {
                Some(code) if code != EXIT_CODE || told == 0 => {
                    return Err(format!("node {} ended with {code}; EIO was said {told} times", node + 1));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn any(&self) -> usize {
        self.nodes[self.world.random_below(self.nodes.len() as u64) as usize]
    }

    fn misfortune(&mut self) {
        let (one, other) = (self.any(), self.any());
        match self.world.random_below(14) {
            0 => self.world.crash(one, Crash::Kill),
            1 | 2 => self.world.crash(one, Crash::PowerLoss),
            3 => {
                let steps = self.world.random_below(20);
                self.world.cut_power_after(one, steps);
            }
            4 => self.nodes.iter().for_each(|node| self.world.crash(*node, Crash::PowerLoss)),
            5 if one != other => self.world.partition(one, other),
            6 | 7 => {
                let count = 1 + self.world.random_below(self.nodes.len() as u64 - 1) as usize;
                let first = self.world.random_below(self.nodes.len() as u64) as usize;
                let turned: Vec<usize> =
                    self.nodes.iter().cycle().skip(first).take(self.nodes.len()).copied().collect();
                let (some, others) = turned.split_at(count);
                self.world.partition_groups(some, others);
            }
            8 => self.world.pause(one, Pause::Stop),
            9 => self.world.pause(one, Pause::Suspend),
            10 if one != other => {
                let delay = Duration::from_millis(self.world.random_below(800));
                self.world.delay(one, other, delay);
            }
            11 if one != other => self.world.reset_connections(one, other),
            12 => {
                let by = Duration::from_secs(self.world.random_below(7200));
                let backwards = self.world.random_below(2) == 0;
                self.world.jump_wall_clock(one, by, backwards);
            }
            13 => {
                let disk =
                    DiskFaults { write_error: 200, read_error: 500, sync_error: 100, ..Faults::usual().disk };
                self.world.set_disk_faults(one, disk);
            }
            _ => {}
        }
    }

    /// Elections under way on slow links, while whoever may have voted dies and is back at once.
    fn flurry(&mut self) -> Result<(), String> {
        for (one, other) in
            self.nodes.iter().flat_map(|one| self.nodes.iter().map(move |other| (*one, *other)))
        {
            if one != other {
                let delay = Duration::from_millis(self.world.random_below(250));
                self.world.delay(one, other, delay);
            }
        }
        // Two who can't hear of each other, and one whom both ask for its vote.
        let (one, other, victim) = (self.any(), self.any(), self.any());
        if one != other {
            self.world.partition_groups(&[one], &[other]);
        }
        for _ in 0..10 + self.world.random_below(30) {
            let pause = Duration::from_millis(5 + self.world.random_below(400));
            self.run(pause)?;
            let node = if self.world.random_below(4) == 0 { self.any() } else { victim };
            let how = if self.world.random_below(2) == 0 { Crash::Kill } else { Crash::PowerLoss };
            self.world.crash(node, how);
            self.world.restart(node);
        }
        self.world.heal_all();
        self.nodes.iter().for_each(|node| self.mend(*node));
        Ok(())
    }

    fn mend_some(&mut self) {
        if self.world.random_below(2) == 0 {
            self.world.heal_all();
        }
        for node in self.nodes {
            if self.world.random_below(2) == 0 {
                self.mend(*node);
            }
        }
    }

    fn mend(&mut self, node: usize) {
        self.world.resume(node);
        self.world.set_disk_faults(node, Faults::usual().disk);
        for other in self.nodes {
            self.world.delay(node, *other, Duration::ZERO);
        }
        if !self.world.is_up(node) {
            self.world.restart(node);
        }
    }

    /// Everything is mended: every group answers, and all come to hold the same.
    fn last(&mut self) -> Result<(), String> {
        self.world.heal_all();
        for node in self.nodes {
            self.world.cut_power_after(*node, u64::MAX);
            self.mend(*node);
        }
        let groups = || (1..=GROUPS).map(GroupId);
        let ended = |shared: &Shared, group| shared.borrow().ended.get(&group).copied().unwrap_or(0);
        let before: Vec<u64> = groups().map(|group| ended(self.shared, group)).collect();
        let end = self.world.now() + PATIENCE;
        while groups().zip(&before).any(|(group, before)| ended(self.shared, group) < before + 20) {
            if self.world.now() > end {
                return Err("a group answers no more, though everything is mended".to_owned());
            }
            self.run(Duration::from_millis(100))?;
            self.nodes.iter().for_each(|node| self.mend(*node)); // EIO from before may end one yet
        }
        let end = self.world.now() + PATIENCE;
        loop {
            let floors: Vec<(Place, Index)> =
                self.shared.borrow().floors.iter().map(|(at, to)| (*at, *to)).collect();
            let behind = |node: u64| {
                let history = self.shared.borrow();
                floors.iter().any(|((group, key), floor)| {
                    let state = history.states[&(node, *group)].borrow();
                    state.values.get(key).is_none_or(|(index, _)| index < &floor.0)
                })
            };
            self.run(Duration::from_millis(500))?;
            if !(1..=self.nodes.len() as u64).any(behind) {
                return Ok(());
            }
            if self.world.now() > end {
                return Err("a node never catches up, though everything is mended".to_owned());
            }
        }
    }
}
