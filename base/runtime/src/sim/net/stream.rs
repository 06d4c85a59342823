//! Connections: how they begin, carry bytes and end.

use super::{
    CONNECTION_BYTES, EPHEMERAL_PORT, Event, GIVE_UP_NS, Held, Name, Net, Socket, State, Tried, Waiter, Way,
};
use crate::buf::Segment;
use crate::sim::kernel::{Kernel, NodeId};
use socket2::SockAddr;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;

/// Tries to connect, each twice as long after the last as that one was, from a second on.
const CONNECT_TRIES: u32 = 6;
const CONNECT_RETRY_NS: u64 = 1_000_000_000;

#[derive(Debug, Clone)]
pub(in crate::sim) enum Packet {
    Data(Vec<u8>),
    /// The other program has taken so many bytes.
    Room(usize),
    Fin,
    Reset,
}

#[derive(Default)]
pub(super) struct Listening {
    backlog: usize,
    queue: VecDeque<RawFd>,
    waiting: Vec<Waiter>,
}

pub(super) struct Connecting {
    target: Name,
    to_node: Option<NodeId>,
    waiting: Vec<Waiter>,
}

pub(super) struct Endpoint {
    pub(super) way: Way,
    remote: Name,
    incoming: VecDeque<u8>,
    /// The peer sends no more.
    finished: bool,
    /// We send no more.
    fin_sent: bool,
    broken: Option<i32>,
    /// Sent, and not yet taken by the other program.
    outstanding: usize,
    /// The earliest that the next packet may arrive: streams keep their order.
    next_arrival: u64,
    readers: Vec<Waiter>,
    writers: Vec<Waiter>,
}

impl Endpoint {
    fn new(way: Way, remote: Name) -> Endpoint {
        Endpoint {
            way,
            remote,
            incoming: VecDeque::new(),
            finished: false,
            fin_sent: false,
            broken: None,
            outstanding: 0,
            next_arrival: 0,
            readers: Vec::new(),
            writers: Vec::new(),
        }
    }

    fn take_waiting(&mut self) -> Vec<Waiter> {
        let mut waiting = std::mem::take(&mut self.readers);
        waiting.append(&mut self.writers);
        waiting
    }
}

impl Net {
    fn endpoint(&mut self, fd: RawFd) -> Result<&mut Endpoint, i32> {
        match self.sockets.get_mut(&fd).map(|socket| &mut socket.state) {
            Some(State::Connected(endpoint)) => Ok(endpoint),
            Some(State::Failed(errno)) => Err(*errno),
            Some(_) => Err(libc::ENOTCONN),
            None => Err(libc::EBADF),
        }
    }

    fn listeners(&self, node: NodeId, target: &Name) -> Vec<RawFd> {
        let matches = |local: &Name| match (local, target) {
            (Name::Ip(local), Name::Ip(target)) => {
                local.port() == target.port()
                    && local.is_ipv4() == target.is_ipv4()
                    && (local.ip().is_unspecified() || local.ip() == target.ip())
            }
            (local, target) => local == target,
        };
        self.sockets
            .iter()
            .filter(|(_, socket)| {
                socket.node == node
                    && matches!(socket.state, State::Listening(_))
                    && socket.local.as_ref().is_some_and(matches)
            })
            .map(|(fd, _)| *fd)
            .collect()
    }
}

impl Kernel {
    // Calls on sockets.

    pub(super) fn net_socket(&self, datagrams: bool) -> Result<RawFd, i32> {
        let node = self.caller().ok_or(libc::EIO)?;
        let fd = self.new_fd();
        let state = State::New;
        let socket = Socket { node, local: None, reuse_port: false, datagrams, state };
        self.net.borrow_mut().sockets.insert(fd, socket);
        Ok(fd)
    }

    pub(super) fn net_set_reuse_port(&self, fd: RawFd, on: bool) {
        if let Some(socket) = self.net.borrow_mut().sockets.get_mut(&fd) {
            socket.reuse_port = on;
        }
    }

