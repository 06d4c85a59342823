//! What a node's groups have done, in figures for its owner to publish. Counted where it happens, on one core; put together
//! when it is asked for.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use super::{Replicas, Role};
use crate::{GroupId, NodeId, Stats};

/// How many there are of [`Latency::buckets`].
const BUCKETS: usize = 18;

/// How often something has taken how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Latency {
    /// How often it took at most 64, 128, 256 … µs ([`Latency::bound`]), and longer than the bound before; those that took
    /// longer than the last bound are in `count` only.
    pub buckets: [u64; BUCKETS],
    /// How often in all.
    pub count: u64,
    /// How long in all.
    pub sum: Duration,
}

impl Latency {
    /// The upper bound of a bucket: 64 µs of the first, 8.4 s of the last.
    pub fn bound(bucket: usize) -> Duration {
        Duration::from_micros(64 << bucket)
    }

    fn note(&mut self, took: Duration) {
        self.count += 1;
        self.sum += took;
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let bucket = (micros - 1).checked_ilog2().map_or(0, |log| (log + 1).saturating_sub(6));
        if let Some(bucket) = self.buckets.get_mut(bucket as usize) {
            *bucket += 1;
        }
    }

    fn add(&mut self, other: &Latency) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(ours, theirs)| *ours += theirs);
        self.count += other.count;
        self.sum += other.sum;
    }
}

/// What the groups of a core have done since it was opened, and where they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// Groups on this core.
    pub groups: usize,
    /// Those that this node leads.
    pub led: usize,
    /// Those without a leader that this node knows of.
    pub leaderless: usize,
    /// Those that have stopped here, as the disk has lost what it had confirmed.
    pub faulty: usize,
    /// Entries in memory that no majority is known to have.
    pub uncommitted: u64,
    /// How often this node was elected.
    pub elections_won: u64,
    /// How often a group has got another leader, or a new term's.
    pub leader_changes: u64,
    /// From a proposal here to its being applied here.
    pub commits: Latency,
    /// Proposals that were taken and of which nobody knows what became, or that were lost.
    pub proposals_lost: u64,
    /// Snapshots that arrived at others.
    pub snapshots_sent: u64,
    /// Those that were taken over here.
    pub snapshots_received: u64,
    /// What the log has done.
    pub log: Stats,
    /// The other nodes.
    pub peers: BTreeMap<NodeId, PeerFigures>,
}

/// What is between this node and another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerFigures {
    /// Connections to it that stand, of one of this core at most.
    pub connected: usize,
    /// Bytes given to the network for it.
    pub sent_bytes: u64,
    /// Bytes that wait.
    pub queued_bytes: usize,
    /// Items that were dropped, as nothing could be sent or too much waited.
    pub dropped: u64,
    /// Of all groups led here that it belongs to: how many entries it does not have yet, where those are the most.
    pub lag_max: u64,
}

impl Figures {
    /// Takes in those of another core of the same node.
    pub fn add(&mut self, other: &Figures) {
        self.groups += other.groups;
        self.led += other.led;
        self.leaderless += other.leaderless;
        self.faulty += other.faulty;
        self.uncommitted += other.uncommitted;
        self.elections_won += other.elections_won;
        self.leader_changes += other.leader_changes;
        self.commits.add(&other.commits);
        self.proposals_lost += other.proposals_lost;
        self.snapshots_sent += other.snapshots_sent;
        self.snapshots_received += other.snapshots_received;
        self.log.batches += other.log.batches;
        self.log.entries += other.log.entries;
        self.log.bytes += other.log.bytes;
        self.log.segments += other.log.segments;
        self.log.segment_bytes = self.log.segment_bytes.max(other.log.segment_bytes);
        if self.log.no_space.is_none() {
            self.log.no_space.clone_from(&other.log.no_space);
        }
        for (node, other) in &other.peers {
            let peer = self.peers.entry(*node).or_default();
            peer.connected += other.connected;
            peer.sent_bytes += other.sent_bytes;
            peer.queued_bytes += other.queued_bytes;
            peer.dropped += other.dropped;
            peer.lag_max = peer.lag_max.max(other.lag_max);
        }
    }
}

/// What is counted as it happens.
#[derive(Default)]
pub(super) struct Counters {
    elections_won: Cell<u64>,
    leader_changes: Cell<u64>,
    proposals_lost: Cell<u64>,
    snapshots_sent: Cell<u64>,
    snapshots_received: Cell<u64>,
    commits: RefCell<Latency>,
}

fn count(cell: &Cell<u64>) {
    cell.set(cell.get() + 1);
}

impl Counters {
    pub(super) fn role(&self, before: Role, now: Role, elected: bool) {
        if elected {
            count(&self.elections_won);
        }
        if now.leader.is_some() && (before.leader, before.term) != (now.leader, now.term) {
            count(&self.leader_changes);
        }
    }

    pub(super) fn committed(&self, took: Duration) {
        self.commits.borrow_mut().note(took);
    }

    pub(super) fn proposal_lost(&self) {
        count(&self.proposals_lost);
    }

    pub(super) fn snapshot_sent(&self) {
        count(&self.snapshots_sent);
    }

    pub(super) fn snapshot_received(&self) {
        count(&self.snapshots_received);
    }
}

impl Replicas {
    /// What the groups of this core have done, and where they stand. It looks at every group: for a scrape, not for a
    /// request.
    pub fn figures(&self) -> Figures {
        let shared = &self.shared;
        let counters = &shared.counters;
        let mut figures = Figures {
            elections_won: counters.elections_won.get(),
            leader_changes: counters.leader_changes.get(),
            commits: *counters.commits.borrow(),
            proposals_lost: counters.proposals_lost.get(),
            snapshots_sent: counters.snapshots_sent.get(),
            snapshots_received: counters.snapshots_received.get(),
            log: self.stats(),
            ..Figures::default()
        };
        for (node, peer) in shared.peers.borrow().iter() {
            figures.peers.insert(*node, peer.figures());
        }
        let consensus = shared.consensus.borrow();
        for (id, group) in shared.groups.borrow().iter() {
            figures.groups += 1;
            figures.led += usize::from(group.role.leads);
            figures.leaderless += usize::from(group.role.leader.is_none());
            figures.faulty += usize::from(group.faulty);
            figures.uncommitted += consensus.last(*id).0.saturating_sub(consensus.committed(*id).0);
            for (node, lag) in consensus.lags(*id) {
                let peer = figures.peers.entry(node).or_default();
                peer.lag_max = peer.lag_max.max(lag);
            }
        }
        figures
    }

    /// How many entries each other member of a group that this node leads does not have yet. Nothing where it does not lead.
    pub fn lag(&self, group: GroupId) -> Vec<(NodeId, u64)> {
        self.shared.consensus.borrow().lags(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_as_long_as_a_bound_is_in_its_bucket() {
        let mut latency = Latency::default();
        latency.note(Duration::ZERO);
        for bucket in 0..BUCKETS {
            latency.note(Latency::bound(bucket));
            latency.note(Latency::bound(bucket) + Duration::from_micros(1));
        }
        let mut expected = [2; BUCKETS];
        expected[0] = 2;
        assert_eq!(latency.buckets, expected);
        assert_eq!(latency.count, 2 * BUCKETS as u64 + 1);
    }
}
