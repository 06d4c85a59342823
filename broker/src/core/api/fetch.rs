//! Fetch (1): what is asked of which partition, and how much of what was read is answered.
//!
//! Sessions (KIP-227) are never opened. A client that wants one (epoch 0) or none (epoch −1) gets a full answer with
//! session id 0; one that believes to have one is told FETCH_SESSION_ID_NOT_FOUND and sends a full request.

use wire::kafka::fetch::{Partition, Topic};
use wire::kafka::messages::FetchRequest;
use wire::kafka::{ResponseError, StrBytes};

/// The error above all partitions, if the request wants to go on with a session.
#[must_use]
pub fn session_error(request: &FetchRequest) -> Option<ResponseError> {
    let goes_on = request.session_id != 0 && request.session_epoch > 0;
    goes_on.then_some(ResponseError::FetchSessionIdNotFound)
}

/// A partition's answer that holds no records.
#[must_use]
pub fn failed(index: i32, error: ResponseError) -> Partition {
    Partition {
        index,
        error_code: error.code(),
        high_watermark: -1,
        log_start_offset: -1,
        records: Vec::new(),
    }
}

/// Puts the partitions, in the order of the request, under their topics, and drops records beyond `bytes_max` in all;
/// the first partition that has any keeps its first batch, however large.
#[must_use]
pub fn assemble(request: &FetchRequest, partitions: Vec<Partition>, bytes_max: usize) -> Vec<Topic> {
    let mut rest = partitions.into_iter();
    let mut total = 0;
    let mut limit = |mut partition: Partition| {
        let bytes = partition.records_bytes();
        if total > 0 && total + bytes > bytes_max {
            partition.records.clear();
        } else {
            total += bytes;
        }
        partition
    };
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let name: StrBytes = topic.topic.0.clone();
        let partitions = rest.by_ref().take(topic.partitions.len()).map(&mut limit).collect();
        topics.push(Topic { name, partitions });
    }
    topics
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use wire::kafka::messages::TopicName;
    use wire::kafka::messages::fetch_request::{FetchPartition, FetchTopic};

    #[test]
    fn the_total_is_kept_but_for_the_first() {
        let request = FetchRequest::default().with_topics(vec![
            FetchTopic::default()
                .with_topic(TopicName(StrBytes::from_static_str("t")))
                .with_partitions(vec![FetchPartition::default(); 3]),
        ]);
        let read = |index, len| Partition {
            index,
            records: vec![Bytes::from(vec![0; len])],
            ..Partition::default()
        };
        let lens = |bytes_max| {
            let topics = assemble(&request, vec![read(0, 50), read(1, 60), read(2, 5)], bytes_max);
            topics[0].partitions.iter().map(Partition::records_bytes).collect::<Vec<_>>()
        };
        assert_eq!(lens(1), [50, 0, 0]);
        assert_eq!(lens(60), [50, 0, 5]);
        assert_eq!(lens(1000), [50, 60, 5]);
    }
}
