//! All children: started together, watched, restarted with back-off when they die, stopped in order.
//!
//! What always holds: every child that was started has ended when [`run`] returns.

use super::Error;
use super::child::{self, Running};
use super::plan::{Plan, Process};
use super::preflight::Backend;
use ops::Service;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use rustix::process::Signal;
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How often children are looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// How often their readiness is asked, once the site has been ready.
const READINESS_INTERVAL: Duration = Duration::from_secs(1);

/// A child that can't be started or dies before it was ever ready stops `up` after this many tries: the reason will not go
/// away by itself.
const FIRST_TRIES: u32 = 3;

/// A daemon's exit code when the disk has refused a write or a sync (`replog`): what it holds is in doubt until someone has
/// looked, so the daemon is not started again.
const DISK_FAILED: i32 = 70;

/// All must be ready after this long, or `up` gives up.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// The wait before a restart doubles from the first to the second; a child that ran for longer than the second begins
/// anew.
const BACK_OFF_MIN: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);

/// A child that has not ended this long after SIGTERM is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(25);

/// What the dashboard shows of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Starting,
    Ready,
    Down,
}

struct Supervised {
    process: Process,
    running: Option<Running>,
    state: State,
    ever_ready: bool,
    tries: u32,
    started: Instant,
    start_at: Instant,
    back_off: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    process: String,
}

/// What the admin endpoint's thread reads.
struct Board {
    states: Mutex<Vec<(Process, State, u64)>>,
    restarts: Family<Label, Counter>,
    ready: Family<Label, Gauge>,
}

fn now() -> Instant {
    runtime::time::now()
}

/// Runs the plan until the service is asked to stop. `ready` is called once, with the seconds it took.
pub(crate) fn run(
    plan: &Plan,
    service: &Service,
    backend: Backend,
    ready: &mut dyn FnMut(f64),
) -> Result<(), Error> {
    let board = Board::on(service, plan);
    let begun = now();
    let mut children: Vec<Supervised> =
        plan.processes.iter().map(|process| Supervised::new(process, begun)).collect();
    let mut announced = false;
    let mut looked_at_readiness = begun;
    let result = loop {
        if service.stop().is_requested() {
            break Ok(());
        }
        if let Err(error) = children.iter_mut().try_for_each(|child| child.keep_running(backend, &board)) {
            break Err(error);
        }
        if !announced || looked_at_readiness.elapsed() >= READINESS_INTERVAL {
            children.iter_mut().for_each(Supervised::ask_readiness);
            looked_at_readiness = now();
        }
        board.show(&children);
        if !announced && children.iter().all(|child| child.state == State::Ready) {
            announced = true;
            service.ready();
            ready(begun.elapsed().as_secs_f64());
        }
        if !announced && begun.elapsed() > READY_TIMEOUT {
            let late: Vec<&str> = children
                .iter()
                .filter(|child| child.state != State::Ready)
                .map(|child| child.process.name.as_str())
                .collect();
            break Err(Error(format!(
                "not ready after {} s: {}; their logs say why",
                READY_TIMEOUT.as_secs(),
                late.join(", ")
            )));
        }
        pause(INTERVAL);
    };
    stop(&mut children);
    result
}

#[expect(clippy::disallowed_methods, reason = "the supervisor's own thread: no core waits for it")]
fn pause(duration: Duration) {
    thread::sleep(duration);
}

impl Supervised {
    fn new(process: &Process, begun: Instant) -> Supervised {
        Supervised {
            process: process.clone(),
            running: None,
            state: State::Down,
            ever_ready: false,
            tries: 0,
            started: begun,
            start_at: begun,
            back_off: BACK_OFF_MIN,
        }
    }

