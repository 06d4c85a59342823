//! A cluster of one grows, its groups spread by themselves, a node is drained, one dies and comes back.

mod support;

use std::collections::BTreeMap;

use cluster::{Command, META, NodeState};
use replog::{GroupId, NodeId};
use support::{Ask, Site, Values, is_even, spread};

#[test]
fn a_cluster_of_one_grows_is_drained_and_loses_a_node_and_keeps_everything() {
    let mut site = Site::new(|_| {});
    site.start(1);
    let groups = site.create(1, 5, 3);
    let mut expected: BTreeMap<GroupId, Values> = BTreeMap::new();
    let put = |site: &Site, expected: &mut BTreeMap<GroupId, Values>, key: &str| {
        for group in &groups {
            site.put(*group, &format!("{key}={group}"));
            expected.entry(*group).or_default().insert(key.to_owned(), group.to_string());
        }
    };
    put(&site, &mut expected, "alone");
    let map = site.until_held("a cluster of one", &expected);
    assert!(map.groups.values().all(|group| group.wanted == [NodeId(1)] && group.formed));

    site.start(2);
    let map = site.until_held("two nodes", &expected);
    assert!(
        map.groups.values().all(|group| group.wanted.len() == 1),
        "one copy more would only be one more to fail"
    );
    site.start(3);
    let three = |map: &cluster::Map| {
        map.groups.values().all(|group| group.is_settled() && group.wanted.len() == 3)
            && is_even(&spread(map).1)
    };
    let map = site.until_map("three nodes, and leaders evenly", three);
    assert_eq!(
        map.nodes.values().map(|node| node.name.as_str()).collect::<Vec<_>>(),
        ["node-1", "node-2", "node-3"]
    );
    put(&site, &mut expected, "three");
    site.until_held("three nodes", &expected);

    site.start(4);
    let map = site.until_map("four nodes", |map| {
        map.nodes.len() == 4 && map.moving() == 0 && is_even(&spread(map).0) && is_even(&spread(map).1)
    });
    assert_eq!(spread(&map).0.iter().sum::<usize>(), 18);
    site.until_held("four nodes", &expected);

    // The founder goes: the metadata group moves with all others.
    site.propose(2, vec![Command::Drain(NodeId(1))]).expect("taken");
    site.until_map("drained", |map| map.state(NodeId(1)) == Some(NodeState::Out));
    let map = site.until_held("drained", &expected);
    assert!(!map.groups[&META].has_member(NodeId(1)));
    site.stop(1, Ask::Close);
    put(&site, &mut expected, "drained");
    site.until_calm();
    site.propose(2, vec![Command::Remove(NodeId(1))]).expect("taken");

    site.stop(3, Ask::Die);
    put(&site, &mut expected, "one is dead");
    site.until_map("it is known to be down", |map| !map.is_up(NodeId(3)));
    let map = site.map(2);
    assert!(map.owned().all(|group| group.led.is_some_and(|(_, leader)| leader != NodeId(3))), "all are led");
    site.start(3);
    site.until_map("it is back", |map| map.is_up(NodeId(3)) && is_even(&spread(map).1));
    site.until_held("it is back", &expected);

    // All at once, as when the power fails.
    (2..=4).for_each(|number| site.stop(number, Ask::Die));
    (2..=4).for_each(|number| site.start(number));
    put(&site, &mut expected, "after the dark");
    let map = site.until_held("after the dark", &expected);
    assert_eq!(map.nodes.keys().map(|node| node.0).collect::<Vec<_>>(), [2, 3, 4]);
}

#[test]
fn nodes_die_while_groups_move_and_all_arrives() {
    let mut site = Site::new(|options| options.moves_max = 2);
    (1..=4).for_each(|number| site.start(number));
    site.until_map("four nodes", |map| {
        map.nodes.len() == 4 && map.moving() == 0 && map.groups[&META].wanted.len() == 3
    });
    let mut expected: BTreeMap<GroupId, Values> = BTreeMap::new();
    for group in site.create(1, 6, 3) {
        site.put(group, "a=1");
        expected.entry(group).or_default().insert("a".to_owned(), "1".to_owned());
    }
    site.until_held("created", &expected);
    for round in 1..=4u64 {
        let (drained, dies) = (round, round % 4 + 1);
        let asked = if dies == 4 { 1 } else { 4 };
        site.propose(asked, vec![Command::Drain(NodeId(drained))]).expect("taken");
        site.stop(dies, Ask::Die);
        for (group, values) in &mut expected {
            site.put(*group, &format!("round={round}"));
            values.insert("round".to_owned(), round.to_string());
        }
        // The one that is drained dies, too, on its way.
        site.start(dies);
        site.stop(drained, Ask::Die);
        site.start(drained);
        site.until_map("drained", |map| map.state(NodeId(drained)) == Some(NodeState::Out));
        site.until_held("drained", &expected);
        site.propose(asked, vec![Command::Return(NodeId(drained))]).expect("taken");
        site.until_map("it has its share again", |map| map.moving() == 0 && is_even(&spread(map).0));
    }
    site.until_held("in the end", &expected);
}
