//! What consumer groups committed: a state machine over [`Action`]s, one per coordinator.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The longest metadata text of a commit, bytes (Kafka's offset.metadata.max.bytes).
pub const METADATA_BYTES_MAX: usize = 4096;

/// What was committed for one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The offset to read next.
    pub offset: i64,
    /// Leader epoch of the last record read; −1 when not said.
    pub leader_epoch: i32,
    /// The client's note.
    pub metadata: String,
    /// When, ms since the epoch.
    pub time_ms: i64,
}

/// What a committed offset takes beside its texts, and a group beside its name, bytes, about.
const PLACE_BYTES: usize = 128;

fn cost(((topic, _), committed): &(Place, Committed)) -> usize {
    PLACE_BYTES + topic.len() + committed.metadata.len()
}

/// A topic's name and a partition's index.
pub type Place = (String, i32);

/// What a change does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Offsets of a group are set.
    Commit {
        /// The group.
        group: String,
        /// Where and what.
        offsets: Vec<(Place, Committed)>,
    },
    /// Offsets of a group are forgotten.
    Forget {
        /// The group.
        group: String,
        /// Which; `None` for all.
        places: Option<Vec<Place>>,
    },
    /// A topic is gone: every group forgets it.
    ForgetTopic {
        /// The topic.
        topic: String,
    },
}

/// The committed offsets of a coordinator's groups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offsets {
    /// As pairs, because the stored form knows only text keys.
    groups: BTreeMap<String, Vec<(Place, Committed)>>,
    /// What all of it takes; counted anew when it is read back.
    #[serde(skip)]
    bytes: usize,
}

impl Offsets {
    /// What all of it takes, bytes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// To be called once it has been read back.
    pub fn count_bytes(&mut self) {
        let of_group = |(group, known): (&String, &Vec<_>)| {
            PLACE_BYTES + group.len() + known.iter().map(cost).sum::<usize>()
        };
        self.bytes = self.groups.iter().map(of_group).sum();
    }

    /// What a group committed for a partition.
    #[must_use]
    pub fn get(&self, group: &str, topic: &str, partition: i32) -> Option<&Committed> {
        let offsets = self.groups.get(group)?;
        let at = offsets.binary_search_by(|((t, p), _)| (t.as_str(), *p).cmp(&(topic, partition))).ok()?;
        Some(&offsets[at].1)
    }

    /// All that a group committed, by topic and partition.
    #[must_use]
    pub fn group(&self, group: &str) -> &[(Place, Committed)] {
        self.groups.get(group).map_or(&[], Vec::as_slice)
    }

    /// The groups that committed anything.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str)
    }

    /// The topics that groups committed for.
    #[must_use]
    pub fn topics(&self) -> BTreeSet<String> {
        self.groups.values().flatten().map(|((topic, _), _)| topic.clone()).collect()
    }

    /// Applies a change.
    pub fn apply(&mut self, action: Action) {
        match action {
            Action::Commit { group, offsets } => {
                if !self.groups.contains_key(&group) {
                    self.bytes += PLACE_BYTES + group.len();
                }
                let known = self.groups.entry(group).or_default();
                for entry in offsets {
                    self.bytes += cost(&entry);
                    match known.binary_search_by(|(p, _)| p.cmp(&entry.0)) {
                        Ok(at) => self.bytes -= cost(&std::mem::replace(&mut known[at], entry)),
                        Err(at) => known.insert(at, entry),
                    }
                }
            }
            Action::Forget { group, places: None } => {
                self.groups.remove(&group);
                self.count_bytes();
            }
            Action::Forget { group, places: Some(places) } => {
                let places: BTreeSet<Place> = places.into_iter().collect();
                if let Some(known) = self.groups.get_mut(&group) {
                    known.retain(|(place, _)| !places.contains(place));
                }
                self.groups.retain(|_, known| !known.is_empty());
                self.count_bytes();
            }
            Action::ForgetTopic { topic } => {
                for known in self.groups.values_mut() {
                    known.retain(|((t, _), _)| *t != topic);
                }
                self.groups.retain(|_, known| !known.is_empty());
                self.count_bytes();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64) -> Committed {
        Committed { offset, leader_epoch: 0, metadata: "note".into(), time_ms: 5 }
    }

    #[test]
    fn commits_replace_and_are_forgotten() {
        let mut table = Offsets::default();
        let commit = |offsets: Vec<(Place, Committed)>| Action::Commit { group: "g".into(), offsets };
        table.apply(commit(vec![
            (("t".into(), 1), at(5)),
            (("t".into(), 0), at(3)),
            (("u".into(), 0), at(9)),
        ]));
        table.apply(commit(vec![(("t".into(), 1), at(6))]));
        assert_eq!(table.get("g", "t", 1), Some(&at(6)));
        assert_eq!(table.get("g", "t", 2), None);
        assert_eq!(table.group("g").len(), 3);
        let stored = serde_json::to_string(&table).unwrap();
        let mut again: Offsets = serde_json::from_str(&stored).unwrap();
        again.count_bytes();
        assert_eq!(again, table, "the bytes too");
        table.apply(Action::Forget { group: "g".into(), places: Some(vec![("t".into(), 1)]) });
        assert_eq!(table.group("g").len(), 2);
        table.apply(Action::ForgetTopic { topic: "t".into() });
        assert_eq!(table.topics(), BTreeSet::from(["u".to_owned()]));
        table.apply(Action::Forget { group: "g".into(), places: None });
        assert_eq!((table.groups().count(), table.bytes()), (0, 0));
    }
}
