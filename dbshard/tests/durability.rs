//! What was answered is there after a restart, a kill, a checkpoint; what is damaged is refused.

mod node;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dbshard::Config;
use node::{Client, Dice, Node, PATIENCE, config, show};

/// Not a test: the node of [`killed_nodes_lose_nothing`], in a process of its own.
#[test]
#[ignore = "run by killed_nodes_lose_nothing"]
fn a_node_to_be_killed() {
    let Ok(folder) = std::env::var("DBSHARD_TEST_FOLDER") else { return };
    let node = Node::with(Config { checkpoint_log_bytes: 200_000, ..config(Path::new(&folder)) });
    println!("LISTENS {}", node.addresses[0]);
    loop {
        std::thread::park();
    }
}

#[test]
fn killed_nodes_lose_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let mut acknowledged = 0u32;
    for round in 0..4 {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "a_node_to_be_killed", "--ignored", "--nocapture"])
            .env("DBSHARD_TEST_FOLDER", folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let listens =
            lines.map_while(Result::ok).find_map(|line| Some(line.split_once("LISTENS ")?.1.to_owned()));
        let address: SocketAddr = listens.expect("it listens").parse().expect("an address");
        let mut client = Client::connect(address);
        for number in 0..acknowledged {
            client.send(format!("GET key{number}\r\n").as_bytes());
        }
        for number in 0..acknowledged {
            assert_eq!(show(&client.reply()), format!("value{number}"), "in round {round}");
        }
        assert_eq!(
            client.line("GET counter"),
            if round == 0 { "nil".into() } else { acknowledged.to_string() }
        );
        // Killed in the middle of a pipeline: what was answered counts.
        for number in acknowledged..acknowledged + 3000 {
            client.send(format!("SET key{number} value{number}\r\n").as_bytes());
        }
        let killed_at = acknowledged + 2500;
        while acknowledged < killed_at {
            assert_eq!(show(&client.reply()), "OK");
            acknowledged += 1;
        }
        assert_eq!(Client::connect(address).line(&format!("SET counter {acknowledged}")), "OK");
        child.kill().expect("killed");
        child.wait().expect("gone");
    }
    let node = Node::start(folder.path());
    let mut client = node.client();
    for number in 0..acknowledged {
        assert_eq!(client.line(&format!("GET key{number}")), format!("value{number}"));
    }
    node.stop();
}

/// Everything in a shard, in order.
fn picture(client: &mut Client) -> Vec<String> {
    let keys = client.ask(&["KEYS", "*"]);
    let wire::resp::value::Value::Array(keys) = keys else { panic!("{keys:?}") };
    let mut all: Vec<String> = keys
        .iter()
        .map(|key| {
            let key = show(key);
            let held = match client.line(&format!("TYPE {key}")).as_str() {
                "hash" => {
                    let wire::resp::value::Value::Array(items) = client.ask(&["HGETALL", &key]) else {
                        panic!()
                    };
                    let mut pairs: Vec<_> =
                        items.chunks(2).map(|pair| (show(&pair[0]), show(&pair[1]))).collect();
                    pairs.sort();
                    format!("{pairs:?}")
                }
                _ => client.line(&format!("GET {key}")),
            };
            format!("{key}={held} until {}", client.line(&format!("PEXPIRETIME {key}")))
        })
        .collect();
    all.sort();
    all
}

fn some_of_everything(client: &mut Client, round: usize) {
    for number in 0..200 {
        client.line(&format!("SET s{number} round{round}"));
        client.line(&format!("APPEND a{} x", number % 50));
        client.line(&format!("HSET h{} f{number} {round} g {number}", number % 20));
        client.line(&format!("INCR n{}", number % 30));
        if number % 7 == 0 {
            client.line(&format!("DEL s{}", number / 2));
            client.line(&format!("EXPIRE a{} 1000", number % 50));
            client.line(&format!("HDEL h{} f{}", number % 20, number / 2));
        }
    }
}

fn wait_for_checkpoints(client: &mut Client, count: u64) {
    let deadline = runtime::time::now() + PATIENCE;
    loop {
        let info = client.line("INFO persistence");
        let done = info.lines().find_map(|line| line.strip_prefix("rdb_saves:")).expect("told");
        if done.trim().parse::<u64>().expect("a number") >= count {
            return;
        }
        assert!(runtime::time::now() < deadline, "no checkpoint");
    }
}

