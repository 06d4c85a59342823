//! Jobs for other cores: a closure goes there, runs against that core's state, and its result comes back.
//!
//! The closure itself runs as soon as the mail is opened, in the order of sending; the future it gives runs as a task
//! there. Dropping a [`Receipt`] before its result aborts that task.
//!
//! The loop that opens mail never waits for room in another mailbox, so two full mailboxes can't wait for each other.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_util::future::LocalBoxFuture;
use runtime::JoinHandle;
use runtime::sync::{MailReceiver, MailSender};

use super::core::Core;
use super::slot::Slot;

/// Mails waiting per core; senders wait at that.
pub(crate) const MAILBOX_CAPACITY: usize = 4096;

type Parcel = Box<dyn Any + Send>;
type Job = Box<dyn FnOnce(Rc<Core>) -> LocalBoxFuture<'static, Parcel> + Send>;

/// What one core sends another.
pub(crate) enum Mail {
    Run { from: usize, call: u64, job: Job },
    Cancel { from: usize, call: u64 },
    Reply { call: u64, parcel: Parcel },
}

/// A core's side of the mail.
pub(crate) struct Post {
    senders: Vec<MailSender<Mail>>,
    next_call: RefCell<u64>,
    waiting: RefCell<HashMap<u64, Slot<Parcel>>>,
    /// Jobs of others that run here.
    running: RefCell<HashMap<(usize, u64), JoinHandle<()>>>,
}

impl Post {
    pub(crate) fn new(senders: Vec<MailSender<Mail>>) -> Self {
        Self { senders, next_call: RefCell::new(0), waiting: RefCell::default(), running: RefCell::default() }
    }
}

/// The result of a job, later.
pub(crate) enum Receipt<T> {
    Here(LocalBoxFuture<'static, T>),
    There(Remote),
}

/// A job that runs on another core.
pub(crate) struct Remote {
    core: Rc<Core>,
    to: usize,
    call: u64,
    slot: Slot<Parcel>,
    done: bool,
}

impl<T: 'static> Future for Receipt<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match self.get_mut() {
            Self::Here(future) => future.as_mut().poll(context),
            Self::There(remote) => Pin::new(&mut remote.slot).poll(context).map(|parcel| {
                remote.done = true;
                *parcel.downcast::<T>().expect("a job's reply has its type")
            }),
        }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        let post = &self.core.post;
        post.waiting.borrow_mut().remove(&self.call);
        if !self.done {
            let cancel = Mail::Cancel { from: self.core.id, call: self.call };
            // A full mailbox: the job runs to its end for nobody.
            let _ = post.senders[self.to].try_send(cancel);
        }
    }
}

impl Core {
    /// Has `job` run on core `to`. Waits for room in that core's mailbox only.
    pub(crate) async fn send<T, F, Fut>(self: &Rc<Self>, to: usize, job: F) -> Receipt<T>
    where
        T: Send + 'static,
        F: FnOnce(Rc<Self>) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        if to == self.id {
            self.shared.metrics.jobs_own_core.inc();
            return Receipt::Here(Box::pin(job(self.clone())));
        }
        self.shared.metrics.jobs_other_core.inc();
        let call = {
            let mut next = self.post.next_call.borrow_mut();
            *next += 1;
            *next
        };
        let slot = Slot::new();
        self.post.waiting.borrow_mut().insert(call, slot.clone());
        let job: Job = Box::new(move |core| {
            let future = job(core);
            Box::pin(async move { Box::new(future.await) as Parcel })
        });
        let remote = Remote { core: self.clone(), to, call, slot, done: false };
        // Closed only when that core has ended, and then this one is about to.
        let _ = self.post.senders[to].send(Mail::Run { from: self.id, call, job }).await;
        Receipt::There(remote)
    }

    /// Opens mail until every sender is gone.
    pub(crate) async fn open_mail(self: Rc<Self>, mail: MailReceiver<Mail>) {
        let mut batch = Vec::new();
        while mail.recv_batch(&mut batch).await {
            for mail in batch.drain(..) {
                self.open(mail);
            }
        }
    }

    fn open(self: &Rc<Self>, mail: Mail) {
        match mail {
            Mail::Run { from, call, job } => {
                let future = job(self.clone());
                let core = self.clone();
                let task = runtime::spawn(async move {
                    let parcel = future.await;
                    core.post.running.borrow_mut().remove(&(from, call));
                    let _ = core.post.senders[from].send(Mail::Reply { call, parcel }).await;
                });
                if !task.is_finished() {
                    self.post.running.borrow_mut().insert((from, call), task);
                }
            }
            Mail::Cancel { from, call } => {
                let task = self.post.running.borrow_mut().remove(&(from, call));
                if let Some(task) = task {
                    task.abort();
                }
            }
            Mail::Reply { call, parcel } => {
                let slot = self.post.waiting.borrow_mut().remove(&call);
                if let Some(slot) = slot {
                    slot.give(parcel);
                }
            }
        }
    }
}
