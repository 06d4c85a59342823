//! The classic text commands, answer by answer.

mod pure;

use pure::{Connection, options};

use cachesrv::core::cache::{Cache, CacheOptions};
use cachesrv::core::clock::Now;
use cachesrv::core::session::{Session, Step};

#[test]
fn storage_commands() {
    let mut c = Connection::new();
    c.expect("set k 5 0 1\na\n", "STORED\n");
    c.expect("get k\n", "VALUE k 5 1\na\nEND\n");
    c.expect("add k 0 0 1\nb\n", "NOT_STORED\n");
    c.expect("add n 0 0 1\nb\n", "STORED\n");
    c.expect("replace k 6 0 2\nbb\n", "STORED\n");
    c.expect("replace none 0 0 1\nb\n", "NOT_STORED\n");
    c.expect("append k 9 9 2\ncc\n", "STORED\n");
    c.expect("prepend k 9 9 2\naa\n", "STORED\n");
    c.expect("get k n\n", "VALUE k 6 6\naabbcc\nVALUE n 0 1\nb\nEND\n");
    c.expect("append none 0 0 1\nb\n", "NOT_STORED\n");
    c.expect("prepend none 0 0 1\nb\n", "NOT_STORED\n");
    c.expect("set empty 0 0 0\n\nget empty\n", "STORED\nVALUE empty 0 0\n\nEND\n");
}

#[test]
fn versions() {
    let mut c = Connection::new();
    c.expect("cas k 0 0 1 1\na\n", "NOT_FOUND\n");
    c.expect("set k 0 0 1\na\n", "STORED\n");
    c.expect("gets k\n", "VALUE k 0 1 1\na\nEND\n");
    c.expect("cas k 0 0 1 3\nb\n", "EXISTS\n");
    c.expect("cas k 0 0 1 0\nb\n", "EXISTS\n");
    c.expect("cas k 0 0 1 1\nb\n", "STORED\n");
    c.expect("cas k 0 0 1 1\nc\n", "EXISTS\n");
    c.expect("gets k\n", "VALUE k 0 1 2\nb\nEND\n");
}

#[test]
fn without_versions_all_are_zero() {
    let mut c = Connection::with(cachesrv::core::cache::CacheOptions { cas: false, ..options() });
    c.expect("set k 0 0 1\na\ngets k\n", "STORED\nVALUE k 0 1 0\na\nEND\n");
}

#[test]
fn deletes_and_touches() {
    let mut c = Connection::new();
    c.expect("set k 0 0 1\na\n", "STORED\n");
    c.expect("delete k\ndelete k\n", "DELETED\nNOT_FOUND\n");
    c.expect("delete k 5\n", "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\n");
    c.expect("touch k 5\n", "NOT_FOUND\n");
    c.expect("set k 0 0 1\na\ntouch k 5\n", "STORED\nTOUCHED\n");
    c.ms = 4_999;
    c.expect("get k\n", "VALUE k 0 1\na\nEND\n");
    c.ms = 5_000;
    c.expect("get k\n", "END\n");
}

#[test]
fn get_and_touch() {
    let mut c = Connection::new();
    c.expect("set k 3 10 1\na\n", "STORED\n");
    c.expect("gat 100 k none\n", "VALUE k 3 1\na\nEND\n");
    c.ms = 50_000;
    c.expect("gats 0 k\n", "VALUE k 3 1 1\na\nEND\n");
    c.ms = 1_000_000_000;
    c.expect("get k\n", "VALUE k 3 1\na\nEND\n");
    c.expect("gat -1 k\nget k\n", "VALUE k 3 1\na\nEND\nEND\n");
    c.expect("gat x k\n", "CLIENT_ERROR invalid exptime argument\n");
}

