//! Three nodes of dbshard, killed one after the other, under a cluster client that is not ours.
#![forbid(unsafe_code)]

use e2e::client::{python, python_command};
use e2e::daemon::Daemon;
use e2e::process::Process;
use e2e::wait_for;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

const SHARDS: u16 = 3;

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

#[test]
fn no_acknowledged_write_is_lost_when_leaders_die() {
    let folder = tempfile::tempdir().unwrap();
    let ports: Vec<u16> = (0..3).map(|_| free_ports(SHARDS)).collect();
    let node = |(at, port): (usize, &u16)| {
        let (id, peer) = (at + 1, free_ports(1));
        format!("{{ id = {id}, host = \"127.0.0.1\", port = {port}, peer = \"127.0.0.1:{peer}\" }}")
    };
    let nodes: Vec<String> = ports.iter().enumerate().map(node).collect();
    let mut daemons: Vec<Daemon> = (1..=3)
        .map(|id| {
            let text = format!(
                "data = {:?}\nshards = {SHARDS}\n[cluster]\nname = \"e2e\"\nnode = {id}\nnodes = [{}]\n",
                folder.path().join(format!("node{id}")),
                nodes.join(", ")
            );
            let file = folder.path().join(format!("dbshard{id}.toml"));
            std::io::Write::write_all(&mut std::fs::File::create(&file).unwrap(), text.as_bytes()).unwrap();
            Daemon::start(&["dbshard", "--config", file.to_str().unwrap(), "--found"])
        })
        .collect();
    let targets: Vec<String> = ports.iter().map(u16::to_string).collect();
    let targets = targets.join(",");

    let count = 4000;
    let mut command = python_command("redis_cluster.py", &["write", &targets, &count.to_string()]);
    let mut writer = Process::start("redis_cluster.py", &mut command);
    let acknowledged = |writer: &Process, number: usize| {
        let line = format!("acknowledged {number}\n");
        wait_for("the writer", || writer.output().contains(&line).then_some(()));
    };
    for (at, number) in [(0, 500), (1, 1500), (2, 2500)] {
        acknowledged(&writer, number);
        daemons[at].process.kill();
        // It goes on with two of three, and the third catches up before the next one dies.
        acknowledged(&writer, number + 500);
        daemons[at].start_again();
    }
    assert!(writer.wait().success(), "{}", writer.output());
    python("redis_cluster.py", &["check", &targets, &count.to_string()]);
    python("redis_cluster.py", &["replica", &targets, &count.to_string()]);
    daemons[0].process.kill();
    python("redis_cluster.py", &["check", &targets, &count.to_string()]);
    for mut daemon in daemons.into_iter().skip(1) {
        assert!(daemon.process.stop().success());
    }
}
