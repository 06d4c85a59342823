//! Records in, records out: what is answered, what is refused, how long polls wait.

mod support;

use std::io::Write;
use std::time::Duration;

use bytes::BufMut;
use support::*;
use wire::kafka::ResponseError;
use wire::kafka::batch::{self, Producer};
use wire::kafka::messages::*;

#[test]
fn batches_come_back_whole_from_any_offset() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(folder.path()));
    let mut client = broker.client();
    client.create("t", 3);
    assert_eq!(client.produce("t", 1, batch_of(&[b"a", b"b", b"c"])), Ok(0));
    assert_eq!(client.produce("t", 1, batch_of(&[b"d", b"e"])), Ok(3));
    assert_eq!(client.produce("t", 2, batch_of(&[b"x"])), Ok(0));
    for version in 4..=12 {
        let response = client.call(version, &fetch_request("t", 1, 1, 0, 1 << 20));
        let partition = &response.responses[0].partitions[0];
        assert_eq!((partition.error_code, partition.high_watermark), (0, 5));
        let raw = partition.records.clone().unwrap();
        assert_eq!(batch::Header::parse(&raw).unwrap().base_offset, 0, "whole batches");
        let values: Vec<_> = values_of(raw, 1).into_iter().map(|(_, v)| v).collect();
        assert_eq!(values.concat(), b"bcde", "version {version}");
    }
    let small = client.call(11, &fetch_request("t", 1, 0, 0, 1));
    let raw = small.responses[0].partitions[0].records.clone().unwrap();
    assert_eq!(values_of(raw, 0).len(), 3, "always one batch, however large");
    for (offset, expected) in
        [(5, None), (6, Some(ResponseError::OffsetOutOfRange)), (-1, Some(ResponseError::OffsetOutOfRange))]
    {
        let response = client.call(11, &fetch_request("t", 1, offset, 0, 1000));
        assert_eq!(error(response.responses[0].partitions[0].error_code), expected);
    }
    let response = client.call(11, &fetch_request("t", 3, 0, 0, 1000));
    let code = response.responses[0].partitions[0].error_code;
    assert_eq!(error(code), Some(ResponseError::UnknownTopicOrPartition));
    broker.stop();
}

#[test]
fn a_long_poll_ends_with_the_record_it_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(folder.path()));
    let mut producer = broker.client();
    producer.create("t", 4);
    let mut consumer = broker.client();
    for round in 0..8 {
        let partition = round % 4;
        let offset = i64::from(round / 4);
        let mut request = fetch_request("t", 0, offset, 60_000, 1 << 20);
        let asked = |p: i32| {
            let seen = i64::from(round / 4 + i32::from(p < partition));
            let asked = fetch_request::FetchPartition::default().with_partition(p).with_fetch_offset(seen);
            asked.with_partition_max_bytes(1 << 20)
        };
        request.topics[0].partitions = (0..4).map(asked).collect();
        consumer.send(11, &request);
        assert_eq!(producer.produce("t", partition, batch_of(&[b"news"])), Ok(offset));
        let (_, response) = consumer.receive::<FetchRequest>(11);
        let found: Vec<i32> = response.responses[0]
            .partitions
            .iter()
            .filter(|p| p.records.as_ref().is_some_and(|r| !r.is_empty()))
            .map(|p| p.partition_index)
            .collect();
        assert_eq!(found, [partition]);
    }
    let started = runtime::time::now();
    let response = consumer.call(11, &fetch_request("t", 0, 2, 200, 1000));
    assert!(started.elapsed() >= Duration::from_millis(200), "nothing came: it waits its time out");
    assert_eq!(response.responses[0].partitions[0].records.as_deref(), Some(&b""[..]));
    broker.stop();
}

#[test]
fn what_is_not_sound_is_refused_and_nothing_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(Config { message_bytes_max: 2000, ..config(folder.path()) });
    let mut client = broker.client();
    client.create("t", 1);
    let good = batch_of(&[b"value"]);
    let mut bad_crc = good.clone();
    *bad_crc.last_mut().unwrap() ^= 1;
    let mut old = good.clone();
    old[16] = 1;
    let mut wrong_count = good.clone();
    wrong_count[60] = 2;
    batch::seal(&mut wrong_count);
    for (records, expected) in [
        (bad_crc, ResponseError::CorruptMessage),
        (old, ResponseError::UnsupportedForMessageFormat),
        (wrong_count, ResponseError::InvalidRecord),
        (good[..40].to_vec(), ResponseError::CorruptMessage),
        ([&good[..], &good].concat(), ResponseError::InvalidRecord),
        (vec![], ResponseError::InvalidRecord),
        (batch_of(&[&[7; 2000]]), ResponseError::MessageTooLarge),
    ] {
        assert_eq!(client.produce("t", 0, records), Err(expected));
    }
    assert_eq!(client.produce("none", 0, good.clone()), Err(ResponseError::UnknownTopicOrPartition));
    let response = client.call(9, &produce_request("t", 0, good.clone(), 2));
    let code = response.responses[0].partition_responses[0].error_code;
    assert_eq!(error(code), Some(ResponseError::InvalidRequiredAcks));
    assert_eq!(client.produce("t", 0, good), Ok(0), "nothing was stored before");
    broker.stop();
}

