//! The way to one peer from one stream of this node: a connection, made again whenever it breaks, and what waits for it.
//!
//! Always holds: what is queued is bounded; what can't be sent is dropped and said to be so (consensus sends it again);
//! all that was queued in a turn goes out together.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use runtime::net::Address;
use runtime::sync::Notify;
use runtime::time;

use crate::core::peers::{self, HELLO_BYTES, Hello};
use crate::limits::{FRAME_BYTES_ENOUGH, HELLO_PATIENCE, PEER_QUEUE_BYTES_MAX, RECONNECT, SEND_PATIENCE};
use crate::shell::node::link::{self, Link};
use crate::shell::node::{PeerFigures, Shared};
use crate::{GroupId, NodeId};

pub(super) struct Peer {
    pub(super) node: NodeId,
    address: RefCell<Address>,
    frames: RefCell<VecDeque<Vec<u8>>>,
    bytes: Cell<usize>,
    connected: Cell<bool>,
    /// It is no peer any more.
    gone: Cell<bool>,
    /// Something was dropped since anybody asked.
    dropped: Cell<bool>,
    /// How much ever was, and how many bytes were given to the network.
    dropped_ever: Cell<u64>,
    sent_bytes: Cell<u64>,
    work: Notify,
    /// Why the last attempt failed, so that it is said once.
    said: RefCell<String>,
}

impl Peer {
    pub(super) fn new(node: NodeId, address: Address) -> Peer {
        Peer {
            node,
            address: RefCell::new(address),
            frames: RefCell::default(),
            bytes: Cell::new(0),
            connected: Cell::new(false),
            gone: Cell::new(false),
            dropped: Cell::new(false),
            dropped_ever: Cell::new(0),
            sent_bytes: Cell::new(0),
            work: Notify::new(),
            said: RefCell::default(),
        }
    }

    pub(super) fn set_address(&self, address: Address) {
        *self.address.borrow_mut() = address;
    }

    /// Ends the connection, and makes no other.
    pub(super) fn leave(&self) {
        self.gone.set(true);
        self.work.notify_one();
    }

    /// Queues a message, written by `write`.
    pub(super) fn send_message(&self, group: GroupId, write: impl FnOnce(&mut Vec<u8>)) {
        self.send(|frame| peers::put_message(group, frame, write));
    }

    /// Queues another item.
    pub(super) fn send_item(&self, group: GroupId, item: &peers::Item) {
        self.send(|frame| item.encode(group, frame));
    }

    fn send(&self, write: impl FnOnce(&mut Vec<u8>)) {
        if !self.connected.get() || self.bytes.get() > PEER_QUEUE_BYTES_MAX {
            self.dropped.set(true);
            self.dropped_ever.set(self.dropped_ever.get() + 1);
            return;
        }
        let mut frames = self.frames.borrow_mut();
        if frames.back().is_none_or(|frame| peers::body_bytes(frame) >= FRAME_BYTES_ENOUGH) {
            frames.push_back(peers::begin_frame());
            self.work.notify_one();
        }
        let frame = frames.back_mut().expect("one was begun");
        let before = frame.len();
        write(frame);
        self.bytes.set(self.bytes.get() + frame.len() - before);
    }

    pub(super) fn figures(&self) -> PeerFigures {
        PeerFigures {
            connected: usize::from(self.connected.get()),
            sent_bytes: self.sent_bytes.get(),
            queued_bytes: self.bytes.get(),
            dropped: self.dropped_ever.get(),
            lag_max: 0,
        }
    }

    /// Whether something was dropped since the last call.
    pub(super) fn take_dropped(&self) -> bool {
        self.dropped.take()
    }

    fn next_frame(&self) -> Option<Vec<u8>> {
        let frame = self.frames.borrow_mut().pop_front()?;
        self.bytes.set(self.bytes.get() - peers::body_bytes(&frame));
        self.sent_bytes.set(self.sent_bytes.get() + frame.len() as u64);
        Some(peers::finish_frame(frame))
    }

    fn disconnected(&self) {
        self.connected.set(false);
        self.frames.borrow_mut().clear();
        self.bytes.set(0);
        self.dropped.set(true);
    }
}

