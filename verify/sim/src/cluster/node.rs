//! The program of a node, and its clients: each asks where its node leads.

use super::books::{Asked, Shared, Wish};
use super::registers::{Entry, Machine, Registers, Waiting};
use super::{CLIENT_PATIENCE, CLIENTS, EXIT_CODE, KEYS, Plan, groups};
use histories::Call;
use replog::{
    Change, Error, GroupId, Index, Members, NodeCore, NodeId, NodeOptions, Options, Replicas, StateMachine,
    limits,
};
use runtime::net::Address;
use runtime::{fs, time};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

pub(super) const LOG: &str = "/data/wal";

pub(super) fn ip(node: u64) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, node as u8).into()
}

fn peer_address(node: u64) -> Address {
    SocketAddr::new(ip(node), 17_001).into()
}

fn file_of(group: GroupId) -> PathBuf {
    format!("/data/group-{group}").into()
}

/// The program of one node.
pub(super) async fn process(shared: Shared, node: u64, plan: Rc<Plan>) {
    match serve(&shared, node, &plan).await {
        // A disk that says EIO, or is full, while the log is opened: the process is started again.
        Err(Error::Io { .. }) => {
            shared.borrow_mut().not_opened.insert(node);
        }
        Err(error) if plan.may_be_damaged(node) => {
            if replog::inspect(LOG, |_| {}).await.is_ok_and(|log| !tells_members(&log)) {
                shared.borrow_mut().untold.insert(node);
            }
            shared.borrow_mut().refused.insert(node, error.to_string());
            // An operator has to see to it.
            return std::future::pending().await;
        }
        Err(error) => shared.borrow_mut().fail(format!("node {node} does not open: {error}")),
        Ok(()) => {}
    }
    runtime::exit_process(EXIT_CODE);
}

/// Whether the log, as far as it can be read, says of each group who its members are.
fn tells_members(log: &replog::Inspection) -> bool {
    groups().all(|group| log.groups.get(&group).is_some_and(|known| known.members != Members::default()))
}

fn io(source: std::io::Error) -> Error {
    Error::Io { what: "the state machine's file", path: "/data".into(), source }
}

struct Group {
    durable: Index,
    state: Rc<RefCell<Registers>>,
}

async fn serve(shared: &Shared, node: u64, plan: &Rc<Plan>) -> Result<(), Error> {
    let mut options = NodeOptions::new(NodeId(node), 0xC1);
    options.listen = Some(peer_address(node));
    options.peers = (1..=plan.size).map(|peer| (NodeId(peer), peer_address(peer))).collect();
    let core = NodeCore::bind(&options, 1)?.remove(0);
    fs::create_dir_all("/data").await.map_err(io)?;
    let mut saved = BTreeMap::new();
    for group in groups() {
        let state = Registers::load(&file_of(group)).await.map_err(io)?;
        let durable = Index(state.applied);
        let state = Rc::new(RefCell::new(state));
        shared.borrow_mut().states.insert((node, group), state.clone());
        saved.insert(group, Group { durable, state });
    }
    let waiting = Waiting::default();
    let make = |group: GroupId| -> Box<dyn StateMachine> {
        let Group { durable, state } = &saved[&group];
        let (shared, waiting) = (shared.clone(), waiting.clone());
        let (file, durable, state) = (file_of(group), *durable, state.clone());
        Box::new(Machine { node, group, file, durable, state, waiting, shared })
    };
    let mut log = Options::new(LOG);
    log.segment_bytes = limits::SEGMENT_BYTES_MIN;
    let replicas = Replicas::open(core, log, make).await?;
    for group in groups() {
        // Founded once: whoever was not there yet when it had been joins.
        let begun = saved[&group].durable > Index(0) || shared.borrow().ended.contains_key(&group);
        if plan.voters.contains(&node) && !begun {
            let mut members = Members::voters(plan.voters.iter().copied().map(NodeId));
            members.learners = plan.learners.iter().copied().map(NodeId).collect();
            replicas.found(group, members, make(group))?;
        } else {
            replicas.join(group, make(group))?;
        }
    }
    for (group, number) in groups().flat_map(|group| (0..CLIENTS).map(move |number| (group, number))) {
        let client = Client {
            number: node * 100 + group.0 * 10 + number,
            replicas: replicas.clone(),
            group,
            state: saved[&group].state.clone(),
            waiting: waiting.clone(),
            shared: shared.clone(),
            node,
            plan: plan.clone(),
        };
        runtime::spawn(client.live());
    }
    loop {
        time::sleep(Duration::from_millis(300 + runtime::random_u64() % 3000)).await;
        for (group, Group { state, .. }) in &saved {
            let role = replicas.role(*group);
            if let Some(members) = replicas.members(*group).filter(|_| role.leads) {
                shared.borrow_mut().knows_members(*group, role.term.0, members);
            }
            let (applied, bytes) = {
                let state = state.borrow();
                (Index(state.applied), state.encode())
            };
            match fs::write_atomic(file_of(*group), bytes).await {
                Err(error) if error.kind() == ErrorKind::StorageFull => continue,
                written => written.map_err(io)?,
            }
            // After a restart, what was saved may be ahead of what the log knows to be committed.
            replicas.truncate(*group, applied);
        }
    }
}

