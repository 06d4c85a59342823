//! Whoever makes things go wrong, and mends them.

use super::books::{Shared, Wish};
use super::{DRIFT_PPM_MAX, EXIT_CODE, PATIENCE, Place, Plan, elections, groups, node};
use replog::{GroupId, Index};
use runtime::sim::{Crash, DiskFaults, Faults, Pause, World};
use std::path::PathBuf;
use std::time::Duration;

/// The longest run, of virtual time.
const RUN_MAX: Duration = Duration::from_secs(3600);
/// Operations of each group that end once everything is mended.
const ANSWERED_MIN: u64 = 20;

type Misfortune = fn(&mut Nemesis<'_>) -> Result<(), String>;

/// Those of one kind have one line. Each run has about half of them.
const MISFORTUNES: [Misfortune; 23] = [
    |nemesis| nemesis.one(|world, node| world.crash(node, Crash::Kill)),
    |nemesis| nemesis.one(|world, node| world.crash(node, Crash::PowerLoss)),
    |nemesis| {
        nemesis.one(|world, node| {
            let steps = world.random_below(20);
            world.cut_power_after(node, steps);
        })
    },
    |nemesis| nemesis.power_lost_everywhere(),
    |nemesis| nemesis.one(|world, node| world.pause(node, Pause::Stop)),
    |nemesis| nemesis.one(|world, node| world.pause(node, Pause::Suspend)),
    |nemesis| nemesis.cut_one_way(),
    |nemesis| nemesis.cut_both_ways(),
    |nemesis| {
        nemesis.two(|world, one, other| {
            let delay = Duration::from_millis(world.random_below(800));
            world.delay(one, other, delay);
        })
    },
    |nemesis| nemesis.two(World::reset_connections),
    |nemesis| {
        nemesis.one(|world, node| {
            let by = Duration::from_secs(world.random_below(7200));
            let backwards = world.random_below(2) == 0;
            world.jump_wall_clock(node, by, backwards);
        })
    },
    |nemesis| {
        nemesis.one(|world, node| {
            let ppm = world.random_below(2 * u64::from(DRIFT_PPM_MAX) + 1) as i64 - i64::from(DRIFT_PPM_MAX);
            world.set_drift(node, ppm);
        })
    },
    |nemesis| nemesis.failing_disk(),
    |nemesis| nemesis.full_disk(),
    |nemesis| nemesis.bits_flip_at_rest(),
    |nemesis| nemesis.lying_disk(),
    |nemesis| nemesis.wish(Wish::Transfer),
    |nemesis| nemesis.wish(Wish::Change),
    elections::on_slow_links,
    elections::two_candidates_of_one_term,
    elections::late_answers,
    elections::silent_transfer,
    elections::forgetful_follower,
];

pub(super) struct Nemesis<'a> {
    pub(super) world: &'a mut World,
    pub(super) nodes: &'a [usize],
    pub(super) shared: &'a Shared,
    pub(super) plan: &'a Plan,
    enabled: Vec<Misfortune>,
}

