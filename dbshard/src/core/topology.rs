//! Who has which slot, and who leads there.
//!
//! Each shard has replicas on several nodes, each a node of the cluster to its clients: an id of its own and an address. One of
//! them leads. Who has which slots is fixed while the process runs; who leads, and which nodes are away, the shells of
//! all cores note here as they learn of it.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use wire::resp::slot::SLOTS;

/// One replica of a shard as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// 40 hexadecimal digits.
    pub id: String,
    /// The number of the node that it is on, from 1.
    pub number: u64,
    /// The host that clients are told.
    pub host: String,
    /// The port that clients are told.
    pub port: u16,
}

/// One shard.
#[derive(Debug)]
pub struct Place {
    /// The slots it serves.
    pub slots: Range<u16>,
    /// Its replicas; the first is to lead where it can.
    pub replicas: Vec<Node>,
    /// Which of the replicas led when that was last known.
    leader: AtomicUsize,
    /// It still does, as far as is known.
    is_led: AtomicBool,
}

/// All shards, in the order of their slots.
#[derive(Debug)]
pub struct Topology {
    /// The shards.
    pub shards: Vec<Place>,
    /// Nodes that are not heard any more, by number from 1.
    away: Vec<AtomicBool>,
}

/// The slots of shard `number` out of `shards`: as even as can be, in one piece each.
#[must_use]
pub fn slots_of(number: usize, shards: usize) -> Range<u16> {
    let from = |number: usize| (usize::from(SLOTS) * number / shards) as u16;
    from(number)..from(number + 1)
}

/// Which nodes out of `nodes` (counted from 0) have a replica of shard `shard`; the first is to lead.
pub fn nodes_of(shard: usize, nodes: usize, replicas: usize) -> impl Iterator<Item = usize> {
    (0..replicas.min(nodes)).map(move |replica| (shard + replica) % nodes)
}

/// The id of a shard's replica on a node, the same wherever it is worked out.
#[must_use]
pub fn id_of(cluster: u64, node: u64, shard: usize) -> String {
    // The finishing steps of SplitMix64 after each number.
    let mixed = |salt: u64| {
        [cluster, node, shard as u64].into_iter().fold(salt, |state, number| {
            let mut z = (state ^ number).wrapping_add(0x9E37_79B9_7F4A_7C15);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        })
    };
    format!("{:016x}{:016x}{:08x}", mixed(1), mixed(2), mixed(3) as u32)
}

impl Place {
    /// A shard that nobody leads yet.
    #[must_use]
    pub fn new(slots: Range<u16>, replicas: Vec<Node>) -> Self {
        Self { slots, replicas, leader: AtomicUsize::new(0), is_led: AtomicBool::new(false) }
    }

    /// The replica that leads, or led last.
    #[must_use]
    pub fn master(&self) -> &Node {
        &self.replicas[self.leader.load(Ordering::Relaxed)]
    }

    /// The replica that leads, if any is known to.
    #[must_use]
    pub fn leader(&self) -> Option<&Node> {
        self.is_led.load(Ordering::Relaxed).then(|| self.master())
    }

    /// Notes that the replica on this node leads, or that none is known to.
    pub fn set_leader(&self, node: Option<u64>) {
        let at = node.and_then(|number| self.replicas.iter().position(|replica| replica.number == number));
        if let Some(at) = at {
            self.leader.store(at, Ordering::Relaxed);
        }
        self.is_led.store(at.is_some(), Ordering::Relaxed);
    }

    /// The replicas that do not lead.
    pub fn followers(&self) -> impl Iterator<Item = &Node> {
        let leader = self.leader.load(Ordering::Relaxed);
        self.replicas.iter().enumerate().filter(move |(at, _)| *at != leader).map(|(_, node)| node)
    }
}

impl Topology {
    /// These shards, in the order of their slots, which leave no slot out.
    #[must_use]
    pub fn new(shards: Vec<Place>) -> Self {
        let numbers = shards.iter().flat_map(|place| &place.replicas).map(|node| node.number);
        let nodes = numbers.max().unwrap_or(0) as usize + 1;
        Self { shards, away: (0..nodes).map(|_| AtomicBool::new(false)).collect() }
    }

    /// The shard that serves a slot. Every slot has one.
    #[must_use]
    pub fn owner(&self, slot: u16) -> &Place {
        let at = self.shards.partition_point(|place| place.slots.end <= slot);
        &self.shards[at]
    }

    /// Notes whether a node is heard.
    pub fn set_away(&self, number: u64, away: bool) {
        if let Some(known) = self.away.get(number as usize) {
            known.store(away, Ordering::Relaxed);
        }
    }

    /// Whether a node is not heard any more.
    #[must_use]
    pub fn is_away(&self, number: u64) -> bool {
        self.away.get(number as usize).is_some_and(|away| away.load(Ordering::Relaxed))
    }

    /// How many replicas there are.
    #[must_use]
    pub fn replicas(&self) -> usize {
        self.shards.iter().map(|place| place.replicas.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_one_owner() {
        for shards in [1, 2, 3, 7, 16, 100] {
            let places = (0..shards).map(|number| Place::new(slots_of(number, shards), Vec::new()));
            let topology = Topology::new(places.collect());
            let mut next = 0;
            for place in &topology.shards {
                assert_eq!(place.slots.start, next);
                next = place.slots.end;
                assert!(place.slots.clone().all(|slot| std::ptr::eq(topology.owner(slot), place)));
            }
            assert_eq!(next, SLOTS);
        }
        assert_eq!(slots_of(0, 3), 0..5461);
    }

    #[test]
    fn replicas_are_on_different_nodes_and_leaders_spread() {
        for (nodes, replicas) in [(1, 1), (3, 3), (5, 3), (4, 3)] {
            let mut leads = vec![0; nodes];
            for shard in 0..12 {
                let mut on: Vec<usize> = nodes_of(shard, nodes, replicas).collect();
                leads[on[0]] += 1;
                on.sort_unstable();
                on.dedup();
                assert_eq!(on.len(), replicas);
            }
            let (least, most) = (leads.iter().min().copied(), leads.iter().max().copied());
            assert!(most.unwrap_or(0) - least.unwrap_or(0) <= 1, "{leads:?}");
        }
    }

    #[test]
    fn ids_differ_and_stay() {
        let mut ids: Vec<String> =
            (1..5).flat_map(|node| (0..100).map(move |shard| id_of(7, node, shard))).collect();
        assert!(ids.iter().all(|id| id.len() == 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit())));
        assert_eq!(ids[0], id_of(7, 1, 0));
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 400);
    }
}
