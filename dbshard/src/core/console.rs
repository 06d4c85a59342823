//! For tests: a shard with one connection, asked in lines of text and answering in lines of text.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use wire::resp::request::{Limits, Parser};
use wire::resp::value::{self, Value};

use super::output::Output;
use super::session::Session;
use super::shard::{Settings, Shard};
use super::topology::{Node, Place, Topology, slots_of};

/// 2020-09-13 12:26:40 UTC.
pub(crate) const START_MS: u64 = 1_600_000_000_000;

pub(crate) struct Console {
    pub(crate) shard: Shard,
    pub(crate) session: Session,
    pub(crate) out: Output,
    pub(crate) now_ms: u64,
    index: u64,
    /// The entries that were proposed.
    pub(crate) log: Vec<Vec<u8>>,
    uncommitted: Vec<(u64, Bytes)>,
}

pub(crate) fn topology(shards: usize) -> Arc<Topology> {
    replicated(shards, 1)
}

/// Each shard on so many nodes, led by the first.
pub(crate) fn replicated(shards: usize, nodes: u16) -> Arc<Topology> {
    let places = (0..shards).map(|number| {
        let replicas = (0..nodes).map(|node| Node {
            id: format!("{:040x}", usize::from(node) * 100 + number),
            number: u64::from(node) + 1,
            host: "127.0.0.1".into(),
            port: 7001 + 10 * node + number as u16,
        });
        let place = Place::new(slots_of(number, shards), replicas.collect());
        place.set_leader(Some(1));
        place
    });
    Arc::new(Topology::new(places.collect()))
}

pub(crate) fn session(id: u64) -> Session {
    let address = SocketAddr::from(([127, 0, 0, 1], 4000 + id as u16));
    Session::new(id, address, SocketAddr::from(([127, 0, 0, 1], 7001)), true, START_MS)
}

impl Console {
    pub(crate) fn new() -> Self {
        Self::of(1, Settings::default())
    }

    /// The first of so many shards.
    pub(crate) fn of(shards: usize, settings: Settings) -> Self {
        Self::on(topology(shards), settings)
    }

    /// The first shard's replica on node 1.
    pub(crate) fn on(topology: Arc<Topology>, settings: Settings) -> Self {
        let mut shard = Shard::new(topology, (0, 1), settings, 11, START_MS);
        shard.lead();
        Self {
            shard,
            session: session(1),
            out: Output::new(64 << 20),
            now_ms: START_MS,
            index: 0,
            log: Vec::new(),
            uncommitted: Vec::new(),
        }
    }

    /// Executes the requests of a text without committing anything.
    pub(crate) fn execute(&mut self, request: &[u8]) {
        let mut parser = Parser::new(Limits::default());
        let mut rest = request;
        while let Some(taken) = parser.parse(rest).expect("a request") {
            self.shard.execute(&mut self.session, parser.arguments(rest), &mut self.out, self.now_ms);
            parser.finish();
            rest = &rest[taken..];
        }
    }

    /// Commits what was executed.
    pub(crate) fn commit(&mut self) {
        self.propose();
        for (index, entry) in std::mem::take(&mut self.uncommitted) {
            self.shard.commit(index, &entry, |_, _| false).expect("readable");
        }
    }

    /// Has the log take what was executed.
    pub(crate) fn propose(&mut self) {
        if let Some(batch) = self.shard.take_batch() {
            self.log.push(batch.to_vec());
            self.index += 1;
            self.uncommitted.push((self.index, batch.clone()));
            self.shard.proposed(self.index, batch);
        }
    }

    /// Another replica leads: what is not committed comes to nothing here.
    pub(crate) fn follow(&mut self) {
        self.uncommitted.clear();
        self.shard.follow();
    }

    /// The bytes that may leave.
    pub(crate) fn sent(&mut self) -> Vec<u8> {
        let committed = self.shard.committed_sequence();
        self.out.take(committed).pieces().flatten().collect()
    }

    /// Executes and commits an inline request; gives the reply as [`show`] does.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.execute(format!("{line}\r\n").as_bytes());
        self.answer()
    }

    /// Commits, and gives all replies.
    pub(crate) fn answer(&mut self) -> String {
        self.commit();
        let sent = self.sent();
        let (mut rest, mut shown) = (&sent[..], Vec::new());
        while let Some((value, taken)) = value::decode(rest).expect("a reply") {
            shown.push(show(&value));
            rest = &rest[taken..];
        }
        assert!(rest.is_empty(), "half a reply: {rest:?}");
        shown.join("; ")
    }

    /// Checks replies, one for each line of `script`: `request -> reply`.
    pub(crate) fn script(&mut self, script: &str) {
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (request, wanted) = line.split_once(" ->").expect("request -> reply");
            assert_eq!(self.ask(request.trim()), wanted.trim(), "to {request}");
        }
    }
}

/// A reply on one line: strings bare, integers in parentheses, arrays in brackets, `nil`.
pub(crate) fn show(value: &Value) -> String {
    let list = |items: &[Value]| format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" "));
    match value {
        Value::Simple(text) | Value::Error(text) => text.clone(),
        Value::Integer(number) => format!("({number})"),
        Value::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Null => "nil".into(),
        Value::Array(items) | Value::Set(items) | Value::Push(items) => list(items),
        Value::Map(pairs) => {
            let pairs: Vec<_> =
                pairs.iter().map(|(key, value)| format!("{}:{}", show(key), show(value))).collect();
            format!("{{{}}}", pairs.join(" "))
        }
        Value::Double(number) => number.to_string(),
        Value::Boolean(yes) => yes.to_string(),
        Value::BigNumber(text) => text.clone(),
    }
}
