//! The entries that a log held when it was opened.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{GroupId, Index};

/// The entries that were in the log and not truncated, in log order. All of them are committed.
///
/// It holds them all in memory; `Log::open_with` hands them over one by one instead.
#[derive(Debug, Default)]
pub struct Recovered {
    entries: Vec<(GroupId, Index, Bytes)>,
}

impl Recovered {
    pub(crate) fn push(&mut self, group: GroupId, index: Index, bytes: Bytes) {
        self.entries.push((group, index, bytes));
    }

    /// The groups that have entries here, each with its first and last index.
    pub fn groups(&self) -> BTreeMap<GroupId, (Index, Index)> {
        let mut groups = BTreeMap::new();
        for (group, index, _) in &self.entries {
            groups.entry(*group).or_insert((*index, *index)).1 = *index;
        }
        groups
    }

    /// Takes out the entries of one group, in order. Empty when it has none.
    pub fn take(&mut self, group: GroupId) -> Vec<(Index, Bytes)> {
        let taken = self.entries.extract_if(.., |(of, _, _)| *of == group);
        taken.map(|(_, index, bytes)| (index, bytes)).collect()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl IntoIterator for Recovered {
    type Item = (GroupId, Index, Bytes);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    /// All entries in log order.
    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}
