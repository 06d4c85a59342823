//! A proxy on real sockets between servers and clients written by hand: they say exactly what a test makes them say, and
//! see exactly what came.
//!
//! Everything waits with [`PATIENCE`] at most, so that a test that hangs fails instead.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use proxy::config::{Config, Health, Listen, Server, Upstream};
use runtime::net::Address;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long a dropped [`Origin`] waits for its handlers.
const HANDLERS_END: Duration = Duration::from_secs(1);

/// A proxy in this process.
pub struct Proxy {
    pub addresses: Vec<SocketAddr>,
    pub service: ops::Service,
    thread: Option<JoinHandle<Result<(), proxy::Error>>>,
}

impl Proxy {
    pub fn start(config: &Config) -> Proxy {
        let service =
            ops::Service::start(ops::Options { name: "proxy", admin: None, config: String::new() }).unwrap();
        let bound = proxy::Bound::new(config).unwrap();
        let addresses = bound.addresses().iter().filter_map(Address::ip).collect();
        let serving = service.clone();
        let thread = thread("proxy", move || bound.run(&serving));
        Proxy { addresses, service, thread: Some(thread) }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.addresses[0])
    }

    /// Asks it to stop and gives what `run` gave.
    pub fn stop(mut self) -> Result<(), proxy::Error> {
        self.service.stop().request();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.service.stop().request();
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().unwrap().unwrap();
        }
        self.service.shutdown();
    }
}

/// One listener on one core, these servers in one upstream, short drain.
pub fn config(servers: &[SocketAddr]) -> Config {
    let server = |address: &SocketAddr| Server { address: address.to_string(), weight: 1 };
    let servers = servers.iter().map(server).collect();
    let mut config = Config {
        cores: 1,
        listen: vec![Listen { address: "127.0.0.1:0".into(), tls: None }],
        ..Config::default()
    };
    config
        .upstream
        .insert("web".into(), Upstream { servers, health: Health::default(), ..Upstream::default() });
    config
}

/// The upstream of [`config`].
pub fn web(config: &mut Config) -> &mut Upstream {
    config.upstream.get_mut("web").unwrap()
}

pub fn thread<T: Send + 'static>(name: &str, run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::Builder::new().name(name.into()).spawn(run).unwrap()
}

/// A server: each connection is handled by a function on a thread of its own.
pub struct Origin {
    pub address: SocketAddr,
    /// Connections accepted so far.
    pub accepted: Arc<AtomicUsize>,
    /// Heads read so far, each with its body if the handler read it by [`Peer::request`].
    pub seen: Arc<Mutex<Vec<String>>>,
    closing: Arc<AtomicBool>,
    handlers: Arc<Mutex<Handlers>>,
}

/// Handlers of one origin that run, and that panicked.
#[derive(Default)]
struct Handlers {
    running: usize,
    panicked: usize,
}

/// One that runs, until dropped.
struct Handling(Arc<Mutex<Handlers>>);

impl Handling {
    fn new(handlers: &Arc<Mutex<Handlers>>) -> Handling {
        handlers.lock().unwrap().running += 1;
        Handling(handlers.clone())
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        let mut handlers = self.0.lock().unwrap();
        handlers.running -= 1;
        handlers.panicked += usize::from(std::thread::panicking());
    }
}

impl Origin {
    pub fn start(handle: impl Fn(&mut Peer, usize) + Send + Sync + 'static) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Origin::on(listener, handle)
    }

    pub fn on(listener: TcpListener, handle: impl Fn(&mut Peer, usize) + Send + Sync + 'static) -> Origin {
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let closing = Arc::new(AtomicBool::new(false));
        let handlers = Arc::<Mutex<Handlers>>::default();
        let running = handlers.clone();
        let (count, heads, ending, handle) =
            (accepted.clone(), seen.clone(), closing.clone(), Arc::new(handle));
        thread("origin", move || {
            for stream in listener.incoming() {
                if ending.load(Ordering::SeqCst) {
                    return;
                }
                let number = count.fetch_add(1, Ordering::SeqCst);
                let (handle, heads) = (handle.clone(), heads.clone());
                let mut peer = Peer::new(stream.unwrap());
                peer.seen = Some(heads);
                let handling = Handling::new(&running);
                thread("origin connection", move || {
                    handle(&mut peer, number);
                    drop(handling);
                });
            }
        });
        Origin { address, accepted, seen, closing, handlers }
    }

    /// Answers every request with 200 and what `body` makes of it.
    pub fn answering(body: impl Fn(&str) -> String + Send + Sync + 'static) -> Origin {
        Origin::start(move |peer, _| {
            while let Some(request) = peer.request() {
                let body = body(&request);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                // The answer to HEAD ends with its head.
                peer.write(if request.starts_with("HEAD ") { head } else { head + &body });
            }
        })
    }

    /// Answers every request with its own name.
    pub fn named(name: &'static str) -> Origin {
        Origin::answering(move |_| name.to_owned())
    }

    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if std::thread::panicking() {
            return;
        }
        // With the proxy gone, all but those that wait for the test itself end.
        let (_keep, never) = std::sync::mpsc::channel::<()>();
        for _ in 0..HANDLERS_END.as_millis() / 5 {
            if self.handlers.lock().unwrap().running == 0 {
                break;
            }
            let _ = never.recv_timeout(Duration::from_millis(5));
        }
        assert_eq!(self.handlers.lock().unwrap().panicked, 0, "a server's handler panicked, see above");
    }
}

