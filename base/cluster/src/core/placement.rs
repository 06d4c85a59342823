//! Where groups are to live.
//!
//! Always holds:
//! - nodes that take replicas have, by weight, as many as each other within one, as far as groups can be placed so;
//! - nobody has two replicas of a group;
//! - a replica moves only if it must, or if that makes it more even: a node that is added gets its share and nothing else
//!   moves. The same nodes and groups always give the same;
//! - no group has fewer copies in between because there are too few nodes: where there is nobody to move to, it stays;
//! - a group that can't have all of its replicas yet has an odd number of them, as one more would only be one more to fail.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use replog::{GroupId, NodeId};

use super::map::{Group, Map, NodeState};

/// Where each group is to live, and who is to lead it.
pub(crate) type Target = BTreeMap<GroupId, (Vec<NodeId>, NodeId)>;

/// How many of `wanted` replicas there are to be on `nodes` nodes.
fn odd_within(wanted: usize, nodes: usize) -> usize {
    match nodes {
        nodes if nodes >= wanted => wanted,
        nodes => (nodes - 1) | 1,
    }
}

/// Replicas on nodes.
struct Loads {
    /// Nodes that take replicas, with their weights.
    takers: BTreeMap<NodeId, u64>,
    on: BTreeMap<NodeId, BTreeSet<GroupId>>,
}

impl Loads {
    /// Of the map's nodes: those that are in, are heard and have a weight take replicas.
    fn new(map: &Map) -> Loads {
        let takes = |state: NodeState, up: bool, weight: u32| state == NodeState::In && up && weight > 0;
        let takers = map
            .nodes
            .values()
            .filter(|node| takes(node.state, node.up, node.weight))
            .map(|node| (node.id, u64::from(node.weight)));
        Loads { takers: takers.collect(), on: BTreeMap::new() }
    }

    fn count(&self, node: NodeId) -> u64 {
        self.on.get(&node).map_or(0, |groups| groups.len() as u64)
    }

    fn put(&mut self, node: NodeId, group: GroupId) {
        self.on.entry(node).or_default().insert(group);
    }

    fn take(&mut self, node: NodeId, group: GroupId) {
        if let Some(groups) = self.on.get_mut(&node) {
            groups.remove(&group);
        }
    }

    /// The taker with the least for its weight that is not in `not`.
    fn least(&self, not: &[NodeId]) -> Option<NodeId> {
        let free = self.takers.iter().filter(|(node, _)| !not.contains(node));
        let less = |a: &(NodeId, u64), b: &(NodeId, u64)| {
            let (a_load, b_load) = ((self.count(a.0) + 1) * b.1, (self.count(b.0) + 1) * a.1);
            a_load.cmp(&b_load).then(a.0.cmp(&b.0))
        };
        free.map(|(node, weight)| (*node, *weight)).min_by(less).map(|(node, _)| node)
    }

    /// A group that is better on another node, and which. `movable`: whether a group may move now; one that is `new` where it
    /// is costs nothing to move on.
    fn uneven(
        &self,
        new: &BTreeSet<(GroupId, NodeId)>,
        movable: &dyn Fn(GroupId) -> bool,
    ) -> Option<(GroupId, NodeId, NodeId)> {
        let mut nodes: Vec<(NodeId, u64)> =
            self.takers.iter().map(|(node, weight)| (*node, *weight)).collect();
        nodes.sort_by(|a, b| (self.count(a.0) * b.1).cmp(&(self.count(b.0) * a.1)).then(a.0.cmp(&b.0)));
        let none = BTreeSet::new();
        for (from, from_weight) in nodes.iter().rev() {
            for (to, to_weight) in &nodes {
                // One more there is still less than what is here.
                if (self.count(*to) + 1) * from_weight >= self.count(*from) * to_weight {
                    break;
                }
                let there = self.on.get(to).unwrap_or(&none);
                let here = self.on.get(from).unwrap_or(&none);
                let mut costless = here.difference(there).filter(|group| new.contains(&(**group, *from)));
                let mut others = here.difference(there).filter(|group| movable(**group));
                if let Some(group) = costless.next().or_else(|| others.next()) {
                    return Some((*group, *from, *to));
                }
            }
        }
        None
    }
}

/// How much may be made more even at once. What is left is the same in the next placement, made from what this one has become.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AtOnce {
    /// Replicas that move.
    pub(crate) moves: usize,
    /// Leaders that hand over.
    pub(crate) leads: usize,
}

