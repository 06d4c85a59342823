//! What requests do to the map: decided by the leader of the metadata group, from the map as it is, several together.
//!
//! Always holds: what is decided together is taken together, each on top of the one before; a request that is refused changes nothing; one that comes again changes nothing more (no effects, unless
//! an owner's change asks for the same thing twice); what is too large or too many is refused, never cut.

use std::sync::Arc;

use bytes::Bytes;
use replog::{GroupId, NodeId};

use super::codec::Coded;
use super::entry::{Effect, Entry};
use super::map::{Group, META, Map, Node, NodeState};
use super::placement;
use super::request::{Announced, Changed, Command, Joining, Left, Outcome, Refusal, Report, Request};
use crate::limits;

/// What a request comes to.
type Decided = Result<(Vec<Effect>, Outcome), Refusal>;

/// What is decided together.
pub(crate) struct Batch {
    base: u64,
    /// The map as it will be.
    map: Map,
    effects: Vec<Effect>,
}

impl Batch {
    /// On top of this map.
    pub(crate) fn new(map: &Map) -> Batch {
        Batch { base: map.version, map: Map { version: map.version + 1, ..map.clone() }, effects: Vec::new() }
    }

    /// Decides on a request.
    pub(crate) fn take(&mut self, request: &Request) -> Result<Outcome, Refusal> {
        let (effects, mut outcome) = execute(&self.map, request)?;
        if effects.is_empty()
            && let Outcome::Done(changed) = &mut outcome
        {
            changed.version = self.base;
        }
        self.add(effects);
        Ok(outcome)
    }

    pub(crate) fn add(&mut self, effects: Vec<Effect>) {
        effects.iter().for_each(|effect| self.map.take_effect(effect));
        self.effects.extend(effects);
    }

    /// The map as it will be.
    pub(crate) fn map(&self) -> &Map {
        &self.map
    }

    /// Whether nothing is to be logged.
    pub(crate) fn is_empty(&self) -> bool {
        self.effects.is_empty()
    }

    /// What is to be logged, if there is anything.
    pub(crate) fn into_entry(self) -> Option<Entry> {
        (!self.effects.is_empty()).then_some(Entry { base: self.base, effects: self.effects })
    }
}

/// The first effects of a cluster, which its first node makes.
pub(crate) fn found(cluster: u64, joining: &Joining, meta_replicas: u8) -> Vec<Effect> {
    let first = NodeId(1);
    let meta = Group::new(META, meta_replicas, vec![first], Bytes::new(), 1);
    vec![
        Effect::Found(cluster, joining.kind.clone()),
        Effect::Node(Arc::new(new_node(first, joining))),
        Effect::Group(Arc::new(meta)),
    ]
}

fn new_node(id: NodeId, joining: &Joining) -> Node {
    Node {
        id,
        name: joining.name.clone(),
        token: joining.token,
        boot: 0,
        peer: String::new(),
        clients: Default::default(),
        state: NodeState::Joining,
        up: false,
        weight: 0,
    }
}

/// `map` is of the version that the effects will be in.
fn execute(map: &Map, request: &Request) -> Decided {
    let done = Outcome::Done(Changed { version: map.version, created: Vec::new() });
    match request {
        Request::Join(joining) => join(map, joining),
        Request::Announce(announced) => announce(map, announced).map(|effects| (effects, done)),
        Request::Report(node, reports) => report(map, *node, reports).map(|effects| (effects, done)),
        Request::Left(left) => self::left(map, left).map(|effects| (effects, done)),
        Request::Change(commands) => change(map, commands),
    }
}

fn short(what: &str, text: &str) -> Result<(), Refusal> {
    match text.len() {
        ..=limits::NAME_BYTES_MAX => Ok(()),
        long => {
            Err(Refusal::Senseless(format!("{what} has {long} bytes: at most {}", limits::NAME_BYTES_MAX)))
        }
    }
}

