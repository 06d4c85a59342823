//! Real nodes on loopback, each on a thread of its own, with groups of values.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use cluster::{Changed, Cluster, Command, Error, Map, Options, Owner, Seat};
use replog::{GroupId, Index, NodeId, Pending, SnapshotSink, SnapshotSource, StateMachine, limits};
use runtime::sync::{MailSender, mailbox};

/// For whatever must happen some time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The values of one group: `key=value` is an entry.
pub(crate) type Values = BTreeMap<String, String>;

pub(crate) struct Groups {
    dir: PathBuf,
    values: RefCell<BTreeMap<GroupId, Rc<RefCell<Values>>>>,
}

/// Keeps what came by a snapshot in a file, and has the rest from the log.
struct Machine {
    file: PathBuf,
    values: Rc<RefCell<Values>>,
    durable: Index,
}

impl Groups {
    pub(crate) fn new(dir: PathBuf) -> Groups {
        Groups { dir, values: RefCell::default() }
    }

    fn file(&self, group: GroupId) -> PathBuf {
        self.dir.join(format!("values-{group}"))
    }
}

fn encode(index: Index, values: &Values) -> String {
    let lines: String = values.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    format!("{index}\n{lines}")
}

fn decode(bytes: &[u8]) -> (Index, Values) {
    let (index, lines) = std::str::from_utf8(bytes).expect("text").split_once('\n').expect("lines");
    let pair = |line: &str| line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    (Index(index.parse().expect("a number")), lines.lines().filter_map(pair).collect())
}

impl Owner for Groups {
    fn machine(&self, group: GroupId) -> Box<dyn StateMachine> {
        let file = self.file(group);
        let (durable, values) = std::fs::read(&file).map(|bytes| decode(&bytes)).unwrap_or_default();
        let values = Rc::new(RefCell::new(values));
        self.values.borrow_mut().insert(group, values.clone());
        Box::new(Machine { file, values, durable })
    }

    fn forget(&self, group: GroupId) -> Pending<'_, ()> {
        self.values.borrow_mut().remove(&group);
        let _ = std::fs::remove_file(self.file(group));
        Box::pin(async { Ok(()) })
    }
}

impl StateMachine for Machine {
    fn durable(&self) -> Index {
        self.durable
    }

    fn apply(&mut self, _: Index, entry: &Bytes) {
        let text = std::str::from_utf8(entry).expect("text");
        let (key, value) = text.split_once('=').expect("key=value");
        self.values.borrow_mut().insert(key.to_owned(), value.to_owned());
    }

    fn snapshot(&mut self) -> Rc<dyn SnapshotSource> {
        Rc::new(Bytes::from(encode(Index(0), &self.values.borrow())))
    }

    fn receive_snapshot(&mut self) -> Box<dyn SnapshotSink> {
        let (file, kept) = (self.file.clone(), self.values.clone());
        replog::gather(move |index, bytes| async move {
            let (_, values) = decode(&bytes);
            runtime::fs::write_atomic(&file, encode(index, &values)).await?;
            *kept.borrow_mut() = values;
            Ok(())
        })
    }
}

/// What the test asks of a node.
pub(crate) enum Ask {
    Put(GroupId, String, mpsc::Sender<bool>),
    Look(mpsc::Sender<(Arc<Map>, BTreeMap<GroupId, Values>)>),
    Propose(Vec<Command>, mpsc::Sender<Result<Changed, Error>>),
    /// Ends without a word, as a killed process does.
    Die,
    Close,
}

pub(crate) struct Node {
    pub(crate) id: NodeId,
    asks: MailSender<Ask>,
    thread: Option<runtime::CoreHandle<()>>,
}

pub(crate) struct Site {
    dir: tempfile::TempDir,
    pub(crate) nodes: BTreeMap<u64, Node>,
    /// Where each has listened first: it does so again.
    pub(crate) addresses: BTreeMap<u64, String>,
    pub(crate) set: fn(&mut Options),
}

impl Site {
    pub(crate) fn new(set: fn(&mut Options)) -> Site {
        let dir = tempfile::tempdir().expect("a folder");
        Site { dir, nodes: BTreeMap::new(), addresses: BTreeMap::new(), set }
    }

