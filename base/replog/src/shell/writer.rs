//! The tasks of a log: one writes batches, one makes the next segment ready ahead of time, one puts away segments
//! that are needed no more.
//!
//! What always holds: one write at a time, each durable before the next begins; commits are told only after their
//! write is durable; the three tasks have ended when the log has.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use runtime::fs::DirLock;
use runtime::sync::Notify;
use runtime::{JoinHandle, time};

use crate::core::batch;
use crate::core::format::{Header, Salt};
use crate::core::stream::{Batch, Next, Step};
use crate::limits::{BLOCK_BYTES, SEAL_AFTER, SPACE_RETRY};
use crate::shell::buffers::Buffers;
use crate::shell::fatal::stop_process;
use crate::shell::folder::{Folder, Segment};
use crate::shell::log::{Life, Shared};
use crate::shell::open;

/// `EIO` of errno(3), on every Linux.
const EIO: i32 = 5;

/// What the writer takes over when a log is opened.
pub(super) struct Parts {
    pub(super) folder: Rc<Folder>,
    pub(super) lock: DirLock,
    pub(super) current: Segment,
    /// The next segment, if it was found ready.
    pub(super) next: Option<Segment>,
    pub(super) segment_bytes: u64,
}

/// The log has ended while it waited for space.
struct Stranded;

struct Writer {
    shared: Rc<Shared>,
    folder: Rc<Folder>,
    current: Segment,
    /// The next segment, while it is made ready.
    next: Option<JoinHandle<Option<Segment>>>,
    segment_bytes: u64,
    buffers: Buffers,
    attic: Rc<Attic>,
}

/// Segments on their way out, oldest first.
#[derive(Default)]
struct Attic {
    given_up: RefCell<VecDeque<u32>>,
    /// One has been added, or no more will come.
    work: Notify,
    /// A file is free to be used again, or its space is.
    freed: Notify,
}

/// Writes until the log is closed.
pub(super) async fn run(shared: Rc<Shared>, parts: Parts) {
    let Parts { folder, lock, current, next, segment_bytes } = parts;
    let attic = Rc::new(Attic::default());
    let putting_away = runtime::spawn(put_away(shared.clone(), folder.clone(), attic.clone()));
    let mut writer = Writer {
        shared: shared.clone(),
        folder,
        current,
        next: None,
        segment_bytes,
        buffers: Buffers::default(),
        attic,
    };
    writer.next = Some(match next {
        Some(segment) => runtime::spawn(async { Some(segment) }),
        None => writer.prepare_next(),
    });
    // Segments that were needed no more when the log was last closed.
    writer.give_up();
    let stranded = writer.work().await.is_err();
    shared.life.set(Life::Ended { stranded });
    writer.attic.work.notify_one();
    writer.attic.freed.notify_one();
    if let Some(preparing) = writer.next.take() {
        preparing.await;
    }
    putting_away.await;
    drop(lock);
    shared.waiters.wake_all();
    shared.room.notify_all();
    shared.ended.notify_all();
}

impl Writer {
    async fn work(&mut self) -> Result<(), Stranded> {
        let mut seal = false;
        loop {
            // What else is proposed in this turn goes along.
            runtime::turn_end().await;
            let closing = self.shared.life.get() != Life::Open;
            let step = self.shared.stream.borrow_mut().next_step(seal || closing);
            seal = false;
            match step {
                Some(Step::Write(batch)) => self.write(batch).await?,
                Some(Step::Roll) => self.roll().await?,
                None if closing => return Ok(()),
                None => {
                    let wants_seal = self.shared.stream.borrow().wants_seal();
                    let work = self.shared.work.notified();
                    if wants_seal {
                        seal = time::timeout(SEAL_AFTER, work).await.is_err();
                    } else {
                        work.await;
                    }
                }
            }
        }
    }

    async fn write(&mut self, batch: Batch) -> Result<(), Stranded> {
        assert_eq!(
            batch.at.generation, self.current.generation,
            "the core and the files agree on the segment"
        );
        let mut buffers = self.buffers.take(batch.blocks);
        let salt = self.shared.stream.borrow().salt(batch.at.generation);
        batch::encode(&batch.records, salt, batch.at.block, batch.watermark, &mut buffers);
        // The entries are in the buffers now: their owners have copies, and the memory is free for more.
        drop(batch.records);
        let offset = u64::from(batch.at.block) * BLOCK_BYTES as u64;
        match self.current.file.append_durable(offset, buffers).await {
            Ok(buffers) => self.buffers.give_back(buffers),
            Err(error) => stop_process("a write to the log", &self.current.path, &error),
        }
        let durable = self.shared.stream.borrow_mut().written();
        {
            let mut stats = self.shared.stats.borrow_mut();
            stats.batches += 1;
            stats.entries += durable.entries;
            stats.bytes += u64::from(batch.blocks) * BLOCK_BYTES as u64;
        }
        if durable.votes {
            self.write_votes(salt.log).await?;
        }
        self.give_up();
        self.shared.tell(&durable);
        Ok(())
    }

