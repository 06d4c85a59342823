//! What ends a measurement: one clear line, never a wrong figure.

use std::io;

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{doing}: {source}")]
    Io { doing: String, source: io::Error },
    #[error("{peer} is not installed: --install-peers installs Debian's, --peer {peer}=PATH names another")]
    NotInstalled { peer: String },
    #[error("{server} ended during {during} ({status}); its last lines:\n{tail}")]
    Died { server: String, during: String, status: String, tail: String },
    #[error("{server} took no connection at {address} within {seconds} s; its last lines:\n{tail}")]
    NotReady { server: String, address: String, seconds: u64, tail: String },
    #[error("a wrong answer: {0}")]
    WrongAnswer(String),
    #[error("{0}")]
    Usage(String),
}

impl Error {
    /// Names what was being done when the system refused.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let doing = doing.into();
        move |source| Error::Io { doing, source }
    }
}
