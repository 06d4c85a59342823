//! Answers of the admin endpoint (RFC 9110, 9112), always with Content-Length.

use super::{Head, Refusal};
use std::fmt::Write;

/// The content type of plain answers.
const TEXT: &str = "text/plain; charset=utf-8";

/// The few statuses that are given here (RFC 9110, 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    ExpectationFailed,
    TooLarge,
    Unavailable,
    Version,
}

impl Status {
    const fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::BadRequest => "400 Bad Request",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::ExpectationFailed => "417 Expectation Failed",
            Status::TooLarge => "431 Request Header Fields Too Large",
            Status::Unavailable => "503 Service Unavailable",
            Status::Version => "505 HTTP Version Not Supported",
        }
    }
}

/// Status, type and body; [`Answer::encode`] makes the bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: Status,
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn text(status: Status, body: impl Into<String>) -> Answer {
        Answer { status, content_type: TEXT, body: body.into() }
    }

    /// The bytes of this answer to that request.
    pub(crate) fn encode(&self, head: &Head) -> Vec<u8> {
        self.bytes(!head.is_head, head.keep_alive)
    }

    fn bytes(&self, with_body: bool, keep_alive: bool) -> Vec<u8> {
        let mut text = String::with_capacity(256 + self.body.len());
        let length = self.body.len();
        let allow = if self.status == Status::MethodNotAllowed { "Allow: GET, HEAD\r\n" } else { "" };
        let connection = if keep_alive { "" } else { "Connection: close\r\n" };
        write!(
            text,
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {length}\r\nCache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\n{allow}{connection}\r\n",
            self.status.line(),
            self.content_type,
        )
        .expect("writing to a String does not fail");
        if with_body {
            text.push_str(&self.body);
        }
        text.into_bytes()
    }
}

impl Refusal {
    /// The bytes of the last answer on a connection.
    pub(crate) fn encode(self) -> Vec<u8> {
        Answer::text(self.status, format!("{}\n", self.reason)).bytes(true, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn get_and_head_differ_in_the_body_only() {
        let answer = Answer::text(Status::Ok, "ok\n");
        let head = |is_head| Head { path: "/".to_owned(), is_head, keep_alive: true, bytes: 0 };
        let get = text(answer.encode(&head(false)));
        assert!(get.starts_with(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\n"
        ));
        assert!(!get.contains("Connection"));
        assert_eq!(get, text(answer.encode(&head(true))) + "ok\n");
    }

    #[test]
    fn a_refusal_closes() {
        let refusal = Refusal { status: Status::MethodNotAllowed, reason: "GET and HEAD" };
        let text = text(refusal.encode());
        assert!(text.contains("\r\nAllow: GET, HEAD\r\nConnection: close\r\n\r\nGET and HEAD\n"), "{text}");
    }
}
