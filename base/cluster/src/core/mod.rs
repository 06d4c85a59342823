//! What decides: the map and what changes it, placement, and the steps that bring a group to where it is wanted.
//!
//! ```text
//! Request ──(execute, plan, health: at the metadata group's leader)──> Effects ──(log)──> Map, the same on every node
//! (Map, this node) ──(duty)──> found, join, forget       (Map, a group's members) ──(step)──> report, change, transfer
//! ```
//!
//! Always holds: nothing here has a memory of its own: what is to be done follows from the map and from what is there.

pub(crate) mod codec;
pub(crate) mod duty;
pub(crate) mod entry;
pub(crate) mod execute;
pub(crate) mod health;
pub(crate) mod map;
pub(crate) mod placement;
pub(crate) mod plan;
pub(crate) mod request;
pub(crate) mod step;
pub(crate) mod wire;

#[cfg(test)]
mod placement_test;
#[cfg(test)]
mod rng;
#[cfg(test)]
mod world_test;
