//! The simulated network: sockets, TCP-like streams between nodes, datagrams.
//!
//! What always holds:
//! - What arrives on a stream is a prefix of what was sent, in order, also when its sender loses power and comes back.
//!   Between streams there is no order.
//! - A packet between machines that can't reach each other waits, as TCP sends again and again, and arrives after the
//!   heal; after [`GIVE_UP_NS`] its sender gets `TimedOut`.
//! - A process that ends has its connections closed by its machine; a machine without power says nothing, and answers with
//!   a reset once it is back: until then its peers are half-open.

mod datagram;
pub(crate) mod socket;
mod stream;
pub(crate) mod udp;

use super::kernel::{CoreId, Event as KernelEvent, Kernel, NodeId};
use super::node::State as NodeState;
use crate::driver::Slot;
use datagram::Datagrams;
use socket2::SockAddr;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;
use stream::{Connecting, Endpoint, Listening, Packet};

/// A slot of a core's driver that waits.
pub(crate) type Waiter = (CoreId, Slot);

/// Bytes that a connection holds in one direction, sent and not yet received by the program.
const CONNECTION_BYTES: usize = 256 * 1024;
/// How long a sender's machine goes on trying (tcp(7), `tcp_retries2`).
const GIVE_UP_NS: u64 = 924_000_000_000;
/// How long after a heal what waited is sent again.
const RESEND_NS: std::ops::Range<u64> = 200_000..400_000_000;
/// Between processes of one machine.
const LOCAL_NS: std::ops::Range<u64> = 5_000..30_000;
/// The first port that is given out for port 0.
const EPHEMERAL_PORT: u16 = 32_768;

/// What became of an operation.
pub(crate) enum Tried {
    Done(usize),
    WouldBlock,
    Failed(i32),
}

/// Where a socket is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Ip(SocketAddr),
    Unix(PathBuf),
}

impl Name {
    fn of(address: &SockAddr) -> Name {
        match address.as_socket() {
            Some(ip) => Name::Ip(ip),
            None => Name::Unix(address.as_pathname().map(PathBuf::from).unwrap_or_default()),
        }
    }

    fn address(&self) -> SockAddr {
        match self {
            Name::Ip(ip) => (*ip).into(),
            Name::Unix(path) if path.as_os_str().is_empty() => SockAddr::unix("").expect("an unnamed socket"),
            Name::Unix(path) => SockAddr::unix(path).expect("it was an address before"),
        }
    }
}

struct Socket {
    node: NodeId,
    local: Option<Name>,
    reuse_port: bool,
    datagrams: bool,
    state: State,
}

enum State {
    New,
    Listening(Listening),
    Connecting(Connecting),
    Connected(Endpoint),
    /// Of no use any more, and why.
    Failed(i32),
    Datagrams(Datagrams),
}

/// What is on its way.
pub(in crate::sim) enum Event {
    /// Packets of a connection, from one socket to the other.
    Arrive {
        way: Way,
        packet: Packet,
    },
    /// What waited on a way may go on.
    Resend(Way),
    /// The sender gives up, if what waited since then still does.
    GiveUp(Way, u64),
    Connect {
        fd: RawFd,
        tries: u32,
    },
    Accepted {
        fd: RawFd,
        by: Way,
        tries: u32,
    },
    Refused(RawFd),
    Datagram {
        to_node: NodeId,
        from: SocketAddr,
        to: SocketAddr,
        from_node: NodeId,
        bytes: Vec<u8>,
    },
}

/// One direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sim) struct Way {
    from: RawFd,
    to: RawFd,
    from_node: NodeId,
    to_node: NodeId,
}

impl Way {
    fn back(self) -> Way {
        Way { from: self.to, to: self.from, from_node: self.to_node, to_node: self.from_node }
    }
}

struct Held {
    packets: VecDeque<Packet>,
    since: u64,
}

#[derive(Default)]
pub(in crate::sim) struct Net {
    sockets: BTreeMap<RawFd, Socket>,
    held: BTreeMap<Way, Held>,
    /// Ways on which nothing passes any more.
    silent: BTreeSet<Way>,
    /// Ways on which something was lost with its sender's power: nothing of that connection passes behind it.
    severed: BTreeSet<Way>,
    /// Cuts, by direction.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Added to the latency, by direction.
    delays: BTreeMap<(NodeId, NodeId), Duration>,
    next_port: BTreeMap<NodeId, u16>,
}

impl Kernel {
    /// Whether packets get from one machine to another. What one without power has sent before is on the wire.
    fn reaches(&self, net: &Net, from: NodeId, to: NodeId) -> bool {
        let state = |node: NodeId| self.nodes.borrow()[node].state;
        let up = state(from) != NodeState::Suspended
            && !matches!(state(to), NodeState::Off | NodeState::Suspended);
        from == to || (!net.cut.contains(&(from, to)) && up)
    }

