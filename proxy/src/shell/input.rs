//! Received bytes not yet used.
//!
//! What always holds: the bytes are one slice, in order; a lease is held only from its receipt to the next wait
//! ([`Input::settle`]), so a connection that waits for its peer keeps no receive buffer; what is kept is copied.

use runtime::{Lease, Segment};

/// Kept room beyond this is given back when it is empty.
const KEPT_BYTES_IDLE: usize = 4096;

/// Bytes received from one peer.
#[derive(Debug, Default)]
pub(super) struct Input {
    kept: Vec<u8>,
    /// Bytes of `kept` already used.
    used: usize,
    /// Held only while `kept` has nothing.
    lease: Option<Lease>,
}

impl Input {
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.lease {
            Some(lease) => lease,
            None => &self.kept[self.used..],
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    pub(super) fn push(&mut self, lease: Lease) {
        self.settle();
        if self.is_empty() {
            self.lease = Some(lease);
        } else {
            self.kept.extend_from_slice(&lease);
        }
    }

    pub(super) fn consume(&mut self, count: usize) {
        match &mut self.lease {
            Some(lease) => lease.advance(count),
            None => self.used += count,
        }
        assert!(self.used <= self.kept.len(), "consumed what was not there");
    }

    /// The first `count` bytes, to be sent on: without a copy if they are a whole lease.
    pub(super) fn take(&mut self, count: usize) -> Segment {
        if let Some(lease) = self.lease.take_if(|lease| lease.len() == count) {
            return Segment::from(lease);
        }
        let copy = self.bytes()[..count].to_vec();
        self.consume(count);
        Segment::from(copy)
    }

    /// Gives back the lease, keeping a copy of what is left of it. Before every wait.
    pub(super) fn settle(&mut self) {
        if self.used > 0 {
            self.kept.drain(..self.used);
            self.used = 0;
        }
        if let Some(lease) = self.lease.take() {
            self.kept.extend_from_slice(&lease);
        }
        if self.kept.is_empty() && self.kept.capacity() > KEPT_BYTES_IDLE {
            self.kept = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(text: &str) -> Lease {
        Lease::from_vec(text.into())
    }

    #[test]
    fn bytes_stay_in_order_through_leases_and_copies() {
        let mut input = Input::default();
        assert!(input.is_empty());
        input.push(lease("abc"));
        input.consume(1);
        input.push(lease("def"));
        assert_eq!(input.bytes(), b"bcdef");
        assert_eq!(&*input.take(2), b"bc");
        input.settle();
        input.push(lease("g"));
        assert_eq!(input.bytes(), b"defg");
        input.consume(4);
        input.push(lease("hi"));
        assert!(matches!(input.take(2), Segment::Lease(_)), "a whole lease is not copied");
        assert!(input.is_empty());
        input.settle();
        assert!(input.is_empty());
    }
}
