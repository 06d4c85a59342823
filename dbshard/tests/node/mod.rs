//! A node on free ports, and a client that speaks RESP.

#![allow(dead_code, unreachable_pub)] // each test file uses what it needs

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use dbshard::{Config, Error, Server};
use wire::resp::value::{self, Value};

/// No answer takes so long; only a failing test waits for it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running node.
pub struct Node {
    pub addresses: Vec<SocketAddr>,
    pub service: ops::Service,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

pub fn config(data: &Path) -> Config {
    Config {
        data: data.to_owned(),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        shards: 1,
        wal_streams: 1,
        ..Config::default()
    }
}

impl Node {
    pub fn start(data: &Path) -> Node {
        Node::with(config(data))
    }

    #[allow(clippy::needless_pass_by_value)] // made for it
    pub fn with(config: Config) -> Node {
        let service = ops::Service::start(ops::Options { name: "dbshard", ..ops::Options::default() })
            .expect("service");
        let server = Server::bind(&config).expect("bound");
        let addresses = server.addresses();
        let thread = std::thread::Builder::new().spawn({
            let service = service.clone();
            move || server.run(&service)
        });
        Node { addresses, service, thread: Some(thread.expect("thread")) }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.addresses[0])
    }

    pub fn client_of(&self, shard: usize) -> Client {
        Client::connect(self.addresses[shard])
    }

    /// Stops, and gives how it ended.
    pub fn end(mut self) -> Result<(), Error> {
        self.service.stop().request();
        self.thread.take().expect("running").join().expect("no panic")
    }

    pub fn stop(self) {
        self.end().expect("a clean end");
    }

    /// Waits for a node that is expected to fail.
    pub fn failure(mut self) -> Error {
        self.thread.take().expect("running").join().expect("no panic").expect_err("fails")
    }
}

/// One connection.
pub struct Client {
    pub stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.set_write_timeout(Some(PATIENCE)).expect("set");
        stream.set_nodelay(true).expect("set");
        Client { stream, read: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    /// The next reply; `None` at the end.
    pub fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((value, taken)) = value::decode(&self.read).expect("a reply") {
                self.read.drain(..taken);
                return Some(value);
            }
            let mut buffer = vec![0; 256 << 10];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.read.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no reply: {error}"),
            }
        }
    }

    pub fn reply(&mut self) -> Value {
        self.next().expect("a reply, not the end")
    }

    pub fn ask<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Value {
        let mut request = Vec::new();
        value::request(&mut request, arguments);
        self.send(&request);
        self.reply()
    }

    /// Words in, one line out.
    pub fn line(&mut self, words: &str) -> String {
        show(&self.ask(&words.split(' ').collect::<Vec<_>>()))
    }
}

pub fn show(value: &Value) -> String {
    match value {
        Value::Simple(text) | Value::Error(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Null => "nil".into(),
        Value::Array(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
        other => format!("{other:?}"),
    }
}

/// A generator of test data: the same for the same seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }
}