    /// Writes the second copy of the votes. On a full disk the stream stands still until there is space: a vote is not spoken
    /// before both copies are there, and what else was written with it waits too.
    async fn write_votes(&self, log: u64) -> Result<(), Stranded> {
        let mut said = false;
        loop {
            let votes = open::all_votes(&self.shared.stream.borrow(), log);
            let error = match self.folder.write_votes(&votes).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if !matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                stop_process("writing the votes", &self.folder.votes_path(), &error);
            }
            if !std::mem::replace(&mut said, true) {
                tracing::error!(
                    file = %self.folder.votes_path().display(),
                    %error,
                    "no space for the second copy of the votes: this stream of the log waits until there is some"
                );
            }
            if self.shared.life.get() != Life::Open {
                return Err(Stranded);
            }
            let _ = time::timeout(SPACE_RETRY, self.attic.freed.notified()).await;
        }
    }

    /// Takes the next segment into use, as soon as it is ready, and has the one after it made.
    async fn roll(&mut self) -> Result<(), Stranded> {
        let preparing = self.next.take().expect("a next segment is always being made");
        let Some(segment) = preparing.await else { return Err(Stranded) };
        self.shared.stream.borrow_mut().rolled();
        self.current = segment;
        self.next = Some(self.prepare_next());
        Ok(())
    }

    /// Makes the segment behind the current one ready.
    fn prepare_next(&self) -> JoinHandle<Option<Segment>> {
        let salt = self.shared.stream.borrow().salt(self.current.generation + 1);
        let header = Header { salt, segment_bytes: self.segment_bytes };
        runtime::spawn(prepare(self.shared.clone(), self.folder.clone(), self.attic.clone(), header))
    }

    fn give_up(&self) {
        while let Some(generation) = self.shared.stream.borrow_mut().give_up() {
            self.attic.given_up.borrow_mut().push_back(generation);
            self.attic.work.notify_one();
        }
    }
}

/// Makes a segment ready, again and again while the disk has no room. `None`: the log is being closed first.
async fn prepare(
    shared: Rc<Shared>,
    folder: Rc<Folder>,
    attic: Rc<Attic>,
    header: Header,
) -> Option<Segment> {
    let Salt { generation, .. } = header.salt;
    loop {
        match folder.prepare(&header).await {
            Ok(segment) => {
                if shared.stats.borrow_mut().no_space.take().is_some() {
                    tracing::info!(folder = %folder.dir.display(), "there is space again: the log takes entries");
                }
                shared.stream.borrow_mut().set_next(Next::Ready);
                shared.room.notify_all();
                return Some(segment);
            }
            Err(error) if error.raw_os_error() == Some(EIO) => {
                stop_process("making the log segment", &folder.path_of(generation), &error)
            }
            Err(error) => short_of_space(&shared, &folder, &error),
        }
        if shared.life.get() != Life::Open {
            return None;
        }
        let _ = time::timeout(SPACE_RETRY, attic.freed.notified()).await;
    }
}

/// Takes entries only as far as the current segment goes, and says so once.
fn short_of_space(shared: &Shared, folder: &Folder, error: &io::Error) {
    let mut stats = shared.stats.borrow_mut();
    if stats.no_space.is_none() {
        tracing::error!(
            folder = %folder.dir.display(),
            %error,
            "can't make the next segment of the log: read-only once the current one is full, until there is space"
        );
    }
    stats.no_space = Some(error.to_string());
    shared.stream.borrow_mut().set_next(Next::NoSpace);
    shared.room.notify_all();
}

/// Puts away what is given up, in order, so that the segments that are left never have a gap.
async fn put_away(shared: Rc<Shared>, folder: Rc<Folder>, attic: Rc<Attic>) {
    loop {
        let Some(generation) = attic.given_up.borrow_mut().pop_front() else {
            if shared.has_ended() {
                return;
            }
            attic.work.notified().await;
            continue;
        };
        if let Err(error) = folder.give_up(generation).await {
            stop_process("putting away the log segment", &folder.path_of(generation), &error);
        }
        attic.freed.notify_one();
    }
}
