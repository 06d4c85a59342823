//! DNS: messages (RFC 1035 §4, EDNS of RFC 6891) and zone files (RFC 1035 §5).
//!
//! | module | what |
//! |---|---|
//! | [`code`] | the numbers: types, classes, opcodes, response codes, header bits |
//! | [`name`] | names in their uncompressed wire form, and from and to text |
//! | [`query`] | a query read in place, without an allocation; and written |
//! | [`sections`] | the records of a response, written with name compression |
//! | [`reply`] | a response read back: for clients, checks and tests |
//! | [`rdata`] | which record data holds names, and where |
//! | [`zone_file`] | zone files to records |
//!
//! What always holds: nothing here allocates in proportion to a length that a peer merely claims, follows a compression
//! pointer forwards, or panics on any input. What is left out: DNSSEC, transactions (TSIG), transfers, updates.

pub mod code;
pub mod name;
pub mod query;
pub mod rdata;
pub mod reply;
pub mod sections;
pub mod zone_file;

pub use name::Name;
pub use query::{Edns, Query, Rejected};

/// Octets of the header that every message begins with (RFC 1035 §4.1.1).
pub const HEADER_BYTES: usize = 12;
/// The longest message: TCP's length prefix has 16 bits (RFC 1035 §4.2.2).
pub const MESSAGE_BYTES_MAX: usize = 65_535;
/// What a UDP response may hold for a client without EDNS (RFC 1035 §4.2.1).
pub const UDP_BYTES_CLASSIC: usize = 512;
/// Octets of an OPT record without options (RFC 6891 §6.1.2).
pub const OPT_BYTES: usize = 11;

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes([pair[0], pair[1]]))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
}
