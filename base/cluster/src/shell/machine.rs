//! The metadata group's state machine: the map, applied entry by entry, and kept in a file.
//!
//! Always holds: what it applies is the same on every member, entries that are not taken among them; a map's file is
//! replaced as a whole; an entry that this release does not know ends the process, as the map would differ from then on.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use replog::{Index, SnapshotSink, SnapshotSource, StateMachine};
use runtime::fs;
use runtime::sync::Notify;

use super::options::Options;
use crate::Map;
use crate::core::entry::Entry;
use crate::limits::RECENT_BYTES_MAX;

/// Outcomes of entries that are remembered, for who has proposed them.
const OUTCOMES: usize = 256;

/// What the state machine holds, and its node's hub looks at.
#[derive(Default)]
pub(crate) struct MetaState {
    pub(crate) map: Arc<Map>,
    /// It has everything up to here.
    pub(crate) applied: Index,
    /// Up to here it is in the file.
    pub(crate) durable: Index,
    /// Entries that were taken, oldest first, with the version that each was made from.
    recent: VecDeque<(u64, Bytes)>,
    recent_bytes: usize,
    /// Whether entries were taken, the newest last.
    outcomes: VecDeque<(Index, bool)>,
    /// Rung at every change.
    pub(crate) changed: Rc<Notify>,
}

impl MetaState {
    /// A state machine on it.
    pub(crate) fn machine(state: &Rc<RefCell<MetaState>>, options: &Options) -> Box<dyn StateMachine> {
        Box::new(Machine { state: state.clone(), file: files::map(options) })
    }

    /// Whether the entry at `index` was taken. `None`: it is not remembered.
    pub(crate) fn was_taken(&self, index: Index) -> Option<bool> {
        self.outcomes.iter().rev().find(|(at, _)| *at == index).map(|(_, taken)| *taken)
    }

    /// The entries behind `version`, if all of them are remembered.
    pub(crate) fn entries_behind(&self, version: u64) -> Option<Vec<Bytes>> {
        let first = self.recent.front().map(|(base, _)| *base)?;
        let skip = usize::try_from(version.checked_sub(first)?).ok()?;
        Some(self.recent.iter().skip(skip).map(|(_, entry)| entry.clone()).collect())
    }

    fn take(&mut self, index: Index, bytes: &Bytes) {
        let entry = Entry::decode(bytes).expect(
            "the metadata group has an entry that this release does not know: run one release on all nodes",
        );
        let taken = Arc::make_mut(&mut self.map).take_entry(&entry);
        self.applied = index;
        self.outcomes.push_back((index, taken));
        if self.outcomes.len() > OUTCOMES {
            self.outcomes.pop_front();
        }
        if taken {
            self.recent_bytes += bytes.len();
            self.recent.push_back((entry.base, bytes.clone()));
            while self.recent_bytes > RECENT_BYTES_MAX {
                let Some((_, oldest)) = self.recent.pop_front() else { break };
                self.recent_bytes -= oldest.len();
            }
        }
        self.changed.notify_all();
    }

    /// The node is no member of the group any more.
    pub(crate) fn forget(&mut self) {
        *self = MetaState { changed: self.changed.clone(), ..MetaState::default() };
    }

    fn replace(&mut self, index: Index, map: Map) {
        self.map = Arc::new(map);
        (self.applied, self.durable) = (index, index);
        self.recent.clear();
        self.recent_bytes = 0;
        self.changed.notify_all();
    }
}

struct Machine {
    state: Rc<RefCell<MetaState>>,
    file: PathBuf,
}

impl StateMachine for Machine {
    fn durable(&self) -> Index {
        self.state.borrow().durable
    }

    fn apply(&mut self, index: Index, entry: &Bytes) {
        self.state.borrow_mut().take(index, entry);
    }

    fn snapshot(&mut self) -> Rc<dyn SnapshotSource> {
        let state = self.state.borrow();
        Rc::new(Bytes::from(state.map.to_file(state.applied)))
    }

    fn receive_snapshot(&mut self) -> Box<dyn SnapshotSink> {
        let (state, file) = (self.state.clone(), self.file.clone());
        replog::gather(move |index, bytes| async move {
            let invalid = |why| std::io::Error::new(std::io::ErrorKind::InvalidData, why);
            let (_, map) = Map::from_file(&bytes).map_err(invalid)?;
            fs::write_atomic(&file, map.to_file(index)).await?;
            state.borrow_mut().replace(index, map);
            Ok(())
        })
    }
}

/// The files of the map.
pub(crate) mod files {
    use super::{Arc, Index, Map, MetaState, Options, PathBuf, fs};
    use crate::Error;

    /// The state machine's.
    pub(crate) fn map(options: &Options) -> PathBuf {
        options.dir.join("map")
    }

    /// What was seen of the map last, by a node that is no member of its group.
    pub(crate) fn seen(options: &Options) -> PathBuf {
        options.dir.join("seen")
    }

    /// Keeps what was seen of the map.
    pub(crate) async fn keep_seen(options: &Options, map: &Map) {
        if let Err(error) = fs::write_atomic(seen(options), map.to_file(Index(0))).await {
            tracing::warn!(%error, "can't keep the map of the cluster");
        }
    }

    /// The state machine's goes.
    pub(crate) async fn forget(options: &Options) -> std::io::Result<()> {
        match fs::remove_file(map(options)).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    async fn read(path: PathBuf) -> Result<Option<(Index, Map)>, Error> {
        match fs::read(&path).await {
            Ok(bytes) => match Map::from_file(&bytes) {
                Ok(found) => Ok(Some(found)),
                Err(why) => Err(Error::File { path, why: why.to_owned() }),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::File { path, why: error.to_string() }),
        }
    }

    /// The newest map that is there, and what the state machine has.
    pub(crate) async fn load(options: &Options) -> Result<(Arc<Map>, MetaState), Error> {
        let mut state = MetaState::default();
        if let Some((index, map)) = read(map(options)).await? {
            state.replace(index, map);
        }
        let seen = read(seen(options)).await?.map(|(_, map)| Arc::new(map));
        let newest = seen.filter(|seen| seen.version > state.map.version).unwrap_or(state.map.clone());
        Ok((newest, state))
    }
}
