//! The replicated log under the database and the broker: what it has answered survives power loss and a lost machine.
//!
//! ```text
//! propose(group, entry) ──> log on disk (one per core, one sync for all that wait) ──> majority ──> apply ──> answer
//! ```
//!
//! There are two ways in. [`Replicas`] is a node's part in replicated groups, each with a [`StateMachine`]; a node alone is
//! a cluster of one, by the same code. [`Log`] is what lies beneath: one stream of segment files, without peers, for as
//! long as its users have not moved. docs/formats/wal.md gives the files byte by byte.
//!
//! What always holds:
//! - **What is answered stays**: [`Proposal::applied`] resolves when an entry is durable on a majority, and
//!   [`Log::wait_committed`] when it is on disk. Otherwise there is an error, or no answer.
//! - There is one leader per group and term; what is applied is the same everywhere, in the same order.
//! - A read that [`Replicas::read`] lets pass sees everything that was answered before it: by the leader's lease, which
//!   is measured on a clock that goes on while the host sleeps, or by asking a majority.
//! - While one write is in flight, proposals gather; the next write takes them all. There is no timer.
//! - Nothing damaged is passed over: opening cuts only a tail that was never wholly written, and refuses everything else
//!   with the file, the place and what to do, save what the other members of all groups have: that is fetched from them, and
//!   until it is there nothing is voted. [`repair`] gives up what is lost, when told to; votes survive that.
//! - A write or sync that fails ends the process, with a message and exit code 70. It is never tried again: what the
//!   kernel holds of the file afterwards can't be trusted.
//! - A full disk is met when a segment is made ready ahead of time, never by an entry that was taken.
//! - Nobody who speaks for another cluster, another node or another version is heard, and each is told why.
//!
//! What it leaves out: what entries mean, and keeping them (a state machine reports with [`Replicas::truncate`] what it has
//! made durable itself); who belongs to the cluster and where groups live. And what is still to come:
//! - payloads placed outside of the stream; entries of up to 16 MiB and a little travel inside;
//! - TLS between peers: they are to be on a network of their own, as a node's number is believed;
//! - a bound on the memory of all groups of a core together (each has its own), and bytes of frames sent without a copy;
//! - resuming a snapshot after the *receiver* has restarted: it begins anew.
//!
//! The map: [`limits`] holds every bound; `core` decides (formats, recovery, batches, which segments are needed; consensus;
//! what peers say) and touches no file; `shell` moves the bytes, `shell/node` those of replicated groups.
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
pub use shell::inspect::{BadBlocks, Badness, BatchReport, GroupReport, Inspection, SegmentReport, inspect};
pub use shell::log::{Log, Options, Stats};
pub use shell::node::{
    Answer, Figures, GroupStats, Latency, Mutual, NodeCore, NodeOptions, PeerFigures, Pending, Proposal,
    Question, Replicas, Role, SnapshotSink, SnapshotSource, StateMachine, ask, gather,
};
pub use shell::repair::{Repair, repair};
