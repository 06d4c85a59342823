//! Who is in a cluster, where its groups live, and how they get there: under the database and the broker, above their log.
//!
//! ```text
//! propose ──> metadata group's leader ──> its log ──> Map, on every node ──> found, join, forget, change, transfer
//!                 └─ who is heard, what is to be moved
//! ```
//!
//! A node takes its [`Seat`]: it founds a cluster of one, or asks to be let in; both happen once in the life of its data
//! folder. On each core it then opens a [`Cluster`]: the groups of that core, and the [`Map`], which changes by
//! [`Cluster::propose`]. The owner of the groups gives their state machines ([`Owner`]); which groups are on which node, and
//! which node leads them, is the cluster's affair.
//!
//! What always holds:
//! - one node is a cluster of one, by the same code; others join it, and its groups spread over them by themselves;
//! - the map is a group's state machine, on up to five nodes; all others follow it. Its versions ascend everywhere;
//! - what is to be done follows from the map and from what is there: a node may die at every step, and others go on;
//! - a node forgets nothing of what it is a member of, and a group never has fewer copies than before on the way to elsewhere;
//! - a new group is founded on one node and grows from there; until [`Group::formed`], its owner answers nothing from it. If its
//!   founder is given up before that, the group begins again under another number: it is known by its payload.
//!
//! What it leaves out: what a payload means; who leads *now* is told by the map, a little late ([`Group::led`]); places
//! (racks, data centres) do not count in placement; nodes of a cluster trust each other.
//!
//! The map: [`limits`] holds every bound; `core` decides and touches nothing; `shell` moves the bytes. docs/formats/cluster.md
//! gives the bytes, docs/decisions/0003-cluster-map.md why the map is where it is.
#![forbid(unsafe_code)]

mod core;
mod error;
pub mod limits;
mod shell;

pub use core::map::{Actual, Group, META, Map, Node, NodeState, Record};
pub use core::request::{Changed, Command, Refusal};
pub use error::Error;
pub use shell::drive::Owner;
pub use shell::options::Options;
pub use shell::seat::{CoreSeat, Seat};
pub use shell::view::Cluster;
