//! The reference site: the stateless web tier and the photo workers, carried by the five daemons.
//!
//! What always holds: neither half keeps state that outlives a request or a job, so any number of either may run
//! and any may die; everything is reached over public protocols with clients written elsewhere (`redis` in cluster
//! mode, `async-memcached`, `rdkafka`), which makes the site a standing check of the daemons. Both halves come up
//! in any order with their peers and outlive their restarts.
//!
//! | module | what it is |
//! |---|---|
//! | [`config`] | the settings of both halves |
//! | [`user`], [`seed`] | the user document and the hundred that a fresh site has |
//! | [`photo`], [`operations`] | the photo's record, keys and job; the grammar of `ops=` |
//! | `store` | clients: database, cache, queue; users, sessions and photos on top of them |
//! | [`web`] | HTTP: routes, problems, the page |
//! | [`worker`] | takes photo jobs, edits pictures, stores results |
//!
//! tokio lives here and nowhere else in a data path (docs/ARCHITECTURE.md, rule 4).

#![forbid(unsafe_code)]

pub mod config;
mod error;
mod metrics;
pub mod operations;
pub mod photo;
pub mod seed;
mod store;
pub mod user;
pub mod web;
pub mod worker;

pub use config::{WebConfig, WorkerConfig};
pub use error::Error;
