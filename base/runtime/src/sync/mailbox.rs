//! Messages between cores: many senders, one receiver, taken in batches.
//!
//! What always holds: at most `capacity` messages wait; a full mailbox refuses (`try_send`) or makes wait (`send`);
//! order per sender is kept. The receiver is woken once for all that come before it runs.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

struct Shared<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    queue: VecDeque<T>,
    capacity: usize,
    senders: usize,
    receiver_gone: bool,
    receiver: Option<Waker>,
    waiting_senders: Vec<Waker>,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // A poisoned lock means that a core panicked, which ends the process.
        self.state.lock().unwrap()
    }
}

/// The mailbox holds as many messages as it may; here is yours back.
#[derive(Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

/// Nobody receives any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the mailbox is closed")
    }
}

impl std::error::Error for Closed {}

/// A mailbox for at most `capacity` messages.
///
/// # Panics
/// If `capacity` is 0.
pub fn mailbox<T: Send>(capacity: usize) -> (MailSender<T>, MailReceiver<T>) {
    assert!(capacity > 0, "a mailbox without room");
    let state = State {
        queue: VecDeque::new(),
        capacity,
        senders: 1,
        receiver_gone: false,
        receiver: None,
        waiting_senders: Vec::new(),
    };
    let shared = Arc::new(Shared { state: Mutex::new(state) });
    (MailSender { shared: shared.clone() }, MailReceiver { shared })
}

/// The sending side; clone it for every core.
pub struct MailSender<T: Send> {
    shared: Arc<Shared<T>>,
}

impl<T: Send> MailSender<T> {
    /// Leaves `message` if there is room.
    ///
    /// # Errors
    /// [`Full`] with the message, also when nobody receives any more.
    pub fn try_send(&self, message: T) -> Result<(), Full<T>> {
        let mut state = self.shared.lock();
        if state.receiver_gone || state.queue.len() >= state.capacity {
            return Err(Full(message));
        }
        state.queue.push_back(message);
        let waker = state.receiver.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Leaves `message`, waiting for room.
    ///
    /// # Errors
    /// [`Closed`] when nobody receives any more.
    pub async fn send(&self, message: T) -> Result<(), Closed> {
        let mut message = Some(message);
        std::future::poll_fn(|context| {
            let mut state = self.shared.lock();
            if state.receiver_gone {
                return Poll::Ready(Err(Closed));
            }
            if state.queue.len() >= state.capacity {
                if !state.waiting_senders.iter().any(|waker| waker.will_wake(context.waker())) {
                    state.waiting_senders.push(context.waker().clone());
                }
                return Poll::Pending;
            }
            state.queue.push_back(message.take().expect("sent once"));
            let waker = state.receiver.take();
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
            Poll::Ready(Ok(()))
        })
        .await
    }
}

impl<T: Send> Clone for MailSender<T> {
    fn clone(&self) -> MailSender<T> {
        self.shared.lock().senders += 1;
        MailSender { shared: self.shared.clone() }
    }
}

impl<T: Send> Drop for MailSender<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.senders -= 1;
        if state.senders == 0
            && let Some(waker) = state.receiver.take()
        {
            drop(state);
            waker.wake();
        }
    }
}

/// The receiving side.
pub struct MailReceiver<T: Send> {
    shared: Arc<Shared<T>>,
}

impl<T: Send> MailReceiver<T> {
    /// Waits for messages and appends all that are there to `out`; `false` when no sender is left and nothing came.
    pub async fn recv_batch(&self, out: &mut Vec<T>) -> bool {
        std::future::poll_fn(|context| {
            let mut state = self.shared.lock();
            if !state.queue.is_empty() {
                out.extend(state.queue.drain(..));
                let waiting = std::mem::take(&mut state.waiting_senders);
                drop(state);
                waiting.into_iter().for_each(Waker::wake);
                return Poll::Ready(true);
            }
            if state.senders == 0 {
                return Poll::Ready(false);
            }
            state.receiver = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl<T: Send> Drop for MailReceiver<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.receiver_gone = true;
        let dropped = std::mem::take(&mut state.queue);
        let waiting = std::mem::take(&mut state.waiting_senders);
        drop(state);
        drop(dropped);
        waiting.into_iter().for_each(Waker::wake);
    }
}
