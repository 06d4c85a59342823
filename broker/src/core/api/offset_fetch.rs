//! OffsetFetch (9): one group before version 8, several from then on; no topics named means all.

use wire::kafka::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use wire::kafka::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use wire::kafka::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};
use wire::kafka::{ResponseError, StrBytes};

use crate::core::offsets::Offsets;

/// The groups that a request asks for, each once, in the form of version 8.
#[must_use]
pub fn groups(request: OffsetFetchRequest, version: i16) -> Vec<OffsetFetchRequestGroup> {
    if version >= 8 {
        return super::once(request.groups.into_iter(), |group| group.group_id.clone()).collect();
    }
    let topics = request.topics.map(|topics| {
        let topic = |t: wire::kafka::messages::offset_fetch_request::OffsetFetchRequestTopic| {
            OffsetFetchRequestTopics::default().with_name(t.name).with_partition_indexes(t.partition_indexes)
        };
        topics.into_iter().map(topic).collect()
    });
    vec![OffsetFetchRequestGroup::default().with_group_id(request.group_id).with_topics(topics)]
}

/// What one group committed. A partition it never committed for has offset −1.
#[must_use]
pub fn fetch(asked: &OffsetFetchRequestGroup, offsets: &Offsets) -> OffsetFetchResponseGroup {
    let group = &asked.group_id;
    let partition = |topic: &str, index: i32| {
        let committed = offsets.get(group, topic, index);
        OffsetFetchResponsePartitions::default()
            .with_partition_index(index)
            .with_committed_offset(committed.map_or(-1, |c| c.offset))
            .with_committed_leader_epoch(committed.map_or(-1, |c| c.leader_epoch))
            .with_metadata(Some(StrBytes::from_string(
                committed.map_or(String::new(), |c| c.metadata.clone()),
            )))
    };
    let topics = match &asked.topics {
        Some(topics) => topics
            .iter()
            .map(|t| {
                let partitions = t.partition_indexes.iter().map(|&i| partition(&t.name, i)).collect();
                OffsetFetchResponseTopics::default().with_name(t.name.clone()).with_partitions(partitions)
            })
            .collect(),
        None => {
            let mut topics: Vec<OffsetFetchResponseTopics> = Vec::new();
            for ((topic, index), _) in offsets.group(group) {
                if topics.last().is_none_or(|last| *last.name.0 != **topic) {
                    let name = TopicName(StrBytes::from_string(topic.clone()));
                    topics.push(OffsetFetchResponseTopics::default().with_name(name));
                }
                if let Some(last) = topics.last_mut() {
                    last.partitions.push(partition(topic, *index));
                }
            }
            topics
        }
    };
    OffsetFetchResponseGroup::default().with_group_id(asked.group_id.clone()).with_topics(topics)
}

/// A group whose offsets are not here. Versions 0 and 1 say so of each partition.
#[must_use]
pub fn refused(asked: &OffsetFetchRequestGroup, error: ResponseError) -> OffsetFetchResponseGroup {
    let partition = |index: &i32| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(*index)
            .with_committed_offset(-1)
            .with_committed_leader_epoch(-1)
            .with_metadata(Some(StrBytes::new()))
            .with_error_code(error.code())
    };
    let topic = |t: &OffsetFetchRequestTopics| {
        let partitions = t.partition_indexes.iter().map(partition).collect();
        OffsetFetchResponseTopics::default().with_name(t.name.clone()).with_partitions(partitions)
    };
    OffsetFetchResponseGroup::default()
        .with_group_id(asked.group_id.clone())
        .with_error_code(error.code())
        .with_topics(asked.topics.iter().flatten().map(topic).collect())
}

/// The response.
#[must_use]
pub fn answer(groups: Vec<OffsetFetchResponseGroup>, version: i16) -> OffsetFetchResponse {
    if version >= 8 {
        return OffsetFetchResponse::default().with_groups(groups);
    }
    let error = groups.first().map_or(0, |group| group.error_code);
    let topics = groups.into_iter().flat_map(|g| g.topics).map(|t| {
        let partition = |p: OffsetFetchResponsePartitions| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(p.partition_index)
                .with_committed_offset(p.committed_offset)
                .with_committed_leader_epoch(p.committed_leader_epoch)
                .with_metadata(p.metadata)
                .with_error_code(p.error_code)
        };
        OffsetFetchResponseTopic::default()
            .with_name(t.name)
            .with_partitions(t.partitions.into_iter().map(partition).collect())
    });
    let response = OffsetFetchResponse::default().with_topics(topics.collect());
    if version >= 2 { response.with_error_code(error) } else { response }
}