    pub(super) fn net_bind(&self, fd: RawFd, address: &SockAddr) -> Result<(), i32> {
        let mut net = self.net.borrow_mut();
        let Some(socket) = net.sockets.get(&fd) else { return Err(libc::EBADF) };
        let (node, datagrams, reuse) = (socket.node, socket.datagrams, socket.reuse_port);
        let mut name = Name::of(address);
        if let Name::Ip(ip) = &mut name {
            if !self.own_address(node, ip.ip()) {
                return Err(libc::EADDRNOTAVAIL);
            }
            if ip.port() == 0 {
                ip.set_port(free_port(&mut net, node, datagrams));
            }
        }
        let in_use = net.sockets.values().any(|other| {
            other.node == node
                && other.datagrams == datagrams
                && !matches!(other.state, State::Connected(_) | State::Connecting(_))
                && !(reuse && other.reuse_port)
                && other.local.as_ref().is_some_and(|local| overlap(local, &name))
        });
        if in_use {
            return Err(libc::EADDRINUSE);
        }
        let socket = net.sockets.get_mut(&fd).expect("it was there");
        socket.local = Some(name);
        if datagrams {
            socket.state = State::Datagrams(super::Datagrams::default());
        }
        Ok(())
    }

    pub(super) fn net_listen(&self, fd: RawFd, backlog: i32) -> Result<(), i32> {
        let mut net = self.net.borrow_mut();
        let socket = net.sockets.get_mut(&fd).ok_or(libc::EBADF)?;
        let backlog = usize::try_from(backlog).unwrap_or(0).max(1);
        socket.state = State::Listening(Listening { backlog, ..Listening::default() });
        Ok(())
    }

