//! Walks a request's bytes before they are decoded, so that no length in it is believed without the bytes for it.
//!
//! `kafka-protocol` reserves memory for as many elements as an array's length claims. This module knows the layout of
//! every served request (<https://kafka.apache.org/protocol#protocol_messages>) and refuses one whose lengths run past
//! its end, or which holds more than [`ITEMS_MAX`] array elements and tagged fields together. What passes costs at
//! most a few hundred bytes of memory per item when decoded.
//!
//! It checks nothing else: values, nulls and UTF-8 are the decoder's business.

use crate::kafka::messages::ApiKey;
use std::ops::RangeInclusive;

/// The most array elements and tagged fields in one request.
pub const ITEMS_MAX: usize = 100_000;

/// Why a request is refused before it is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// A length runs past the end of the request, or bytes are missing.
    #[error("the request ends inside a field")]
    Truncated,
    /// A negative length other than null's −1, a malformed variable-length integer, or the number of a tagged field that
    /// is no tag's (from 2³¹ on: Kafka counts them in `int`, and so does `kafka-protocol`, which then writes a count of
    /// fields and not the fields).
    #[error("a length or tag in the request is malformed")]
    Length,
    /// More than [`ITEMS_MAX`] items.
    #[error("the request has more than {ITEMS_MAX} items")]
    TooManyItems,
    /// No layout is known for this request in this version.
    #[error("no such request is served in this version")]
    Unserved,
}

