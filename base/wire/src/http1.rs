//! HTTP/1.0 and 1.1 messages (RFC 9112), read so strictly that no peer behind or before us can read them otherwise.
//!
//! What always holds:
//! - **Where a message ends is decided here, once, from one reading of the head.** Whatever two parsers could take for two
//!   different lengths (Content-Length beside Transfer-Encoding, lengths that differ or are not plain digits, a bare LF or
//!   CR, a folded line, a space before a colon) is an [`Error`], in requests and answers alike.
//! - How the bytes were cut into pieces changes nothing: the same input gives the same result.
//! - A head is looked at once per byte, then tokenised once by `httparse`; nothing is allocated for it.
//! - Every length is bounded: the request line, the head and the count of its fields by [`Limits`]; chunk extensions and
//!   trailers by the constants of [`body`].
//!
//! What it leaves out: which fields mean what to a proxy (its own affair), sockets, deadlines, and limits on bodies.
//!
//! Order of calls: [`HeadScan::find`] until it names the head's range, then [`Request::parse`] or [`Response::parse`] on
//! exactly that range, then [`body::Body`] with the framing they give until it is done.

mod body;
mod fields;
mod head;
mod request;
mod response;
#[cfg(test)]
mod tests;

pub use body::{
    Body, CHUNK_EXTENSION_BYTES_MAX, CHUNK_HEAD_BYTES_MAX, LAST_CHUNK, Piece, TRAILER_BYTES_MAX,
    write_chunk_head,
};
pub use fields::{ConnectionOptions, Field, FieldName, FieldStorage, list_members};
pub use head::{HeadKind, HeadScan, LEADING_EMPTY_LINES_MAX};
pub use request::{Request, Target};
pub use response::Response;

/// The most fields a head may be given leave to hold: [`Limits::fields_max`] is at most this.
pub const FIELDS_MAX: usize = 128;

/// The version a message states. Others are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0 (RFC 1945): no chunks, no 1xx, closes unless asked to keep the connection.
    Http10,
    /// HTTP/1.1 (RFC 9112).
    Http11,
}

/// How the end of a message's body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// As many bytes as Content-Length says.
    Length(u64),
    /// The chunked coding.
    Chunked,
    /// All until the peer closes; answers only.
    UntilClose,
}

/// How large a head may be. Larger ones are refused, never cut.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The request line (or status line) without its line end, in bytes; beyond it 414. Less than `head_bytes_max`.
    pub line_bytes_max: usize,
    /// The whole head with its empty line, in bytes; beyond it 431.
    pub head_bytes_max: usize,
    /// Field lines in the head; beyond it 431. At most [`FIELDS_MAX`].
    pub fields_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { line_bytes_max: 8 * 1024, head_bytes_max: 32 * 1024, fields_max: 100 }
    }
}

/// Why a message is refused. After any of these nothing more may be read from the connection as HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A line ends in LF without CR (RFC 9112 section 2.2 lets a recipient accept it; that is a way to smuggle).
    #[error("a line ends in a bare LF")]
    BareLf,
    /// More than [`LEADING_EMPTY_LINES_MAX`] empty lines before the request line.
    #[error("too many empty lines before the request line")]
    EmptyLines,
    /// The first line is no request line or status line: a method that is no token, extra spaces, control bytes.
    #[error("malformed first line")]
    FirstLine,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("HTTP version not supported")]
    Version,
    /// The request target has none of the four forms, or not the one its method needs (RFC 9112 section 3.2).
    #[error("malformed request target")]
    Target,
    /// A status code outside 100 to 599.
    #[error("malformed status code")]
    Status,
    /// A field name that is no token: also a space before the colon, and a folded line (RFC 9112 sections 5.1, 5.2).
    #[error("malformed field name")]
    FieldName,
    /// A control byte, a NUL or a bare CR in a field value.
    #[error("malformed field value")]
    FieldValue,
    /// Both Content-Length and Transfer-Encoding.
    #[error("both Content-Length and Transfer-Encoding")]
    LengthAndCoding,
    /// Several Content-Length fields that differ.
    #[error("Content-Length fields that differ")]
    LengthsDiffer,
    /// A Content-Length that is not one run of digits, or is beyond 2^63 - 1.
    #[error("malformed Content-Length")]
    Length,
    /// A Transfer-Encoding that does not end in exactly one `chunked`, or on a message that cannot have one.
    #[error("malformed Transfer-Encoding")]
    Coding,
    /// A Transfer-Encoding that is well formed but names more than `chunked`.
    #[error("unsupported transfer coding")]
    CodingUnsupported,
    /// A Transfer-Encoding in an HTTP/1.0 message.
    #[error("Transfer-Encoding in HTTP/1.0")]
    CodingInHttp10,
    /// No Host in an HTTP/1.1 request.
    #[error("no Host")]
    HostMissing,
    /// More than one Host.
    #[error("more than one Host")]
    HostRepeated,
    /// A Host that is no host and port.
    #[error("malformed Host")]
    Host,
    /// The first line is longer than [`Limits::line_bytes_max`].
    #[error("first line too long")]
    LineTooLong,
    /// The head is longer than [`Limits::head_bytes_max`].
    #[error("head too large")]
    HeadTooLarge,
    /// More field lines than [`Limits::fields_max`].
    #[error("too many fields")]
    TooManyFields,
    /// A chunk's size is not plain hexadecimal digits followed by CRLF or `;`, or is beyond 2^63 - 1.
    #[error("malformed chunk size")]
    ChunkSize,
    /// A chunk extension with control bytes, or more of them than [`CHUNK_EXTENSION_BYTES_MAX`].
    #[error("malformed or oversized chunk extension")]
    ChunkExtension,
    /// A chunk's data is not followed by CRLF.
    #[error("chunk data not followed by CRLF")]
    ChunkEnd,
    /// A malformed trailer section.
    #[error("malformed trailer section")]
    Trailer,
    /// The trailer section is longer than [`TRAILER_BYTES_MAX`].
    #[error("trailer section too large")]
    TrailerTooLarge,
}

impl Error {
    /// The status a server answers a request with that has this fault (RFC 9110 section 15, RFC 6585 section 5).
    pub fn status(self) -> u16 {
        match self {
            Error::LineTooLong => 414,
            Error::HeadTooLarge | Error::TooManyFields | Error::TrailerTooLarge => 431,
            Error::CodingUnsupported => 501,
            Error::Version => 505,
            _ => 400,
        }
    }
}
