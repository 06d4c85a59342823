//! A partition as the state machine of its replicated log.

use std::rc::{Rc, Weak};

use bytes::Bytes;
use replog::{Index, Role, SnapshotSink, SnapshotSource, StateMachine};

use super::partition::Partition;
use super::shard::Shard;
use super::snapshot::{self, Incoming, Outgoing};

/// See the module.
pub(crate) struct PartitionMachine {
    pub(crate) partition: Rc<Partition>,
    pub(crate) shard: Weak<Shard>,
}

impl StateMachine for PartitionMachine {
    fn durable(&self) -> Index {
        self.partition.durable()
    }

    fn apply(&mut self, index: Index, entry: &Bytes) {
        if let Some(shard) = self.shard.upgrade() {
            shard.apply(&self.partition, index, entry);
        }
    }

    fn role(&mut self, role: Role) {
        if let Some(shard) = self.shard.upgrade() {
            shard.set_role(&self.partition, role);
        }
    }

    fn snapshot(&mut self) -> Rc<dyn SnapshotSource> {
        Rc::new(Outgoing::new(self.partition.clone()))
    }

    fn receive_snapshot(&mut self) -> Box<dyn SnapshotSink> {
        Box::new(Incoming::new(self.partition.clone(), self.shard.clone()))
    }
}

/// A partition that was deleted, for as long as its replicated log is there.
pub(crate) struct Buried {
    pub(crate) durable: Index,
}

impl StateMachine for Buried {
    fn durable(&self) -> Index {
        self.durable
    }

    fn apply(&mut self, _: Index, _: &Bytes) {}

    fn snapshot(&mut self) -> Rc<dyn SnapshotSource> {
        Rc::new(snapshot::empty())
    }

    fn receive_snapshot(&mut self) -> Box<dyn SnapshotSink> {
        Box::new(Nothing)
    }
}

/// Takes what nobody needs.
struct Nothing;

impl SnapshotSink for Nothing {
    fn write(&mut self, _: Bytes) -> replog::Pending<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn install(self: Box<Self>, _: Index) -> replog::Pending<'static, ()> {
        Box::pin(async { Ok(()) })
    }
}
