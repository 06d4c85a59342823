//! A file per Kafka API: what a request asks for, what state says to it, and the response.
//!
//! Nothing here waits: the shell gathers what a response needs (appends, reads, the controller's verdicts) and hands it
//! over.

pub mod api_versions;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod fetch;
pub mod find_coordinator;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_groups;
pub mod list_offsets;
pub mod metadata;
pub mod offset_commit;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod sync_group;

use std::collections::HashSet;
use std::hash::Hash;

use wire::kafka::{ResponseError, StrBytes};

/// The longest text of an error: every version of every response can carry it.
pub const TEXT_BYTES_MAX: usize = 1024;

/// "Not asked for", in the bit fields of authorized operations.
pub const OPERATIONS_UNKNOWN: i32 = i32::MIN;

/// Who this broker is to its clients.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its node id.
    pub node_id: i32,
    /// The cluster it is of.
    pub cluster_id: StrBytes,
    /// All nodes of the cluster, this one too.
    pub nodes: Vec<Node>,
}

/// A broker, to its clients.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its number.
    pub id: i32,
    /// Where clients reach it.
    pub host: StrBytes,
    /// Where clients reach it.
    pub port: u16,
}

impl Identity {
    /// The numbers of all nodes.
    #[must_use]
    pub fn ids(&self) -> Vec<i32> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    /// One of the nodes.
    #[must_use]
    pub fn node(&self, id: i32) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }
}

/// A Kafka error code with a text for those responses that carry one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The error.
    pub error: ResponseError,
    /// What is wrong, for a person.
    pub message: String,
}

impl Refusal {
    /// A refusal with its text, which may repeat what the client said, up to [`TEXT_BYTES_MAX`].
    pub fn new(error: ResponseError, message: impl Into<String>) -> Self {
        let mut message = message.into();
        message.truncate(cut(&message, TEXT_BYTES_MAX).len());
        Self { error, message }
    }

    pub(crate) fn text(&self) -> StrBytes {
        StrBytes::from_string(self.message.clone())
    }
}

/// The code of a result: 0 when it is fine.
pub fn code<T>(result: &Result<T, ResponseError>) -> i16 {
    result.as_ref().err().map_or(0, ResponseError::code)
}

/// The items without those whose key came before: a short request can't ask for the same long answer many times.
pub(crate) fn once<T, K: Eq + Hash>(
    items: impl Iterator<Item = T>,
    key: impl Fn(&T) -> K,
) -> impl Iterator<Item = T> {
    let mut seen = HashSet::new();
    items.filter(move |item| seen.insert(key(item)))
}

/// As much of a text as fits into so many bytes.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A copy of `text`: what is kept must not keep the whole request that it came in.
pub(crate) fn detached(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A UUID of its two halves.
#[must_use]
pub fn uuid(id: [u64; 2]) -> uuid::Uuid {
    uuid::Uuid::from_u64_pair(id[0], id[1])
}
