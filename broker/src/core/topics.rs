//! Which topics exist: a state machine over [`Change`]s, the same on every core and after every restart.
//!
//! Changes are decided by one core (the controller), logged, and applied once durable. Each carries the version of
//! the table it makes, so that applying one twice does nothing.
//!
//! A partition is known by a number (`uid`) that is never used again: a topic deleted and made anew has new ones.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::topic_config::Overrides;

/// The longest topic name (Kafka's own limit).
pub const NAME_BYTES_MAX: usize = 249;

/// Producer ids are handed to cores in blocks of this many.
pub const PRODUCER_ID_BLOCK: i64 = 1000;

/// The nodes that have a replica of a partition.
pub type Replicas = Vec<i32>;

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id (KIP-516), the two halves of a UUID.
    pub id: [u64; 2],
    /// The uids of its partitions, by index.
    pub partitions: Vec<u64>,
    /// The nodes that have a replica of each partition, by index; the first is preferred as the leader.
    pub replicas: Vec<Replicas>,
    /// Its settings, where they differ from the broker's.
    pub overrides: Overrides,
}

/// One change of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The version that the table has after it.
    pub version: u64,
    /// What changes.
    pub action: Action,
}

/// What a change does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// A topic comes to be.
    Create(Topic),
    /// A topic and all its data go.
    Delete {
        /// Its name.
        name: String,
    },
    /// A topic gets more partitions.
    AddPartitions {
        /// Its name.
        name: String,
        /// The new partitions' uids.
        uids: Vec<u64>,
        /// Their replicas.
        replicas: Vec<Replicas>,
    },
    /// A topic's settings are replaced.
    Configure {
        /// Its name.
        name: String,
        /// The new overrides.
        overrides: Overrides,
    },
    /// Producer ids below this one are given out.
    ProducerIds {
        /// The next id.
        next: i64,
    },
}

/// The table.
#[derive(Debug, Clone, Default)]
pub struct Topics {
    version: u64,
    next_uid: u64,
    next_producer_id: i64,
    by_name: HashMap<String, Arc<Topic>>,
    names_by_id: HashMap<[u64; 2], String>,
    partitions: usize,
}

/// The table as stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stored {
    version: u64,
    next_uid: u64,
    next_producer_id: i64,
    topics: Vec<Topic>,
}

/// Why a topic name is refused.
///
/// # Errors
/// What to tell the client with INVALID_TOPIC_EXCEPTION.
pub fn validate_name(name: &str) -> Result<(), String> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if name.is_empty() || name == "." || name == ".." {
        Err(format!("a topic can't be named {name:?}"))
    } else if name.len() > NAME_BYTES_MAX {
        Err(format!("a topic name has at most {NAME_BYTES_MAX} characters"))
    } else if !name.bytes().all(legal) {
        Err("a topic name has only letters, digits, '.', '_' and '-'".into())
    } else {
        Ok(())
    }
}

