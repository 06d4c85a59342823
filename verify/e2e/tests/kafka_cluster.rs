//! Three brokers under stock producers while leaders die: what is acknowledged is there, in order, once.
#![forbid(unsafe_code)]

use e2e::client::{free_address, python, python_command, run};
use e2e::daemon::Daemon;
use e2e::process::Process;
use e2e::wait_for;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// A cluster in `folder`; node N is `nodes[N - 1]`.
struct Cluster {
    nodes: Vec<Daemon>,
    addresses: String,
}

impl Cluster {
    fn start(folder: &Path) -> Cluster {
        let clients: Vec<SocketAddr> = (0..3).map(|_| free_address()).collect();
        let peers: Vec<SocketAddr> = (0..3).map(|_| free_address()).collect();
        let entry = |at: usize| {
            let (id, peer, port) = (at + 1, peers[at], clients[at].port());
            format!("  {{ id = {id}, peer = \"{peer}\", host = \"127.0.0.1\", port = {port} }},\n")
        };
        let list: String = (0..3).map(entry).collect();
        let start = |at: usize| {
            let file = folder.join(format!("{}.toml", at + 1));
            let text = format!(
                "data = {:?}\nlisten = \"{}\"\n[cluster]\nname = \"e2e\"\nnode = {}\nnodes = [\n{list}]\n",
                folder.join(format!("data{}", at + 1)),
                clients[at],
                at + 1
            );
            std::io::Write::write_all(&mut std::fs::File::create(&file).unwrap(), text.as_bytes()).unwrap();
            Daemon::start(&["broker", "--config", file.to_str().unwrap()])
        };
        let addresses: Vec<String> = clients.iter().map(SocketAddr::to_string).collect();
        Cluster { nodes: (0..3).map(start).collect(), addresses: addresses.join(",") }
    }

    /// The node, by its place, that leads the topic's partition.
    fn leader(&self) -> usize {
        wait_for("a leader", || {
            let told = run("kcat", &["-L", "-b", &self.addresses, "-t", "cluster"]);
            let line = told.lines().find(|line| line.contains("partition 0,"))?;
            let leader = line.split("leader ").nth(1)?.split(',').next()?.parse::<usize>().ok()?;
            leader.checked_sub(1)
        })
    }
}

fn leaders_die_under(client: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(folder.path());
    let stop = folder.path().join("stop");
    let arguments = ["write", client, &cluster.addresses, stop.to_str().unwrap()];
    let mut writer = Process::start(client, &mut python_command("kafka_cluster.py", &arguments));
    for _ in 0..3 {
        #[expect(clippy::disallowed_methods, reason = "writes go on meanwhile")]
        std::thread::sleep(Duration::from_secs(2));
        assert!(writer.ended().is_none(), "{}", writer.output());
        let leader = cluster.leader();
        cluster.nodes[leader].process.kill();
        #[expect(clippy::disallowed_methods, reason = "the others write on without it")]
        std::thread::sleep(Duration::from_secs(2));
        cluster.nodes[leader].start_again();
    }
    drop(std::fs::File::create(&stop).unwrap());
    assert!(writer.wait().success(), "{}", writer.output());
    let output = writer.output();
    let count =
        output.lines().find_map(|line| line.strip_prefix("acknowledged ")).expect("a count").to_owned();
    assert!(count.parse::<u64>().unwrap() > 1000, "{client} wrote only {count}");
    python("kafka_cluster.py", &["check", &cluster.addresses, &count]);
    // Nothing depends on any one of them.
    for node in 0..3 {
        cluster.nodes[node].process.kill();
        python("kafka_cluster.py", &["check", &cluster.addresses, &count]);
        cluster.nodes[node].start_again();
    }
}

#[test]
fn leaders_die_under_librdkafka() {
    leaders_die_under("confluent-kafka");
}

#[test]
fn leaders_die_under_kafka_python() {
    leaders_die_under("kafka-python");
}
