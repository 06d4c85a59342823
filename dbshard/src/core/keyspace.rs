//! All keys of a shard, by slot.
//!
//! A table per slot: what belongs to a slot is counted, listed, walked and saved without looking at the rest, and growth
//! never moves more than a leaf of one slot. The keyspace changes only through [`Keyspace::apply`] and its undoing, and
//! looks at no clock: an expired key lies here until an effect deletes it, and it is for the reader not to see it.

use super::effect::{self, Effect, Strings, Unreadable};
use super::entry::{Body, Entry, Value};
use super::key::{Key, KeyHash};
use super::table::{Keyed, Table};
use super::types::hash::Hash;

/// What an entry's place in a table takes on average: 17 bytes at two thirds full.
const PLACE_BYTES: usize = 26;

/// Fields of a hash that are dropped at once, which takes a fraction of a millisecond.
const DROPPED_FIELDS_MAX: usize = 4096;

#[derive(Debug, Default)]
struct Slot {
    table: Table<Entry>,
    /// No key here expires before this, in Unix milliseconds; 0 where none was ever set to expire.
    expiry_from_ms: u64,
}

/// The keys of a range of slots.
#[derive(Debug)]
pub struct Keyspace {
    hasher: KeyHash,
    slots_from: u16,
    slots: Box<[Slot]>,
    keys: usize,
    expiring: usize,
    used_bytes: usize,
    reaping: Reaping,
}

/// Where the search for expired keys goes on.
#[derive(Clone, Copy, Debug, Default)]
struct Reaping {
    slot: usize,
    from: u32,
    /// The soonest expiry among what this walk of the slot has met and left, 0 for none.
    soonest_ms: u64,
}

/// What an effect displaced: enough to take it back.
#[derive(Debug)]
pub enum Old {
    /// The effect changed nothing.
    Same,
    /// The key was not there.
    Absent,
    /// The key held this.
    Entry(Entry),
    /// The key expired at this time, 0 for never.
    Expiry(u64),
    /// The string was this long.
    Length(usize),
    /// The hash's fields, in the effect's order, held these.
    Fields(Vec<Option<Box<[u8]>>>),
    /// The keyspace was this.
    All(Box<Keyspace>),
}

impl Old {
    /// Whether dropping it would stall the core: a keyspace, or a hash of many fields.
    #[must_use]
    pub fn is_large(&self) -> bool {
        match self {
            Old::All(_) => true,
            Old::Entry(entry) => {
                matches!(entry.value(), Value::Hash(hash) if hash.len() > DROPPED_FIELDS_MAX)
            }
            _ => false,
        }
    }
}

impl Keyspace {
    /// No keys; `slots` is the first slot and the one after the last.
    #[must_use]
    pub fn new(hasher: KeyHash, slots: std::ops::Range<u16>) -> Self {
        Self {
            hasher,
            slots_from: slots.start,
            slots: slots.map(|_| Slot::default()).collect(),
            keys: 0,
            expiring: 0,
            used_bytes: 0,
            reaping: Reaping::default(),
        }
    }

    /// The hash that places keys.
    #[must_use]
    pub fn hasher(&self) -> KeyHash {
        self.hasher
    }

    /// The slots it holds.
    #[must_use]
    pub fn slots(&self) -> std::ops::Range<u16> {
        self.slots_from..self.slots_from + self.slots.len() as u16
    }

    /// How many keys, expired ones that were not yet deleted among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// How many keys have an expiry.
    #[must_use]
    pub fn expiring(&self) -> usize {
        self.expiring
    }

    /// What keys and values take in memory, about.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// Whether the key's slot lies here.
    #[must_use]
    pub fn holds(&self, slot: u16) -> bool {
        self.slots().contains(&slot)
    }

    fn slot(&self, slot: u16) -> &Slot {
        &self.slots[usize::from(slot - self.slots_from)]
    }

    fn slot_mut(&mut self, slot: u16) -> &mut Slot {
        &mut self.slots[usize::from(slot - self.slots_from)]
    }

