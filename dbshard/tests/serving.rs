//! A node on real sockets: pipelines, redirects, transactions, what a hostile or slow peer does, the end.

mod node;

use std::io::{Read, Write};

use dbshard::Config;
use node::{Client, Dice, Node, PATIENCE, config, show};
use wire::resp::value::Value;

#[test]
fn a_pipeline_cut_anywhere_is_answered_in_order() {
    let folder = tempfile::tempdir().expect("folder");
    let node = Node::start(folder.path());
    let mut client = node.client();
    let pipeline = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nhello\r\nGET k\r\n*2\r\n$6\r\nSTRLEN\r\n$1\r\nk\r\nNOPE\r\nGET none\r\n\
                     INCR n\r\nDEL n\r\n";
    for cut in 1..pipeline.len() {
        client.send(&pipeline[..cut]);
        client.send(&pipeline[cut..]);
        let replies: Vec<String> = (0..7).map(|_| show(&client.reply())).collect();
        assert_eq!(
            replies,
            ["OK", "hello", "5", "ERR unknown command 'NOPE', with args beginning with: ", "nil", "1", "1"],
            "cut at {cut}"
        );
    }
    node.stop();
}

#[test]
fn a_pipeline_of_a_thousand_sets_is_few_commits() {
    let folder = tempfile::tempdir().expect("folder");
    let node = Node::start(folder.path());
    let mut client = node.client();
    let mut request = Vec::new();
    for number in 0..1000 {
        wire::resp::value::request(&mut request, &["SET", &format!("key{number}"), "value"]);
    }
    let index = |client: &mut Client| -> u64 {
        let info = client.line("INFO persistence");
        let line = info.lines().find_map(|line| line.strip_prefix("log_last_index:")).expect("told");
        line.trim().parse().expect("a number")
    };
    let before = index(&mut client);
    client.send(&request);
    for _ in 0..1000 {
        assert_eq!(client.reply(), Value::Simple("OK".into()));
    }
    assert_eq!(client.line("DBSIZE"), "1000");
    // One entry per turn in which some of it arrived.
    let entries = index(&mut client) - before;
    assert!(entries < 50, "{entries} entries for one pipeline");
    node.stop();
}

#[test]
fn shards_redirect_and_know_each_other() {
    let folder = tempfile::tempdir().expect("folder");
    let node = Node::with(Config { shards: 3, wal_streams: 2, ..config(folder.path()) });
    let ports: Vec<u16> = node.addresses.iter().map(|address| address.port()).collect();
    let mut clients: Vec<Client> = (0..3).map(|shard| node.client_of(shard)).collect();
    assert_eq!(clients[0].line("SET foo bar"), format!("MOVED 12182 127.0.0.1:{}", ports[2]));
    assert_eq!(clients[2].line("SET foo bar"), "OK");
    assert_eq!(clients[1].line("GET foo"), format!("MOVED 12182 127.0.0.1:{}", ports[2]));
    assert_eq!(clients[2].line("GET foo"), "bar");
    assert_eq!(clients[0].line("MGET foo hello"), "CROSSSLOT Keys in request don't hash to the same slot");
    let slots: Vec<String> = clients.iter_mut().map(|client| client.line("CLUSTER SLOTS")).collect();
    assert!(slots[0].contains(&format!("127.0.0.1 {}", ports[1])));
    assert!(slots.iter().all(|told| *told == slots[0]));
    let ids: std::collections::BTreeSet<String> =
        clients.iter_mut().map(|client| client.line("CLUSTER MYID")).collect();
    assert_eq!(ids.len(), 3);
    node.stop();
}

#[test]
fn a_transaction_is_whole() {
    let folder = tempfile::tempdir().expect("folder");
    let node = Node::start(folder.path());
    let (mut client, mut other) = (node.client(), node.client());
    for (request, reply) in [
        ("SET {t}n 5", "OK"),
        ("WATCH {t}n", "OK"),
        ("MULTI", "OK"),
        ("INCR {t}n", "QUEUED"),
        ("HSET {t}h f v", "QUEUED"),
        ("EXEC", "[6 1]"),
        ("WATCH {t}n", "OK"),
    ] {
        assert_eq!(client.line(request), reply, "{request}");
    }
    assert_eq!(other.line("SET {t}n 9"), "OK");
    for (request, reply) in [("MULTI", "OK"), ("INCR {t}n", "QUEUED"), ("EXEC", "nil"), ("GET {t}n", "9")] {
        assert_eq!(client.line(request), reply, "{request}");
    }
    node.stop();
}

