//! Placement on clusters from seeds: even, minimal, deterministic, and never fewer copies than there were.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use replog::{GroupId, Index, NodeId};

use super::map::{Actual, Group, Map, Node, NodeState};
use super::placement::{AtOnce, Target, place, place_new};
use super::rng::Rng;

pub(crate) fn node(id: u64, state: NodeState, up: bool) -> Arc<Node> {
    Arc::new(Node {
        id: NodeId(id),
        name: format!("node-{id}"),
        token: id,
        boot: 1,
        peer: String::new(),
        clients: BTreeMap::new(),
        state,
        up,
        weight: 100,
    })
}

/// A cluster of so many nodes and groups, with everything where it is to be.
fn cluster(nodes: u64, groups: u64, replicas: impl Fn(u64) -> u8) -> Map {
    let mut map = Map { version: 1, next_group: 1, ..Map::default() };
    for id in 1..=nodes {
        map.nodes.insert(NodeId(id), node(id, NodeState::In, true));
    }
    for id in 1..=groups {
        let wanted = place_new(&map, replicas(id));
        let group = Group::new(GroupId(id), replicas(id), wanted, Bytes::new(), 1);
        map.groups.insert(GroupId(id), Arc::new(group));
    }
    settle(&mut map, |_| None);
    map
}

/// Everything moves to where it is to be.
fn settle(map: &mut Map, target: impl Fn(GroupId) -> Option<(Vec<NodeId>, NodeId)>) {
    for group in map.groups.values_mut() {
        let (wanted, preferred) = target(group.id).unwrap_or((group.wanted.clone(), group.preferred));
        let actual = Actual { index: Index(1), voters: wanted.clone(), learners: Vec::new() };
        let moved = Group { wanted, preferred, formed: true, actual: Some(actual), ..Group::clone(group) };
        *group = Arc::new(moved);
    }
}

fn loads(target: &Target, of: impl Fn(&(Vec<NodeId>, NodeId)) -> Vec<NodeId>) -> BTreeMap<NodeId, usize> {
    let mut loads = BTreeMap::new();
    target.values().flat_map(of).for_each(|node| *loads.entry(node).or_insert(0) += 1);
    loads
}

/// How many replicas of `target` are on nodes where `map` has none.
fn moves(map: &Map, target: &Target) -> usize {
    let new = |(id, (members, _)): (&GroupId, &(Vec<NodeId>, NodeId))| {
        members.iter().filter(|node| !map.groups[id].wanted.contains(node)).count()
    };
    target.iter().map(new).sum()
}

fn assert_even(map: &Map, target: &Target, what: &str) {
    let takers: Vec<NodeId> = map
        .nodes
        .values()
        .filter(|node| node.state == NodeState::In && node.up)
        .map(|node| node.id)
        .collect();
    let replicas = loads(target, |(members, _)| members.clone());
    let leaders = loads(target, |(_, preferred)| vec![*preferred]);
    for loads in [replicas, leaders] {
        let counts: Vec<usize> = takers.iter().map(|node| loads.get(node).copied().unwrap_or(0)).collect();
        let (least, most) = (counts.iter().min(), counts.iter().max());
        assert!(most.unwrap_or(&0) - least.unwrap_or(&0) <= 1, "{what}: {loads:?}");
    }
    for (id, (members, preferred)) in target {
        assert!(members.is_sorted_by(|a, b| a < b) && members.contains(preferred), "{what}: group {id}");
    }
}

