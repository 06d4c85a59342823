//! Files: reads and writes on the ring, metadata on the blocking threads, and the calls that make a change survive
//! power loss.
//!
//! What always holds: when [`File::append_durable`] resolves, data and what is needed to read it back are on disk;
//! [`rename`], [`remove_file`] and [`write_atomic`] have synced the folder when they resolve; the kernel's buffers
//! belong to the operation until it is done.

mod file;
mod folder;
#[cfg(not(sim))]
mod system;

#[cfg(sim)]
use crate::sim::disk::system;

pub use file::{File, OpenOptions};
pub use folder::{
    DirLock, copy, create_dir_all, lock_dir, read, read_dir, remove_file, rename, sync_dir, write_atomic,
};
