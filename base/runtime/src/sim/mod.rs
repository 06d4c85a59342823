//! The simulator: the runtime's twin, and the world that it lives in. Only with `--cfg sim`.
//!
//! A [`World`] is a set of nodes (machines, each with one process of one or more cores, a disk and clocks) on one network, on
//! one thread, in virtual time. A node's program is ordinary code on this crate: it can't tell. A seed decides every latency,
//! order and fault, so **one seed gives one run**: [`World::trace_hash`] tells whether two runs were the same.
//!
//! ```
//! use runtime::net::{ListenOptions, Stream, listen};
//! use runtime::sim::{Crash, Faults, World};
//! use std::time::Duration;
//!
//! let mut world = World::new(7, Faults::usual());
//! let server = world.node("server", "10.0.0.1".parse().unwrap(), || async {
//!     let address = "10.0.0.1:7".parse().unwrap();
//!     let listener = listen(&address, 1, &ListenOptions::default()).unwrap().remove(0).open().unwrap();
//!     loop {
//!         let (stream, _) = listener.accept().await.unwrap();
//!         runtime::spawn(async move { stream.send("hello").await });
//!     }
//! });
//! let heard = std::rc::Rc::new(std::cell::Cell::new(0)); // one thread: tests and nodes may share what they like
//! let counts = heard.clone();
//! world.node("client", "10.0.0.2".parse().unwrap(), move || {
//!     let counts = counts.clone();
//!     async move {
//!         loop {
//!             if let Ok(stream) = Stream::connect(&"10.0.0.1:7".parse().unwrap()).await
//!                 && stream.recv().await.is_ok_and(|lease| &*lease == b"hello")
//!             {
//!                 counts.set(counts.get() + 1);
//!             }
//!         }
//!     }
//! });
//! assert!(world.run_until(Duration::from_secs(60), || heard.get() >= 10));
//! world.crash(server, Crash::PowerLoss);
//! world.restart(server);
//! let before = heard.get();
//! assert!(world.run_until(Duration::from_secs(60), || heard.get() > before));
//! ```
//!
//! What a node's program must not do, as in any program on this crate: keep time, threads, sockets, files or randomness
//! from anywhere but here (clippy.toml bans them); besides, iterate over a `HashMap` of the standard library, whose order differs
//! from run to run, and block the thread (a mailbox waits, a channel of the standard library would wait for ever).
//!
//! The map: `kernel` runs it all; `node` is a machine's life and clocks; `net` and `disk` are theirs; `driver` is the backend
//! of the runtime's driver; `host` and `clock` answer what the runtime asks of its host besides I/O.

pub(crate) mod clock;
pub(crate) mod disk;
pub(crate) mod driver;
mod faults;
pub(crate) mod host;
mod kernel;
pub(crate) mod net;
mod node;

pub use disk::Damage;
pub use faults::{ClockFaults, Counters, CpuFaults, DiskFaults, Faults, NetFaults};
pub use host::{SEED_VARIABLE, block_on_seed};
pub use kernel::NodeId;

use crate::options::Options;
use disk::Disk;
use kernel::{Kernel, Main, try_kernel};
use node::{Clock, Ending, Node, State};
use std::cell::Cell;
use std::future::Future;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How a process is ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// kill -9: memory is gone; what was written is in the page cache, synced or not; connections are closed.
    Kill,
    /// The plug is pulled: besides, of what was not synced any part is lost, and peers hear nothing.
    PowerLoss,
}

/// How a node stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// SIGSTOP: the process stands still, the machine, its clocks and its network go on.
    Stop,
    /// The machine sleeps: the network can't reach it and its monotonic clock stands still; boot and wall clock go on.
    Suspend,
}

/// Nodes, a network, virtual time and a seed. One at a time on a thread.
pub struct World {
    kernel: Rc<Kernel>,
}

impl World {
    /// An empty world.
    ///
    /// # Panics
    /// If this thread has another.
    pub fn new(seed: u64, faults: Faults) -> World {
        assert!(try_kernel().is_none(), "one world at a time on a thread");
        // Instants say nothing about when they are; far from the clock's beginning, so that subtracting is possible.
        let epoch = Instant::now() + Duration::from_secs(24 * 3600);
        let kernel = Rc::new(Kernel::new(seed, faults, epoch));
        kernel::install(Some(kernel.clone()));
        World { kernel }
    }

