//! The database itself, without sockets, files, threads or clocks.
//!
//! A [`shard::Shard`] is one Redis instance: bytes of requests and `now` go in; replies, each with the write it must wait
//! for, and the log entries that carry the writes come out.
//!
//! Reading order: [`shard`] (how a command runs and commits), [`command`] (the table), [`commands`] and [`types`] (the
//! commands themselves), [`effect`] (what is logged), [`keyspace`] over [`table`] and [`entry`] (where it lies),
//! [`checkpoint`] (how it is saved), [`topology`] (who has which slot).

pub mod checkpoint;
pub mod command;
pub mod commands;
#[cfg(test)]
mod console;
pub mod effect;
pub mod entry;
pub mod glob;
pub mod key;
pub mod keyspace;
pub mod output;
pub mod overlay;
pub mod session;
pub mod shard;
pub mod table;
pub mod topology;
pub mod types;
