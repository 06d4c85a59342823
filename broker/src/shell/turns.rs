//! One at a time: whoever wants a turn waits for those that came before.

use std::cell::Cell;

use runtime::sync::Notify;

/// See the module.
#[derive(Default)]
pub(crate) struct Turns {
    busy: Cell<bool>,
    free: Notify,
}

/// A turn, until it is dropped.
pub(crate) struct Turn<'a>(&'a Turns);

impl Turns {
    pub(crate) async fn take(&self) -> Turn<'_> {
        while self.busy.replace(true) {
            self.free.notified().await;
        }
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.busy.set(false);
        self.0.free.notify_one();
    }
}
