//! A simulated machine with one process on it: its life and its clocks.

use super::kernel::{CoreId, Kernel, Main, NodeId};
use super::{Crash, Pause};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

/// Where a machine and its process stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Running,
    /// SIGSTOP: the machine goes on, the process does not.
    Stopped,
    /// The whole machine stands still.
    Suspended,
    /// The process has ended; the machine still answers for its network.
    Ended,
    /// The machine is without power.
    Off,
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Exit(i32),
    Crash(Crash),
}

pub(super) type MakeMain = Rc<dyn Fn() -> Main>;

pub(super) struct Node {
    pub(super) name: String,
    pub(super) address: IpAddr,
    pub(super) state: State,
    pub(super) options: crate::Options,
    pub(super) make_main: MakeMain,
    /// How many processes it has had.
    pub(super) life: u32,
    pub(super) cores: Vec<CoreId>,
    pub(super) clock: Clock,
    pub(super) random: std::cell::Cell<u64>,
    pub(super) exit_code: Option<i32>,
}

/// A machine's clocks: monotonic, boot and wall, which run at the same, slightly wrong, speed.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    /// World time at which the others were as they are here, nanoseconds.
    anchor: u64,
    mono: u64,
    boot: u64,
    wall: i128,
    drift_ppm: i64,
    suspended: bool,
}

impl Clock {
    pub(super) fn new(now: u64, drift_ppm: i64, up_ns: u64, wall: i128) -> Clock {
        Clock { anchor: now, mono: up_ns, boot: up_ns, wall, drift_ppm, suspended: false }
    }

    fn since_anchor(&self, now: u64) -> u64 {
        let elapsed = i128::from(now - self.anchor);
        (elapsed + elapsed * i128::from(self.drift_ppm) / 1_000_000) as u64
    }

    fn settle(&mut self, now: u64) {
        let local = self.since_anchor(now);
        if !self.suspended {
            self.mono += local;
        }
        self.boot += local;
        self.wall += i128::from(local);
        self.anchor = now;
    }

    pub(super) fn monotonic_ns(&self, now: u64) -> u64 {
        self.mono + if self.suspended { 0 } else { self.since_anchor(now) }
    }

    pub(super) fn boot_ns(&self, now: u64) -> u64 {
        self.boot + self.since_anchor(now)
    }

    pub(super) fn wall_ns(&self, now: u64) -> i128 {
        self.wall + i128::from(self.since_anchor(now))
    }

    /// World nanoseconds in which this clock passes `local_ns`, rounded up.
    pub(super) fn world_ns(&self, local_ns: u64) -> u64 {
        let speed = 1_000_000 + i128::from(self.drift_ppm);
        let ns = i128::from(local_ns) * 1_000_000 / speed + 1;
        u64::try_from(ns).unwrap_or(u64::MAX / 2).min(u64::MAX / 2)
    }

    pub(super) fn suspend(&mut self, now: u64, suspended: bool) {
        self.settle(now);
        self.suspended = suspended;
    }

    pub(super) fn jump_wall(&mut self, now: u64, by_ns: i128) {
        self.settle(now);
        self.wall += by_ns;
    }

    pub(super) fn set_drift(&mut self, now: u64, ppm: i64) {
        self.settle(now);
        self.drift_ppm = ppm;
    }

    /// A machine that is switched on counts from zero again.
    pub(super) fn reboot(&mut self, now: u64) {
        self.settle(now);
        self.mono = 0;
        self.boot = 0;
        self.suspended = false;
    }
}

impl Kernel {
    /// Starts a node's process.
    pub(super) fn boot(self: &Rc<Kernel>, node: NodeId) {
        let (make_main, options) = {
            let mut nodes = self.nodes.borrow_mut();
            let this = &mut nodes[node];
            assert!(
                matches!(this.state, State::Ended | State::Off),
                "{} is started while it runs",
                this.name
            );
            if this.state == State::Off {
                this.clock.reboot(self.now.get());
            }
            this.state = State::Running;
            this.life += 1;
            this.exit_code = None;
            this.random.set(self.random());
            (this.make_main.clone(), this.options.clone())
        };
        self.disks.borrow_mut()[node].thaw();
        self.note("boot", node as u64, 0);
        self.net_changed();
        // Made on its core, so that it may begin with what needs one.
        let main = Box::pin(async move { make_main().await });
        super::host::start_core(self, node, &options, main, true);
    }

