//! Whether a history has an order that one copy could have worked through.
//!
//! Wing and Gong (Testing and Verifying Concurrent Objects, 1993): go on from each state with each operation that may come
//! next, which is one that began before any other that is left has to have taken effect. Lowe (Testing for Linearizability,
//! 2017): remember the configurations (what is placed, and the state) that came to nothing.
//!
//! Two steps are taken without a choice, as nothing is lost by them: an operation that only looks, may come next and is
//! answered as it was; and of several open operations that ask the same, the one that began first.

use crate::unknown::{Step, steps};
use crate::{Answer, Call, INITIAL, Operation};
use std::collections::HashSet;
use std::fmt;

/// Configurations that are looked at, at most, for one key. Beyond, the history counts as too hard.
pub const CONFIGURATIONS_MAX: usize = 2_000_000;

/// Why a history is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// There is no such order.
    Impossible {
        /// How many operations can be placed at most, of how many.
        placed: usize,
        /// All that have to be.
        of: usize,
        /// What the key holds after those.
        state: u64,
        /// What may come next then, and is answered otherwise.
        next: Vec<(Call, Option<Answer>)>,
    },
    /// Not decided within [`CONFIGURATIONS_MAX`].
    TooHard {
        /// How many operations it has.
        operations: usize,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Impossible { placed, of, state, next } => {
                write!(
                    f,
                    "{placed} of {of} operations have an order, then the key holds {state}, and next come only "
                )?;
                for (index, (call, answer)) in next.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    match answer {
                        Some(answer) => write!(f, "{separator}{call:?} answered {answer:?}")?,
                        None => write!(f, "{separator}{call:?} with its end unknown")?,
                    }
                }
                Ok(())
            }
            Violation::TooHard { operations } => {
                write!(f, "{operations} operations, not decided within {CONFIGURATIONS_MAX} configurations")
            }
        }
    }
}

/// Checks the history of one key.
///
/// # Errors
/// When it is not linearizable, or too hard to decide.
pub fn check(history: &[Operation]) -> Result<(), Violation> {
    let (due, open): (Vec<Step>, Vec<Step>) =
        steps(history).into_iter().partition(|step| step.until.is_some());
    Search::new(&due, open).run()
}

/// The steps that have to be placed, by begin, and which of them are.
struct Search<'a> {
    due: &'a [Step],
    placed: Vec<bool>,
    placed_count: usize,
    /// The first that is not placed.
    low: usize,
    /// The open ones, in lots that ask the same: each is placed in the order of the begins.
    open: Vec<(Vec<Step>, usize)>,
    state: u64,
    /// Places that were chosen, and what was to be chosen from after them.
    trail: Vec<Choice>,
    dead: HashSet<Configuration>,
    furthest: (usize, u64, Vec<(Call, Option<Answer>)>),
}

/// Whether a step, answered as it was, changes nothing wherever it is placed.
fn only_looks(step: &Step) -> bool {
    match step.call {
        Call::Read => true,
        Call::Cas { .. } => matches!(step.answer, Some(Answer::Value(_))),
        Call::Write(_) | Call::Add(_) => false,
    }
}

/// A step to place: one that is due, or the next of an open lot.
#[derive(Debug, Clone, Copy)]
enum Pick {
    Due(usize),
    Open(usize),
}

struct Choice {
    pick: Pick,
    state_before: u64,
    /// What else could have come in its place.
    others: Vec<Pick>,
}

#[derive(PartialEq, Eq, Hash)]
struct Configuration {
    low: usize,
    /// Which of those behind `low` are placed.
    ahead: Vec<u32>,
    open: Vec<u32>,
    state: u64,
}

