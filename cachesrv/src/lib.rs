//! A memcached in thread-per-core Rust.
//!
//! | module | what |
//! |---|---|
//! | [`core`] | the cache without its sockets: sessions, commands, the store |
//!
//! The protocol's grammar is in `wire::memcached`.

#![forbid(unsafe_code)]

pub mod core;
