//! A server that keeps what it is told in the replicated log, and nothing else: what the log itself costs. It takes `SET`, and
//! `PING`, which it answers once it can take every `SET`.
//!
//! What always holds: an OK is sent after the entry is applied, so it is on the disks of a majority. The groups are led by
//! the first node; what has been applied is let go, as by a state machine that has it on disk.

use crate::error::Error;
use crate::harness::Started;
use crate::harness::server::{Launch, Place, Server, free_addresses};
use crate::load::resp;
use crate::peers::Found;
use crate::settings::Settings;
use clap::Args;
use replog::{GroupId, Index, Members, NodeCore, NodeId, NodeOptions, Options, Proposal};
use replog::{Replicas, SnapshotSink, SnapshotSource, StateMachine};
use runtime::net::{Address, BoundListener, ListenOptions, Stream};
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use wire::resp::reply;
use wire::resp::request::{Limits, Parser};
use wire::resp::value::Value;

/// As it is called in tables.
pub(super) const NAME: &str = "replog";
/// Groups of a node, dealt out to its cores.
const GROUPS: usize = 8;
/// Bytes of an entry, whatever the request has.
const ENTRY_BYTES: usize = 100;
/// Who leads all groups.
const LEADER: NodeId = NodeId(1);
/// How long it may take until the first node leads all groups.
const READY: Duration = Duration::from_secs(30);
/// How often leadership is looked after, and what was applied is let go.
const LOOK_AFTER: Duration = Duration::from_millis(100);

/// One node.
#[derive(Debug, Clone, Args)]
pub(crate) struct LogServer {
    /// Its number, from 1 on
    #[arg(long)]
    node: u64,
    /// Where clients come to
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    data: PathBuf,
    /// Where the nodes reach each other, in the order of their numbers; none for a node alone
    #[arg(long, value_delimiter = ',')]
    peers: Vec<SocketAddr>,
}

pub(super) fn found() -> Result<Found, Error> {
    let path = std::env::current_exe().map_err(Error::io("finding this program"))?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Ok(Found { name: NAME.to_owned(), version, path, peer: NAME })
}

/// Whether that is what this server is.
pub(super) fn is(server: &Server) -> bool {
    server.name == NAME
}

/// How it is started as a node alone.
pub(super) fn alone(settings: &Settings) -> impl Fn(&Found, Place) -> Result<Started, Error> + 'static {
    let every_cpu = settings.every_cpu();
    move |found, place| {
        let address = free_addresses(1)?[0];
        let launch = launch(found, &place, 1, address, &[]);
        Started::confined(place, &every_cpu, vec![launch])
    }
}

/// The command that starts node `node` of those that reach each other at `peers`.
pub(super) fn launch(
    found: &Found,
    place: &Place,
    node: usize,
    listen: SocketAddr,
    peers: &[SocketAddr],
) -> Launch {
    let data = place.path().join(format!("n{node}")).display().to_string();
    let mut arguments =
        ["log-server", "--node", &node.to_string(), "--listen", &listen.to_string(), "--data", &data]
            .map(str::to_owned)
            .to_vec();
    if !peers.is_empty() {
        let peers: Vec<String> = peers.iter().map(SocketAddr::to_string).collect();
        arguments.extend(["--peers".to_owned(), peers.join(",")]);
    }
    found.launch(place, arguments, listen)
}

/// Waits until a server takes every `SET`.
pub(super) fn wait_until_ready(address: SocketAddr) -> Result<(), Error> {
    let begun = Instant::now();
    while resp::call(address, &["PING"])? != Value::Simple("PONG".into()) {
        if begun.elapsed() > READY {
            let line = format!("{address} did not lead every group within {} s", READY.as_secs());
            return Err(Error::WrongAnswer(line));
        }
        std::thread::sleep(LOOK_AFTER);
    }
    Ok(())
}

impl LogServer {
    /// Serves until killed, with a core for every CPU.
    pub(crate) fn serve(self) -> Result<(), Error> {
        let cores = runtime::cores();
        let mut options = NodeOptions::new(NodeId(self.node), 1);
        let nodes = || (1..).map(NodeId).zip(self.peers.iter().copied().map(Address::from));
        options.listen = nodes().find(|(node, _)| *node == options.node).map(|(_, address)| address);
        options.peers = nodes().filter(|(node, _)| *node != options.node).collect();
        options.seed = self.node;
        let voters: Vec<NodeId> = (1..=self.peers.len().max(1) as u64).map(NodeId).collect();
        let parts = NodeCore::bind(&options, cores).map_err(|error| Error::Usage(error.to_string()))?;
        let listeners = runtime::net::listen(&self.listen.into(), cores, &ListenOptions::default())
            .map_err(Error::io(format!("listening on {}", self.listen)))?;
        let led = Arc::new(AtomicUsize::new(0));
        let threads = parts.into_iter().zip(listeners).enumerate().map(|(core, (part, listener))| {
            let log = Options::new(self.data.join(format!("wal/{core}")));
            let groups = (core..GROUPS).step_by(cores).map(|number| GroupId(number as u64 + 1)).collect();
            let (voters, led) = (Members::voters(voters.iter().copied()), led.clone());
            let is_leader = options.node == LEADER;
            runtime::spawn_core(&format!("core-{core}"), runtime::Options::default(), move || {
                core_of((part, is_leader), log, groups, voters, listener, led)
            })
        });
        let threads: Vec<_> = threads.collect::<io::Result<_>>().map_err(Error::io("starting a core"))?;
        for thread in threads {
            let ended = thread.join().map_err(|_| Error::Usage("a core panicked".to_owned()))?;
            ended.map_err(Error::io("running a core"))?.map_err(|error| Error::Usage(error.to_string()))?;
        }
        Ok(())
    }
}

