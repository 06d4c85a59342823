//! What a command line can say.

use super::{MetaKey, meta::Meta};

/// A length in bytes as a client announced it, at most [`super::VALUE_BYTES_MAX`].
pub type Bytes = u32;

/// One command.
#[derive(Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// `get`, `gets`, `gat`, `gats`.
    Get {
        /// The keys, each at most [`super::KEY_BYTES_MAX`] long, at least one.
        keys: Keys<'a>,
        /// Whether the answer carries the CAS value.
        cas: bool,
        /// The new expiry of `gat` and `gats`.
        exptime: Option<i32>,
    },
    /// `set add replace append prepend cas`; a data block follows.
    Store(Storage<'a>),
    /// `delete`.
    Delete {
        /// The key.
        key: &'a [u8],
        /// No answer.
        noreply: bool,
    },
    /// `incr`, `decr`.
    Arithmetic {
        /// The key.
        key: &'a [u8],
        /// `incr`.
        increment: bool,
        /// By how much.
        delta: u64,
        /// No answer.
        noreply: bool,
    },
    /// `touch`.
    Touch {
        /// The key.
        key: &'a [u8],
        /// The new expiry.
        exptime: i32,
        /// No answer.
        noreply: bool,
    },
    /// `flush_all`.
    FlushAll {
        /// When: at once if not above 0, else like an item's expiry.
        delay: i32,
        /// No answer.
        noreply: bool,
    },
    /// `verbosity`.
    Verbosity {
        /// The level.
        level: u32,
        /// No answer.
        noreply: bool,
    },
    /// `cache_memlimit`.
    CacheMemlimit {
        /// The new limit in MiB.
        megabytes: u32,
        /// No answer.
        noreply: bool,
    },
    /// `stats`, with its arguments.
    Stats(Tokens<'a>),
    /// `version`.
    Version,
    /// `quit`.
    Quit,
    /// `shutdown`, with its arguments.
    Shutdown(Tokens<'a>),
    /// A command for the operator of memcached's own machinery, the name with its arguments: `slabs`, `lru`,
    /// `lru_crawler`, `watch`.
    Admin(&'a [u8], Tokens<'a>),
    /// `mg`.
    MetaGet(Meta<'a>),
    /// `ms`; a data block of this length follows.
    MetaSet(Meta<'a>, Bytes),
    /// `md`.
    MetaDelete(Meta<'a>),
    /// `ma`.
    MetaArithmetic(Meta<'a>),
    /// `me`.
    MetaDebug(MetaKey<'a>),
    /// `mn`.
    MetaNoop,
}

/// What decides whether a value is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageMode {
    /// Always.
    Set,
    /// Only a key that is not there.
    Add,
    /// Only a key that is there.
    Replace,
    /// After the value that is there.
    Append,
    /// Before the value that is there.
    Prepend,
    /// Only over this version; 0 never matches.
    Cas(u64),
}

/// A classic storage command.
#[derive(Debug, PartialEq, Eq)]
pub struct Storage<'a> {
    /// Which.
    pub mode: StorageMode,
    /// The key.
    pub key: &'a [u8],
    /// The client's own 32 bits.
    pub flags: u32,
    /// The expiry as the client wrote it.
    pub exptime: i32,
    /// The length of the data block without its line end.
    pub bytes: Bytes,
    /// No answer, not even an error.
    pub noreply: bool,
}

/// A line that is not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The answer without its line end; `None` closes the connection without a word.
    pub text: Option<&'static str>,
    /// The client asked for silence.
    pub noreply: bool,
    /// How many bytes of data, their line end included, follow and are to be skipped.
    pub skip: u64,
}

impl Refusal {
    /// A refusal that is answered and skips nothing.
    pub fn new(text: &'static str) -> Refusal {
        Refusal { text: Some(text), noreply: false, skip: 0 }
    }

    pub(super) fn quiet(mut self, noreply: bool) -> Refusal {
        self.noreply = noreply;
        self
    }
}

/// The tokens of a line: what stands between spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    /// The tokens in `rest`.
    pub fn new(rest: &'a [u8]) -> Tokens<'a> {
        Tokens { rest }
    }

    /// What no token was taken from yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.rest.iter().position(|byte| *byte != b' ')?;
        let rest = &self.rest[start..];
        let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
        self.rest = &rest[end..];
        Some(&rest[..end])
    }
}

/// The keys of a retrieval, in order, repeats kept.
pub type Keys<'a> = Tokens<'a>;