    /// How many keys a slot has; 0 for one that lies elsewhere.
    #[must_use]
    pub fn slot_len(&self, slot: u16) -> usize {
        if self.holds(slot) { self.slot(slot).table.len() } else { 0 }
    }

    /// The entry of a key, expired or not. The key's slot must lie here.
    #[must_use]
    pub fn get(&self, key: &Key<'_>) -> Option<&Entry> {
        self.slot(key.slot).table.get(key.bytes, key.hash)
    }

    /// Applies an effect; gives what it displaced. The key's slot must lie here.
    pub fn apply(&mut self, effect: &Effect<'_>) -> Old {
        let Some(key) = effect.key() else { return self.flush() };
        self.apply_at(effect, &Key::new(key, self.hasher))
    }

    /// [`apply`](Self::apply) where the key's place is known.
    pub fn apply_at(&mut self, effect: &Effect<'_>, key: &Key<'_>) -> Old {
        match *effect {
            Effect::Set { key: bytes, expire_at_ms, value } => {
                self.put(key, Entry::string(bytes, value, expire_at_ms)).map_or(Old::Absent, Old::Entry)
            }
            Effect::Delete { .. } => self.take(key).map_or(Old::Same, Old::Entry),
            Effect::Expire { expire_at_ms, .. } => self
                .change(key, |entry| Old::Expiry(entry.set_expire_at_ms(expire_at_ms)))
                .unwrap_or(Old::Same),
            Effect::Append { key: bytes, suffix } => {
                self.change(key, |entry| entry.append(suffix).map_or(Old::Same, Old::Length)).unwrap_or_else(
                    || self.put(key, Entry::string(bytes, suffix, 0)).map_or(Old::Absent, Old::Entry),
                )
            }
            Effect::HashSet { pairs, .. } => self.hash_set(key, pairs),
            Effect::HashDelete { fields, .. } => {
                let hasher = self.hasher;
                let remove = |entry: &mut Entry| {
                    let Some(hash) = entry.hash_mut() else { return Old::Same };
                    Old::Fields(fields.map(|field| hash.remove(field, hasher)).collect())
                };
                self.change(key, remove).unwrap_or(Old::Same)
            }
            Effect::Flush => self.flush(),
        }
    }

    fn hash_set(&mut self, key: &Key<'_>, mut pairs: Strings<'_>) -> Old {
        let hasher = self.hasher;
        let mut set = |hash: &mut Hash| {
            let mut old = Vec::with_capacity(pairs.count() / 2);
            while let (Some(field), Some(value)) = (pairs.next(), pairs.next()) {
                old.push(hash.set(field, value, hasher));
            }
            old
        };
        if let Some(old) = self.change(key, |entry| entry.hash_mut().map(&mut set)).flatten() {
            return Old::Fields(old);
        }
        let mut hash = Hash::default();
        set(&mut hash);
        self.put(key, Entry::object(key.bytes, Body::Hash(hash), 0)).map_or(Old::Absent, Old::Entry)
    }

    /// Applies effects of a checkpoint.
    ///
    /// # Errors
    /// They are of another version or damaged.
    pub fn load(&mut self, effects: &[u8]) -> Result<(), Unreadable> {
        for effect in effect::decode_all(effects) {
            let effect = effect?;
            if effect.key().is_some_and(|key| self.holds(wire::resp::slot::of(key))) {
                self.apply(&effect);
            }
        }
        Ok(())
    }