#[cfg(test)]
impl AtOnce {
    pub(crate) const ALL: AtOnce = AtOnce { moves: usize::MAX, leads: usize::MAX };
}

/// Where all groups of the map are to live. `movable`: whether a group may move only to make things more even.
pub(crate) fn place(map: &Map, at_once: AtOnce, movable: impl Fn(&Group) -> bool) -> Target {
    let mut loads = Loads::new(map);
    let groups: BTreeMap<GroupId, &Arc<Group>> =
        map.groups.iter().filter(|(_, group)| !group.gone).map(|(id, group)| (*id, group)).collect();
    let mut target: BTreeMap<GroupId, Vec<NodeId>> = BTreeMap::new();
    let mut lacking: Vec<(GroupId, usize, Vec<NodeId>)> = Vec::new();
    for (id, group) in &groups {
        let is_in = |node: &NodeId| map.state(*node) == Some(NodeState::In);
        // Until it has founded the group, nobody else can be in its place.
        let founds = |node: &NodeId| *node == group.founder && group.actual.is_none();
        let good =
            |node: &NodeId| founds(node) || is_in(node) && (map.is_up(*node) || group.has_voter(*node));
        let mut kept: Vec<NodeId> = group.wanted.iter().copied().filter(good).collect();
        // Replicas that are there, and go once others are in their place: the better ones first.
        let mut there: Vec<NodeId> = group.actual.iter().flat_map(|actual| actual.voters.clone()).collect();
        there.retain(|node| !kept.contains(node));
        there.sort_by_key(|node| (!is_in(node), !map.is_up(*node), *node));
        let takers = loads.takers.keys().copied().filter(|node| !group.leaving.contains(node));
        let available = kept.iter().copied().chain(takers).collect::<BTreeSet<_>>().len();
        let replicas = usize::from(group.replicas);
        let held = kept.iter().filter(|node| group.has_voter(**node)).count() + there.len();
        let size = odd_within(replicas, available.max(1)).max(held.min(replicas));
        while kept.len() > size {
            // What is not there yet goes first, then what is on the fullest node.
            let worst =
                |node: &&NodeId| (!group.has_voter(**node) && !founds(node), loads.count(**node), **node);
            let Some(goes) = kept.iter().max_by_key(worst).copied() else { break };
            kept.retain(|node| *node != goes);
        }
        kept.iter().for_each(|node| loads.put(*node, *id));
        if kept.len() < size {
            lacking.push((*id, size, there));
        }
        target.insert(*id, kept);
    }
    let mut new: BTreeSet<(GroupId, NodeId)> = BTreeSet::new();
    for (id, size, there) in lacking {
        let Some(members) = target.get_mut(&id) else { continue };
        while members.len() < size {
            // Not to one that still has to forget it.
            let leaving = groups.get(&id).map(|group| group.leaving.clone()).unwrap_or_default();
            let not: Vec<NodeId> = members.iter().chain(&leaving).copied().collect();
            let Some(node) = loads.least(&not) else { break };
            members.push(node);
            loads.put(node, id);
            if leaving.is_empty() {
                new.insert((id, node));
            }
        }
        // Nobody to move to: it stays, on those that are drained or dead.
        let missing = size - members.len();
        let stays: Vec<NodeId> =
            there.into_iter().filter(|node| !members.contains(node)).take(missing).collect();
        members.extend(stays);
        if let Some(group) = groups.get(&id).filter(|_| members.is_empty()) {
            members.extend(&group.wanted);
        }
    }
    let may_move =
        |id: GroupId| groups.get(&id).is_some_and(|group| group.leaving.is_empty() && movable(group));
    let mut moves = 0;
    while let Some((id, from, to)) = loads.uneven(&new, &may_move) {
        if new.remove(&(id, from)) {
            new.insert((id, to));
        } else if moves == at_once.moves {
            break;
        } else {
            moves += 1;
        }
        loads.take(from, id);
        loads.put(to, id);
        if let Some(members) = target.get_mut(&id) {
            members.iter_mut().filter(|node| **node == from).for_each(|node| *node = to);
        }
    }
    target.values_mut().for_each(|members| members.sort_unstable());
    let preferred = lead(map, &target, at_once.leads, |id| groups.get(&id).map(|group| group.preferred));
    target.into_iter().map(|(id, members)| (id, (members, preferred[&id]))).collect()
}

