//! The writes that are executed but not yet committed.
//!
//! Commands execute in order against the keyspace as it will be once all of them are committed; for each effect the overlay
//! keeps what it displaced. Committed state is the keyspace with the overlay taken back: nobody needs to see it, as each
//! reply that rests on an uncommitted write waits for that write's commit (see [`super::output`]).
//!
//! Writes are counted: each command that changes something gets the next *sequence number*. A batch is a run of commands
//! logged as one entry; it is open while commands add to it, then proposed, then committed. Committing forgets what the
//! batch displaced; dropping the open batch (the log would not take it), or all batches (another replica leads now), puts it
//! back.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use bytes::Bytes;

use super::effect::{self, Effect};
use super::key::Key;
use super::keyspace::{Keyspace, Old};
use super::output::Output;

/// The longest batch: what the log takes as one entry.
pub const ENTRY_BYTES_MAX: usize = (16 << 20) + (64 << 10);

/// A place in the open batch to go back to.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    batch_bytes: usize,
    effects: usize,
}

#[derive(Debug)]
struct Proposed {
    index: u64,
    last_sequence: u64,
    /// The entry, to know what to take back.
    batch: Bytes,
    displaced: Vec<(u32, Old)>,
}

/// The open batch and those underway.
#[derive(Debug, Default)]
pub struct Overlay {
    /// The last sequence number given out.
    sequence: u64,
    /// All writes up to this one are committed.
    committed: u64,
    /// The open batch as it will be logged; empty, or the version byte and effects.
    batch: Vec<u8>,
    /// For each effect of the open batch: where it begins and what it displaced.
    displaced: Vec<(u32, Old)>,
    proposed: VecDeque<Proposed>,
    /// The index of the last entry that was proposed or replayed.
    last_index: u64,
    /// The index of the last entry that was committed or replayed.
    applied: u64,
    /// Writes that came to nothing, the last few times.
    lost: VecDeque<RangeInclusive<u64>>,
    /// What committed effects displaced and is long to drop: to be dropped where it stalls nobody.
    graves: Vec<Old>,
}

/// How many ranges of lost writes are remembered. Beyond, the two oldest become one with what lies between them: a connection that
/// has not looked for so long, as its peer reads nothing, may then lose a reply that rests on a write that was made, but is
/// never told that a lost one was.
const LOST_MAX: usize = 64;

