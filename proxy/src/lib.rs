//! The load balancer and edge cache: an HTTP/1.1 reverse proxy.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | what an operator may set |
//! | [`core`] | what the proxy decides, pure |
//! | `shell` | moves bytes between clients and servers, decides nothing |
//! | `metrics` | what it counts |
//!
//! What always holds: a message is forwarded only if it can be read in one way; a client gets an answer whole or is cut off,
//! never a part that looks whole; nothing of a peer is held without a bound.

#![forbid(unsafe_code)]

pub mod config;
pub mod core;
mod error;
mod metrics;
mod shell;

pub use config::Config;
pub use error::Error;
pub use shell::Bound;

/// Serves `config` until `service` is asked to stop and running requests have ended.
#[expect(clippy::needless_pass_by_value, reason = "as every daemon's run: the configuration is given away")]
pub fn run(config: Config, service: &ops::Service) -> Result<(), Error> {
    Bound::new(&config)?.run(service)
}