/// Nodes for a new group, its founder first.
pub(crate) fn place_new(map: &Map, replicas: u8) -> Vec<NodeId> {
    let mut loads = Loads::new(map);
    let mut leads: BTreeMap<NodeId, u64> = BTreeMap::new();
    for group in map.groups.values().filter(|group| !group.gone) {
        group.wanted.iter().for_each(|node| loads.put(*node, group.id));
        *leads.entry(group.preferred).or_default() += 1;
    }
    let size = odd_within(usize::from(replicas), loads.takers.len().max(1));
    let mut nodes: Vec<NodeId> = Vec::new();
    while nodes.len() < size {
        let Some(node) = loads.least(&nodes) else { break };
        nodes.push(node);
    }
    nodes.sort_by_key(|node| (leads.get(node).copied().unwrap_or(0), *node));
    nodes
}

/// Who leads each group, evenly, changed as little as that takes.
fn lead(
    map: &Map,
    target: &BTreeMap<GroupId, Vec<NodeId>>,
    at_once: usize,
    before: impl Fn(GroupId) -> Option<NodeId>,
) -> BTreeMap<GroupId, NodeId> {
    let may = |node: &NodeId| map.state(*node) == Some(NodeState::In);
    let mut leads: BTreeMap<NodeId, i64> =
        map.nodes.values().filter(|node| may(&node.id)).map(|node| (node.id, 0)).collect();
    let mut chosen: BTreeMap<GroupId, NodeId> = BTreeMap::new();
    let mut open: Vec<GroupId> = Vec::new();
    for (id, members) in target {
        match before(*id).filter(|node| members.contains(node) && may(node)) {
            Some(node) => {
                chosen.insert(*id, node);
                *leads.entry(node).or_default() += 1;
            }
            None => open.push(*id),
        }
    }
    for id in open {
        let members = &target[&id];
        let candidates = members.iter().filter(|node| may(node));
        let least = candidates.min_by_key(|node| (leads.get(node).copied().unwrap_or(0), **node));
        let node = least.or(members.first()).copied().unwrap_or_default();
        chosen.insert(id, node);
        *leads.entry(node).or_default() += 1;
    }
    // Who could hand which groups to whom.
    let mut ways: BTreeMap<NodeId, BTreeMap<NodeId, BTreeSet<GroupId>>> = BTreeMap::new();
    let others = |id: GroupId, not: NodeId| {
        target[&id]
            .iter()
            .copied()
            .filter(move |node| *node != not)
            .filter(|node| may(node))
            .collect::<Vec<_>>()
    };
    for (id, from) in &chosen {
        for to in others(*id, *from) {
            ways.entry(*from).or_default().entry(to).or_default().insert(*id);
        }
    }
    let mut handed_over = 0;
    while let Some(path) = path_to_fewer(&leads, &ways).filter(|_| handed_over < at_once) {
        handed_over += path.len() - 1;
        for pair in path.windows(2) {
            let (from, to) = (pair[0], pair[1]);
            let id = ways[&from][&to].first().copied().expect("there is a way");
            for other in others(id, from) {
                ways.get_mut(&from).and_then(|ways| ways.get_mut(&other)).map(|groups| groups.remove(&id));
            }
            for other in others(id, to) {
                ways.entry(to).or_default().entry(other).or_default().insert(id);
            }
            chosen.insert(id, to);
        }
        *leads.entry(path[0]).or_default() -= 1;
        *leads.entry(path[path.len() - 1]).or_default() += 1;
    }
    chosen
}

/// The shortest way on which a group's leadership can be handed on, from a node that leads most to one that leads fewer by
/// two at least.
fn path_to_fewer(
    leads: &BTreeMap<NodeId, i64>,
    ways: &BTreeMap<NodeId, BTreeMap<NodeId, BTreeSet<GroupId>>>,
) -> Option<Vec<NodeId>> {
    let mut by_count: Vec<(i64, NodeId)> = leads.iter().map(|(node, count)| (-count, *node)).collect();
    by_count.sort_unstable();
    for (_, start) in by_count {
        let mut came_from: BTreeMap<NodeId, NodeId> = BTreeMap::from([(start, start)]);
        let mut waiting = VecDeque::from([start]);
        while let Some(node) = waiting.pop_front() {
            if leads.get(&node).copied().unwrap_or(0) + 2 <= leads[&start] {
                let mut path = vec![node];
                while path[path.len() - 1] != start {
                    path.push(came_from[&path[path.len() - 1]]);
                }
                path.reverse();
                return Some(path);
            }
            for (next, groups) in ways.get(&node).into_iter().flatten() {
                if !groups.is_empty() && !came_from.contains_key(next) {
                    came_from.insert(*next, node);
                    waiting.push_back(*next);
                }
            }
        }
    }
    None
}
