//! Topics: made by asking or by name alone, extended, configured, deleted; and what retention takes.

mod support;

use std::time::Duration;

use broker::Config;
use support::*;
use wire::kafka::ResponseError;
use wire::kafka::messages::*;

fn metadata(client: &mut Client, version: i16, names: Option<&[&str]>, create: bool) -> MetadataResponse {
    let topic =
        |name: &&str| metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    let topics = names.map(|names| names.iter().map(topic).collect());
    client
        .call(version, &MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(create))
}

#[test]
fn topics_come_to_be_by_name_unless_forbidden() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(Config { partitions_default: 3, ..config(folder.path()) });
    let mut client = broker.client();
    for version in 4..=12 {
        let name = format!("auto-{version}");
        let refused = metadata(&mut client, version, Some(&[&name]), false);
        assert_eq!(error(refused.topics[0].error_code), Some(ResponseError::UnknownTopicOrPartition));
        let made = metadata(&mut client, version, Some(&[&name]), true);
        assert_eq!((made.topics[0].error_code, made.topics[0].partitions.len()), (0, 3), "version {version}");
        assert_eq!(made.brokers[0].port.to_string(), broker.address.rsplit_once(':').unwrap().1);
    }
    for version in 0..=3 {
        let request = metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name("old")));
        let response = client.call(version, &MetadataRequest::default().with_topics(Some(vec![request])));
        assert_eq!(response.topics[0].error_code, 0, "version {version}");
    }
    let bad = metadata(&mut client, 9, Some(&["no/good"]), true);
    assert_eq!(error(bad.topics[0].error_code), Some(ResponseError::InvalidTopicException));
    assert_eq!(metadata(&mut client, 9, None, false).topics.len(), 10);
    assert_eq!(metadata(&mut client, 9, Some(&[]), false).topics.len(), 0);
    broker.stop();
}

#[test]
fn a_topic_made_anew_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(folder.path()));
    let mut client = broker.client();
    client.create("t", 2);
    client.produce("t", 1, batch_of(&[b"old"])).unwrap();
    for version in [2, 5, 6] {
        let request = CreateTopicsRequest::default().with_topics(vec![
            create_topics_request::CreatableTopic::default()
                .with_name(topic_name("t"))
                .with_num_partitions(1)
                .with_replication_factor(1),
        ]);
        let again = client.call(version, &request);
        assert_eq!(error(again.topics[0].error_code), Some(ResponseError::TopicAlreadyExists));
    }
    let state = delete_topics_request::DeleteTopicState::default().with_name(Some(topic_name("t")));
    let deleted = client.call(6, &DeleteTopicsRequest::default().with_topics(vec![state.clone()]));
    assert_eq!(deleted.responses[0].error_code, 0);
    let deleted = client.call(6, &DeleteTopicsRequest::default().with_topics(vec![state]));
    assert_eq!(error(deleted.responses[0].error_code), Some(ResponseError::UnknownTopicOrPartition));
    assert_eq!(client.produce("t", 1, batch_of(&[b"x"])), Err(ResponseError::UnknownTopicOrPartition));
    client.create("t", 2);
    assert_eq!(client.produce("t", 1, batch_of(&[b"new"])), Ok(0));
    // The old folder goes with the next sync.
    let deadline = runtime::time::now() + DEADLINE;
    let folders = || std::fs::read_dir(folder.path().join("partitions")).unwrap().count();
    while folders() != 1 {
        assert!(runtime::time::now() < deadline, "the old partition's folder is still there");
        std::thread::yield_now();
    }
    broker.stop();
    let broker = Broker::start(config(folder.path()));
    assert_eq!(broker.client().read_all("t", 1, 0), [(0, b"new".to_vec())]);
    broker.stop();
}

