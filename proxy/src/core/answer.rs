//! The head the client gets for a server's answer, how its body goes on, and which connections live on.
//!
//! What always holds: the framing towards the client is written anew; an HTTP/1.0 client gets neither chunks nor 1xx; a
//! connection is kept only if both what was read and what was written end without closing it.

use super::hop::{ends_here, write_field, write_number};
use wire::http1::{FieldName, Framing, Response, Version};

/// What of the request decides about its answer.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The client's version.
    pub version: Version,
    /// The method was HEAD.
    pub head: bool,
    /// The client keeps its connection.
    pub persists: bool,
    /// An upgrade was asked for, and passed on.
    pub upgrade: bool,
}

/// How an answer goes on to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How the body is framed by the server.
    pub read: Framing,
    /// How it is framed to the client.
    pub write: Framing,
    /// The client's connection is kept after it.
    pub keep_client: bool,
    /// The server's connection can be used again after it.
    pub keep_server: bool,
}

impl Plan {
    /// Of a final answer; `may_keep` is false while the proxy stops or the request's body is not read whole.
    pub fn of(response: &Response<'_, '_>, asked: Asked, may_keep: bool) -> Plan {
        let read = response.framing;
        let write = match read {
            Framing::Chunked | Framing::UntilClose if asked.version == Version::Http10 => Framing::UntilClose,
            Framing::Chunked | Framing::UntilClose => Framing::Chunked,
            other => other,
        };
        Plan {
            read,
            write,
            keep_client: asked.persists && may_keep && write != Framing::UntilClose,
            keep_server: response.persists(),
        }
    }
}

/// Writes the head the client gets for a final answer. `date` is used if the server gave none (RFC 9110 section 6.6.1).
pub fn write_head(out: &mut Vec<u8>, response: &Response<'_, '_>, asked: Asked, plan: Plan, date: &[u8]) {
    write_status_line(out, response);
    let mut dated = false;
    for field in response.fields {
        let name = FieldName::of(field.name);
        if !ends_here(field, name, response.fields, response.connection) {
            dated |= name == FieldName::Date;
            write_field(out, field.name, field.value);
        }
    }
    if !dated {
        write_field(out, "Date", date);
    }
    match plan.write {
        Framing::Length(length) => write_length(out, length),
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        // To HEAD and in 304 it tells what a GET would get; 204 has none (RFC 9110 section 8.6).
        Framing::None if asked.head || response.status == 304 => {
            if let Some(length) = response.length {
                write_length(out, length);
            }
        }
        Framing::None if response.status != 204 => write_length(out, 0),
        Framing::None | Framing::UntilClose => {}
    }
    write_connection(out, asked.version, plan.keep_client);
    out.extend_from_slice(b"\r\n");
}

