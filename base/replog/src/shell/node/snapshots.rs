//! Snapshots on their way: made by a leader's state machine, sent piece by piece, taken by a follower's.
//!
//! Always holds: one piece of a transfer is under way at a time, and its answer says what is wanted next, so a broken
//! connection costs a piece, not the transfer; whoever asked for a snapshot learns what became of it; the message that
//! announces it reaches consensus only when all of its bytes are here.

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use runtime::sync::Notify;
use runtime::time;

use super::machine::{SnapshotSink, SnapshotSource};
use super::peer::Peer;
use super::{Group, Shared};
use crate::core::consensus::{Message, Persist};
use crate::core::peers::{Item, Piece};
use crate::limits::{PIECE_BYTES, PIECE_PATIENCE, PIECE_TRIES, SNAPSHOTS_MAX};
use crate::shell::fatal::stop_process;
use crate::{GroupId, Index, NodeId};

/// A snapshot that leaves.
pub(super) struct Leaving {
    id: u64,
    wanted: Cell<u64>,
    done: Cell<bool>,
    answered: Notify,
}

impl Leaving {
    pub(super) fn reached(&self, id: u64, offset: u64, done: bool) {
        if id == self.id {
            self.wanted.set(offset);
            self.done.set(done);
            self.answered.notify_one();
        }
    }
}

/// A snapshot that arrives.
pub(super) struct Arriving {
    from: NodeId,
    id: u64,
    index: Index,
    offset: u64,
    /// Absent while a piece is being written.
    sink: Option<Box<dyn SnapshotSink>>,
    whole: bool,
}

/// Has the group's state machine make a snapshot.
pub(super) fn make(shared: &Shared, group: GroupId, at_least: Index) {
    let (machine, applied) = match shared.groups.borrow().get(&group) {
        // A machine that has more than is applied, as after a restart, would give more than the snapshot's index says.
        Some(group) if group.applied >= at_least.max(group.had) => (group.machine.clone(), group.applied),
        // It is asked for again.
        _ => return,
    };
    if shared.consensus.borrow_mut().snapshot_made(group, applied).is_some() {
        let source = machine.borrow_mut().snapshot();
        if let Some(group) = shared.groups.borrow_mut().get_mut(&group) {
            group.source = Some((applied, source));
        }
    }
}

/// Sends the snapshot that `message` announces.
pub(super) fn send(shared: &Rc<Shared>, peer: &Rc<Peer>, group: GroupId, message: &Message, index: Index) {
    let source = shared.groups.borrow().get(&group).and_then(|group| group.source.clone());
    let source = source.filter(|(at, _)| *at == index);
    let place = (group, peer.node);
    let busy = shared.leaving.borrow().contains_key(&place) || shared.leaving.borrow().len() >= SNAPSHOTS_MAX;
    let (Some((_, source)), false) = (source, busy) else {
        shared.consensus.borrow_mut().snapshot_sent(group, peer.node, false);
        return;
    };
    let mut announced = Vec::new();
    message.encode(&mut announced);
    let leaving = Rc::new(Leaving {
        id: runtime::random_u64(),
        wanted: Cell::new(0),
        done: Cell::new(false),
        answered: Notify::new(),
    });
    shared.leaving.borrow_mut().insert(place, leaving.clone());
    let (shared, peer) = (shared.clone(), peer.clone());
    runtime::spawn(async move {
        let arrived = transfer(&peer, group, index, &leaving, &*source, announced.into()).await;
        match &arrived {
            Ok(()) => shared.counters.snapshot_sent(),
            Err(error) => tracing::warn!(%group, peer = %peer.node, %error, "a snapshot was given up"),
        }
        shared.leaving.borrow_mut().remove(&place);
        shared.consensus.borrow_mut().snapshot_sent(group, peer.node, arrived.is_ok());
        if !shared.leaving.borrow().keys().any(|(leaving, _)| *leaving == group) {
            // Whoever needs one later gets a newer one.
            shared.consensus.borrow_mut().forget_snapshot(group);
            if let Some(group) = shared.groups.borrow_mut().get_mut(&group) {
                group.source = None;
            }
        }
        shared.work.notify_one();
    });
}

async fn transfer(
    peer: &Peer,
    group: GroupId,
    index: Index,
    leaving: &Leaving,
    source: &dyn SnapshotSource,
    announced: Bytes,
) -> io::Result<()> {
    loop {
        let offset = leaving.wanted.get();
        let bytes = source.read(offset, PIECE_BYTES).await?;
        let last = source.read(offset + bytes.len() as u64, 1).await?.is_empty();
        let message = last.then(|| announced.clone());
        let item = Item::Piece(Piece { id: leaving.id, index, offset, message, bytes });
        let mut tries = 0;
        loop {
            peer.send_item(group, &item);
            let answer = time::timeout(PIECE_PATIENCE, leaving.answered.notified()).await;
            if leaving.done.get() {
                return Ok(());
            }
            if answer.is_ok() && leaving.wanted.get() != offset {
                break;
            }
            tries += 1;
            if tries == PIECE_TRIES {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer from the receiver"));
            }
        }
    }
}