fn join(map: &Map, joining: &Joining) -> Decided {
    short("the node's name", &joining.name)?;
    if joining.kind != map.kind {
        let why =
            format!("this is a cluster of {} nodes, and a {} node asks to join", map.kind, joining.kind);
        return Err(Refusal::Senseless(why));
    }
    if let Some(node) = map.nodes.values().find(|node| node.token == joining.token) {
        return Ok((Vec::new(), Outcome::Joined(node.id)));
    }
    if map.nodes.len() >= limits::NODES_MAX {
        return Err(Refusal::Full("nodes: remove those that are out".to_owned()));
    }
    let id = NodeId(map.next_node);
    Ok((vec![Effect::Node(Arc::new(new_node(id, joining)))], Outcome::Joined(id)))
}

fn known(map: &Map, node: NodeId) -> Result<&Arc<Node>, Refusal> {
    match map.nodes.get(&node) {
        Some(node) => Ok(node),
        None if node.0 < map.next_node && node.0 > 0 => Err(Refusal::Removed(node)),
        None => Err(Refusal::Absent(format!("node {node}"))),
    }
}

fn announce(map: &Map, announced: &Announced) -> Result<Vec<Effect>, Refusal> {
    let before = known(map, announced.node)?;
    if announced.clients.len() > limits::CLIENT_ADDRESSES_MAX {
        return Err(Refusal::Full("addresses for clients".to_owned()));
    }
    let texts = announced.clients.iter().flat_map(|(what, address)| [what, address]);
    texts.chain([&announced.peer]).try_for_each(|text| short("an address", text))?;
    let state = match before.state {
        NodeState::Joining | NodeState::Dead => NodeState::In,
        other => other,
    };
    let node = Node {
        boot: announced.boot,
        peer: announced.peer.clone(),
        clients: announced.clients.clone(),
        weight: announced.weight,
        state,
        up: true,
        ..Node::clone(before)
    };
    Ok(if **before == node { Vec::new() } else { vec![Effect::Node(Arc::new(node))] })
}

fn report(map: &Map, node: NodeId, reports: &[Report]) -> Result<Vec<Effect>, Refusal> {
    known(map, node)?;
    let mut effects = Vec::new();
    for report in reports {
        let Some(group) = map.groups.get(&report.group) else { continue };
        let mut after = Group::clone(group);
        if !group.gone && group.actual.as_ref().is_none_or(|actual| actual.index < report.actual.index) {
            after = group.with(map.version, &group.wanted, Some(report.actual.clone()));
            after.formed |= after.is_settled();
        }
        if after.led.is_none_or(|(term, _)| term < report.term) {
            after.led = Some((report.term, node));
        }
        if after != **group {
            effects.push(Effect::Group(Arc::new(after)));
        }
    }
    Ok(effects)
}

fn left(map: &Map, left: &Left) -> Result<Vec<Effect>, Refusal> {
    known(map, left.node)?;
    let mut effects = Vec::new();
    for group in left.groups.iter().filter_map(|group| map.groups.get(group)) {
        // What it said of an earlier time may have come late.
        if !group.leaving.contains(&left.node) || left.version < group.leaving_since {
            continue;
        }
        let mut after = Group::clone(group);
        after.leaving.retain(|leaving| *leaving != left.node);
        effects.push(settle_gone(after));
    }
    Ok(effects)
}

/// A group that was deleted goes with the last that held something of it.
fn settle_gone(group: Group) -> Effect {
    match group.gone && group.leaving.is_empty() {
        true => Effect::GroupGone(group.id),
        false => Effect::Group(Arc::new(group)),
    }
}

fn change(map: &Map, commands: &[Command]) -> Decided {
    if commands.len() > limits::COMMANDS_MAX {
        return Err(Refusal::Full("commands in one change".to_owned()));
    }
    // Tried out on a copy, so that each sees what the ones before it have done.
    let mut after = map.clone();
    let mut effects = Vec::new();
    let mut created = Vec::new();
    for command in commands {
        for effect in one(&after, command, &mut created)? {
            after.take_effect(&effect);
            effects.push(effect);
        }
    }
    Ok((effects, Outcome::Done(Changed { version: after.version, created })))
}

