//! One member of a group.

use bytes::Bytes;
use wire::kafka::StrBytes;

use super::{Millis, Token};

/// One member.
#[derive(Debug, Clone)]
pub struct Member {
    /// Given by the coordinator.
    pub id: StrBytes,
    /// Of a static member (KIP-345), chosen by the client.
    pub instance_id: Option<StrBytes>,
    /// Who the client says it is.
    pub client_id: StrBytes,
    /// Where it connects from.
    pub client_host: StrBytes,
    /// What the leader assigned to it.
    pub assignment: Bytes,
    /// Protocols it can follow, by preference, with their metadata.
    pub protocols: Vec<(StrBytes, Bytes)>,
    pub(super) session_ms: u32,
    pub(super) rebalance_ms: u32,
    /// Gone then, unless it waits for something.
    pub(super) session_deadline: Millis,
    pub(super) joining: Option<Token>,
    pub(super) syncing: Option<Token>,
    /// Has asked for its assignment in this generation.
    pub(super) synced: bool,
    /// Order of joining: the first of them leads.
    pub(super) joined_at: u64,
}

impl Member {
    /// The metadata it gave for `protocol`.
    #[must_use]
    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| &**name == protocol)
            .map(|(_, m)| m.clone())
            .unwrap_or_default()
    }

    /// What it takes, bytes, about.
    pub(super) fn bytes(&self) -> usize {
        super::join::offer_bytes(&self.client_id, &self.protocols) + self.assignment.len()
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| &**name == protocol)
    }

    pub(super) fn touch(&mut self, now: Millis) {
        self.session_deadline = now + Millis::from(self.session_ms);
    }

    pub(super) fn is_expired(&self, now: Millis) -> bool {
        self.joining.is_none() && self.syncing.is_none() && now >= self.session_deadline
    }
}
