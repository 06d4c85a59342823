//! What waits for a peer and ends when the proxy stops.
//!
//! What always holds: once [`Drain::begin`] was called nothing waits in [`Drain::unless`] any more; a waiter costs one slot
//! while it waits.

use slab::Slab;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::task::{Poll, Waker};

/// Whether this core is stopping, and whom to wake when it does.
#[derive(Debug, Default)]
pub(super) struct Drain {
    begun: Cell<bool>,
    waiting: RefCell<Slab<Waker>>,
}

/// A waiter's slot, freed when it stops waiting.
struct Slot<'a> {
    drain: &'a Drain,
    key: Option<usize>,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.drain.waiting.borrow_mut().remove(key);
        }
    }
}

impl Drain {
    /// Whether the core is stopping.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.get()
    }

    /// The core stops now.
    pub(super) fn begin(&self) {
        self.begun.set(true);
        self.waiting.borrow().iter().for_each(|(_, waker)| waker.wake_by_ref());
    }

    /// `future`'s result, or `None` if the core stops first. The future is dropped then.
    pub(super) async fn unless<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = std::pin::pin!(future);
        let mut slot = Slot { drain: self, key: None };
        std::future::poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            if self.begun.get() {
                return Poll::Ready(None);
            }
            let mut waiting = self.waiting.borrow_mut();
            match slot.key {
                Some(key) if waiting[key].will_wake(context.waker()) => {}
                Some(key) => waiting[key] = context.waker().clone(),
                None => slot.key = Some(waiting.insert(context.waker().clone())),
            }
            Poll::Pending
        })
        .await
    }
}