/// Keeps the connection, until it is aborted or the peer is none any more.
pub(super) async fn keep(shared: Rc<Shared>, peer: Rc<Peer>) {
    let mut wait = RECONNECT.0;
    while !peer.gone.get() {
        match connect(&shared, &peer).await {
            Ok(stream) => {
                tracing::info!(peer = %peer.node, "connected");
                wait = RECONNECT.0;
                peer.said.borrow_mut().clear();
                peer.connected.set(true);
                let why = talk(&shared, &peer, Rc::new(stream)).await;
                tracing::info!(peer = %peer.node, %why, "the connection has ended");
            }
            Err(why) => {
                if *peer.said.borrow() != why {
                    tracing::warn!(peer = %peer.node, address = %peer.address.borrow(), %why, "no connection");
                    *peer.said.borrow_mut() = why;
                }
            }
        }
        peer.disconnected();
        shared.work.notify_one();
        // Apart from each other, so that not all nodes of a cluster come at the same moment.
        let jitter = Duration::from_millis(runtime::random_u64() % 20);
        time::sleep(wait + jitter).await;
        wait = (wait * 2).min(RECONNECT.1);
    }
}

async fn connect(shared: &Shared, peer: &Peer) -> Result<Link, String> {
    let address = peer.address.borrow().clone();
    let (cluster, from) = (shared.cluster, shared.node);
    let hello = Hello { cluster, from, to: peer.node, boot: shared.boot, stream: shared.stream };
    let greet = async {
        let stream = link::connect(&address, shared.mutual.as_ref()).await?;
        stream.send(hello.encode().to_vec()).await.map_err(|error| error.to_string())?;
        let answer = read_hello(&stream).await?;
        peers::check_answer(&answer, &hello).map_err(|stranger| stranger.to_string())?;
        Ok(stream)
    };
    time::timeout(HELLO_PATIENCE, greet).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
}

/// Reads a greeting or its answer; whatever follows it is read later.
pub(super) async fn read_hello(stream: &Link) -> Result<[u8; HELLO_BYTES], String> {
    let mut bytes = Vec::new();
    while bytes.len() < HELLO_BYTES {
        let lease = stream.recv().await.map_err(|error| error.to_string())?;
        if lease.is_empty() {
            return Err("closed before it has said who it is".to_owned());
        }
        bytes.extend_from_slice(&lease);
    }
    bytes.try_into().map_err(|_| "says more than its greeting before it was answered".to_owned())
}

/// Sends what is queued, until the connection breaks; gives the reason.
async fn talk(shared: &Rc<Shared>, peer: &Rc<Peer>, stream: Rc<Link>) -> String {
    let ended = Rc::new(Cell::new(false));
    // A peer says nothing here after its answer: what comes is the end.
    let watch = {
        let (stream, ended, peer) = (stream.clone(), ended.clone(), peer.clone());
        runtime::spawn(async move {
            while stream.recv().await.is_ok_and(|lease| !lease.is_empty()) {}
            ended.set(true);
            peer.work.notify_one();
        })
    };
    let mut alive_sent = time::now();
    let why = loop {
        let _ = time::timeout(shared.alive_every, peer.work.notified()).await;
        runtime::turn_end().await;
        if ended.get() {
            break "closed by the peer".to_owned();
        }
        if peer.gone.get() {
            break "no peer any more".to_owned();
        }
        let mut failed = None;
        if time::now() - alive_sent >= shared.alive_every {
            alive_sent = time::now();
            failed = send(&stream, peers::finish_frame(peers::begin_frame())).await.err();
        }
        while let (None, Some(frame)) = (&failed, peer.next_frame()) {
            failed = send(&stream, frame).await.err();
        }
        if let Some(why) = failed {
            break why;
        }
    };
    watch.abort();
    stream.abort();
    why
}

async fn send(stream: &Link, frame: Vec<u8>) -> Result<(), String> {
    match time::timeout(SEND_PATIENCE, stream.send(frame)).await {
        Ok(sent) => sent.map_err(|error| error.to_string()),
        Err(_) => Err("takes nothing any more".to_owned()),
    }
}
