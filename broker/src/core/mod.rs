//! What the broker decides: no sockets, files, threads, clocks, randomness or futures.
//!
//! - [`log`]: one partition's log. [`producers`]: its idempotent producers. [`ahead`]: what its leader has proposed.
//!   [`entry`]: what its replicated log holds.
//! - [`topics`]: which topics exist, as a state machine over changes. [`topic_config`]: their settings.
//! - [`group`]: consumer groups, as a state machine with `now`. [`offsets`]: what they committed.
//! - [`api`]: a file per Kafka API: from a request and state to the response.

pub mod ahead;
pub mod api;
pub mod entry;
pub mod group;
pub mod log;
pub mod offsets;
pub mod producers;
pub mod topic_config;
pub mod topics;
