//! The entries that a log held when it was opened.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::{GroupId, Index};

/// The entries that were in the log and not truncated, in log order. All of them are committed.
///
/// It holds them all in memory, and those of one batch share theirs: copy what you keep for long. `Log::open_with` hands
/// them over one by one instead.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The group of each entry, in log order; those of groups that were taken out are passed over.
    order: Vec<GroupId>,
    groups: BTreeMap<GroupId, VecDeque<(Index, Bytes)>>,
}

impl Recovered {
    pub(crate) fn push(&mut self, group: GroupId, index: Index, bytes: Bytes) {
        self.order.push(group);
        self.groups.entry(group).or_default().push_back((index, bytes));
    }

    /// The groups that have entries here, each with its first and last index.
    pub fn groups(&self) -> BTreeMap<GroupId, (Index, Index)> {
        let ends = |entries: &VecDeque<(Index, Bytes)>| Some((entries.front()?.0, entries.back()?.0));
        self.groups.iter().filter_map(|(group, entries)| Some((*group, ends(entries)?))).collect()
    }

    /// Takes out the entries of one group, in order. Empty when it has none.
    pub fn take(&mut self, group: GroupId) -> Vec<(Index, Bytes)> {
        self.groups.remove(&group).map(Vec::from).unwrap_or_default()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.groups.values().map(VecDeque::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// All entries that were not taken out, in log order.
    pub fn into_entries(mut self) -> impl Iterator<Item = (GroupId, Index, Bytes)> {
        self.order.into_iter().filter_map(move |group| {
            let (index, bytes) = self.groups.get_mut(&group)?.pop_front()?;
            Some((group, index, bytes))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_in_log_order_without_what_was_taken() {
        let mut recovered = Recovered::default();
        for (group, index) in [(1, 5), (2, 1), (3, 9), (1, 6), (2, 2)] {
            recovered.push(GroupId(group), Index(index), Bytes::new());
        }
        assert_eq!(recovered.len(), 5);
        assert_eq!(recovered.groups()[&GroupId(1)], (Index(5), Index(6)));
        assert_eq!(recovered.take(GroupId(3)), [(Index(9), Bytes::new())]);
        assert_eq!(recovered.take(GroupId(3)), []);
        let rest: Vec<_> = recovered.into_entries().map(|(group, index, _)| (group.0, index.0)).collect();
        assert_eq!(rest, [(1, 5), (2, 1), (1, 6), (2, 2)]);
    }
}
