//! Why a half of the site could not start or go on.

use std::net::SocketAddr;

/// Why [`crate::web::run`] or [`crate::worker::run`] ended other than by a request to stop. A peer that is down is
/// no reason: it is waited for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that parses but can't work.
    #[error("site configuration: {0}")]
    Config(String),
    /// The port can't be listened on.
    #[error("can't listen on {address}: {source}; is another server on that port?")]
    Listen {
        /// The address of the configuration.
        address: SocketAddr,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The runtime's threads could not be started.
    #[error("can't start the runtime: {0}")]
    Runtime(std::io::Error),
    /// The Kafka client could not be made: a fault of its settings, not of the network.
    #[error("can't set up the Kafka client for {bootstrap}: {source}")]
    Kafka {
        /// The broker's address of the configuration.
        bootstrap: String,
        /// What librdkafka said.
        source: rdkafka::error::KafkaError,
    },
}
