//! Peers that lie: an error or a close, and the broker serves on.

mod support;

use std::io::{ErrorKind, Read, Write};

use broker::Config;
use support::*;
use wire::kafka::messages::*;
use wire::kafka::{ResponseError, batch};

/// The broker closes the connection, perhaps after answers.
fn is_closed(client: &mut Client) -> bool {
    let mut sink = [0; 4096];
    loop {
        match client.stream.read(&mut sink) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) => return !matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}

/// xorshift: the same bytes every time.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn nonsense_ends_its_connection_only() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(Config { stall_ms: 200, ..config(folder.path()) });
    let mut good = broker.client();
    good.create("t", 1);
    let mut nonsense: Vec<Vec<u8>> = (1..40).map(|seed| noise(seed, 3000)).collect();
    nonsense.push(vec![b'a'; 1 << 20]);
    nonsense.push(i32::MAX.to_be_bytes().to_vec());
    nonsense.push((-1_i32).to_be_bytes().to_vec());
    nonsense.push(vec![0; 4]);
    // A frame of 50 MiB that never comes, and half a request.
    nonsense.push((50_i32 << 20).to_be_bytes().to_vec());
    nonsense.push(vec![0, 0, 0, 30, 0, 3, 0, 9, 0, 0]);
    // An array of two billion topics: Metadata 1 with nothing behind the count.
    nonsense.push([&[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff][..], &i32::MAX.to_be_bytes()].concat());
    // The same in compact form.
    nonsense.push(
        [&[0, 0, 0, 17, 0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0][..], &[0xff, 0xff, 0xff, 0xff, 7, 0]].concat(),
    );
    for (n, bytes) in nonsense.iter().enumerate() {
        let mut bad = broker.client();
        // It may be cut off while it still talks.
        let _ = bad.stream.write_all(bytes);
        assert!(is_closed(&mut bad), "nonsense {n}");
        assert_eq!(good.call(0, &ApiVersionsRequest::default()).error_code, 0);
    }
    assert_eq!(good.produce("t", 0, batch_of(&[b"still here"])), Ok(0));
    broker.stop();
}

#[test]
fn every_api_survives_noise_in_its_body() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(folder.path()));
    let mut good = broker.client();
    for served in broker::core::api::api_versions::SERVED {
        for version in served.min..=served.max {
            for seed in 1..4 {
                let body = noise(seed * 1000 + version as u64, 60);
                let mut frame = ((10 + body.len()) as i32).to_be_bytes().to_vec();
                frame.extend_from_slice(&(served.key as i16).to_be_bytes());
                frame.extend_from_slice(&version.to_be_bytes());
                frame.extend_from_slice(&7_i32.to_be_bytes());
                frame.extend_from_slice(&(-1_i16).to_be_bytes());
                frame.extend_from_slice(&body);
                let mut bad = broker.client();
                bad.stream.write_all(&frame).unwrap();
                bad.stream.shutdown(std::net::Shutdown::Write).unwrap();
                assert!(is_closed(&mut bad), "{:?} {version}", served.key);
            }
        }
    }
    assert_eq!(good.call(0, &ApiVersionsRequest::default()).error_code, 0);
    broker.stop();
}

#[test]
fn connections_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(Config { connections_max: 3, ..config(folder.path()) });
    let mut kept: Vec<Client> = Vec::new();
    while kept.len() < 3 {
        let mut client = broker.client();
        let request = wire::kafka::message::encode_request(1, 0, "t", &ApiVersionsRequest::default());
        // The probe's connection may not be gone yet.
        if client.stream.write_all(&request).is_ok() && client.stream.read_exact(&mut [0; 8]).is_ok() {
            kept.push(client);
        }
    }
    assert!(is_closed(&mut broker.client()));
    drop(kept.pop());
    broker.stop();
}

#[test]
fn times_at_the_end_of_their_range_are_looked_up() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(folder.path()));
    let mut client = broker.client();
    client.create("t", 1);
    let mut bytes = batch::build(&[(i64::MAX - 1, b"a"), (i64::MAX, b"b")], None);
    // The second record's time, told as a difference, becomes one beyond what there is.
    let last_delta = bytes.len() - 6;
    assert_eq!(bytes[last_delta], 2);
    bytes[last_delta] = 4;
    batch::seal(&mut bytes);
    assert_eq!(client.produce("t", 0, bytes), Ok(0));
    for (timestamp, offset) in [(0, 0), (i64::MAX, 1)] {
        let partition = list_offsets_request::ListOffsetsPartition::default().with_timestamp(timestamp);
        let topic = list_offsets_request::ListOffsetsTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition]);
        let response = client.call(5, &ListOffsetsRequest::default().with_topics(vec![topic]));
        assert_eq!(response.topics[0].partitions[0].offset, offset);
    }
    broker.stop();
}

