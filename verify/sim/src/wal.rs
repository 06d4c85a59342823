//! One node with one log: clients propose, the process is killed, the power goes, the disk fails, fills up, lies.
//!
//! What must hold, at every opening of the log:
//! - every entry that was committed is there and is what was proposed, unless it was truncated;
//! - every other entry that is there was proposed, at that very place; once it was seen it stays;
//! - the log opens, unless the disk has damaged something in silence (or says itself that it can't be read, or is full);
//! - the process ends by itself only after the disk has said EIO, with code 70;
//! - once the faults are over, entries are committed again.
//!
//! One exception, which docs/formats/wal.md names: a disk that confirmed the log's last batch and did not write it (a lost or
//! misdirected write) looks like a torn tail to one node alone; the seal closes that window.

use crate::hunt::{Outcome, Scenario};
use bytes::Bytes;
use replog::{Error, GroupId, Index, Log, Options, limits};
use runtime::sim::{Crash, DiskFaults, Faults, NodeId, World, world_now};
use runtime::time;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

const GROUPS: u64 = 3;
const CLIENTS: u64 = 6;
/// In how much virtual time everything must come to pass once nothing is in its way.
const PATIENCE: Duration = Duration::from_secs(120);
/// `fatal.rs`: the process can't go on.
const EXIT_CODE: i32 = 70;
/// Room enough for all that a run writes.
const ROOMY: u64 = 1 << 30;

/// What the clients know, outside of the simulated machine.
#[derive(Default)]
struct History {
    groups: BTreeMap<GroupId, Group>,
    serial: Cell<u64>,
    operations: u64,
    committed: u64,
    failure: Option<String>,
    /// The log would not open.
    refused: Option<Error>,
    /// Openings that went well.
    opened: u64,
    /// What of it is that committed entries are gone.
    loss: Option<Loss>,
}

/// Committed entries that an opening did not find.
#[derive(Clone, Copy)]
struct Loss {
    /// When the first of them was committed, world time.
    since: Duration,
    /// Whether only the ends of groups are gone.
    at_the_end: bool,
}

#[derive(Default)]
struct Group {
    /// What was proposed and may be in the log, by index.
    proposed: BTreeMap<u64, Proposed>,
    committed: u64,
    truncated: u64,
}

#[derive(Clone, Copy)]
struct Proposed {
    serial: u64,
    len: usize,
    /// When its commit was told of, if it was; world time.
    committed_at: Option<Duration>,
}

impl Proposed {
    fn bytes(self) -> Bytes {
        let mut bytes = vec![0; self.len];
        for (at, chunk) in bytes.chunks_mut(8).enumerate() {
            let word = self.serial.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(at as u64).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        bytes.into()
    }
}

type Shared = Rc<RefCell<History>>;

/// What may go wrong in a run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Character {
    /// Crashes, losses of power, slow and short transfers.
    Rough,
    /// Besides, the disk fails and says so, and is full at times.
    Failing,
    /// The disk's bits flip.
    Rotting,
    /// The disk confirms what it has not done.
    Lying,
}

impl Character {
    fn disk(self, world: &World) -> DiskFaults {
        let usual = Faults::usual().disk;
        match self {
            Character::Rough => usual,
            Character::Failing => DiskFaults {
                read_error: 3000,
                write_error: 500,
                // Mostly those of the folder, as batches are written durably.
                sync_error: if world.random_below(4) == 0 { 10 } else { 300 },
                capacity_bytes: if world.random_below(3) == 0 { 2_000_000 } else { ROOMY },
                ..usual
            },
            Character::Rotting => DiskFaults { bit_rot_every: Some(Duration::from_millis(200)), ..usual },
            Character::Lying => DiskFaults { lost_write: 300, misdirected_write: 300, ..usual },
        }
    }
}

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "wal",
    run,
    kinds: &[
        "process killed",
        "power lost",
        "unsynced sectors lost",
        "unsynced names lost",
        "sync slow",
        "transfer short",
        "write failed",
        "sync failed",
        "read failed",
        "disk full",
        "bit rot",
        "write lost",
        "write misdirected",
    ],
};

