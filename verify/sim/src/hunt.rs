//! Runs seeds of a scenario, one after the other on a few threads, and reports.

use histories::Shape;
use runtime::sim::Counters;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What runs in a world, and what must hold.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Takes the seed, the number of operations and whether to print the trace.
    pub(crate) run: fn(u64, u64, bool) -> Outcome,
    /// What has to go wrong in some run of a hunt, as [`Outcome::counters`] or [`Outcome::did`] name it.
    pub(crate) kinds: &'static [&'static str],
}

/// How a run ended.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) trace_hash: u64,
    pub(crate) operations: u64,
    /// What the clients' histories are like, if they were checked.
    pub(crate) shape: Shape,
    /// Faults of machines and network that did happen.
    pub(crate) counters: Counters,
    /// What else went wrong, or was changed, by name.
    pub(crate) did: BTreeMap<&'static str, u64>,
    /// What did not hold.
    pub(crate) failure: Option<String>,
    /// What happened that is neither fault nor failure: "log refused", say.
    pub(crate) notes: Vec<&'static str>,
}

/// Failures after which a hunt ends: the next ones are the same.
const FAILURES_MAX: u64 = 10;

/// Which seeds.
pub(crate) struct Plan {
    pub(crate) from: u64,
    pub(crate) seeds: u64,
    pub(crate) limit: Option<Duration>,
    pub(crate) until_failure: bool,
    pub(crate) operations: u64,
    pub(crate) jobs: usize,
}

#[derive(Default)]
struct Total {
    runs: u64,
    operations: u64,
    failures: u64,
    shape: Shape,
    counters: Counters,
    did: BTreeMap<&'static str, u64>,
    notes: BTreeMap<&'static str, u64>,
}

impl Total {
    fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        self.operations += outcome.operations;
        self.failures += u64::from(outcome.failure.is_some());
        self.shape.add(outcome.shape);
        self.counters.add(&outcome.counters);
        for (what, count) in &outcome.did {
            *self.did.entry(what).or_default() += count;
        }
        for note in &outcome.notes {
            *self.notes.entry(note).or_default() += 1;
        }
    }

    fn print(&self, kinds: &[&str]) {
        println!("    faults that did happen: {}", self.counters);
        if !self.did.is_empty() {
            println!("    and: {}", listed(&self.did));
        }
        println!("    runs: {}", listed(&self.notes));
        let Shape { operations, reads, unknown, contended } = self.shape;
        if operations > 0 {
            let percent = |count: u64| count * 100 / operations;
            println!(
                "    histories: {operations} operations, {} % of them reads, {} % contended, {unknown} ends unknown",
                percent(reads),
                percent(contended)
            );
        }
        let happened = |kind: &str| self.counters.get(kind) > 0 || self.did.contains_key(kind);
        let never: Vec<&str> = kinds.iter().copied().filter(|kind| !happened(kind)).collect();
        if !never.is_empty() {
            println!("    NEVER HAPPENED: {}", never.join(", "));
        }
    }
}

fn listed(counts: &BTreeMap<&'static str, u64>) -> String {
    counts.iter().map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>().join(", ")
}

/// One run; a panic in it is a failure.
fn run(scenario: &Scenario, seed: u64, operations: u64, trace: bool) -> Outcome {
    match std::panic::catch_unwind(AssertUnwindSafe(|| (scenario.run)(seed, operations, trace))) {
        Ok(outcome) => outcome,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
            Outcome { failure: Some(format!("panic: {text}")), ..Outcome::default() }
        }
    }
}

/// Runs a seed twice; `false` if it fails, or if the runs differ.
pub(crate) fn replay(scenario: &Scenario, seed: u64, operations: u64, trace: bool) -> bool {
    let first = run(scenario, seed, operations, trace);
    let second = run(scenario, seed, operations, false);
    println!(
        "{} seed {seed}: trace {:016x}, {} operations",
        scenario.name, first.trace_hash, first.operations
    );
    let mut total = Total::default();
    total.add(&first);
    total.print(&[]);
    let same = first.trace_hash == second.trace_hash && first.operations == second.operations;
    if !same {
        println!("    the second run differed: trace {:016x}", second.trace_hash);
    }
    if let Some(failure) = &first.failure {
        println!("FAILED {} seed {seed}: {failure}", scenario.name);
    }
    same && first.failure.is_none()
}

/// Runs seeds as the plan says; `false` if one failed.
#[allow(clippy::disallowed_methods, reason = "outside of every world: real time and real threads")]
pub(crate) fn hunt(scenario: &Scenario, plan: &Plan) -> bool {
    println!("{}: seeds from {} on, {} operations each", scenario.name, plan.from, plan.operations);
    let begun = std::time::Instant::now();
    let (next, stop, total) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::new(Total::default()));
    std::thread::scope(|scope| {
        for _ in 0..plan.jobs {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let late = plan.limit.is_some_and(|limit| begun.elapsed() >= limit);
                    if index >= plan.seeds || late || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let seed = plan.from + index;
                    let outcome = run(scenario, seed, plan.operations, false);
                    let mut total = total.lock().expect("no panic while it is held");
                    total.add(&outcome);
                    if let Some(failure) = outcome.failure {
                        println!("FAILED {} seed {seed}: {failure}", scenario.name);
                        println!(
                            "    again: cargo run -p sim -- --scenario {} --operations {} --seed {seed}",
                            scenario.name, plan.operations
                        );
                        let enough = plan.until_failure || total.failures >= FAILURES_MAX;
                        stop.fetch_or(enough, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let total = total.into_inner().expect("no panic while it was held");
    println!(
        "{}: {} runs, {} operations, {} failures in {:.1} s",
        scenario.name,
        total.runs,
        total.operations,
        total.failures,
        begun.elapsed().as_secs_f64()
    );
    total.print(scenario.kinds);
    total.failures == 0
}
