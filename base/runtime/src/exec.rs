//! One core: its tasks, its turn, its driver.
//!
//! Whoever runs a core (a thread: start.rs; the simulator) goes round: [`Core::take_main_woken`] and the main future,
//! [`Core::run_turn`], [`Core::wait`], [`Core::begin_turn`]; and calls [`Core::end`] at the end.
//!
//! A turn runs all that is ready (up to [`limits::POLLS_PER_TURN`] polls), then whom waits for its end
//! ([`turn_end`]), then lets every stream send what was queued, hands all of it to the kernel in one call and takes
//! what has completed.
//!
//! What always holds: tasks stay on their core; a wake from another thread goes through [`Remote`]; when the core ends,
//! its tasks are dropped first, then every operation is waited for, then memory is freed.

use crate::buf::Pool;
use crate::driver::{Driver, Request, Sink, Slot, Wake};
use crate::limits;
use crate::net::SendQueue;
use crate::time::{self, Wheel};
use async_task::{Runnable, Task};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Where other threads leave what they wake.
struct Remote {
    /// `None` once the core has ended.
    woken: Mutex<Option<Vec<Runnable>>>,
    main_woken: AtomicBool,
    /// A wake has been written and not yet been seen.
    notified: AtomicBool,
    wake: Arc<Wake>,
}

impl Remote {
    /// Whether the caller is on this core's thread.
    fn is_here(&self) -> bool {
        CURRENT
            .with_borrow(|core| core.as_ref().is_some_and(|core| std::ptr::eq(&raw const *core.remote, self)))
    }

    fn notify(&self) {
        if !self.is_here() && !self.notified.swap(true, Ordering::AcqRel) {
            self.wake.wake();
        }
    }
}

/// The waker of a core's main future.
impl std::task::Wake for Remote {
    fn wake(self: Arc<Self>) {
        self.main_woken.store(true, Ordering::Release);
        self.notify();
    }
}

pub(crate) struct Core {
    driver: RefCell<Driver>,
    pool: Rc<Pool>,
    pub(crate) timers: RefCell<Wheel>,
    started: Instant,
    turn_started: Cell<Instant>,
    ready: RefCell<VecDeque<Runnable>>,
    tasks: RefCell<Slab<Waker>>,
    at_turn_end: RefCell<Vec<Waker>>,
    unsent: RefCell<Vec<Rc<dyn SendQueue>>>,
    remote: Arc<Remote>,
    ending: Cell<bool>,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

impl Core {
    pub(crate) fn new(driver: Driver, pool: Rc<Pool>, wake: Arc<Wake>) -> Rc<Core> {
        let now = time::now();
        Rc::new(Core {
            driver: RefCell::new(driver),
            pool,
            timers: RefCell::new(Wheel::new()),
            started: now,
            turn_started: Cell::new(now),
            ready: RefCell::default(),
            tasks: RefCell::default(),
            at_turn_end: RefCell::default(),
            unsent: RefCell::default(),
            remote: Arc::new(Remote {
                woken: Mutex::new(Some(Vec::new())),
                main_woken: AtomicBool::new(true),
                notified: AtomicBool::new(false),
                wake,
            }),
            ending: Cell::new(false),
        })
    }

    /// Whether this thread is on a core.
    #[cfg(not(sim))]
    pub(crate) fn is_entered() -> bool {
        CURRENT.with_borrow(Option::is_some)
    }

    /// Makes this the thread's core.
    pub(crate) fn enter(self: &Rc<Core>) {
        CURRENT.set(Some(self.clone()));
    }

    /// The thread is on no core any more.
    pub(crate) fn leave() {
        CURRENT.set(None);
    }

    /// What wakes the core's main future.
    pub(crate) fn main_waker(&self) -> Waker {
        Waker::from(self.remote.clone())
    }

    /// Whether the main future is to be polled.
    pub(crate) fn take_main_woken(&self) -> bool {
        self.remote.main_woken.swap(false, Ordering::AcqRel)
    }

    /// # Panics
    /// Outside [`block_on`] and [`spawn_core`].
    pub(crate) fn current() -> Rc<Core> {
        CURRENT
            .with_borrow(Clone::clone)
            .expect("called outside of a core: run it inside runtime::block_on or runtime::spawn_core")
    }

    pub(crate) fn submit(&self, request: Request, sink: Rc<dyn Sink>) -> Slot {
        self.driver.borrow_mut().submit(request, sink)
    }

    pub(crate) fn cancel(&self, slot: Slot) {
        self.driver.borrow_mut().cancel(slot);
    }

    pub(crate) fn recv_buffer_bytes(&self) -> usize {
        self.pool.buffer_bytes()
    }

    pub(crate) fn turn_started(&self) -> Instant {
        self.turn_started.get()
    }

    /// The timer tick of `instant`, rounded up.
    pub(crate) fn tick_at(&self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.started).as_micros().div_ceil(1000) as u64
    }

    pub(crate) fn ending(&self) -> bool {
        self.ending.get()
    }

    /// Sends what `queue` holds at the end of this turn.
    pub(crate) fn send_at_turn_end(&self, queue: Rc<dyn SendQueue>) {
        self.unsent.borrow_mut().push(queue);
    }

