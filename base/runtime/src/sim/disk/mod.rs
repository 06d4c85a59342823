//! A node's disk: files and folders as they look, and as they are after a loss of power.
//!
//! What always holds:
//! - What a process reads is what was written last (*seen*), synced or not, also after the process was killed.
//! - A sync of a file makes durable (*kept*) what was written to it, and its length, before the sync began; a durable write,
//!   what it wrote; a sync of a folder, the names in it.
//! - A loss of power leaves, of everything else, any part: each 512-byte sector of a write, each change of a length, each new,
//!   removed or changed name, on its own, by the seed. What is in flight counts as not durable.
//! - What a failed sync did not make durable never will be.

mod names;
mod operations;
mod pages;
pub(crate) mod system;

use super::faults::DiskFaults;
use super::kernel::{Kernel, NodeId};
use super::net::Waiter;
use names::{Entry, NameChange};
use pages::Pages;
use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

pub(super) use operations::Event;
pub(crate) use operations::{DiskOp, Done};

/// What a disk writes wholly or not at all, bytes.
pub(super) const SECTOR_BYTES: u64 = 512;

pub(super) type InodeId = u64;

/// A file's content.
#[derive(Default)]
struct Inode {
    seen: Pages,
    kept: Pages,
    /// Changes since `kept`, oldest first.
    changes: Vec<Change>,
    /// How many changes have left the front of `changes`.
    settled: u64,
    locked_by: Option<RawFd>,
}

/// A change of a file that power loss may undo, unless it is durable.
struct Change {
    what: What,
    durable: bool,
}

enum What {
    Write(u64, Vec<u8>),
    Len(u64),
}

/// An open file.
struct Open {
    inode: InodeId,
    readable: bool,
    writable: bool,
    direct: bool,
    dsync: bool,
}

/// Damage that the disk has done to a file, told to nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What it is: `bit rot`, `write lost`, `write misdirected`.
    pub kind: &'static str,
    /// The file, by its name at the time.
    pub path: PathBuf,
    /// Where in it, bytes.
    pub offset: u64,
    /// World time.
    pub at: std::time::Duration,
}

#[derive(Default)]
pub(super) struct Disk {
    pub(super) faults: DiskFaults,
    inodes: BTreeMap<InodeId, Inode>,
    next_inode: InodeId,
    seen: BTreeMap<PathBuf, Entry>,
    kept: BTreeMap<PathBuf, Entry>,
    name_changes: Vec<NameChange>,
    open: BTreeMap<RawFd, Open>,
    in_flight: BTreeMap<u64, operations::InFlight>,
    next_op: u64,
    /// Steps that it still takes before the power goes.
    steps_left: Option<u64>,
    /// Nothing has an effect any more: the process is ending, or the power has gone.
    frozen: bool,
    damage: Vec<Damage>,
    rotting: bool,
}

impl Disk {
    pub(super) fn new(faults: DiskFaults) -> Disk {
        let root = BTreeMap::from([(PathBuf::from("/"), Entry::Folder)]);
        Disk { faults, seen: root.clone(), kept: root, ..Disk::default() }
    }

    pub(super) fn frozen(&self) -> bool {
        self.frozen
    }

    pub(super) fn freeze(&mut self) {
        self.frozen = true;
    }

    pub(super) fn thaw(&mut self) {
        self.frozen = false;
    }

    pub(super) fn cut_power_after(&mut self, steps: u64) {
        self.steps_left = Some(steps);
    }

    pub(super) fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// The files' names.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.seen
            .iter()
            .filter(|(_, entry)| matches!(entry, Entry::File(_)))
            .map(|(path, _)| path.clone())
            .collect()
    }

    pub(super) fn file_len(&self, path: &Path) -> Option<u64> {
        Some(self.inodes[&self.file(path)?].seen.len())
    }

    pub(super) fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let inode = &self.inodes[&self.file(path)?];
        Some(inode.seen.read(0, inode.seen.len() as usize))
    }

    fn used_bytes(&self) -> u64 {
        self.inodes.values().map(|inode| inode.seen.len()).sum()
    }

    fn path_of(&self, id: InodeId) -> PathBuf {
        let mut files = self.seen.iter();
        let found = files.find(|(_, entry)| **entry == Entry::File(id));
        found.map(|(path, _)| path.clone()).unwrap_or_default()
    }

    fn is_named(&self, id: InodeId) -> bool {
        let names = |names: &BTreeMap<PathBuf, Entry>| names.values().any(|entry| *entry == Entry::File(id));
        names(&self.seen) || names(&self.kept)
    }

    /// Forgets files that have no name any more and that nobody has open.
    fn forget_unnamed(&mut self) {
        let ids: Vec<InodeId> = self.inodes.keys().copied().collect();
        for id in ids {
            let open = self.open.values().any(|open| open.inode == id);
            let in_flight = self.in_flight.values().any(|op| op.inode == id);
            let changing = self.name_changes.iter().any(|change| change.inode() == Some(id));
            if !open && !in_flight && !changing && !self.is_named(id) {
                self.inodes.remove(&id);
            }
        }
    }
}

