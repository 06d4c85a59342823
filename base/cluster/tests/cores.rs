//! A node of several cores: each drives its own groups, and all see the same map.

mod support;

use std::rc::Rc;
use std::sync::mpsc;

use bytes::Bytes;
use cluster::{Cluster, Command, Options, Seat};
use replog::limits;
use support::{Groups, PATIENCE};

#[test]
fn each_core_has_its_groups() {
    let dir = tempfile::tempdir().expect("a folder");
    let options = Options::new(dir.path().join("cluster"), "test");
    let mut seats = runtime::block_on(&runtime::Options::default(), async {
        Seat::take(options).await.expect("a seat").bind(2).expect("bound")
    })
    .expect("the backend is there");
    let (done, finished) = mpsc::channel();
    let mut threads = Vec::new();
    for core in [1, 0] {
        let (seat, done, dir) =
            (seats.pop().expect("one for each"), done.clone(), dir.path().join(core.to_string()));
        let main = move || async move {
            let mut log = replog::Options::new(dir.join("wal"));
            log.segment_bytes = limits::SEGMENT_BYTES_MIN;
            let cluster = Cluster::open(seat, log, Rc::new(Groups::new(dir))).await.expect("opened");
            let mut map = cluster.map();
            while !map.nodes.values().any(|node| node.up) {
                map = cluster.changed_since(map.version).await;
            }
            if core == 1 {
                let create = Command::Create { replicas: 1, payload: Bytes::new() };
                let created = cluster.propose(vec![create; 4]).await.expect("created").created;
                assert!(
                    created.iter().all(|group| cluster.map().groups.contains_key(group)),
                    "this core's map has them"
                );
            }
            while map.owned().filter(|group| group.formed && group.led.is_some()).count() < 4 {
                map = cluster.changed_since(map.version).await;
            }
            let leads = |group: &replog::GroupId| cluster.replicas().role(*group).leads;
            let led: Vec<u64> = map.groups.keys().filter(|group| leads(group)).map(|group| group.0).collect();
            done.send((core, led)).expect("the test waits");
            // Until the other core has seen all.
            while cluster.map().records.is_empty() {
                let version = cluster.map().version;
                if core == 0 {
                    let key = Bytes::from_static(b"end");
                    let end = Command::Record { key: key.clone(), since: None, value: Some(key) };
                    cluster.propose(vec![end]).await.expect("written");
                } else {
                    cluster.changed_since(version).await;
                }
            }
            cluster.close().await.expect("closed");
        };
        let thread = runtime::spawn_core(&format!("core {core}"), runtime::Options::default(), main);
        threads.push(thread.expect("started"));
    }
    let mut led: Vec<(usize, Vec<u64>)> =
        (0..2).map(|_| finished.recv_timeout(PATIENCE).expect("in time")).collect();
    led.sort_unstable();
    assert_eq!(led, [(0, vec![0, 2, 4]), (1, vec![1, 3])]);
    threads.into_iter().for_each(|thread| thread.join().expect("no panic").expect("the core ran"));
}
