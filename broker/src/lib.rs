//! A log-based message broker that speaks Kafka's protocol.
//!
//! | module | what |
//! |---|---|
//! | [`core`] | what it decides: logs, groups, topics, an answer per API |
//! | `shell` | sockets, files, cores |
//! | [`config`] | the settings |
//! | `error` | why it can't start or go on |
//! | `metrics` | what `/metrics` shows |
//!
//! The protocol itself is in `wire::kafka`.
//!
//! **The promise.** A batch is answered once it is committed: on disk, in the write-ahead logs of a majority of the partition's
//! replicas, and applied. It then survives kill -9, power loss, and the loss of a minority; each partition holds exactly the
//! answered batches, in order, once (and perhaps some that were committed but not yet answered). A batch that is not
//! committed is shown to nobody.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let service = ops::Service::start(ops::Options { name: "broker", ..ops::Options::default() })?;
//! let config = broker::Config { data: "broker-data".into(), ..broker::Config::default() };
//! broker::run(config, &service)?;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod cluster_config;
pub mod config;
pub mod core;
mod error;
mod metrics;
mod shell;

pub use cluster_config::{Cluster, NODES_MAX, Node};
pub use config::Config;
pub use error::Error;
pub use shell::Server;

/// Serves until the service is asked to stop and running requests have ended.
///
/// # Errors
/// When the configuration can't be used, the address or the data folder can't be had, or the disk fails.
pub fn run(config: Config, service: &ops::Service) -> Result<(), Error> {
    Server::bind(config)?.run(service)
}