/// A core's groups.
struct Core {
    replicas: Replicas,
    is_leader: bool,
    groups: Vec<(GroupId, Rc<Cell<Index>>)>,
    next: Cell<usize>,
    /// How many groups are led here, on all cores.
    led: Arc<AtomicUsize>,
}

async fn core_of(
    (part, is_leader): (NodeCore, bool),
    log: Options,
    groups: Vec<GroupId>,
    voters: Members,
    listener: BoundListener,
    led: Arc<AtomicUsize>,
) -> Result<(), replog::Error> {
    let replicas = Replicas::open(part, log, |_| Box::new(Applied::default())).await?;
    let groups = groups.into_iter().map(|group| {
        let applied = Applied::default();
        let index = applied.0.clone();
        replicas.found(group, voters.clone(), Box::new(applied))?;
        Ok((group, index))
    });
    let groups = groups.collect::<Result<_, replog::Error>>()?;
    let core = Rc::new(Core { replicas, is_leader, groups, next: Cell::new(0), led });
    runtime::spawn(look_after(core.clone()));
    let listener = listener.open().map_err(|source| replog::Error::Io {
        what: "listen on",
        path: PathBuf::from("the clients' address"),
        source,
    })?;
    while let Ok((stream, _)) = listener.accept().await {
        let core = core.clone();
        runtime::spawn(async move {
            let group = core.groups[core.next.get() % core.groups.len()].0;
            core.next.set(core.next.get() + 1);
            // A client that goes takes its connection's errors with it.
            let _ = answer(&core, &stream, group).await;
        });
    }
    Ok(())
}

/// Brings every group's leadership to the first node, and lets go of what is applied.
async fn look_after(core: Rc<Core>) {
    let mut counted = 0;
    loop {
        let led = core.groups.iter().filter(|(group, _)| core.replicas.role(*group).leads).count();
        core.led.fetch_add(led, Ordering::Relaxed);
        core.led.fetch_sub(counted, Ordering::Relaxed);
        counted = led;
        for (group, applied) in &core.groups {
            if !core.is_leader && core.replicas.role(*group).leads {
                // Refused while another attempt is under way.
                let _ = core.replicas.transfer(*group, LEADER);
            }
            core.replicas.truncate(*group, applied.get());
        }
        runtime::time::sleep(LOOK_AFTER).await;
    }
}

/// What is to be answered.
enum Reply {
    Applied(Result<Proposal, replog::Error>),
    Ready(bool),
    Unknown,
}

async fn applied(proposed: Result<Proposal, replog::Error>) -> Result<Index, replog::Error> {
    proposed?.applied().await
}

/// Answers what comes: all requests of a piece are proposed together, and answered together.
async fn answer(core: &Core, stream: &Stream, group: GroupId) -> io::Result<()> {
    let mut parser = Parser::new(Limits::default());
    let mut input = Vec::new();
    loop {
        let lease = stream.recv().await?;
        if lease.is_empty() {
            return Ok(());
        }
        input.extend_from_slice(&lease);
        let (mut used, mut replies) = (0, Vec::new());
        while let Some(length) = parser.parse(&input[used..]).map_err(io::Error::other)? {
            let request = &input[used..used + length];
            let reply = match parser.arguments(request).get(0) {
                Some(b"SET") => {
                    let mut entry = request.to_vec();
                    entry.resize(ENTRY_BYTES, 0);
                    core.replicas.room().await.map_err(io::Error::other)?;
                    Reply::Applied(core.replicas.propose(group, entry))
                }
                Some(b"PING") => Reply::Ready(core.led.load(Ordering::Relaxed) == GROUPS),
                _ => Reply::Unknown,
            };
            replies.push(reply);
            parser.finish();
            used += length;
        }
        input.drain(..used);
        let mut out = Vec::new();
        for reply in replies {
            match reply {
                Reply::Applied(proposed) => match applied(proposed).await {
                    Ok(_) => reply::simple(&mut out, "OK"),
                    Err(error) => reply::error(&mut out, format!("ERR {error}").as_bytes()),
                },
                Reply::Ready(true) => reply::simple(&mut out, "PONG"),
                Reply::Ready(false) => reply::error(&mut out, b"LOADING not every group is led here"),
                Reply::Unknown => reply::error(&mut out, b"ERR only SET and PING"),
            }
        }
        stream.send(out).await?;
    }
}

/// A state machine that keeps in mind how far it is.
#[derive(Default)]
struct Applied(Rc<Cell<Index>>);

impl StateMachine for Applied {
    fn durable(&self) -> Index {
        Index(0)
    }

    fn apply(&mut self, index: Index, _: &bytes::Bytes) {
        self.0.set(index);
    }

    fn snapshot(&mut self) -> Rc<dyn SnapshotSource> {
        Rc::new(bytes::Bytes::new())
    }

    fn receive_snapshot(&mut self) -> Box<dyn SnapshotSink> {
        let applied = self.0.clone();
        replog::gather(move |index, _| async move {
            applied.set(index);
            Ok(())
        })
    }
}