/// Writes an interim answer (100 to 199 but 101) as it is passed on to a client of HTTP/1.1.
pub fn write_interim_head(out: &mut Vec<u8>, response: &Response<'_, '_>) {
    write_status_line(out, response);
    for field in response.fields {
        if !ends_here(field, FieldName::of(field.name), response.fields, response.connection) {
            write_field(out, field.name, field.value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the 101 that opens a tunnel.
pub fn write_upgrade_head(out: &mut Vec<u8>, response: &Response<'_, '_>) {
    write_status_line(out, response);
    for field in response.fields {
        if !ends_here(field, FieldName::of(field.name), response.fields, response.connection) {
            write_field(out, field.name, field.value);
        }
    }
    out.extend_from_slice(b"Connection: Upgrade\r\n");
    write_field(out, "Upgrade", response.upgrade.unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Says whether the connection is kept, where that is not what the client's version means by silence.
pub fn write_connection(out: &mut Vec<u8>, version: Version, keep: bool) {
    match (version, keep) {
        (Version::Http11, true) | (Version::Http10, false) => {}
        (Version::Http11, false) => out.extend_from_slice(b"Connection: close\r\n"),
        (Version::Http10, true) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
    }
}

fn write_status_line(out: &mut Vec<u8>, response: &Response<'_, '_>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    write_number(out, u64::from(response.status));
    out.push(b' ');
    out.extend_from_slice(response.reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    write_number(out, length);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::http1::{FieldStorage, Limits};

    const GET: Asked = Asked { version: Version::Http11, head: false, persists: true, upgrade: false };

    fn answer(head: &str, asked: Asked, may_keep: bool) -> (Plan, String) {
        let mut storage = FieldStorage::new();
        let response =
            Response::parse(head.as_bytes(), &mut storage, asked.head, &Limits::default()).unwrap();
        let plan = Plan::of(&response, asked, may_keep);
        let mut out = Vec::new();
        write_head(&mut out, &response, asked, plan, b"NOW");
        (plan, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_plain_answer() {
        let (plan, head) = answer(
            "HTTP/1.1 200 OK\r\nServer: x\r\nConnection: keep-alive, x-a\r\nX-A: 1\r\nKeep-Alive: 5\r\nContent-Length: 5\r\n\r\n",
            GET,
            true,
        );
        assert_eq!(head, "HTTP/1.1 200 OK\r\nServer: x\r\nDate: NOW\r\nContent-Length: 5\r\n\r\n");
        assert!(plan.keep_client && plan.keep_server);
    }

    #[test]
    fn chunks_are_for_1_1_only() {
        let chunked = "HTTP/1.1 200 OK\r\nDate: d\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (plan, head) = answer(chunked, GET, true);
        assert_eq!(head, "HTTP/1.1 200 OK\r\nDate: d\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!((plan.write, plan.keep_client), (Framing::Chunked, true));
        let (plan, head) = answer(chunked, Asked { version: Version::Http10, ..GET }, true);
        assert_eq!(head, "HTTP/1.1 200 OK\r\nDate: d\r\n\r\n");
        assert_eq!((plan.write, plan.keep_client, plan.keep_server), (Framing::UntilClose, false, true));
    }

    #[test]
    fn a_body_until_close_becomes_chunks() {
        let (plan, head) = answer("HTTP/1.0 200 OK\r\nDate: d\r\n\r\n", GET, true);
        assert_eq!(head, "HTTP/1.1 200 OK\r\nDate: d\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert!(plan.keep_client && !plan.keep_server);
    }

    #[test]
    fn lengths_without_a_body() {
        let head = |head: &str, asked| answer(head, asked, true).1;
        let to_head = Asked { head: true, ..GET };
        assert!(head("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", to_head).contains("Content-Length: 5"));
        assert!(
            !head("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", to_head)
                .contains("Content-Length")
        );
        assert!(head("HTTP/1.1 304 \r\nContent-Length: 5\r\n\r\n", GET).contains("Content-Length: 5"));
        assert!(!head("HTTP/1.1 204 \r\nContent-Length: 0\r\n\r\n", GET).contains("Content-Length"));
        assert!(head("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", GET).contains("Content-Length: 0"));
    }

    #[test]
    fn connections_are_kept_only_where_all_agree() {
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        let (plan, head) = answer(ok, GET, false);
        assert!(!plan.keep_client && plan.keep_server && head.contains("Connection: close"));
        let (plan, _) = answer(ok, Asked { persists: false, ..GET }, true);
        assert!(!plan.keep_client);
        let (plan, head) =
            answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", GET, true);
        assert!(plan.keep_client && !plan.keep_server && !head.contains("close"));
        let (plan, head) = answer(ok, Asked { version: Version::Http10, ..GET }, true);
        assert!(plan.keep_client && head.contains("Connection: keep-alive"));
        let (plan, _) = answer("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", GET, true);
        assert!(!plan.keep_server);
    }

    #[test]
    fn a_101_opens_with_its_own_connection_fields() {
        let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n";
        let mut storage = FieldStorage::new();
        let response = Response::parse(head.as_bytes(), &mut storage, false, &Limits::default()).unwrap();
        let mut out = Vec::new();
        write_upgrade_head(&mut out, &response);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        );
    }
}
