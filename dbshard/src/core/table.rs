//! A hash table that grows a little at a time and can be walked in a stable order.
//!
//! Linear hashing: the entries lie in leaves of a few thousand; when the table fills, one leaf is split in two, so that no
//! insertion moves more than a leaf. Every entry has a *position*, 32 bits of its hash reversed; a leaf holds exactly an
//! interval of positions, and a split halves that interval. So a walk by position meets every entry that stays there
//! throughout exactly once, however the table grows meanwhile: `SCAN` and checkpoints need no more than a number to go on.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Place;

use super::key::KeyHash;

/// A leaf is split once the table holds more than so many entries per leaf.
const LEAF_ENTRIES: usize = 2048;

/// What a table holds: something that carries its own key.
pub trait Keyed {
    /// The key, never changed while the entry lies in a table.
    fn key(&self) -> &[u8];
}

/// A table of entries with distinct keys.
#[derive(Debug)]
pub struct Table<E> {
    /// Leaf 0; most tables have no other.
    first: HashTable<E>,
    more: Vec<HashTable<E>>,
    len: usize,
}

impl<E> Default for Table<E> {
    fn default() -> Self {
        Self { first: HashTable::new(), more: Vec::new(), len: 0 }
    }
}

/// The bits of the hash that choose the leaf: apart from those that the leaf itself uses (the low ones and the top seven).
fn leaf_bits(hash: u64) -> u32 {
    (hash >> 25) as u32
}

fn position(hash: u64) -> u32 {
    leaf_bits(hash).reverse_bits()
}

