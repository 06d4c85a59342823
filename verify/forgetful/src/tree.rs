//! Files and folders in two states: as they look, and as they are after a loss of power.
//!
//! What always holds:
//! - what a process reads is what was written last (the *seen* state), synced or not;
//! - a sync of a file takes its content and length into the *kept* state; a synchronous write takes the pages that it
//!   touched; a sync of a folder takes the names in it. Nothing else changes the kept state;
//! - a loss of power makes the seen state what the kept one is.
//!
//! So a new file whose content was synced and whose folder was not is gone: stricter than most file systems, and what
//! POSIX promises. It leaves out hard links, symbolic links, owners and times as things that could be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::time::SystemTime;

use crate::pages::{PAGE, Pages};

/// The root folder's number.
pub(crate) const ROOT: u64 = 1;
/// The number of the control file, which is in no folder's listing.
pub(crate) const CONTROL: u64 = 2;

/// Why something can't be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    NotFound,
    Exists,
    NotEmpty,
    NotAFolder,
    IsAFolder,
    NoSpace,
    Io,
    Invalid,
}

/// What syncs do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Syncs {
    /// What they promise.
    #[default]
    Honest,
    /// Nothing, and they say that it is done: as if the program under test had none.
    Ignored,
    /// They fail with EIO, as on a disk that breaks.
    Failing,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) changed: SystemTime,
    pub(crate) content: Content,
    open: u32,
}

#[derive(Debug)]
pub(crate) enum Content {
    File { seen: Pages, kept: Pages, unsynced: BTreeSet<u64> },
    Folder { seen: BTreeMap<OsString, u64>, kept: BTreeMap<OsString, u64> },
}

#[derive(Debug)]
pub(crate) struct Tree {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    pub(crate) syncs: Syncs,
    /// The most bytes that files may hold, zeros not counted.
    bytes_max: u64,
}

impl Tree {
    pub(crate) fn new(bytes_max: u64) -> Tree {
        let root = Node::new(0o755, (0, 0), Content::folder());
        Tree { nodes: BTreeMap::from([(ROOT, root)]), next: CONTROL + 1, syncs: Syncs::Honest, bytes_max }
    }

    pub(crate) fn node(&self, number: u64) -> Result<&Node, Refused> {
        self.nodes.get(&number).ok_or(Refused::NotFound)
    }

    pub(crate) fn node_mut(&mut self, number: u64) -> Result<&mut Node, Refused> {
        self.nodes.get_mut(&number).ok_or(Refused::NotFound)
    }

    pub(crate) fn lookup(&self, folder: u64, name: &OsStr) -> Result<u64, Refused> {
        self.node(folder)?.names()?.get(name).copied().ok_or(Refused::NotFound)
    }

    /// Makes a file or a folder, and gives its number.
    pub(crate) fn make(
        &mut self,
        folder: u64,
        name: &OsStr,
        mode: u32,
        owner: (u32, u32),
        content: Content,
    ) -> Result<u64, Refused> {
        let number = self.next;
        let names = self.node_mut(folder)?.names_mut()?;
        if names.contains_key(name) {
            return Err(Refused::Exists);
        }
        names.insert(name.to_owned(), number);
        self.nodes.insert(number, Node::new(mode, owner, content));
        self.next += 1;
        Ok(number)
    }

    /// Takes a name out of a folder. `folders`: whether a folder is to be removed, or anything else.
    pub(crate) fn remove(&mut self, folder: u64, name: &OsStr, folders: bool) -> Result<(), Refused> {
        let number = self.lookup(folder, name)?;
        match &self.node(number)?.content {
            Content::Folder { .. } if !folders => return Err(Refused::IsAFolder),
            Content::Folder { seen, .. } if !seen.is_empty() => return Err(Refused::NotEmpty),
            Content::File { .. } if folders => return Err(Refused::NotAFolder),
            _ => {}
        }
        self.node_mut(folder)?.names_mut()?.remove(name);
        Ok(())
    }

    pub(crate) fn rename(
        &mut self,
        (from, name): (u64, &OsStr),
        (to, new_name): (u64, &OsStr),
        replace: bool,
    ) -> Result<(), Refused> {
        let number = self.lookup(from, name)?;
        if let Ok(replaced) = self.lookup(to, new_name) {
            if !replace {
                return Err(Refused::Exists);
            }
            if replaced == number {
                return Ok(());
            }
            let folders = matches!(self.node(number)?.content, Content::Folder { .. });
            self.remove(to, new_name, folders)?;
        }
        self.node_mut(to)?.names_mut()?.insert(new_name.to_owned(), number);
        self.node_mut(from)?.names_mut()?.remove(name);
        Ok(())
    }

    pub(crate) fn read(&self, number: u64, offset: u64, len: usize) -> Result<Vec<u8>, Refused> {
        match &self.node(number)?.content {
            Content::File { seen, .. } => Ok(seen.read(offset, len)),
            Content::Folder { .. } => Err(Refused::IsAFolder),
        }
    }

    /// Writes; `durably` with the effect of a sync of what is written.
    pub(crate) fn write(
        &mut self,
        number: u64,
        offset: u64,
        bytes: &[u8],
        durably: bool,
    ) -> Result<(), Refused> {
        if durably && self.syncs == Syncs::Failing {
            return Err(Refused::Io);
        }
        let durably = durably && self.syncs == Syncs::Honest;
        if self.bytes_left() < bytes.len() as u64 && bytes.iter().any(|byte| *byte != 0) {
            return Err(Refused::NoSpace);
        }
        let node = self.node_mut(number)?;
        node.changed = now();
        let Content::File { seen, kept, unsynced } = &mut node.content else {
            return Err(Refused::IsAFolder);
        };
        let touched = seen.write(offset, bytes);
        if durably {
            for page in touched {
                kept.take(page, seen);
                unsynced.remove(&page);
            }
            kept.len = kept.len.max(offset + bytes.len() as u64);
        } else {
            unsynced.extend(touched);
        }
        Ok(())
    }