#[test]
fn numbers() {
    let mut c = Connection::new();
    c.expect("incr k 1\ndecr k 1\n", "NOT_FOUND\nNOT_FOUND\n");
    c.expect("set k 0 0 2\n10\n", "STORED\n");
    c.expect("incr k 1\ndecr k 2\nget k\n", "11\n9\nVALUE k 0 2\n9 \nEND\n");
    c.expect("incr k 1\nincr k 990\n", "10\n1000\n");
    c.expect("decr k 5000\nget k\n", "0\nVALUE k 0 4\n0   \nEND\n");
    c.expect("set k 0 0 20\n18446744073709551615\nincr k 2\n", "STORED\n1\n");
    c.expect("incr k x\n", "CLIENT_ERROR invalid numeric delta argument\n");
    c.expect("incr k -1\n", "CLIENT_ERROR invalid numeric delta argument\n");
    let text = "CLIENT_ERROR cannot increment or decrement non-numeric value\n";
    c.expect("set t 0 0 1\nx\nincr t 1\n", &format!("STORED\n{text}"));
    c.expect("set t 0 0 0\n\ndecr t 1\n", &format!("STORED\n{text}"));
}

#[test]
fn expiry() {
    let mut c = Connection::new();
    c.expect("set gone 0 -1 1\na\nget gone\n", "STORED\nEND\n");
    c.expect("set past 0 1699999999 1\na\nget past\n", "STORED\nEND\n");
    c.expect("set later 0 1700000009 1\na\nget later\n", "STORED\nVALUE later 0 1\na\nEND\n");
    c.ms = 9_000;
    c.expect("get later\nadd later 0 0 1\nb\n", "END\nSTORED\n");
}

#[test]
fn flushes() {
    let mut c = Connection::new();
    c.expect("set k 0 0 1\na\nflush_all\nget k\n", "STORED\nOK\nEND\n");
    c.expect("set k 0 0 1\na\nflush_all 2\nget k\n", "STORED\nOK\nVALUE k 0 1\na\nEND\n");
    c.ms = 2_000;
    c.expect("get k\nset k 0 0 1\nb\n", "END\nSTORED\n");
    c.ms = 9_000;
    c.expect("get k\n", "VALUE k 0 1\nb\nEND\n");
    c.expect("flush_all noreply\nget k\n", "END\n");
    c.expect("flush_all x\n", "CLIENT_ERROR invalid exptime argument\n");
    let mut c = Connection::with(cachesrv::core::cache::CacheOptions { flush_all: false, ..options() });
    c.expect("flush_all\n", "CLIENT_ERROR flush_all not allowed\n");
}

#[test]
fn silence_when_asked_for() {
    let mut c = Connection::new();
    c.expect("set k 0 0 1 noreply\n1\nadd k 0 0 1 noreply\n1\nreplace k 0 0 1 noreply\n2\n", "");
    c.expect(
        "append k 0 0 1 noreply\n0\nprepend k 0 0 1 noreply\n1\nincr k 5 noreply\ndecr k 1 noreply\n",
        "",
    );
    c.expect("touch k 100 noreply\nverbosity 1 noreply\nget k\n", "VALUE k 0 3\n124\nEND\n");
    c.expect("cas k 0 0 1 99 noreply\nx\ndelete none noreply\ndelete k noreply\nget k\n", "END\n");
    c.expect("set k 0 0 1 noreply\nxyz\nget k\n", "ERROR\nEND\n");
}

#[test]
fn faults() {
    let mut c = Connection::new();
    c.expect("nonsense\n", "ERROR\n");
    c.expect("\n", "ERROR\n");
    c.expect("get\n", "ERROR\n");
    c.expect("set k 0 0\n", "ERROR\n");
    c.expect("set k x 0 1\n", "CLIENT_ERROR bad command line format\n");
    c.expect("set k 0 0 3\nabcde\n", "CLIENT_ERROR bad data chunk\nERROR\n");
    c.expect(&format!("get {}\n", "k".repeat(251)), "CLIENT_ERROR bad command line format\n");
    c.expect(&format!("get a {}\n", "k".repeat(251)), "CLIENT_ERROR bad command line format\n");
    c.expect(&format!("set {} 0 0 1\na\n", "k".repeat(250)), "STORED\n");
    assert_eq!(c.feed(b"GET / HTTP/1.1\r\n").1, Step::Close);
}

#[test]
fn a_set_that_is_too_large_takes_the_old_value_with_it() {
    let mut c = Connection::new();
    let large = "x".repeat(1 << 20);
    c.expect("set k 0 0 1\na\n", "STORED\n");
    c.expect(
        &format!("add k 0 0 {}\n{large}\nget k\n", 1 << 20),
        "SERVER_ERROR object too large for cache\nVALUE k 0 1\na\nEND\n",
    );
    c.expect(
        &format!("set k 0 0 {}\n{large}\nget k\n", 1 << 20),
        "SERVER_ERROR object too large for cache\nEND\n",
    );
    let most = (1 << 20) - 100;
    c.expect(&format!("set k 0 0 {most}\n{}\n", &large[..most]), "STORED\n");
    assert_eq!(c.ask("get k\n").len(), most + "VALUE k 0 1048476\n\nEND\n".len());
}