impl Inode {
    /// Changes the content as it is seen; `durable`: a power loss does not undo it.
    fn change(&mut self, what: What, durable: bool) {
        match &what {
            What::Write(offset, bytes) => self.seen.write(*offset, bytes),
            What::Len(len) => self.seen.set_len(*len),
        }
        self.changes.push(Change { what, durable });
        self.settle_front();
    }

    /// What is durable and has nothing before it that is not need not be remembered.
    fn settle_front(&mut self) {
        let count = self.changes.iter().take_while(|change| change.durable).count();
        for change in self.changes.drain(..count) {
            match change.what {
                What::Write(offset, bytes) => self.kept.write(offset, &bytes),
                What::Len(len) => self.kept.set_len(len),
            }
        }
        self.settled += count as u64;
    }

    /// The number of changes so far: what a sync that begins now makes durable.
    fn mark(&self) -> u64 {
        self.settled + self.changes.len() as u64
    }

    /// Everything before `mark` is durable.
    fn make_durable(&mut self, mark: u64) {
        let count = mark.saturating_sub(self.settled) as usize;
        self.changes.iter_mut().take(count).for_each(|change| change.durable = true);
        self.settle_front();
    }
}

impl Kernel {
    /// A process has ended: its files are closed; without power, what was not durable is decided.
    pub(super) fn disk_process_ends(&self, node: NodeId, power_loss: bool) {
        let mut disks = self.disks.borrow_mut();
        let disk = &mut disks[node];
        disk.frozen = true;
        disk.steps_left = None;
        if power_loss {
            self.lose_power(disk, node);
        } else {
            self.finish_some(disk);
        }
        disk.open.clear();
        disk.inodes.values_mut().for_each(|inode| inode.locked_by = None);
        disk.forget_unnamed();
    }

    pub(super) fn waiter_done(&self, (core, slot): Waiter, done: Done) {
        let inbox = self.cores.borrow().get(&core).map(|core| core.inbox.clone());
        if let Some(inbox) = inbox {
            inbox.borrow_mut().files.push((slot, done));
            self.wake_core(core);
        }
    }

    /// A killed process does not go before what it has handed to the disk is done or given back.
    fn finish_some(&self, disk: &mut Disk) {
        for (_, op) in std::mem::take(&mut disk.in_flight) {
            let Some(inode) = disk.inodes.get_mut(&op.inode).filter(|_| self.below(2) == 0) else { continue };
            match op.what {
                DiskOp::Write { offset, bytes, durable } => inode.change(What::Write(offset, bytes), durable),
                DiskOp::Sync => inode.make_durable(op.mark),
                DiskOp::Read { .. } => {}
            }
        }
    }

    /// A loss of power: of what was not durable, any part stays.
    fn lose_power(&self, disk: &mut Disk, node: NodeId) {
        // What was being written may have reached the medium in part.
        for (_, op) in std::mem::take(&mut disk.in_flight) {
            if let (DiskOp::Write { offset, bytes, .. }, Some(inode)) =
                (op.what, disk.inodes.get_mut(&op.inode))
            {
                inode.change(What::Write(offset, bytes), false);
            }
        }
        let mut lost = 0;
        for inode in disk.inodes.values_mut() {
            lost += self.lose_content(inode);
        }
        if lost > 0 {
            self.count("unsynced sectors lost", node as u64);
        }
        let names = self.lose_names(disk);
        if names > 0 {
            self.count("unsynced names lost", node as u64);
        }
    }

    fn lose_content(&self, inode: &mut Inode) -> u64 {
        // Disks and file systems differ: some write in order until the end, some as they like, some not at all.
        let way = self.below(5);
        let total = inode.changes.len() as u64;
        let kept_until = self.below(total + 1);
        let mut lost = 0;
        for (index, change) in std::mem::take(&mut inode.changes).into_iter().enumerate() {
            inode.settled += 1;
            let keep = || {
                change.durable
                    || match way {
                        0 => false,
                        1 => true,
                        2 => (index as u64) < kept_until,
                        _ => self.below(2) == 0,
                    }
            };
            match &change.what {
                What::Len(len) => {
                    if keep() {
                        inode.kept.set_len(*len);
                    } else {
                        lost += 1;
                    }
                }
                What::Write(offset, bytes) => {
                    for (at, piece) in sectors(*offset, bytes) {
                        if keep() {
                            inode.kept.write_within(at, piece);
                        } else {
                            lost += 1;
                        }
                    }
                    let end = offset + bytes.len() as u64;
                    if end > inode.kept.len() && keep() {
                        inode.kept.set_len(end);
                    }
                }
            }
        }
        // What was written behind the end that is left is not there, should the file grow again.
        let len = inode.kept.len();
        inode.kept.set_len(u64::MAX / 2);
        inode.kept.set_len(len);
        inode.seen = inode.kept.clone();
        lost
    }
}

/// `bytes` in pieces that each lie in one sector.
fn sectors(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at == bytes.len() {
            return None;
        }
        let position = offset + at as u64;
        let step = ((SECTOR_BYTES - position % SECTOR_BYTES) as usize).min(bytes.len() - at);
        at += step;
        Some((position, &bytes[at - step..at]))
    })
}
