//! Datagrams: they may be lost, come twice and overtake each other.

use super::{Event, Name, State, Waiter};
use crate::sim::kernel::{Kernel, NodeId};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::RawFd;

/// Datagrams that wait in a socket; further ones are lost.
const WAITING_MAX: usize = 1024;

/// A bound UDP socket.
#[derive(Default)]
pub(super) struct Datagrams {
    incoming: VecDeque<Incoming>,
    waiting: Vec<Waiter>,
}

/// A datagram, who sent it and to which of our addresses, if it has come to one.
pub(in crate::sim) struct Incoming {
    pub(in crate::sim) from: SocketAddr,
    pub(in crate::sim) to: Option<SocketAddr>,
    pub(in crate::sim) bytes: Vec<u8>,
}

impl Kernel {
    /// The next datagram; `None` when there is none yet.
    pub(super) fn datagram_recv(&self, fd: RawFd) -> Result<Option<Incoming>, i32> {
        match self.net.borrow_mut().sockets.get_mut(&fd).map(|socket| &mut socket.state) {
            Some(State::Datagrams(datagrams)) => Ok(datagrams.incoming.pop_front()),
            _ => Err(libc::EBADF),
        }
    }

    /// Wakes whoever waits on this socket once there is a datagram; `false` when there is one already.
    pub(super) fn datagram_wait(&self, fd: RawFd, waiter: Waiter) -> bool {
        match self.net.borrow_mut().sockets.get_mut(&fd).map(|socket| &mut socket.state) {
            Some(State::Datagrams(datagrams)) if datagrams.incoming.is_empty() => {
                datagrams.waiting.push(waiter);
                true
            }
            _ => false,
        }
    }

    /// Sends from `from`, or from the socket's own address.
    pub(super) fn datagram_send(&self, fd: RawFd, from: Option<SocketAddr>, to: SocketAddr, bytes: &[u8]) {
        let net = self.net.borrow();
        let Some(socket) = net.sockets.get(&fd) else { return };
        let node = socket.node;
        let Some(to_node) = self.machine(node, to.ip()) else { return };
        let mut from = match (from, &socket.local) {
            (Some(from), _) => from,
            (None, Some(Name::Ip(from))) => *from,
            _ => return,
        };
        if from.ip().is_unspecified() {
            from.set_ip(if to.ip().is_loopback() { to.ip() } else { self.nodes.borrow()[node].address });
        }
        self.note_bytes("datagram", fd as u64, bytes);
        let (loss, duplicate) = {
            let faults = self.faults.borrow();
            (faults.net.datagram_loss, faults.net.datagram_duplicate)
        };
        if node != to_node && self.one_in(loss) {
            return self.count("datagram lost", to_node as u64);
        }
        let copies = if node != to_node && self.one_in(duplicate) { 2 } else { 1 };
        if copies == 2 {
            self.count("datagram doubled", to_node as u64);
        }
        for _ in 0..copies {
            let latency = self.latency(&net, node, to_node);
            let bytes = bytes.to_vec();
            self.schedule_net(latency, Event::Datagram { to_node, from, to, from_node: node, bytes });
        }
    }

    pub(super) fn datagram_arrives(
        &self,
        (from_node, to_node): (NodeId, NodeId),
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    ) {
        let mut net = self.net.borrow_mut();
        if !self.reaches(&net, from_node, to_node) {
            return self.count("datagram lost", to_node as u64);
        }
        let fits = |name: &Name| match name {
            Name::Ip(local) => {
                local.port() == to.port() && (local.ip().is_unspecified() || local.ip() == to.ip())
            }
            Name::Unix(_) => false,
        };
        let sockets: Vec<RawFd> = net
            .sockets
            .iter()
            .filter(|(_, socket)| {
                socket.node == to_node && socket.datagrams && socket.local.as_ref().is_some_and(fits)
            })
            .map(|(fd, _)| *fd)
            .collect();
        if sockets.is_empty() {
            return;
        }
        let fd = sockets[self.below(sockets.len() as u64) as usize];
        let Some(State::Datagrams(datagrams)) = net.sockets.get_mut(&fd).map(|socket| &mut socket.state)
        else {
            return;
        };
        if datagrams.incoming.len() < WAITING_MAX {
            datagrams.incoming.push_back(Incoming { from, to: Some(to), bytes });
        }
        let waiting = std::mem::take(&mut datagrams.waiting);
        drop(net);
        self.note("datagram arrives", fd as u64, 0);
        self.signal(waiting);
    }
}
