//! What a group's owner brings: its state machine.
//!
//! The contract: the log calls; none of the calls may block the core, and what needs the disk is awaited by the log.
//! Determinism is the state machine's own affair: what it makes of the entries must be the same on every member.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;

use crate::{Index, NodeId, Term};

/// What the methods that use the disk give back.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + 'a>>;

/// The part that this node has in a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Role {
    /// The term that it is in.
    pub term: Term,
    /// Who leads, as far as this node knows.
    pub leader: Option<NodeId>,
    /// It is this node, and everything that was committed before its term is applied or about to be.
    pub leads: bool,
}

/// The state machine of one group on one node.
pub trait StateMachine {
    /// What it has in durable storage of its own: everything up to here. Asked when the log is opened, or the group
    /// founded or joined; never later.
    fn durable(&self) -> Index;

    /// Applies an entry. Indexes ascend, with gaps, where the log has entries of its own. After a restart, entries behind
    /// [`durable`](StateMachine::durable) come again.
    ///
    /// What it has made durable itself it reports with [`Replicas::truncate`](crate::Replicas::truncate).
    fn apply(&mut self, index: Index, entry: &Bytes);

    /// The node's role has changed. Whoever does not lead any more drops what it has begun and not seen applied: it is told so
    /// before [`apply`](StateMachine::apply) gives it what another leader has put in the place of that. Some of what it drops
    /// may be applied all the same.
    fn role(&mut self, role: Role) {
        let _ = role;
    }

    /// Everything as it is now, applied entries and no others, to be read while later ones are applied.
    fn snapshot(&mut self) -> Rc<dyn SnapshotSource>;

    /// Room for a snapshot that comes from another member. What was there stays until
    /// [`install`](SnapshotSink::install).
    fn receive_snapshot(&mut self) -> Box<dyn SnapshotSink>;
}

/// A snapshot to be sent. Several members may read it at once.
pub trait SnapshotSource {
    /// Up to `bytes` bytes from `offset` on; none at the end only.
    fn read(&self, offset: u64, bytes: usize) -> Pending<'_, Bytes>;
}

/// A snapshot that is coming. Dropped, it leaves nothing.
pub trait SnapshotSink {
    /// Takes the next bytes.
    fn write(&mut self, bytes: Bytes) -> Pending<'_, ()>;

    /// The snapshot is whole and takes the state machine's place: it is durable, with everything up to `index`, when this
    /// resolves, and [`StateMachine::apply`] goes on behind it.
    fn install(self: Box<Self>, index: Index) -> Pending<'static, ()>;
}

/// A snapshot that is small enough to be kept in memory.
impl SnapshotSource for Bytes {
    fn read(&self, offset: u64, bytes: usize) -> Pending<'_, Bytes> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let piece = self.slice(from..self.len().min(from + bytes));
        Box::pin(async move { Ok(piece) })
    }
}

/// Room for a snapshot that is small enough to be kept in memory: `install` is given it whole, and resolves as
/// [`SnapshotSink::install`] does.
pub fn gather<I: Future<Output = io::Result<()>> + 'static>(
    install: impl FnOnce(Index, Vec<u8>) -> I + 'static,
) -> Box<dyn SnapshotSink> {
    Box::new(Gathering { bytes: Vec::new(), install })
}

struct Gathering<F> {
    bytes: Vec<u8>,
    install: F,
}

impl<F, I> SnapshotSink for Gathering<F>
where
    F: FnOnce(Index, Vec<u8>) -> I + 'static,
    I: Future<Output = io::Result<()>> + 'static,
{
    fn write(&mut self, bytes: Bytes) -> Pending<'_, ()> {
        self.bytes.extend_from_slice(&bytes);
        Box::pin(async { Ok(()) })
    }

    fn install(self: Box<Self>, index: Index) -> Pending<'static, ()> {
        Box::pin((self.install)(index, self.bytes))
    }
}