#[test]
fn a_restart_finds_everything_with_and_without_checkpoints() {
    let folder = tempfile::tempdir().expect("folder");
    let mut before = Vec::new();
    for round in 0..4 {
        let node = Node::start(folder.path());
        let mut client = node.client();
        if round == 0 {
            let large = "L".repeat(300_000);
            assert_eq!(show(&client.ask(&["SET", "large", &large])), "OK");
        }
        let after = picture(&mut client);
        if round > 0 {
            assert_eq!(after, before, "in round {round}");
        }
        some_of_everything(&mut client, round);
        if round % 2 == 1 {
            assert_eq!(client.line("BGSAVE"), "Background saving started");
            some_of_everything(&mut client, round + 100);
            wait_for_checkpoints(&mut client, 1);
            some_of_everything(&mut client, round + 200);
        }
        before = picture(&mut client);
        node.stop();
    }
}

#[test]
fn writes_go_on_while_checkpoints_are_written() {
    let folder = tempfile::tempdir().expect("folder");
    let small = || Config { checkpoint_log_bytes: 100_000, ..config(folder.path()) };
    let node = Node::with(small());
    let mut client = node.client();
    let mut sent = 0;
    // Appends show an effect that was applied twice or never.
    while sent < 60_000 {
        let mut request = Vec::new();
        for number in 0..1000 {
            wire::resp::value::request(&mut request, &["APPEND", &format!("key{}", number % 997), "x"]);
        }
        client.send(&request);
        (0..1000).for_each(|_| drop(client.reply()));
        sent += 1000;
    }
    wait_for_checkpoints(&mut client, 2);
    let lengths: Vec<String> = (0..997).map(|number| client.line(&format!("STRLEN key{number}"))).collect();
    assert_eq!(lengths.iter().map(|length| length.parse::<u64>().expect("a number")).sum::<u64>(), 60_000);
    node.stop();
    let node = Node::with(small());
    let mut client = node.client();
    let again: Vec<String> = (0..997).map(|number| client.line(&format!("STRLEN key{number}"))).collect();
    assert_eq!(again, lengths);
    node.stop();
}

#[test]
fn a_flush_during_a_checkpoint_stays_a_flush() {
    let folder = tempfile::tempdir().expect("folder");
    let node = Node::start(folder.path());
    let mut client = node.client();
    for number in 0..20_000 {
        client.send(format!("SET key{number} v\r\n").as_bytes());
    }
    (0..20_000).for_each(|_| drop(client.reply()));
    client.send(b"BGSAVE\r\nPING\r\nFLUSHALL\r\nSET after v\r\n");
    (0..4).for_each(|_| drop(client.reply()));
    wait_for_checkpoints(&mut client, 1);
    node.stop();
    let node = Node::start(folder.path());
    assert_eq!(picture(&mut node.client()), ["after=v until -1"]);
    node.stop();
}

/// Where the checkpoint begins and ends, in entries of the log.
fn walk(folder: &Path) -> (u64, u64) {
    let file = std::fs::read(folder.join("checkpoints/shard-0")).expect("read");
    let number = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().expect("eight bytes"));
    (number(25), number(file.len() - 8))
}

#[test]
fn a_log_that_ends_before_its_checkpoint_costs_nothing_that_comes_later() {
    let folder = tempfile::tempdir().expect("folder");
    let node = Node::start(folder.path());
    let mut client = node.client();
    let append = |client: &mut Client, keys: std::ops::Range<u64>| {
        for number in keys.clone() {
            client.send(format!("APPEND key{number} x\r\n").as_bytes());
        }
        keys.for_each(|_| drop(client.reply()));
    };
    append(&mut client, 0..30_000);
    // Written while the walk goes on, so that its end is of a later entry than its beginning.
    let (mut dice, mut checkpoints) = (Dice(7), 0);
    loop {
        assert_eq!(client.line("BGSAVE"), "Background saving started");
        for _ in 0..20 {
            let from = dice.below(29_000);
            append(&mut client, from..from + 10);
        }
        checkpoints += 1;
        wait_for_checkpoints(&mut client, checkpoints);
        let (started, last) = walk(folder.path());
        if last > started + 2 {
            break;
        }
    }
    node.stop();
    std::fs::remove_dir_all(folder.path().join("wal/0")).expect("removed");
    let lengths = |client: &mut Client| -> Vec<String> {
        (0..30_000).for_each(|number| client.send(format!("STRLEN key{number}\r\n").as_bytes()));
        (0..30_000).map(|_| show(&client.reply())).collect()
    };
    let node = Node::start(folder.path());
    let mut client = node.client();
    assert!(lengths(&mut client).iter().all(|length| length != "0"), "what the checkpoint has is there");
    (0..300).for_each(|number| append(&mut client, number..number + 1));
    let before = lengths(&mut client);
    node.stop();
    let node = Node::start(folder.path());
    assert!(lengths(&mut node.client()) == before, "what was answered since is there");
    node.stop();
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder.join("wal/0"))
        .expect("read")
        .map(|entry| entry.expect("entry").path())
        .collect();
    files.retain(|path| std::fs::metadata(path).expect("there").len() > 1 << 20);
    files.sort();
    files
}

