//! The books of a run: which operations began, and which ended how.

use crate::search::{Violation, check};
use crate::{Answer, Call, Moment, Operation};
use std::collections::BTreeMap;
use std::fmt;

/// The histories of all keys of a run. Moments are counted in the order of the calls made here: whoever records from
/// several threads does so under a lock, before it asks and after it was answered.
#[derive(Debug)]
pub struct Histories<K> {
    now: Moment,
    keys: BTreeMap<K, Vec<Operation>>,
    refused: u64,
}

/// An operation under way. Dropped, its end stays unknown.
#[derive(Debug)]
pub struct Open<K> {
    key: K,
    at: usize,
}

/// What a run's histories are like. One that is to prove something has contended keys and many reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shape {
    /// Operations, those that were refused for good aside.
    pub operations: u64,
    /// Reads among those that ended.
    pub reads: u64,
    /// Operations whose end nobody heard of.
    pub unknown: u64,
    /// Operations that began while another on the same key was under way that has ended since.
    pub contended: u64,
}

impl Shape {
    /// Adds another run's.
    pub fn add(&mut self, other: Shape) {
        self.operations += other.operations;
        self.reads += other.reads;
        self.unknown += other.unknown;
        self.contended += other.contended;
    }
}

/// A key whose history no single copy could have shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlawful<K> {
    /// Which.
    pub key: K,
    /// Why.
    pub violation: Violation,
}

impl<K: fmt::Debug> fmt::Display for Unlawful<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the history of {:?} is not linearizable: {}", self.key, self.violation)
    }
}

impl<K> Default for Histories<K> {
    fn default() -> Histories<K> {
        Histories { now: 0, keys: BTreeMap::new(), refused: 0 }
    }
}

impl<K: Ord + Clone> Histories<K> {
    /// A client is about to ask.
    pub fn begin(&mut self, client: u64, key: K, call: Call) -> Open<K> {
        let begun = self.moment();
        let history = self.keys.entry(key.clone()).or_default();
        history.push(Operation { client, call, begun, ended: None });
        Open { key, at: history.len() - 1 }
    }

    /// It was answered.
    pub fn end(&mut self, open: Open<K>, answer: Answer) {
        let now = self.moment();
        self.operation(open).ended = Some((now, answer));
    }

    /// It was refused in a way that says that it had no effect and never will have one.
    pub fn never_happened(&mut self, open: Open<K>) {
        // It stays as a read that nobody heard of: the others keep their places, and it says nothing.
        let operation = self.operation(open);
        *operation = Operation { call: Call::Read, ended: None, ..*operation };
        self.refused += 1;
    }

    fn operation(&mut self, open: Open<K>) -> &mut Operation {
        let Open { key, at } = open;
        &mut self.keys.get_mut(&key).expect("it was begun here")[at]
    }

    fn moment(&mut self) -> Moment {
        self.now += 1;
        self.now
    }

    /// What the histories are like.
    pub fn shape(&self) -> Shape {
        let mut shape = Shape::default();
        for history in self.keys.values() {
            let mut busy_until = 0;
            for operation in history {
                shape.operations += 1;
                shape.contended += u64::from(operation.begun < busy_until);
                match operation.ended {
                    None => shape.unknown += 1,
                    Some((ended, _)) => {
                        shape.reads += u64::from(operation.call == Call::Read);
                        busy_until = busy_until.max(ended);
                    }
                }
            }
        }
        shape.operations -= self.refused;
        shape.unknown -= self.refused;
        shape
    }

    /// The history of a key, in the order of the begins.
    pub fn of(&self, key: &K) -> &[Operation] {
        self.keys.get(key).map_or(&[], Vec::as_slice)
    }

    /// Checks all keys.
    ///
    /// # Errors
    /// The first key whose history is not linearizable, or too hard to decide.
    pub fn check(&self) -> Result<(), Unlawful<K>> {
        for (key, history) in &self.keys {
            check(history).map_err(|violation| Unlawful { key: key.clone(), violation })?;
        }
        Ok(())
    }
}
