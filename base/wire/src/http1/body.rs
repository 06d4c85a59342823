//! Bodies: counting them, decoding the chunked coding, writing it (RFC 9112 sections 6 and 7).
//!
//! What always holds: a decoder takes no byte behind the body's end; it keeps nothing but a chunk's size, and the trailer
//! section up to [`TRAILER_BYTES_MAX`]; what was read strictly is never sent on as it came but written anew.

use super::{Error, Framing};

/// The trailer section of one body, in bytes, its empty line included.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// Chunk extensions of one body, in bytes, all its chunks together. They are dropped, never sent on.
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 4 * 1024;
/// Digits of a chunk size, leading zeros included.
const CHUNK_DIGITS_MAX: u8 = 16;
/// What [`write_chunk_head`] writes at most: 16 digits and CRLF.
pub const CHUNK_HEAD_BYTES_MAX: usize = 18;
/// The last chunk and an empty trailer section.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// One step of reading a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Content, never empty.
    Data(&'a [u8]),
    /// All of the input was taken; the body goes on.
    More,
    /// The body is whole. Bytes not taken belong to what follows it.
    End,
}

/// The place reached in a body being read.
#[derive(Debug)]
pub struct Body {
    state: State,
    extension_bytes: usize,
    /// Raw trailer lines with their empty line.
    trailer: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Length(u64),
    UntilClose,
    ChunkSize { size: u64, digits: u8 },
    ChunkExtension { size: u64 },
    ChunkSizeLf { size: u64 },
    ChunkData(u64),
    ChunkCr,
    ChunkLf,
    Trailer { line_bytes: usize },
    Done,
}

impl Body {
    /// A body that ends as `framing` says.
    pub fn new(framing: Framing) -> Body {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkSize { size: 0, digits: 0 },
            Framing::UntilClose => State::UntilClose,
        };
        Body { state, extension_bytes: 0, trailer: Vec::new() }
    }

    /// Whether the body is whole.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the peer's closing here ends the body; otherwise the body is cut short.
    pub fn ends_at_close(&self) -> bool {
        matches!(self.state, State::Done | State::UntilClose)
    }

    /// For a body of stated length: bytes still to come.
    pub fn bytes_left(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// Takes bytes from the front of `input`: how many were taken, and what they were. Call it again with the rest until it
    /// gives [`Piece::More`] or [`Piece::End`].
    pub fn read<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Piece<'a>), Error> {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            match self.state {
                State::Done => return Ok((at, Piece::End)),
                _ if rest.is_empty() => return Ok((at, Piece::More)),
                State::UntilClose => return Ok((input.len(), Piece::Data(rest))),
                State::Length(left) => {
                    let (data, left) = take(rest, left);
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                    return Ok((at + data.len(), Piece::Data(data)));
                }
                State::ChunkData(left) => {
                    let (data, left) = take(rest, left);
                    self.state = if left == 0 { State::ChunkCr } else { State::ChunkData(left) };
                    return Ok((at + data.len(), Piece::Data(data)));
                }
                State::Trailer { line_bytes } => {
                    at += 1;
                    self.trailer_byte(rest[0], line_bytes)?;
                }
                _ => {
                    at += 1;
                    self.chunk_line_byte(rest[0])?;
                }
            }
        }
    }

    /// One byte of a chunk's line, or of the line end behind its data.
    fn chunk_line_byte(&mut self, byte: u8) -> Result<(), Error> {
        self.state = match (self.state, byte) {
            (State::ChunkSize { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = (byte as char).to_digit(16).map_or(0, u64::from);
                if digits == CHUNK_DIGITS_MAX || size > (i64::MAX as u64) >> 4 {
                    return Err(Error::ChunkSize);
                }
                State::ChunkSize { size: size << 4 | digit, digits: digits + 1 }
            }
            (State::ChunkSize { size, digits: 1.. }, b'\r') => State::ChunkSizeLf { size },
            (State::ChunkSize { size, digits: 1.. }, b';') => State::ChunkExtension { size },
            (State::ChunkSize { .. }, _) => return Err(Error::ChunkSize),
            (State::ChunkExtension { size }, b'\r') => State::ChunkSizeLf { size },
            (State::ChunkExtension { size }, b'\t' | b' '..=b'~' | 0x80..)
                if self.extension_bytes < CHUNK_EXTENSION_BYTES_MAX =>
            {
                self.extension_bytes += 1;
                State::ChunkExtension { size }
            }
            (State::ChunkExtension { .. }, _) => return Err(Error::ChunkExtension),
            (State::ChunkSizeLf { size: 0 }, b'\n') => State::Trailer { line_bytes: 0 },
            (State::ChunkSizeLf { size }, b'\n') => State::ChunkData(size),
            (State::ChunkSizeLf { .. }, _) => return Err(Error::ChunkSize),
            (State::ChunkCr, b'\r') => State::ChunkLf,
            (State::ChunkLf, b'\n') => State::ChunkSize { size: 0, digits: 0 },
            _ => return Err(Error::ChunkEnd),
        };
        Ok(())
    }

    fn trailer_byte(&mut self, byte: u8, line_bytes: usize) -> Result<(), Error> {
        if self.trailer.len() == TRAILER_BYTES_MAX {
            return Err(Error::TrailerTooLarge);
        }
        let after_cr = self.trailer.last() == Some(&b'\r') && line_bytes > 0;
        if after_cr != (byte == b'\n') {
            return Err(Error::Trailer);
        }
        self.trailer.push(byte);
        self.state = match (byte, line_bytes) {
            (b'\n', 1) => State::Done,
            (b'\n', _) => State::Trailer { line_bytes: 0 },
            _ => State::Trailer { line_bytes: line_bytes + 1 },
        };
        if self.state == State::Done { self.check_trailer() } else { Ok(()) }
    }

    fn check_trailer(&self) -> Result<(), Error> {
        let mut fields = [httparse::EMPTY_HEADER; super::FIELDS_MAX];
        match httparse::parse_headers(&self.trailer, &mut fields) {
            Ok(httparse::Status::Complete(_)) => Ok(()),
            _ => Err(Error::Trailer),
        }
    }

    /// The trailer fields, names and values, of a body that is done; mostly none.
    pub fn trailers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.trailer.split(|&byte| byte == b'\n').filter_map(|line| {
            let colon = memchr::memchr(b':', line)?;
            Some((std::str::from_utf8(&line[..colon]).ok()?, line[colon + 1..].trim_ascii()))
        })
    }
}

/// As much of `rest` as `left` allows, and what is left then.
fn take(rest: &[u8], left: u64) -> (&[u8], u64) {
    let count = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
    (&rest[..count], left - count as u64)
}

/// Writes the line before a chunk of `bytes` bytes, which must not be none: that would end the body.
pub fn write_chunk_head(out: &mut Vec<u8>, bytes: usize) {
    assert!(bytes > 0, "an empty chunk ends a body");
    let digits = (usize::BITS - bytes.leading_zeros()).div_ceil(4);
    for index in (0..digits).rev() {
        out.push(b"0123456789abcdef"[bytes >> (4 * index) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}