#[test]
fn a_damaged_log_or_checkpoint_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let node = Node::start(folder.path());
    let mut client = node.client();
    for number in 0..100 {
        client.line(&format!("SET damaged{number} value"));
    }
    client.line("BGSAVE");
    wait_for_checkpoints(&mut client, 1);
    for number in 0..100 {
        client.line(&format!("SET damaged{number} other"));
    }
    node.stop();

    let checkpoint = folder.path().join("checkpoints/shard-0");
    let good = std::fs::read(&checkpoint).expect("read");
    let write = |path: &Path, bytes: &[u8]| {
        use std::io::Write;
        std::fs::File::create(path).expect("made").write_all(bytes).expect("written");
    };
    let refused = || Node::start(folder.path()).failure().to_string();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    write(&checkpoint, &bad);
    assert!(refused().contains("damaged"));
    write(&checkpoint, &good[..good.len() - 3]);
    assert!(refused().contains("without its last frame"));
    write(&checkpoint, b"something else entirely");
    assert!(refused().contains("not a checkpoint"));
    // The log no longer has what only the checkpoint holds... unless nothing was cut from it yet.
    write(&checkpoint, &good);
    let node = Node::start(folder.path());
    assert_eq!(node.client().line("GET damaged7"), "other");
    node.stop();

    // A byte within acknowledged entries.
    let segment = segments(folder.path()).remove(0);
    let mut bytes = std::fs::read(&segment).expect("read");
    let at = bytes.windows(9).position(|window| window == b"damaged50").expect("in the log");
    bytes[at] ^= 1;
    write(&segment, &bytes);
    let said = refused();
    assert!(said.contains("damaged at byte") && said.contains("wal/0"), "{said}");
}

#[test]
fn a_shard_that_writes_little_does_not_keep_the_log_of_those_that_write_much() {
    let folder = tempfile::tempdir().expect("folder");
    let node = Node::with(Config { shards: 2, checkpoint_log_bytes: 100_000, ..config(folder.path()) });
    let (mut quiet, mut busy) = (node.client_of(0), node.client_of(1));
    assert_eq!(quiet.line("SET hello v"), "OK");
    let value = vec![b'x'; 100_000];
    for _ in 0..10 {
        assert_eq!(show(&busy.ask(&[&b"SET"[..], b"foo", &value])), "OK");
    }
    wait_for_checkpoints(&mut quiet, 1);
    node.stop();
}

#[test]
fn one_damaged_stream_ends_the_node() {
    let folder = tempfile::tempdir().expect("folder");
    let two = Config { shards: 2, wal_streams: 2, ..config(folder.path()) };
    let node = Node::with(two.clone());
    assert_eq!(node.client_of(1).line("SET foo v"), "OK");
    node.stop();
    let log = folder.path().join("wal/1");
    for entry in std::fs::read_dir(log).expect("read") {
        let path = entry.expect("entry").path();
        if std::fs::metadata(&path).expect("there").len() > 1 << 20 {
            use std::os::unix::fs::FileExt;
            let file = std::fs::OpenOptions::new().write(true).open(path).expect("opened");
            file.write_all_at(b"not a header", 0).expect("written");
        }
    }
    let (told, ended) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .spawn(move || told.send(Node::with(two).failure().to_string()))
        .expect("thread");
    let said = ended.recv_timeout(PATIENCE).expect("it ends, though the other core has all that it needs");
    assert!(said.contains("wal/1"), "{said}");
}

#[test]
fn a_folder_is_for_one_node_as_it_was_made() {
    let folder = tempfile::tempdir().expect("folder");
    let node = Node::start(folder.path());
    node.client().line("SET k v");
    let second = Node::start(folder.path()).failure().to_string();
    assert!(second.contains("in use"), "{second}");
    node.stop();
    let said = Node::with(Config { shards: 2, ..config(folder.path()) }).failure().to_string();
    assert!(said.contains("made for 1 shards"), "{said}");
    std::fs::remove_file(folder.path().join("node.toml")).expect("removed");
    let said = Node::start(folder.path()).failure().to_string();
    assert!(said.contains("node.toml: missing"), "{said}");
}