    pub(super) fn net_local(&self, fd: RawFd) -> Result<SockAddr, i32> {
        let net = self.net.borrow();
        let socket = net.sockets.get(&fd).ok_or(libc::EBADF)?;
        let any = Name::Ip(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0));
        Ok(socket.local.as_ref().unwrap_or(&any).address())
    }

    pub(super) fn net_peer(&self, fd: RawFd) -> Result<SockAddr, i32> {
        let mut net = self.net.borrow_mut();
        let endpoint = net.endpoint(fd)?;
        if endpoint.broken.is_some() { Err(libc::ENOTCONN) } else { Ok(endpoint.remote.address()) }
    }

    pub(super) fn net_shutdown(&self, fd: RawFd, both: bool) -> Result<(), i32> {
        let mut net = self.net.borrow_mut();
        let endpoint = net.endpoint(fd)?;
        if let Some(errno) = endpoint.broken {
            return Err(errno);
        }
        if both {
            endpoint.finished = true;
        }
        let waiting = std::mem::take(&mut endpoint.readers);
        if !std::mem::replace(&mut endpoint.fin_sent, true) {
            self.transmit(&mut net, fd, Packet::Fin);
        }
        drop(net);
        self.signal(waiting);
        Ok(())
    }

    /// Ends a connection now.
    pub(super) fn net_reset(&self, fd: RawFd) {
        let mut net = self.net.borrow_mut();
        if net.endpoint(fd).is_ok_and(|endpoint| endpoint.broken.is_none()) {
            self.transmit(&mut net, fd, Packet::Reset);
        }
        drop(net);
        self.fail(fd, libc::ENOTCONN);
    }

    pub(super) fn net_close(&self, fd: RawFd) {
        let mut net = self.net.borrow_mut();
        self.close(&mut net, fd);
    }

    // The driver's operations.

    pub(in crate::sim) fn net_connect(&self, fd: RawFd, address: &SockAddr) {
        let mut net = self.net.borrow_mut();
        let Some(node) = net.sockets.get(&fd).map(|socket| socket.node) else { return };
        let target = Name::of(address);
        let (local, to_node) = match &target {
            Name::Unix(_) => (Name::Unix(std::path::PathBuf::new()), Some(node)),
            Name::Ip(ip) => {
                let to_node = self.machine(node, ip.ip());
                let own = if to_node == Some(node) { ip.ip() } else { self.nodes.borrow()[node].address };
                let own = match own {
                    IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                    IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                    other => other,
                };
                (Name::Ip(SocketAddr::new(own, free_port(&mut net, node, false))), to_node)
            }
        };
        let socket = net.sockets.get_mut(&fd).expect("it was there");
        socket.local.get_or_insert(local);
        socket.state = State::Connecting(Connecting { target, to_node, waiting: Vec::new() });
        let latency = self.latency(&net, node, to_node.unwrap_or(node));
        drop(net);
        self.note("connect", fd as u64, node as u64);
        self.schedule_net(latency, Event::Connect { fd, tries: 0 });
    }

    pub(in crate::sim) fn net_connected(&self, fd: RawFd, waiter: Waiter) -> Tried {
        match self.net.borrow_mut().sockets.get_mut(&fd).map(|socket| &mut socket.state) {
            Some(State::Connected(_)) => Tried::Done(0),
            Some(State::Connecting(connecting)) => {
                park(&mut connecting.waiting, waiter);
                Tried::WouldBlock
            }
            Some(State::Failed(errno)) => Tried::Failed(*errno),
            _ => Tried::Failed(libc::EBADF),
        }
    }

    pub(in crate::sim) fn net_accept(&self, fd: RawFd, waiter: Waiter) -> Tried {
        match self.net.borrow_mut().sockets.get_mut(&fd).map(|socket| &mut socket.state) {
            Some(State::Listening(listening)) => match listening.queue.pop_front() {
                Some(fd) => Tried::Done(fd as usize),
                None => {
                    park(&mut listening.waiting, waiter);
                    Tried::WouldBlock
                }
            },
            Some(_) => Tried::Failed(libc::EINVAL),
            None => Tried::Failed(libc::EBADF),
        }
    }

    /// Up to `len` bytes, and whether more wait.
    pub(in crate::sim) fn net_recv(
        &self,
        fd: RawFd,
        len: usize,
        waiter: Option<Waiter>,
    ) -> Result<(Vec<u8>, bool), Tried> {
        let mut net = self.net.borrow_mut();
        let endpoint = net.endpoint(fd).map_err(Tried::Failed)?;
        if !endpoint.incoming.is_empty() {
            let count = endpoint.incoming.len().min(len);
            let bytes: Vec<u8> = endpoint.incoming.drain(..count).collect();
            let more = !endpoint.incoming.is_empty();
            if endpoint.broken.is_none() {
                self.transmit(&mut net, fd, Packet::Room(count));
            }
            return Ok((bytes, more));
        }
        if let Some(errno) = endpoint.broken {
            return Err(Tried::Failed(errno));
        }
        if endpoint.finished {
            return Ok((Vec::new(), false));
        }
        if let Some(waiter) = waiter {
            park(&mut endpoint.readers, waiter);
        }
        Err(Tried::WouldBlock)
    }

    pub(in crate::sim) fn net_poll(&self, fd: RawFd, writable: bool, waiter: Waiter) -> Tried {
        let mut net = self.net.borrow_mut();
        if matches!(net.sockets.get(&fd).map(|socket| &socket.state), Some(State::Datagrams(_))) {
            drop(net);
            let ready = writable || !self.datagram_wait(fd, waiter);
            return if ready { Tried::Done(1) } else { Tried::WouldBlock };
        }
        let (ready, waiting) = match net.endpoint(fd) {
            Ok(endpoint) if writable => (endpoint.outstanding < CONNECTION_BYTES, &mut endpoint.writers),
            Ok(endpoint) => {
                let ready = !endpoint.incoming.is_empty() || endpoint.finished || endpoint.broken.is_some();
                (ready, &mut endpoint.readers)
            }
            Err(errno) => return Tried::Failed(errno),
        };
        if ready {
            return Tried::Done(1);
        }
        park(waiting, waiter);
        Tried::WouldBlock
    }

    pub(in crate::sim) fn net_send(&self, fd: RawFd, segments: &[Segment], waiter: Waiter) -> Tried {
        let mut net = self.net.borrow_mut();
        let endpoint = match net.endpoint(fd) {
            Ok(endpoint) => endpoint,
            Err(errno) => return Tried::Failed(errno),
        };
        if let Some(errno) = endpoint.broken {
            return Tried::Failed(errno);
        }
        if endpoint.fin_sent {
            return Tried::Failed(libc::EPIPE);
        }
        let room = CONNECTION_BYTES - endpoint.outstanding;
        if room == 0 {
            park(&mut endpoint.writers, waiter);
            return Tried::WouldBlock;
        }
        let mut bytes = Vec::new();
        for segment in segments {
            let take = segment.len().min(room - bytes.len());
            bytes.extend_from_slice(&segment[..take]);
        }
        endpoint.outstanding += bytes.len();
        let sent = bytes.len();
        self.note_bytes("send", fd as u64, &bytes);
        // Packets are cut anywhere: who receives must not care.
        while bytes.len() > 1 && self.one_in(4) {
            let rest = bytes.split_off(1 + self.below(bytes.len() as u64 - 1) as usize);
            self.transmit(&mut net, fd, Packet::Data(bytes));
            bytes = rest;
        }
        self.transmit(&mut net, fd, Packet::Data(bytes));
        Tried::Done(sent)
    }

    // On the way.

    fn transmit(&self, net: &mut Net, fd: RawFd, packet: Packet) {
        let Ok(way) = net.endpoint(fd).map(|endpoint| endpoint.way) else { return };
        let at = self.now.get() + self.latency(net, way.from_node, way.to_node);
        let Ok(endpoint) = net.endpoint(fd) else { return };
        let at = at.max(endpoint.next_arrival);
        endpoint.next_arrival = at + 1;
        self.schedule(at, crate::sim::kernel::Event::Net(Event::Arrive { way, packet }));
    }

    pub(super) fn arrive(&self, way: Way, packet: Packet) {
        let mut net = self.net.borrow_mut();
        // A reset is of the machine itself, once it is back.
        if net.severed.contains(&way) && !matches!(packet, Packet::Reset) {
            return;
        }
        if let Some(held) = net.held.get_mut(&way) {
            held.packets.push_back(packet);
            return;
        }
        let begun = !matches!(net.sockets.get(&way.to).map(|to| &to.state), Some(State::Connecting(_)));
        if !begun || !self.reaches(&net, way.from_node, way.to_node) || net.silent.contains(&way) {
            if begun && !self.has_power(way.from_node) {
                // Nobody will send it again.
                net.severed.insert(way);
                return;
            }
            if begun {
                self.count("packet held", way.to_node as u64);
            }
            self.hold(&mut net, way, packet);
            return;
        }
        self.deliver(&mut net, way, packet);
    }

    fn hold(&self, net: &mut Net, way: Way, packet: Packet) {
        let since = self.now.get();
        net.held.insert(way, Held { packets: VecDeque::from([packet]), since });
        self.schedule_net(GIVE_UP_NS, Event::GiveUp(way, since));
    }

    fn deliver(&self, net: &mut Net, way: Way, packet: Packet) {
        if let Packet::Data(bytes) = &packet {
            self.note_bytes("arrive", way.to as u64, bytes);
            let (reset, black_hole) = {
                let faults = self.faults.borrow();
                (faults.net.reset, faults.net.black_hole)
            };
            if way.from_node != way.to_node && self.one_in(reset) {
                self.count("connection reset", way.to as u64);
                self.break_off(net, way.from, libc::ECONNRESET);
                self.break_off(net, way.to, libc::ECONNRESET);
                return;
            }
            if way.from_node != way.to_node && self.one_in(black_hole) {
                self.count("connection black hole", way.to as u64);
                net.silent.insert(way);
                net.silent.insert(way.back());
                self.hold(net, way, packet);
                return;
            }
        } else {
            let (kind, count) = match packet {
                Packet::Room(count) => (1, count),
                Packet::Fin => (2, 0),
                _ => (3, 0),
            };
            self.note("arrive", way.to as u64, kind << 32 | count as u64);
        }
        let Ok(endpoint) = net.endpoint(way.to) else {
            if matches!(packet, Packet::Data(_)) {
                // Nobody is there any more.
                let latency = self.latency(net, way.to_node, way.from_node);
                self.schedule_net(latency, Event::Arrive { way: way.back(), packet: Packet::Reset });
            }
            return;
        };
        let waiting = match packet {
            Packet::Data(bytes) => {
                endpoint.incoming.extend(bytes);
                std::mem::take(&mut endpoint.readers)
            }
            Packet::Room(count) => {
                endpoint.outstanding -= count;
                std::mem::take(&mut endpoint.writers)
            }
            Packet::Fin => {
                endpoint.finished = true;
                std::mem::take(&mut endpoint.readers)
            }
            Packet::Reset => {
                // Whoever had finished sending and receiving hears nothing of it.
                let errno = if endpoint.finished { libc::EPIPE } else { libc::ECONNRESET };
                return self.break_off(net, way.to, errno);
            }
        };
        self.signal(waiting);
    }

    /// A connection is of no use to `fd` any more.
    pub(super) fn break_off(&self, net: &mut Net, fd: RawFd, errno: i32) {
        let Ok(endpoint) = net.endpoint(fd) else { return };
        if endpoint.broken.is_none() {
            endpoint.broken = Some(errno);
            let waiting = endpoint.take_waiting();
            self.signal(waiting);
        }
    }

    pub(super) fn resend(&self, way: Way) {
        let mut net = self.net.borrow_mut();
        loop {
            let connecting =
                matches!(net.sockets.get(&way.to).map(|to| &to.state), Some(State::Connecting(_)));
            if connecting || net.silent.contains(&way) || !self.reaches(&net, way.from_node, way.to_node) {
                return;
            }
            let Some(held) = net.held.get_mut(&way) else { return };
            let Some(packet) = held.packets.pop_front() else {
                net.held.remove(&way);
                return;
            };
            self.deliver(&mut net, way, packet);
        }
    }

    pub(super) fn give_up(&self, way: Way, since: u64) {
        let mut net = self.net.borrow_mut();
        if net.held.get(&way).is_some_and(|held| held.since == since) {
            net.held.remove(&way);
            self.count("connection timed out", way.from as u64);
            self.break_off(&mut net, way.from, libc::ETIMEDOUT);
        }
    }

    // Beginning and end.

    pub(super) fn connect_arrives(&self, fd: RawFd, tries: u32) {
        let mut net = self.net.borrow_mut();
        let Some(socket) = net.sockets.get(&fd) else { return };
        let State::Connecting(Connecting { target, to_node, .. }) = &socket.state else { return };
        let (node, target) = (socket.node, target.clone());
        let Some(to_node) = *to_node else {
            drop(net);
            return self.fail(fd, libc::EHOSTUNREACH);
        };
        if tries >= CONNECT_TRIES {
            drop(net);
            return self.fail(fd, libc::ETIMEDOUT);
        }
        let again = |net: &Net| {
            let wait = (CONNECT_RETRY_NS << tries) + self.latency(net, node, to_node);
            self.schedule_net(wait, Event::Connect { fd, tries: tries + 1 });
        };
        if !self.reaches(&net, node, to_node) {
            self.note("connect lost", fd as u64, u64::from(tries));
            return again(&net);
        }
        let listeners = net.listeners(to_node, &target);
        if listeners.is_empty() {
            if !self.reaches(&net, to_node, node) {
                return again(&net);
            }
            let latency = self.latency(&net, to_node, node);
            return self.schedule_net(latency, Event::Refused(fd));
        }
        let listener = listeners[self.below(listeners.len() as u64) as usize];
        let remote = net.sockets[&fd].local.clone().expect("whoever connects has an address");
        let accepted = self.new_fd();
        let by = Way { from: accepted, to: fd, from_node: to_node, to_node: node };
        let Some(State::Listening(listening)) =
            net.sockets.get_mut(&listener).map(|socket| &mut socket.state)
        else {
            unreachable!("it listens")
        };
        if listening.queue.len() >= listening.backlog {
            self.count("backlog full", to_node as u64);
            return again(&net);
        }
        listening.queue.push_back(accepted);
        let waiting = std::mem::take(&mut listening.waiting);
        let latency = self.latency(&net, to_node, node);
        let mut endpoint = Endpoint::new(by, remote);
        endpoint.next_arrival = self.now.get() + latency + 1;
        let state = State::Connected(endpoint);
        let socket =
            Socket { node: to_node, local: Some(target), reuse_port: false, datagrams: false, state };
        net.sockets.insert(accepted, socket);
        drop(net);
        self.note("accept", fd as u64, accepted as u64);
        self.signal(waiting);
        self.schedule_net(latency, Event::Accepted { fd, by, tries: 0 });
    }

    pub(super) fn connect_answered(&self, fd: RawFd, by: Way, tries: u32) {
        let mut net = self.net.borrow_mut();
        let waits = matches!(net.sockets.get(&fd).map(|socket| &socket.state), Some(State::Connecting(_)));
        if !waits {
            let latency = self.latency(&net, by.to_node, by.from_node);
            return self.schedule_net(latency, Event::Arrive { way: by.back(), packet: Packet::Reset });
        }
        if !self.reaches(&net, by.from_node, by.to_node) {
            let wait = CONNECT_RETRY_NS << tries;
            if tries < CONNECT_TRIES {
                return self.schedule_net(wait, Event::Accepted { fd, by, tries: tries + 1 });
            }
            drop(net);
            return self.fail(fd, libc::ETIMEDOUT);
        }
        let socket = net.sockets.get_mut(&fd).expect("it waits");
        let State::Connecting(connecting) = &mut socket.state else { unreachable!("it waits") };
        let (target, waiting) = (connecting.target.clone(), std::mem::take(&mut connecting.waiting));
        socket.state = State::Connected(Endpoint::new(by.back(), target));
        drop(net);
        self.note("connected", fd as u64, 0);
        self.signal(waiting);
        self.resend(by);
    }

    /// A socket is of no use any more.
    pub(super) fn fail(&self, fd: RawFd, errno: i32) {
        let mut net = self.net.borrow_mut();
        let Some(socket) = net.sockets.get_mut(&fd) else { return };
        let waiting = match &mut socket.state {
            State::Connected(endpoint) => endpoint.take_waiting(),
            State::Connecting(connecting) => std::mem::take(&mut connecting.waiting),
            _ => Vec::new(),
        };
        socket.state = State::Failed(errno);
        drop(net);
        self.note("socket failed", fd as u64, errno as u64);
        self.signal(waiting);
    }

    pub(super) fn close(&self, net: &mut Net, fd: RawFd) {
        let waiting = match net.sockets.get_mut(&fd).map(|socket| &mut socket.state) {
            Some(State::Connected(endpoint)) if endpoint.broken.is_none() => {
                if !endpoint.incoming.is_empty() {
                    self.transmit(net, fd, Packet::Reset);
                } else if !endpoint.fin_sent {
                    self.transmit(net, fd, Packet::Fin);
                }
                Vec::new()
            }
            Some(State::Listening(listening)) => {
                let queued = std::mem::take(&mut listening.queue);
                for fd in queued {
                    self.transmit(net, fd, Packet::Reset);
                    net.sockets.remove(&fd);
                }
                Vec::new()
            }
            _ => Vec::new(),
        };
        net.sockets.remove(&fd);
        self.signal(waiting);
    }
}

fn park(waiting: &mut Vec<Waiter>, waiter: Waiter) {
    if !waiting.contains(&waiter) {
        waiting.push(waiter);
    }
}

fn overlap(a: &Name, b: &Name) -> bool {
    match (a, b) {
        (Name::Ip(a), Name::Ip(b)) => {
            a.port() == b.port()
                && a.is_ipv4() == b.is_ipv4()
                && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
        }
        (a, b) => a == b,
    }
}

fn free_port(net: &mut Net, node: NodeId, datagrams: bool) -> u16 {
    loop {
        let next = net.next_port.entry(node).or_insert(EPHEMERAL_PORT);
        let port = *next;
        *next = port.checked_add(1).unwrap_or(EPHEMERAL_PORT);
        let taken = net.sockets.values().any(|socket| {
            socket.node == node
                && socket.datagrams == datagrams
                && matches!(socket.local, Some(Name::Ip(ip)) if ip.port() == port)
        });
        if !taken {
            return port;
        }
    }
}
