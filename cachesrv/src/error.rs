//! Why the cache can't start.

use std::io;

/// Each says what failed, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting, or two that do not go together.
    #[error("cachesrv: {0}")]
    Config(String),
    /// An address that can't be listened on.
    #[error("cachesrv: cannot listen on {address}: {source}; free it or set another (-l, -p, -s, `listen`)")]
    Listen {
        /// As set.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// A core's thread or ring.
    #[error("cachesrv: cannot run core {core}: {source}")]
    Core {
        /// Its number, from 0.
        core: usize,
        /// What the system said.
        source: io::Error,
    },
    /// A core ended by a broken invariant; the log has the message.
    #[error("cachesrv: core {core} panicked")]
    Panic {
        /// Its number, from 0.
        core: usize,
    },
}