    /// Takes an effect back, given what it had displaced. Effects are taken back in the reverse order of their application.
    pub fn undo(&mut self, effect: &Effect<'_>, old: Old) {
        if let Old::All(all) = old {
            *self = *all;
            return;
        }
        let Some(bytes) = effect.key() else { return };
        let key = Key::new(bytes, self.hasher);
        match (old, effect) {
            (Old::Absent, _) => {
                self.take(&key);
            }
            (Old::Entry(entry), _) => {
                self.put(&key, entry);
            }
            (Old::Expiry(at), _) => {
                self.change(&key, |entry| entry.set_expire_at_ms(at));
            }
            (Old::Length(length), _) => {
                self.change(&key, |entry| entry.truncate(length));
            }
            (Old::Fields(old), Effect::HashSet { pairs, .. }) => {
                let fields: Vec<&[u8]> = pairs.step_by(2).collect();
                self.restore_fields(&key, fields.into_iter().zip(old).rev());
            }
            (Old::Fields(old), Effect::HashDelete { fields, .. }) => {
                self.restore_fields(&key, fields.zip(old).filter(|(_, old)| old.is_some()));
            }
            (Old::Same | Old::All(_) | Old::Fields(_), _) => {}
        }
    }

    fn restore_fields<'a>(
        &mut self,
        key: &Key<'_>,
        fields: impl Iterator<Item = (&'a [u8], Option<Box<[u8]>>)>,
    ) {
        let hasher = self.hasher;
        self.change(key, |entry| {
            let hash = entry.hash_mut().expect("only a hash had fields displaced");
            for (field, old) in fields {
                match old {
                    Some(value) => hash.set(field, &value, hasher),
                    None => hash.remove(field, hasher),
                };
            }
        });
    }

    fn flush(&mut self) -> Old {
        let empty = Self::new(self.hasher, self.slots());
        Old::All(Box::new(std::mem::replace(self, empty)))
    }

    fn put(&mut self, key: &Key<'_>, entry: Entry) -> Option<Entry> {
        let hasher = self.hasher;
        let (cost, expiry) = (entry.cost_bytes() + PLACE_BYTES, entry.expire_at_ms());
        let slot = self.slot_mut(key.slot);
        slot.expects(expiry);
        let old = slot.table.insert(entry, key.hash, hasher);
        self.used_bytes += cost;
        self.expiring += usize::from(expiry != 0);
        match &old {
            None => self.keys += 1,
            Some(old) => self.forget(old),
        }
        old
    }

    fn take(&mut self, key: &Key<'_>) -> Option<Entry> {
        let hasher = self.hasher;
        let entry = self.slot_mut(key.slot).table.remove(key.bytes, key.hash, hasher)?;
        self.keys -= 1;
        self.forget(&entry);
        Some(entry)
    }

    /// Takes an entry that left out of the sums.
    fn forget(&mut self, entry: &Entry) {
        self.used_bytes -= entry.cost_bytes() + PLACE_BYTES;
        self.expiring -= usize::from(entry.expire_at_ms() != 0);
    }

    fn change<T>(&mut self, key: &Key<'_>, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let slot = &mut self.slots[usize::from(key.slot - self.slots_from)];
        let entry = slot.table.get_mut(key.bytes, key.hash)?;
        let (cost, expiry) = (entry.cost_bytes(), entry.expire_at_ms());
        let out = change(entry);
        let (cost_now, expiry_now) = (entry.cost_bytes(), entry.expire_at_ms());
        slot.expects(expiry_now);
        self.used_bytes = self.used_bytes + cost_now - cost;
        self.expiring = self.expiring + usize::from(expiry_now != 0) - usize::from(expiry != 0);
        Some(out)
    }

    /// Walks on from a cursor (0 to begin); gives about `count` entries and the cursor to go on from, `None` at the end.
    /// What stays throughout is met once.
    pub fn scan<'a>(
        &'a self,
        cursor: u64,
        count: usize,
        mut visit: impl FnMut(u16, &'a Entry),
    ) -> Option<u64> {
        let (mut slot, mut from) = ((cursor >> 32) as usize, cursor as u32);
        let mut given = 0;
        while slot < self.slots.len() {
            let number = self.slots_from + slot as u16;
            let table = &self.slots[slot].table;
            let next = if table.is_empty() {
                None
            } else {
                table.scan(from, count - given, self.hasher, |entry| {
                    given += 1;
                    visit(number, entry);
                })
            };
            match next {
                Some(position) => from = position,
                None => (slot, from) = (slot + 1, 0),
            }
            if given >= count {
                break;
            }
        }
        (slot < self.slots.len()).then_some((slot as u64) << 32 | u64::from(from))
    }

