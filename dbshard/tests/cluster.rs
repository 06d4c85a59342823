//! Three processes share the data: what was answered survives any of them, clients are told where to go, and a node that
//! comes back, with its folder or without, has everything again.

mod node;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use dbshard::Config;
use node::{Client, Node, config, show};
use wire::resp::value::Value;

const SHARDS: usize = 3;
/// For whatever must happen some time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Not a test: a node of the others, in a process of its own.
#[test]
#[ignore = "run by the others"]
fn a_node_of_a_cluster() {
    let Ok(file) = std::env::var("DBSHARD_TEST_CONFIG") else { return };
    ops::logs::init(ops::logs::Format::Text);
    let config: Config = ops::config::load(Path::new(&file)).expect("a configuration");
    let node = Node::with(config);
    println!("LISTENS {}", node.addresses.len());
    loop {
        std::thread::park();
    }
}

/// The first of so many ports in a row that are free. None of those that connections are given, as a node that was killed must
/// find its own again.
fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = 20_000 + (std::process::id() % 1000) as u16 * 10;
    for _ in 0..1000 {
        let first = 20_000 + (begin - 20_000 + NEXT.fetch_add(count, Ordering::Relaxed)) % 12_000;
        if (first..first + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return first;
        }
    }
    panic!("no free ports in a row");
}

struct Cluster {
    folder: tempfile::TempDir,
    /// By node from 1: the first client port, and the process.
    ports: BTreeMap<u64, u16>,
    children: BTreeMap<u64, (Child, BufReader<ChildStdout>)>,
    text: String,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (child, _) in self.children.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Cluster {
    fn start() -> Cluster {
        let ports: BTreeMap<u64, u16> = (1..=3).map(|id| (id, free_ports(SHARDS as u16))).collect();
        let nodes: Vec<String> = ports
            .iter()
            .map(|(id, port)| {
                let peer = free_ports(1);
                format!("{{ id = {id}, host = \"127.0.0.1\", port = {port}, peer = \"127.0.0.1:{peer}\" }}")
            })
            .collect();
        let text = format!("name = \"test\"\nnodes = [{}]\n", nodes.join(", "));
        let folder = tempfile::tempdir().expect("folder");
        let mut cluster = Cluster { folder, ports, children: BTreeMap::new(), text };
        (1..=3).for_each(|id| cluster.start_node(id, Some("found")));
        cluster
    }

    fn data(&self, id: u64) -> PathBuf {
        self.folder.path().join(format!("node{id}"))
    }

    fn start_node(&mut self, id: u64, empty_folder: Option<&str>) {
        let file = self.folder.path().join(format!("node{id}.toml"));
        let empty = empty_folder.map_or(String::new(), |what| format!("empty_folder = \"{what}\"\n"));
        let text = format!(
            "data = {:?}\nshards = {SHARDS}\ncheckpoint_log_bytes = 200000\n[cluster]\nnode = {id}\n{empty}{}",
            self.data(id),
            self.text
        );
        std::fs::File::create(&file).expect("made").write_all(text.as_bytes()).expect("written");
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "a_node_of_a_cluster", "--ignored", "--nocapture"])
            .env("DBSHARD_TEST_CONFIG", &file)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("started");
        // Kept: the program writes to it once more after a minute, and ends if it can't.
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let listens = output.by_ref().lines().map_while(Result::ok).any(|line| line.contains("LISTENS "));
        assert!(listens, "node {id} listens");
        self.children.insert(id, (child, output));
    }

    fn kill(&mut self, id: u64) {
        let (mut child, _) = self.children.remove(&id).expect("running");
        child.kill().expect("killed");
        child.wait().expect("gone");
    }

    fn address(&self, id: u64, shard: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[&id] + shard as u16))
    }

    /// The node that leads a shard, as soon as there is one.
    fn leader(&self, shard: usize) -> u64 {
        eventually("a leader", || {
            self.children.keys().copied().find(|id| {
                TcpStream::connect(self.address(*id, shard)).is_ok()
                    && Client::connect(self.address(*id, shard)).line("ROLE").starts_with("[master")
            })
        })
    }

    fn client(&self) -> Routed {
        let any = self.address(*self.children.keys().next().expect("one runs"), 0);
        let all = self.children.keys().map(|id| self.address(*id, 0)).collect();
        Routed { known: all, slots: BTreeMap::new(), connections: BTreeMap::new(), last: any }
    }
}

