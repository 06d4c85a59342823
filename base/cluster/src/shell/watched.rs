//! A group's state machine, watched: the driver hears of a change of role at once, and need not look at groups in which
//! nothing happens.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use bytes::Bytes;
use replog::{GroupId, Index, Role, SnapshotSink, SnapshotSource, StateMachine};
use runtime::sync::Notify;

/// Groups that the driver is to look at.
pub(crate) struct Restless {
    groups: RefCell<BTreeSet<GroupId>>,
    work: Rc<Notify>,
}

impl Restless {
    pub(crate) fn new(work: Rc<Notify>) -> Restless {
        Restless { groups: RefCell::default(), work }
    }

    /// Something has happened in it.
    pub(crate) fn wake(&self, group: GroupId) {
        self.keep(group);
        self.work.notify_one();
    }

    /// It is looked at again when its time comes.
    pub(crate) fn keep(&self, group: GroupId) {
        self.groups.borrow_mut().insert(group);
    }

    pub(crate) fn take(&self) -> BTreeSet<GroupId> {
        self.groups.take()
    }
}

pub(crate) struct Watched {
    group: GroupId,
    machine: Box<dyn StateMachine>,
    restless: Rc<Restless>,
}

impl Watched {
    pub(crate) fn around(
        group: GroupId,
        machine: Box<dyn StateMachine>,
        restless: &Rc<Restless>,
    ) -> Box<dyn StateMachine> {
        Box::new(Watched { group, machine, restless: restless.clone() })
    }
}

impl StateMachine for Watched {
    fn durable(&self) -> Index {
        self.machine.durable()
    }

    fn apply(&mut self, index: Index, entry: &Bytes) {
        self.machine.apply(index, entry);
    }

    fn role(&mut self, role: Role) {
        self.restless.wake(self.group);
        self.machine.role(role);
    }

    fn snapshot(&mut self) -> Rc<dyn SnapshotSource> {
        self.machine.snapshot()
    }

    fn receive_snapshot(&mut self) -> Box<dyn SnapshotSink> {
        self.machine.receive_snapshot()
    }
}
