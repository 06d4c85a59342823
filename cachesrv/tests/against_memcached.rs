//! The same requests to Debian's memcached (1.6.18) and to us: the same answers, versions and texts of `version` apart.
//! Passes with a word on stderr where no memcached is installed.

mod pure;

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cachesrv::core::cache::Cache;
use pure::Connection;

/// How long a start may take, and an answer.
const PATIENCE: Duration = Duration::from_secs(10);

struct Memcached {
    child: Child,
    folder: tempfile::TempDir,
}

impl Memcached {
    /// `None` if it is not installed.
    fn start() -> Option<Memcached> {
        let folder = tempfile::tempdir().expect("folder");
        // As root it becomes nobody before it binds.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).expect("set");
        let child = Command::new("memcached")
            .args(["-u", "nobody", "-t", "1", "-s"])
            .arg(folder.path().join("socket"))
            .stdin(Stdio::null())
            .spawn();
        let memcached = match child {
            Ok(child) => Memcached { child, folder },
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => panic!("memcached: {error}"),
        };
        let deadline = runtime::time::now() + PATIENCE;
        while memcached.connect().is_err() {
            assert!(runtime::time::now() < deadline, "memcached listens");
            std::thread::yield_now();
        }
        Some(memcached)
    }

    fn connect(&self) -> std::io::Result<UnixStream> {
        UnixStream::connect(self.folder.path().join("socket"))
    }

    /// All answers to `request`, until memcached closes because no more is to come.
    fn ask(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = self.connect().expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        // It may close before all is sent.
        let _ = stream.write_all(request);
        let _ = stream.shutdown(Shutdown::Write);
        let mut all = Vec::new();
        match stream.read_to_end(&mut all) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(request)),
        }
        all
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The answers with what may differ taken out: CAS values, and the texts of `version` and `me`.
fn comparable(answers: &[u8]) -> String {
    let text = String::from_utf8_lossy(answers);
    let line = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        match words[0] {
            "VERSION" => "VERSION".to_owned(),
            "ME" => words[..words.len() - 4].join(" "),
            "VALUE" if words.len() == 5 => words[..4].join(" ") + " CAS",
            "HD" | "VA" | "EX" | "NS" | "NF" => {
                let is_cas =
                    |word: &str| word.len() > 1 && word.starts_with('c') && word[1..].parse::<u64>().is_ok();
                words
                    .iter()
                    .map(|word| if is_cas(word) { "cCAS" } else { word })
                    .collect::<Vec<_>>()
                    .join(" ")
            }
            _ => line.to_owned(),
        }
    };
    text.split("\r\n").map(line).collect::<Vec<_>>().join("\n")
}

fn cases() -> Vec<(String, bool)> {
    let mut cases: Vec<(String, bool)> = include_str!("against_memcached/cases.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| match line.split_once('\t') {
            Some((case, _reason)) => (case.to_owned(), true),
            None => (line.to_owned(), false),
        })
        .collect();
    let (key, large) = ("k".repeat(250), "x".repeat(2_000_000));
    for template in [
        "set K 0 0 1|a^get K",
        "set Kx 0 0 1|a",
        "get Kx",
        "get k Kx",
        "mg Kx v",
        "md Kx",
        "ma Kx",
        "delete Kx",
    ] {
        cases.push((template.replace('K', &key), false));
    }
    for template in ["incr Kx 1", "touch Kx 1", "set Kx 0 0 1 noreply|a", "me Kx"] {
        cases.push((template.replace('K', &key), false));
    }
    cases.push((format!("set k 0 0 1048576|{}^get k", &large[..1_048_576]), false));
    cases.push((format!("set k 0 0 1048000|{}", &large[..1_048_000]), false));
    for name in ["set", "add"] {
        cases.push((format!("set k 0 0 1|a^{name} k 0 0 2000000|{large}^get k"), false));
    }
    cases.push((format!("ms k 2000000|{large}"), false));
    let (head, tail) = (&large[..600_000], "y".repeat(600_000));
    cases.push((format!("set k 0 0 600000|{head}^append k 0 0 600000|{tail}^mg k s"), false));
    cases
}

#[test]
fn the_answers_are_memcacheds() {
    let Some(memcached) = Memcached::start() else {
        eprintln!("skipped: no memcached on PATH (Debian: apt-get install memcached)");
        return;
    };
    let version = memcached.ask(b"version\r\n");
    if !version.starts_with(b"VERSION 1.6.18") {
        eprintln!("compared with {}", String::from_utf8_lossy(&version));
    }
    // One cache for all cases, as on the other side: a version of 1 is long gone when a case compares with it.
    let cache = Arc::new(Cache::new(pure::options()));
    let mut differing = Vec::new();
    for (case, may_differ) in cases() {
        if may_differ {
            continue;
        }
        let request = (case.replace(['^', '|'], "\r\n") + "\r\nmn\r\n").into_bytes();
        memcached.ask(b"flush_all\r\n");
        let theirs = comparable(&memcached.ask(&request));
        Connection::to(&cache).feed(b"flush_all\r\n");
        let ours = comparable(&Connection::to(&cache).feed(&request).0);
        if ours != theirs {
            differing.push(format!("{case:.200}\n  memcached: {theirs:.300}\n  cachesrv:  {ours:.300}"));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}