/// What is looked for and never comes fails the test; the nodes have told on stderr what they did.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = runtime::time::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(runtime::time::now() < deadline, "{what} never came");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// A client that goes where it is told, as those of Redis Cluster do.
struct Routed {
    known: Vec<SocketAddr>,
    slots: BTreeMap<u16, SocketAddr>,
    connections: BTreeMap<SocketAddr, Client>,
    last: SocketAddr,
}

impl Routed {
    /// One try; `None`: the outcome is unknown, or nobody answers.
    fn once(&mut self, address: SocketAddr, request: &[&str]) -> Option<Value> {
        let client = match self.connections.entry(address) {
            Entry::Occupied(client) => client.into_mut(),
            Entry::Vacant(none) => {
                TcpStream::connect(address).ok()?;
                none.insert(Client::connect(address))
            }
        };
        let mut bytes = Vec::new();
        wire::resp::value::request(&mut bytes, request);
        let answer = match client.stream.write_all(&bytes) {
            Ok(()) => client.next(),
            Err(_) => None,
        };
        if answer.is_none() {
            self.connections.remove(&address);
        }
        answer
    }

    /// Asks until there is an answer that is none of the cluster's own affairs. A write must be one that may be made twice.
    fn ask(&mut self, request: &[&str]) -> Value {
        let slot = wire::resp::slot::of(request[1].as_bytes());
        let mut turn = 0;
        let mut next = self.slots.get(&slot).copied().unwrap_or(self.last);
        eventually("an answer", || {
            let answer = self.once(next, request);
            if let Some(Value::Error(text)) = &answer
                && let Some(target) = text.strip_prefix("MOVED ").and_then(|text| text.split(' ').nth(1))
            {
                next = target.parse().expect("an address");
                return None;
            }
            match answer {
                Some(Value::Error(text)) if text.starts_with("CLUSTERDOWN") => None,
                Some(answer) => {
                    self.slots.insert(slot, next);
                    self.last = next;
                    Some(answer)
                }
                None => {
                    turn += 1;
                    next = self.known[turn % self.known.len()];
                    None
                }
            }
        })
    }

    fn set(&mut self, key: &str, value: &str) {
        assert_eq!(show(&self.ask(&["SET", key, value])), "OK");
    }

    fn check(&mut self, keys: std::ops::Range<u32>) {
        for number in keys {
            assert_eq!(show(&self.ask(&["GET", &format!("key{number}")])), format!("value{number}"));
        }
    }
}

/// What a node says of a key when it may answer by itself. `None`: it has cut the connection, as it does when it has just
/// lost the leadership.
fn replica_says(cluster: &Cluster, id: u64, shard: usize, key: &str) -> Option<String> {
    let mut client = Client::connect(cluster.address(id, shard));
    client.send(format!("READONLY\r\nGET {key}\r\n").as_bytes());
    assert_eq!(show(&client.next()?), "OK");
    client.next().map(|said| show(&said))
}

/// Waits until a node's replica of the key's shard answers reads by itself, with this value.
fn wait_for_replica(cluster: &Cluster, id: u64, key: &str, value: &str) {
    let slots = (0..SHARDS).map(|shard| dbshard::core::topology::slots_of(shard, SHARDS));
    let slot = wire::resp::slot::of(key.as_bytes());
    let shard = slots.enumerate().find(|(_, slots)| slots.contains(&slot)).expect("every slot").0;
    eventually("the value at the replica", || {
        (replica_says(cluster, id, shard, key)? == value).then_some(())
    });
}

