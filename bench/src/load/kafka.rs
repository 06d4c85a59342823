//! Kafka's protocol, as a producer and as a consumer.
//!
//! What always holds: requests are built once and only their numbers change; of an answer's first bytes everything that could
//! be wrong is read, the rest is counted and not looked at. Versions are the last ones without tagged fields: Produce 7,
//! Fetch 11 (<https://kafka.apache.org/protocol>).

use super::{Client, Tally};
use crate::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;
use wire::kafka::messages::create_topics_request::CreatableTopic;
use wire::kafka::messages::fetch_request::{FetchPartition, FetchTopic};
use wire::kafka::messages::produce_request::{PartitionProduceData, TopicProduceData};
use wire::kafka::messages::{CreateTopicsRequest, FetchRequest, ProduceRequest, TopicName};
use wire::kafka::{Request, StrBytes, batch, message};

/// The topic of every case.
const TOPIC: &str = "bench";
const CLIENT: &str = "bench";
const PRODUCE: i16 = 7;
const FETCH: i16 = 11;
const CREATE_TOPICS: i16 = 4;
/// Milliseconds that a server may wait before it answers, and that we wait for an answer to a call.
const TIMEOUT_MS: i32 = 10_000;
/// The longest answer that is believed.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Values of large batches have about this many bytes.
const RECORD_BYTES: usize = 1024;

fn topic() -> TopicName {
    TopicName(StrBytes::from_static_str(TOPIC))
}

/// Makes the topic.
///
/// # Errors
/// When the broker can't be asked or refuses.
pub(crate) fn create_topic(address: SocketAddr, partitions: u32) -> Result<(), Error> {
    let topic = CreatableTopic::default()
        .with_name(topic())
        .with_num_partitions(i32::try_from(partitions).expect("few partitions"))
        .with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS);
    let response = call(address, CREATE_TOPICS, &request)?;
    match response.topics.first().map(|topic| topic.error_code) {
        Some(0) => Ok(()),
        code => Err(Error::WrongAnswer(format!("making a topic of {partitions} partitions: error {code:?}"))),
    }
}

/// One request on a connection of its own.
fn call<R: Request>(address: SocketAddr, version: i16, request: &R) -> Result<R::Response, Error> {
    let patience = Duration::from_millis(TIMEOUT_MS.unsigned_abs().into());
    let exchange = || {
        let mut stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(&message::encode_request(1, version, CLIENT, request))?;
        let mut prefix = [0; 4];
        stream.read_exact(&mut prefix)?;
        let bytes = u32::from_be_bytes(prefix) as usize;
        if bytes > ANSWER_BYTES_MAX {
            return Err(std::io::Error::other(format!("an answer of {bytes} bytes")));
        }
        let mut frame = vec![0; bytes];
        stream.read_exact(&mut frame)?;
        message::decode_response(version, frame.into()).map_err(std::io::Error::other)
    };
    exchange().map(|(_, response)| response).map_err(Error::io(format!("asking {address}")))
}

/// A record batch of all but `bytes` bytes in all, and how many records it has: one, or one for each KiB.
pub(crate) fn batch_of(bytes: usize) -> (Vec<u8>, u64) {
    let records = (bytes / RECORD_BYTES).max(1);
    let mut value = vec![b'v'; bytes / records];
    loop {
        let batch = batch::build(&vec![(0, value.as_slice()); records], None);
        if batch.len() <= bytes {
            return (batch, records as u64);
        }
        value.truncate(value.len() - (batch.len() - bytes).div_ceil(records));
    }
}

/// Requests that are alike but for a few numbers.
#[derive(Debug, Clone)]
struct Template {
    frame: Rc<[u8]>,
    correlation_id: i32,
}

impl Template {
    /// Where every request has its correlation id.
    const CORRELATION: usize = 8;

    fn new<R: Request>(version: i16, request: &R) -> Template {
        let frame = message::encode_request(0, version, CLIENT, request);
        Template { frame: Rc::from(&frame[..]), correlation_id: 0 }
    }