impl<'a> Search<'a> {
    fn new(due: &'a [Step], mut open: Vec<Step>) -> Search<'a> {
        open.sort_by_key(|step| (step.call, step.begun));
        let lots = open.chunk_by(|a, b| a.call == b.call).map(|lot| (lot.to_vec(), 0)).collect();
        Search {
            due,
            placed: vec![false; due.len()],
            placed_count: 0,
            low: 0,
            open: lots,
            state: INITIAL,
            trail: Vec::new(),
            dead: HashSet::new(),
            furthest: (0, INITIAL, Vec::new()),
        }
    }

    fn run(mut self) -> Result<(), Violation> {
        let mut candidates = self.candidates();
        loop {
            if self.placed_count == self.due.len() {
                return Ok(());
            }
            match candidates.pop() {
                Some(pick) => {
                    let state_before = self.state;
                    self.place(pick);
                    if self.dead.insert(self.configuration()) {
                        if self.dead.len() > CONFIGURATIONS_MAX {
                            return Err(Violation::TooHard { operations: self.due.len() });
                        }
                        self.trail.push(Choice { pick, state_before, others: candidates });
                        candidates = self.candidates();
                    } else {
                        self.take_back(pick, state_before);
                    }
                }
                None => match self.trail.pop() {
                    Some(Choice { pick, state_before, others }) => {
                        self.take_back(pick, state_before);
                        candidates = others;
                    }
                    None => {
                        let (placed, state, next) = self.furthest;
                        return Err(Violation::Impossible { placed, of: self.due.len(), state, next });
                    }
                },
            }
        }
    }

    /// What may come next, the likeliest last; one alone where nothing is lost by taking it.
    fn candidates(&mut self) -> Vec<Pick> {
        // Whoever began later than this would come behind one that has to come before it.
        let mut limit = u64::MAX;
        let mut within = Vec::new();
        for at in self.low..self.due.len() {
            let step = &self.due[at];
            if step.begun > limit {
                break;
            }
            if !self.placed[at] {
                limit = limit.min(step.until.unwrap_or(u64::MAX));
                within.push(at);
            }
        }
        let mut picks = Vec::new();
        for (lot, (steps, next)) in self.open.iter().enumerate() {
            let changes = |step: &Step| step.call.apply(self.state).1 != self.state;
            if steps.get(*next).is_some_and(|step| step.begun < limit && changes(step)) {
                picks.push(Pick::Open(lot));
            }
        }
        let mut refused = Vec::new();
        within.sort_unstable_by_key(|at| std::cmp::Reverse(self.due[*at].until));
        for at in within {
            let step = &self.due[at];
            if step.begun > limit {
                continue;
            }
            let (answer, _) = step.call.apply(self.state);
            if step.answer.is_some_and(|given| given != answer) {
                refused.push((step.call, step.answer));
            } else if only_looks(step) {
                return vec![Pick::Due(at)];
            } else {
                picks.push(Pick::Due(at));
            }
        }
        if self.placed_count >= self.furthest.0 {
            self.furthest = (self.placed_count, self.state, refused);
        }
        picks
    }

    fn place(&mut self, pick: Pick) {
        let call = match pick {
            Pick::Due(at) => {
                self.placed[at] = true;
                self.placed_count += 1;
                while self.placed.get(self.low) == Some(&true) {
                    self.low += 1;
                }
                self.due[at].call
            }
            Pick::Open(lot) => {
                let (steps, next) = &mut self.open[lot];
                *next += 1;
                steps[*next - 1].call
            }
        };
        self.state = call.apply(self.state).1;
    }

    fn take_back(&mut self, pick: Pick, state: u64) {
        match pick {
            Pick::Due(at) => {
                self.placed[at] = false;
                self.placed_count -= 1;
                self.low = self.low.min(at);
            }
            Pick::Open(lot) => self.open[lot].1 -= 1,
        }
        self.state = state;
    }

    fn configuration(&self) -> Configuration {
        let beyond = self.low..self.due.len();
        // What is placed lies close behind the first that is not.
        let mut left = self.placed_count - self.low;
        let mut ahead = Vec::with_capacity(left);
        for at in beyond {
            if left == 0 {
                break;
            }
            if self.placed[at] {
                ahead.push(at as u32);
                left -= 1;
            }
        }
        let open = self.open.iter().map(|(_, next)| *next as u32).collect();
        Configuration { low: self.low, ahead, open, state: self.state }
    }
}
