//! ApiVersions (18): which requests are served, in which versions.

use wire::kafka::ResponseError;
use wire::kafka::messages::api_versions_response::ApiVersion;
use wire::kafka::messages::{ApiKey, ApiVersionsResponse};

/// A served API and its versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// Which.
    pub key: ApiKey,
    /// The lowest version served.
    pub min: i16,
    /// The highest version served.
    pub max: i16,
}

const fn served(key: ApiKey, min: i16, max: i16) -> Served {
    Served { key, min, max }
}

/// All that is served. Produce 0–2 are served as refusals: librdkafka before 2.11.1 silently stops compressing when
/// Produce isn't advertised from 0 (KAFKA-18659). Fetch and Produce stop below 13, where topic ids take the place of
/// names.
pub const SERVED: &[Served] = &[
    served(ApiKey::Produce, 0, 10),
    served(ApiKey::Fetch, 4, 12),
    served(ApiKey::ListOffsets, 1, 7),
    served(ApiKey::Metadata, 0, 12),
    served(ApiKey::OffsetCommit, 2, 8),
    served(ApiKey::OffsetFetch, 1, 8),
    served(ApiKey::FindCoordinator, 0, 4),
    served(ApiKey::JoinGroup, 0, 9),
    served(ApiKey::Heartbeat, 0, 4),
    served(ApiKey::LeaveGroup, 0, 5),
    served(ApiKey::SyncGroup, 0, 5),
    served(ApiKey::DescribeGroups, 0, 5),
    served(ApiKey::ListGroups, 0, 5),
    served(ApiKey::ApiVersions, 0, 4),
    served(ApiKey::CreateTopics, 2, 7),
    served(ApiKey::DeleteTopics, 1, 6),
    served(ApiKey::DeleteRecords, 0, 2),
    served(ApiKey::InitProducerId, 0, 4),
    served(ApiKey::OffsetForLeaderEpoch, 2, 4),
    served(ApiKey::DescribeConfigs, 1, 4),
    served(ApiKey::CreatePartitions, 0, 3),
    served(ApiKey::DeleteGroups, 0, 2),
    served(ApiKey::IncrementalAlterConfigs, 0, 1),
    served(ApiKey::OffsetDelete, 0, 0),
    served(ApiKey::DescribeCluster, 0, 1),
];

/// The API of this number, if it is served in `version`.
#[must_use]
pub fn find(key: i16, version: i16) -> Option<ApiKey> {
    let key = ApiKey::try_from(key).ok()?;
    SERVED.iter().find(|s| s.key == key && (s.min..=s.max).contains(&version)).map(|s| s.key)
}

/// The answer; with `error` for a request of a version not served (which is answered in the form of version 0).
#[must_use]
pub fn answer(error: Option<ResponseError>) -> ApiVersionsResponse {
    let entry = |s: &Served| {
        ApiVersion::default().with_api_key(s.key as i16).with_min_version(s.min).with_max_version(s.max)
    };
    ApiVersionsResponse::default()
        .with_error_code(error.map_or(0, |e| e.code()))
        .with_api_keys(SERVED.iter().map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_served_is_found() {
        assert_eq!(find(0, 0), Some(ApiKey::Produce));
        assert_eq!(find(0, 11), None);
        assert_eq!(find(1, 3), None);
        assert_eq!(find(26, 0), None, "EndTxn");
        assert_eq!(find(9999, 0), None);
        assert_eq!(answer(None).api_keys.len(), SERVED.len());
        for s in SERVED.iter().filter(|s| s.key != ApiKey::Produce) {
            let codec = s.key.valid_versions();
            assert!(codec.min <= s.min && s.max <= codec.max, "{:?}", s.key);
        }
    }
}