/// One field of a request: the versions that have it, and what it is.
#[derive(Debug, Clone, Copy)]
struct Field {
    since: i16,
    until: i16,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// This many bytes.
    Fixed(usize),
    /// A string: 16-bit length, or compact.
    Text,
    /// Bytes: 32-bit length, or compact.
    Blob,
    /// An array of scalars of this many bytes.
    Scalars(usize),
    /// An array of strings.
    Texts,
    /// An array of structures.
    Structs(&'static [Field]),
}

use Kind::{Blob, Fixed, Scalars, Structs, Text, Texts};

const ALWAYS: i16 = i16::MAX;

// Macros, because only literals live as constants inside nested slices.
macro_rules! between {
    ($since:expr, $until:expr, $kind:expr) => {
        Field { since: $since, until: $until, kind: $kind }
    };
}
macro_rules! all {
    ($kind:expr) => {
        between!(0, ALWAYS, $kind)
    };
}
macro_rules! since {
    ($version:expr, $kind:expr) => {
        between!($version, ALWAYS, $kind)
    };
}
macro_rules! until {
    ($version:expr, $kind:expr) => {
        between!(0, $version, $kind)
    };
}

const I8: Kind = Fixed(1);
const I16: Kind = Fixed(2);
const I32: Kind = Fixed(4);
const I64: Kind = Fixed(8);
const UUID: Kind = Fixed(16);

/// The layout of `key`'s request.
fn layout(key: ApiKey) -> Option<&'static [Field]> {
    Some(match key {
        ApiKey::Produce => &[
            since!(3, Text),
            all!(I16),
            all!(I32),
            all!(Structs(&[all!(Text), all!(Structs(&[all!(I32), all!(Blob)]))])),
        ],
        ApiKey::Fetch => &[
            all!(I32),
            all!(I32),
            all!(I32),
            since!(3, I32),
            since!(4, I8),
            since!(7, I32),
            since!(7, I32),
            all!(Structs(&[
                all!(Text),
                all!(Structs(&[
                    all!(I32),
                    since!(9, I32),
                    all!(I64),
                    since!(12, I32),
                    since!(5, I64),
                    all!(I32),
                ])),
            ])),
            since!(7, Structs(&[all!(Text), all!(Scalars(4))])),
            since!(11, Text),
        ],
        ApiKey::ListOffsets => &[
            all!(I32),
            since!(2, I8),
            all!(Structs(&[all!(Text), all!(Structs(&[all!(I32), since!(4, I32), all!(I64)]))])),
        ],
        ApiKey::Metadata => &[
            all!(Structs(&[since!(10, UUID), all!(Text)])),
            since!(4, I8),
            between!(8, 10, I8),
            since!(8, I8),
        ],
        ApiKey::OffsetCommit => &[
            all!(Text),
            all!(I32),
            all!(Text),
            since!(7, Text),
            between!(2, 4, I64),
            all!(Structs(&[all!(Text), all!(Structs(&[all!(I32), all!(I64), since!(6, I32), all!(Text)]))])),
        ],
        ApiKey::OffsetFetch => &[
            until!(7, Text),
            until!(7, Structs(&[all!(Text), all!(Scalars(4))])),
            since!(8, Structs(&[all!(Text), all!(Structs(&[all!(Text), all!(Scalars(4))]))])),
            since!(7, I8),
        ],
        ApiKey::FindCoordinator => &[until!(3, Text), since!(1, I8), since!(4, Texts)],
        ApiKey::JoinGroup => &[
            all!(Text),
            all!(I32),
            since!(1, I32),
            all!(Text),
            since!(5, Text),
            all!(Text),
            all!(Structs(&[all!(Text), all!(Blob)])),
            since!(8, Text),
        ],
        ApiKey::Heartbeat => &[all!(Text), all!(I32), all!(Text), since!(3, Text)],
        ApiKey::LeaveGroup => {
            &[all!(Text), until!(2, Text), since!(3, Structs(&[all!(Text), all!(Text), since!(5, Text)]))]
        }
        ApiKey::SyncGroup => &[
            all!(Text),
            all!(I32),
            all!(Text),
            since!(3, Text),
            since!(5, Text),
            since!(5, Text),
            all!(Structs(&[all!(Text), all!(Blob)])),
        ],
        ApiKey::DescribeGroups => &[all!(Texts), since!(3, I8)],
        ApiKey::ListGroups => &[since!(4, Texts), since!(5, Texts)],
        ApiKey::ApiVersions => &[since!(3, Text), since!(3, Text)],
        ApiKey::CreateTopics => &[
            all!(Structs(&[
                all!(Text),
                all!(I32),
                all!(I16),
                all!(Structs(&[all!(I32), all!(Scalars(4))])),
                all!(Structs(&[all!(Text), all!(Text)])),
            ])),
            all!(I32),
            all!(I8),
        ],
        ApiKey::DeleteTopics => &[since!(6, Structs(&[all!(Text), all!(UUID)])), until!(5, Texts), all!(I32)],
        ApiKey::InitProducerId => &[all!(Text), all!(I32), since!(3, I64), since!(3, I16)],
        ApiKey::DescribeConfigs => {
            &[all!(Structs(&[all!(I8), all!(Text), all!(Texts)])), all!(I8), since!(3, I8)]
        }
        ApiKey::IncrementalAlterConfigs => &[
            all!(Structs(&[all!(I8), all!(Text), all!(Structs(&[all!(Text), all!(I8), all!(Text)]))])),
            all!(I8),
        ],
        ApiKey::DescribeCluster => &[all!(I8), since!(1, I8)],
        ApiKey::DeleteRecords => {
            &[all!(Structs(&[all!(Text), all!(Structs(&[all!(I32), all!(I64)]))])), all!(I32)]
        }
        ApiKey::OffsetForLeaderEpoch => {
            &[since!(3, I32), all!(Structs(&[all!(Text), all!(Structs(&[all!(I32), all!(I32), all!(I32)]))]))]
        }
        ApiKey::CreatePartitions => &[
            all!(Structs(&[all!(Text), all!(I32), all!(Structs(&[all!(Scalars(4))]))])),
            all!(I32),
            all!(I8),
        ],
        ApiKey::DeleteGroups => &[all!(Texts)],
        ApiKey::OffsetDelete => &[all!(Text), all!(Structs(&[all!(Text), all!(Structs(&[all!(I32)]))]))],
        _ => return None,
    })
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    items: usize,
}

