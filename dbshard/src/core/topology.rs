//! Who has which slot.
//!
//! Each shard is a node of the cluster to its clients: an id of its own, an address, a range of slots. Fixed while the
//! process runs.

use std::ops::Range;
use wire::resp::slot::SLOTS;

/// One shard as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// 40 hexadecimal digits.
    pub id: String,
    /// The host that clients are told.
    pub host: String,
    /// The port that clients are told.
    pub port: u16,
    /// The slots it serves.
    pub slots: Range<u16>,
}

/// All shards, in the order of their slots.
#[derive(Clone, Debug)]
pub struct Topology {
    /// The shards.
    pub nodes: Vec<Node>,
}

/// The slots of shard `number` out of `shards`: as even as can be, in one piece each.
#[must_use]
pub fn slots_of(number: usize, shards: usize) -> Range<u16> {
    let from = |number: usize| (usize::from(SLOTS) * number / shards) as u16;
    from(number)..from(number + 1)
}

impl Topology {
    /// The shard that serves a slot. Every slot has one.
    #[must_use]
    pub fn owner(&self, slot: u16) -> &Node {
        let at = self.nodes.partition_point(|node| node.slots.end <= slot);
        &self.nodes[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_one_owner() {
        for shards in [1, 2, 3, 7, 16, 100] {
            let nodes = (0..shards).map(|number| Node {
                id: format!("{number:040x}"),
                host: "127.0.0.1".into(),
                port: 7001 + number as u16,
                slots: slots_of(number, shards),
            });
            let topology = Topology { nodes: nodes.collect() };
            let mut next = 0;
            for node in &topology.nodes {
                assert_eq!(node.slots.start, next);
                next = node.slots.end;
                assert!(node.slots.clone().all(|slot| topology.owner(slot) == node));
            }
            assert_eq!(next, SLOTS);
        }
        assert_eq!(slots_of(0, 3), 0..5461);
    }
}
