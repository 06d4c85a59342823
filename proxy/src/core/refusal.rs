//! Answers the proxy gives itself: short, plain, and complete in one piece.

use super::answer::write_connection;
use super::hop::{write_field, write_number};
use wire::http1::Version;

/// An answer of the proxy's own.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// To a client of this version.
    pub version: Version,
    /// The request was HEAD: no body.
    pub head: bool,
    /// The connection is kept after it.
    pub keep: bool,
}

/// What a client is told to wait when no server is up, in seconds.
const RETRY_AFTER_S: u64 = 1;

impl Refusal {
    /// Writes it whole.
    pub fn write(&self, out: &mut Vec<u8>, date: &[u8]) {
        let reason = reason(self.status);
        let text = format!("{} {reason}\n", self.status);
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(text.trim_ascii_end().as_bytes());
        out.extend_from_slice(b"\r\n");
        write_field(out, "Date", date);
        write_field(out, "Content-Type", b"text/plain");
        out.extend_from_slice(b"Content-Length: ");
        write_number(out, text.len() as u64);
        out.extend_from_slice(b"\r\nCache-Control: no-store\r\n");
        if self.status == 503 {
            out.extend_from_slice(b"Retry-After: ");
            write_number(out, RETRY_AFTER_S);
            out.extend_from_slice(b"\r\n");
        }
        write_connection(out, self.version, self.keep);
        out.extend_from_slice(b"\r\n");
        if !self.head {
            out.extend_from_slice(text.as_bytes());
        }
    }
}

/// The reason phrases of the statuses the proxy gives.
fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        404 => "Not Found",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_whole() {
        let mut out = Vec::new();
        Refusal { status: 503, version: Version::Http11, head: false, keep: false }.write(&mut out, b"NOW");
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 503 Service Unavailable\r\nDate: NOW\r\nContent-Type: text/plain\r\nContent-Length: 24\r\n\
             Cache-Control: no-store\r\nRetry-After: 1\r\nConnection: close\r\n\r\n503 Service Unavailable\n"
        );
        let mut out = Vec::new();
        Refusal { status: 502, version: Version::Http11, head: true, keep: true }.write(&mut out, b"NOW");
        assert!(out.ends_with(b"Cache-Control: no-store\r\n\r\n"));
    }
}