/// The versions that [`layout`] describes; a later one may have fields that it does not know of.
fn versions(key: ApiKey) -> Option<RangeInclusive<i16>> {
    Some(match key {
        ApiKey::OffsetDelete => 0..=0,
        ApiKey::DescribeCluster | ApiKey::IncrementalAlterConfigs => 0..=1,
        ApiKey::DeleteGroups | ApiKey::DeleteRecords => 0..=2,
        ApiKey::CreatePartitions => 0..=3,
        ApiKey::ApiVersions | ApiKey::FindCoordinator | ApiKey::Heartbeat | ApiKey::InitProducerId => 0..=4,
        ApiKey::DescribeGroups | ApiKey::LeaveGroup | ApiKey::ListGroups | ApiKey::SyncGroup => 0..=5,
        ApiKey::JoinGroup => 0..=9,
        ApiKey::Metadata => 0..=12,
        ApiKey::DescribeConfigs => 1..=4,
        ApiKey::DeleteTopics => 1..=6,
        ApiKey::ListOffsets => 1..=7,
        ApiKey::OffsetFetch => 1..=8,
        ApiKey::OffsetForLeaderEpoch => 2..=4,
        ApiKey::CreateTopics => 2..=7,
        ApiKey::OffsetCommit => 2..=8,
        // The oldest are walked to be refused in their own form.
        ApiKey::Produce => 0..=10,
        ApiKey::Fetch => 4..=12,
        _ => return None,
    })
}

/// Refuses a request body whose lengths lie; see the module.
///
/// # Errors
/// [`ShapeError`]; the connection should be closed, since nothing in the request can be trusted.
pub fn check(key: ApiKey, version: i16, body: &[u8]) -> Result<(), ShapeError> {
    let known = versions(key).is_some_and(|versions| versions.contains(&version));
    let layout = layout(key).filter(|_| known).ok_or(ShapeError::Unserved)?;
    let flexible = key.request_header_version(version) >= 2;
    let mut walk = Walk { rest: body, version, flexible, items: 0 };
    walk.structure(layout)
}

impl Walk<'_> {
    fn structure(&mut self, fields: &[Field]) -> Result<(), ShapeError> {
        for field in fields {
            if (field.since..=field.until).contains(&self.version) {
                self.field(field.kind)?;
            }
        }
        if self.flexible { self.tagged() } else { Ok(()) }
    }

    fn field(&mut self, kind: Kind) -> Result<(), ShapeError> {
        match kind {
            Fixed(bytes) => self.skip(bytes),
            Text => self.text(),
            Blob => {
                let len = if self.flexible { self.compact_len()? } else { self.long_len()? };
                self.skip(len)
            }
            Scalars(bytes) => {
                let count = self.count()?;
                self.skip(count.checked_mul(bytes).ok_or(ShapeError::Truncated)?)
            }
            Texts => {
                for _ in 0..self.count()? {
                    self.text()?;
                }
                Ok(())
            }
            Structs(fields) => {
                for _ in 0..self.count()? {
                    self.structure(fields)?;
                }
                Ok(())
            }
        }
    }

    fn text(&mut self) -> Result<(), ShapeError> {
        let len = if self.flexible {
            self.compact_len()?
        } else {
            let (len, rest) = self.rest.split_first_chunk().ok_or(ShapeError::Truncated)?;
            self.rest = rest;
            nullable(i32::from(i16::from_be_bytes(*len)))?
        };
        self.skip(len)
    }

    /// An array's element count, charged to the request's budget.
    fn count(&mut self) -> Result<usize, ShapeError> {
        let count = if self.flexible { self.compact_len()? } else { self.long_len()? };
        if count > self.rest.len() {
            return Err(ShapeError::Truncated);
        }
        self.charge(count)?;
        Ok(count)
    }

    fn charge(&mut self, items: usize) -> Result<(), ShapeError> {
        self.items += items;
        if self.items > ITEMS_MAX { Err(ShapeError::TooManyItems) } else { Ok(()) }
    }

    fn long_len(&mut self) -> Result<usize, ShapeError> {
        let (len, rest) = self.rest.split_first_chunk().ok_or(ShapeError::Truncated)?;
        self.rest = rest;
        nullable(i32::from_be_bytes(*len))
    }

    /// A compact length: stored plus one, 0 is null.
    fn compact_len(&mut self) -> Result<usize, ShapeError> {
        Ok(self.uvarint()?.saturating_sub(1) as usize)
    }

    fn uvarint(&mut self) -> Result<u32, ShapeError> {
        let mut value = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let (&byte, rest) = self.rest.split_first().ok_or(ShapeError::Truncated)?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| ShapeError::Length);
            }
        }
        Err(ShapeError::Length)
    }

    fn tagged(&mut self) -> Result<(), ShapeError> {
        let count = self.uvarint()? as usize;
        self.charge(count)?;
        for _ in 0..count {
            i32::try_from(self.uvarint()?).map_err(|_| ShapeError::Length)?;
            let len = self.uvarint()? as usize;
            self.skip(len)?;
        }
        Ok(())
    }

    fn skip(&mut self, bytes: usize) -> Result<(), ShapeError> {
        self.rest = self.rest.get(bytes..).ok_or(ShapeError::Truncated)?;
        Ok(())
    }
}