    fn has_power(&self, node: NodeId) -> bool {
        self.nodes.borrow()[node].state != NodeState::Off
    }

    fn latency(&self, net: &Net, from: NodeId, to: NodeId) -> u64 {
        if from == to {
            return self.between(&LOCAL_NS);
        }
        let (latency, slow, slow_max) = {
            let faults = self.faults.borrow();
            (faults.net.latency.clone(), faults.net.slow_packet, faults.net.slow_packet_max)
        };
        let mut ns = self.between_times(&latency);
        if self.one_in(slow) {
            ns += self.between_times(&(Duration::ZERO..slow_max));
            self.count("packet slow", to as u64);
        }
        ns + net.delays.get(&(from, to)).map_or(0, |delay| delay.as_nanos() as u64)
    }

    /// The machine that has an address, seen from `node`.
    fn machine(&self, node: NodeId, ip: IpAddr) -> Option<NodeId> {
        if ip.is_loopback() || ip.is_unspecified() {
            return Some(node);
        }
        self.nodes.borrow().iter().position(|node| node.address == ip)
    }

    fn own_address(&self, node: NodeId, ip: IpAddr) -> bool {
        ip.is_loopback() || ip.is_unspecified() || self.nodes.borrow()[node].address == ip
    }

    pub(in crate::sim) fn net_event(&self, event: Event) {
        match event {
            Event::Arrive { way, packet } => self.arrive(way, packet),
            Event::Resend(way) => self.resend(way),
            Event::GiveUp(way, since) => self.give_up(way, since),
            Event::Connect { fd, tries } => self.connect_arrives(fd, tries),
            Event::Accepted { fd, by, tries } => self.connect_answered(fd, by, tries),
            Event::Refused(fd) => self.fail(fd, libc::ECONNREFUSED),
            Event::Datagram { to_node, from, to, from_node, bytes } => {
                self.datagram_arrives((from_node, to_node), from, to, bytes);
            }
        }
    }

    fn schedule_net(&self, ns: u64, event: Event) {
        self.schedule_in(ns, KernelEvent::Net(event));
    }

    // What the world does to the network.

    pub(in crate::sim) fn cut(&self, from: NodeId, to: NodeId) {
        if self.net.borrow_mut().cut.insert((from, to)) {
            self.count("link cut", (from * 1000 + to) as u64);
        }
    }

    pub(in crate::sim) fn heal(&self, from: NodeId, to: NodeId) {
        if self.net.borrow_mut().cut.remove(&(from, to)) {
            self.note("link healed", from as u64, to as u64);
            self.net_changed();
        }
    }

    pub(in crate::sim) fn set_delay(&self, from: NodeId, to: NodeId, delay: Duration) {
        if !delay.is_zero() {
            self.count("link delayed", (from * 1000 + to) as u64);
        }
        self.net.borrow_mut().delays.insert((from, to), delay);
    }

    /// Resets all connections between two nodes.
    pub(in crate::sim) fn reset_between(&self, a: NodeId, b: NodeId) {
        let mut net = self.net.borrow_mut();
        let fds: Vec<RawFd> = net
            .sockets
            .iter()
            .filter(|(_, socket)| match &socket.state {
                State::Connected(endpoint) => {
                    let nodes = (socket.node, endpoint.way.to_node);
                    nodes == (a, b) || nodes == (b, a)
                }
                _ => false,
            })
            .map(|(fd, _)| *fd)
            .collect();
        for fd in fds {
            self.count("connection reset", fd as u64);
            self.break_off(&mut net, fd, libc::ECONNRESET);
        }
    }

    /// Somebody can be reached again: what waits is sent.
    pub(in crate::sim) fn net_changed(&self) {
        let net = self.net.borrow();
        let free: Vec<Way> =
            net.held.keys().filter(|way| self.reaches(&net, way.from_node, way.to_node)).copied().collect();
        drop(net);
        for way in free {
            self.schedule_net(self.between(&RESEND_NS), Event::Resend(way));
        }
    }

    /// A process has ended: its machine closes its sockets, or is gone with them.
    pub(in crate::sim) fn net_process_ends(&self, node: NodeId, power_loss: bool) {
        let mut net = self.net.borrow_mut();
        let fds: Vec<RawFd> =
            net.sockets.iter().filter(|(_, socket)| socket.node == node).map(|(fd, _)| *fd).collect();
        for fd in fds {
            if power_loss {
                net.sockets.remove(&fd);
            } else {
                self.close(&mut net, fd);
            }
        }
        if power_loss {
            // What it was still sending is gone with it.
            let gone: Vec<Way> = net.held.keys().filter(|way| way.from_node == node).copied().collect();
            net.held.retain(|way, _| way.from_node != node);
            net.severed.extend(gone);
        }
    }
}
