//! What is to be moved next: decided by the leader of the metadata group, from the map alone. The map is of the version
//! that the effects will be in.
//!
//! Always holds: the plan is made from the map as it is, so it does not matter who made the last one, or how far it came; at
//! most `moves_max` groups are on the move at once, and a group that is moving on only so as to be more even waits until
//! it has arrived; one replica of a group is replaced at a time, while missing ones are added together.

use std::sync::Arc;

use replog::{GroupId, NodeId};

use super::entry::Effect;
use super::map::{Group, META, Map, Node, NodeState};
use super::placement::{self, AtOnce};
use crate::limits::DECIDED_AT_ONCE_MAX;

/// The next effects; none: everything is where it is to be, or on its way there.
pub(crate) fn plan(map: &Map, moves_max: usize) -> Vec<Effect> {
    let mut effects = drained(map);
    let mut next_group = map.next_group;
    // A group that waits for somebody who is away does not hold up the others.
    let waits = |group: &Group| group.wanted.iter().any(|node| !map.is_up(*node));
    let on_the_way =
        map.groups.values().filter(|group| group.formed && !group.is_settled() && !waits(group)).count();
    let mut free = moves_max.saturating_sub(on_the_way);
    let at_once = AtOnce { moves: free, leads: DECIDED_AT_ONCE_MAX };
    let target = placement::place(map, at_once, Group::is_settled);
    // What makes a group whole goes before what makes things even.
    let mut target: Vec<_> = target.into_iter().collect();
    let lacks = |group: &Group, members: usize| {
        members > group.wanted.len()
            || group.wanted.iter().any(|node| map.state(*node) != Some(NodeState::In))
    };
    target.sort_by_key(|(id, (members, _))| {
        !map.groups.get(id).is_some_and(|group| lacks(group, members.len()))
    });
    for (id, (members, preferred)) in target {
        if effects.len() >= DECIDED_AT_ONCE_MAX {
            break;
        }
        let Some(group) = map.groups.get(&id) else { continue };
        if let Some(anew) = founded_anew(map, group, GroupId(next_group)) {
            next_group += 1;
            effects.extend(anew);
            continue;
        }
        let mut after = Group::clone(group);
        if members != group.wanted && (free > 0 || !group.formed) {
            let wanted = one_step(&group.wanted, &members);
            after = group.with(map.version, &wanted, group.actual.clone());
            free = free.saturating_sub(1);
        }
        // Whoever is to lead has arrived.
        if after.wanted.contains(&preferred) {
            after.preferred = preferred;
        } else if !after.wanted.contains(&after.preferred) {
            after.preferred = after.wanted.first().copied().unwrap_or_default();
        }
        if after != **group {
            effects.push(Effect::Group(Arc::new(after)));
        }
    }
    effects
}

/// The way from `wanted` to `target`, one replacement long.
fn one_step(wanted: &[NodeId], target: &[NodeId]) -> Vec<NodeId> {
    let comes: Vec<_> = target.iter().copied().filter(|node| !wanted.contains(node)).collect();
    let goes: Vec<_> = wanted.iter().copied().filter(|node| !target.contains(node)).collect();
    let (Some(first), Some(last)) = (comes.first(), goes.first()) else { return target.to_vec() };
    let kept = wanted.iter().copied().filter(|node| node != last);
    kept.chain([*first]).collect()
}

/// Nodes that hold nothing any more.
fn drained(map: &Map) -> Vec<Effect> {
    let empty = |node: &&Arc<Node>| node.state == NodeState::Draining && map.holdings(node.id).1 == 0;
    let out = |node: &Arc<Node>| Effect::Node(Arc::new(Node { state: NodeState::Out, ..Node::clone(node) }));
    map.nodes.values().filter(empty).map(out).collect()
}

/// A group whose founder died before it had formed: nothing in it was answered, so it begins again, under another number.
fn founded_anew(map: &Map, group: &Group, id: GroupId) -> Option<[Effect; 2]> {
    let founder_dead = !matches!(map.state(group.founder), Some(NodeState::In | NodeState::Draining));
    if group.formed || group.id == META || !founder_dead {
        return None;
    }
    let nodes = placement::place_new(map, group.replicas);
    if nodes.is_empty() {
        return None;
    }
    let anew = Group::new(id, group.replicas, nodes, group.payload.clone(), map.version);
    let old = Group { gone: true, ..group.with(map.version, &[], None) };
    Some([Effect::Group(Arc::new(old)), Effect::Group(Arc::new(anew))])
}
