//! The simulated machines' common ground: virtual time, the queue of what will happen, the seed, the trace, and the
//! running of cores.
//!
//! What always holds:
//! - One thing happens at a time, in the order of (time, drawn number): whatever the seed is, it decides everything.
//! - Every event, with what it carries, goes into the trace's hash. No address, no clock and no hash map's order does.
//! - Nothing of the simulated program runs while a part of the kernel is borrowed.

use super::disk::{self, Disk};
use super::driver::Inbox;
use super::faults::{Counters, Faults};
use super::net::{self, Net};
use super::node::{Ending, Node, State};
use crate::driver::Slot;
use crate::exec::Core;
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::future::Future;
use std::ops::Range;
use std::os::fd::RawFd;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A node of a world, in the order in which they were added, from 0.
pub type NodeId = usize;
pub(crate) type CoreId = u64;
pub(crate) type Job = Box<dyn FnOnce() + Send>;
pub(crate) type Main = Pin<Box<dyn Future<Output = ()>>>;

/// Nanoseconds between a wake and the run that it causes.
const WAKE_NS: Range<u64> = 500..10_000;
/// Nanoseconds before a blocking call has a thread.
const JOB_NS: Range<u64> = 5_000..100_000;
/// How soon a blocking call of a paused process is looked at again.
const PAUSED_RETRY_NS: u64 = 20_000_000;

/// What will happen.
pub(super) enum Event {
    Run(CoreId),
    Job { node: NodeId, life: u32, job: Job },
    Disk(disk::Event),
    Net(net::Event),
}

struct Scheduled {
    at: u64,
    tie: u64,
    serial: u64,
    event: Event,
}

