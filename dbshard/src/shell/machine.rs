//! What the log sees of a shard's replica: it takes committed entries, and gives and takes snapshots.
//!
//! A snapshot is a checkpoint file (docs/formats/dbshard-checkpoint.md) that was begun at the snapshot's entry or later. Its
//! chunks are of different moments, so it holds later entries of some keys; whoever takes it over passes those over when
//! they come, as at start. It is complete once the last of them has come, and all of them were committed before its end was
//! written.
//!
//! Always holds: the file under the shard's name is whole, and what was there stays until then.

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use replog::{Index, Pending, Role, SnapshotSink, SnapshotSource, StateMachine};
use runtime::fs::{self, File, OpenOptions};

use super::host::Host;
use super::{checkpoint, folder};

/// The state machine of a shard's group on this node.
pub(super) struct Machine(pub(super) Rc<Host>);

impl StateMachine for Machine {
    fn durable(&self) -> Index {
        Index(self.0.saved.get().unwrap_or(0))
    }

    fn apply(&mut self, index: Index, entry: &Bytes) {
        self.0.apply(index.0, entry);
    }

    fn role(&mut self, role: Role) {
        self.0.role(role);
    }

    fn snapshot(&mut self) -> Rc<dyn SnapshotSource> {
        Rc::new(Source { host: self.0.clone(), from: self.0.applied(), file: RefCell::default() })
    }

    fn receive_snapshot(&mut self) -> Box<dyn SnapshotSink> {
        Box::new(Sink { host: self.0.clone(), file: None, bytes: 0 })
    }
}

/// The first checkpoint that was begun at entry `from` or later.
struct Source {
    host: Rc<Host>,
    from: u64,
    file: RefCell<Option<Rc<File>>>,
}

impl Source {
    /// The file, which stays as it is though a later checkpoint takes its name.
    async fn file(&self) -> io::Result<Rc<File>> {
        if let Some(file) = &*self.file.borrow() {
            return Ok(file.clone());
        }
        let failures = self.host.checkpoints_failed.get();
        while self.host.saved.get().is_none_or(|saved| saved < self.from) {
            self.host.checkpoint.notify_one();
            self.host.checkpointed.notified().await;
            if self.host.checkpoints_failed.get() != failures {
                return Err(io::Error::other("a checkpoint could not be written"));
            }
        }
        let path = folder::checkpoint(&self.host.config.data, self.host.shard.borrow().number);
        let file = Rc::new(File::open(path, &OpenOptions::new().read(true)).await?);
        // Whoever asked at the same time must read the same file.
        Ok(self.file.borrow_mut().get_or_insert(file).clone())
    }
}

impl SnapshotSource for Source {
    fn read(&self, offset: u64, bytes: usize) -> Pending<'_, Bytes> {
        Box::pin(async move { Ok(self.file().await?.read_at(offset, bytes).await?.into()) })
    }
}

/// A checkpoint that comes from another replica.
struct Sink {
    host: Rc<Host>,
    file: Option<File>,
    bytes: u64,
}

impl Sink {
    fn path(&self) -> PathBuf {
        let number = self.host.shard.borrow().number;
        folder::checkpoint(&self.host.config.data, number).with_extension("incoming")
    }
}

impl SnapshotSink for Sink {
    fn write(&mut self, bytes: Bytes) -> Pending<'_, ()> {
        Box::pin(async move {
            let file = match self.file.take() {
                Some(file) => file,
                None => {
                    let options = OpenOptions::new().write(true).create(true).truncate(true);
                    File::open(self.path(), &options).await?
                }
            };
            let length = bytes.len() as u64;
            file.write_at(self.bytes, bytes).await?;
            self.bytes += length;
            self.file = Some(file);
            Ok(())
        })
    }

    fn install(mut self: Box<Self>, index: Index) -> Pending<'static, ()> {
        Box::pin(async move {
            if let Some(file) = self.file.take() {
                file.sync_all().await?;
            }
            let incoming = self.path();
            let host = self.host.clone();
            let (number, slots) = {
                let shard = host.shard.borrow();
                (shard.number, shard.keyspace().slots())
            };
            let loaded = checkpoint::load(&incoming, number, host.group.0, slots).await;
            let loaded = loaded.map_err(io::Error::other)?;
            let loaded = loaded.filter(|loaded| loaded.reader.started() >= index.0);
            let loaded = loaded.ok_or_else(|| io::Error::other("the snapshot is older than its entry"))?;
            let within = host.file.enter().await;
            fs::rename(&incoming, folder::checkpoint(&host.config.data, number)).await?;
            let started = loaded.reader.started();
            let old = host.shard.borrow_mut().replace(loaded.keyspace, started);
            host.loaded.replace(loaded.reader);
            host.saved.set(Some(started));
            host.log_bytes.set(0);
            drop(within);
            tracing::info!(shard = number, bytes = self.bytes, index = started, "a snapshot was taken over");
            runtime::blocking(move || drop(old)).await;
            Ok(())
        })
    }
}