fn owned(map: &Map, id: GroupId) -> Result<&Arc<Group>, Refusal> {
    let group = map.groups.get(&id).filter(|group| !group.gone && id != META);
    group.ok_or_else(|| Refusal::Absent(format!("group {id}")))
}

fn one(map: &Map, command: &Command, created: &mut Vec<GroupId>) -> Result<Vec<Effect>, Refusal> {
    match command {
        Command::Create { replicas, payload } => create(map, *replicas, payload, created),
        Command::Delete(id) => {
            let group = owned(map, *id)?;
            let none = group.with(map.version, &[], None);
            Ok(vec![settle_gone(Group { gone: true, ..none })])
        }
        Command::Payload { group: id, since, payload } => {
            let group = owned(map, *id)?;
            bounded("a payload", payload)?;
            if since.is_some_and(|since| since != group.since) {
                return Err(Refusal::Changed(format!("group {id}")));
            }
            let payload = payload.clone();
            Ok(vec![Effect::Group(Arc::new(Group { payload, since: map.version, ..Group::clone(group) }))])
        }
        Command::Replicas { group: id, replicas } => {
            let group = owned(map, *id)?;
            check_replicas(*replicas)?;
            Ok(vec![Effect::Group(Arc::new(Group { replicas: *replicas, ..Group::clone(group) }))])
        }
        Command::Record { key, since, value } => record(map, key, *since, value.as_ref()),
        Command::Drain(node) => state(map, *node, |state| match state {
            NodeState::In | NodeState::Joining => Some(NodeState::Draining),
            NodeState::Dead => None,
            already => Some(already),
        }),
        Command::Return(node) => state(map, *node, |state| match state {
            NodeState::Draining | NodeState::Out => Some(NodeState::In),
            NodeState::Dead => None,
            already => Some(already),
        }),
        Command::Remove(node) => remove(map, *node),
    }
}

fn check_replicas(replicas: u8) -> Result<(), Refusal> {
    let max = limits::REPLICAS_MAX;
    match (1..=max).contains(&replicas) {
        true => Ok(()),
        false => Err(Refusal::Senseless(format!("{replicas} replicas: from 1 to {max}"))),
    }
}

fn bounded(what: &str, bytes: &Bytes) -> Result<(), Refusal> {
    let max = limits::PAYLOAD_BYTES_MAX;
    match bytes.len() <= max {
        true => Ok(()),
        false => Err(Refusal::Senseless(format!("{what} has {} bytes: at most {max}", bytes.len()))),
    }
}

fn create(
    map: &Map,
    replicas: u8,
    payload: &Bytes,
    created: &mut Vec<GroupId>,
) -> Result<Vec<Effect>, Refusal> {
    check_replicas(replicas)?;
    bounded("a payload", payload)?;
    if map.groups.len() >= limits::GROUPS_MAX {
        return Err(Refusal::Full("groups".to_owned()));
    }
    let nodes = placement::place_new(map, replicas);
    if nodes.is_empty() {
        return Err(Refusal::Senseless("no node takes replicas now: try again".to_owned()));
    }
    let id = GroupId(map.next_group);
    created.push(id);
    Ok(vec![Effect::Group(Arc::new(Group::new(id, replicas, nodes, payload.clone(), map.version)))])
}

fn record(map: &Map, key: &Bytes, since: Option<u64>, value: Option<&Bytes>) -> Result<Vec<Effect>, Refusal> {
    bounded("a key", key)?;
    let before = map.records.get(key);
    if since.is_some_and(|since| since != before.map_or(0, |record| record.since)) {
        return Err(Refusal::Changed(format!("record {}", String::from_utf8_lossy(key))));
    }
    match value {
        None => Ok(before.map(|_| Effect::RecordGone(key.clone())).into_iter().collect()),
        Some(_) if before.is_none() && map.records.len() >= limits::RECORDS_MAX => {
            Err(Refusal::Full("records".to_owned()))
        }
        Some(value) => {
            bounded("a record", value)?;
            Ok(vec![Effect::Record(key.clone(), value.clone())])
        }
    }
}

