//! A memcached in thread-per-core Rust.
//!
//! | module | what |
//! |---|---|
//! | [`core`] | the cache without its sockets: sessions, commands, the store |
//! | `shell` | sockets: one listener per core and address, one task per connection |
//! | [`config`] | the settings, as TOML and in code |
//! | [`flags`] | memcached's own command line |
//! | `error` | why it can't start |
//! | `metrics` | what `/metrics` shows |
//!
//! The protocol's grammar is in `wire::memcached`.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let service = ops::Service::start(ops::Options { name: "cachesrv", ..ops::Options::default() })?;
//! let config = cachesrv::Config { memory_bytes: 256 << 20, ..cachesrv::Config::default() };
//! cachesrv::run(config, &service)?;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

pub mod config;
pub mod core;
mod error;
pub mod flags;
mod metrics;
mod shell;

pub use config::Config;
pub use error::Error;
pub use flags::Flags;
pub use shell::Server;

/// Serves until the service is asked to stop and running requests have ended.
///
/// # Errors
/// When the configuration can't be used, an address can't be had or a core can't be started.
#[allow(clippy::needless_pass_by_value)] // the configuration is used up: a second run needs its own
pub fn run(config: Config, service: &ops::Service) -> Result<(), Error> {
    Server::bind(&config)?.run(service)
}
