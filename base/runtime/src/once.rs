//! One operation awaited by one future.
//!
//! What always holds: what the kernel needs (`keeps`, and the request's memory) lives until it is done, also when the
//! future is dropped; the kernel is then asked to end the operation.

use crate::driver::{Completion, Request, Sink, Slot};
use crate::exec::Core;
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// An operation in flight and its result.
pub(crate) struct Once<K: 'static> {
    core: Rc<Core>,
    slot: Slot,
    shared: Rc<OnceState<K>>,
}

struct OnceState<K> {
    result: RefCell<OnceResult>,
    _keeps: K,
}

enum OnceResult {
    Waiting(Option<Waker>),
    Done(Option<Completion>),
}

impl<K> Sink for OnceState<K> {
    fn complete(self: Rc<Self>, completion: Completion) {
        let waiting = self.result.replace(OnceResult::Done(Some(completion)));
        if let OnceResult::Waiting(Some(waker)) = waiting {
            waker.wake();
        }
    }
}

impl<K: 'static> Once<K> {
    pub(crate) fn submit(core: Rc<Core>, request: Request, keeps: K) -> Once<K> {
        let shared = Rc::new(OnceState { result: RefCell::new(OnceResult::Waiting(None)), _keeps: keeps });
        let slot = core.submit(request, shared.clone());
        Once { core, slot, shared }
    }
}

impl<K: 'static> Future for Once<K> {
    type Output = Completion;
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Completion> {
        match &mut *self.shared.result.borrow_mut() {
            OnceResult::Waiting(waker) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            OnceResult::Done(completion) => Poll::Ready(completion.take().expect("polled after its result")),
        }
    }
}

impl<K: 'static> Drop for Once<K> {
    fn drop(&mut self) {
        let waiting = matches!(&mut *self.shared.result.borrow_mut(), OnceResult::Waiting(_));
        if waiting {
            self.core.cancel(self.slot);
        }
    }
}