#[test]
fn values_up_to_the_limit_and_not_beyond() {
    let folder = tempfile::tempdir().expect("folder");
    let node = Node::start(folder.path());
    let mut client = node.client();
    let value = vec![b'x'; 16 << 20];
    assert_eq!(show(&client.ask(&[b"SET", b"big", &value[..]])), "OK");
    assert_eq!(client.ask(&["GET", "big"]), Value::Bulk(value.clone()));
    let key = vec![b'k'; 65024];
    assert_eq!(show(&client.ask(&[b"SET", &key[..], &value[..]])), "OK");
    assert_eq!(show(&client.ask(&[b"STRLEN", &key[..]])), "16777216");
    assert_eq!(
        show(&client.ask(&[&b"SET"[..], &[b'k'; 65025], b"v"])),
        "ERR key is too long: the limit is 65024 bytes"
    );
    client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$16777217\r\n");
    assert_eq!(show(&client.reply()), "ERR Protocol error: invalid bulk length");
    assert_eq!(client.next(), None);
    node.stop();
}

#[test]
fn bad_input_gets_an_error_or_a_close_and_the_node_serves_on() {
    let folder = tempfile::tempdir().expect("folder");
    let node = Node::with(Config { stall_timeout_s: 1, ..config(folder.path()) });
    let refused = |input: &[u8], wanted: &str| {
        let mut client = node.client();
        // The node may close before it has read all.
        let _ = client.stream.write_all(input);
        assert_eq!(client.next().map(|reply| show(&reply)).as_deref(), Some(wanted));
        assert_eq!(client.next(), None);
    };
    refused(&[b'a'; 65 << 10], "ERR Protocol error: too big inline request");
    refused(b"*1\r\nxyz\r\n", "ERR Protocol error: expected '$', got 'x'");
    refused(b"*99999999\r\n", "ERR Protocol error: invalid multibulk length");
    refused(b"SET \"k\r\n", "ERR Protocol error: unbalanced quotes in request");

    // 1 MiB of one letter: an error, then a close; or a reset that overtakes the error.
    let mut client = node.client();
    let _ = client.stream.write_all(&vec![b'a'; 1 << 20]);
    let mut rest = Vec::new();
    let _ = client.stream.read_to_end(&mut rest);
    assert!(rest.is_empty() || rest.starts_with(b"-ERR Protocol error: too big inline request"));

    // A web page that was made to talk to us.
    let mut client = node.client();
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nSET k v\r\n");
    assert_eq!(client.next(), None);
    assert_eq!(node.client().line("EXISTS k"), "0");

    // Half a request, then silence.
    let mut client = node.client();
    client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000\r\nabc");
    assert_eq!(client.next(), None);

    let mut dice = Dice(7);
    for _ in 0..50 {
        let mut client = node.client();
        let noise: Vec<u8> = (0..dice.below(5000)).map(|_| dice.below(256) as u8).collect();
        let _ = client.stream.write_all(&noise);
        let _ = client.stream.shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        let _ = client.stream.read_to_end(&mut rest);
    }
    assert_eq!(node.client().line("PING"), "PONG");
    node.stop();
}