#[test]
fn placement_is_even_and_moves_what_it_must() {
    for seed in 0..150 {
        let mut rng = Rng(seed);
        let nodes = 1 + rng.below(12) as u64;
        let groups = rng.below(120) as u64;
        let mut map = cluster(nodes, groups, |_| 3);
        let target = place(&map, AtOnce::ALL, |_| true);
        assert_even(&map, &target, &format!("seed {seed}, new"));
        settle(&mut map, |id| target.get(&id).cloned());
        let again = place(&map, AtOnce::ALL, |_| true);
        assert_eq!(again, target, "seed {seed}: what is even stays");

        // One more: its share moves there, and nothing else moves, save that two nodes becoming three have room for all.
        map.nodes.insert(NodeId(nodes + 1), node(nodes + 1, NodeState::In, true));
        let target = place(&map, AtOnce::ALL, |_| true);
        assert_even(&map, &target, &format!("seed {seed}, one more"));
        let all: usize = target.values().map(|(members, _)| members.len()).sum();
        if nodes != 2 {
            assert_eq!(moves(&map, &target), all / (nodes as usize + 1), "seed {seed}: the new node's share");
        }
        settle(&mut map, |id| target.get(&id).cloned());

        // One is drained: what it has moves, if there is somebody to take it.
        let drained = NodeId(1 + rng.below(nodes as usize + 1) as u64);
        let had = map.groups.values().filter(|group| group.wanted.contains(&drained)).count();
        map.nodes.insert(drained, node(drained.0, NodeState::Draining, true));
        let target = place(&map, AtOnce::ALL, |_| true);
        if nodes >= 3 {
            assert_even(&map, &target, &format!("seed {seed}, drained"));
            // A little more where whoever has room has the group already.
            let moved = moves(&map, &target);
            assert!((had..=had + nodes as usize).contains(&moved), "seed {seed}: {moved} of the {had} there");
        }
        for (id, (members, _)) in &target {
            assert!(members.len() >= map.groups[id].wanted.len(), "seed {seed}: fewer copies of group {id}");
        }
    }
}

#[test]
fn a_group_has_an_odd_number_of_replicas_until_it_has_all() {
    for (nodes, asked, had) in [(1, 3, 1), (2, 3, 1), (3, 3, 3), (4, 5, 3), (5, 5, 5), (2, 2, 2), (9, 1, 1)] {
        assert_eq!(place_new(&cluster(nodes, 0, |_| 1), asked).len(), had, "{asked} on {nodes}");
    }
}

#[test]
fn weights_are_shares() {
    let mut map = cluster(4, 90, |_| 1);
    let heavier = Node { weight: 300, ..Node::clone(&map.nodes[&NodeId(4)]) };
    map.nodes.insert(NodeId(4), Arc::new(heavier));
    let loads = loads(&place(&map, AtOnce::ALL, |_| true), |(members, _)| members.clone());
    assert_eq!(loads, [(NodeId(1), 15), (NodeId(2), 15), (NodeId(3), 15), (NodeId(4), 45)].into());
}

#[test]
fn nothing_is_placed_on_who_is_down_or_has_to_forget_it_and_a_founder_stays() {
    let mut map = cluster(4, 40, |_| 3);
    map.nodes.insert(NodeId(4), node(4, NodeState::In, false));
    let before = map.clone();
    assert_eq!(moves(&before, &place(&map, AtOnce::ALL, |_| true)), 0, "who is down comes back");
    map.nodes.insert(NodeId(4), node(4, NodeState::Dead, false));
    let target = place(&map, AtOnce::ALL, |_| true);
    assert!(target.values().all(|(members, _)| !members.contains(&NodeId(4)) && members.len() == 3));

    let group =
        Group { leaving: vec![NodeId(2)], ..Group::new(GroupId(9), 1, vec![NodeId(1)], Bytes::new(), 1) };
    let mut map = cluster(2, 0, |_| 1);
    map.nodes.insert(NodeId(1), node(1, NodeState::Draining, true));
    map.groups.insert(GroupId(9), Arc::new(group));
    assert_eq!(
        place(&map, AtOnce::ALL, |_| true)[&GroupId(9)].0,
        [NodeId(1)],
        "it has not founded it yet, and node 2 holds some"
    );
}

#[test]
fn a_little_at_once_comes_to_the_same_evenness() {
    let mut map = cluster(3, 50, |_| 3);
    map.nodes.insert(NodeId(4), node(4, NodeState::In, true));
    let at_once = AtOnce { moves: 2, leads: 3 };
    let mut steps = 0;
    loop {
        let target = place(&map, at_once, |_| true);
        let moved = moves(&map, &target);
        let before = map.clone();
        settle(&mut map, |id| target.get(&id).cloned());
        if before == map {
            assert_even(&map, &target, "in the end");
            assert!(steps >= 150 / 4 / 2, "{steps} steps");
            break;
        }
        assert!(moved <= 2);
        steps += 1;
    }
}