impl<E: Keyed> Table<E> {
    /// How many entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn leaves(&self) -> usize {
        1 + self.more.len()
    }

    /// The leaf of these bits, and how many of the bits chose it.
    fn place(&self, bits: u32) -> (usize, u32) {
        let leaves = self.leaves();
        let level = leaves.ilog2();
        let wide = (u64::from(bits) & ((2 << level) - 1)) as usize;
        if wide < leaves {
            // A leaf below `leaves - 2^level`, or from 2^level on, has been split at this level.
            let low = wide & ((1 << level) - 1);
            if low + (1 << level) < leaves { (wide, level + 1) } else { (wide, level) }
        } else {
            (wide & ((1 << level) - 1), level)
        }
    }

    fn leaf(&self, at: usize) -> &HashTable<E> {
        if at == 0 { &self.first } else { &self.more[at - 1] }
    }

    fn leaf_mut(&mut self, at: usize) -> &mut HashTable<E> {
        if at == 0 { &mut self.first } else { &mut self.more[at - 1] }
    }

    /// The entry of a key.
    #[must_use]
    pub fn get(&self, key: &[u8], hash: u64) -> Option<&E> {
        self.leaf(self.place(leaf_bits(hash)).0).find(hash, |entry| entry.key() == key)
    }

    /// The entry of a key, to be changed; its key stays.
    pub fn get_mut(&mut self, key: &[u8], hash: u64) -> Option<&mut E> {
        let at = self.place(leaf_bits(hash)).0;
        self.leaf_mut(at).find_mut(hash, |entry| entry.key() == key)
    }

    /// Puts an entry in; gives the one of the same key that it replaces.
    pub fn insert(&mut self, entry: E, hash: u64, hasher: KeyHash) -> Option<E> {
        let at = self.place(leaf_bits(hash)).0;
        let leaf = self.leaf_mut(at);
        match leaf.entry(hash, |other| other.key() == entry.key(), |other| hasher.of(other.key())) {
            Place::Occupied(mut there) => Some(std::mem::replace(there.get_mut(), entry)),
            Place::Vacant(free) => {
                free.insert(entry);
                self.len += 1;
                if self.len > LEAF_ENTRIES * self.leaves() {
                    self.split(hasher);
                }
                None
            }
        }
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &[u8], hash: u64, hasher: KeyHash) -> Option<E> {
        let at = self.place(leaf_bits(hash)).0;
        let leaf = self.leaf_mut(at);
        let (entry, _) = leaf.find_entry(hash, |entry| entry.key() == key).ok()?.remove();
        if leaf.capacity() > 64 && leaf.len() * 8 < leaf.capacity() {
            leaf.shrink_to(leaf.len() * 2, |other| hasher.of(other.key()));
        }
        self.len -= 1;
        Some(entry)
    }

    fn split(&mut self, hasher: KeyHash) {
        let new = self.leaves();
        let level = new.ilog2();
        let from = new - (1 << level);
        let mask = (2u64 << level) - 1;
        let moved: Vec<E> = self
            .leaf_mut(from)
            .extract_if(|entry| (u64::from(leaf_bits(hasher.of(entry.key()))) & mask) as usize == new)
            .collect();
        let mut leaf = HashTable::with_capacity(moved.len());
        for entry in moved {
            leaf.insert_unique(hasher.of(entry.key()), entry, |other| hasher.of(other.key()));
        }
        self.more.push(leaf);
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &E> {
        self.first.iter().chain(self.more.iter().flatten())
    }

    /// Walks on from position `from`: gives about `count` entries to `visit`, all of a position or none, and the position to
    /// go on from; `None` at the end. Costs a leaf, whatever the count.
    pub fn scan<'a>(
        &'a self,
        from: u32,
        count: usize,
        hasher: KeyHash,
        mut visit: impl FnMut(&'a E),
    ) -> Option<u32> {
        let (at, bits) = self.place(from.reverse_bits());
        let leaf = self.leaf(at);
        // The interval of the leaf: all positions whose top `bits` are those of `from`.
        let last = if bits == 0 { u32::MAX } else { from | (u32::MAX >> bits) };
        let starts_here = bits == 0 && from == 0 || bits > 0 && from & (u32::MAX >> bits) == 0;
        if starts_here && leaf.len() <= count {
            leaf.iter().for_each(visit);
            return last.checked_add(1);
        }
        let mut rest: Vec<(u32, &E)> = leaf
            .iter()
            .map(|entry| (position(hasher.of(entry.key())), entry))
            .filter(|(at, _)| *at >= from)
            .collect();
        rest.sort_unstable_by_key(|(at, _)| *at);
        for (given, (at, entry)) in rest.iter().enumerate() {
            if given >= count.max(1) && *at != rest[given - 1].0 {
                return Some(*at);
            }
            visit(entry);
        }
        last.checked_add(1)
    }

    /// The position of a hash, comparable with what [`scan`](Self::scan) gives.
    #[must_use]
    pub fn position(hash: u64) -> u32 {
        position(hash)
    }

    /// The entry nearest to a place chosen by `chance`, in a leaf chosen by it. Not quite uniform, as leaves differ in size.
    #[must_use]
    pub fn any(&self, chance: u64) -> Option<&E> {
        let leaves = self.leaves() as u64;
        let leaf = self.leaf((chance % leaves) as usize);
        let leaf = if leaf.is_empty() {
            [&self.first].into_iter().chain(&self.more).find(|leaf| !leaf.is_empty())?
        } else {
            leaf
        };
        let skip = (chance / leaves) % leaf.len() as u64;
        leaf.iter().nth(skip as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Word(Vec<u8>);

    impl Keyed for Word {
        fn key(&self) -> &[u8] {
            &self.0
        }
    }

    fn put(table: &mut Table<Word>, number: u32) {
        let hasher = KeyHash::new(1);
        let word = number.to_be_bytes().to_vec();
        let hash = hasher.of(&word);
        table.insert(Word(word), hash, hasher);
    }

    #[test]
    fn finds_what_was_put_across_splits() {
        let hasher = KeyHash::new(1);
        let mut table = Table::default();
        for number in 0..20_000 {
            put(&mut table, number);
        }
        assert!(table.leaves() > 8);
        assert_eq!((table.len(), table.iter().count()), (20_000, 20_000));
        for number in 0u32..20_000 {
            let word = number.to_be_bytes();
            assert!(table.get(&word, hasher.of(&word)).is_some(), "{number}");
        }
        for number in 0u32..20_000 {
            let word = number.to_be_bytes();
            assert!(table.remove(&word, hasher.of(&word), hasher).is_some(), "{number}");
        }
        assert!(table.is_empty());
    }

    #[test]
    fn a_walk_meets_what_stays_once_while_the_table_grows_and_shrinks() {
        let hasher = KeyHash::new(1);
        for count in [40, 1000, 100_000] {
            let mut table = Table::default();
            for number in 0..5_000 {
                put(&mut table, number);
            }
            let mut seen = std::collections::HashMap::new();
            let (mut from, mut next) = (0, 5_000);
            loop {
                let mut at_once = 0;
                let on = table.scan(from, count, hasher, |word| {
                    *seen.entry(word.0.clone()).or_insert(0) += 1;
                    at_once += 1;
                });
                assert!(at_once <= count + 8, "{at_once} at once, {count} asked");
                for _ in 0..40.min(12_000u32.saturating_sub(next)) {
                    put(&mut table, next);
                    next += 1;
                }
                match on {
                    Some(on) => {
                        assert!(on > from);
                        from = on;
                    }
                    None => break,
                }
            }
            for number in 0u32..5_000 {
                assert_eq!(seen.get(&number.to_be_bytes()[..]), Some(&1), "{number} at count {count}");
            }
            assert!(seen.values().all(|times| *times == 1));
        }
    }
}