fn state(
    map: &Map,
    node: NodeId,
    next: impl Fn(NodeState) -> Option<NodeState>,
) -> Result<Vec<Effect>, Refusal> {
    let before = known(map, node)?;
    let state = next(before.state).ok_or_else(|| {
        Refusal::Senseless(format!(
            "node {node} is dead: its replicas move away already, and it is in again when it is back"
        ))
    })?;
    Ok(match state == before.state {
        true => Vec::new(),
        false => vec![Effect::Node(Arc::new(Node { state, ..Node::clone(before) }))],
    })
}

fn remove(map: &Map, node: NodeId) -> Result<Vec<Effect>, Refusal> {
    let before = known(map, node)?;
    let member = map.groups.values().filter(|group| group.wanted.contains(&node) || group.has_member(node));
    let count = member.count();
    let gone = match before.state {
        NodeState::Out | NodeState::Dead | NodeState::Joining => true,
        NodeState::In => false,
        NodeState::Draining => !before.up,
    };
    if count > 0 || !gone {
        return Err(Refusal::Senseless(format!(
            "node {node} is a member of {count} groups, and not drained or dead: drain it first"
        )));
    }
    // What it may still hold, it will never show anybody: its number is not let in any more.
    let held = map.groups.values().filter(|group| group.leaving.contains(&node)).map(|group| {
        let mut after = Group::clone(group);
        after.leaving.retain(|leaving| *leaving != node);
        settle_gone(after)
    });
    Ok(held.chain([Effect::NodeGone(node)]).collect())
}

