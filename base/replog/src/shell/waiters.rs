//! Tasks that wait for an index of a group to be committed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::{GroupId, Index};

/// The tasks, by what they wait for. One that gave up stays listed, without a waker, until its index is committed, and
/// every index that was given out is, or the log ends.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    waiting: RefCell<BTreeMap<(GroupId, Index), Vec<Slot>>>,
}

type Slot = Rc<RefCell<State>>;

#[derive(Debug)]
enum State {
    Waiting(Option<Waker>),
    Done,
}

impl Waiters {
    /// Resolves once `index` of `group` has been passed to [`Waiters::committed`], or all were woken.
    pub(super) async fn wait(&self, group: GroupId, index: Index) {
        let slot = Rc::new(RefCell::new(State::Waiting(None)));
        self.waiting.borrow_mut().entry((group, index)).or_default().push(slot.clone());
        poll_fn(|context| match &mut *slot.borrow_mut() {
            State::Done => Poll::Ready(()),
            State::Waiting(waker) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await;
    }

    /// Everything of `group` up to `through` is committed.
    pub(super) fn committed(&self, group: GroupId, through: Index) {
        loop {
            let first = {
                let mut waiting = self.waiting.borrow_mut();
                let next = waiting.range((group, Index(0))..=(group, through)).next().map(|(key, _)| *key);
                next.and_then(|key| waiting.remove(&key))
            };
            let Some(slots) = first else { return };
            wake(slots);
        }
    }

    /// Wakes all: the log has ended.
    pub(super) fn wake_all(&self) {
        let all = std::mem::take(&mut *self.waiting.borrow_mut());
        all.into_values().for_each(wake);
    }
}

fn wake(slots: Vec<Slot>) {
    for slot in slots {
        if let State::Waiting(Some(waker)) = slot.replace(State::Done) {
            waker.wake();
        }
    }
}