/// A client at one node, of one group.
struct Client {
    number: u64,
    node: u64,
    replicas: Replicas,
    group: GroupId,
    state: Rc<RefCell<Registers>>,
    waiting: Waiting,
    shared: Shared,
    plan: Rc<Plan>,
}

fn below(bound: u64) -> u64 {
    runtime::random_u64() % bound
}

impl Client {
    async fn live(self) {
        loop {
            if below(3) > 0 {
                time::sleep(Duration::from_millis(1 + below(30))).await;
            }
            if !self.replicas.role(self.group).leads {
                time::sleep(Duration::from_millis(20 + below(60))).await;
                continue;
            }
            let wish = self.shared.borrow_mut().wishes.remove(&self.group);
            if let Some(wish) = wish {
                self.grant(wish).await;
            }
            let key = below(KEYS);
            if below(10) < 4 { self.read(key).await } else { self.write(key).await }
        }
    }

    async fn read(&self, key: u64) {
        let asked = self.shared.borrow_mut().ask(self.number, (self.group, key), Call::Read);
        if let Ok(Ok(_)) = time::timeout(CLIENT_PATIENCE, self.replicas.read(self.group)).await {
            let state = self.state.borrow();
            self.shared.borrow_mut().read(asked, state.seen(key), state.value(key));
        }
    }

    async fn write(&self, key: u64) {
        let serial = self.shared.borrow_mut().next_serial();
        let call = match below(2) {
            _ if key + 1 == KEYS => Call::Add(1),
            0 => Call::Write(serial),
            _ => Call::Cas { expect: self.state.borrow().value(key), new: serial },
        };
        let asked = self.shared.borrow_mut().ask(self.number, (self.group, key), call);
        self.waiting.borrow_mut().insert(serial, None);
        self.propose(asked, Entry { key, call, serial }).await;
        self.waiting.borrow_mut().remove(&serial);
    }

    async fn propose(&self, asked: Asked, entry: Entry) {
        let bytes = entry.encode(below(500) as usize);
        let Ok(proposal) = self.replicas.propose(self.group, bytes) else {
            return self.shared.borrow_mut().refused(asked);
        };
        match time::timeout(CLIENT_PATIENCE, proposal.applied()).await {
            Ok(Ok(index)) => {
                let answer = self.waiting.borrow().get(&entry.serial).copied().flatten();
                let mut books = self.shared.borrow_mut();
                match answer {
                    Some(answer) => books.wrote(asked, index, entry.serial, answer),
                    None => books.fail(format!("write {} is acknowledged and not applied", entry.serial)),
                }
            }
            Ok(Err(Error::Lost { .. })) => self.shared.borrow_mut().refused(asked),
            Ok(Err(_)) | Err(_) => {}
        }
    }

    async fn grant(&self, wish: Wish) {
        let Some(members) = self.replicas.members(self.group) else { return };
        match wish {
            Wish::Transfer => {
                let others: Vec<NodeId> =
                    members.voters.iter().copied().filter(|voter| voter.0 != self.node).collect();
                if let Some(to) = pick(&others)
                    && self.replicas.transfer(self.group, to).is_ok()
                {
                    self.shared.borrow_mut().did("leadership handed over");
                }
            }
            Wish::Change => {
                let changes = self.change_of(&members);
                let changed = self.replicas.change(self.group, &changes);
                if let Ok(Ok(())) = time::timeout(CLIENT_PATIENCE, changed).await {
                    let what = if changes.len() > 1 {
                        "several members changed at once"
                    } else {
                        "a member changed"
                    };
                    self.shared.borrow_mut().did(what);
                }
            }
        }
    }

    /// A change that leaves enough voters, and the node whose disk lies without a vote.
    fn change_of(&self, members: &Members) -> Vec<Change> {
        let may_vote = |node: &NodeId| self.plan.lying != Some(node.0);
        let outside = (1..=self.plan.size).map(NodeId).filter(|node| !members.contains(*node));
        let outside: Vec<NodeId> = outside.collect();
        let learners: Vec<NodeId> = members.learners.iter().copied().filter(may_vote).collect();
        let newcomer = pick(&learners).or_else(|| pick(&outside)).filter(may_vote);
        let spare = members.voters.len() > self.plan.voters_min;
        let voter = pick(&members.voters);
        let leaver = voter.map(|node| if below(2) == 0 { Change::Out(node) } else { Change::Learner(node) });
        match below(4) {
            // One comes for one that goes.
            0 => {
                newcomer.map(Change::Voter).into_iter().chain(leaver.filter(|_| newcomer.is_some())).collect()
            }
            1 if spare => leaver.into_iter().collect(),
            2 => pick(&outside).map(Change::Learner).into_iter().collect(),
            _ => newcomer.map(Change::Voter).into_iter().collect(),
        }
    }
}

fn pick<T: Copy>(from: &[T]) -> Option<T> {
    if from.is_empty() { None } else { Some(from[below(from.len() as u64) as usize]) }
}