impl Scheduled {
    fn key(&self) -> (u64, u64, u64) {
        (self.at, self.tie, self.serial)
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Scheduled) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// A core of a node.
pub(super) struct CoreSlot {
    pub(super) node: NodeId,
    core: Rc<Core>,
    main: Option<Main>,
    /// The process ends with this core's main future.
    is_first: bool,
    next_run: Option<u64>,
    pub(super) inbox: Rc<RefCell<Inbox>>,
}

/// What a simulated process unwinds with when it ends itself.
pub(super) struct ProcessExit(pub(super) i32);

pub(crate) struct Kernel {
    pub(super) now: Cell<u64>,
    random: Cell<u64>,
    serial: Cell<u64>,
    queue: RefCell<BinaryHeap<Reverse<Scheduled>>>,
    trace: Cell<u64>,
    events: Cell<u64>,
    printing: Cell<bool>,
    counters: RefCell<Counters>,
    pub(super) faults: RefCell<Faults>,
    pub(super) nodes: RefCell<Vec<Node>>,
    pub(super) cores: RefCell<BTreeMap<CoreId, CoreSlot>>,
    pub(super) net: RefCell<Net>,
    pub(super) disks: RefCell<Vec<Disk>>,
    /// Whose code is running.
    on_node: Cell<Option<NodeId>>,
    next_core: Cell<CoreId>,
    next_fd: Cell<RawFd>,
    /// What the clocks' instants count from.
    pub(super) epoch: Instant,
}

thread_local! {
    static KERNEL: RefCell<Option<Rc<Kernel>>> = const { RefCell::new(None) };
}

/// The thread's kernel, if it has one.
pub(crate) fn try_kernel() -> Option<Rc<Kernel>> {
    KERNEL.try_with(|kernel| kernel.borrow().clone()).ok().flatten()
}

/// The thread's kernel.
///
/// # Panics
/// Without a world.
pub(crate) fn kernel() -> Rc<Kernel> {
    try_kernel().expect("called outside of a world: see runtime::sim::World")
}

pub(super) fn install(kernel: Option<Rc<Kernel>>) {
    KERNEL.set(kernel);
}

/// splitmix64's output function.
pub(super) fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The next number of a splitmix64 stream.
pub(super) fn draw(state: &Cell<u64>) -> u64 {
    state.set(state.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
    mixed(state.get())
}

impl Kernel {
    pub(super) fn new(seed: u64, faults: Faults, epoch: Instant) -> Kernel {
        Kernel {
            now: Cell::new(0),
            random: Cell::new(mixed(seed ^ 0x5e55_1075)),
            serial: Cell::new(0),
            queue: RefCell::default(),
            trace: Cell::new(mixed(seed)),
            events: Cell::new(0),
            printing: Cell::new(false),
            counters: RefCell::default(),
            faults: RefCell::new(faults),
            nodes: RefCell::default(),
            cores: RefCell::default(),
            net: RefCell::default(),
            disks: RefCell::default(),
            on_node: Cell::new(None),
            next_core: Cell::new(0),
            next_fd: Cell::new(3),
            epoch,
        }
    }

    // Chance.

    pub(super) fn random(&self) -> u64 {
        draw(&self.random)
    }

    pub(super) fn below(&self, bound: u64) -> u64 {
        self.random() % bound.max(1)
    }

    /// True once in `n` times; never for 0.
    pub(super) fn one_in(&self, n: u32) -> bool {
        n > 0 && self.below(u64::from(n)) == 0
    }

    pub(super) fn between(&self, range: &Range<u64>) -> u64 {
        range.start + self.below(range.end.saturating_sub(range.start))
    }

    pub(super) fn between_times(&self, range: &Range<Duration>) -> u64 {
        self.between(&(range.start.as_nanos() as u64..range.end.as_nanos() as u64))
    }

    // The trace.

    /// Takes a decision, or something that happened, into the trace.
    pub(super) fn note(&self, what: &'static str, a: u64, b: u64) {
        let mut hash = self.trace.get() ^ self.now.get();
        for word in [what.len() as u64 ^ (u64::from(what.as_bytes()[0]) << 8), a, b] {
            hash = mixed(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ word);
        }
        self.trace.set(hash);
        self.events.set(self.events.get() + 1);
        if self.printing.get() {
            eprintln!("{:>14.6} {what} {a} {b}", self.now.get() as f64 / 1e6);
        }
    }

    /// [`Kernel::note`] of bytes that moved.
    pub(super) fn note_bytes(&self, what: &'static str, a: u64, bytes: &[u8]) {
        let mut hash = bytes.len() as u64;
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
            hash = (hash.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        for byte in words.remainder() {
            hash = (hash.rotate_left(23) ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        self.note(what, a, mixed(hash));
    }

    /// A fault has happened.
    pub(super) fn count(&self, fault: &'static str, node: u64) {
        *self.counters.borrow_mut().0.entry(fault).or_default() += 1;
        self.note(fault, node, 0);
    }

    pub(super) fn trace_hash(&self) -> u64 {
        self.trace.get()
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters.borrow().clone()
    }

    pub(super) fn print_trace(&self, on: bool) {
        self.printing.set(on);
    }

    // Time.

    pub(super) fn schedule(&self, at: u64, event: Event) {
        let serial = self.serial.get();
        self.serial.set(serial + 1);
        let scheduled = Scheduled { at: at.max(self.now.get()), tie: self.random(), serial, event };
        self.queue.borrow_mut().push(Reverse(scheduled));
    }

    pub(super) fn schedule_in(&self, ns: u64, event: Event) {
        self.schedule(self.now.get().saturating_add(ns), event);
    }

    /// When the next thing happens.
    pub(super) fn next_at(&self) -> Option<u64> {
        self.queue.borrow().peek().map(|Reverse(next)| next.at)
    }

    /// Lets the next thing happen; `false` when there is none.
    pub(super) fn step(self: &Rc<Kernel>) -> bool {
        let Some(Reverse(next)) = self.queue.borrow_mut().pop() else { return false };
        self.now.set(next.at);
        match next.event {
            Event::Run(core) => self.run_core(core, next.at),
            Event::Job { node, life, job } => self.run_job(node, life, job),
            Event::Disk(event) => self.disk_event(&event),
            Event::Net(event) => self.net_event(event),
        }
        true
    }

    // Descriptors and whose they are.

    pub(super) fn new_fd(&self) -> RawFd {
        let fd = self.next_fd.get();
        self.next_fd.set(fd.checked_add(1).expect("a run that opens fewer than two thousand million files"));
        fd
    }

    /// The node whose code is running, dead or alive.
    pub(super) fn here(&self) -> Option<NodeId> {
        self.on_node.get()
    }

    /// The node whose code is running, if it lives: only then its calls have an effect.
    pub(super) fn caller(&self) -> Option<NodeId> {
        let node = self.on_node.get()?;
        let alive = self.nodes.borrow()[node].state == State::Running && !self.disks.borrow()[node].frozen();
        alive.then_some(node)
    }

    // Cores.

    pub(super) fn new_core_id(&self) -> CoreId {
        let id = self.next_core.get();
        self.next_core.set(id + 1);
        id
    }

    pub(super) fn add_core(
        &self,
        id: CoreId,
        node: NodeId,
        core: Rc<Core>,
        inbox: Rc<RefCell<Inbox>>,
        main: Main,
        is_first: bool,
    ) {
        let slot = CoreSlot { node, core, main: Some(main), is_first, next_run: None, inbox };
        self.cores.borrow_mut().insert(id, slot);
        self.nodes.borrow_mut()[node].cores.push(id);
        self.wake_core(id);
    }

    pub(super) fn wake_core(&self, id: CoreId) {
        let mut delay = self.between(&WAKE_NS);
        let (stall, stall_max) = {
            let faults = self.faults.borrow();
            (faults.cpu.stall, faults.cpu.stall_max)
        };
        if self.one_in(stall) {
            delay += self.between_times(&(Duration::ZERO..stall_max));
            self.count("core stalled", id);
        }
        self.wake_core_at(id, self.now.get() + delay);
    }

    fn wake_core_at(&self, id: CoreId, at: u64) {
        let mut cores = self.cores.borrow_mut();
        let Some(slot) = cores.get_mut(&id) else { return };
        if slot.next_run.is_some_and(|next| next <= at) {
            return;
        }
        slot.next_run = Some(at);
        drop(cores);
        self.schedule(at, Event::Run(id));
    }

    /// Tells a core that a slot of its driver may go on.
    pub(super) fn signal(&self, waiters: impl IntoIterator<Item = (CoreId, Slot)>) {
        for (core, slot) in waiters {
            let inbox = self.cores.borrow().get(&core).map(|core| core.inbox.clone());
            if let Some(inbox) = inbox {
                inbox.borrow_mut().signals.push(slot);
                self.wake_core(core);
            }
        }
    }

    fn run_core(self: &Rc<Kernel>, id: CoreId, at: u64) {
        let (core, node, is_first, mut main) = {
            let mut cores = self.cores.borrow_mut();
            let Some(slot) = cores.get_mut(&id).filter(|slot| slot.next_run == Some(at)) else { return };
            slot.next_run = None;
            if self.nodes.borrow()[slot.node].state != State::Running {
                return; // it is woken again when the machine goes on
            }
            (slot.core.clone(), slot.node, slot.is_first, slot.main.take())
        };
        self.note("run", id, node as u64);
        let mut finished = false;
        let outcome = self.on(node, Some(&core), || {
            let (mut told, mut fired) = (Vec::new(), Vec::new());
            core.wait(Some(Duration::ZERO), &mut told).expect("the simulator's kernel gives no errors");
            core.begin_turn(&mut fired);
            if core.take_main_woken()
                && let Some(future) = &mut main
                && let Poll::Ready(()) = future.as_mut().poll(&mut Context::from_waker(&core.main_waker()))
            {
                finished = true;
                main = None;
                core.end();
                return None;
            }
            core.run_turn()
        });
        match outcome {
            Ok(_) if finished => {
                self.cores.borrow_mut().remove(&id);
                self.nodes.borrow_mut()[node].cores.retain(|core| *core != id);
                if is_first {
                    self.end_process(node, Ending::Exit(0));
                }
            }
            Ok(timeout) => {
                if let Some(slot) = self.cores.borrow_mut().get_mut(&id) {
                    slot.main = main;
                }
                match timeout {
                    Some(Duration::ZERO) => self.wake_core(id),
                    Some(timeout) => {
                        let ns = self.nodes.borrow()[node].clock.world_ns(timeout.as_nanos() as u64);
                        self.wake_core_at(id, self.now.get().saturating_add(ns + self.between(&WAKE_NS)));
                    }
                    None => {}
                }
            }
            Err(ProcessExit(code)) => {
                if let Some(slot) = self.cores.borrow_mut().get_mut(&id) {
                    slot.main = main;
                }
                self.end_process(node, Ending::Exit(code));
            }
        }
    }

    /// Runs code of `node`. Panics that are not the end of its process go on to whoever runs the world.
    pub(super) fn on<T>(
        self: &Rc<Kernel>,
        node: NodeId,
        core: Option<&Rc<Core>>,
        call: impl FnOnce() -> T,
    ) -> Result<T, ProcessExit> {
        let before = self.on_node.replace(Some(node));
        if let Some(core) = core {
            core.enter();
        }
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(call));
        if core.is_some() {
            Core::leave();
        }
        self.on_node.set(before);
        match outcome {
            Ok(value) => Ok(value),
            Err(payload) => match payload.downcast::<ProcessExit>() {
                Ok(exit) => Err(*exit),
                Err(payload) => std::panic::resume_unwind(payload),
            },
        }
    }

    /// Drops all that a dead process had in memory.
    pub(super) fn drop_cores(self: &Rc<Kernel>, node: NodeId) {
        let ids = std::mem::take(&mut self.nodes.borrow_mut()[node].cores);
        for id in ids {
            let slot = self.cores.borrow_mut().remove(&id);
            if let Some(CoreSlot { core, main, .. }) = slot {
                let ended = self.on(node, Some(&core), || {
                    drop(main);
                    core.end();
                });
                assert!(ended.is_ok(), "a dead process ends once");
            }
        }
    }

    // Blocking calls.

    pub(super) fn submit_job(&self, job: Job) {
        let Some(node) = self.here() else { panic!("a blocking call outside of a node") };
        let life = self.nodes.borrow()[node].life;
        let delay = self.between(&JOB_NS);
        self.schedule_in(delay, Event::Job { node, life, job });
    }

    fn run_job(self: &Rc<Kernel>, node: NodeId, life: u32, job: Job) {
        let (state, current) = {
            let nodes = self.nodes.borrow();
            (nodes[node].state, nodes[node].life)
        };
        if life != current {
            // Its process is gone; what it holds goes as the rest of the memory did.
            let dropped = self.on(node, None, || drop(job));
            assert!(dropped.is_ok(), "dropping a call ends no process");
            return;
        }
        if state != State::Running {
            self.schedule_in(PAUSED_RETRY_NS, Event::Job { node, life, job });
            return;
        }
        self.note("job", node as u64, 0);
        if let Err(ProcessExit(code)) = self.on(node, None, job) {
            self.end_process(node, Ending::Exit(code));
        }
    }
}
