//! A key with what places it: its slot in the cluster and its hash in memory.

use wire::resp::slot;

/// The longest key, just below 64 KiB: with the longest value it still fits one entry of the log. A request that names a
/// longer one is refused.
pub const KEY_BYTES_MAX: usize = (64 << 10) - 512;

/// A seeded 64-bit hash of keys and fields.
///
/// Multiply-and-fold over 16 bytes at a time, in the manner of wyhash: quick on short keys, and not to be predicted by
/// who does not know the seed (a guard against crafted collisions, not a cryptographic hash).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash {
    seed: u64,
}

const P0: u64 = 0xa076_1d64_78bd_642f;
const P1: u64 = 0xe703_7ed1_a0b4_28db;
const P2: u64 = 0x8ebc_6af0_9c88_c6e3;

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

impl KeyHash {
    /// The hash of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The seed, to be kept with what depends on it.
    #[must_use]
    pub fn seed(self) -> u64 {
        self.seed
    }

    /// The hash of some bytes.
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> u64 {
        let mut state = self.seed ^ P0;
        let (pairs, rest) = bytes.as_chunks::<16>();
        for pair in pairs {
            let (low, high) = pair.split_at(8);
            state = fold(word(low) ^ P1, word(high) ^ state);
        }
        let (low, high) = rest.split_at(rest.len().min(8));
        state = fold(word(low) ^ P2, word(high) ^ state);
        fold(state ^ P0, bytes.len() as u64 ^ P1)
    }
}

/// A key on its way to the keyspace.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// The name.
    pub bytes: &'a [u8],
    /// The hash slot, 0 to 16383.
    pub slot: u16,
    /// The hash within the slot's table.
    pub hash: u64,
}

impl<'a> Key<'a> {
    /// Places a key.
    #[must_use]
    pub fn new(bytes: &'a [u8], hash: KeyHash) -> Self {
        Self { bytes, slot: slot::of(bytes), hash: hash.of(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_depends_on_every_byte_the_length_and_the_seed() {
        let hash = KeyHash::new(7);
        let mut seen = std::collections::HashSet::new();
        for length in 0..64 {
            assert!(seen.insert(hash.of(&vec![0; length])), "length {length}");
            for at in 0..length {
                let mut bytes = vec![0; length];
                bytes[at] = 1;
                assert!(seen.insert(hash.of(&bytes)), "length {length}, byte {at}");
            }
        }
        assert_ne!(hash.of(b"key"), KeyHash::new(8).of(b"key"));
    }
}
