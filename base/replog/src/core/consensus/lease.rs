//! The leader's lease: for how long no other leader can have been elected, by the clock.
//!
//! Always holds:
//! - the lease is dated from the *sending* of a heartbeat round that a quorum has answered. Each that answered had heard
//!   from the leader at or after that moment, and gives nobody its vote for an election timeout from then on (nor does
//!   one that has restarted since: [`Group`](super::group::Group) sees to that);
//! - it ends early by the bound on the drift of two clocks, and by one tick, as a follower counts whole ticks;
//! - it is void when the leader or the members change: rounds sent before count no more;
//! - it is forfeited for the rest of the term with the first attempt to hand leadership over: the request that the other
//!   node campaign at once may be delivered late, and its campaign asks nobody to wait.
//!
//! The library's own lease is not used: it looks at no clock, so a leader that was stopped and resumed answers stale.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::NodeId;

/// Rounds that wait for answers; older ones are forgotten.
const ROUNDS_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Lease {
    lasts: Duration,
    rounds: VecDeque<Round>,
    next: u64,
    until: Option<Duration>,
    forfeited: bool,
}

#[derive(Debug)]
struct Round {
    number: u64,
    sent: Duration,
    answered: BTreeSet<NodeId>,
}

impl Lease {
    /// A lease that lasts `lasts` from the sending of a round.
    pub(super) fn new(lasts: Duration) -> Lease {
        Lease { lasts, rounds: VecDeque::new(), next: 1, until: None, forfeited: false }
    }

    /// A heartbeat round leaves now; gives its number.
    pub(super) fn begin(&mut self, now: Duration) -> u64 {
        let number = self.next;
        self.next += 1;
        if self.rounds.len() == ROUNDS_MAX {
            self.rounds.pop_front();
        }
        self.rounds.push_back(Round { number, sent: now, answered: BTreeSet::new() });
        number
    }

    /// `node` has answered round `number`; `quorum` tells whether a set of nodes, ourselves aside, is enough.
    pub(super) fn answered(
        &mut self,
        node: NodeId,
        number: u64,
        quorum: impl FnOnce(&BTreeSet<NodeId>) -> bool,
    ) {
        let Some(at) = self.rounds.iter().position(|round| round.number == number) else { return };
        let round = &mut self.rounds[at];
        round.answered.insert(node);
        if !quorum(&round.answered) {
            return;
        }
        if !self.forfeited {
            self.until = self.until.max(Some(round.sent + self.lasts));
        }
        self.rounds.drain(..=at);
    }

    /// Whether it holds.
    pub(super) fn holds(&self, now: Duration) -> bool {
        !self.forfeited && self.until.is_some_and(|until| now < until)
    }

    /// The members have changed: begin anew.
    pub(super) fn void(&mut self) {
        self.rounds.clear();
        self.until = None;
    }

    /// No lease any more in this term.
    pub(super) fn forfeit(&mut self) {
        self.void();
        self.forfeited = true;
    }

    /// A new term of ours begins.
    pub(super) fn new_term(&mut self) {
        self.void();
        self.forfeited = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LASTS: Duration = Duration::from_millis(900);

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn it_is_dated_from_the_sending_of_the_round_that_a_quorum_answered() {
        let mut lease = Lease::new(LASTS);
        let two = |set: &BTreeSet<NodeId>| set.len() >= 2;
        let first = lease.begin(at(1000));
        let second = lease.begin(at(1100));
        lease.answered(NodeId(2), first, two);
        lease.answered(NodeId(3), second, two);
        assert!(!lease.holds(at(1200)), "one answer to each is no quorum for either");
        lease.answered(NodeId(3), first, two);
        assert!(lease.holds(at(1899)) && !lease.holds(at(1900)));
        lease.answered(NodeId(2), second, two);
        assert!(lease.holds(at(1999)) && !lease.holds(at(2000)));
    }

    #[test]
    fn answers_from_before_a_change_count_no_more() {
        let mut lease = Lease::new(LASTS);
        let round = lease.begin(at(0));
        lease.void();
        lease.answered(NodeId(2), round, |_| true);
        assert!(!lease.holds(at(1)));
        let round = lease.begin(at(10));
        lease.answered(NodeId(2), round, |_| true);
        assert!(lease.holds(at(11)));
        lease.forfeit();
        let round = lease.begin(at(20));
        lease.answered(NodeId(2), round, |_| true);
        assert!(!lease.holds(at(21)), "forfeited until the next term");
        lease.new_term();
        let round = lease.begin(at(30));
        lease.answered(NodeId(2), round, |_| true);
        assert!(lease.holds(at(31)));
    }
}