impl Topics {
    /// The table's version: how many changes made it.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The topic of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name)
    }

    /// The topic of this id.
    #[must_use]
    pub fn by_id(&self, id: [u64; 2]) -> Option<&Arc<Topic>> {
        self.names_by_id.get(&id).and_then(|name| self.by_name.get(name))
    }

    /// The uid of a partition.
    #[must_use]
    pub fn partition(&self, name: &str, index: i32) -> Option<u64> {
        let index = usize::try_from(index).ok()?;
        self.by_name.get(name)?.partitions.get(index).copied()
    }

    /// Whether a partition of this uid is in the table, or was.
    #[must_use]
    pub fn has_known(&self, uid: u64) -> bool {
        uid < self.next_uid
    }

    /// All topics, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.values()
    }

    /// How many topics there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// How many partitions there are in all.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.partitions
    }

    fn change(&self, action: Action) -> Change {
        Change { version: self.version + 1, action }
    }

    /// The change that creates a topic, with a partition for each of `replicas`; the caller has checked name, count and
    /// settings. `id` is random.
    #[must_use]
    pub fn create(&self, name: &str, replicas: Vec<Replicas>, overrides: Overrides, id: [u64; 2]) -> Change {
        let partitions = self.next_uids(replicas.len());
        self.change(Action::Create(Topic { name: name.into(), id, partitions, replicas, overrides }))
    }

    fn next_uids(&self, count: usize) -> Vec<u64> {
        (0..count as u64).map(|i| self.next_uid + i).collect()
    }

    /// Replicas of so many new partitions on `nodes`, each on `factor` of them: leaders and replicas in turns.
    #[must_use]
    pub fn spread(&self, count: u32, factor: usize, nodes: &[i32]) -> Vec<Replicas> {
        let first = self.next_uid as usize;
        let replica = |partition: usize, r: usize| nodes[(first + partition + r) % nodes.len()];
        let of = |partition: usize| (0..factor).map(|r| replica(partition, r)).collect();
        (0..count as usize).map(of).collect()
    }

    /// The change that deletes a topic.
    #[must_use]
    pub fn delete(&self, name: &str) -> Change {
        self.change(Action::Delete { name: name.into() })
    }

    /// The change that adds partitions to a topic.
    #[must_use]
    pub fn add_partitions(&self, name: &str, replicas: Vec<Replicas>) -> Change {
        let uids = self.next_uids(replicas.len());
        self.change(Action::AddPartitions { name: name.into(), uids, replicas })
    }

    /// The change that replaces a topic's settings.
    #[must_use]
    pub fn configure(&self, name: &str, overrides: Overrides) -> Change {
        self.change(Action::Configure { name: name.into(), overrides })
    }

    /// The change that takes a block of [`PRODUCER_ID_BLOCK`] producer ids, and the first of them.
    #[must_use]
    pub fn producer_ids(&self) -> (Change, i64) {
        let first = self.next_producer_id;
        (self.change(Action::ProducerIds { next: first + PRODUCER_ID_BLOCK }), first)
    }

    /// Applies a change; one that the table has already does nothing.
    ///
    /// # Panics
    /// When a change in between is missing: the log lost one.
    pub fn apply(&mut self, change: &Change) {
        if change.version <= self.version {
            return;
        }
        assert_eq!(change.version, self.version + 1, "a change of the topic table is missing");
        self.version = change.version;
        match &change.action {
            Action::Create(topic) => self.insert(topic.clone()),
            Action::Delete { name } => {
                if let Some(topic) = self.by_name.remove(name) {
                    self.names_by_id.remove(&topic.id);
                    self.partitions -= topic.partitions.len();
                }
            }
            Action::AddPartitions { name, uids, replicas } => {
                self.next_uid = uids.iter().fold(self.next_uid, |next, uid| next.max(uid + 1));
                if let Some(topic) = self.by_name.get_mut(name) {
                    let topic = Arc::make_mut(topic);
                    topic.partitions.extend(uids);
                    topic.replicas.extend(replicas.iter().cloned());
                    self.partitions += uids.len();
                }
            }
            Action::Configure { name, overrides } => {
                if let Some(topic) = self.by_name.get_mut(name) {
                    Arc::make_mut(topic).overrides.clone_from(overrides);
                }
            }
            Action::ProducerIds { next } => self.next_producer_id = *next,
        }
    }

    fn insert(&mut self, topic: Topic) {
        self.next_uid = topic.partitions.iter().fold(self.next_uid, |next, uid| next.max(uid + 1));
        self.partitions += topic.partitions.len();
        self.names_by_id.insert(topic.id, topic.name.clone());
        self.by_name.insert(topic.name.clone(), Arc::new(topic));
    }

    /// The stored form.
    #[must_use]
    pub fn store(&self) -> Stored {
        let mut topics: Vec<Topic> = self.by_name.values().map(|t| Topic::clone(t)).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Stored {
            version: self.version,
            next_uid: self.next_uid,
            next_producer_id: self.next_producer_id,
            topics,
        }
    }

    /// From the stored form.
    #[must_use]
    pub fn load(stored: Stored) -> Self {
        let mut topics = Self::default();
        for topic in stored.topics {
            topics.insert(topic);
        }
        topics.version = stored.version;
        topics.next_uid = topics.next_uid.max(stored.next_uid);
        topics.next_producer_id = stored.next_producer_id;
        topics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_same_after_replay_and_storage() {
        let mut table = Topics::default();
        let mut changes = Vec::new();
        let mut run = |table: &mut Topics, change: Change| {
            table.apply(&change);
            changes.push(change);
        };
        let change = table.create("a", vec![vec![1]; 3], Overrides::new(), [1, 1]);
        run(&mut table, change);
        let change = table.create("b", vec![vec![2, 1]], Overrides::new(), [1, 2]);
        run(&mut table, change);
        let change = table.add_partitions("b", vec![vec![1, 2]; 2]);
        run(&mut table, change);
        let change = table.delete("a");
        run(&mut table, change);
        let change = table.create("a", vec![vec![1]], Overrides::new(), [1, 3]);
        run(&mut table, change);
        let change = table.configure("a", Overrides::from([("retention.ms".into(), "1".into())]));
        run(&mut table, change);
        let (change, first) = table.producer_ids();
        run(&mut table, change);
        assert_eq!((first, table.producer_ids().1), (0, PRODUCER_ID_BLOCK));
        assert_eq!(table.partition("a", 0), Some(6), "uids are never used again");
        assert_eq!(table.get("b").unwrap().partitions, [3, 4, 5]);
        assert_eq!(table.get("b").unwrap().replicas, [[2, 1], [1, 2], [1, 2]]);
        assert_eq!(table.spread(3, 2, &[1, 2, 3]), [[2, 3], [3, 1], [1, 2]], "the next uid is 7");
        assert_eq!((table.partition("b", 3), table.partition("b", -1)), (None, None));
        assert_eq!((table.len(), table.partitions()), (2, 4));
        assert!(table.by_id([1, 1]).is_none());

        let stored = serde_json::to_vec(&table.store()).unwrap();
        let mut again = Topics::load(serde_json::from_slice(&stored).unwrap());
        for change in &changes {
            let logged = serde_json::to_vec(change).unwrap();
            again.apply(&serde_json::from_slice(&logged).unwrap());
        }
        assert_eq!(serde_json::to_vec(&again.store()).unwrap(), stored);
        assert_eq!(again.by_id([1, 3]).unwrap().name, "a");
    }

    #[test]
    fn names_are_kafkas() {
        for name in ["", ".", "..", "a b", "a/b", "ü", &"x".repeat(250)] {
            assert!(validate_name(name).is_err(), "{name}");
        }
        for name in ["a", "a.b_c-D9", "...", &"x".repeat(249)] {
            assert_eq!(validate_name(name), Ok(()), "{name}");
        }
    }
}
