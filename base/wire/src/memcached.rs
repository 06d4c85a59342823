//! memcached's text protocol: the classic commands and the meta commands, as pure functions over bytes.
//!
//! Source: memcached's `doc/protocol.txt`, and `proto_text.c` / `proto_parser.c` where the text is wrong or silent.
//!
//! What always holds:
//! - [`parse`] looks at one command line without its line end and never fails for the connection: what it can't
//!   read is a [`Refusal`], which says what to answer and how many data bytes the caller must skip.
//! - Nothing here knows a store, a clock or a socket. A relative expiry stays what the client wrote.
//! - A parsed key is 1 to [`KEY_BYTES_MAX`] bytes long.
//!
//! Left out: the binary protocol, UDP framing, and what a command does.

mod classic;
mod encode;
mod meta;
mod number;
mod request;

pub use classic::parse;
pub use encode::{append_binary_key, append_decimal, append_value_head};
pub use meta::{Meta, MetaFlags, MetaKey};
pub use number::{parse_i32, parse_u32, parse_u64};
pub use request::{Bytes, Keys, Refusal, Request, Storage, StorageMode, Tokens};

/// The longest key, in bytes. A base64 key counts as sent, before it is decoded.
pub const KEY_BYTES_MAX: usize = 250;

/// The longest command line, in bytes; only retrievals may be longer.
pub const LINE_BYTES_MAX: usize = 2048;

/// The most tokens of a meta command, its name and its key among them.
pub const META_TOKENS_MAX: usize = 20;

/// The longest opaque token of a meta command, in bytes, its `O` included.
pub const OPAQUE_BYTES_MAX: usize = 32;

/// The largest length that a storage command may announce, in bytes.
pub const VALUE_BYTES_MAX: u32 = i32::MAX as u32 - 2;

/// Answers that are one fixed line. Each is without its line end.
pub mod answer {
    /// An unknown command, or a wrong number of tokens.
    pub const ERROR: &str = "ERROR";
    /// A line that can't be read.
    pub const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format";
    /// A data block that does not end where it was announced to end.
    pub const BAD_CHUNK: &str = "CLIENT_ERROR bad data chunk";
    /// `touch`, `gat` and `flush_all` with something that is no time.
    pub const BAD_EXPTIME: &str = "CLIENT_ERROR invalid exptime argument";
    /// `incr` and `decr` with something that is no number.
    pub const BAD_DELTA: &str = "CLIENT_ERROR invalid numeric delta argument";
    /// `incr` and `decr` of an item that holds no number.
    pub const NON_NUMERIC: &str = "CLIENT_ERROR cannot increment or decrement non-numeric value";
    /// `delete` with more than it takes. The two spaces are memcached's.
    pub const DELETE_USAGE: &str = "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]";
    /// A meta flag given twice.
    pub const DUPLICATE_FLAG: &str = "CLIENT_ERROR duplicate flag";
    /// A meta flag that does not exist.
    pub const INVALID_FLAG: &str = "CLIENT_ERROR invalid flag";
    /// What `md` and `ma` say to either.
    pub const INVALID_OR_DUPLICATE_FLAG: &str = "CLIENT_ERROR invalid or duplicate flag";
    /// More than [`super::META_TOKENS_MAX`] tokens.
    pub const FLAGS_TOO_LONG: &str = "CLIENT_ERROR options flags are too long";
    /// An opaque over [`super::OPAQUE_BYTES_MAX`].
    pub const OPAQUE_TOO_LONG: &str = "CLIENT_ERROR opaque token too long";
    /// A meta flag's token that is no number.
    pub const BAD_TOKEN: &str = "CLIENT_ERROR bad token in command line format";
    /// A key that is no base64.
    pub const BAD_BASE64: &str = "CLIENT_ERROR error decoding key";
    /// `ma` with a `J` that is no number.
    pub const BAD_INITIAL: &str = "CLIENT_ERROR invalid numeric initial value";
    /// `ma` with a `D` that is no number.
    pub const BAD_META_DELTA: &str = "CLIENT_ERROR invalid numeric delta value";
    /// `M` is one letter.
    pub const BAD_MODE_LENGTH: &str = "CLIENT_ERROR incorrect length for M token";
    /// `ms` with an unknown mode.
    pub const BAD_SET_MODE: &str = "CLIENT_ERROR invalid mode for ms M token";
    /// `ma` with an unknown mode.
    pub const BAD_ARITHMETIC_MODE: &str = "CLIENT_ERROR invalid mode for ma M token";
    /// An item over the size limit.
    pub const TOO_LARGE: &str = "SERVER_ERROR object too large for cache";
    /// No memory for an item.
    pub const NO_MEMORY: &str = "SERVER_ERROR out of memory storing object";
    /// No memory for a number that grew.
    pub const NO_MEMORY_FOR_NUMBER: &str = "SERVER_ERROR out of memory";
    /// Said to a connection over the limit, which is then closed.
    pub const TOO_MANY_CONNECTIONS: &str = "ERROR Too many open connections";
}