    /// Appends the next request, and gives where it begins.
    fn append(&mut self, out: &mut Vec<u8>) -> usize {
        let at = out.len();
        out.extend_from_slice(&self.frame);
        out[at + Self::CORRELATION..][..4].copy_from_slice(&self.correlation_id.to_be_bytes());
        self.correlation_id = self.correlation_id.wrapping_add(1);
        at
    }
}

/// Produces one batch a request, `acks=all`, to one partition after another.
#[derive(Debug)]
pub(crate) struct Producer {
    template: Template,
    /// Behind this byte of a request: the partition's index, the batch's length, the batch.
    index_at: usize,
    partition: u32,
    step: u32,
    partitions: u32,
    answers: Answers,
}

impl Producer {
    /// Of `batch`, to partition `first` and every `step`-th from there, again and again.
    pub(crate) fn new(batch: &[u8], first: usize, step: usize, partitions: u32) -> Producer {
        let data = PartitionProduceData::default().with_records(Some(batch.to_vec().into()));
        let topic = TopicProduceData::default().with_name(topic()).with_partition_data(vec![data]);
        let request =
            ProduceRequest::default().with_acks(-1).with_timeout_ms(TIMEOUT_MS).with_topic_data(vec![topic]);
        let template = Template::new(PRODUCE, &request);
        let index_at = template.frame.len() - batch.len() - 8;
        let number = |count: usize| u32::try_from(count).expect("few connections");
        let (partition, step) = (number(first) % partitions, number(step));
        Producer { template, index_at, partition, step, partitions, answers: Answers::default() }
    }
}

impl Client for Producer {
    fn request(&mut self, out: &mut Vec<u8>) {
        let at = self.template.append(out);
        out[at + self.index_at..][..4].copy_from_slice(&self.partition.to_be_bytes());
        self.partition = (self.partition + self.step) % self.partitions;
    }

    fn receive(&mut self, bytes: &[u8], tally: &mut Tally) -> Result<(), String> {
        self.answers.take(bytes, tally, |head, _| {
            // Topics, the name, partitions, the index; then the error.
            match head.skip(4 + 2 + TOPIC.len() + 4 + 4)?.i16()? {
                0 => Some(Ok(())),
                code => Some(Err(format!("Produce: error {code}"))),
            }
        })
    }
}

/// Reads a partition from its beginning, a batch a request, and then again; all batches are alike.
#[derive(Debug)]
pub(crate) struct Consumer {
    template: Template,
    offset: u64,
    end: u64,
    batch_bytes: usize,
    batch_records: u64,
    answers: Answers,
}

impl Consumer {
    /// Of the partition's first `batches` batches, as [`batch_of`] gave one.
    pub(crate) fn new(partition: usize, batches: u64, batch_bytes: usize, batch_records: u64) -> Consumer {
        let partition = FetchPartition::default()
            .with_partition(i32::try_from(partition).expect("few partitions"))
            .with_partition_max_bytes(i32::try_from(batch_bytes).expect("a batch is small"));
        let topic = FetchTopic::default().with_topic(topic()).with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_max_wait_ms(TIMEOUT_MS)
            .with_min_bytes(1)
            .with_max_bytes(i32::try_from(batch_bytes).expect("a batch is small"))
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let template = Template::new(FETCH, &request);
        let (end, answers) = (batches * batch_records, Answers::default());
        Consumer { template, offset: 0, end, batch_bytes, batch_records, answers }
    }

    /// From the end of a request: the rack, forgotten topics, most bytes, the log's start, then the offset.
    const OFFSET_FROM_END: usize = 2 + 4 + 4 + 8 + 8;
}

impl Client for Consumer {
    fn request(&mut self, out: &mut Vec<u8>) {
        self.template.append(out);
        let at = out.len() - Self::OFFSET_FROM_END;
        out[at..][..8].copy_from_slice(&self.offset.to_be_bytes());
    }