#[test]
fn without_eviction_memory_runs_out() {
    let mut c = Connection::with(cachesrv::core::cache::CacheOptions { evict: false, ..options() });
    let value = "x".repeat(500_000);
    let mut answers = (0..200).map(|n| c.ask(&format!("set k{n} 0 0 500000\n{value}\n")));
    assert!(answers.any(|answer| answer == "SERVER_ERROR out of memory storing object\n"));
}

#[test]
fn the_rest() {
    let mut c = Connection::new();
    c.expect("version\n", "VERSION 1.6.99\n");
    c.expect("verbosity 1\nverbosity\nverbosity x\n", "OK\nERROR\nCLIENT_ERROR bad command line format\n");
    c.expect("shutdown\n", "ERROR: shutdown not enabled\n");
    c.expect("cache_memlimit 4\n", "MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\n");
    c.expect("cache_memlimit 100\n", "OK\n");
    c.expect("watch\n", "CLIENT_ERROR watch commands not allowed\n");
    assert_eq!(c.feed(b"quit\r\nget k\r\n"), (Vec::new(), Step::Close));
    let mut c = Connection::with(cachesrv::core::cache::CacheOptions { shutdown_command: true, ..options() });
    c.expect("shutdown now\n", "CLIENT_ERROR invalid shutdown mode\n");
    assert_eq!(c.feed(b"shutdown graceful\r\n").1, Step::Shutdown);
}

#[test]
fn long_lines_are_retrievals_or_the_end() {
    let mut c = Connection::new();
    assert_eq!(c.feed(&vec![b'a'; 1 << 20]), (Vec::new(), Step::Close));
    let mut c = Connection::new();
    let keys: String = (0..100_000).map(|n| format!(" key-{n}")).collect();
    c.expect("set key-99999 0 0 1\na\n", "STORED\n");
    let line = format!("get{keys}\r\n");
    for part in line.as_bytes().chunks(1000) {
        let (answers, step) = c.feed(part);
        assert_eq!(step, Step::Hungry);
        if !answers.is_empty() {
            assert_eq!(answers, b"VALUE key-99999 0 1\r\na\r\nEND\r\n");
        }
    }
    let mut c = Connection::new();
    let (_, step) = c.feed(&[b"get ".as_slice(), &vec![b'a'; 5 << 20]].concat());
    assert_eq!(step, Step::Close);
}

#[test]
fn how_a_long_line_is_cut_does_not_matter() {
    let keys = " key".repeat(1000);
    for (line, expected) in [
        (format!("get{keys}\r\n"), (b"END\r\n".to_vec(), Step::Hungry)),
        (format!("gats 0{keys}\r\n"), (b"END\r\n".to_vec(), Step::Hungry)),
        (format!("delete k{}\r\n", " ".repeat(3000)), (Vec::new(), Step::Close)),
        (format!("{}\r\n", "a".repeat(3000)), (Vec::new(), Step::Close)),
    ] {
        assert_eq!(Connection::new().feed(line.as_bytes()), expected, "{line:.20}");
        let mut c = Connection::new();
        let (mut answers, mut step) = c.feed(&line.as_bytes()[..2500]);
        if step == Step::Hungry {
            let (more, last) = c.feed(&line.as_bytes()[2500..]);
            answers.extend(more);
            step = last;
        }
        assert_eq!((answers, step), expected, "{line:.20} in pieces");
    }
}

