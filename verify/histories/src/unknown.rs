//! Operations whose end nobody heard of, made as few and as short as they can be without changing the verdict.
//!
//! Each of them doubles what a search may have to look through, if it may happen at any time or never. Where every value is
//! written by one operation only, what others saw decides:
//! - a write that nobody saw may be left out: whatever came between it and the next one would have seen it;
//! - a write that somebody saw has happened, before whoever saw it had ended.
//!
//! So nothing stays open in histories of registers whose writers use every value once. Counters keep theirs.

use crate::{Answer, Call, INITIAL, Moment, Operation};
use std::collections::BTreeMap;

/// An operation as the search takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) call: Call,
    pub(crate) begun: Moment,
    /// By when it has to have taken effect; `None`: at any time, or never.
    pub(crate) until: Option<Moment>,
    /// What it has to have given; `None`: whatever it gave.
    pub(crate) answer: Option<Answer>,
    /// Nobody heard of its end.
    pub(crate) open: bool,
}

/// The steps that a search has to find an order of, by their begins.
pub(crate) fn steps(history: &[Operation]) -> Vec<Step> {
    let step = |operation: &Operation| Step {
        call: operation.call,
        begun: operation.begun,
        until: operation.ended.map(|(ended, _)| ended),
        answer: operation.ended.map(|(_, answer)| answer),
        open: operation.ended.is_none(),
    };
    let mut steps: Vec<Step> = history.iter().map(step).collect();
    // A read that nobody heard the answer of says nothing.
    steps.retain(|step| !step.open || step.call != Call::Read);
    if let Some(writers) = writers(&steps) {
        settle(&mut steps, &writers);
    }
    steps.sort_unstable_by_key(|step| step.begun);
    steps
}

/// Which step writes a value; `None` when the value alone does not tell.
fn writers(steps: &[Step]) -> Option<BTreeMap<u64, usize>> {
    let mut writers = BTreeMap::new();
    for (at, step) in steps.iter().enumerate() {
        let value = match step.call {
            Call::Write(value) | Call::Cas { new: value, .. } => value,
            Call::Read => continue,
            Call::Add(_) => return None,
        };
        if value == INITIAL || writers.insert(value, at).is_some() {
            return None;
        }
    }
    Some(writers)
}

/// What a step has seen the key hold, and by when it had.
fn sight(step: &Step) -> Option<(u64, Moment)> {
    let value = match (step.call, step.answer?) {
        (Call::Read | Call::Cas { .. }, Answer::Value(value)) => value,
        (Call::Cas { expect, .. }, Answer::Done) => expect,
        _ => return None,
    };
    Some((value, step.until?))
}

/// Gives each open step the time by which its value was seen, and leaves out those whose value nobody saw.
fn settle(steps: &mut Vec<Step>, writers: &BTreeMap<u64, usize>) {
    let mut sights: Vec<(u64, Moment)> = steps.iter().filter_map(sight).collect();
    while let Some((value, by)) = sights.pop() {
        let Some(writer) = writers.get(&value).map(|at| &mut steps[*at]) else { continue };
        if writer.open && writer.until.is_none_or(|until| by < until) {
            (writer.until, writer.answer) = (Some(by), Some(Answer::Done));
            // A compare-and-set that happened has itself seen what it expected.
            sights.extend(sight(writer));
        }
    }
    steps.retain(|step| step.until.is_some());
}
