//! DNS that answers with the nearest healthy data centre.
//!
//! | module | what |
//! |---|---|
//! | [`core`] | what to answer: zones, pools, responses; pure |
//! | [`shell`] | sockets and cores |
//! | [`config`] | what an operator may set |
//! | `metrics` | what an operator can see |
//! | [`error`] | why it cannot start or go on |
//!
//! Today: authoritative answers from zone files over UDP and TCP, and pools of addresses chosen by weight.
#![forbid(unsafe_code)]

pub mod config;
pub mod core;
pub mod error;
mod metrics;
pub mod shell;

pub use config::Config;
pub use error::Error;
pub use shell::Bound;

/// Loads the zones, binds, and serves until a stop is requested and every core has drained.
///
/// # Errors
/// What can't be served or listened on, or a core that ended by itself.
pub fn run(config: Config, service: &ops::Service) -> Result<(), Error> {
    Bound::bind(config)?.run(service)
}