#[test]
fn a_peer_that_does_not_read_stops_itself_and_nobody_else() {
    let folder = tempfile::tempdir().expect("folder");
    let node = Node::with(Config { stall_timeout_s: 2, ..config(folder.path()) });
    let mut client = node.client();
    assert_eq!(show(&client.ask(&[&b"SET"[..], b"k", &vec![b'x'; 1 << 20]])), "OK");
    // 1 GiB of replies, none of them read.
    let mut slow = node.client();
    let requests = b"GET k\r\n".repeat(1024);
    let _ = slow.stream.write_all(&requests);
    for _ in 0..100 {
        assert_eq!(client.line("PING"), "PONG");
    }
    let info = client.line("INFO stats");
    let sent = info.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:")).expect("told");
    let sent: u64 = sent.trim().parse().expect("a number");
    assert!(sent < 64 << 20, "{sent} bytes for a peer that reads none");
    // In the end it is closed; what was underway may still come.
    let deadline = runtime::time::now() + PATIENCE;
    while client.line("CLIENT LIST").lines().count() > 1 {
        assert!(runtime::time::now() < deadline, "still connected");
    }
    let (mut total, mut buffer) = (0, vec![0; 1 << 20]);
    while let Ok(count @ 1..) = slow.stream.read(&mut buffer) {
        total += count;
    }
    assert!(total < 64 << 20);
    node.stop();
}

