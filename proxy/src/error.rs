//! Why the proxy cannot start or go on.

use std::io;

/// Why the proxy cannot start or go on. What goes wrong with one peer is answered to that peer and counted, not given here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that cannot be served.
    #[error("configuration: {key}: {problem}")]
    Config {
        /// The key, as in the file.
        key: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// An address that cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// A certificate or key that cannot be served.
    #[error("TLS for {address}: {source}")]
    Tls {
        /// The listener's address.
        address: String,
        /// Why.
        source: tls::Error,
    },
    /// A core could not be started, or ended by itself.
    #[error("core {core}: {source}")]
    Core {
        /// Which.
        core: usize,
        /// Why.
        source: io::Error,
    },
}