#[test]
fn what_a_client_says_is_never_too_long_to_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(folder.path()));
    let long = "x".repeat(32_760);
    let mut client = broker.client();
    // A config that is not known, its name in the error.
    let config = create_topics_request::CreatableTopicConfig::default()
        .with_name(text(&long))
        .with_value(Some(text("1")));
    let topic = create_topics_request::CreatableTopic::default()
        .with_name(topic_name("t"))
        .with_num_partitions(1)
        .with_replication_factor(1)
        .with_configs(vec![config]);
    let response = client.call(4, &CreateTopicsRequest::default().with_topics(vec![topic]));
    assert_eq!(error(response.topics[0].error_code), Some(ResponseError::InvalidConfig));
    // A client id, which is a part of the member id.
    let join = join("g", 0);
    let frame = wire::kafka::message::encode_request(9, 2, &long, &join);
    client.stream.write_all(&frame).unwrap();
    let (_, joined) = client.receive::<JoinGroupRequest>(2);
    assert_eq!(error(joined.error_code), None);
    // Names that a later version may send, and an older one could not be told.
    for (group, instance) in [("g".repeat(40_000), None), ("h".into(), Some("i".repeat(40_000)))] {
        let join = join
            .clone()
            .with_group_id(GroupId(text(&group)))
            .with_group_instance_id(instance.as_deref().map(text));
        assert_ne!(client.call(7, &join).error_code, 0);
    }
    assert_eq!(client.call(0, &ListGroupsRequest::default()).groups.len(), 1);
    broker.stop();
}

#[test]
fn a_short_request_has_no_endless_answer() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(folder.path()));
    let mut client = broker.client();
    client.create("t", 100);
    let topic = metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name("t")));
    let response = client.call(9, &MetadataRequest::default().with_topics(Some(vec![topic; 50_000])));
    assert_eq!(response.topics.len(), 1);
    let group = offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(GroupId(text("g")));
    let response = client.call(8, &OffsetFetchRequest::default().with_groups(vec![group; 50_000]));
    assert_eq!(response.groups.len(), 1);
    let groups = vec![GroupId(text("g")); 50_000];
    assert_eq!(client.call(5, &DescribeGroupsRequest::default().with_groups(groups)).groups.len(), 1);
    broker.stop();
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(Config { stall_ms: 500, ..config(folder.path()) });
    let mut good = broker.client();
    good.create("t", 1);
    for _ in 0..16 {
        good.produce("t", 0, batch_of(&[&[7; 1_000_000]])).unwrap();
    }
    let mut lazy = broker.client();
    for _ in 0..40 {
        lazy.send(11, &fetch_request("t", 0, 0, 0, 16 << 20));
    }
    let deadline = runtime::time::now() + DEADLINE;
    while lazy.stream.write(&[0]).is_ok() {
        assert!(runtime::time::now() < deadline, "still connected");
        assert_eq!(good.call(0, &ApiVersionsRequest::default()).error_code, 0);
    }
    broker.stop();
}

/// A join of a member alone in its group.
fn join(group: &str, metadata_bytes: usize) -> JoinGroupRequest {
    let protocol = join_group_request::JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(vec![1; metadata_bytes].into());
    JoinGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_session_timeout_ms(10_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

#[test]
fn groups_that_are_left_make_room_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(Config { groups_max: 3, cores: Some(1), ..config(folder.path()) });
    let mut client = broker.client();
    for round in 0..20 {
        let group = format!("g{round}");
        let joined = client.call(2, &join(&group, 10));
        assert_eq!(error(joined.error_code), None, "round {round}");
        let leave = LeaveGroupRequest::default()
            .with_group_id(GroupId(text(&group)))
            .with_member_id(joined.member_id);
        assert_eq!(client.call(1, &leave).error_code, 0);
    }
    broker.stop();
}

#[test]
fn what_members_and_offsets_take_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Config {
        groups_bytes_max: 300_000,
        offsets_bytes_max: 20_000,
        cores: Some(1),
        ..config(folder.path())
    };
    let broker = Broker::start(limits.clone());
    let mut client = broker.client();
    let mut joins = (0..10).map(|n| error(client.call(2, &join(&format!("g{n}"), 50_000)).error_code));
    assert_eq!(joins.by_ref().take_while(Option::is_none).count(), 5);
    assert_eq!(joins.next(), Some(Some(ResponseError::CoordinatorNotAvailable)));
    client.create("t", 1);
    let commit = |group: &str, offset: i64| {
        let partition =
            offset_commit_request::OffsetCommitRequestPartition::default().with_committed_offset(offset);
        let topic = offset_commit_request::OffsetCommitRequestTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition]);
        OffsetCommitRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic])
    };
    let code = |response: OffsetCommitResponse| error(response.topics[0].partitions[0].error_code);
    let full = Some(ResponseError::InvalidCommitOffsetSize);
    let stored =
        (0..1000).take_while(|n| code(client.call(7, &commit(&format!("o{n}"), 1))).is_none()).count();
    assert!((10..500).contains(&stored), "{stored}");
    assert_eq!(code(client.call(7, &commit("more", 1))), full);
    assert_eq!(code(client.call(7, &commit("o3", 2))), None, "what is known may change");
    broker.stop();
    let broker = Broker::start(limits);
    assert_eq!(code(broker.client().call(7, &commit("more", 1))), full, "after a restart too");
    broker.stop();
}