#[test]
fn partitions_and_settings_change_and_last() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(folder.path()));
    let mut client = broker.client();
    client.create_with("t", 1, &[("retention.ms", "1000")]);
    let more = |count: i32| {
        let topic = create_partitions_request::CreatePartitionsTopic::default()
            .with_name(topic_name("t"))
            .with_count(count);
        CreatePartitionsRequest::default().with_topics(vec![topic.with_assignments(None)])
    };
    assert_eq!(client.call(3, &more(4)).results[0].error_code, 0);
    let fewer = client.call(0, &more(2)).results[0].error_code;
    assert_eq!(error(fewer), Some(ResponseError::InvalidPartitions));
    assert_eq!(client.produce("t", 3, batch_of(&[b"x"])), Ok(0));
    let alter = |name: &str, operation: i8, value: Option<&str>| {
        let config = incremental_alter_configs_request::AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(operation)
            .with_value(value.map(text));
        let resource = incremental_alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text("t"))
            .with_configs(vec![config]);
        IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
    };
    assert_eq!(client.call(1, &alter("max.message.bytes", 0, Some("100"))).responses[0].error_code, 0);
    assert_eq!(client.call(1, &alter("retention.ms", 1, None)).responses[0].error_code, 0);
    let bad = client.call(0, &alter("cleanup.policy", 0, Some("compact"))).responses[0].error_code;
    assert_eq!(error(bad), Some(ResponseError::InvalidConfig));
    broker.stop();

    let broker = Broker::start(config(folder.path()));
    let mut client = broker.client();
    assert_eq!(client.produce("t", 3, batch_of(&[&[1; 100]])), Err(ResponseError::MessageTooLarge));
    for version in 1..=4 {
        let resource = describe_configs_request::DescribeConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text("t"))
            .with_configuration_keys(None);
        let response =
            client.call(version, &DescribeConfigsRequest::default().with_resources(vec![resource]));
        let set: Vec<_> = response.results[0].configs.iter().filter(|c| c.config_source == 1).collect();
        assert_eq!(
            (set.len(), &*set[0].name, set[0].value.as_deref()),
            (1, "max.message.bytes", Some("100"))
        );
    }
    assert_eq!(metadata(&mut client, 9, Some(&["t"]), false).topics[0].partitions.len(), 4);
    broker.stop();
}

#[test]
fn retention_takes_old_segments_and_they_stay_gone() {
    let folder = tempfile::tempdir().unwrap();
    let settings =
        || Config { segment_bytes: 1 << 20, retention_check_ms: 20, tail_bytes: 1, ..config(folder.path()) };
    let broker = Broker::start(settings());
    let mut client = broker.client();
    client.create_with("t", 1, &[("retention.bytes", "2500000"), ("retention.ms", "-1")]);
    let value = vec![7; 200_000];
    for _ in 0..40 {
        client.produce("t", 0, batch_of(&[&value])).unwrap();
    }
    let earliest = |client: &mut Client| {
        let partition = list_offsets_request::ListOffsetsPartition::default().with_timestamp(-2);
        let topic = list_offsets_request::ListOffsetsTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition]);
        client.call(4, &ListOffsetsRequest::default().with_topics(vec![topic])).topics[0].partitions[0].offset
    };
    let deadline = runtime::time::now() + DEADLINE;
    while earliest(&mut client) < 20 {
        assert!(runtime::time::now() < deadline);
        std::thread::yield_now();
    }
    let first = earliest(&mut client);
    assert_eq!(client.read_all("t", 0, first).len() as i64, 40 - first);
    let delete = delete_records_request::DeleteRecordsPartition::default().with_offset(38);
    let topic = delete_records_request::DeleteRecordsTopic::default()
        .with_name(topic_name("t"))
        .with_partitions(vec![delete]);
    let deleted = client.call(2, &DeleteRecordsRequest::default().with_topics(vec![topic]));
    assert_eq!(deleted.topics[0].partitions[0].low_watermark, 38);
    broker.stop();
    let broker = Broker::start(settings());
    let mut client = broker.client();
    assert_eq!(earliest(&mut client), 38);
    assert_eq!(client.produce("t", 0, batch_of(&[b"next"])), Ok(40));
    // Everything is past its time now: its records are of the year 1970.
    let config = incremental_alter_configs_request::AlterableConfig::default()
        .with_name(text("retention.ms"))
        .with_value(Some(text("1000")));
    let resource = incremental_alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("t"))
        .with_configs(vec![config]);
    client.call(0, &IncrementalAlterConfigsRequest::default().with_resources(vec![resource]));
    let deadline = runtime::time::now() + Duration::from_secs(20);
    while earliest(&mut client) < 41 {
        assert!(runtime::time::now() < deadline);
        std::thread::yield_now();
    }
    broker.stop();
    let broker = Broker::start(settings());
    assert_eq!(
        broker.client().produce("t", 0, batch_of(&[b"after"])),
        Ok(41),
        "offsets are never used again"
    );
    broker.stop();
}
