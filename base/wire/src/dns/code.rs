//! The numbers of DNS, as IANA's registry "Domain Name System (DNS) Parameters" lists them.

/// Record types.
pub mod rtype {
    /// IPv4 address (RFC 1035).
    pub const A: u16 = 1;
    /// Name server (RFC 1035).
    pub const NS: u16 = 2;
    /// Alias (RFC 1035).
    pub const CNAME: u16 = 5;
    /// Start of a zone of authority (RFC 1035).
    pub const SOA: u16 = 6;
    /// Pointer to a name (RFC 1035).
    pub const PTR: u16 = 12;
    /// Host information (RFC 1035); the answer to ANY (RFC 8482).
    pub const HINFO: u16 = 13;
    /// Mail exchange (RFC 1035).
    pub const MX: u16 = 15;
    /// Text (RFC 1035).
    pub const TXT: u16 = 16;
    /// Signature of RFC 2535.
    pub const SIG: u16 = 24;
    /// Key of RFC 2535.
    pub const KEY: u16 = 25;
    /// IPv6 address (RFC 3596).
    pub const AAAA: u16 = 28;
    /// Service location (RFC 2782).
    pub const SRV: u16 = 33;
    /// Naming authority pointer (RFC 3403).
    pub const NAPTR: u16 = 35;
    /// Redirection of a subtree (RFC 6672).
    pub const DNAME: u16 = 39;
    /// EDNS pseudo-record (RFC 6891).
    pub const OPT: u16 = 41;
    /// Delegation signer (RFC 4034).
    pub const DS: u16 = 43;
    /// Signature (RFC 4034).
    pub const RRSIG: u16 = 46;
    /// Next secure (RFC 4034).
    pub const NSEC: u16 = 47;
    /// Zone key (RFC 4034).
    pub const DNSKEY: u16 = 48;
    /// Hashed next secure (RFC 5155).
    pub const NSEC3: u16 = 50;
    /// Its parameters (RFC 5155).
    pub const NSEC3PARAM: u16 = 51;
    /// Service binding (RFC 9460).
    pub const SVCB: u16 = 64;
    /// Service binding of HTTP (RFC 9460).
    pub const HTTPS: u16 = 65;
    /// Sender policy, TXT's twin (RFC 7208 retires it).
    pub const SPF: u16 = 99;
    /// The first of the types that are questions or control, never data (RFC 6895 §3.1: 128–255).
    pub const META_FIRST: u16 = 128;
    /// Incremental transfer (RFC 1995).
    pub const IXFR: u16 = 251;
    /// Transfer (RFC 5936).
    pub const AXFR: u16 = 252;
    /// All records (RFC 1035; RFC 8482 lets a server say little).
    pub const ANY: u16 = 255;
    /// The last of the question types.
    pub const META_LAST: u16 = 255;
    /// Certification authority authorization (RFC 8659).
    pub const CAA: u16 = 257;
}

/// Classes.
pub mod class {
    /// The Internet.
    pub const IN: u16 = 1;
    /// CHAOS: where servers tell their version and identity (RFC 4892).
    pub const CH: u16 = 3;
}

/// Operation codes.
pub mod opcode {
    /// A standard query.
    pub const QUERY: u8 = 0;
}

/// Response codes; those above 15 need EDNS to carry their upper bits.
pub mod rcode {
    /// No error.
    pub const NOERROR: u16 = 0;
    /// The query was malformed.
    pub const FORMERR: u16 = 1;
    /// The server failed.
    pub const SERVFAIL: u16 = 2;
    /// The name does not exist.
    pub const NXDOMAIN: u16 = 3;
    /// The server does not do this kind of query.
    pub const NOTIMP: u16 = 4;
    /// The server will not answer this, by policy.
    pub const REFUSED: u16 = 5;
    /// An EDNS version that the server does not know (RFC 6891 §6.1.3).
    pub const BADVERS: u16 = 16;
}

/// Bits of the header's second word (RFC 1035 §4.1.1).
pub mod flag {
    /// A response.
    pub const QR: u16 = 0x8000;
    /// The opcode's bits.
    pub const OPCODE: u16 = 0x7800;
    /// Authoritative answer.
    pub const AA: u16 = 0x0400;
    /// Truncated.
    pub const TC: u16 = 0x0200;
    /// Recursion desired: copied into the response.
    pub const RD: u16 = 0x0100;
    /// The response code's bits.
    pub const RCODE: u16 = 0x000f;
}
