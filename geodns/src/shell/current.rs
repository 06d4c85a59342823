//! The answers in force: replaced by a reload, read by every core without a lock.
//!
//! What always holds: a core takes the lock only when the version has changed, which is once per reload.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::core::Responder;

/// What all cores answer from.
#[derive(Debug)]
pub(super) struct Current {
    version: AtomicU64,
    responder: Mutex<Responder>,
}

impl Current {
    pub(super) fn new(responder: Responder) -> Current {
        Current { version: AtomicU64::new(0), responder: Mutex::new(responder) }
    }

    /// Every core answers from `responder` with the next batch it takes.
    pub(super) fn replace(&self, responder: Responder) {
        *self.responder.lock().expect("nothing panics under this lock") = responder;
        self.version.fetch_add(1, Ordering::Release);
    }
}

/// One core's copy.
#[derive(Debug)]
pub(super) struct View {
    current: Arc<Current>,
    version: u64,
    responder: Responder,
}

impl View {
    pub(super) fn of(current: Arc<Current>) -> View {
        let version = current.version.load(Ordering::Acquire);
        let responder = current.responder.lock().expect("nothing panics under this lock").clone();
        View { current, version, responder }
    }

    /// What to answer from now.
    pub(super) fn get(&mut self) -> &Responder {
        if self.current.version.load(Ordering::Acquire) != self.version {
            *self = View::of(self.current.clone());
        }
        &self.responder
    }
}