    pub(crate) fn options(&self, number: u64) -> Options {
        let mut options = Options::new(self.dir.path().join(number.to_string()).join("cluster"), "test");
        let address = self.addresses.get(&number).map_or("127.0.0.1:0", String::as_str);
        options.listen = Some(address.parse().expect("an address"));
        if number != 1 {
            let first = self.addresses.values().next().expect("node 1 runs");
            options.join = vec![first.parse().expect("an address")];
        }
        options.name = format!("node-{number}");
        options.groups.tick = Duration::from_millis(20);
        options.down_after = Duration::from_secs(1);
        (self.set)(&mut options);
        options
    }

    /// Starts a node, with what it has on disk.
    pub(crate) fn start(&mut self, number: u64) {
        let options = self.options(number);
        let dir = self.dir.path().join(number.to_string());
        let mut log = replog::Options::new(dir.join("wal"));
        log.segment_bytes = limits::SEGMENT_BYTES_MIN;
        let (asks, inbox) = mailbox(1000);
        let (started, seated) = mpsc::channel();
        let main = move || async move {
            let seat = Seat::take(options).await.expect("a seat");
            let id = seat.node();
            let core = seat.bind(1).expect("bound").pop().expect("one");
            started.send((id, core.peer().to_owned())).expect("the test waits");
            let groups = Rc::new(Groups::new(dir));
            let cluster = Cluster::open(core, log, groups.clone()).await.expect("opened");
            let mut batch = Vec::new();
            while inbox.recv_batch(&mut batch).await {
                for ask in batch.drain(..) {
                    match ask {
                        Ask::Die => return,
                        Ask::Close => return cluster.close().await.expect("closed"),
                        Ask::Look(to) => {
                            let values = groups.values.borrow();
                            let values = values.iter().map(|(id, values)| (*id, values.borrow().clone()));
                            let _ = to.send((cluster.map(), values.collect()));
                        }
                        Ask::Put(group, entry, to) => {
                            let cluster = cluster.clone();
                            runtime::spawn(async move {
                                let put = match cluster.replicas().propose(group, entry) {
                                    Ok(proposal) => proposal.applied().await.is_ok(),
                                    Err(_) => false,
                                };
                                let _ = to.send(put);
                            });
                        }
                        Ask::Propose(commands, to) => {
                            let cluster = cluster.clone();
                            runtime::spawn(async move {
                                let _ = to.send(cluster.propose(commands).await);
                            });
                        }
                    }
                }
            }
        };
        let thread = runtime::spawn_core(&format!("node {number}"), runtime::Options::default(), main);
        let (id, address) = seated.recv_timeout(PATIENCE).expect("it has a seat");
        self.addresses.entry(number).or_insert(address);
        self.nodes.insert(number, Node { id, asks, thread: Some(thread.expect("started")) });
    }

    pub(crate) fn stop(&mut self, number: u64, ask: Ask) {
        let mut node = self.nodes.remove(&number).expect("it runs");
        node.ask(ask);
        node.thread.take().expect("it runs").join().expect("no panic").expect("the core ran");
    }

    pub(crate) fn propose(&self, number: u64, commands: Vec<Command>) -> Result<Changed, Error> {
        self.nodes[&number].get(|to| Ask::Propose(commands, to))
    }

    /// Waits until there are nodes to take replicas, and nobody is about to hand over the metadata group: the outcome of a
    /// change would not be known.
    pub(crate) fn until_calm(&self) {
        self.until_map("calm", |map| {
            let led = |group: &cluster::Group| group.led.map(|(_, leader)| leader);
            let calm = map.groups.get(&cluster::META).is_some_and(|meta| led(meta) == Some(meta.preferred));
            calm && map.nodes.values().any(|node| node.state == cluster::NodeState::In && node.up)
        });
    }

    /// Creates groups, by node `number`.
    pub(crate) fn create(&self, number: u64, count: usize, replicas: u8) -> Vec<GroupId> {
        self.until_calm();
        let create = Command::Create { replicas, payload: Bytes::from_static(b"values") };
        self.propose(number, vec![create; count]).expect("created").created
    }

    /// Writes through whoever leads the group, until it is answered.
    pub(crate) fn put(&self, group: GroupId, entry: &str) {
        until("a write is answered", || {
            let put = |node: &Node| node.get(|to| Ask::Put(group, entry.to_owned(), to));
            self.nodes.values().any(put).then_some(())
        });
    }