impl Overlay {
    /// The last sequence number given out.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// All writes up to this sequence number are committed.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// The index of the last entry that was proposed or replayed; 0 before the first.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.last_index
    }

    /// How long the open batch is, in bytes.
    #[must_use]
    pub fn batch_bytes(&self) -> usize {
        self.batch.len()
    }

    /// Gives the command under way a sequence number.
    pub fn begin(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Gives a sequence number to what is no write, and is settled with those before.
    pub fn skip(&mut self) -> u64 {
        self.sequence += 1;
        if self.batch.is_empty() {
            self.settle();
        }
        self.sequence
    }

    /// Whether everything that was executed is committed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.proposed.is_empty()
    }

    /// Adds the effects that `write` encodes to the open batch and applies them.
    pub fn change(
        &mut self,
        keyspace: &mut Keyspace,
        key: Option<&Key<'_>>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        if self.is_overfull() {
            return;
        }
        if self.batch.is_empty() {
            self.batch.push(effect::VERSION);
        }
        let mut at = self.batch.len();
        write(&mut self.batch);
        while at < self.batch.len() {
            let (effect, length) = effect::decode(&self.batch[at..]).expect("encoded just now");
            let old = match key {
                Some(key) => keyspace.apply_at(&effect, key),
                None => keyspace.apply(&effect),
            };
            self.displaced.push((at as u32, old));
            at += length;
        }
    }

    /// Where the next effect of the open batch will be.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { batch_bytes: self.batch.len(), effects: self.displaced.len() }
    }

    /// Whether the open batch is longer than the log takes: what was added last must be [taken back](Self::undo_to).
    #[must_use]
    pub fn is_overfull(&self) -> bool {
        self.batch.len() > ENTRY_BYTES_MAX
    }

    /// Takes back what was added to the open batch after the mark.
    pub fn undo_to(&mut self, mark: Mark, keyspace: &mut Keyspace) {
        while self.displaced.len() > mark.effects {
            let (at, old) = self.displaced.pop().expect("longer than the mark");
            let (effect, _) = effect::decode(&self.batch[at as usize..]).expect("applied before");
            keyspace.undo(&effect, old);
        }
        self.batch.truncate(mark.batch_bytes);
        if self.batch.is_empty() {
            self.settle();
        }
    }

    /// With the open batch empty, the numbers given out since the last one are settled with it.
    fn settle(&mut self) {
        match self.proposed.back_mut() {
            Some(proposed) => proposed.last_sequence = self.sequence,
            None => self.committed = self.sequence,
        }
    }

    /// The open batch, to be proposed; `None` if it is empty. It must then be said [`proposed`](Self::proposed) or
    /// [dropped](Self::drop_batch).
    #[must_use]
    pub fn batch(&self) -> Option<&[u8]> {
        (!self.batch.is_empty()).then_some(&self.batch)
    }

    /// Takes the open batch out to propose it.
    pub fn take_batch(&mut self) -> Option<Bytes> {
        (!self.batch.is_empty()).then(|| Bytes::from(std::mem::take(&mut self.batch)))
    }

    /// The batch was not proposed: it is open again.
    pub fn restore_batch(&mut self, batch: Bytes) {
        debug_assert!(self.batch.is_empty(), "nothing is added while a batch is out");
        self.batch = Vec::from(batch);
    }

    /// The log took the batch, which was [taken out](Self::take_batch), as entry `index`.
    pub fn proposed(&mut self, index: u64, batch: Bytes) {
        assert!(index > self.last_index, "entry {index} proposed after {}", self.last_index);
        debug_assert!(self.batch.is_empty(), "nothing is added while a batch is out");
        self.last_index = index;
        let displaced = std::mem::take(&mut self.displaced);
        self.proposed.push_back(Proposed { index, last_sequence: self.sequence, batch, displaced });
    }

    /// Whether entry `index`, which is now committed, is one that was proposed here: its effects are applied.
    ///
    /// # Panics
    /// When another is awaited first: the log gives entries in order.
    #[must_use]
    pub fn expects(&self, index: u64) -> bool {
        let Some(first) = self.proposed.front() else { return false };
        assert_eq!(first.index, index, "the entry that is awaited first is committed first");
        true
    }

    /// The log would not take the open batch: its effects are taken back, and whoever waits for them is [lost](Self::is_lost).
    pub fn drop_batch(&mut self, keyspace: &mut Keyspace) {
        let before = self.proposed.back().map_or(self.committed, |proposed| proposed.last_sequence);
        self.undo_to(Mark { batch_bytes: 0, effects: 0 }, keyspace);
        self.lose(before + 1..=self.sequence);
    }

    /// Nothing that is not committed will be committed by this replica: all of it is taken back, and whoever waits for it is
    /// [lost](Self::is_lost). Some of it may come again as entries to replay.
    pub fn drop_all(&mut self, keyspace: &mut Keyspace) {
        let before = self.committed;
        self.undo_to(Mark { batch_bytes: 0, effects: 0 }, keyspace);
        while let Some(Proposed { batch, displaced, .. }) = self.proposed.pop_back() {
            for (at, old) in displaced.into_iter().rev() {
                let (effect, _) = effect::decode(&batch[at as usize..]).expect("applied before");
                keyspace.undo(&effect, old);
            }
        }
        self.committed = self.sequence;
        self.last_index = self.applied;
        if self.sequence > before {
            self.lose(before + 1..=self.sequence);
        }
    }

    fn lose(&mut self, sequences: RangeInclusive<u64>) {
        self.lost.push_back(sequences);
        if self.lost.len() > LOST_MAX
            && let (Some(oldest), Some(next)) = (self.lost.pop_front(), self.lost.front_mut())
        {
            *next = *oldest.start()..=*next.end();
        }
    }

    /// Whether some reply here rests on a write that came to nothing.
    #[must_use]
    pub fn is_lost(&self, output: &Output) -> bool {
        output.is_gated() && self.lost.iter().any(|range| output.waits_for(range))
    }

    /// Takes what is to be dropped where it stalls nobody.
    pub fn take_graves(&mut self) -> Vec<Old> {
        std::mem::take(&mut self.graves)
    }

    /// All entries up to `index` are committed. Says whether that is news.
    pub fn commit(&mut self, index: u64) -> bool {
        let before = self.committed;
        self.applied = self.applied.max(index);
        while let Some(first) = self.proposed.front().filter(|first| first.index <= index) {
            self.committed = first.last_sequence;
            let displaced = self.proposed.pop_front().map(|first| first.displaced).unwrap_or_default();
            self.graves.extend(displaced.into_iter().map(|(_, old)| old).filter(Old::is_large));
        }
        self.committed != before
    }

    /// Everything up to this entry is in the keyspace.
    pub fn replayed(&mut self, index: u64) {
        self.last_index = self.last_index.max(index);
        self.applied = self.applied.max(index);
    }

    /// The keyspace was replaced by one that has everything up to this entry.
    ///
    /// # Panics
    /// When something is executed and not committed.
    pub fn replaced(&mut self, index: u64) {
        assert!(self.proposed.is_empty() && self.batch.is_empty(), "only a follower's keyspace is replaced");
        (self.last_index, self.applied) = (index, index);
    }

    /// Takes what an effect displaced that was not executed here.
    pub fn bury(&mut self, old: Old) {
        if old.is_large() {
            self.graves.push(old);
        }
    }

    /// The index of the last entry that is committed and in the keyspace.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied
    }
}

