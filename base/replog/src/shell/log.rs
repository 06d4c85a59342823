//! The handle: what the owner of a log calls.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use runtime::sync::Notify;

use crate::core::consensus::Entry;
use crate::core::recovery::GroupState;
use crate::core::stream::{Durable, Refusal, Stream, Ticket};
use crate::shell::waiters::Waiters;
use crate::shell::{open, writer};
use crate::{Error, GroupId, Index, Recovered};

/// How to open a log.
#[derive(Clone, Debug)]
pub struct Options {
    /// The log's folder, for it alone. Made if it is not there.
    pub dir: PathBuf,
    /// The size of each segment file, in bytes: a multiple of 4096 from
    /// [`SEGMENT_BYTES_MIN`](crate::limits::SEGMENT_BYTES_MIN) to
    /// [`SEGMENT_BYTES_MAX`](crate::limits::SEGMENT_BYTES_MAX). It bounds the largest entry
    /// ([`entry_bytes_max`](crate::limits::entry_bytes_max)). Taken when the log is made; afterwards the size that
    /// it was made with stays.
    pub segment_bytes: u64,
}

impl Options {
    /// A log in `dir`, in segments of 64 MiB.
    pub fn new(dir: impl Into<PathBuf>) -> Options {
        Options { dir: dir.into(), segment_bytes: 64 * 1024 * 1024 }
    }
}

/// What a log has done since it was opened, and where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Writes that became durable, each with one sync.
    pub batches: u64,
    /// Entries in them.
    pub entries: u64,
    /// Bytes written, in whole blocks.
    pub bytes: u64,
    /// Segments that hold entries still needed, the current one among them.
    pub segments: usize,
    /// The size of each, in bytes.
    pub segment_bytes: u64,
    /// Why no new segment can be made ready, if it can't: the log is read-only once the current one is full.
    pub no_space: Option<String>,
}

/// An open log. Clones share it; it lives on the core that opened it.
///
/// When the last clone is dropped without [`close`](Log::close), what was proposed is still written, and then the log is
/// closed, as long as the runtime runs.
#[derive(Clone)]
pub struct Log {
    handle: Rc<Handle>,
}

struct Handle {
    shared: Rc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.shared.life.get() == Life::Open {
            self.shared.life.set(Life::Closing);
            self.shared.work.notify_one();
        }
    }
}

/// What the handle and the tasks of a log share.
pub(super) struct Shared {
    pub(super) dir: PathBuf,
    pub(super) stream: RefCell<Stream>,
    pub(super) waiters: Waiters,
    callbacks: RefCell<BTreeMap<GroupId, Callback>>,
    on_durable: RefCell<Option<OnDurable>>,
    /// The writer has something to look at.
    pub(super) work: Notify,
    /// The queue has become shorter, or the log has ended.
    pub(super) room: Notify,
    /// The log has ended.
    pub(super) ended: Notify,
    pub(super) life: Cell<Life>,
    pub(super) stats: RefCell<Stats>,
}

type Callback = Rc<RefCell<dyn FnMut(Index)>>;
type OnDurable = Rc<dyn Fn(Ticket)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Open,
    /// Takes nothing more; what was taken is being written.
    Closing,
    /// Everything that was taken is on disk, or `stranded` for want of space.
    Ended {
        stranded: bool,
    },
}

impl Log {
    /// Opens the log in `options.dir`, or makes it, and gives the entries that are in it.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Version`] and [`Error::Foreign`] when the folder's content can't be trusted: nothing
    /// was changed then. [`Error::Locked`] when another process has it. [`Error::Options`]. [`Error::Io`].
    pub async fn open(options: Options) -> Result<(Log, Recovered), Error> {
        let mut recovered = Recovered::default();
        let log = Log::open_with(options, |group, index, bytes| recovered.push(group, index, bytes)).await?;
        Ok((log, recovered))
    }