#[test]
fn what_was_answered_survives_the_leader_and_who_was_dead_catches_up() {
    let mut cluster = Cluster::start();
    let mut client = cluster.client();
    (0..300).for_each(|number| client.set(&format!("key{number}"), &format!("value{number}")));
    let dead = cluster.leader(0);
    cluster.kill(dead);
    // Killed in the middle of a write: the client tries again.
    (300..900).for_each(|number| client.set(&format!("key{number}"), &format!("value{number}")));
    client.check(0..900);
    assert_ne!(cluster.leader(0), dead);
    cluster.start_node(dead, None);
    for number in [0, 1, 2, 500, 899] {
        wait_for_replica(&cluster, dead, &format!("key{number}"), &format!("value{number}"));
    }
    // It counts again: another may die now.
    let other = (1..=3).find(|id| *id != dead).expect("three nodes");
    cluster.kill(other);
    (900..1000).for_each(|number| client.set(&format!("key{number}"), &format!("value{number}")));
    client.check(0..1000);
}

#[test]
fn a_node_without_its_folder_is_filled_by_a_snapshot() {
    let mut cluster = Cluster::start();
    let mut client = cluster.client();
    (0..300).for_each(|number| client.set(&format!("key{number}"), &format!("value{number}")));
    cluster.kill(3);
    std::fs::remove_dir_all(cluster.data(3)).expect("removed");
    // More than the others keep for one that is a little behind, so that only a snapshot helps.
    let large = "x".repeat(500_000);
    for number in 0..40 {
        client.set(&format!("large{number}"), &large);
    }
    (300..600).for_each(|number| client.set(&format!("key{number}"), &format!("value{number}")));
    cluster.start_node(3, Some("fill"));
    for number in [0, 1, 2, 299, 300, 599] {
        wait_for_replica(&cluster, 3, &format!("key{number}"), &format!("value{number}"));
    }
    wait_for_replica(&cluster, 3, "large7", &large);
    // It has its vote again once two of three, with it, are enough.
    for shard in 0..SHARDS {
        eventually("a vote", || {
            let leader = cluster.leader(shard);
            let info = Client::connect(cluster.address(leader, shard)).line("INFO replication");
            (leader == 3 || info.contains("voters:3")).then_some(())
        });
    }
    cluster.kill(1);
    (600..700).for_each(|number| client.set(&format!("key{number}"), &format!("value{number}")));
    client.check(0..700);
    // What it was filled with is there after a restart too.
    cluster.start_node(1, None);
    cluster.kill(3);
    cluster.start_node(3, None);
    wait_for_replica(&cluster, 3, "key42", "value42");
    wait_for_replica(&cluster, 3, "large39", &large);
}

#[test]
fn without_a_majority_nothing_is_answered_and_replicas_say_when_they_are_stale() {
    let mut cluster = Cluster::start();
    let mut client = cluster.client();
    client.set("key", "value");
    for id in 1..=3 {
        wait_for_replica(&cluster, id, "key", "value");
    }
    cluster.kill(1);
    cluster.kill(2);
    let shard = (0..SHARDS)
        .find(|shard| {
            dbshard::core::topology::slots_of(*shard, SHARDS).contains(&wire::resp::slot::of(b"key"))
        })
        .expect("every slot");
    eventually("its word that it is stale", || {
        let said = replica_says(&cluster, 3, shard, "key")?;
        (said.starts_with("CLUSTERDOWN") || said.starts_with("MOVED")).then_some(())
    });
    // Whoever led may have taken the write before it knew; it never says OK.
    let mut left = Client::connect(cluster.address(3, shard));
    left.send(b"SET key other\r\n");
    let said = left.next();
    assert!(said.is_none_or(|said| show(&said) != "OK"));
    cluster.start_node(1, None);
    assert_eq!(show(&client.ask(&["SET", "key", "new"])), "OK");
    wait_for_replica(&cluster, 3, "key", "new");
}

#[test]
fn a_node_with_an_empty_folder_says_what_is_to_be_said() {
    let folder = tempfile::tempdir().expect("folder");
    let text = format!(
        "name = \"test\"\nnode = 1\nreplicas = 1\nnodes = [{{ id = 1, host = \"127.0.0.1\", port = {}, peer = \"127.0.0.1:{}\" }}]",
        free_ports(1),
        free_ports(1)
    );
    let cluster = ops::config::parse(&text, "test").expect("valid");
    let said = Node::with(Config { cluster: Some(cluster), ..config(folder.path()) }).failure().to_string();
    assert!(said.contains("--found") && said.contains("--fill"), "{said}");
}
