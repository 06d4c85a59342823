//! The log's files and tasks: moves bytes between the core and the disk.

mod blocks;
mod buffers;
mod fatal;
mod folder;
pub(crate) mod inspect;
pub(crate) mod log;
pub(crate) mod node;
mod once;
mod open;
pub(crate) mod repair;
mod waiters;
mod writer;