/// Reads an entry of the log.
///
/// # Errors
/// It is of another version or damaged.
pub fn effects(
    entry: &[u8],
) -> Result<impl Iterator<Item = Result<Effect<'_>, effect::Unreadable>>, effect::Unreadable> {
    match entry.split_first() {
        Some((&effect::VERSION, effects)) => Ok(effect::decode_all(effects)),
        _ => Err(effect::Unreadable(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::console::Console;

    #[test]
    fn replies_wait_for_what_they_rest_on_and_nothing_else() {
        let mut console = Console::new();
        console.script("SET other 1 -> OK\nSET k old -> OK");
        console.execute(b"GET other\r\n");
        assert_eq!(console.sent(), b"$1\r\n1\r\n");
        console.execute(b"SET k new\r\n");
        assert_eq!(console.sent(), b"");
        console.answer();
        // A read of what is not committed waits, from whichever connection; a read of something else does not.
        console.execute(b"GET other\r\nINCR k2\r\nGET k2\r\nDBSIZE\r\n");
        assert_eq!(console.sent(), b"$1\r\n1\r\n");
        assert_eq!(console.answer(), "(1); 1; (3)");
    }

    #[test]
    fn a_batch_that_the_log_refuses_never_happened() {
        let mut console = Console::new();
        console.script("SET k old -> OK\nHSET h f 1 -> (1)");
        console.execute(b"SET k new\r\nHSET h f 2 g 3\r\nINCR n\r\nDEL h\r\nGET k\r\n");
        console.shard.refused();
        assert!(console.shard.is_lost(&console.out));
        console.out = crate::core::output::Output::new(1 << 20);
        console.script(
            "GET k -> old
             HGETALL h -> [f 1]
             EXISTS n -> (0)
             SET k v -> MISCONF The log cannot take writes: its disk is full. Reads go on. Free space, then writes go on by themselves.",
        );
        console.shard.try_writes();
        console.script("SET k v -> OK\nGET k -> v");
    }

    #[test]
    fn who_leads_no_more_takes_back_all_that_is_not_committed() {
        let mut console = Console::new();
        console.script("SET k old -> OK\nHSET h f 1 -> (1)\nSET list a -> OK");
        console.execute(b"SET k new\r\nHSET h f 2 g 3\r\n");
        console.propose();
        console.execute(b"DEL h\r\nAPPEND list b\r\nINCR n\r\n");
        console.propose();
        console.execute(b"SET k newest\r\nFLUSHALL\r\nSET after x\r\n");
        console.follow();
        assert!(console.shard.is_lost(&console.out), "no reply leaves that rests on any of it");
        console.out = crate::core::output::Output::new(1 << 20);
        console.script(
            "GET k -> CLUSTERDOWN The cluster is down
             SET k v -> CLUSTERDOWN The cluster is down
             FLUSHALL -> READONLY You can't write against a read only replica.
             DBSIZE -> (3)",
        );
        // One of the two entries was committed all the same, and comes from the new leader; at the other's place is another.
        let log = console.log.clone();
        let other = log[0].clone();
        console.shard.commit(4, &log[3], |_, _| false).expect("readable");
        console.shard.commit(6, &other, |_, _| false).expect("readable");
        console.shard.lead();
        console.script("GET k -> old\nHGETALL h -> [f 2 g 3]\nGET list -> a\nEXISTS n -> (0)");
    }

    #[test]
    fn a_watch_does_not_outlive_the_leadership() {
        let mut console = Console::new();
        console.script("SET k 1 -> OK\nWATCH k -> OK\nMULTI -> OK\nSET k 2 -> QUEUED");
        console.follow();
        console.shard.lead();
        console.script("EXEC -> nil\nGET k -> 1\nMULTI -> OK\nSET k 2 -> QUEUED");
        console.follow();
        console.script("EXEC -> CLUSTERDOWN The cluster is down\nDISCARD -> ERR DISCARD without MULTI");
        console.shard.lead();
        console.script("GET k -> 1");
    }

    #[test]
    fn a_lost_write_is_never_forgotten_while_somebody_waits_for_it() {
        let mut console = Console::new();
        console.execute(b"SET k 1\r\n");
        console.shard.refused();
        let waiting = std::mem::replace(&mut console.out, crate::core::output::Output::new(1 << 20));
        for _ in 0..1000 {
            console.shard.try_writes();
            console.execute(b"SET k 2\r\n");
            console.shard.refused();
            console.out = crate::core::output::Output::new(1 << 20);
            console.shard.try_writes();
            console.script("SET other 3 -> OK");
        }
        assert!(console.shard.is_lost(&waiting));
        console.execute(b"SET k 4\r\n");
        assert!(!console.shard.is_lost(&console.out));
    }
}
