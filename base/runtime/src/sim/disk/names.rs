//! Names: which file or folder a path is, as seen and as kept.

use super::{Disk, InodeId};
use crate::sim::kernel::Kernel;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    File(InodeId),
    Folder,
}

/// A change of names that power loss may undo until its folder is synced.
#[derive(Debug, Clone)]
pub(super) enum NameChange {
    Made(PathBuf, Entry),
    Removed(PathBuf),
    Renamed(PathBuf, PathBuf, Entry),
}

type Names = BTreeMap<PathBuf, Entry>;

impl NameChange {
    /// The folder whose sync makes it durable.
    fn folder(&self) -> &Path {
        let path = match self {
            NameChange::Made(path, _) | NameChange::Removed(path) | NameChange::Renamed(_, path, _) => path,
        };
        path.parent().unwrap_or(path)
    }

    pub(super) fn inode(&self) -> Option<InodeId> {
        match self {
            NameChange::Made(_, Entry::File(id)) | NameChange::Renamed(_, _, Entry::File(id)) => Some(*id),
            _ => None,
        }
    }

    fn apply(&self, names: &mut Names) {
        match self {
            NameChange::Made(path, entry) => {
                names.insert(path.clone(), *entry);
            }
            NameChange::Removed(path) => {
                names.remove(path);
            }
            NameChange::Renamed(from, to, entry) => {
                names.remove(from);
                names.insert(to.clone(), *entry);
                if *entry == Entry::Folder {
                    move_below(names, from, to);
                }
            }
        }
    }
}

fn move_below(names: &mut Names, from: &Path, to: &Path) {
    let below: Vec<PathBuf> = names.keys().filter(|path| path.starts_with(from)).cloned().collect();
    for path in below {
        let entry = names.remove(&path).expect("it was listed");
        let rest = path.strip_prefix(from).expect("it is below").to_owned();
        names.insert(to.join(rest), entry);
    }
}

/// The path from the root on: nodes work in `/`.
pub(super) fn absolute(path: &Path) -> PathBuf {
    let mut whole = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => whole.push(name),
            Component::ParentDir => {
                whole.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    whole
}

impl Disk {
    pub(super) fn entry(&self, path: &Path) -> Option<Entry> {
        self.seen.get(&absolute(path)).copied()
    }

    pub(super) fn file(&self, path: &Path) -> Option<InodeId> {
        match self.entry(path) {
            Some(Entry::File(id)) => Some(id),
            _ => None,
        }
    }

    pub(super) fn has_folder(&self, path: &Path) -> bool {
        self.entry(path) == Some(Entry::Folder)
    }

    pub(super) fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.seen);
        self.name_changes.push(change);
    }

    /// What is directly in a folder.
    pub(super) fn listed(&self, folder: &Path) -> Vec<PathBuf> {
        let folder = absolute(folder);
        self.seen.keys().filter(|path| path.parent() == Some(&folder)).cloned().collect()
    }

    /// Makes the names in a folder durable.
    pub(super) fn keep_names(&mut self, folder: &Path) {
        let folder = absolute(folder);
        let changes = std::mem::take(&mut self.name_changes);
        for change in changes {
            if change.folder() == folder {
                change.apply(&mut self.kept);
            } else {
                self.name_changes.push(change);
            }
        }
    }
}

impl Kernel {
    /// Decides which unsynced names survive; gives how many did not.
    pub(super) fn lose_names(&self, disk: &mut Disk) -> u64 {
        let way = self.below(4);
        let changes = std::mem::take(&mut disk.name_changes);
        let kept_until = self.below(changes.len() as u64 + 1);
        let mut lost = 0;
        for (index, change) in changes.iter().enumerate() {
            let keep = match way {
                0 => false,
                1 => (index as u64) < kept_until, // a journal
                _ => self.below(2) == 0,
            };
            if keep {
                change.apply(&mut disk.kept);
            } else {
                lost += 1;
            }
        }
        // What lies in a folder that is not there is not there either; parents come before their children in order.
        let mut names = Names::new();
        for (path, entry) in std::mem::take(&mut disk.kept) {
            let parent = path.parent();
            if parent.is_none_or(|parent| names.get(parent) == Some(&Entry::Folder)) {
                names.insert(path, entry);
            }
        }
        disk.seen.clone_from(&names);
        disk.kept = names;
        lost
    }
}