/// Whether a request may be taken at all.
pub(crate) fn is_small(request: &Request) -> bool {
    request.encoded().len() <= limits::REQUEST_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::map::Actual;
    use replog::{Index, Term};

    fn joining(token: u64) -> Joining {
        Joining { token, name: format!("n{token}"), kind: "test".to_owned() }
    }

    fn ask(map: &mut Map, request: &Request) -> Result<Outcome, Refusal> {
        let mut batch = Batch::new(map);
        let outcome = batch.take(request);
        batch.into_entry().into_iter().for_each(|entry| assert!(map.take_entry(&entry)));
        outcome
    }

    /// Two nodes, both in.
    fn two() -> Map {
        let mut map = Map::default();
        map.take_entry(&Entry { base: 0, effects: found(7, &joining(1), 5) });
        assert_eq!(ask(&mut map, &Request::Join(joining(2))), Ok(Outcome::Joined(NodeId(2))));
        for id in [1, 2] {
            let node = NodeId(id);
            let announced =
                Announced { node, boot: id, peer: String::new(), clients: [].into(), weight: 100 };
            ask(&mut map, &Request::Announce(announced)).expect("in");
        }
        map
    }

    fn done(version: u64, created: &[u64]) -> Result<Outcome, Refusal> {
        let created = created.iter().copied().map(GroupId).collect();
        Ok(Outcome::Done(Changed { version, created }))
    }

    #[test]
    fn joining_twice_is_joining_once_and_who_was_removed_stays_out() {
        let mut map = two();
        let before = map.clone();
        assert_eq!(ask(&mut map, &Request::Join(joining(2))), Ok(Outcome::Joined(NodeId(2))));
        assert_eq!(map, before);
        assert_eq!(ask(&mut map, &Request::Join(joining(3))), Ok(Outcome::Joined(NodeId(3))));
        let remove = |node| Request::Change(vec![Command::Remove(NodeId(node))]);
        assert!(ask(&mut map, &remove(3)).is_ok());
        assert!(matches!(ask(&mut map, &remove(1)), Err(Refusal::Senseless(_))), "it is a member, and in");
        let again =
            Announced { node: NodeId(3), boot: 9, peer: String::new(), clients: [].into(), weight: 1 };
        assert_eq!(ask(&mut map, &Request::Announce(again)), Err(Refusal::Removed(NodeId(3))));
        assert_eq!(
            ask(&mut map, &Request::Join(joining(4))),
            Ok(Outcome::Joined(NodeId(4))),
            "no number twice"
        );
        let other = Joining { kind: "other".to_owned(), ..joining(5) };
        assert!(matches!(ask(&mut map, &Request::Join(other)), Err(Refusal::Senseless(_))));
    }

    #[test]
    fn commands_are_done_all_together_or_not_at_all_and_conditions_hold() {
        let mut map = two();
        let (key, payload) = (Bytes::from_static(b"key"), Bytes::from_static(b"p"));
        let create = Command::Create { replicas: 3, payload: payload.clone() };
        let record = |since| Command::Record { key: key.clone(), since, value: Some(payload.clone()) };
        let both = Request::Change(vec![create.clone(), create.clone(), record(Some(0))]);
        let version = map.version + 1;
        assert_eq!(ask(&mut map, &both), done(version, &[1, 2]));
        let before = map.clone();
        assert_eq!(ask(&mut map, &both), Err(Refusal::Changed("record key".to_owned())));
        assert_eq!(map, before, "no group was created, either");
        assert!(ask(&mut map, &Request::Change(vec![record(Some(version))])).is_ok());

        let since = map.groups[&GroupId(1)].since;
        let set = |since| {
            Request::Change(vec![Command::Payload {
                group: GroupId(1),
                since: Some(since),
                payload: Bytes::new(),
            }])
        };
        assert!(ask(&mut map, &set(since)).is_ok());
        assert!(matches!(ask(&mut map, &set(since)), Err(Refusal::Changed(_))));
        for wrong in [0, limits::REPLICAS_MAX + 1] {
            let create = Command::Create { replicas: wrong, payload: Bytes::new() };
            assert!(matches!(ask(&mut map, &Request::Change(vec![create])), Err(Refusal::Senseless(_))));
        }
        let large = Command::Create { replicas: 1, payload: vec![0; limits::PAYLOAD_BYTES_MAX + 1].into() };
        assert!(ask(&mut map, &Request::Change(vec![large])).is_err());
        for id in [META, GroupId(77)] {
            assert!(matches!(
                ask(&mut map, &Request::Change(vec![Command::Delete(id)])),
                Err(Refusal::Absent(_))
            ));
        }
    }

    #[test]
    fn old_reports_and_old_words_of_having_left_do_not_count() {
        let mut map = two();
        let create = Command::Create { replicas: 1, payload: Bytes::new() };
        ask(&mut map, &Request::Change(vec![create])).expect("created");
        let id = GroupId(1);
        let wanted = map.groups[&id].wanted[0];
        let other = NodeId(3 - wanted.0);
        let report = |map: &mut Map, term, index, voters: &[NodeId]| {
            let actual = Actual { index: Index(index), voters: voters.to_vec(), learners: Vec::new() };
            let report = Report { group: id, term: Term(term), actual };
            ask(map, &Request::Report(wanted, vec![report])).expect("taken");
            let group = map.groups[&id].clone();
            (group.leaving.clone(), group.formed, group.led.map(|(term, _)| term.0))
        };
        assert_eq!(report(&mut map, 2, 10, &[wanted]), (vec![], true, Some(2)));
        assert_eq!(report(&mut map, 2, 20, &[NodeId(1), NodeId(2)]), (vec![], true, Some(2)));
        assert_eq!(report(&mut map, 3, 15, &[wanted]).0, [], "it is older than what is known");
        assert_eq!(report(&mut map, 2, 30, &[wanted]), (vec![other], true, Some(3)));
        let left = |map: &mut Map, version| {
            let left = Left { node: other, version, groups: vec![id] };
            ask(map, &Request::Left(left)).expect("taken");
            map.groups[&id].leaving.clone()
        };
        let since = map.groups[&id].leaving_since;
        assert_eq!(left(&mut map, since - 1), [other]);
        assert_eq!(left(&mut map, since), []);
    }
}