    /// The place of a key in the order of [`scan`](Self::scan): an entry is met from cursors up to this one.
    #[must_use]
    pub fn cursor_of(&self, key: &Key<'_>) -> u64 {
        u64::from(key.slot - self.slots_from) << 32 | u64::from(Table::<Entry>::position(key.hash))
    }

    /// The entries of one slot.
    pub fn slot_entries(&self, slot: u16) -> impl Iterator<Item = &Entry> {
        self.holds(slot).then(|| self.slot(slot).table.iter()).into_iter().flatten()
    }

    /// An entry chosen by `chance`, nearly uniformly.
    #[must_use]
    pub fn any(&self, chance: u64) -> Option<&Entry> {
        let mut skip = (chance % u64::try_from(self.keys).ok().filter(|keys| *keys > 0)?) as usize;
        for slot in &self.slots {
            if skip < slot.table.len() {
                return slot.table.any(chance.rotate_left(32));
            }
            skip -= slot.table.len();
        }
        None
    }

    /// Looks for keys that expired by `now_ms`, going round the slots and looking at about `entries_max` entries; gives up
    /// to `keys_max` keys to `found`, which the caller is to delete. Says whether it stopped for these bounds rather than
    /// because nothing was left.
    pub fn find_expired(
        &mut self,
        now_ms: u64,
        entries_max: usize,
        keys_max: usize,
        mut found: impl FnMut(&[u8]),
    ) -> bool {
        let (mut looked, mut keys, hasher) = (0, 0, self.hasher);
        for _ in 0..self.slots.len() {
            let Reaping { slot: at, mut from, mut soonest_ms } = self.reaping;
            let slot = &mut self.slots[at];
            let due = slot.expiry_from_ms != 0 && slot.expiry_from_ms <= now_ms;
            if from != 0 || due {
                if from == 0 {
                    // Found anew on the way. What is put in behind the walk makes itself known here again.
                    (slot.expiry_from_ms, soonest_ms) = (0, 0);
                }
                loop {
                    let next = slot.table.scan(from, 256, hasher, |entry| {
                        looked += 1;
                        let expiry = entry.expire_at_ms();
                        if expiry != 0 && expiry <= now_ms && keys < keys_max {
                            keys += 1;
                            found(entry.key());
                        } else if expiry != 0 && (soonest_ms == 0 || expiry < soonest_ms) {
                            soonest_ms = expiry;
                        }
                    });
                    match next {
                        Some(from) if looked >= entries_max || keys >= keys_max => {
                            self.reaping = Reaping { slot: at, from, soonest_ms };
                            return true;
                        }
                        Some(position) => from = position,
                        None => break,
                    }
                }
                slot.expects(soonest_ms);
            }
            self.reaping = Reaping { slot: (at + 1) % self.slots.len(), from: 0, soonest_ms: 0 };
            if looked >= entries_max || keys >= keys_max {
                return true;
            }
        }
        false
    }
}