/// An address where nobody listens.
pub fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// One end of a connection.
pub struct Peer {
    pub stream: TcpStream,
    input: Vec<u8>,
    seen: Option<Arc<Mutex<Vec<String>>>>,
}

/// The proxy's client is a peer that reads answers.
pub type Client = Peer;

/// An answer as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    /// Trailer lines.
    pub trailers: String,
    /// The body ended as its head said it would.
    pub whole: bool,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn has(&self, line: &str) -> bool {
        self.head.contains(&format!("\r\n{line}\r\n"))
    }
}

impl Peer {
    pub fn new(stream: TcpStream) -> Peer {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Peer { stream, input: Vec::new(), seen: None }
    }

    pub fn connect(address: SocketAddr) -> Peer {
        Peer::new(TcpStream::connect(address).unwrap())
    }

    /// Writes all; a peer that has gone is no fault of the test.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Reads more; false at the end.
    fn fill(&mut self) -> bool {
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.input.extend_from_slice(&buffer[..count]);
                count > 0
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("waited for too long; have {:?}", String::from_utf8_lossy(&self.input))
            }
            Err(_) => false,
        }
    }

    /// Reads to the end (or a reset) and gives all that came.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.input)
    }

    /// True if the peer ends the connection without sending anything more.
    pub fn is_closed(&mut self) -> bool {
        self.rest().is_empty()
    }

    /// The next head with its empty line; `None` at the end.
    pub fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.input.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.input.drain(..end + 4).collect();
                return Some(String::from_utf8(head).unwrap());
            }
            if !self.fill() {
                assert!(
                    self.input.is_empty(),
                    "a part of a head: {:?}",
                    String::from_utf8_lossy(&self.input)
                );
                return None;
            }
        }
    }

    /// Exactly this many bytes, or as many as came before the end.
    pub fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.input.len() < count && self.fill() {}
        self.input.drain(..count.min(self.input.len())).collect()
    }

    pub fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.input.windows(2).position(|window| window == b"\r\n") {
                let line: Vec<u8> = self.input.drain(..end + 2).collect();
                return Some(String::from_utf8(line).unwrap());
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// The next request, head and body (a chunked one decoded, its trailer lines at the end).
    pub fn request(&mut self) -> Option<String> {
        let head = self.head()?;
        let (body, trailers, _) = self.body_of(&head, false);
        let request = head + std::str::from_utf8(&body).unwrap() + &trailers;
        if let Some(seen) = &self.seen {
            seen.lock().unwrap().push(request.clone());
        }
        Some(request)
    }

    /// Sends a request and reads its answer.
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.write(request);
        self.answer()
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n"))
    }

    /// The next answer.
    pub fn answer(&mut self) -> Answer {
        let head = self.head().expect("an answer before the end");
        self.answer_of(head, true)
    }

    /// The next answer, to HEAD.
    pub fn answer_to_head(&mut self) -> Answer {
        let head = self.head().expect("an answer before the end");
        self.answer_of(head, false)
    }

    fn answer_of(&mut self, head: String, has_body: bool) -> Answer {
        let status = head[9..12].parse().unwrap();
        let bodiless = !has_body || status < 200 || status == 204 || status == 304;
        let (body, trailers, whole) = if bodiless { Default::default() } else { self.body_of(&head, true) };
        Answer { status, head, body, trailers, whole: whole || bodiless }
    }

    fn body_of(&mut self, head: &str, until_close: bool) -> (Vec<u8>, String, bool) {
        let field = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
        };
        if field("transfer-encoding").is_some() {
            return self.chunks();
        }
        match field("content-length") {
            Some(length) => {
                let length = length.parse().unwrap();
                let body = self.exactly(length);
                let whole = body.len() == length;
                (body, String::new(), whole)
            }
            None if until_close => (self.rest(), String::new(), true),
            None => (Vec::new(), String::new(), true),
        }
    }

    fn chunks(&mut self) -> (Vec<u8>, String, bool) {
        let mut body = Vec::new();
        loop {
            let Some(line) = self.line() else { return (body, String::new(), false) };
            let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
            if size == 0 {
                break;
            }
            let data = self.exactly(size + 2);
            if data.len() < size + 2 {
                return (body, String::new(), false);
            }
            assert!(data.ends_with(b"\r\n"));
            body.extend_from_slice(&data[..size]);
        }
        let mut trailers = String::new();
        loop {
            match self.line() {
                None => return (body, trailers, false),
                Some(line) if line == "\r\n" => return (body, trailers, true),
                Some(line) => trailers += &line,
            }
        }
    }
}

impl Read for Peer {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.input.is_empty() {
            return self.stream.read(buffer);
        }
        let count = buffer.len().min(self.input.len());
        buffer[..count].copy_from_slice(&self.input[..count]);
        self.input.drain(..count);
        Ok(count)
    }
}

/// Waits until `condition` holds.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    for _ in 0..PATIENCE.as_millis() / 5 {
        if condition() {
            return;
        }
        let _ = receiver.recv_timeout(Duration::from_millis(5));
    }
    drop(sender);
    panic!("{what} did not come about");
}
