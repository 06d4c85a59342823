//! What this node is in a replicated group, and when it may act as its leader: not before everything is applied that
//! earlier leaders have committed.

use std::cell::Cell;
use std::time::Duration;

use replog::{GroupId, Replicas, Role};
use runtime::sync::Notify;
use runtime::time;

/// How long to wait before asking again whether everything is applied.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Default)]
pub(crate) struct Leading {
    role: Cell<Role>,
    acts: Cell<bool>,
    waiting: Notify,
}

impl Leading {
    pub(crate) fn role(&self) -> Role {
        self.role.get()
    }

    /// Who leads, as far as this node, `me`, knows; itself only once it acts as the leader.
    pub(crate) fn leader(&self, me: i32) -> Option<i32> {
        let leader = self.role.get().leader.and_then(|node| i32::try_from(node.0).ok());
        leader.filter(|leader| *leader != me || self.acts.get())
    }

    /// Resolves once it is known who leads.
    pub(crate) async fn led(&self, me: i32) {
        while self.leader(me).is_none() {
            self.waiting.notified().await;
        }
    }

    /// Whether this node acts as the leader.
    pub(crate) fn acts(&self) -> bool {
        self.acts.get()
    }

    /// Resolves once this node acts as the leader.
    pub(crate) async fn acting(&self) {
        while !self.acts.get() {
            self.waiting.notified().await;
        }
    }

    /// The role has changed: this node does not act as the leader any more, or not yet.
    pub(crate) fn set_role(&self, role: Role) {
        self.role.set(role);
        self.acts.set(false);
        self.waiting.notify_all();
    }

    /// Resolves once everything that earlier leaders have committed is applied: true, if this node still leads then in the
    /// term of `role`, and it may call [`begin`](Self::begin).
    pub(crate) async fn caught_up(&self, replicas: &Replicas, group: GroupId, role: Role) -> bool {
        loop {
            let read = replicas.read(group).await;
            if self.role.get() != role {
                return false;
            }
            match read {
                Ok(_) => return true,
                Err(error) => tracing::debug!(%group, %error, "not caught up yet"),
            }
            time::sleep(ASK_AGAIN).await;
        }
    }

    /// From now on this node acts as the leader.
    pub(crate) fn begin(&self) {
        self.acts.set(true);
        self.waiting.notify_all();
    }
}