    /// As [`Log::open`], but hands each entry to `each`, in log order, so that they are never in memory all at once.
    /// The whole log has been checked before the first of them.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub async fn open_with(
        options: Options,
        mut each: impl FnMut(GroupId, Index, Bytes),
    ) -> Result<Log, Error> {
        let (log, ..) =
            Log::open_groups(options, |group, _, entry| each(group, entry.index, entry.bytes)).await?;
        Ok(log)
    }

    /// As [`Log::open_with`], with all that the log knows of its groups, and whether a repair has cut it.
    pub(crate) async fn open_groups(
        options: Options,
        each: impl FnMut(GroupId, &GroupState, Entry),
    ) -> Result<(Log, BTreeMap<GroupId, GroupState>, bool), Error> {
        let opened = open::open(options, each).await?;
        let (groups, cut) = (opened.groups, opened.cut);
        let shared = Rc::new(Shared {
            dir: opened.folder.dir.clone(),
            stream: RefCell::new(opened.stream),
            waiters: Waiters::default(),
            callbacks: RefCell::default(),
            on_durable: RefCell::default(),
            work: Notify::new(),
            room: Notify::new(),
            ended: Notify::new(),
            life: Cell::new(Life::Open),
            stats: RefCell::default(),
        });
        let parts = writer::Parts {
            folder: Rc::new(opened.folder),
            lock: opened.lock,
            current: opened.current,
            next: opened.next,
            segment_bytes: opened.segment_bytes,
        };
        runtime::spawn(writer::run(shared.clone(), parts));
        Ok((Log { handle: Rc::new(Handle { shared }) }, groups, cut))
    }

    /// Queues an entry as the next of its group and gives its index, at once. The order of the calls is the order in the
    /// log. The entry is committed later: see [`Log::on_commit`] and [`Log::wait_committed`].
    ///
    /// # Errors
    /// Nothing was taken, and the index is given to the next entry: [`Error::Full`] when
    /// [`PROPOSED_BYTES_MAX`](crate::limits::PROPOSED_BYTES_MAX) wait or the next segment is not ready yet,
    /// [`Error::ReadOnly`] when the disk is full,
    /// [`Error::TooLarge`], [`Error::TooManyGroups`], [`Error::Closed`].
    pub fn propose(&self, group: GroupId, entry: impl Into<Bytes>) -> Result<Index, Error> {
        let shared = &self.handle.shared;
        if shared.life.get() != Life::Open {
            return Err(Error::Closed);
        }
        let entry = entry.into();
        let bytes = entry.len();
        let proposed = shared.stream.borrow_mut().propose(group, entry);
        shared.work.notify_one();
        proposed.map_err(|refusal| shared.refused(refusal, bytes))
    }

    /// Changes the log directly: what a member of replicated groups does. The log writes it, as long as it is open.
    pub(crate) fn with_stream<T>(&self, change: impl FnOnce(&mut Stream) -> T) -> T {
        let shared = &self.handle.shared;
        let changed = change(&mut shared.stream.borrow_mut());
        shared.work.notify_one();
        changed
    }

    /// Its folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.handle.shared.dir
    }

    /// Whether it takes anything.
    pub(crate) fn is_open(&self) -> bool {
        self.handle.shared.life.get() == Life::Open
    }

    /// Whether an entry of `bytes` would be taken now, beside `waiting` bytes of others that are not queued yet.
    ///
    /// # Errors
    /// Those of [`Log::propose`].
    pub(crate) fn has_place_for(&self, bytes: usize, waiting: usize) -> Result<(), Error> {
        let shared = &self.handle.shared;
        if shared.life.get() != Life::Open {
            return Err(Error::Closed);
        }
        let stream = shared.stream.borrow();
        let place = stream.place_for(bytes).and_then(|()| stream.room_for(bytes + waiting));
        place.map_err(|refusal| shared.refused(refusal, bytes))
    }

    /// Whether entries of so many bytes together would be taken now, beside `waiting` bytes of others that are not queued
    /// yet. They may be more than a segment holds, if nothing else waits.
    pub(crate) fn has_room_for(&self, bytes: usize, waiting: usize) -> bool {
        let stream = self.handle.shared.stream.borrow();
        stream.room_for(bytes + waiting).is_ok() || (waiting == 0 && stream.is_idle())
    }

    /// Entries of the group up to here are not needed any more.
    pub(crate) fn truncated(&self, group: GroupId) -> Index {
        self.handle.shared.stream.borrow().truncated(group)
    }

    /// The groups that keep the oldest segment from being used again.
    pub(crate) fn holders(&self) -> Vec<GroupId> {
        self.handle.shared.stream.borrow().holders()
    }

    /// The largest entry that it takes, in bytes.
    pub(crate) fn entry_bytes_max(&self) -> usize {
        self.handle.shared.stream.borrow().entry_bytes_max()
    }

    /// Has `callback` called whenever more has become durable, with all of it that goes by tickets.
    pub(crate) fn on_durable(&self, callback: impl Fn(Ticket) + 'static) {
        *self.handle.shared.on_durable.borrow_mut() = Some(Rc::new(callback));
    }

    /// The last committed index of `group`: everything up to it is on disk. 0 when it has none.
    pub fn committed(&self, group: GroupId) -> Index {
        self.handle.shared.stream.borrow().committed(group)
    }

    /// The last index that was given out in `group`, committed or not. 0 when none was.
    pub fn last(&self, group: GroupId) -> Index {
        self.handle.shared.stream.borrow().last(group)
    }

    /// Waits until `index` of `group` is committed. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Error::NotProposed`] when no such entry was given out. [`Error::Closed`] when the log was closed and the disk
    /// had no room for the entry.
    pub async fn wait_committed(&self, group: GroupId, index: Index) -> Result<(), Error> {
        let shared = &self.handle.shared;
        let last = self.last(group);
        if index > last {
            return Err(Error::NotProposed { group, index, last });
        }
        if self.committed(group) < index && !shared.has_ended() {
            shared.waiters.wait(group, index).await;
        }
        if self.committed(group) < index { Err(Error::Closed) } else { Ok(()) }
    }

    /// Has `callback` called with the group's new committed index, once per batch that has entries of the group, on this
    /// core, before any task that waits for one of them is woken. So: apply up to there, then answer. It may call the log.
    /// A second callback for a group takes the place of the first.
    pub fn on_commit(&self, group: GroupId, callback: impl FnMut(Index) + 'static) {
        self.handle.shared.callbacks.borrow_mut().insert(group, Rc::new(RefCell::new(callback)));
    }

    /// Waits until [`Log::propose`] would not say [`Error::Full`] to an entry of up to 4096 bytes.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn room(&self) -> Result<(), Error> {
        self.room_for(crate::limits::BLOCK_BYTES).await
    }

    /// Waits until [`Log::propose`] would not say [`Error::Full`] to an entry of `bytes` bytes, as long as nobody else takes
    /// the room first.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Closed`].
    pub async fn room_for(&self, bytes: usize) -> Result<(), Error> {
        let shared = &self.handle.shared;
        while shared.life.get() == Life::Open {
            let place = shared.stream.borrow().place_for(bytes);
            match place {
                Err(Refusal::Full) => {}
                Err(Refusal::TooLarge { max }) => return Err(Error::TooLarge { bytes, max }),
                _ => return Ok(()),
            }
            shared.room.notified().await;
        }
        Err(Error::Closed)
    }

    /// Says that the state machine of `group` has everything up to `through` in durable storage of its own. The log forgets
    /// those entries some time later: after a crash they may come back once more, and a state machine passes over what it
    /// has.
    ///
    /// Beyond the last entry it moves the group forward: the next index is `through` + 1. A state machine that is ahead of
    /// its log, say after a [`repair`](crate::repair), calls it before it proposes anything.
    ///
    /// # Panics
    /// When it names entries that are proposed and not yet committed.
    pub fn truncate(&self, group: GroupId, through: Index) {
        let shared = &self.handle.shared;
        shared.stream.borrow_mut().truncate(group, through);
        shared.work.notify_one();
    }

    /// What the log has done, and where it stands.
    pub fn stats(&self) -> Stats {
        let shared = &self.handle.shared;
        let stream = shared.stream.borrow();
        let (segments, segment_bytes) = (stream.segments(), stream.segment_bytes());
        Stats { segments, segment_bytes, ..shared.stats.borrow().clone() }
    }

    /// Takes nothing more, writes what was taken, seals the log and lets its folder go.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] when the disk had no room for all of it: the entries that are not committed then are lost, and
    /// whoever waits for them is told so.
    pub async fn close(&self) -> Result<(), Error> {
        let shared = &self.handle.shared;
        if shared.life.get() == Life::Open {
            shared.stream.borrow_mut().flush_commits();
            shared.life.set(Life::Closing);
            shared.work.notify_one();
            shared.room.notify_all();
        }
        while !shared.has_ended() {
            shared.ended.notified().await;
        }
        if shared.life.get() == (Life::Ended { stranded: true }) { Err(shared.read_only()) } else { Ok(()) }
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("dir", &self.handle.shared.dir).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.life.get(), Life::Ended { .. })
    }

    /// Tells the state machines, then the waiting tasks, then those that wait for room.
    pub(super) fn tell(&self, durable: &Durable) {
        let on_durable = self.on_durable.borrow().clone();
        if let Some(callback) = on_durable {
            callback(durable.through);
        }
        let commits = &durable.commits;
        for (group, index) in commits {
            let callback = self.callbacks.borrow().get(group).cloned();
            if let Some(callback) = callback {
                (callback.borrow_mut())(*index);
            }
        }
        for (group, index) in commits {
            self.waiters.committed(*group, *index);
        }
        self.room.notify_all();
    }

    fn refused(&self, refusal: Refusal, bytes: usize) -> Error {
        match refusal {
            Refusal::Full => Error::Full,
            Refusal::ReadOnly => self.read_only(),
            Refusal::TooLarge { max } => Error::TooLarge { bytes, max },
            Refusal::TooManyGroups { max } => Error::TooManyGroups { max },
        }
    }

    fn read_only(&self) -> Error {
        let why = self.stats.borrow().no_space.clone().unwrap_or_else(|| "no space".to_owned());
        Error::ReadOnly { dir: self.dir.clone(), why }
    }
}
