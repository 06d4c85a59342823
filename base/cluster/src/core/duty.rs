//! What a node is to do about a group, by the map.
//!
//! Always holds: a node acts only on a map that knows of this start of it, as that one is not older than what it acted on
//! before; it founds what it was to found and nobody has reported, and forgets only what it is not a member of any more.

use replog::NodeId;

use super::map::{Group, Map};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    Nothing,
    /// Found the group, alone.
    Found,
    /// Make room for it.
    Join,
    /// Forget it, and say so.
    Forget,
    /// It has a vote in it and has lost it: nothing can be done here.
    Lost,
}

/// Whether the map is fresh enough to act on.
pub(crate) fn is_fresh(map: &Map, me: NodeId, boot: u64) -> bool {
    map.nodes.get(&me).is_some_and(|node| node.boot == boot)
}

/// What `me` is to do; `here`: it has the group.
pub(crate) fn duty(group: &Group, me: NodeId, here: bool) -> Duty {
    let wanted = group.wanted.contains(&me) || group.has_member(me);
    match () {
        () if group.leaving.contains(&me) => Duty::Forget,
        () if here || !wanted => Duty::Nothing,
        () if group.has_voter(me) => Duty::Lost,
        () if group.founder == me && group.actual.is_none() => Duty::Found,
        () => Duty::Join,
    }
}
