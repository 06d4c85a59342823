//! Who is in a cluster, where its groups live, and how they get there: under the database and the broker, above their log.
//!
//! This is being built: so far, what decides, without the nodes that do it.
#![forbid(unsafe_code)]
#![allow(dead_code, reason = "the shell follows")]

mod core;
pub mod limits;

pub use core::map::{Actual, Group, META, Map, Node, NodeState, Record};
pub use core::request::{Changed, Command, Refusal};
