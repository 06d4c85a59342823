//! The broker's I/O: sockets, files, clocks, mailboxes between cores.
//!
//! **Who owns what.** State is split into a fixed number of *shards*, made when the data folder is made (one per core
//! then). A shard has a write-ahead log of its own for the replicated logs of the partitions whose uid falls to it and of
//! some coordinators, and lives on one core. A connection lands on whichever core accepts it; what it asks of another core's
//! shard goes there by mailbox as a job, and only the result comes back ([`mail`]). Kafka clients connect to one port per
//! broker, so their requests span partitions of all cores; moving a connection to "its" core can't help, and a lock
//! shared between cores is ruled out. So one request costs at most one message to and one from each core it touches, and
//! mailboxes are drained in batches.
//!
//! - [`server`]: starts the cores, stops them. [`start`]: one core, until it serves. [`core`]: what one core has. [`mail`]: jobs between cores.
//! - [`shard`]: partitions and their log. [`partition`]: one of them. [`recovery`]: from disk at start.
//!   [`flush`]: to disk behind the log. [`segment_files`]: the files. [`stored`]: checked JSON files.
//! - [`machine`]: a partition as the state machine of its replicated log. [`snapshot`]: partitions on their way to other nodes.
//!   [`leading`]: when this node may act as a leader.
//! - [`coordinator`]: consumer groups and offsets. [`controller`]: the topic table, on shard 0.
//! - [`forward`]: what another node has to be asked.
//! - [`connection`]: one connection. [`handlers`]: requests that wait for something. [`slot`], [`turns`]: how tasks wait.

mod connection;
mod controller;
mod coordinator;
pub(crate) mod core;
mod flush;
mod forward;
mod handlers;
mod leading;
mod machine;
mod mail;
mod partition;
mod recovery;
mod segment_files;
mod server;
mod shard;
mod slot;
mod snapshot;
mod start;
mod stored;
mod turns;

pub use server::Server;
