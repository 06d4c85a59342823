//! Consumer groups over sockets: joining, sharing, leaving, offsets that last.

mod support;

use bytes::Bytes;
use support::*;
use wire::kafka::messages::*;
use wire::kafka::{ResponseError, StrBytes};

fn join(group: &str, member_id: &StrBytes) -> JoinGroupRequest {
    let protocol = join_group_request::JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from_static(b"topics"));
    JoinGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_member_id(member_id.clone())
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

fn sync(
    group: &str,
    member_id: &StrBytes,
    generation: i32,
    shares: &[(&StrBytes, &'static str)],
) -> SyncGroupRequest {
    let share = |(id, share): &(&StrBytes, &'static str)| {
        sync_group_request::SyncGroupRequestAssignment::default()
            .with_member_id((*id).clone())
            .with_assignment(Bytes::from_static(share.as_bytes()))
    };
    SyncGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id(generation)
        .with_member_id(member_id.clone())
        .with_assignments(shares.iter().map(share).collect())
}

fn heartbeat(group: &str, member_id: &StrBytes, generation: i32) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_member_id(member_id.clone())
        .with_generation_id(generation)
}

/// Joins as a new member of version 4 or later does: told its id first.
fn first_join(client: &mut Client, version: i16) -> StrBytes {
    let told = client.call(version, &join("g", &StrBytes::new()));
    assert_eq!(error(told.error_code), Some(ResponseError::MemberIdRequired));
    told.member_id
}

#[test]
fn two_members_share_and_one_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(folder.path()));
    let (mut one, mut two) = (broker.client(), broker.client());
    let found = one.call(4, &FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]));
    assert_eq!(found.coordinators[0].error_code, 0);
    assert_eq!(format!("{}:{}", &*found.coordinators[0].host, found.coordinators[0].port), broker.address);

    let a = first_join(&mut one, 9);
    let alone = one.call(9, &join("g", &a));
    assert_eq!((alone.error_code, alone.generation_id, &alone.leader), (0, 1, &a));
    assert_eq!(one.call(5, &sync("g", &a, 1, &[(&a, "all")])).assignment, "all");
    assert_eq!(one.call(4, &heartbeat("g", &a, 1)).error_code, 0);

    let b = first_join(&mut two, 6);
    two.send(6, &join("g", &b));
    // The group rebalances as soon as the second is in; the heartbeat says so.
    while one.call(4, &heartbeat("g", &a, 1)).error_code == 0 {}
    assert_eq!(
        error(one.call(4, &heartbeat("g", &a, 1)).error_code),
        Some(ResponseError::RebalanceInProgress)
    );
    let lead = one.call(9, &join("g", &a));
    let (_, follow) = two.receive::<JoinGroupRequest>(6);
    assert_eq!((lead.generation_id, follow.generation_id, lead.members.len()), (2, 2, 2));
    assert_eq!((&follow.leader, follow.members.len()), (&a, 0));
    two.send(4, &sync("g", &b, 2, &[]));
    assert_eq!(one.call(5, &sync("g", &a, 2, &[(&a, "left"), (&b, "right")])).assignment, "left");
    assert_eq!(two.receive::<SyncGroupRequest>(4).1.assignment, "right");

    let described = one.call(5, &DescribeGroupsRequest::default().with_groups(vec![GroupId(text("g"))]));
    assert_eq!((&*described.groups[0].group_state, described.groups[0].members.len()), ("Stable", 2));
    let leave = leave_group_request::MemberIdentity::default().with_member_id(b.clone());
    let request = LeaveGroupRequest::default().with_group_id(GroupId(text("g"))).with_members(vec![leave]);
    assert_eq!(two.call(4, &request).members[0].error_code, 0);
    assert_eq!(
        error(one.call(4, &heartbeat("g", &a, 2)).error_code),
        Some(ResponseError::RebalanceInProgress)
    );
    assert_eq!(one.call(9, &join("g", &a)).members.len(), 1);
    assert_eq!(error(two.call(4, &heartbeat("g", &b, 2)).error_code), Some(ResponseError::UnknownMemberId));
    broker.stop();
}

