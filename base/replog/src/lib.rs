//! An ordered log that survives power loss: the one under the database and the broker.
//!
//! ```text
//! propose(group, bytes) ──> queue ──> one write and sync for all that wait ──> on_commit(index) ──> waiters
//! ```
//!
//! Today a log is one stream of segment files on one node; replication comes under the same API. docs/formats/wal.md
//! gives the files byte by byte.
//!
//! What always holds:
//! - **What is committed is on disk**: [`Log::committed`], [`Log::on_commit`] and [`Log::wait_committed`] speak only
//!   of entries that survive power loss.
//! - Entries are in the log in the order of the calls to [`Log::propose`], across groups too; the indexes of a group
//!   begin at 1 and have no gaps.
//! - While one write is in flight, proposals gather; the next write takes them all. There is no timer.
//! - Nothing damaged is passed over: [`Log::open`] cuts only a tail that was never wholly written, and refuses
//!   everything else with the file, the place and what to do. [`repair`] gives up what is lost, when told to.
//! - A write or sync that fails ends the process, with a message and exit code 70. It is never tried again: what the
//!   kernel holds of the file afterwards can't be trusted.
//! - A full disk is met when a segment is made ready ahead of time, never by an entry that was taken.
//!
//! What it leaves out: what entries mean, and keeping them. Once an entry is committed, the log holds it on disk only;
//! a state machine keeps its own copy and says with [`Log::truncate`] when it has that in durable storage of its own.
//! Entries of up to 16 MiB and a little travel inside the stream; placing large ones elsewhere comes later.
//!
//! The map: [`limits`] holds every bound; `core` decides (formats, recovery, batches, which segments are needed) and
//! touches no file; `shell` moves the bytes.
//!
//! ```no_run
//! use replog::{GroupId, Log, Options};
//!
//! runtime::block_on(&runtime::Options::default(), async {
//!     let (log, mut recovered) = Log::open(Options::new("data/wal/0")).await?;
//!     let group = GroupId(1);
//!     for (index, entry) in recovered.take(group) {
//!         println!("{index}: {} bytes, applied again", entry.len());
//!     }
//!     log.on_commit(group, move |index| println!("durable up to {index}: apply, then answer"));
//!     let index = log.propose(group, "an entry")?;
//!     log.wait_committed(group, index).await?;
//!     log.close().await
//! })
//! .unwrap()
//! .unwrap();
//! ```
#![forbid(unsafe_code)]

mod core;
mod error;
mod ids;
pub mod limits;
mod recovered;
mod shell;

pub use core::consensus::{Change, Members};
pub use error::Error;
pub use ids::{GroupId, Index, NodeId, Term};
pub use recovered::Recovered;
pub use shell::log::{Log, Options, Stats};
pub use shell::repair::{Repair, repair};