    fn receive(&mut self, bytes: &[u8], tally: &mut Tally) -> Result<(), String> {
        let Consumer { offset, end, batch_bytes, batch_records, .. } = self;
        self.answers.take(bytes, tally, |head, _| {
            // Throttling, the error above all; the session, topics, the name, partitions, the index; the error.
            let above = head.skip(4)?.i16()?;
            let code = head.skip(4 + 4 + 2 + TOPIC.len() + 4 + 4)?.i16()?;
            if above != 0 || code != 0 {
                return Some(Err(format!("Fetch: error {above}, {code}")));
            }
            // Two marks and the log's start, aborted transactions (none), the preferred replica; the bytes of records.
            let records = head.skip(8 + 8 + 8)?.i32()?;
            if records > 0 {
                return Some(Err("Fetch: aborted transactions".to_owned()));
            }
            let bytes = usize::try_from(head.skip(4)?.i32()?).ok()?;
            if bytes != *batch_bytes {
                return Some(Err(format!("Fetch: {bytes} bytes where batches have {batch_bytes}")));
            }
            *offset += *batch_records;
            if *offset >= *end {
                *offset = 0;
            }
            Some(Ok(()))
        })
    }
}

/// Cuts answers out of the stream: their heads are judged, the rest is passed over.
#[derive(Debug, Default)]
struct Answers {
    /// The first bytes of the answer under way, its length prefix among them.
    head: Vec<u8>,
    /// How many bytes of it have arrived.
    arrived: usize,
    /// The correlation id that comes next.
    next: i32,
}

/// As much of an answer as is looked at, in bytes.
const HEAD_BYTES: usize = 128;

impl Answers {
    /// `judge` is given what is behind the correlation id, and the whole length; it gives none when that is too short.
    fn take(
        &mut self,
        mut bytes: &[u8],
        tally: &mut Tally,
        mut judge: impl FnMut(&mut Head<'_>, usize) -> Option<Result<(), String>>,
    ) -> Result<(), String> {
        while !bytes.is_empty() {
            let wanted = if self.arrived < 4 { 4 } else { 4 + length_of(&self.head)? };
            let taken = bytes.len().min(wanted - self.arrived);
            let looked_at = taken.min(HEAD_BYTES.saturating_sub(self.head.len()));
            self.head.extend_from_slice(&bytes[..looked_at]);
            self.arrived += taken;
            bytes = &bytes[taken..];
            if self.arrived < 4 || self.arrived < 4 + length_of(&self.head)? {
                continue;
            }
            let mut head = Head(&self.head[4..]);
            let id = head.i32().ok_or("an answer without a head")?;
            if id != self.next {
                return Err(format!("the answer to request {id} where that to {} was next", self.next));
            }
            judge(&mut head, self.arrived)
                .unwrap_or_else(|| Err("an answer that is too short".to_owned()))?;
            tally.answers += 1;
            self.next = self.next.wrapping_add(1);
            self.head.clear();
            self.arrived = 0;
        }
        Ok(())
    }
}

/// What the length prefix says.
fn length_of(head: &[u8]) -> Result<usize, String> {
    let prefix = head.first_chunk::<4>().expect("four bytes have arrived");
    let length = usize::try_from(i32::from_be_bytes(*prefix)).unwrap_or(0);
    if (4..=ANSWER_BYTES_MAX).contains(&length) {
        Ok(length)
    } else {
        Err(format!("an answer of {length} bytes"))
    }
}

/// The bytes of a head that were not read yet.
struct Head<'a>(&'a [u8]);

