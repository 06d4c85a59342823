//! A local event, with the meaning of tokio's `Notify`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Wakes tasks of the same core. [`Notify::notify_one`] without a waiter is kept for the next one; two are kept as one.
#[derive(Default)]
pub struct Notify {
    permit: Cell<bool>,
    next_ticket: Cell<u64>,
    /// Who waits, by ticket: in the order of arrival. Whoever is notified is taken out.
    waiting: RefCell<BTreeMap<u64, Waker>>,
    /// Tickets below this one have been notified by [`Notify::notify_all`], if not before.
    all_below: Cell<u64>,
}

impl Notify {
    /// With no permit.
    pub fn new() -> Notify {
        Notify::default()
    }

    /// Wakes the longest waiting task, or lets the next one through.
    pub fn notify_one(&self) {
        let first = self.waiting.borrow_mut().pop_first();
        match first {
            Some((_, waker)) => waker.wake(),
            None => self.permit.set(true),
        }
    }

    /// Wakes all tasks that wait now; nothing is kept.
    pub fn notify_all(&self) {
        self.all_below.set(self.next_ticket.get());
        let waiting = self.waiting.take();
        waiting.into_values().for_each(Waker::wake);
    }

    /// Resolves at the next notification.
    pub fn notified(&self) -> Notified<'_> {
        Notified { notify: self, ticket: None }
    }
}

/// The future of [`Notify::notified`]. It waits from its first poll on; dropped, it passes a notification that was for it
/// alone on.
#[must_use = "futures do nothing unless awaited"]
pub struct Notified<'a> {
    notify: &'a Notify,
    ticket: Option<u64>,
}

impl Future for Notified<'_> {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let notify = self.notify;
        match self.ticket {
            None if notify.permit.take() => return Poll::Ready(()),
            None => {
                let ticket = notify.next_ticket.replace(notify.next_ticket.get() + 1);
                notify.waiting.borrow_mut().insert(ticket, context.waker().clone());
                self.ticket = Some(ticket);
            }
            Some(ticket) => match notify.waiting.borrow_mut().get_mut(&ticket) {
                Some(waker) => waker.clone_from(context.waker()),
                None => {
                    self.ticket = None;
                    return Poll::Ready(());
                }
            },
        }
        Poll::Pending
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let was_waiting = self.notify.waiting.borrow_mut().remove(&ticket).is_some();
        if !was_waiting && ticket >= self.notify.all_below.get() {
            self.notify.notify_one();
        }
    }
}
