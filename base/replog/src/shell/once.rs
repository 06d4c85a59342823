//! A value that one task sets and another waits for, on one core.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

struct State<T> {
    value: Option<T>,
    waker: Option<Waker>,
}

/// The end that waits. It waits for ever when its setter is dropped.
pub(super) struct Once<T>(Rc<RefCell<State<T>>>);

/// The end that sets.
pub(super) struct Setter<T>(Rc<RefCell<State<T>>>);

pub(super) fn once<T>() -> (Setter<T>, Once<T>) {
    let state = Rc::new(RefCell::new(State { value: None, waker: None }));
    (Setter(state.clone()), Once(state))
}

impl<T> Setter<T> {
    pub(super) fn set(self, value: T) {
        let waker = {
            let mut state = self.0.borrow_mut();
            state.value = Some(value);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Once<T> {
    type Output = T;
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut state = self.0.borrow_mut();
        match state.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