use broker::Config;

#[test]
fn acks_0_is_not_answered() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(folder.path()));
    let mut client = broker.client();
    client.create("t", 1);
    for i in 0..10_u8 {
        client.send(7, &produce_request("t", 0, batch_of(&[&[i]]), 0));
    }
    // The answer to this is the next thing that arrives, and the batches before it are in.
    assert_eq!(client.produce("t", 0, batch_of(&[b"last"])), Ok(10));
    broker.stop();
}

#[test]
fn an_idempotent_producer_repeats_without_harm() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(folder.path()));
    let mut client = broker.client();
    client.create("t", 1);
    let plain = InitProducerIdRequest::default().with_transactional_id(None);
    let given = client.call(4, &plain);
    assert_eq!(given.error_code, 0);
    let id = given.producer_id.0;
    let batch = |base_sequence: i32| {
        batch::build(
            &[(1, b"x"), (2, b"y")],
            Some(Producer { id, epoch: given.producer_epoch, base_sequence }),
        )
    };
    assert_eq!(client.produce("t", 0, batch(0)), Ok(0));
    assert_eq!(client.produce("t", 0, batch(2)), Ok(2));
    assert_eq!(client.produce("t", 0, batch(0)), Ok(0), "a repeat is answered with its first offset");
    assert_eq!(client.produce("t", 0, batch(6)), Err(ResponseError::OutOfOrderSequenceNumber));
    assert_eq!(client.read_all("t", 0, 0).len(), 4);
    let other = client.call(4, &plain);
    assert_ne!(other.producer_id.0, id);
    let transactional =
        InitProducerIdRequest::default().with_transactional_id(Some(TransactionalId(text("t"))));
    assert_eq!(error(client.call(4, &transactional).error_code), Some(ResponseError::InvalidRequest));
    broker.stop();
}

#[test]
fn pipelined_batches_keep_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(folder.path()));
    let mut client = broker.client();
    client.create("t", 2);
    for i in 0..400_u32 {
        client.send(9, &produce_request("t", (i % 2) as i32, batch_of(&[&i.to_be_bytes()]), -1));
    }
    for i in 0..400_i64 {
        let (_, response) = client.receive::<ProduceRequest>(9);
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (0, i / 2));
    }
    let values: Vec<u32> = client
        .read_all("t", 1, 0)
        .iter()
        .map(|(_, v)| u32::from_be_bytes(v[..].try_into().unwrap()))
        .collect();
    assert_eq!(values, (0..200).map(|i| 2 * i + 1).collect::<Vec<_>>());
    broker.stop();
}

#[test]
fn offsets_are_found_by_time() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(folder.path()));
    let mut client = broker.client();
    client.create("t", 1);
    for start in [1000_i64, 2000, 3000] {
        let batch = batch::build(&[(start, b"a"), (start + 10, b"b"), (start + 20, b"c")], None);
        client.produce("t", 0, batch).unwrap();
    }
    let mut ask = |timestamp: i64, version: i16| {
        let partition = list_offsets_request::ListOffsetsPartition::default().with_timestamp(timestamp);
        let topic = list_offsets_request::ListOffsetsTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition]);
        let response = client.call(version, &ListOffsetsRequest::default().with_topics(vec![topic]));
        let partition = &response.topics[0].partitions[0];
        assert_eq!(partition.error_code, 0);
        (partition.timestamp, partition.offset)
    };
    for version in 1..=7 {
        assert_eq!(ask(-2, version), (-1, 0));
        assert_eq!(ask(-1, version), (-1, 9));
        assert_eq!(ask(0, version), (1000, 0));
        assert_eq!(ask(2005, version), (2010, 4));
        assert_eq!(ask(3021, version), (-1, -1));
    }
    assert_eq!(ask(-3, 7), (3020, 8));
    broker.stop();
}

#[test]
fn unknown_versions_are_told_what_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(folder.path()));
    let mut client = broker.client();
    let mut request = Vec::new();
    request.put_i32(4 + 4 + 2);
    request.put_i16(18);
    request.put_i16(99);
    request.put_i32(5);
    request.put_i16(-1);
    client.stream.write_all(&request).unwrap();
    let (correlation_id, answer) =
        wire::kafka::message::decode_response::<ApiVersionsResponse>(0, client.frame()).unwrap();
    assert_eq!((correlation_id, error(answer.error_code)), (5, Some(ResponseError::UnsupportedVersion)));
    let produce = answer.api_keys.iter().find(|k| k.api_key == 0).unwrap();
    assert_eq!(produce.min_version, 0, "librdkafka before 2.11.1 stops compressing otherwise");

    let mut old = Vec::new();
    old.put_i16(1); // acks
    old.put_i32(1000);
    old.put_i32(0); // no topics
    let mut request = Vec::new();
    request.put_i32(old.len() as i32 + 10);
    request.put_i16(0);
    request.put_i16(2);
    request.put_i32(6);
    request.put_i16(-1);
    request.extend_from_slice(&old);
    client.stream.write_all(&request).unwrap();
    assert_eq!(&client.frame()[..4], &6_i32.to_be_bytes());
    broker.stop();
}
