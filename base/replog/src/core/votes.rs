//! The second copy of what a node has promised: the term and vote of each group. The first is in the log.
//!
//! docs/formats/wal.md draws the file. It is replaced as a whole, and before anything of it is spoken, so a log that was
//! cut by a repair, or is damaged, does not let the node vote twice.

use std::collections::BTreeMap;

use crate::core::format::{get_u32, get_u64};
use crate::{GroupId, NodeId, Term};

const MAGIC: [u8; 8] = *b"MILLRVOT";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 32;
const VOTE_BYTES: usize = 24;

/// All votes of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Votes {
    /// The log's number.
    pub(crate) log: u64,
    pub(crate) votes: BTreeMap<GroupId, (Term, NodeId)>,
}

impl Votes {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES + self.votes.len() * VOTE_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.log.to_le_bytes());
        out.extend_from_slice(&(self.votes.len() as u64).to_le_bytes());
        for (group, (term, vote)) in &self.votes {
            [group.0, term.0, vote.0].iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        }
        let checksum = crc32fast::hash(&out[16..]);
        out[12..16].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// `None`: damaged, or of another version.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Votes> {
        if bytes.len() < HEAD_BYTES || bytes[..8] != MAGIC || get_u32(bytes, 8) != VERSION {
            return None;
        }
        let (body, count) = (&bytes[HEAD_BYTES..], get_u64(bytes, 24));
        let whole = body.len().is_multiple_of(VOTE_BYTES) && (body.len() / VOTE_BYTES) as u64 == count;
        if !whole || get_u32(bytes, 12) != crc32fast::hash(&bytes[16..]) {
            return None;
        }
        let vote = |bytes: &[u8]| {
            (GroupId(get_u64(bytes, 0)), (Term(get_u64(bytes, 8)), NodeId(get_u64(bytes, 16))))
        };
        Some(Votes { log: get_u64(bytes, 16), votes: body.chunks_exact(VOTE_BYTES).map(vote).collect() })
    }
}

/// What both copies say together. `None`: they contradict each other.
pub(crate) fn merge(a: (Term, NodeId), b: (Term, NodeId)) -> Option<(Term, NodeId)> {
    let nobody = NodeId(0);
    match a.0.cmp(&b.0) {
        std::cmp::Ordering::Greater => Some(a),
        std::cmp::Ordering::Less => Some(b),
        std::cmp::Ordering::Equal if a.1 == b.1 || b.1 == nobody => Some(a),
        std::cmp::Ordering::Equal if a.1 == nobody => Some(b),
        std::cmp::Ordering::Equal => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_come_back_and_every_flip_is_noticed() {
        let votes = [(GroupId(1), (Term(2), NodeId(3))), (GroupId(9), (Term(1), NodeId(0)))];
        let votes = Votes { log: 77, votes: votes.into() };
        let mut bytes = votes.encode();
        assert_eq!(Votes::decode(&bytes), Some(votes));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Votes::decode(&bytes), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert!((0..bytes.len()).all(|len| Votes::decode(&bytes[..len]).is_none()));
    }

    #[test]
    fn the_later_promise_holds() {
        let vote = |term, node| (Term(term), NodeId(node));
        assert_eq!(merge(vote(2, 1), vote(3, 0)), Some(vote(3, 0)));
        assert_eq!(merge(vote(3, 2), vote(3, 0)), Some(vote(3, 2)));
        assert_eq!(merge(vote(3, 0), vote(3, 1)), Some(vote(3, 1)));
        assert_eq!(merge(vote(3, 2), vote(3, 1)), None);
    }
}