fn run(seed: u64, operations: u64, trace: bool) -> Outcome {
    let mut world = World::new(seed, Faults::usual());
    world.print_trace(trace);
    let shared: Shared = Rc::default();
    for group in 0..GROUPS {
        shared.borrow_mut().groups.insert(GroupId(group), Group::default());
    }
    let character = match seed % 4 {
        0 => Character::Rough,
        1 => Character::Failing,
        2 => Character::Rotting,
        _ => Character::Lying,
    };
    let node = {
        let shared = shared.clone();
        world.node("n1", "10.0.0.1".parse().expect("an address"), move || process(shared.clone()))
    };
    let mut drive = Drive { world: &mut world, node, shared: &shared, character, notes: Vec::new() };
    let mut failure = drive.drive(operations).err();
    if failure.is_some() && drive.disk_lied_at_the_end() {
        drive.notes.push("a lying disk's last batch was lost");
        failure = None;
        shared.borrow_mut().failure = None;
    }
    let notes = std::mem::take(&mut drive.notes);
    let history = shared.borrow();
    Outcome {
        trace_hash: world.trace_hash(),
        operations: history.operations,
        counters: world.counters(),
        failure: history.failure.clone().or(failure),
        notes,
        ..Outcome::default()
    }
}

/// Whoever pulls the plugs.
struct Drive<'a> {
    world: &'a mut World,
    node: NodeId,
    shared: &'a Shared,
    character: Character,
    notes: Vec<&'static str>,
}

impl Drive<'_> {
    fn drive(&mut self, operations: u64) -> Result<(), String> {
        while self.shared.borrow().operations < operations {
            let faults = self.character.disk(self.world);
            self.world.set_disk_faults(self.node, faults);
            let until = self.shared.borrow().operations + 1 + self.world.random_below(200);
            let shared = self.shared.clone();
            let ended = Duration::from_millis(1 + self.world.random_below(3000));
            self.world.run_until(ended, || {
                let history = shared.borrow();
                history.operations >= until || history.failure.is_some() || history.refused.is_some()
            });
            self.check()?;
            if self.refused()? {
                return Ok(());
            }
            self.misfortune();
            if !self.world.is_up(self.node) && !self.start_again()? {
                return Ok(());
            }
        }
        self.last()
    }

    /// Whether all that is lost is the log's end, committed after the disk's last lie: the exception above.
    fn disk_lied_at_the_end(&self) -> bool {
        let Some(loss) = self.shared.borrow().loss else { return false };
        let lie = self.world.damage(self.node).into_iter().rev().find(|damage| damage.kind != "bit rot");
        loss.at_the_end && lie.is_some_and(|lie| lie.at <= loss.since)
    }

    fn check(&self) -> Result<(), String> {
        let history = self.shared.borrow();
        if let Some(failure) = &history.failure {
            return Err(failure.clone());
        }
        drop(history);
        if let Some(code) = self.world.exit_code(self.node) {
            let counters = self.world.counters();
            let told =
                counters.get("write failed") + counters.get("sync failed") + counters.get("read failed");
            if code != EXIT_CODE || told == 0 {
                return Err(format!("the process ended with {code}, and the disk has failed {told} times"));
            }
        }
        Ok(())
    }

    fn misfortune(&mut self) {
        match self.world.random_below(6) {
            0 => self.world.crash(self.node, Crash::Kill),
            1 | 2 => self.world.crash(self.node, Crash::PowerLoss),
            3 | 4 => {
                let steps = self.world.random_below(40);
                self.world.cut_power_after(self.node, steps);
                let end = self.world.now() + Duration::from_secs(5);
                while self.world.is_up(self.node) && self.world.now() < end && self.world.step() {}
            }
            _ => {}
        }
    }

    /// Starts the process until the log opens; `false` when it refuses, with reason.
    fn start_again(&mut self) -> Result<bool, String> {
        for attempt in 0.. {
            // Whoever reads a disk that fails gets another.
            if attempt > 0 {
                self.calm();
            }
            let before = self.shared.borrow().opened;
            self.shared.borrow_mut().refused = None;
            // One that has stopped itself leaves behind what was not synced, and the next takes it for what there is.
            let odds = if self.world.exit_code(self.node).is_some() { 2 } else { 8 };
            self.world.restart(self.node);
            if self.world.random_below(odds) == 0 {
                let steps = self.world.random_below(if odds == 2 { 150 } else { 30 });
                self.world.cut_power_after(self.node, steps);
            }
            let shared = self.shared.clone();
            let end = self.world.now() + PATIENCE;
            loop {
                let history = shared.borrow();
                if history.opened > before || history.refused.is_some() || history.failure.is_some() {
                    break;
                }
                drop(history);
                if !self.world.is_up(self.node) {
                    break;
                }
                if self.world.now() > end || !self.world.step() {
                    return Err("the log neither opens nor refuses".to_owned());
                }
            }
            self.check()?;
            if self.refused()? {
                return Ok(false);
            }
            if self.world.is_up(self.node) && self.shared.borrow().opened > before {
                return Ok(true);
            }
            if self.world.is_up(self.node) {
                self.world.crash(self.node, Crash::Kill);
            }
        }
        unreachable!("it goes on until it returns")
    }

    /// Whether the log refused for damage, which ends the run; an error if it had no reason to.
    fn refused(&mut self) -> Result<bool, String> {
        let Some(error) = self.shared.borrow_mut().refused.take() else { return Ok(false) };
        if !self.world.damage(self.node).is_empty() {
            self.notes.push("refused a damaged log");
            return Ok(true);
        }
        let counters = self.world.counters();
        let told = |name| counters.get(name) > 0;
        match &error {
            Error::Io { .. } if told("read failed") || told("write failed") || told("sync failed") => {}
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {}
            _ => return Err(format!("the log is refused though nothing was damaged: {error}")),
        }
        self.notes.push("opened at the second try");
        // The process hangs in its refusal.
        self.world.crash(self.node, Crash::Kill);
        self.calm();
        Ok(false)
    }

    /// The disk is healthy from now on.
    fn calm(&mut self) {
        self.world.set_disk_faults(self.node, DiskFaults { capacity_bytes: ROOMY, ..DiskFaults::default() });
    }

    /// Without further faults the log goes on, and survives the last loss of power.
    fn last(&mut self) -> Result<(), String> {
        self.calm();
        let mut told_before = true;
        let lively = loop {
            if !self.world.is_up(self.node) && !self.start_again()? {
                return Ok(());
            }
            self.world.cut_power_after(self.node, u64::MAX);
            let before = self.shared.borrow().committed;
            let shared = self.shared.clone();
            let lively = self.world.run_until(PATIENCE, || {
                let history = shared.borrow();
                history.committed > before + 20 || history.failure.is_some() || history.refused.is_some()
            });
            self.check()?;
            if self.refused()? {
                return Ok(());
            }
            if self.world.is_up(self.node) {
                break lively;
            }
            // EIO from before may end it yet, once.
            if !std::mem::take(&mut told_before) {
                return Err("the process ended on a healthy disk".to_owned());
            }
        };
        if !lively {
            return Err("nothing is committed any more on a healthy disk".to_owned());
        }
        self.world.crash(self.node, Crash::PowerLoss);
        self.start_again()?;
        self.notes.push("came to its end");
        Ok(())
    }
}

