//! One task at a time, where each may wait within.

use std::cell::Cell;

use runtime::sync::Notify;

/// Lets one through at a time.
#[derive(Default)]
pub(super) struct Turnstile {
    taken: Cell<bool>,
    left: Notify,
}

/// Whoever is through; the next one follows when it is dropped.
pub(super) struct Within<'a>(&'a Turnstile);

impl Turnstile {
    /// Waits for its turn.
    pub(super) async fn enter(&self) -> Within<'_> {
        while self.taken.replace(true) {
            self.left.notified().await;
        }
        Within(self)
    }
}

impl Drop for Within<'_> {
    fn drop(&mut self) {
        self.0.taken.set(false);
        self.0.left.notify_one();
    }
}
