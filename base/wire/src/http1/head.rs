//! Finding where a head ends, before any of it is tokenised.
//!
//! What always holds: each byte is looked at once, however many pieces the head comes in, so a peer that sends a byte at a
//! time costs no more than one that sends all at once; a bare LF, an overlong first line and an overlong head are refused
//! at the byte that makes them so; nothing behind the head is looked at.

use super::{Error, Limits};
use std::ops::Range;

/// Empty lines skipped before a request line (RFC 9112 section 2.2 asks for at least one).
pub const LEADING_EMPTY_LINES_MAX: usize = 4;

/// Which head is awaited: it decides what the first byte may be and whether empty lines may come before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadKind {
    /// A request: empty lines are skipped, the first byte begins a method.
    Request,
    /// An answer: it begins with `HTTP/`.
    Response,
}

/// The place reached in looking for a head's end. One per head: make a new one for the next.
#[derive(Clone, Copy, Debug)]
pub struct HeadScan {
    kind: HeadKind,
    /// Where the first line begins, behind any empty lines.
    start: usize,
    /// Where the line being read begins.
    line_start: usize,
    /// Bytes looked at.
    scanned: usize,
    /// Lines complete, the first one included.
    lines: usize,
}

impl HeadScan {
    /// Begins at the first byte of a head to come.
    pub fn new(kind: HeadKind) -> HeadScan {
        HeadScan { kind, start: 0, line_start: 0, scanned: 0, lines: 0 }
    }

    /// Looks at what is new in `bytes`, which begin where the head begins and have only grown since the last call.
    /// Gives the head's range (with its empty line, without empty lines before it), or `None` if it is not whole.
    pub fn find(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<Range<usize>>, Error> {
        if self.lines == 0 && !self.begin(bytes)? {
            return Ok(None);
        }
        while let Some(offset) = memchr::memchr(b'\n', &bytes[self.scanned..]) {
            let lf = self.scanned + offset;
            let has_cr = lf > self.line_start && bytes[lf - 1] == b'\r';
            let line_bytes = lf - self.line_start - usize::from(has_cr);
            if self.lines == 0 && line_bytes > limits.line_bytes_max {
                return Err(Error::LineTooLong);
            }
            if lf + 1 - self.start > limits.head_bytes_max {
                return Err(Error::HeadTooLarge);
            }
            if !has_cr {
                return Err(Error::BareLf);
            }
            if line_bytes == 0 {
                return Ok(Some(self.start..lf + 1));
            }
            self.lines += 1;
            if self.lines > limits.fields_max + 1 {
                return Err(Error::TooManyFields);
            }
            self.line_start = lf + 1;
            self.scanned = lf + 1;
        }
        self.scanned = bytes.len();
        // The CR of a line that is just short enough may be the last byte here.
        if self.lines == 0 && bytes.len() - self.line_start > limits.line_bytes_max + 1 {
            return Err(Error::LineTooLong);
        }
        if bytes.len() - self.start > limits.head_bytes_max {
            return Err(Error::HeadTooLarge);
        }
        Ok(None)
    }

    /// True once any byte of the head itself (not an empty line before it) has come.
    pub fn has_begun(&self) -> bool {
        self.scanned > self.start
    }

    /// Skips empty lines and looks at the first byte. False: too little is there to say.
    fn begin(&mut self, bytes: &[u8]) -> Result<bool, Error> {
        if self.scanned > self.start {
            return Ok(true);
        }
        if self.kind == HeadKind::Request {
            while bytes[self.start..].starts_with(b"\r\n") {
                self.start += 2;
                if self.start > 2 * LEADING_EMPTY_LINES_MAX {
                    return Err(Error::EmptyLines);
                }
            }
            self.line_start = self.start;
            self.scanned = self.start;
        }
        match bytes[self.start..] {
            [] => Ok(false),
            [b'\r'] if self.kind == HeadKind::Request => Ok(false),
            [first, ..] => {
                let good = match self.kind {
                    HeadKind::Request => first.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&first),
                    HeadKind::Response => first == b'H',
                };
                if good { Ok(true) } else { Err(Error::FirstLine) }
            }
        }
    }
}
