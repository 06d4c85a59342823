//! What is logged: effects on the map, and the map as a whole in its files and snapshots.
//!
//! ```text
//! entry = version (1): 1, base (8), effects
//! file  = "MILLMAPS", version (4): 1, checksum of all behind it (4), index (8), map
//! ```
//!
//! Always holds: an entry was made from one version of the map, and is taken only by that one, on every node alike;
//! so of two that were made at once only one is. Another version of these formats is refused.

use std::sync::Arc;

use bytes::Bytes;
use replog::{GroupId, Index, NodeId};

use super::codec::{Coded, coded_enum};
use super::map::{Group, Map, Node, Record};

const VERSION: u8 = 1;
const FILE_MAGIC: [u8; 8] = *b"MILLMAPS";
const FILE_VERSION: u32 = 1;

/// A change of the map, as it comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The cluster begins.
    Found(u64, String),
    /// A node, as it is from now on.
    Node(Arc<Node>),
    NodeGone(NodeId),
    /// A group, as it is from now on.
    Group(Arc<Group>),
    GroupGone(GroupId),
    Record(Bytes, Bytes),
    RecordGone(Bytes),
}

coded_enum!(Effect {
    1 = Found(cluster, kind),
    2 = Node(node),
    3 = NodeGone(node),
    4 = Group(group),
    5 = GroupGone(group),
    6 = Record(key, value),
    7 = RecordGone(key),
});

/// Effects that are taken together, if the map is what they were made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The version of the map.
    pub(crate) base: u64,
    pub(crate) effects: Vec<Effect>,
}

impl Entry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        self.base.put(&mut out);
        self.effects.put(&mut out);
        out
    }

    /// `None`: it is of another version, or damaged.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Entry> {
        let (version, mut rest) = bytes.split_first()?;
        let entry = Entry { base: u64::take(&mut rest)?, effects: Coded::take(&mut rest)? };
        (*version == VERSION && rest.is_empty()).then_some(entry)
    }
}

impl Map {
    /// Takes an entry, if it was made from this version; says whether.
    pub(crate) fn take_entry(&mut self, entry: &Entry) -> bool {
        if entry.base != self.version {
            return false;
        }
        self.version += 1;
        entry.effects.iter().for_each(|effect| self.take_effect(effect));
        true
    }

    pub(crate) fn take_effect(&mut self, effect: &Effect) {
        match effect {
            Effect::Found(cluster, kind) => (self.cluster, self.kind) = (*cluster, kind.clone()),
            Effect::Node(node) => {
                self.next_node = self.next_node.max(node.id.0 + 1);
                self.nodes.insert(node.id, node.clone());
            }
            Effect::NodeGone(node) => drop(self.nodes.remove(node)),
            Effect::Group(group) => {
                self.next_group = self.next_group.max(group.id.0 + 1);
                self.groups.insert(group.id, group.clone());
            }
            Effect::GroupGone(group) => drop(self.groups.remove(group)),
            Effect::Record(key, value) => {
                let record = Record { since: self.version, value: value.clone() };
                self.records.insert(key.clone(), record);
            }
            Effect::RecordGone(key) => drop(self.records.remove(key)),
        }
    }

    /// The map as a file or snapshot, with everything of the metadata group up to `index`.
    pub(crate) fn to_file(&self, index: Index) -> Vec<u8> {
        let mut body = Vec::new();
        index.put(&mut body);
        self.put(&mut body);
        let mut out = FILE_MAGIC.to_vec();
        FILE_VERSION.put(&mut out);
        crc32fast::hash(&body).put(&mut out);
        out.extend_from_slice(&body);
        out
    }

    /// Reads what [`Map::to_file`] has written.
    pub(crate) fn from_file(bytes: &[u8]) -> Result<(Index, Map), &'static str> {
        let damaged = "it is damaged";
        let (magic, mut rest) = bytes.split_at_checked(8).ok_or(damaged)?;
        if magic != FILE_MAGIC {
            return Err("it holds no map of a cluster");
        }
        if u32::take(&mut rest).ok_or(damaged)? != FILE_VERSION {
            return Err("it was written by another version of this program");
        }
        let checksum = u32::take(&mut rest).ok_or(damaged)?;
        if crc32fast::hash(rest) != checksum {
            return Err(damaged);
        }
        <(Index, Map)>::from_all(rest).ok_or(damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::map::NodeState;

    fn entry() -> Entry {
        let node = Node {
            id: NodeId(3),
            name: "c".into(),
            token: 9,
            boot: 8,
            peer: "127.0.0.1:1".into(),
            clients: [("0".to_owned(), "127.0.0.1:2".to_owned())].into(),
            state: NodeState::Draining,
            up: true,
            weight: 100,
        };
        let group = Group::new(GroupId(7), 3, vec![NodeId(3), NodeId(1)], Bytes::from_static(b"p"), 1);
        let effects = vec![
            Effect::Found(5, "test".into()),
            Effect::Node(Arc::new(node)),
            Effect::Group(Arc::new(group)),
            Effect::Record(Bytes::from_static(b"k"), Bytes::from_static(b"v")),
            Effect::RecordGone(Bytes::from_static(b"none")),
            Effect::GroupGone(GroupId(1)),
            Effect::NodeGone(NodeId(2)),
        ];
        Entry { base: 0, effects }
    }

    #[test]
    fn entries_and_maps_come_back_and_nothing_else_does() {
        let entry = entry();
        let bytes = entry.encode();
        assert_eq!(Entry::decode(&bytes), Some(entry.clone()));
        assert!((0..bytes.len()).all(|len| Entry::decode(&bytes[..len]).is_none()));
        let mut newer = bytes.clone();
        newer[0] = 2;
        assert_eq!(Entry::decode(&newer), None);

        let mut map = Map::default();
        assert!(map.take_entry(&entry));
        assert!(!map.take_entry(&entry), "made from another version");
        assert_eq!((map.version, map.next_node, map.next_group), (1, 4, 8));
        let file = map.to_file(Index(12));
        assert_eq!(Map::from_file(&file), Ok((Index(12), map)));
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 4;
            assert!(Map::from_file(&damaged).is_err(), "byte {at}");
        }
    }
}