#[test]
fn a_silent_member_is_out_after_its_session() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(folder.path()));
    let (mut one, mut two) = (broker.client(), broker.client());
    let quick = |id: &StrBytes| join("g", id).with_session_timeout_ms(200).with_rebalance_timeout_ms(60_000);
    let a = one.call(2, &quick(&StrBytes::new())).member_id;
    one.call(2, &sync("g", &a, 1, &[(&a, "all")]));
    // The first says nothing more; the second gets the group to itself, long before the rebalance timeout.
    let alone = two.call(2, &quick(&StrBytes::new()));
    assert_eq!((alone.error_code, alone.members.len(), &alone.leader), (0, 1, &alone.member_id));
    assert_eq!(error(one.call(2, &heartbeat("g", &a, 1)).error_code), Some(ResponseError::UnknownMemberId));
    broker.stop();
}

fn commit(group: &str, topic: &str, partition: i32, offset: i64, note: &str) -> OffsetCommitRequest {
    let partition = offset_commit_request::OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(text(note)));
    let topic = offset_commit_request::OffsetCommitRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

fn committed(client: &mut Client, group: &str, version: i16) -> Vec<(i32, i64, String)> {
    let triple = |index: i32, offset: i64, note: &Option<StrBytes>| {
        (index, offset, note.as_deref().unwrap_or("").into())
    };
    if version >= 8 {
        let group = offset_fetch_request::OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(text(group)))
            .with_topics(None);
        let response = client.call(version, &OffsetFetchRequest::default().with_groups(vec![group]));
        let partitions = response.groups[0].topics.iter().flat_map(|t| &t.partitions);
        return partitions.map(|p| triple(p.partition_index, p.committed_offset, &p.metadata)).collect();
    }
    let request = OffsetFetchRequest::default().with_group_id(GroupId(text(group))).with_topics(None);
    let response = client.call(version, &request);
    let partitions = response.topics.iter().flat_map(|t| &t.partitions);
    partitions.map(|p| triple(p.partition_index, p.committed_offset, &p.metadata)).collect()
}

#[test]
fn commits_last() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(folder.path()));
    let mut client = broker.client();
    client.create("t", 2);
    client.create("u", 1);
    for group in ["g1", "g2", "g3", "g4"] {
        for version in 2..=8 {
            let offset = i64::from(version);
            let response =
                client.call(version, &commit(group, "t", 0, offset, &format!("{group} at {offset}")));
            assert_eq!(response.topics[0].partitions[0].error_code, 0);
        }
        client.call(8, &commit(group, "t", 1, 70, ""));
        client.call(8, &commit(group, "u", 0, 80, ""));
    }
    let response = client.call(8, &commit("g1", "nowhere", 0, 1, ""));
    let code = response.topics[0].partitions[0].error_code;
    assert_eq!(error(code), Some(ResponseError::UnknownTopicOrPartition));
    let response = client.call(8, &commit("g1", "t", 0, 1, &"x".repeat(5000)));
    assert_eq!(
        error(response.topics[0].partitions[0].error_code),
        Some(ResponseError::OffsetMetadataTooLarge)
    );
    let member =
        commit("g1", "t", 0, 1, "").with_generation_id_or_member_epoch(3).with_member_id(text("who"));
    let response = client.call(8, &member);
    assert_eq!(error(response.topics[0].partitions[0].error_code), Some(ResponseError::IllegalGeneration));
    let delete = DeleteTopicsRequest::default().with_topic_names(vec![topic_name("u")]);
    assert_eq!(client.call(5, &delete).responses[0].error_code, 0);
    broker.stop();

    let broker = Broker::start(config(folder.path()));
    let mut client = broker.client();
    for group in ["g1", "g2", "g3", "g4"] {
        for version in [2, 5, 7, 8] {
            let expected = [(0, 8, format!("{group} at 8")), (1, 70, String::new())];
            assert_eq!(committed(&mut client, group, version), expected, "{group} {version}");
        }
    }
    let listed = client.call(4, &ListGroupsRequest::default());
    assert_eq!(listed.groups.len(), 4);
    let names = vec![GroupId(text("g1")), GroupId(text("never"))];
    let deleted = client.call(2, &DeleteGroupsRequest::default().with_groups_names(names));
    let codes: Vec<_> = deleted.results.iter().map(|r| error(r.error_code)).collect();
    assert_eq!(codes, [None, Some(ResponseError::GroupIdNotFound)]);
    assert!(committed(&mut client, "g1", 8).is_empty());
    broker.stop();
}