impl<'a> Nemesis<'a> {
    pub(super) fn new(
        world: &'a mut World,
        nodes: &'a [usize],
        shared: &'a Shared,
        plan: &'a Plan,
    ) -> Nemesis<'a> {
        let mut enabled: Vec<Misfortune> =
            MISFORTUNES.into_iter().filter(|_| world.random_below(2) == 0).collect();
        enabled.push(|nemesis| nemesis.one(|world, node| world.crash(node, Crash::PowerLoss)));
        if plan.size == 5 {
            enabled.push(|nemesis| nemesis.wish(Wish::Change));
        }
        if plan.rotting.is_some() {
            enabled.push(|nemesis| nemesis.bits_flip_at_rest());
        }
        if plan.lying.is_some() {
            enabled.push(|nemesis| nemesis.lying_disk());
        }
        let nemesis = Nemesis { world, nodes, shared, plan, enabled };
        for node in nodes {
            nemesis.world.set_disk_faults(*node, nemesis.disk_of(*node));
        }
        nemesis
    }

    pub(super) fn drive(&mut self, operations: u64) -> Result<(), String> {
        let end = self.world.now() + RUN_MAX;
        while self.shared.borrow().operations < operations && self.world.now() < end {
            self.run_up_to_ms(500)?;
            let misfortune = self.enabled[self.world.random_below(self.enabled.len() as u64) as usize];
            misfortune(self)?;
            self.run_up_to_ms(1200)?;
            self.mend_some();
        }
        self.last()
    }

    // Time passes.

    pub(super) fn run_up_to_ms(&mut self, ms: u64) -> Result<(), String> {
        let duration = Duration::from_millis(self.world.random_below(ms));
        self.run(duration)
    }

    pub(super) fn run(&mut self, duration: Duration) -> Result<(), String> {
        let shared = self.shared.clone();
        self.world.run_until(duration, || shared.borrow().failure.is_some());
        self.check()
    }

    /// Runs until `done` says so, or for `limit`.
    pub(super) fn run_until(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&World) -> bool,
    ) -> Result<(), String> {
        let end = self.world.now() + limit;
        while self.world.now() < end && !done(self.world) && self.world.step() {}
        self.check()
    }

    fn check(&mut self) -> Result<(), String> {
        let books = self.shared.borrow();
        if let Some(failure) = &books.failure {
            return Err(failure.clone());
        }
        for (number, why) in &books.refused {
            let damage = self.world.damage(self.of(*number));
            let both = damage.iter().any(|damage| damage.path.ends_with("VOTES"));
            let may_refuse = both || books.untold.contains(number) || self.plan.lying == Some(*number);
            if damage.is_empty() || !may_refuse {
                return Err(format!("node {number} refuses its log, which could be repaired: {why}"));
            }
        }
        let counters = self.world.counters();
        let told = counters.get("write failed") + counters.get("sync failed") + counters.get("read failed");
        for number in 1..=self.plan.size {
            let reason =
                told > 0 || books.not_opened.contains(&number) || books.refused.contains_key(&number);
            match self.world.exit_code(self.of(number)) {
                Some(code) if code != EXIT_CODE || !reason => {
                    return Err(format!("node {number} ended with {code}, and no disk has said EIO"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    // Who.

    pub(super) fn of(&self, number: u64) -> usize {
        self.nodes[number as usize - 1]
    }

    pub(super) fn any(&self) -> usize {
        self.nodes[self.world.random_below(self.nodes.len() as u64) as usize]
    }

    /// All nodes, in a random order.
    pub(super) fn shuffled(&self) -> Vec<usize> {
        let mut nodes = self.nodes.to_vec();
        for at in (1..nodes.len()).rev() {
            nodes.swap(at, self.world.random_below(at as u64 + 1) as usize);
        }
        nodes
    }

    /// A group and who led it last.
    pub(super) fn leader(&self) -> Option<(GroupId, usize)> {
        let all: Vec<GroupId> = groups().collect();
        let group = all[self.world.random_below(all.len() as u64) as usize];
        Some((group, self.of(self.shared.borrow().leader(group)?)))
    }

    pub(super) fn others(&self, than: usize) -> Vec<usize> {
        self.nodes.iter().copied().filter(|node| *node != than).collect()
    }

    // Misfortunes.

    fn one(&mut self, what: impl FnOnce(&mut World, usize)) -> Result<(), String> {
        // Leaders have more to lose.
        let leader = if self.world.random_below(2) == 0 { self.leader() } else { None };
        let node = leader.map_or_else(|| self.any(), |(_, node)| node);
        what(self.world, node);
        Ok(())
    }

    fn two(&mut self, what: impl FnOnce(&mut World, usize, usize)) -> Result<(), String> {
        let nodes = self.shuffled();
        what(self.world, nodes[0], nodes[1]);
        Ok(())
    }

    pub(super) fn did(&mut self, what: &'static str) {
        self.shared.borrow_mut().did(what);
    }

    pub(super) fn wish(&mut self, wish: Wish) -> Result<(), String> {
        if let Some((group, _)) = self.leader() {
            self.wish_of(group, wish);
        }
        Ok(())
    }

    pub(super) fn wish_of(&mut self, group: GroupId, wish: Wish) {
        self.shared.borrow_mut().wishes.insert(group, wish);
    }

    fn power_lost_everywhere(&mut self) -> Result<(), String> {
        self.nodes.iter().for_each(|node| self.world.crash(*node, Crash::PowerLoss));
        self.did("power lost everywhere");
        Ok(())
    }

    fn cut_one_way(&mut self) -> Result<(), String> {
        let nodes = self.shuffled();
        let count = 1 + self.world.random_below(nodes.len() as u64 - 1) as usize;
        let (to, inwards) = (&nodes[1..=count], self.world.random_below(2) == 0);
        for other in to {
            let (from, to) = if inwards { (*other, nodes[0]) } else { (nodes[0], *other) };
            self.world.partition(from, to);
        }
        self.did("cut one way");
        Ok(())
    }

    fn cut_both_ways(&mut self) -> Result<(), String> {
        let nodes = self.shuffled();
        let count = 1 + self.world.random_below(nodes.len() as u64 - 1) as usize;
        let (some, others) = nodes.split_at(count);
        self.world.partition_groups(some, others);
        self.did("cut both ways");
        Ok(())
    }

    fn failing_disk(&mut self) -> Result<(), String> {
        let node = self.any();
        let usual = self.disk_of(node);
        let disk = DiskFaults { write_error: 100, read_error: 20, sync_error: 50, ..usual };
        self.world.set_disk_faults(node, disk);
        self.run_up_to_ms(1000)?;
        if self.world.random_below(2) == 0 {
            // It is met when the log is read, too.
            self.world.crash(node, Crash::Kill);
            self.world.restart(node);
        }
        Ok(())
    }

    fn full_disk(&mut self) -> Result<(), String> {
        let node = self.any();
        let room = if self.world.random_below(2) == 0 { 0 } else { self.world.random_below(300_000) };
        let files = self.world.files(node);
        let used: u64 = files.iter().filter_map(|file| self.world.file_len(node, file)).sum();
        let disk = DiskFaults { capacity_bytes: used + room, ..self.disk_of(node) };
        self.world.set_disk_faults(node, disk);
        self.run_up_to_ms(3000)
    }

    fn bits_flip_at_rest(&mut self) -> Result<(), String> {
        let Some(number) = self.plan.rotting else { return Ok(()) };
        let node = self.of(number);
        let how = if self.world.random_below(2) == 0 { Crash::Kill } else { Crash::PowerLoss };
        self.world.crash(node, how);
        let files: Vec<PathBuf> =
            self.world.files(node).into_iter().filter(|file| file.starts_with(node::LOG)).collect();
        for _ in 0..=self.world.random_below(3) {
            let at = self.world.random_below(files.len().max(1) as u64) as usize;
            let Some(file) = files.get(at) else { continue };
            let len = self.world.file_len(node, file).unwrap_or_default();
            // The beginning of a segment is likelier to be in use.
            let offset = self.world.random_below(len.max(1)).min(self.world.random_below(len.max(1)));
            self.world.flip_bit(node, file, offset);
        }
        self.world.restart(node);
        self.run_up_to_ms(1000)
    }

    /// The node whose disk lies reads what is left.
    fn lying_disk(&mut self) -> Result<(), String> {
        if let Some(number) = self.plan.lying {
            let node = self.of(number);
            self.world.crash(node, Crash::PowerLoss);
            self.world.restart(node);
        }
        Ok(())
    }

    /// A node's disk when nothing is wrong with it.
    fn disk_of(&self, node: usize) -> DiskFaults {
        let usual = Faults::usual().disk;
        match self.plan.lying {
            Some(number) if self.of(number) == node => {
                DiskFaults { lost_write: 100, misdirected_write: 100, ..usual }
            }
            _ => usual,
        }
    }

    // Mending.

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
        self.world.set_disk_faults(node, self.disk_of(node));
        for other in self.nodes {
            self.world.delay(node, *other, Duration::ZERO);
        }
        if !self.world.is_up(node) {
            self.shared.borrow_mut().not_opened.remove(&(node as u64 + 1));
            self.world.restart(node);
        }
    }

    pub(super) fn mend_all(&mut self) {
        self.world.heal_all();
        self.nodes.iter().for_each(|node| self.mend(*node));
    }

    /// Everything is mended: every group answers, and all its members come to hold the same.
    fn last(&mut self) -> Result<(), String> {
        for node in self.nodes {
            self.world.cut_power_after(*node, u64::MAX);
        }
        self.mend_all();
        self.shared.borrow_mut().wishes.clear();
        let ended = |shared: &Shared, group| shared.borrow().ended.get(&group).copied().unwrap_or(0);
        let before: Vec<u64> = groups().map(|group| ended(self.shared, group)).collect();
        let end = self.world.now() + PATIENCE;
        while groups().zip(&before).any(|(group, before)| ended(self.shared, group) < before + ANSWERED_MIN) {
            if self.world.now() > end {
                return Err("a group answers no more, though everything is mended".to_owned());
            }
            self.run(Duration::from_millis(100))?;
            self.mend_all(); // EIO from before may end one yet
        }
        let end = self.world.now() + PATIENCE;
        let floors: Vec<(Place, Index)> =
            self.shared.borrow().floors.iter().map(|(at, to)| (*at, *to)).collect();
        loop {
            self.run(Duration::from_millis(500))?;
            let behind = floors.iter().find_map(|(place, floor)| self.behind(*place, *floor));
            let Some(node) = behind else { break };
            if self.world.now() > end {
                return Err(format!("node {node} never catches up, though everything is mended"));
            }
        }
        self.compare()
    }

    /// A member of the group that has not heard of `floor` yet. The node whose disk lies, and one that has refused its log,
    /// may never do.
    fn behind(&self, (group, key): Place, floor: Index) -> Option<u64> {
        let books = self.shared.borrow();
        let Some((_, members)) = books.members.get(&group) else { return Some(0) };
        let away = |node: &u64| self.plan.lying == Some(*node) || books.refused.contains_key(node);
        let mut members = members.all().into_iter().map(|node| node.0).filter(|node| !away(node));
        let has = |node: u64| {
            let state = books.states.get(&(node, group))?.borrow();
            (state.seen(key) >= floor).then_some(())
        };
        members.find(|node| has(*node).is_none())
    }

    /// Those that have applied as much as another hold the same.
    fn compare(&self) -> Result<(), String> {
        let books = self.shared.borrow();
        for group in groups() {
            let states =
                || (1..=self.plan.size).filter_map(|node| Some((node, books.states.get(&(node, group))?)));
            for (node, state) in states() {
                let state = state.borrow();
                let differs = states().find(|(_, other)| {
                    let other = other.borrow();
                    other.applied == state.applied && other.values != state.values
                });
                if let Some((other, _)) = differs {
                    return Err(format!(
                        "nodes {node} and {other} have both applied {} of group {group}, and hold different things",
                        state.applied
                    ));
                }
            }
        }
        Ok(())
    }
}