    fn keep_running(&mut self, backend: Backend, board: &Board) -> Result<(), Error> {
        let name = &self.process.name;
        if let Some(running) = &mut self.running {
            let Some(status) =
                running.has_ended().map_err(|error| Error(format!("cannot watch {name}: {error}")))?
            else {
                return Ok(());
            };
            let last_line = running.last_line();
            self.running = None;
            self.state = State::Down;
            if self.started.elapsed() > BACK_OFF_MAX {
                self.back_off = BACK_OFF_MIN;
            }
            if status.code() == Some(DISK_FAILED) {
                return Err(Error(format!(
                    "{name} ended because its disk failed; look at the disk before the next start; it said: {last_line}"
                )));
            }
            if !self.ever_ready && self.tries >= FIRST_TRIES {
                return Err(Error(format!(
                    "{name} ended {} times before it was ready ({status}); it said: {last_line}",
                    self.tries
                )));
            }
            tracing::warn!("{name} ended ({status}); starting it again in {} ms", self.back_off.as_millis());
            self.start_at = now() + self.back_off;
            self.back_off = (self.back_off * 2).min(BACK_OFF_MAX);
            board.restarts.get_or_create(&self.label()).inc();
        } else if now() >= self.start_at {
            let running = child::start(&self.process, backend)
                .map_err(|error| Error(format!("cannot start {name}: {error}")))?;
            self.running = Some(running);
            self.state = State::Starting;
            self.tries += 1;
            self.started = now();
        }
        Ok(())
    }

    fn ask_readiness(&mut self) {
        if self.running.is_some() {
            self.state = if child::is_ready(&self.process) { State::Ready } else { State::Starting };
            self.ever_ready |= self.state == State::Ready;
        }
    }

    fn label(&self) -> Label {
        Label { process: self.process.name.clone() }
    }
}

/// SIGTERM in the reverse of the start order: those who are asked before those they ask. Each is given until it has ended,
/// so that whoever drains still finds what it needs.
fn stop(children: &mut [Supervised]) {
    for child in children.iter_mut().rev() {
        let Some(running) = &mut child.running else { continue };
        running.signal(Signal::TERM);
        let asked = now();
        let mut killed = false;
        while !matches!(running.has_ended(), Ok(Some(_)) | Err(_)) {
            if !killed && asked.elapsed() > STOP_TIMEOUT {
                tracing::warn!(
                    "{} has not ended in {} s; killing it",
                    child.process.name,
                    STOP_TIMEOUT.as_secs()
                );
                running.signal(Signal::KILL);
                killed = true;
            }
            pause(INTERVAL);
        }
        child.running = None;
    }
}

impl Board {
    fn on(service: &Service, plan: &Plan) -> Arc<Board> {
        let states = plan.processes.iter().map(|process| (process.clone(), State::Down, 0)).collect();
        let board = Arc::new(Board {
            states: Mutex::new(states),
            restarts: Family::default(),
            ready: Family::default(),
        });
        service.register(|registry| {
            registry.register(
                "millrace_up_restarts",
                "Starts of a process after its first",
                board.restarts.clone(),
            );
            registry.register(
                "millrace_up_ready",
                "1 for a process that is ready, 0 for others",
                board.ready.clone(),
            );
        });
        let shown = board.clone();
        service.add_check("processes", move || {
            let states = shown.states.lock().expect("no panic while showing");
            match states.iter().find(|(_, state, _)| *state != State::Ready) {
                Some((process, ..)) => Err(format!("{} is not ready", process.name)),
                None => Ok(()),
            }
        });
        let shown = board.clone();
        service.add_page("/", move || ("text/html; charset=utf-8", shown.page()));
        board
    }

    fn show(&self, children: &[Supervised]) {
        let mut states = self.states.lock().expect("no panic while showing");
        for (shown, child) in states.iter_mut().zip(children) {
            shown.1 = child.state;
            shown.2 = u64::from(child.tries.saturating_sub(1));
            self.ready.get_or_create(&child.label()).set((child.state == State::Ready).into());
        }
    }

    fn page(&self) -> String {
        let mut out = String::from(
            "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=2><title>Millrace</title>\
             <style>body{font:16px system-ui;margin:2rem;max-width:60rem}td,th{text-align:left;padding:.3rem 1rem .3rem 0}\
             .Ready{color:#176d32}.Starting{color:#8a5a00}.Down{color:#a11}</style><h1>Millrace</h1>\
             <table><tr><th>process<th>serves<th>state<th>restarts<th>admin endpoint",
        );
        for (process, state, restarts) in self.states.lock().expect("no panic while showing").iter() {
            let admin = process.admin;
            let _ = write!(
                out,
                "<tr><td>{}<td>{}<td class={state:?}>{state:?}<td>{restarts}<td>\
                 <a href=http://{admin}/metrics>metrics</a> <a href=http://{admin}/readyz>readyz</a> \
                 <a href=http://{admin}/config>config</a>",
                process.name, process.serves
            );
        }
        out.push_str(
            "</table><p><a href=/metrics>metrics</a> <a href=/readyz>readyz</a> <a href=/config>config</a>",
        );
        out
    }
}
