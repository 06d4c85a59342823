//! A local event, with the meaning of tokio's `Notify`.

use slab::Slab;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Wakes tasks of the same core. [`Notify::notify_one`] without a waiter is kept for the next one; two are kept as one.
#[derive(Default)]
pub struct Notify {
    permit: Cell<bool>,
    waiters: RefCell<Slab<Waiter>>,
    /// Keys in the order of arrival; those gone meanwhile are skipped.
    order: RefCell<std::collections::VecDeque<usize>>,
}

struct Waiter {
    waker: Option<Waker>,
    notified: bool,
}

impl Notify {
    /// With no permit.
    pub fn new() -> Notify {
        Notify::default()
    }

    /// Wakes the longest waiting task, or lets the next one through.
    pub fn notify_one(&self) {
        let mut order = self.order.borrow_mut();
        let mut waiters = self.waiters.borrow_mut();
        while let Some(key) = order.pop_front() {
            if let Some(waiter) = waiters.get_mut(key)
                && !waiter.notified
            {
                waiter.notified = true;
                if let Some(waker) = waiter.waker.take() {
                    waker.wake();
                }
                return;
            }
        }
        self.permit.set(true);
    }

    /// Wakes all tasks that wait now; nothing is kept.
    pub fn notify_all(&self) {
        self.order.borrow_mut().clear();
        for (_, waiter) in self.waiters.borrow_mut().iter_mut() {
            waiter.notified = true;
            if let Some(waker) = waiter.waker.take() {
                waker.wake();
            }
        }
    }

    /// Resolves at the next notification.
    pub fn notified(&self) -> Notified<'_> {
        Notified { notify: self, key: None }
    }
}

/// The future of [`Notify::notified`]. It waits from its first poll on; dropped, it passes its notification on.
#[must_use = "futures do nothing unless awaited"]
pub struct Notified<'a> {
    notify: &'a Notify,
    key: Option<usize>,
}

impl Future for Notified<'_> {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let notify = self.notify;
        let mut waiters = notify.waiters.borrow_mut();
        match self.key {
            None if notify.permit.take() => return Poll::Ready(()),
            None => {
                let key = waiters.insert(Waiter { waker: Some(context.waker().clone()), notified: false });
                notify.order.borrow_mut().push_back(key);
                self.key = Some(key);
            }
            Some(key) if waiters[key].notified => {
                waiters.remove(key);
                self.key = None;
                return Poll::Ready(());
            }
            Some(key) => waiters[key].waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let waiter = self.notify.waiters.borrow_mut().remove(key);
        self.notify.order.borrow_mut().retain(|other| *other != key);
        if waiter.notified {
            self.notify.notify_one();
        }
    }
}
