//! RESP, the Redis serialization protocol, versions 2 and 3.
//!
//! - [`request`]: what a server reads (multibulk and inline commands), incremental, without copying arguments;
//! - [`reply`]: what a server writes, appended to a byte vector;
//! - [`value`]: what a client reads, as a tree, for tests and load generators, and the request it writes;
//! - [`number`]: the strict integers and the floats that Redis accepts as text;
//! - [`slot`]: the hash slot of a key (CRC16 of the key or of its hash tag).
//!
//! Pure: bytes in, values out. Every length that a peer names is held against [`request::Limits`] before it is believed.
//!
//! Sources: <https://redis.io/docs/latest/develop/reference/protocol-spec/> and, where it is silent, what Redis 7.0 does.

pub mod number;
pub mod reply;
pub mod request;
pub mod slot;
pub mod value;

/// The version of the protocol that a connection speaks, chosen by `HELLO`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// RESP2: every connection begins here.
    #[default]
    Resp2,
    /// RESP3: maps, sets, doubles, booleans and one null.
    Resp3,
}