    /// The process of `node` ends; nothing of what it had in memory is left.
    pub(super) fn end_process(self: &Rc<Kernel>, node: NodeId, ending: Ending) {
        let power_loss = ending == Ending::Crash(Crash::PowerLoss);
        {
            let mut nodes = self.nodes.borrow_mut();
            let this = &mut nodes[node];
            if !matches!(this.state, State::Running | State::Stopped | State::Suspended) {
                return;
            }
            this.clock.suspend(self.now.get(), false);
            this.state = if power_loss { State::Off } else { State::Ended };
            this.life += 1;
            if let Ending::Exit(code) = ending {
                this.exit_code = Some(code);
            }
        }
        match ending {
            Ending::Exit(code) => self.note("process exit", node as u64, code as u64),
            Ending::Crash(Crash::Kill) => self.count("process killed", node as u64),
            Ending::Crash(Crash::PowerLoss) => self.count("power lost", node as u64),
        }
        self.net_process_ends(node, power_loss);
        self.disk_process_ends(node, power_loss);
        self.drop_cores(node);
    }

    /// The power goes on a machine whose process had ended already.
    pub(super) fn lose_power_without_process(&self, node: NodeId) {
        if std::mem::replace(&mut self.nodes.borrow_mut()[node].state, State::Off) == State::Ended {
            self.count("power lost", node as u64);
            self.net_process_ends(node, true);
            self.disk_process_ends(node, true);
        }
    }

    /// The world ends: every process does, without a word.
    pub(super) fn end(self: &Rc<Kernel>) {
        let nodes = self.nodes.borrow().len();
        for node in 0..nodes {
            self.end_process(node, Ending::Crash(Crash::Kill));
        }
    }

    pub(super) fn pause(&self, node: NodeId, how: Pause) {
        let mut nodes = self.nodes.borrow_mut();
        let this = &mut nodes[node];
        if this.state != State::Running {
            return;
        }
        match how {
            Pause::Stop => {
                this.state = State::Stopped;
                self.count("process stopped", node as u64);
            }
            Pause::Suspend => {
                this.state = State::Suspended;
                this.clock.suspend(self.now.get(), true);
                self.count("machine suspended", node as u64);
            }
        }
    }

    pub(super) fn resume(&self, node: NodeId) {
        let cores = {
            let mut nodes = self.nodes.borrow_mut();
            let this = &mut nodes[node];
            if !matches!(this.state, State::Stopped | State::Suspended) {
                return;
            }
            this.state = State::Running;
            this.clock.suspend(self.now.get(), false);
            this.cores.clone()
        };
        self.note("resume", node as u64, 0);
        self.net_changed();
        cores.into_iter().for_each(|core| self.wake_core(core));
    }

    pub(super) fn jump_wall_clock(&self, node: NodeId, by: Duration, backwards: bool) {
        let by_ns = i128::try_from(by.as_nanos()).unwrap_or(i128::MAX / 4);
        let by_ns = if backwards { -by_ns } else { by_ns };
        self.nodes.borrow_mut()[node].clock.jump_wall(self.now.get(), by_ns);
        self.count("wall clock jumped", node as u64);
    }

    /// Changes how fast the clocks of `node` run.
    pub(super) fn set_drift(&self, node: NodeId, ppm: i64) {
        let cores = {
            let mut nodes = self.nodes.borrow_mut();
            nodes[node].clock.set_drift(self.now.get(), ppm);
            nodes[node].cores.clone()
        };
        self.count("clock speed changed", node as u64);
        // Their timers were planned at the old speed.
        cores.into_iter().for_each(|core| self.wake_core(core));
    }
}
