//! The request to end, seen by every core.

use event_listener::Event;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Requested once, never taken back. Clones are the same request.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    is_requested: AtomicBool,
    event: Event,
}

impl Stop {
    /// A stop that nothing has requested yet; [`Service::stop`](crate::Service::stop) gives the process's.
    pub fn new() -> Stop {
        Stop::default()
    }

    /// Asks for the stop, from any thread; again does nothing.
    pub fn request(&self) {
        self.inner.is_requested.store(true, Ordering::SeqCst);
        self.inner.event.notify(usize::MAX);
    }

    /// Whether it has been asked for.
    pub fn is_requested(&self) -> bool {
        self.inner.is_requested.load(Ordering::SeqCst)
    }

    /// Resolves when it is asked for, at once if it was; on any executor and any number of cores.
    pub async fn requested(&self) {
        while !self.is_requested() {
            let listener = self.inner.event.listen();
            // Asked again after listening, so that a request in between is not missed.
            if self.is_requested() {
                return;
            }
            listener.await;
        }
    }

    /// Blocks the calling thread, which must not be a core, until it is asked for.
    pub fn wait(&self) {
        while !self.is_requested() {
            let listener = self.inner.event.listen();
            if self.is_requested() {
                return;
            }
            event_listener::Listener::wait(listener);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn waiters_wake_on_every_thread() {
        let stop = Stop::new();
        assert!(stop.requested().now_or_never().is_none());
        let waiters: Vec<_> = (0..4)
            .map(|i| {
                let stop = stop.clone();
                std::thread::Builder::new().name(format!("waiter-{i}")).spawn(move || stop.wait()).unwrap()
            })
            .collect();
        stop.request();
        stop.request();
        for waiter in waiters {
            waiter.join().unwrap();
        }
        assert!(stop.is_requested());
        assert!(stop.requested().now_or_never().is_some());
    }
}