/// A piece has come.
pub(super) fn piece(shared: &Rc<Shared>, from: NodeId, id: GroupId, piece: Piece) {
    let Some(machine) = shared.groups.borrow().get(&id).map(|group| group.machine.clone()) else { return };
    let known = |arriving: &Arriving| (arriving.from, arriving.id) == (from, piece.id);
    let begins =
        !shared.groups.borrow().get(&id).and_then(|group| group.arriving.as_ref()).is_some_and(known);
    if begins {
        let sink = Some(machine.borrow_mut().receive_snapshot());
        let arriving = Arriving { from, id: piece.id, index: piece.index, offset: 0, sink, whole: false };
        if let Some(group) = shared.groups.borrow_mut().get_mut(&id) {
            group.arriving = Some(arriving);
        }
    }
    let sink = {
        let mut groups = shared.groups.borrow_mut();
        let Some(arriving) = groups.get_mut(&id).and_then(|group| group.arriving.as_mut()) else { return };
        match arriving.offset == piece.offset && !arriving.whole {
            true => arriving.sink.take(),
            false => None,
        }
    };
    match sink {
        Some(sink) => {
            let shared = shared.clone();
            runtime::spawn(async move { write(&shared, from, id, piece, sink).await });
        }
        None => answer(shared, from, id, piece.id),
    }
}

async fn write(
    shared: &Rc<Shared>,
    from: NodeId,
    id: GroupId,
    piece: Piece,
    mut sink: Box<dyn SnapshotSink>,
) {
    let len = piece.bytes.len() as u64;
    if let Err(error) = sink.write(piece.bytes).await {
        tracing::error!(group = %id, %error, "can't keep a snapshot that is coming");
        if let Some(group) = shared.groups.borrow_mut().get_mut(&id) {
            group.arriving = None;
        }
        return;
    }
    {
        let mut groups = shared.groups.borrow_mut();
        let arriving = groups.get_mut(&id).and_then(|group| group.arriving.as_mut());
        // Another may have begun meanwhile.
        let Some(arriving) = arriving.filter(|arriving| (arriving.from, arriving.id) == (from, piece.id))
        else {
            return;
        };
        arriving.offset += len;
        arriving.whole = piece.message.is_some();
        arriving.sink = Some(sink);
    }
    if let Some(message) = piece.message {
        match Message::decode(message, from, shared.node).filter(|message| message.snapshot().is_some()) {
            Some(message) => shared.consensus.borrow_mut().receive(from, id, message, time::boot_clock()),
            None => tracing::warn!(peer = %from, group = %id, "a snapshot's announcement makes no sense"),
        }
        shared.work.notify_one();
    }
    answer(shared, from, id, piece.id);
}

/// Says how far a snapshot has come.
fn answer(shared: &Shared, to: NodeId, group: GroupId, id: u64) {
    let reached = match shared.groups.borrow().get(&group).and_then(|group| group.arriving.as_ref()) {
        Some(arriving) if arriving.id == id => {
            Item::Reached { id, offset: arriving.offset, done: arriving.whole }
        }
        _ => return,
    };
    if let Some(peer) = shared.peers.borrow().get(&to) {
        peer.send_item(group, &reached);
    }
}

/// Has the state machine take over a snapshot that is here, then the log begin anew behind it.
pub(super) fn install(shared: &Rc<Shared>, persist: Persist) {
    let (id, at) = (persist.group, persist.snapshot.as_ref().map(|snapshot| snapshot.index));
    let index = at.expect("called with a snapshot");
    let known =
        shared.groups.borrow_mut().get_mut(&id).map(|group| (group.machine.clone(), group.arriving.take()));
    // It was left meanwhile.
    let Some((machine, arriving)) = known else { return };
    let sink = arriving
        .filter(|arriving| arriving.index == index && arriving.whole)
        .and_then(|arriving| arriving.sink);
    let sink = sink.expect("a snapshot is announced when it is here");
    let shared = shared.clone();
    runtime::spawn(async move {
        if let Err(error) = sink.install(index).await {
            stop_process("taking over a snapshot", Path::new(&format!("group {id}")), &error);
        }
        let same = |group: &&mut Group| Rc::ptr_eq(&group.machine, &machine);
        match shared.groups.borrow_mut().get_mut(&id).filter(same) {
            // What it had before is not there any more.
            Some(group) => (group.applied, group.had) = (index, index),
            None => return,
        }
        shared.counters.snapshot_received();
        shared.wake_applied(id, index);
        shared.write(persist);
        shared.truncate_due(id);
    });
}
