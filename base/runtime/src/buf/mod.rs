//! Bytes that move through the runtime: leases on pooled receive buffers, owned segments to send, aligned buffers for
//! direct file I/O.
//!
//! What always holds: memory that the kernel may still touch is owned by the operation, never by the caller's future.

mod aligned;
mod pool;

pub use aligned::{AlignedBuf, BLOCK_BYTES};
pub(crate) use pool::{Pool, PooledBuf};

use bytes::Bytes;
use std::fmt;
use std::ops::Deref;

/// Received bytes: a lease on a buffer of the core's pool, given back when dropped.
///
/// Hold it briefly and copy what you keep: the pool is shared by all connections of the core. (An empty pool is no
/// error: receives then use the heap, slower.) An empty lease from `recv` means that the peer has finished sending.
pub struct Lease {
    start: usize,
    memory: Memory,
}

enum Memory {
    Pooled(PooledBuf),
    Heap(Vec<u8>),
}

impl Lease {
    pub(crate) fn pooled(buffer: PooledBuf) -> Lease {
        Lease { start: 0, memory: Memory::Pooled(buffer) }
    }

    /// A lease that owns `bytes`; for layers that transform what was received (TLS).
    pub fn from_vec(bytes: Vec<u8>) -> Lease {
        Lease { start: 0, memory: Memory::Heap(bytes) }
    }

    /// An empty lease: the end of a stream.
    pub fn empty() -> Lease {
        Lease::from_vec(Vec::new())
    }

    /// Drops the first `count` bytes.
    ///
    /// # Panics
    /// If `count` is more than what is left.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len(), "advance({count}) past the end of a lease of {} bytes", self.len());
        self.start += count;
    }

    /// The bytes, copied out of the pool (or handed over if they are on the heap).
    pub fn into_vec(self) -> Vec<u8> {
        match self {
            Lease { start: 0, memory: Memory::Heap(bytes) } => bytes,
            other => other.to_vec(),
        }
    }
}

impl Deref for Lease {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.memory {
            Memory::Pooled(buffer) => &buffer.bytes()[self.start..],
            Memory::Heap(bytes) => &bytes[self.start..],
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({} bytes)", self.len())
    }
}

/// Owned bytes to send. Made by `into()` from `Bytes`, `Vec<u8>`, [`Lease`] or `'static` slices, without a copy.
#[derive(Debug)]
pub enum Segment {
    /// Shared bytes.
    Bytes(Bytes),
    /// Owned bytes.
    Vec(Vec<u8>),
    /// Bytes just received, passed on.
    Lease(Lease),
    /// Bytes of the program.
    Static(&'static [u8]),
}

impl Segment {
    /// What is left behind the first `count` bytes, without a copy.
    pub(crate) fn without_prefix(self, count: usize) -> Segment {
        match self {
            Segment::Bytes(bytes) => Segment::Bytes(bytes.slice(count..)),
            Segment::Vec(bytes) => Segment::Bytes(Bytes::from(bytes).slice(count..)),
            Segment::Lease(mut lease) => {
                lease.advance(count);
                Segment::Lease(lease)
            }
            Segment::Static(bytes) => Segment::Static(&bytes[count..]),
        }
    }
}

impl Deref for Segment {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Segment::Bytes(bytes) => bytes,
            Segment::Vec(bytes) => bytes,
            Segment::Lease(lease) => lease,
            Segment::Static(bytes) => bytes,
        }
    }
}

impl From<Bytes> for Segment {
    fn from(bytes: Bytes) -> Segment {
        Segment::Bytes(bytes)
    }
}

impl From<Vec<u8>> for Segment {
    fn from(bytes: Vec<u8>) -> Segment {
        Segment::Vec(bytes)
    }
}

impl From<Lease> for Segment {
    fn from(lease: Lease) -> Segment {
        Segment::Lease(lease)
    }
}

impl From<&'static [u8]> for Segment {
    fn from(bytes: &'static [u8]) -> Segment {
        Segment::Static(bytes)
    }
}

impl From<&'static str> for Segment {
    fn from(text: &'static str) -> Segment {
        Segment::Static(text.as_bytes())
    }
}

impl<const N: usize> From<&'static [u8; N]> for Segment {
    fn from(bytes: &'static [u8; N]) -> Segment {
        Segment::Static(bytes)
    }
}
