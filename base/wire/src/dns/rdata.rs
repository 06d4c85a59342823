//! The form of record data as far as a server must know it: lengths of addresses, and where names lie that may be
//! compressed (RFC 3597 §4: only in the types of RFC 1035) or must at least be names.

use super::code::rtype;
use super::name::uncompressed_len;

/// Record data cut at its names. Octets, in order: `head`, the names, `tail`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts<'a> {
    /// What comes before the names.
    pub head: &'a [u8],
    /// The first name, uncompressed; empty when the type has none.
    pub first: &'a [u8],
    /// The second name; empty when the type has but one.
    pub second: &'a [u8],
    /// What follows the names; all of an opaque type's data is `head`.
    pub tail: &'a [u8],
    /// Whether the names may be compressed in a message.
    pub compressible: bool,
}

/// Cuts the uncompressed data of a record of type `kind`; none when it is not of that type's form. Types that hold no name
/// we have to see are opaque.
pub fn split(kind: u16, rdata: &[u8]) -> Option<Parts<'_>> {
    match kind {
        rtype::A => (rdata.len() == 4).then(|| opaque(rdata)),
        rtype::AAAA => (rdata.len() == 16).then(|| opaque(rdata)),
        rtype::NS | rtype::CNAME | rtype::PTR => one_name(rdata, 0, true),
        rtype::MX => one_name(rdata, 2, true),
        rtype::SRV => one_name(rdata, 6, false),
        rtype::SOA => {
            let (first, rest) = rdata.split_at(uncompressed_len(rdata)?);
            let (second, tail) = rest.split_at(uncompressed_len(rest)?);
            (tail.len() == 20).then_some(Parts { head: &[], first, second, tail, compressible: true })
        }
        _ => Some(opaque(rdata)),
    }
}

fn opaque(rdata: &[u8]) -> Parts<'_> {
    Parts { head: rdata, first: &[], second: &[], tail: &[], compressible: false }
}

fn one_name(rdata: &[u8], at: usize, compressible: bool) -> Option<Parts<'_>> {
    let (head, name) = rdata.split_at_checked(at)?;
    (uncompressed_len(name)? == name.len()).then_some(Parts {
        head,
        first: name,
        second: &[],
        tail: &[],
        compressible,
    })
}

/// The last field of SOA data: how long, in seconds, a negative answer may be kept (RFC 2308 §4).
pub fn soa_minimum(rdata: &[u8]) -> Option<u32> {
    super::u32_at(rdata, rdata.len().checked_sub(4)?)
}