impl Slot {
    fn expects(&mut self, expiry_ms: u64) {
        if expiry_ms != 0 && (self.expiry_from_ms == 0 || expiry_ms < self.expiry_from_ms) {
            self.expiry_from_ms = expiry_ms;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_slots() -> Keyspace {
        Keyspace::new(KeyHash::new(5), 0..16384)
    }

    /// Everything in it, as text.
    fn picture(keyspace: &Keyspace) -> std::collections::BTreeMap<Vec<u8>, String> {
        let mut all = std::collections::BTreeMap::new();
        keyspace.scan(0, usize::MAX, |_, entry| {
            let held = match entry.value() {
                super::super::entry::Value::Small(bytes) => format!("{bytes:?}"),
                super::super::entry::Value::Large(bytes) => format!("{bytes:?}"),
                super::super::entry::Value::Hash(hash) => {
                    let mut fields = std::collections::BTreeMap::new();
                    hash.for_each(|field, value| {
                        fields.insert(field.to_vec(), value.to_vec());
                    });
                    format!("{fields:?}")
                }
            };
            all.insert(entry.key().to_vec(), format!("{held} until {}", entry.expire_at_ms()));
        });
        all
    }

    fn random_effect(out: &mut Vec<u8>, mut draw: impl FnMut(u64) -> u64) {
        let key = format!("k{}", draw(40)).into_bytes();
        let field = |draw: &mut dyn FnMut(u64) -> u64| format!("f{}", draw(6)).into_bytes();
        match draw(20) {
            0..6 => effect::put_set(out, &key, &vec![b'v'; draw(60) as usize], draw(2) * 1000),
            6..8 => effect::put_delete(out, &key),
            8..10 => effect::put_expire(out, &key, draw(3) * 500),
            10..13 => effect::put_append(out, &key, &vec![b'a'; draw(40) as usize]),
            13..17 => {
                let (a, b) = (field(&mut draw), field(&mut draw));
                effect::put_hash_set(out, &key, [&a[..], b"1", &b, b"2"].into_iter());
            }
            17..19 => {
                let (a, b) = (field(&mut draw), field(&mut draw));
                effect::put_hash_delete(out, &key, [&a[..], &b].into_iter());
            }
            _ if draw(20) == 0 => effect::put_flush(out),
            _ => effect::put_delete(out, &key),
        }
    }

    #[test]
    fn every_effect_can_be_taken_back() {
        let mut state = 42u64;
        let mut draw = move |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        let mut keyspace = all_slots();
        for round in 0..300 {
            let before = picture(&keyspace);
            let sums = (keyspace.len(), keyspace.expiring());
            let mut done = Vec::new();
            for _ in 0..30 {
                let mut bytes = Vec::new();
                random_effect(&mut bytes, &mut draw);
                let (effect, _) = effect::decode(&bytes).expect("readable");
                let old = keyspace.apply(&effect);
                done.push((bytes, old));
            }
            assert_eq!(picture(&keyspace).len(), keyspace.len());
            if round % 3 != 0 {
                while let Some((bytes, old)) = done.pop() {
                    keyspace.undo(&effect::decode(&bytes).expect("readable").0, old);
                }
                assert_eq!(picture(&keyspace), before, "round {round}");
                assert_eq!((keyspace.len(), keyspace.expiring()), sums);
            }
        }
        keyspace.apply(&Effect::Flush);
        assert_eq!((keyspace.len(), keyspace.used_bytes(), keyspace.expiring()), (0, 0, 0));
    }

    #[test]
    fn sums_return_to_nothing() {
        let mut keyspace = all_slots();
        for number in 0..1000 {
            let key = format!("key{number}").into_bytes();
            keyspace.apply(&Effect::Set { key: &key, expire_at_ms: number % 3, value: &[0; 100] });
            keyspace.apply(&Effect::Append { key: &key, suffix: &[1; 50] });
        }
        assert_eq!(keyspace.len(), 1000);
        assert!(keyspace.used_bytes() > 150_000);
        for number in 0..1000 {
            keyspace.apply(&Effect::Delete { key: format!("key{number}").as_bytes() });
        }
        assert_eq!((keyspace.len(), keyspace.used_bytes(), keyspace.expiring()), (0, 0, 0));
    }

    #[test]
    fn the_expired_are_found_within_bounds() {
        let mut keyspace = all_slots();
        for number in 0..10_000u64 {
            let key = format!("{{same}}{number}").into_bytes();
            keyspace.apply(&Effect::Set { key: &key, expire_at_ms: 1 + number, value: b"" });
        }
        let mut gone = 0;
        for _ in 0..1000 {
            let mut keys = Vec::new();
            keyspace.find_expired(5_000, 1_000, 100, |key| keys.push(key.to_vec()));
            assert!(keys.len() <= 100);
            gone += keys.len();
            for key in keys {
                assert!(matches!(keyspace.apply(&Effect::Delete { key: &key }), Old::Entry(_)));
            }
        }
        assert_eq!((gone, keyspace.len()), (5_000, 5_000));
    }
}