/// What half lines hold is bounded in all: half of the memory limit, 8 MiB here.
#[test]
fn long_lines_share_a_limit() {
    let cache = std::sync::Arc::new(cachesrv::core::cache::Cache::new(options()));
    let line = [b"get ".as_slice(), &b"key ".repeat(900_000)].concat();
    let mut open: Vec<Connection> = (0..2).map(|_| Connection::to(&cache)).collect();
    for connection in &mut open {
        assert_eq!(connection.feed(&line).1, Step::Hungry);
    }
    assert_eq!(Connection::to(&cache).feed(&line).1, Step::Close);
    assert!(open[0].feed(b"\r\n").0.ends_with(b"END\r\n"));
    assert_eq!(Connection::to(&cache).feed(&line).1, Step::Hungry, "that line's share is free again");
    drop(open);
    assert_eq!(Connection::to(&cache).feed(&line).1, Step::Hungry);
}

/// However the bytes are cut, the answers are the same.
#[test]
fn a_pipeline_may_be_cut_anywhere() {
    let pipeline = b"set a 1 0 5\r\nhello\r\nget a b\r\nset bad 0 0 2\r\nxyz\r\nms m 3 T0 c\r\nabc\r\nms m 2 !\r\nzz\r\nmg m v t\r\n\
        incr a 1\r\nset n 0 0 1 noreply\r\n7\r\nincr n 3\r\ngets n a\r\nmn\r\ndelete a\r\nversion\r\n";
    let (whole, _) = Connection::new().feed(pipeline);
    assert!(whole.ends_with(b"VERSION 1.6.99\r\n"));
    for cut in 1..pipeline.len() {
        let mut c = Connection::new();
        let mut answers = c.feed(&pipeline[..cut]).0;
        answers.extend(c.feed(&pipeline[cut..]).0);
        assert_eq!(answers, whole, "cut at {cut}");
    }
    let mut c = Connection::new();
    let answers: Vec<u8> = pipeline.iter().flat_map(|byte| c.feed(&[*byte]).0).collect();
    assert_eq!(answers, whole, "byte by byte");
}

#[test]
fn statistics() {
    let mut c = Connection::new();
    c.expect("set k 0 0 1\na\nget k none\ndelete none\n", "STORED\nVALUE k 0 1\na\nEND\nNOT_FOUND\n");
    let general = c.ask("stats\n");
    for line in [
        "cmd_get 2",
        "get_hits 1",
        "get_misses 1",
        "cmd_set 1",
        "curr_items 1",
        "delete_misses 1",
        "version 1.6.99",
    ] {
        assert!(general.contains(&format!("STAT {line}\n")), "{line} in {general}");
    }
    assert!(general.ends_with("END\n"));
    assert!(c.ask("stats items\n").starts_with("STAT items:1:number 1\n"));
    assert!(c.ask("stats slabs\n").contains("STAT active_slabs 1\n"));
    assert!(c.ask("stats settings\n").contains("STAT item_size_max 1048576\n"));
    c.expect("stats sizes\n", "STAT sizes_status disabled\nEND\n");
    c.expect("stats sizes_enable\nstats sizes\n", "STAT sizes_status enabled\nEND\nSTAT 32 1\nEND\n");
    c.expect("stats reset\n", "RESET\n");
    assert!(c.ask("stats\n").contains("STAT cmd_get 0\n"));
    c.expect("stats nothing\n", "ERROR\n");
}

/// In many shards a small limit would leave each less than it needs to store anything at all.
#[test]
fn a_memory_limit_that_could_not_be_worked_in_is_refused() {
    let options = CacheOptions { memory_bytes: 1 << 30, cores: 2, ..options() };
    let mut c = Connection::with(options);
    for number in 0..2_000 {
        c.expect(&format!("set {number} 0 0 1000 noreply\n{}\n", "x".repeat(1000)), "");
    }
    c.expect("cache_memlimit 16\n", "MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\n");
    c.expect("cache_memlimit 32\n", "OK\n");
    for number in 0..2_000 {
        c.expect(&format!("set {number} 0 0 1000\n{}\n", "y".repeat(1000)), "STORED\n");
    }
}

/// 68 years from 1970: a host without a clock battery.
#[test]
fn a_wall_clock_that_was_never_set_is_survived() {
    let cache = std::sync::Arc::new(Cache::new(options()));
    let mut session = Session::new(cache);
    let now = Now { ms: 1000, unix_ms: 0 };
    let mut out = Vec::new();
    session.step(&mut &b"set k 0 2147483647 1\r\na\r\nget k\r\n"[..], now, &mut out);
    assert_eq!(out, b"STORED\r\nVALUE k 0 1\r\na\r\nEND\r\n");
}