fn nullable(len: i32) -> Result<usize, ShapeError> {
    match len {
        -1 => Ok(0),
        len => usize::try_from(len).map_err(|_| ShapeError::Length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::messages::*;
    use crate::kafka::{Request, StrBytes};
    use bytes::{Bytes, BytesMut};

    fn text(s: &'static str) -> StrBytes {
        StrBytes::from_static_str(s)
    }

    /// Every version of `request` passes, is consumed to its last byte, and fails when cut short anywhere.
    fn agrees<R: Request>(range: RangeInclusive<i16>, make: impl Fn(i16) -> R) {
        let key = ApiKey::try_from(R::KEY).unwrap();
        let taken = versions(key).unwrap();
        assert_eq!(taken.end(), range.end(), "{key:?}: what is taken is tested");
        assert!(taken.start() == range.start() || key == ApiKey::Produce, "{key:?}: what is taken is tested");
        for version in range {
            let mut body = BytesMut::new();
            make(version).encode(&mut body, version).unwrap();
            let flexible = key.request_header_version(version) >= 2;
            let mut walk = Walk { rest: &body, version, flexible, items: 0 };
            assert_eq!(walk.structure(layout(key).unwrap()), Ok(()), "{key:?} {version}");
            assert!(walk.rest.is_empty(), "{key:?} {version}: {} bytes left", walk.rest.len());
            for end in 0..body.len() {
                assert!(check(key, version, &body[..end]).is_err(), "{key:?} {version} cut at {end}");
            }
        }
    }

    #[test]
    fn layouts_agree_with_the_codec() {
        let topic = TopicName(text("orders"));
        agrees(3..=10, |_| {
            let partition = produce_request::PartitionProduceData::default()
                .with_records(Some(Bytes::from_static(b"records")));
            ProduceRequest::default().with_topic_data(vec![
                produce_request::TopicProduceData::default()
                    .with_name(topic.clone())
                    .with_partition_data(vec![partition.clone(), partition]),
            ])
        });
        agrees(4..=12, |v| {
            let request = FetchRequest::default().with_topics(vec![
                fetch_request::FetchTopic::default()
                    .with_topic(topic.clone())
                    .with_partitions(vec![fetch_request::FetchPartition::default()]),
            ]);
            if v >= 7 {
                let forgotten = fetch_request::ForgottenTopic::default()
                    .with_topic(topic.clone())
                    .with_partitions(vec![1, 2]);
                request.with_forgotten_topics_data(vec![forgotten])
            } else {
                request
            }
        });
        agrees(1..=7, |_| {
            ListOffsetsRequest::default().with_topics(vec![
                list_offsets_request::ListOffsetsTopic::default()
                    .with_name(topic.clone())
                    .with_partitions(vec![list_offsets_request::ListOffsetsPartition::default()]),
            ])
        });
        agrees(0..=12, |_| {
            MetadataRequest::default().with_topics(Some(vec![
                metadata_request::MetadataRequestTopic::default().with_name(Some(topic.clone())),
            ]))
        });
        agrees(2..=8, |_| {
            let partition = offset_commit_request::OffsetCommitRequestPartition::default()
                .with_committed_metadata(Some(text("note")));
            OffsetCommitRequest::default().with_group_id(GroupId(text("g"))).with_topics(vec![
                offset_commit_request::OffsetCommitRequestTopic::default()
                    .with_name(topic.clone())
                    .with_partitions(vec![partition]),
            ])
        });
        agrees(1..=8, |v| {
            if v >= 8 {
                let topics = offset_fetch_request::OffsetFetchRequestTopics::default()
                    .with_name(topic.clone())
                    .with_partition_indexes(vec![0, 1]);
                OffsetFetchRequest::default().with_groups(vec![
                    offset_fetch_request::OffsetFetchRequestGroup::default().with_topics(Some(vec![topics])),
                ])
            } else {
                let topics = offset_fetch_request::OffsetFetchRequestTopic::default()
                    .with_name(topic.clone())
                    .with_partition_indexes(vec![0, 1]);
                OffsetFetchRequest::default().with_topics(Some(vec![topics]))
            }
        });
        agrees(0..=4, |v| match v {
            4 => FindCoordinatorRequest::default().with_coordinator_keys(vec![text("a"), text("b")]),
            _ => FindCoordinatorRequest::default().with_key(text("a")),
        });
        agrees(2..=7, |v| match v {
            2.. => CreateTopicsRequest::default().with_topics(vec![
                create_topics_request::CreatableTopic::default()
                    .with_name(topic.clone())
                    .with_assignments(vec![
                        create_topics_request::CreatableReplicaAssignment::default()
                            .with_broker_ids(vec![BrokerId(1)]),
                    ])
                    .with_configs(vec![
                        create_topics_request::CreatableTopicConfig::default()
                            .with_name(text("retention.ms")),
                    ]),
            ]),
            _ => CreateTopicsRequest::default(),
        });
    }

    #[test]
    fn group_layouts_agree_with_the_codec() {
        agrees(0..=9, |_| {
            JoinGroupRequest::default().with_protocols(vec![
                join_group_request::JoinGroupRequestProtocol::default()
                    .with_name(text("range"))
                    .with_metadata(Bytes::from_static(b"m")),
            ])
        });
        agrees(0..=4, |_| HeartbeatRequest::default().with_group_id(GroupId(text("g"))));
        agrees(0..=5, |v| match v {
            0..=2 => LeaveGroupRequest::default().with_member_id(text("m")),
            _ => LeaveGroupRequest::default()
                .with_members(vec![leave_group_request::MemberIdentity::default()]),
        });
        agrees(0..=5, |_| {
            SyncGroupRequest::default()
                .with_assignments(vec![sync_group_request::SyncGroupRequestAssignment::default()])
        });
        agrees(0..=5, |_| DescribeGroupsRequest::default().with_groups(vec![GroupId(text("g"))]));
        agrees(0..=5, |v| match v {
            0..=3 => ListGroupsRequest::default(),
            _ => ListGroupsRequest::default().with_states_filter(vec![text("Stable")]),
        });
        agrees(0..=4, |_| ApiVersionsRequest::default());
        agrees(1..=6, |v| match v {
            6 => DeleteTopicsRequest::default()
                .with_topics(vec![delete_topics_request::DeleteTopicState::default()]),
            _ => DeleteTopicsRequest::default().with_topic_names(vec![TopicName(text("t"))]),
        });
        agrees(0..=4, |_| InitProducerIdRequest::default());
        agrees(1..=4, |_| {
            DescribeConfigsRequest::default().with_resources(vec![
                describe_configs_request::DescribeConfigsResource::default()
                    .with_configuration_keys(Some(vec![text("k")])),
            ])
        });
        agrees(0..=1, |_| {
            IncrementalAlterConfigsRequest::default().with_resources(vec![
                incremental_alter_configs_request::AlterConfigsResource::default()
                    .with_configs(vec![incremental_alter_configs_request::AlterableConfig::default()]),
            ])
        });
        agrees(0..=1, |_| DescribeClusterRequest::default());
        agrees(0..=2, |_| {
            DeleteRecordsRequest::default().with_topics(vec![
                delete_records_request::DeleteRecordsTopic::default()
                    .with_partitions(vec![delete_records_request::DeleteRecordsPartition::default()]),
            ])
        });
        agrees(2..=4, |_| {
            OffsetForLeaderEpochRequest::default().with_topics(vec![
                offset_for_leader_epoch_request::OffsetForLeaderTopic::default().with_partitions(vec![
                    offset_for_leader_epoch_request::OffsetForLeaderPartition::default(),
                ]),
            ])
        });
        agrees(0..=3, |_| {
            CreatePartitionsRequest::default().with_topics(vec![
                create_partitions_request::CreatePartitionsTopic::default().with_assignments(Some(vec![
                    create_partitions_request::CreatePartitionsAssignment::default()
                        .with_broker_ids(vec![BrokerId(1)]),
                ])),
            ])
        });
        agrees(0..=2, |_| DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text("g"))]));
        agrees(0..=0, |_| {
            OffsetDeleteRequest::default().with_topics(vec![
                offset_delete_request::OffsetDeleteRequestTopic::default()
                    .with_partitions(vec![offset_delete_request::OffsetDeleteRequestPartition::default()]),
            ])
        });
    }

    #[test]
    fn lengths_without_bytes_are_refused() {
        // Metadata 0: an array of i32::MAX topics.
        assert_eq!(check(ApiKey::Metadata, 0, &i32::MAX.to_be_bytes()), Err(ShapeError::Truncated));
        assert_eq!(check(ApiKey::Metadata, 0, &(-2_i32).to_be_bytes()), Err(ShapeError::Length));
        // DeleteGroups 2, compact: 4 billion names.
        assert_eq!(
            check(ApiKey::DeleteGroups, 2, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            Err(ShapeError::Truncated)
        );
        assert_eq!(check(ApiKey::DeleteGroups, 2, &[0xff; 6]), Err(ShapeError::Length));
        // No groups, and one tagged field: the last tag there is, and the one behind it.
        assert_eq!(check(ApiKey::DeleteGroups, 2, &[1, 1, 0xff, 0xff, 0xff, 0xff, 7, 0]), Ok(()));
        assert_eq!(
            check(ApiKey::DeleteGroups, 2, &[1, 1, 0x80, 0x80, 0x80, 0x80, 8, 0]),
            Err(ShapeError::Length)
        );
        // More items than allowed, bytes and all.
        let mut body = ((ITEMS_MAX + 1) as u32).to_be_bytes().to_vec();
        body.resize(4 + 2 * (ITEMS_MAX + 1), 0);
        assert_eq!(check(ApiKey::DeleteGroups, 0, &body), Err(ShapeError::TooManyItems));
        assert_eq!(check(ApiKey::EndTxn, 0, &[]), Err(ShapeError::Unserved));
    }
}