    pub(crate) fn set_len(&mut self, number: u64, len: u64) -> Result<(), Refused> {
        let node = self.node_mut(number)?;
        node.changed = now();
        let Content::File { seen, unsynced, .. } = &mut node.content else { return Err(Refused::IsAFolder) };
        unsynced.extend(seen.set_len(len));
        Ok(())
    }

    /// fallocate(2) without flags: the file is at least so long.
    pub(crate) fn allocate(&mut self, number: u64, end: u64) -> Result<(), Refused> {
        let len = self.node(number)?.len();
        if len < end { self.set_len(number, end) } else { Ok(()) }
    }

    /// fsync(2) and fdatasync(2), of a file or a folder.
    pub(crate) fn sync(&mut self, number: u64) -> Result<(), Refused> {
        match self.syncs {
            Syncs::Honest => {}
            Syncs::Ignored => return Ok(()),
            Syncs::Failing => return Err(Refused::Io),
        }
        match &mut self.node_mut(number)?.content {
            Content::File { seen, kept, unsynced } => {
                for page in std::mem::take(unsynced) {
                    kept.take(page, seen);
                }
                kept.len = seen.len;
            }
            Content::Folder { seen, kept } => {
                kept.clone_from(seen);
                self.sweep();
            }
        }
        Ok(())
    }

    pub(crate) fn opened(&mut self, number: u64) -> Result<(), Refused> {
        self.node_mut(number)?.open += 1;
        Ok(())
    }

    pub(crate) fn closed(&mut self, number: u64) {
        if let Ok(node) = self.node_mut(number) {
            node.open = node.open.saturating_sub(1);
            if node.open == 0 {
                self.sweep();
            }
        }
    }

    /// Everything that was not synced is gone. With a seed, each unsynced sector of each file is drawn to have reached the
    /// disk or not, and so is each file's length, as a disk with a cache of its own would have it.
    pub(crate) fn lose_power(&mut self, survivors: Option<u64>) {
        let mut coin = survivors.map(Coin);
        for node in self.nodes.values_mut() {
            node.open = 0;
            match &mut node.content {
                Content::File { seen, kept, unsynced } => {
                    if let Some(coin) = &mut coin {
                        unsynced.iter().for_each(|page| kept.take_some(*page, seen, || coin.toss()));
                        if coin.toss() {
                            kept.len = seen.len;
                        }
                    }
                    unsynced.clear();
                    // What lies behind the end would show up again when the file grows.
                    kept.set_len(kept.len);
                    *seen = kept.clone();
                }
                Content::Folder { seen, kept } => seen.clone_from(kept),
            }
        }
        self.sweep();
    }

    /// Bytes that may still be written.
    pub(crate) fn bytes_left(&self) -> u64 {
        let held: u64 = self.nodes.values().map(Node::pages_held).sum();
        self.bytes_max.saturating_sub(held * PAGE)
    }

    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Forgets what is in no folder, in neither state, and not open.
    fn sweep(&mut self) {
        let mut named = BTreeSet::from([ROOT]);
        for node in self.nodes.values() {
            if let Content::Folder { seen, kept } = &node.content {
                named.extend(seen.values().chain(kept.values()));
            }
        }
        self.nodes.retain(|number, node| named.contains(number) || node.open > 0);
    }
}

impl Content {
    pub(crate) fn file() -> Content {
        Content::File { seen: Pages::default(), kept: Pages::default(), unsynced: BTreeSet::new() }
    }

    pub(crate) fn folder() -> Content {
        Content::Folder { seen: BTreeMap::new(), kept: BTreeMap::new() }
    }
}

impl Node {
    fn new(mode: u32, owner: (u32, u32), content: Content) -> Node {
        Node { mode, owner, changed: now(), content, open: 0 }
    }

    pub(crate) fn names(&self) -> Result<&BTreeMap<OsString, u64>, Refused> {
        match &self.content {
            Content::Folder { seen, .. } => Ok(seen),
            Content::File { .. } => Err(Refused::NotAFolder),
        }
    }

    fn names_mut(&mut self) -> Result<&mut BTreeMap<OsString, u64>, Refused> {
        match &mut self.content {
            Content::Folder { seen, .. } => Ok(seen),
            Content::File { .. } => Err(Refused::NotAFolder),
        }
    }

    /// A file's length, bytes.
    pub(crate) fn len(&self) -> u64 {
        match &self.content {
            Content::File { seen, .. } => seen.len,
            Content::Folder { .. } => 0,
        }
    }

    pub(crate) fn pages_held(&self) -> u64 {
        match &self.content {
            Content::File { seen, .. } => seen.held(),
            Content::Folder { .. } => 0,
        }
    }
}

/// SplitMix64: <https://prng.di.unimi.it/splitmix64.c>.
struct Coin(u64);

impl Coin {
    fn toss(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) & 1 == 1
    }
}

#[allow(clippy::disallowed_methods, reason = "a file system for tests, beside the runtime and not on it")]
fn now() -> SystemTime {
    SystemTime::now()
}
