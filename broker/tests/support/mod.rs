//! A broker on a free port in this process, and a client that speaks through kafka-protocol.
#![allow(dead_code, unreachable_pub)] // each test file uses its share

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use broker::{Config, Server};
use bytes::Bytes;
use wire::kafka::messages::*;
use wire::kafka::{Request, ResponseError, StrBytes, batch, message};

/// No answer comes later than this, or the test fails.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A running broker; [`Broker::stop`] ends it cleanly.
pub struct Broker {
    pub address: String,
    service: ops::Service,
    thread: Option<thread::JoinHandle<Result<(), broker::Error>>>,
}

/// Settings for tests: small and quick.
pub fn config(data: &Path) -> Config {
    Config {
        data: data.to_owned(),
        listen: "127.0.0.1:0".into(),
        cores: Some(2),
        sync_ms: 50,
        group_initial_delay_ms: 0,
        group_session_ms_min: 100,
        ..Config::default()
    }
}

impl Broker {
    pub fn start(config: Config) -> Self {
        Self::try_start(config).unwrap()
    }

    /// Gives the error of a broker that doesn't come up.
    pub fn try_start(config: Config) -> Result<Self, broker::Error> {
        let server = Server::bind(config)?;
        let address = server.local_addr().to_string();
        let service =
            ops::Service::start(ops::Options { name: "broker", ..ops::Options::default() }).unwrap();
        let running = service.clone();
        let thread = thread::Builder::new().spawn(move || server.run(&running)).unwrap();
        let mut broker = Self { address, service, thread: Some(thread) };
        // The port is bound from the start; an answer means that it serves.
        loop {
            if broker.thread.as_ref().is_some_and(thread::JoinHandle::is_finished) {
                let ended = broker.thread.take().unwrap().join().unwrap();
                return ended.map(|()| unreachable!("a broker runs until it is stopped"));
            }
            let Ok(stream) = TcpStream::connect(&broker.address) else { continue };
            stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let mut client = Client { stream, next: 0 };
            let request = message::encode_request(0, 0, "probe", &ApiVersionsRequest::default());
            // Earlier probes may be all the connections that it takes.
            let sent = client.stream.write_all(&request).is_ok();
            if sent && client.stream.read_exact(&mut [0; 4]).is_ok() {
                return Ok(broker);
            }
        }
    }

    pub fn client(&self) -> Client {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Client { stream, next: 0 }
    }

    pub fn stop(mut self) {
        self.service.stop().request();
        self.thread.take().unwrap().join().unwrap().unwrap();
        self.service.shutdown();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.service.stop().request();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One connection.
pub struct Client {
    pub stream: TcpStream,
    next: i32,
}

pub fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

pub fn topic_name(s: &str) -> TopicName {
    TopicName(text(s))
}

pub fn error(code: i16) -> Option<ResponseError> {
    ResponseError::try_from_code(code)
}

impl Client {
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.next += 1;
        let frame = message::encode_request(self.next, version, "test", request);
        self.stream.write_all(&frame).unwrap();
        self.next
    }

    pub fn receive<R: Request>(&mut self, version: i16) -> (i32, R::Response) {
        message::decode_response(version, self.frame()).unwrap()
    }

    pub fn frame(&mut self) -> Bytes {
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix).unwrap();
        let mut frame = vec![0; u32::from_be_bytes(prefix) as usize];
        self.stream.read_exact(&mut frame).unwrap();
        frame.into()
    }

    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let sent = self.send(version, request);
        let (correlation_id, response) = self.receive::<R>(version);
        assert_eq!(correlation_id, sent);
        response
    }

    pub fn create(&mut self, name: &str, partitions: i32) {
        self.create_with(name, partitions, &[]);
    }

    pub fn create_with(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let config = |(name, value): &(&str, &str)| {
            create_topics_request::CreatableTopicConfig::default()
                .with_name(text(name))
                .with_value(Some(text(value)))
        };
        let topic = create_topics_request::CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs.iter().map(config).collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(5000);
        let response = self.call(5, &request);
        assert_eq!(error(response.topics[0].error_code), None, "{:?}", response.topics[0].error_message);
    }

    /// Produces one batch: its base offset.
    pub fn produce(&mut self, topic: &str, partition: i32, records: Vec<u8>) -> Result<i64, ResponseError> {
        let response = self.call(9, &produce_request(topic, partition, records, -1));
        let partition = &response.responses[0].partition_responses[0];
        error(partition.error_code).map_or(Ok(partition.base_offset), Err)
    }

    /// The values from `offset` on, as long as there are any.
    pub fn read_all(&mut self, topic: &str, partition: i32, offset: i64) -> Vec<(i64, Vec<u8>)> {
        let mut values = Vec::new();
        let mut next = offset;
        loop {
            let response = self.call(11, &fetch_request(topic, partition, next, 0, 1 << 20));
            let partition = &response.responses[0].partitions[0];
            assert_eq!(error(partition.error_code), None);
            let fetched = values_of(partition.records.clone().unwrap_or_default(), next);
            let Some((last, _)) = fetched.last() else { return values };
            next = last + 1;
            values.extend(fetched);
        }
    }
}

pub fn produce_request(topic: &str, partition: i32, records: Vec<u8>, acks: i16) -> ProduceRequest {
    let data = produce_request::PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(Bytes::from(records)));
    let topic = produce_request::TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(10_000).with_topic_data(vec![topic])
}

pub fn fetch_request(
    topic: &str,
    partition: i32,
    offset: i64,
    max_wait_ms: i32,
    bytes_max: i32,
) -> FetchRequest {
    let partition = fetch_request::FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(bytes_max);
    let topic =
        fetch_request::FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(1 << 24)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// A batch of these values, at time 1000 and on.
pub fn batch_of(values: &[&[u8]]) -> Vec<u8> {
    let records: Vec<(i64, &[u8])> = values.iter().enumerate().map(|(i, v)| (1000 + i as i64, *v)).collect();
    batch::build(&records, None)
}

/// The records in fetched batches from `offset` on, decoded by kafka-protocol.
pub fn values_of(mut records: Bytes, offset: i64) -> Vec<(i64, Vec<u8>)> {
    let mut values = Vec::new();
    while !records.is_empty() {
        let set = kafka_protocol::records::RecordBatchDecoder::decode(&mut records).unwrap();
        let kept = set.records.into_iter().filter(|r| r.offset >= offset);
        values.extend(kept.map(|r| (r.offset, r.value.unwrap_or_default().to_vec())));
    }
    values
}
