//! A durable, sharded key-value store that speaks RESP and Redis Cluster.
//!
//! | module | what |
//! |---|---|
//! | [`core`] | the database without sockets, files, threads or clocks |
//! | `shell` | sockets and files: a core per thread, shards on cores, connections, checkpoints |
//! | [`config`] | the settings, as TOML and in code |
//! | `error` | why it can't start or go on |
//! | `metrics` | what `/metrics` shows |
//!
//! A node hosts several shards. Each is one Redis instance to its clients: its own port, its own slots, one core that owns
//! it, one group of the log. An `OK` is sent once its write is on disk.
//!
//! The protocol's grammar is in `wire::resp`, the log in `replog`. What lies in the data folder is described in
//! docs/formats/dbshard-log.md and docs/formats/dbshard-checkpoint.md.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let service = ops::Service::start(ops::Options { name: "dbshard", ..ops::Options::default() })?;
//! let config = dbshard::Config { data: "data/dbshard".into(), shards: 3, ..dbshard::Config::default() };
//! dbshard::run(config, &service)?;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

pub mod config;
pub mod core;
mod error;
mod metrics;
mod shell;

pub use config::Config;
pub use error::Error;
pub use shell::Server;

/// Serves until the service is asked to stop, then lets running requests finish and closes the log.
///
/// # Errors
/// When the configuration can't be used, an address can't be had, or the data can't be read or trusted.
#[allow(clippy::needless_pass_by_value)] // the configuration is used up: a second run needs its own
pub fn run(config: Config, service: &ops::Service) -> Result<(), Error> {
    Server::bind(&config)?.run(service)
}