    pub(crate) fn map(&self, number: u64) -> Arc<Map> {
        self.nodes[&number].get(Ask::Look).0
    }

    /// What each node knows, for who looks at a failure.
    fn state(&self) -> String {
        let mut out = String::new();
        for node in self.nodes.values() {
            let (map, held) = node.get(Ask::Look);
            out += &format!("\nnode {} has version {} and {held:?}", node.id, map.version);
            for node in map.nodes.values() {
                out += &format!("\n  node {} {:?}, up: {}", node.id, node.state, node.up);
            }
            map.groups.values().for_each(|group| out += &format!("\n  {group:?}"));
        }
        out
    }

    /// Waits until every running node's map is as it should be; gives the one of the first.
    pub(crate) fn until_map(&self, what: &str, holds: impl Fn(&Map) -> bool) -> Arc<Map> {
        until_or(
            what,
            || self.state(),
            || {
                let maps: Vec<Arc<Map>> = self.nodes.keys().map(|number| self.map(*number)).collect();
                maps.iter().all(|map| holds(map)).then(|| maps[0].clone())
            },
        )
    }

    /// Waits until every group is where it is to be, and each of its members has `expected`, and nobody else has anything.
    pub(crate) fn until_held(&self, what: &str, expected: &BTreeMap<GroupId, Values>) -> Arc<Map> {
        until_or(
            what,
            || self.state(),
            || {
                let looks: Vec<_> = self.nodes.values().map(|node| (node.id, node.get(Ask::Look))).collect();
                for (id, (map, held)) in &looks {
                    for group in map.groups.values() {
                        if !group.is_settled() || !group.leaving.is_empty() {
                            return None;
                        }
                    }
                    for group in map.owned() {
                        let has = held.get(&group.id);
                        match group.wanted.contains(id) {
                            true if has != expected.get(&group.id) => return None,
                            false if has.is_some() => return None,
                            _ => {}
                        }
                    }
                }
                Some(looks[0].1.0.clone())
            },
        )
    }
}

impl Drop for Site {
    /// The nodes end before their folder goes.
    fn drop(&mut self) {
        for node in self.nodes.values_mut() {
            let _ = node.asks.try_send(Ask::Die);
            let _ = node.thread.take().map(|thread| thread.join());
        }
    }
}

impl Node {
    fn ask(&self, ask: Ask) {
        assert!(self.asks.try_send(ask).is_ok(), "node {} takes it", self.id);
    }

    pub(crate) fn get<T>(&self, ask: impl FnOnce(mpsc::Sender<T>) -> Ask) -> T {
        let (to, answer) = mpsc::channel();
        self.ask(ask(to));
        answer.recv_timeout(PATIENCE).expect("an answer")
    }
}

/// Tries until there is something, or patience ends.
pub(crate) fn until<T>(what: &str, attempt: impl FnMut() -> Option<T>) -> T {
    until_or(what, String::new, attempt)
}

/// The same; says what the state was, if patience ends.
fn until_or<T>(what: &str, state: impl Fn() -> String, mut attempt: impl FnMut() -> Option<T>) -> T {
    let (tick, begun) = (Duration::from_millis(10), runtime::time::now());
    let (_pause, never) = mpsc::channel::<()>();
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(runtime::time::now() - begun < PATIENCE, "patience has ended: {what}{}", state());
        let _ = never.recv_timeout(tick);
    }
}

/// The numbers of groups that each node holds, and leads.
pub(crate) fn spread(map: &Map) -> (Vec<usize>, Vec<usize>) {
    let takers = || map.nodes.values().filter(|node| node.state == cluster::NodeState::In);
    let count =
        |has: &dyn Fn(&cluster::Group) -> bool| map.groups.values().filter(|group| has(group)).count();
    let holds = takers().map(|node| count(&|group| group.wanted.contains(&node.id))).collect();
    let leads = takers().map(|node| count(&|group| group.led.is_some_and(|(_, leader)| leader == node.id)));
    (holds, leads.collect())
}

pub(crate) fn is_even(counts: &[usize]) -> bool {
    counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0) <= 1
}