impl Head<'_> {
    fn skip(&mut self, bytes: usize) -> Option<&mut Self> {
        self.0 = self.0.get(bytes..)?;
        Some(self)
    }

    fn i16(&mut self) -> Option<i16> {
        let (bytes, rest) = self.0.split_first_chunk::<2>()?;
        self.0 = rest;
        Some(i16::from_be_bytes(*bytes))
    }

    fn i32(&mut self) -> Option<i32> {
        let (bytes, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(i32::from_be_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::kafka::fetch::{self, Partition, Topic};
    use wire::kafka::messages::ProduceResponse;
    use wire::kafka::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};

    /// Every way to cut the answers gives the same.
    fn taken<C: Client>(client: impl Fn() -> C, answers: &[u8]) -> Result<u64, String> {
        let results = (1..answers.len()).map(|cut| {
            let (mut client, mut tally) = (client(), Tally::default());
            answers.chunks(cut).try_for_each(|part| client.receive(part, &mut tally))?;
            Ok(tally.answers)
        });
        let results: Vec<Result<u64, String>> = results.collect();
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{results:?}");
        results[0].clone()
    }

    fn produced(id: i32, code: i16) -> Vec<u8> {
        let partition = PartitionProduceResponse::default().with_error_code(code).with_base_offset(9);
        let topic =
            TopicProduceResponse::default().with_name(topic()).with_partition_responses(vec![partition]);
        message::encode(id, PRODUCE, &ProduceResponse::default().with_responses(vec![topic]))
            .unwrap()
            .to_vec()
    }

    fn fetched(id: i32, code: i16, records: &[u8]) -> Vec<u8> {
        let partition =
            Partition { error_code: code, records: vec![records.to_vec().into()], ..Partition::default() };
        let topic = Topic { name: StrBytes::from_static_str(TOPIC), partitions: vec![partition] };
        fetch::encode(id, FETCH, 0, &[topic]).concat()
    }

    #[test]
    fn batches_have_the_size_asked_for() {
        for (bytes, records) in [(100, 1), (1024, 1), (64 << 10, 64), (1 << 20, 1024)] {
            let (batch, count) = batch_of(bytes);
            assert_eq!(count, records);
            assert!(
                batch.len() <= bytes && batch.len() + 2 * records as usize >= bytes,
                "{} of {bytes}",
                batch.len()
            );
            assert_eq!(
                u64::from(batch::verify_produced(&batch).unwrap().record_count.unsigned_abs()),
                records
            );
        }
    }

    #[test]
    fn requests_go_to_one_partition_after_another() {
        let (batch, _) = batch_of(100);
        let mut producer = Producer::new(&batch, 2, 3, 8);
        let partitions: Vec<i32> = (0..4)
            .map(|id| {
                let mut out = Vec::new();
                producer.request(&mut out);
                let mut frame = out[4..].to_vec().into();
                assert_eq!(message::take_head(&mut frame, false).unwrap().correlation_id, id);
                let request: ProduceRequest = message::decode(PRODUCE, frame).unwrap();
                let data = &request.topic_data[0].partition_data[0];
                assert_eq!(data.records.as_deref(), Some(batch.as_slice()));
                data.index
            })
            .collect();
        assert_eq!(partitions, [2, 5, 0, 3]);
    }

    #[test]
    fn acknowledgements_are_counted_however_they_are_cut() {
        let producer = || Producer::new(&batch_of(100).0, 0, 1, 1);
        assert_eq!(taken(producer, &[produced(0, 0), produced(1, 0)].concat()), Ok(2));
        assert_eq!(taken(producer, &produced(0, 3)), Err("Produce: error 3".to_owned()));
        assert!(taken(producer, &produced(1, 0)).unwrap_err().contains("was next"));
        assert!(taken(producer, b"HTTP/1.1 400 Bad Request\r\n").is_err());
    }

    #[test]
    fn a_consumer_reads_on_and_begins_again() {
        let (batch, records) = batch_of(3000);
        let mut consumer = Consumer::new(0, 2, batch.len(), records);
        let offsets: Vec<i64> = (0..3)
            .map(|id| {
                let mut out = Vec::new();
                consumer.request(&mut out);
                let mut frame = out[4..].to_vec().into();
                message::take_head(&mut frame, false).unwrap();
                let request: FetchRequest = message::decode(FETCH, frame).unwrap();
                consumer.receive(&fetched(id, 0, &batch), &mut Tally::default()).unwrap();
                request.topics[0].partitions[0].fetch_offset
            })
            .collect();
        assert_eq!(offsets, [0, 2, 0]);
        let consumer = || Consumer::new(0, 2, batch.len(), records);
        assert_eq!(taken(consumer, &[fetched(0, 0, &batch), fetched(1, 0, &batch)].concat()), Ok(2));
        assert_eq!(taken(consumer, &fetched(0, 1, &batch)), Err("Fetch: error 0, 1".to_owned()));
        assert!(taken(consumer, &fetched(0, 0, &batch[1..])).is_err());
    }
}
