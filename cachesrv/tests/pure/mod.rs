//! A connection without a socket.
#![allow(dead_code, unreachable_pub)] // each test file uses its part

use std::sync::Arc;

use cachesrv::core::cache::{Cache, CacheOptions};
use cachesrv::core::clock::Now;
use cachesrv::core::session::{Session, Step};

/// What the tests start from.
pub fn options() -> CacheOptions {
    CacheOptions {
        memory_bytes: 16 << 20, // one shard, so that versions count from 1
        item_bytes_max: 1 << 20,
        evict: true,
        cas: true,
        cores: 1,
        seed: 1,
        flush_all: true,
        shutdown_command: false,
        track_sizes: false,
        settings: vec![("maxconns", "1024".to_owned())],
        version: "1.6.99".to_owned(),
        pid: 1,
    }
}

/// One connection, and the clock.
pub struct Connection {
    session: Session,
    /// Milliseconds since the start.
    pub ms: u64,
}

impl Connection {
    pub fn new() -> Connection {
        Connection::with(options())
    }

    pub fn with(options: CacheOptions) -> Connection {
        Connection::to(&Arc::new(Cache::new(options)))
    }

    pub fn to(cache: &Arc<Cache>) -> Connection {
        Connection { session: Session::new(Arc::clone(cache)), ms: 0 }
    }

    /// All answers to `bytes`, and how it ended.
    pub fn feed(&mut self, mut bytes: &[u8]) -> (Vec<u8>, Step) {
        let now = Now { ms: 1000 + self.ms, unix_ms: 1_700_000_000_000 + self.ms };
        let (mut all, mut out) = (Vec::new(), Vec::new());
        loop {
            let step = self.session.step(&mut bytes, now, &mut out);
            all.append(&mut out);
            if step != Step::Full {
                return (all, step);
            }
        }
    }

    /// The answers to lines, as text; `\n` stands for the line end both ways.
    pub fn ask(&mut self, text: &str) -> String {
        let (answers, step) = self.feed(text.replace('\n', "\r\n").as_bytes());
        assert_eq!(step, Step::Hungry, "after {text:?}");
        String::from_utf8(answers).expect("text").replace("\r\n", "\n")
    }

    /// Asserts on [`Connection::ask`].
    #[track_caller]
    pub fn expect(&mut self, text: &str, answers: &str) {
        assert_eq!(self.ask(text), answers, "to {text:?}");
    }
}
