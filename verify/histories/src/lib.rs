//! What clients saw of replicated data, and whether one copy of it could have shown them that: linearizability, per key.
//!
//! A run records each operation's begin and, if the client heard of it, its end ([`Histories`]); afterwards
//! [`Histories::check`] looks, for each key, for an order of the operations in which each takes effect at one moment
//! between its begin and its end, and every answer is what one copy would have given.
//!
//! What always holds:
//! - an operation whose end nobody heard of may take effect at any moment after its begin, however late, or never;
//! - one that was refused for good ([`Histories::never_happened`]) has no effect: if one shows, the history is refused;
//! - keys are independent of each other (linearizability is local: Herlihy and Wing, section 3.3), so each is checked alone;
//! - a history that is too hard to decide within [`CONFIGURATIONS_MAX`] is not called good.
//!
//! It leaves out transactions over several keys, and weaker promises than linearizability.
//!
//! The map: [`recorder`] keeps the books, [`search`] decides (Wing and Gong's search with Lowe's memory of configurations),
//! [`unknown`] makes what is open as small as it can be first.
#![forbid(unsafe_code)]

mod recorder;
mod search;
mod unknown;

pub use recorder::{Histories, Open, Shape, Unlawful};
pub use search::{CONFIGURATIONS_MAX, Violation, check};

/// A moment: moments ascend in the order in which things happened, and no two events share one.
pub type Moment = u64;

/// What every key holds before anything is written to it.
pub const INITIAL: u64 = 0;

/// What a client asks of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// What does it hold?
    Read,
    /// Let it hold this.
    Write(u64),
    /// If it holds `expect`, let it hold `new`.
    Cas {
        /// What it has to hold.
        expect: u64,
        /// What it holds then.
        new: u64,
    },
    /// Add to it, wrapping around.
    Add(u64),
}

/// What the client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A write is done, or a [`Call::Cas`] found what it expected.
    Done,
    /// What the key holds: after a [`Call::Read`]; after a [`Call::Add`], its result; after a [`Call::Cas`] that failed, what
    /// it found instead.
    Value(u64),
}

/// An operation of a client on one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// Whose it is; only for the report.
    pub client: u64,
    /// What was asked.
    pub call: Call,
    /// When it began.
    pub begun: Moment,
    /// When it ended, and with which answer. `None`: nobody knows what became of it.
    pub ended: Option<(Moment, Answer)>,
}

impl Call {
    /// What one copy that holds `state` answers, and what it holds then.
    fn apply(self, state: u64) -> (Answer, u64) {
        match self {
            Call::Read => (Answer::Value(state), state),
            Call::Write(value) => (Answer::Done, value),
            Call::Cas { expect, new } if expect == state => (Answer::Done, new),
            Call::Cas { .. } => (Answer::Value(state), state),
            Call::Add(value) => (Answer::Value(state.wrapping_add(value)), state.wrapping_add(value)),
        }
    }
}
