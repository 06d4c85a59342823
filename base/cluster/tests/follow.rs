//! More nodes than the metadata group has members: who is none follows the map and changes it all the same; a dead node is
//! replaced where the cluster is told to do so; strangers are refused, and told why.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use cluster::{Command, Error, META, NodeState, Refusal, Seat};
use replog::NodeId;
use support::{Ask, Site, Values, until};

#[test]
fn who_is_no_member_of_the_metadata_group_follows_and_a_dead_node_is_replaced() {
    let mut site = Site::new(|options| {
        options.meta_replicas = 3;
        options.replace_after = Some(Duration::from_secs(2));
    });
    (1..=5).for_each(|number| site.start(number));
    let ready = site.until_map("five nodes", |map| {
        map.nodes.len() == 5 && map.moving() == 0 && map.groups[&META].wanted.len() == 3
    });
    let outsider = (1..=5).find(|number| !ready.groups[&META].has_member(NodeId(*number))).expect("two are");

    // A record, by who is no member; twice is once.
    let key = Bytes::from_static(b"setting");
    let record = |since, value: &'static [u8]| Command::Record {
        key: key.clone(),
        since,
        value: Some(Bytes::from_static(value)),
    };
    site.until_calm();
    let changed = site.propose(outsider, vec![record(Some(0), b"1")]).expect("written");
    assert_eq!(&site.map(outsider).records[&key].value[..], b"1", "its map has it");
    let again = site.propose(outsider, vec![record(Some(0), b"2")]);
    assert!(matches!(again, Err(Error::Refused(Refusal::Changed(_)))), "{again:?}");
    site.until_map("all have it", |map| {
        map.version >= changed.version && &map.records[&key].value[..] == b"1"
    });

    // All or nothing.
    let groups = site.map(1).groups.len();
    let create = Command::Create { replicas: 3, payload: Bytes::from_static(b"p") };
    let refused = site.propose(outsider, vec![create, record(Some(0), b"3")]);
    assert!(refused.is_err());
    assert_eq!(site.map(1).groups.len(), groups);

    let groups = site.create(outsider, 4, 3);
    let mut expected: BTreeMap<_, Values> = BTreeMap::new();
    for group in groups {
        site.put(group, "a=1");
        expected.insert(group, [("a".to_owned(), "1".to_owned())].into());
    }
    site.until_held("created", &expected);

    // A node dies for good, a member of the metadata group.
    let dead = site.map(outsider).groups[&META].wanted[0];
    site.stop(dead.0, Ask::Die);
    site.until_map("replaced", |map| {
        map.state(dead) == Some(NodeState::Dead)
            && map.groups.values().all(|group| group.wanted.len() == 3 && !group.has_member(dead))
    });
    let alive = *site.nodes.keys().next().expect("four are left");
    let deleted = *expected.keys().next().expect("four");
    site.until_calm();
    site.propose(alive, vec![Command::Delete(deleted)]).expect("deleted");
    expected.remove(&deleted);
    // It comes back, forgets what it had, and gets its share.
    site.start(dead.0);
    site.until_held("it is back", &expected);
    let map = site.until_map("it has its share", |map| {
        map.state(dead) == Some(NodeState::In) && map.moving() == 0 && map.holdings(dead).0 >= 2
    });
    assert!(!map.groups.contains_key(&deleted));
}

#[test]
fn strangers_are_refused_and_told_why() {
    let mut site = Site::new(|_| {});
    site.start(1);
    let address = site.addresses[&1].parse().expect("an address");
    runtime::block_on(&runtime::Options::default(), async {
        let other = replog::ask(&address, None, 77, NodeId(9), b"?").await;
        let Err(replog::Error::Stranger { why, .. }) = other else { panic!("{other:?}") };
        assert!(why.contains("belongs to cluster"), "{why}");

        let mut options = site.options(2);
        options.kind = "other".to_owned();
        let refused = Seat::take(options.clone()).await.map(drop);
        let Err(error) = refused else { panic!("it was let in") };
        assert!(
            error.to_string().contains("this is a cluster of test nodes, and a other node asks"),
            "{error}"
        );
        // The folder stays what it was begun as.
        options.kind = "test".to_owned();
        let Err(error) = Seat::take(options).await.map(drop) else { panic!("it was let in") };
        assert!(error.to_string().contains("it belongs to a other node"), "{error}");

        // Asked twice, as when the first answer was lost: the same number.
        let options = site.options(3);
        let first = Seat::take(options.clone()).await.expect("let in").node();
        let second = Seat::take(options).await.expect("let in").node();
        assert_eq!(first, second);
    })
    .expect("the backend is there");
    let map = until("it is known", || Some(site.map(1)).filter(|map| map.nodes.len() == 2));
    assert_eq!(map.nodes[&NodeId(2)].state, NodeState::Joining);
}