#[test]
#[allow(clippy::disallowed_methods, reason = "no core here: the peer is slow")]
fn a_peer_that_reads_slowly_is_served_to_the_end() {
    let folder = tempfile::tempdir().expect("folder");
    let node = Node::with(Config { stall_timeout_s: 2, ..config(folder.path()) });
    let mut client = node.client();
    assert_eq!(show(&client.ask(&[&b"SET"[..], b"k", &vec![b'x'; 16 << 20]])), "OK");
    client.send(b"GET k\r\nGET k\r\n");
    // Longer than the timeout in all, and never silent for so long.
    let (mut total, mut buffer) = (0, vec![0; 1 << 20]);
    while total < 2 * ((16 << 20) + 13) {
        if total < 20 << 20 {
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        let count = client.stream.read(&mut buffer).expect("connected");
        assert!(count > 0, "closed after {total} bytes");
        total += count;
    }
    node.stop();
}

#[test]
fn long_replies_are_bounded_in_all() {
    let folder = tempfile::tempdir().expect("folder");
    let limits = Config { output_bytes_max: 20 << 20, replies_bytes_max: 20 << 20, ..config(folder.path()) };
    let node = Node::with(limits);
    let mut client = node.client();
    assert_eq!(show(&client.ask(&[&b"SET"[..], b"k", &vec![b'x'; 16 << 20]])), "OK");
    let mut lazy: Vec<Client> = (0..3).map(|_| node.client()).collect();
    lazy.iter_mut().for_each(|lazy| lazy.send(b"GET k\r\n"));
    // One of them may wait to be read; the others are closed.
    let deadline = runtime::time::now() + PATIENCE;
    while client.line("CLIENT LIST").lines().count() > 2 {
        assert!(runtime::time::now() < deadline, "all are kept");
    }
    drop(lazy);
    while client.line("CLIENT LIST").lines().count() > 1 {
        assert!(runtime::time::now() < deadline, "one is left");
    }
    client.send(b"GET k\r\n");
    assert_eq!(show(&client.reply()).len(), 16 << 20);
    node.stop();
}

#[test]
fn a_peer_gone_behind_a_wait_is_noticed() {
    let folder = tempfile::tempdir().expect("folder");
    let node = Node::with(Config { stall_timeout_s: 1, ..config(folder.path()) });
    let mut client = node.client();
    for requests in [1, 1_000_000] {
        let mut waits = node.client();
        waits.send(b"WAIT 1 0\r\n");
        let _ = waits.stream.write_all(&b"PING\r\n".repeat(requests));
        drop(waits);
        let deadline = runtime::time::now() + PATIENCE;
        while client.line("CLIENT LIST").lines().count() > 1 {
            assert!(runtime::time::now() < deadline, "still connected");
        }
    }
    node.stop();
}

#[test]
fn queued_requests_are_bounded_in_all() {
    let folder = tempfile::tempdir().expect("folder");
    let limits =
        Config { request_bytes_max: 17 << 20, requests_bytes_max: 20 << 20, ..config(folder.path()) };
    let node = Node::with(limits);
    let value = vec![b'x'; 8 << 20];
    let mut queueing: Vec<Client> = (0..3).map(|_| node.client()).collect();
    for client in &mut queueing {
        assert_eq!(client.line("MULTI"), "OK");
    }
    for client in &mut queueing[..2] {
        assert_eq!(show(&client.ask(&[&b"SET"[..], b"k", &value])), "QUEUED");
    }
    let mut request = Vec::new();
    wire::resp::value::request(&mut request, &[&b"SET"[..], b"k", &value]);
    // It may be cut off while it still sends.
    let _ = queueing[2].stream.write_all(&request);
    while let Some(reply) = queueing[2].next() {
        assert_eq!(show(&reply), "ERR too many large requests at once");
    }
    assert_eq!(queueing[0].line("EXEC"), "[OK]");
    assert_eq!(node.client().line("STRLEN k"), (8 << 20).to_string());
    node.stop();
}

#[test]
fn what_needs_an_entry_of_its_own_gets_it() {
    let folder = tempfile::tempdir().expect("folder");
    let node = Node::start(folder.path());
    let mut client = node.client();
    // The batch is open when the command comes whose effect fills an entry.
    let mut pipeline = Vec::new();
    let value = vec![b'x'; 200_000];
    wire::resp::value::request(&mut pipeline, &[&b"SET"[..], b"{t}a", &value]);
    wire::resp::value::request(&mut pipeline, &["SETRANGE", "{t}b", "16777215", "y"]);
    wire::resp::value::request(&mut pipeline, &[&b"SET"[..], b"{t}a", &value]);
    wire::resp::value::request(&mut pipeline, &["MULTI"]);
    wire::resp::value::request(&mut pipeline, &["SETRANGE", "{t}b", "0", "y"]);
    wire::resp::value::request(&mut pipeline, &["EXEC"]);
    client.send(&pipeline);
    let replies: Vec<String> = (0..6).map(|_| show(&client.reply())).collect();
    assert_eq!(replies, ["OK", "16777216", "OK", "OK", "QUEUED", "[16777216]"]);
    node.stop();
}

#[test]
fn connections_are_counted_and_can_be_killed() {
    let folder = tempfile::tempdir().expect("folder");
    let node = Node::with(Config { connections_max: 2, ..config(folder.path()) });
    let (mut first, mut second) = (node.client(), node.client());
    assert_eq!((first.line("PING"), second.line("PING")), ("PONG".into(), "PONG".into()));
    let mut third = node.client();
    assert_eq!(third.next().map(|reply| show(&reply)).as_deref(), Some("ERR max number of clients reached"));
    assert_eq!(third.next(), None);
    let id = second.line("CLIENT ID");
    assert_eq!(first.line(&format!("CLIENT KILL ID {id}")), "1");
    assert_eq!(second.next(), None);
    assert_eq!(first.line("CLIENT LIST").lines().count(), 1);
    node.stop();
}

#[test]
fn waiting_for_replicas_takes_its_time_and_keeps_order() {
    let folder = tempfile::tempdir().expect("folder");
    let node = Node::start(folder.path());
    let mut client = node.client();
    client.send(b"SET k v\r\nWAIT 1 50\r\nGET k\r\nWAIT 0 0\r\n");
    let replies: Vec<String> = (0..4).map(|_| show(&client.reply())).collect();
    assert_eq!(replies, ["OK", "0", "v", "0"]);
    node.stop();
}

#[test]
fn keys_expire_by_themselves() {
    let folder = tempfile::tempdir().expect("folder");
    let node = Node::start(folder.path());
    let mut client = node.client();
    for number in 0..1000 {
        client.send(format!("SET key{number} v PX 50\r\n").as_bytes());
    }
    (0..1000).for_each(|_| assert_eq!(show(&client.reply()), "OK"));
    client.line("SET stays v");
    let deadline = runtime::time::now() + PATIENCE;
    while client.line("DBSIZE") != "1" {
        assert!(runtime::time::now() < deadline, "expired keys stay");
    }
    assert_eq!(client.line("GET stays"), "v");
    node.stop();
}

#[test]
fn the_end_is_clean_with_clients_connected() {
    let folder = tempfile::tempdir().expect("folder");
    let node = Node::start(folder.path());
    let (mut idle, mut half) = (node.client(), node.client());
    assert_eq!(idle.line("SET k v"), "OK");
    half.line("PING");
    node.stop();
    assert_eq!((idle.next(), half.next()), (None, None));
    let node = Node::start(folder.path());
    assert_eq!(node.client().line("GET k"), "v");
    node.stop();
}