/// The program on the simulated machine.
async fn process(shared: Shared) {
    loop {
        let mut options = Options::new("/data/wal");
        options.segment_bytes = limits::SEGMENT_BYTES_MIN;
        let (log, recovered) = match Log::open(options).await {
            Ok(opened) => opened,
            Err(error) => {
                shared.borrow_mut().refused = Some(error);
                return std::future::pending().await;
            }
        };
        let held = shared.borrow_mut().opened(&log, recovered);
        if let Err(failure) = held {
            shared.borrow_mut().failure = Some(failure);
            return std::future::pending().await;
        }
        for client in 0..CLIENTS {
            runtime::spawn(propose(log.clone(), shared.clone(), GroupId(client % GROUPS)));
        }
        time::sleep(Duration::from_millis(500 + runtime::random_u64() % 5000)).await;
        if log.close().await.is_err() {
            // Read-only at its end: what was not committed is lost, as it said.
            time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn propose(log: Log, shared: Shared, group: GroupId) {
    loop {
        let large = runtime::random_u64().is_multiple_of(20);
        let len = (runtime::random_u64() % if large { 100_000 } else { 600 }) as usize;
        if log.room_for(len).await.is_err() {
            return;
        }
        let proposed = shared.borrow().next(len);
        match log.propose(group, proposed.bytes()) {
            Ok(index) => {
                shared.borrow_mut().proposed(group, index, proposed);
                if runtime::random_u64().is_multiple_of(4) {
                    continue; // and not wait
                }
                match log.wait_committed(group, index).await {
                    Ok(()) => shared.borrow_mut().committed(group, index),
                    Err(_) => return,
                }
                if runtime::random_u64().is_multiple_of(30) {
                    let through = Index(index.0.saturating_sub(runtime::random_u64() % 40));
                    shared.borrow_mut().truncated(group, through);
                    log.truncate(group, through);
                }
            }
            Err(Error::Full | Error::ReadOnly { .. }) => time::sleep(Duration::from_millis(20)).await,
            Err(Error::Closed) => return,
            Err(error) => {
                shared.borrow_mut().failure = Some(format!("an entry of {len} bytes was refused: {error}"));
                return;
            }
        }
        if runtime::random_u64().is_multiple_of(8) {
            time::sleep(Duration::from_millis(runtime::random_u64() % 200)).await;
        }
    }
}

impl History {
    fn next(&self, len: usize) -> Proposed {
        self.serial.set(self.serial.get() + 1);
        Proposed { serial: self.serial.get(), len, committed_at: None }
    }

    fn group(&mut self, group: GroupId) -> &mut Group {
        self.groups.get_mut(&group).expect("a group of this run")
    }

    fn proposed(&mut self, group: GroupId, index: Index, proposed: Proposed) {
        self.operations += 1;
        let entries = &mut self.group(group).proposed;
        let last = entries.last_key_value().map(|(index, _)| *index);
        if last.is_some_and(|last| index.0 != last + 1) {
            self.failure = Some(format!("entry {index} of group {group} was given out after {last:?}"));
            return;
        }
        entries.insert(index.0, proposed);
    }

    fn committed(&mut self, group: GroupId, index: Index) {
        self.committed += 1;
        let now = world_now();
        let group = self.group(group);
        for (_, proposed) in group.proposed.range_mut(group.committed.min(index.0) + 1..=index.0) {
            proposed.committed_at.get_or_insert(now);
        }
        group.committed = group.committed.max(index.0);
    }

    fn truncated(&mut self, group: GroupId, through: Index) {
        let group = self.group(group);
        group.truncated = group.truncated.max(through.0);
    }

    /// Compares what the log has with what it must have.
    fn opened(&mut self, log: &Log, mut recovered: replog::Recovered) -> Result<(), String> {
        let mut failure = None;
        let now = world_now();
        for (id, group) in &mut self.groups {
            let entries: BTreeMap<u64, Bytes> =
                recovered.take(*id).into_iter().map(|(index, bytes)| (index.0, bytes)).collect();
            let gone: Vec<u64> = (group.truncated + 1..=group.committed)
                .filter(|index| !entries.contains_key(index))
                .collect();
            if let Some(first) = gone.first() {
                let last = log.last(*id).0;
                let since = group.proposed.get(first).and_then(|proposed| proposed.committed_at);
                let before = self.loss.unwrap_or(Loss { since: Duration::MAX, at_the_end: true });
                self.loss = Some(Loss {
                    since: before.since.min(since.unwrap_or_default()),
                    at_the_end: before.at_the_end && *first > last,
                });
                failure.get_or_insert(format!(
                    "entry {first} of group {id} was committed at {since:?} and is lost; committed to {}, truncated to {}, \
                     the log ends at {last}",
                    group.committed, group.truncated
                ));
                continue;
            }
            for (index, bytes) in &entries {
                let Some(proposed) = group.proposed.get(index) else {
                    return Err(format!("entry {index} of group {id} was never proposed"));
                };
                if proposed.bytes() != *bytes {
                    return Err(format!("entry {index} of group {id} is not what was proposed"));
                }
            }
            // What is there was seen, and stays; what is not there never comes back.
            let last = log.last(*id).0;
            if last < group.committed {
                return Err(format!(
                    "group {id} goes on behind {last}, and {} was committed",
                    group.committed
                ));
            }
            group.proposed.retain(|index, _| *index <= last);
            group.proposed.values_mut().for_each(|proposed| {
                proposed.committed_at.get_or_insert(now);
            });
            group.committed = last;
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        if !recovered.is_empty() {
            return Err("the log has entries of a group that nobody proposed to".to_owned());
        }
        self.opened += 1;
        Ok(())
    }
}
