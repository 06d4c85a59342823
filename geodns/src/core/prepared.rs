//! An answer written once, when its zone was loaded, and sent behind many questions.
//!
//! What always holds: the octets are right behind a question that ends at `base`. Behind one that ends elsewhere every pointer
//! listed in `moving` is shifted by the difference; see `wire::dns::sections`.

use wire::dns::code::flag;
use wire::dns::query::write_opt;
use wire::dns::sections::Body;
use wire::dns::{Edns, HEADER_BYTES, OPT_BYTES, Query};

/// An answer but for header, question and OPT.
#[derive(Debug)]
pub(super) struct Prepared {
    bytes: Box<[u8]>,
    moving: Box<[u16]>,
    counts: [u16; 3],
    additional_at: usize,
    /// Where the question ended that this was written for.
    base: usize,
    pub(super) rcode: u16,
    pub(super) authoritative: bool,
    /// Whether the additional section must not be left out (a referral's glue, RFC 9471).
    pub(super) needs_additional: bool,
    /// The address to be filled in.
    pub(super) pick: Option<Pick>,
}

/// An address that a pool chooses for each answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pick {
    /// Which pool.
    pub(super) pool: usize,
    /// A or AAAA.
    pub(super) rtype: u16,
    /// Where the address goes in the prepared octets.
    pub(super) at: usize,
    /// The answer when the pool has no member of that family in.
    pub(super) otherwise: PreparedId,
}

/// Its place in the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PreparedId(pub(super) u32);

impl Prepared {
    /// Takes `body`, which was written behind a question for a name of `name_bytes` octets.
    pub(super) fn new(body: Body, name_bytes: usize) -> Prepared {
        Prepared {
            bytes: body.bytes.into_boxed_slice(),
            moving: body.moving.into_boxed_slice(),
            counts: body.counts,
            additional_at: body.additional_at,
            base: HEADER_BYTES + name_bytes + 4,
            rcode: 0,
            authoritative: true,
            needs_additional: false,
            pick: None,
        }
    }

    /// An answer without records.
    pub(super) fn empty(rcode: u16) -> Prepared {
        Prepared { rcode, authoritative: false, ..Prepared::new(Body::default(), 0) }
    }

    /// Writes the whole response to `query` into `out`, at most `bytes_max` octets (never below 512, which header, question
    /// and OPT always fit), with `address` where the pick goes. Gives whether it was truncated.
    ///
    /// What does not fit: additional records that are a mere kindness are left out (RFC 2181 §9); else the response says TC
    /// and has no records.
    pub(super) fn write(
        &self,
        query: &Query<'_>,
        edns: Option<Edns>,
        bytes_max: usize,
        address: &[u8],
        out: &mut Vec<u8>,
    ) -> bool {
        let question_end = HEADER_BYTES + query.question().len();
        let room = bytes_max - question_end - if edns.is_some() { OPT_BYTES } else { 0 };
        let [answers, authorities, additionals] = self.counts;
        let (body, counts, truncated) = if self.bytes.len() <= room {
            (&self.bytes[..], [answers, authorities, additionals], false)
        } else if self.additional_at <= room && !self.needs_additional {
            (&self.bytes[..self.additional_at], [answers, authorities, 0], false)
        } else {
            (&self.bytes[..0], [0; 3], true)
        };

        write_head(self.flags(query, truncated), query, counts, edns.is_some(), out);
        let start = out.len();
        out.extend_from_slice(body);
        if question_end != self.base {
            shift(&mut out[start..], &self.moving, question_end as isize - self.base as isize);
        }
        if let Some(pick) = &self.pick
            && !truncated
        {
            out[start + pick.at..][..address.len()].copy_from_slice(address);
        }
        if let Some(edns) = edns {
            write_opt(edns, self.rcode, out);
        }
        truncated
    }

    fn flags(&self, query: &Query<'_>, truncated: bool) -> u16 {
        let authoritative = if self.authoritative { flag::AA } else { 0 };
        let truncated = if truncated { flag::TC } else { 0 };
        flag::QR | authoritative | truncated | query.copied_flags() | (self.rcode & flag::RCODE)
    }
}

fn write_head(flags: u16, query: &Query<'_>, counts: [u16; 3], opt: bool, out: &mut Vec<u8>) {
    let mut head = [0; HEADER_BYTES];
    head[..2].copy_from_slice(&query.id());
    head[2..4].copy_from_slice(&flags.to_be_bytes());
    head[5] = 1;
    head[6..8].copy_from_slice(&counts[0].to_be_bytes());
    head[8..10].copy_from_slice(&counts[1].to_be_bytes());
    head[10..].copy_from_slice(&(counts[2] + u16::from(opt)).to_be_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(query.question());
}

/// Shifts by `by` the pointers at `places` that lie in `body`. Compile-time margins keep them within fourteen bits.
fn shift(body: &mut [u8], places: &[u16], by: isize) {
    for &at in places {
        let Some(pointer) = body.get_mut(usize::from(at)..usize::from(at) + 2) else {
            break;
        };
        let target = isize::from(i16::from_be_bytes([pointer[0] & 0x3f, pointer[1]])) + by;
        pointer.copy_from_slice(&(0xc000 | target as u16).to_be_bytes());
    }
}