    /// Adds a machine with an empty disk and starts `main` on it, now and at every [`World::restart`]. The process ends when
    /// the future is done.
    pub fn node<F, Fut>(&mut self, name: &str, address: IpAddr, main: F) -> NodeId
    where
        F: Fn() -> Fut + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        self.node_with(&Options::default(), name, address, move || Box::pin(main()))
    }

    fn node_with(
        &mut self,
        options: &Options,
        name: &str,
        address: IpAddr,
        main: impl Fn() -> Main + 'static,
    ) -> NodeId {
        let kernel = &self.kernel;
        let (disk, drift_max) = {
            let faults = kernel.faults.borrow();
            (faults.disk.clone(), i64::from(faults.clock.drift_ppm_max))
        };
        let drift = kernel.below(2 * drift_max as u64 + 1) as i64 - drift_max;
        // Machines have been up for a while, and their clocks don't agree.
        let up = kernel.below(1_000_000_000_000);
        let skew = i128::from(kernel.below(20_000_000)) - 10_000_000;
        let wall = clock::WALL_NS + i128::from(kernel.now.get()) + skew;
        let node = Node {
            name: name.to_owned(),
            address,
            state: State::Ended,
            options: options.clone(),
            make_main: Rc::new(main),
            life: 0,
            cores: Vec::new(),
            clock: Clock::new(kernel.now.get(), drift, up, wall),
            random: Cell::new(0),
            exit_code: None,
        };
        let id = {
            let mut nodes = kernel.nodes.borrow_mut();
            assert!(nodes.iter().all(|other| other.address != address), "{address} is another node's");
            nodes.push(node);
            nodes.len() - 1
        };
        kernel.disks.borrow_mut().push(Disk::new(disk));
        kernel.begin_rot(id);
        kernel.boot(id);
        id
    }

    // Running.

    /// Lets the next thing happen; `false` when nothing is left.
    pub fn step(&mut self) -> bool {
        self.kernel.step()
    }

    /// Runs for so long, of virtual time.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(duration, || false);
    }

    /// Runs until `done` says so, asked after each step, at most for `limit` of virtual time. Gives what `done` said last.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut() -> bool) -> bool {
        let end = self.kernel.now.get().saturating_add(u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX));
        loop {
            if done() {
                return true;
            }
            match self.kernel.next_at() {
                Some(at) if at <= end => self.kernel.step(),
                _ => {
                    self.kernel.now.set(end);
                    return done();
                }
            };
        }
    }

    /// Virtual time since the world began.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.kernel.now.get())
    }

    /// A hash over everything that happened. One seed gives one hash.
    pub fn trace_hash(&self) -> u64 {
        self.kernel.trace_hash()
    }

    /// Prints what happens from now on to standard error.
    pub fn print_trace(&self, on: bool) {
        self.kernel.print_trace(on);
    }

    /// How often each fault did happen.
    pub fn counters(&self) -> Counters {
        self.kernel.counters()
    }

    /// A number below `bound` from the seed, for the test's own decisions.
    pub fn random_below(&self, bound: u64) -> u64 {
        self.kernel.below(bound)
    }

    // Processes and machines.

    /// Ends the node's process; nothing happens if it has none.
    pub fn crash(&mut self, node: NodeId, how: Crash) {
        self.kernel.end_process(node, Ending::Crash(how));
        // A machine whose process had ended before loses power all the same.
        if how == Crash::PowerLoss {
            self.kernel.lose_power_without_process(node);
        }
    }

    /// Pulls the plug in the middle of whatever the node does with its disk after `steps` more changes of it, syncs
    /// included, even between two system calls of one blocking call. Void once its process has ended otherwise.
    pub fn cut_power_after(&mut self, node: NodeId, steps: u64) {
        self.kernel.disks.borrow_mut()[node].cut_power_after(steps);
    }

    /// Starts the node's process again.
    ///
    /// # Panics
    /// If it runs.
    pub fn restart(&mut self, node: NodeId) {
        self.kernel.boot(node);
    }

    /// Whether the node has a process, even one that stands still.
    pub fn is_up(&self, node: NodeId) -> bool {
        !matches!(self.kernel.nodes.borrow()[node].state, State::Ended | State::Off)
    }

    /// The code that the node's last process ended with by itself; `None` if it runs, or was crashed.
    pub fn exit_code(&self, node: NodeId) -> Option<i32> {
        self.kernel.nodes.borrow()[node].exit_code
    }

    /// Has the node stand still, if it runs.
    pub fn pause(&mut self, node: NodeId, how: Pause) {
        self.kernel.pause(node, how);
    }

    /// Has it go on.
    pub fn resume(&mut self, node: NodeId) {
        self.kernel.resume(node);
    }

    // The network.

    /// Cuts the way from one node to another; what is sent waits. One way only: cut both for both.
    pub fn partition(&mut self, from: NodeId, to: NodeId) {
        self.kernel.cut(from, to);
    }

    /// Cuts both ways between each of `some` and each of `others`.
    pub fn partition_groups(&mut self, some: &[NodeId], others: &[NodeId]) {
        for a in some {
            for b in others {
                self.kernel.cut(*a, *b);
                self.kernel.cut(*b, *a);
            }
        }
    }

    /// Mends the way from one node to another.
    pub fn heal(&mut self, from: NodeId, to: NodeId) {
        self.kernel.heal(from, to);
    }

    /// Mends all.
    pub fn heal_all(&mut self) {
        let nodes = self.kernel.nodes.borrow().len();
        for from in 0..nodes {
            for to in 0..nodes {
                self.kernel.heal(from, to);
            }
        }
    }

    /// Adds `delay` to everything from one node to another; zero takes it away.
    pub fn delay(&mut self, from: NodeId, to: NodeId, delay: Duration) {
        self.kernel.set_delay(from, to, delay);
    }

    /// Resets all connections between two nodes.
    pub fn reset_connections(&mut self, a: NodeId, b: NodeId) {
        self.kernel.reset_between(a, b);
    }

    // Clocks.

    /// Sets the node's wall clock forward, or back.
    pub fn jump_wall_clock(&mut self, node: NodeId, by: Duration, backwards: bool) {
        self.kernel.jump_wall_clock(node, by, backwards);
    }

    /// Has the node's clocks run `ppm` parts per million too fast from now on; negative: too slow.
    pub fn set_drift(&mut self, node: NodeId, ppm: i64) {
        self.kernel.set_drift(node, ppm);
    }

    // Faults and disks.

    /// Changes the faults of network and processors from now on; disks and clocks keep theirs.
    pub fn set_faults(&mut self, faults: Faults) {
        *self.kernel.faults.borrow_mut() = faults;
    }

    /// Gives a node's disk faults of its own.
    pub fn set_disk_faults(&mut self, node: NodeId, faults: DiskFaults) {
        self.kernel.disks.borrow_mut()[node].faults = faults;
        self.kernel.begin_rot(node);
    }

    /// The files on a node's disk, in order.
    pub fn files(&self, node: NodeId) -> Vec<PathBuf> {
        self.kernel.disks.borrow()[node].files()
    }

    /// A file's length, bytes, as a process on the node would see it.
    pub fn file_len(&self, node: NodeId, path: &Path) -> Option<u64> {
        self.kernel.disks.borrow()[node].file_len(path)
    }

    /// A file's content, as a process on the node would see it.
    pub fn file(&self, node: NodeId, path: &Path) -> Option<Vec<u8>> {
        self.kernel.disks.borrow()[node].contents(path)
    }

    /// Flips a bit of the byte at `offset`, on the medium and in the page cache; `false` if there is no such place.
    pub fn flip_bit(&mut self, node: NodeId, path: &Path, offset: u64) -> bool {
        self.kernel.flip_bit(node, path, offset)
    }

    /// What the node's disk has damaged and told nobody of, in order.
    pub fn damage(&self, node: NodeId) -> Vec<Damage> {
        self.kernel.disks.borrow()[node].damage().to_vec()
    }
}

/// Virtual time of this thread's world, for the books of a test: a node's own clocks differ.
///
/// # Panics
/// Without a world.
pub fn world_now() -> Duration {
    Duration::from_nanos(kernel::kernel().now.get())
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What the nodes hold is leaked: their destructors would find the world half gone.
            std::mem::forget(self.kernel.clone());
        } else {
            self.kernel.end();
        }
        kernel::install(None);
    }
}
