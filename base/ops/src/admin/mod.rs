//! The admin endpoint: `/metrics`, `/healthz`, `/readyz`, `/config`, and the pages that the daemon adds.
//!
//! It is for operators and scrapers on a private address: HTTP/1.1, GET and HEAD, no TLS, no login. What always holds:
//! nothing that a peer sends makes it take more than the limits of [`crate::limits`].

pub(crate) mod core;
pub(crate) mod shell;
