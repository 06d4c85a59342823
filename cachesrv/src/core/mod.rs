//! The cache without its sockets: bytes and a moment in, bytes out.

pub mod cache;
pub(crate) mod change;
pub(crate) mod classic;
pub mod clock;
pub(crate) mod meta;
pub mod session;
pub mod stats;
pub(crate) mod store;

/// The hash of a key, the same for index and shard choice.
pub(crate) fn hash(key: &[u8], seed: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(key, seed)
}