    fn spawn<T: 'static>(self: &Rc<Core>, future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
        let key = self.tasks.borrow_mut().insert(Waker::noop().clone());
        let registered = Registered { core: self.clone(), key };
        let remote = self.remote.clone();
        let schedule = move |runnable: Runnable| {
            let here = CURRENT.with_borrow(|core| match core {
                Some(core) if Arc::ptr_eq(&core.remote, &remote) => {
                    core.ready.borrow_mut().push_back(runnable);
                    None
                }
                _ => Some(runnable),
            });
            let Some(runnable) = here else { return };
            match &mut *remote.woken.lock().unwrap() {
                Some(woken) => woken.push(runnable),
                // The core has ended and dropped the future; a runnable may only be dropped at home.
                None => std::mem::forget(runnable),
            }
            remote.notify();
        };
        let (runnable, task) = async_task::spawn_local(
            async move {
                let _registered = registered;
                future.await
            },
            schedule,
        );
        self.tasks.borrow_mut()[key] = runnable.waker();
        runnable.schedule();
        JoinHandle { task: Some(task) }
    }

    fn take_remote(&self) {
        if self.remote.notified.swap(false, Ordering::AcqRel)
            && let Some(woken) = &mut *self.remote.woken.lock().unwrap()
        {
            self.ready.borrow_mut().extend(woken.drain(..));
        }
    }

    fn run_ready(&self, polls: &mut usize) {
        while *polls < limits::POLLS_PER_TURN {
            let Some(runnable) = self.ready.borrow_mut().pop_front() else { return };
            *polls += 1;
            runnable.run();
        }
    }

    /// Runs what is ready; gives how long to wait for events then: not at all if more is ready.
    pub(crate) fn run_turn(&self) -> Option<Duration> {
        let mut polls = 0;
        self.run_ready(&mut polls);
        let waiting = std::mem::take(&mut *self.at_turn_end.borrow_mut());
        if !waiting.is_empty() {
            waiting.into_iter().for_each(Waker::wake);
            polls = 0;
            self.run_ready(&mut polls);
        }
        self.send_queued();
        let idle = self.ready.borrow().is_empty()
            && self.at_turn_end.borrow().is_empty()
            && !self.remote.main_woken.load(Ordering::Acquire)
            && !self.remote.notified.load(Ordering::Acquire);
        if idle { self.until_next_timer() } else { Some(Duration::ZERO) }
    }

    /// After a wait: takes what other threads have woken, looks at the clock, fires timers.
    pub(crate) fn begin_turn(&self, fired: &mut Vec<Waker>) {
        self.take_remote();
        self.turn_started.set(time::now());
        let tick = self.turn_started.get().duration_since(self.started).as_millis() as u64;
        self.timers.borrow_mut().advance(tick, fired);
        fired.drain(..).for_each(Waker::wake);
    }

    fn until_next_timer(&self) -> Option<Duration> {
        let tick = self.timers.borrow().next_tick()?;
        let due = self.started + Duration::from_millis(tick);
        Some(due.saturating_duration_since(time::now()))
    }

    /// Hands to the kernel what was asked of it and tells what has completed.
    pub(crate) fn wait(
        &self,
        timeout: Option<Duration>,
        told: &mut Vec<(Rc<dyn Sink>, crate::driver::Completion)>,
    ) -> io::Result<()> {
        self.driver.borrow_mut().wait(timeout, told)?;
        told.drain(..).for_each(|(sink, completion)| sink.complete(completion));
        Ok(())
    }

    fn send_queued(&self) {
        loop {
            let queues = std::mem::take(&mut *self.unsent.borrow_mut());
            if queues.is_empty() {
                return;
            }
            queues.into_iter().for_each(|queue| queue.send_queued());
        }
    }

    /// Drops the tasks, gives what was queued a last chance to leave, then waits until the kernel has let go of all
    /// memory.
    pub(crate) fn end(self: &Rc<Core>) {
        self.ending.set(true);
        let wakers: Vec<Waker> = self.tasks.borrow().iter().map(|(_, waker)| waker.clone()).collect();
        wakers.into_iter().for_each(Waker::wake);
        let from_others = self.remote.woken.lock().unwrap().take();
        self.ready.borrow_mut().extend(from_others.into_iter().flatten());
        loop {
            let Some(runnable) = self.ready.borrow_mut().pop_front() else { break };
            drop(runnable);
        }
        let mut told = Vec::new();
        self.send_queued();
        let _ = self.wait(Some(Duration::ZERO), &mut told);
        self.send_queued();
        self.driver.borrow_mut().cancel_all();
        let deadline = time::now() + limits::TEARDOWN;
        while self.driver.borrow().in_flight() > 0 {
            if time::now() > deadline || self.wait(Some(Duration::from_millis(20)), &mut told).is_err() {
                tracing::error!(
                    "the kernel still holds {} operations; their memory is leaked",
                    self.driver.borrow().in_flight()
                );
                std::mem::forget(self.clone());
                return;
            }
        }
    }
}

/// Removes a task from its core's list when the task's future is dropped.
struct Registered {
    core: Rc<Core>,
    key: usize,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.core.tasks.borrow_mut().remove(self.key);
    }
}

/// Starts a task on this core. Dropping the handle lets it run on.
///
/// # Panics
/// Outside a core.
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    Core::current().spawn(future)
}

/// A task's result to await, or [`JoinHandle::abort`] it; dropped, the task runs on.
#[derive(Debug)]
pub struct JoinHandle<T> {
    task: Option<Task<T>>,
}

impl<T> JoinHandle<T> {
    /// Drops the task's future, soon.
    pub fn abort(mut self) {
        drop(self.task.take());
    }

    /// Whether the task is done.
    pub fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(Task::is_finished)
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = T;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        Pin::new(self.task.as_mut().expect("a handle polled after its result")).poll(context)
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.detach();
        }
    }
}

/// Resolves once all that was ready in this turn has run: the moment to write once for everybody.
pub async fn turn_end() {
    let mut waited = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        Core::current().at_turn_end.borrow_mut().push(context.waker().clone());
        Poll::Pending
    })
    .await;
}

/// Lets other tasks and I/O go first.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
