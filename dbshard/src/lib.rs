//! A durable, sharded key-value store that speaks RESP and Redis Cluster.
//!
//! [`core`] is the database without sockets, files, threads or clocks.
#![forbid(unsafe_code)]

pub mod core;
