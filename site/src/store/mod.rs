//! What the site keeps elsewhere. Below: the three clients. On top of them: what the routes and workers ask for.
//!
//! What always holds: nothing here waits longer than a named deadline, and every failure to reach a peer is an
//! [`Unavailable`], which the web tier answers with 503 and the worker tries again.

pub(crate) mod cache;
pub(crate) mod db;
pub(crate) mod photos;
pub(crate) mod queue;
pub(crate) mod sessions;
pub(crate) mod users;

use std::time::Duration;

/// A store can't be reached, did not answer in time, or refused: try again later.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{store}: {reason}")]
pub(crate) struct Unavailable {
    /// The tier: `database` or `queue`. The cache is never missed: it is passed by.
    pub(crate) store: &'static str,
    /// For the log.
    pub(crate) reason: String,
}

/// The pauses between tries: doubling from `first` to `last`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BackOff {
    next: Duration,
    last: Duration,
}

impl BackOff {
    pub(crate) fn new(first: Duration, last: Duration) -> Self {
        Self { next: first, last }
    }

    /// Waits, longer each time.
    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(self.last);
    }
}

/// `N` bytes that nobody can guess.
pub(crate) fn secret_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Fails only where the kernel has no random source at all.
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// SHA-256 in lower-case hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    data_encoding::HEXLOWER.encode(digest.as_ref())
}
