//! Thread-per-core I/O: one thread, one ring, one share of the state per core.
//!
//! What always holds (the contract; `tests/` proves each line on every backend):
//! - **Dropping a pending [`net::Stream::recv`] or [`net::Listener::accept`] loses nothing.** The operation lives in
//!   the stream or the listener, not in the future: the next call gets its result.
//! - `recv` yields a [`Lease`] on a pooled buffer. An idle connection holds no buffer.
//! - `send` takes owned [`Segment`]s; what one call took goes out whole and in call order, even if its future is
//!   dropped afterwards.
//! - A timeout never cancels a read half done.
//! - Every queue has a named maximum (in [`limits`]) and waits or refuses, as its item says, when full.
//! - [`turn_end`] resolves once after all that was ready in this turn has run.
//!
//! What it leaves out: what the bytes mean, TLS, and any decision about a peer.
//!
//! `--cfg sim` swaps in the simulator's twin: the same crate over a simulated kernel (`sim`, docs/TESTING.md). Only
//! what would ask the host has a twin (`system` modules, backends of the driver, clocks, randomness); everything above
//! is this code in both builds.
//!
//! Two backends serve it, io_uring and epoll; nothing above can tell which. docs/decisions/0001-runtime.md says why
//! they are our own.
//!
//! ```no_run
//! use runtime::net::{self, Address, ListenOptions};
//!
//! runtime::block_on(&runtime::Options::default(), async {
//!     let address: Address = "127.0.0.1:7".parse().unwrap();
//!     let bound = net::listen(&address, 1, &ListenOptions::default()).unwrap().remove(0);
//!     let listener = bound.open().unwrap();
//!     loop {
//!         let (stream, _peer) = listener.accept().await.unwrap();
//!         runtime::spawn(async move {
//!             while let Ok(lease) = stream.recv().await {
//!                 if lease.is_empty() || stream.send(lease).await.is_err() {
//!                     break;
//!                 }
//!             }
//!         });
//!     }
//! })
//! .unwrap();
//! ```
#![allow(clippy::disallowed_methods)] // this crate is what the banned calls are replaced by

mod blocking;
mod buf;
mod driver;
#[cfg(not(sim))]
mod entropy;
mod exec;
pub mod fs;
pub mod limits;
pub mod net;
mod once;
mod options;
#[cfg(not(sim))]
mod process;
#[cfg(sim)]
pub mod sim;
#[cfg(not(sim))]
mod start;
pub mod sync;
pub mod time;

pub use blocking::blocking;
pub use buf::{AlignedBuf, BLOCK_BYTES, Lease, Segment};
pub use exec::{JoinHandle, spawn, turn_end, yield_now};
pub use options::{BACKEND_VARIABLE, Backend, Options};

// What there is two of: the host's, and the simulator's twin.
#[cfg(not(sim))]
pub use entropy::{random_bytes, random_u64};
#[cfg(not(sim))]
pub use process::exit_process;
#[cfg(sim)]
pub use sim::host::{
    CoreHandle, block_on, cores, exit_process, io_uring_permitted, random_bytes, random_u64, spawn_core,
};
#[cfg(not(sim))]
pub use start::{CoreHandle, block_on, cores, io_uring_permitted, spawn_core};
