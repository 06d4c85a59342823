//! The head a server gets for a client's request.
//!
//! What always holds: the target is in origin form, the version 1.1; Host, Content-Length, Transfer-Encoding and Connection
//! are written from what was parsed, never copied; what an untrusted client says about forwarding is gone.

use super::hop::{ends_here, is_x_forwarded, write_field, write_number};
use wire::http1::{Field, FieldName, Framing, Request, Target};

/// What is said about the client, and under which names.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Set X-Forwarded-For, -Proto and -Host.
    pub x_forwarded: bool,
    /// Set Forwarded (RFC 7239).
    pub forwarded: bool,
    /// The name added to Via; empty adds none.
    pub via: String,
    /// The field of the request's id, if there is to be one.
    pub request_id_field: Option<String>,
}

/// What is known of the client's connection.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its address as text, without a port; empty if it has none (a Unix socket).
    pub address: String,
    /// It came over TLS.
    pub secure: bool,
    /// It is a proxy whose word about its own client counts.
    pub trusted: bool,
}

/// What is said of a request beyond its own head.
#[derive(Clone, Copy, Debug)]
pub struct Extra<'a> {
    /// Host, if the request has none (HTTP/1.0).
    pub default_host: &'a str,
    /// An id for the request, if ids are wanted.
    pub request_id: u64,
    /// Ask for the upgrade the client asks for.
    pub upgrade: bool,
}

/// The path and query of a target, as a server gets it.
pub fn origin_form<'a>(target: &Target<'a>) -> &'a str {
    match *target {
        Target::Origin(path) => path,
        Target::Absolute { path: "", .. } => "/",
        Target::Absolute { path, .. } => path,
        Target::Asterisk => "*",
        Target::Authority(authority) => authority,
    }
}

/// Writes the head a server gets for `request`. CONNECT has none: refuse it before.
pub fn write_head(
    out: &mut Vec<u8>,
    request: &Request<'_, '_>,
    client: &Client,
    policy: &Policy,
    extra: Extra<'_>,
) {
    let path = origin_form(&request.target);
    out.extend_from_slice(request.method.as_bytes());
    out.push(b' ');
    match request.target {
        // RFC 9112 section 3.2.4: OPTIONS for a server as a whole.
        Target::Absolute { path: "", .. } if request.method == "OPTIONS" => out.push(b'*'),
        _ if path.starts_with('?') => {
            out.push(b'/');
            out.extend_from_slice(path.as_bytes());
        }
        _ => out.extend_from_slice(path.as_bytes()),
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let host = request.host.unwrap_or(extra.default_host);
    write_field(out, "Host", host.as_bytes());
    for field in request.fields {
        let name = FieldName::of(field.name);
        let ours = match name {
            FieldName::Host | FieldName::Proxy | FieldName::Via => true,
            FieldName::Expect => true,
            FieldName::Other => {
                !client.trusted && is_x_forwarded(field.name)
                    || is_known_but_for_underscores(field.name)
                    || policy
                        .request_id_field
                        .as_deref()
                        .is_some_and(|id| field.name.eq_ignore_ascii_case(id))
            }
            FieldName::Forwarded => !client.trusted || policy.forwarded,
            FieldName::XForwardedFor | FieldName::XForwardedHost | FieldName::XForwardedProto => {
                !client.trusted || policy.x_forwarded
            }
            _ => false,
        };
        if !ours && !ends_here(field, name, request.fields, request.connection) {
            write_field(out, field.name, field.value);
        }
    }
    if request.expects_continue {
        out.extend_from_slice(b"Expect: 100-continue\r\n");
    }
    match request.framing {
        Framing::Length(length) => write_length(out, length),
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::None if request.states_length() => write_length(out, 0),
        Framing::None | Framing::UntilClose => {}
    }
    if let Some(protocol) = request.upgrade.filter(|_| extra.upgrade) {
        out.extend_from_slice(b"Connection: Upgrade\r\n");
        write_field(out, "Upgrade", protocol.as_bytes());
    }
    write_forwarding(out, request, client, policy, host);
    write_via(out, request, policy);
    if let Some(name) = &policy.request_id_field {
        let kept = if client.trusted { values_of(request.fields, name).next() } else { None };
        match kept {
            Some(id) => write_field(out, name, id),
            None => write_field(out, name, format!("{:016x}", extra.request_id).as_bytes()),
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn write_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    write_number(out, length);
    out.extend_from_slice(b"\r\n");
}

fn write_forwarding(
    out: &mut Vec<u8>,
    request: &Request<'_, '_>,
    client: &Client,
    policy: &Policy,
    host: &str,
) {
    let said = |name| fields_of(request.fields, name).filter(|_| client.trusted);
    let proto = if client.secure { "https" } else { "http" };
    if policy.x_forwarded {
        let mut earlier = said(FieldName::XForwardedFor).peekable();
        if earlier.peek().is_some() || !client.address.is_empty() {
            out.extend_from_slice(b"X-Forwarded-For: ");
            write_list(out, earlier.chain([client.address.as_bytes()]));
        }
        write_field(
            out,
            "X-Forwarded-Proto",
            said(FieldName::XForwardedProto).next().unwrap_or(proto.as_bytes()),
        );
        write_field(
            out,
            "X-Forwarded-Host",
            said(FieldName::XForwardedHost).next().unwrap_or(host.as_bytes()),
        );
    }
    if policy.forwarded {
        let node = match client.address.as_str() {
            "" => "unknown".to_owned(),
            v6 if v6.contains(':') => format!("\"[{v6}]\""),
            v4 => v4.to_owned(),
        };
        let element = format!("for={node};host=\"{host}\";proto={proto}");
        out.extend_from_slice(b"Forwarded: ");
        write_list(out, said(FieldName::Forwarded).chain([element.as_bytes()]));
    }
}

fn write_via(out: &mut Vec<u8>, request: &Request<'_, '_>, policy: &Policy) {
    let mut earlier = fields_of(request.fields, FieldName::Via).peekable();
    if policy.via.is_empty() && earlier.peek().is_none() {
        return;
    }
    out.extend_from_slice(b"Via: ");
    if policy.via.is_empty() {
        return write_list(out, earlier);
    }
    let version = if request.version == wire::http1::Version::Http10 { "1.0 " } else { "1.1 " };
    for member in earlier {
        out.extend_from_slice(member);
        out.extend_from_slice(b", ");
    }
    out.extend_from_slice(version.as_bytes());
    out.extend_from_slice(policy.via.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes a list's members and ends the line.
fn write_list<'a>(out: &mut Vec<u8>, members: impl Iterator<Item = &'a [u8]>) {
    let mut first = true;
    for member in members.filter(|member| !member.is_empty()) {
        if !std::mem::replace(&mut first, false) {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(member);
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether servers that turn fields into variables would take it for a field that is decided here: `Transfer_Encoding`.
fn is_known_but_for_underscores(name: &str) -> bool {
    name.contains('_') && FieldName::of(&name.replace('_', "-")) != FieldName::Other
}

fn fields_of<'a>(fields: &[Field<'a>], name: FieldName) -> impl Iterator<Item = &'a [u8]> {
    fields.iter().filter(move |field| FieldName::of(field.name) == name).map(|field| field.value)
}

fn values_of<'a>(fields: &[Field<'a>], name: &str) -> impl Iterator<Item = &'a [u8]> {
    fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::http1::{FieldStorage, Limits};

    fn policy() -> Policy {
        Policy { x_forwarded: true, forwarded: false, via: "millrace".into(), request_id_field: None }
    }

    fn client(trusted: bool) -> Client {
        Client { address: "192.0.2.1".into(), secure: false, trusted }
    }

    fn forward(head: &str, client: &Client, policy: &Policy, upgrade: bool) -> String {
        let mut storage = FieldStorage::new();
        let request = Request::parse(head.as_bytes(), &mut storage, &Limits::default()).unwrap();
        let mut out = Vec::new();
        write_head(
            &mut out,
            &request,
            client,
            policy,
            Extra { default_host: "10.0.0.1:80", request_id: 255, upgrade },
        );
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_for_one_connection_only_ends_here() {
        let head = "GET /a?b HTTP/1.1\r\nX-Secret: 1\r\nHost: a.example\r\nConnection: x-secret, close\r\nKeep-Alive: 5\r\n\
            Proxy-Connection: x\r\nTE: trailers\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nProxy: evil\r\nAccept: */*\r\n\r\n";
        assert_eq!(
            forward(head, &client(false), &policy(), false),
            "GET /a?b HTTP/1.1\r\nHost: a.example\r\nAccept: */*\r\nX-Forwarded-For: 192.0.2.1\r\n\
             X-Forwarded-Proto: http\r\nX-Forwarded-Host: a.example\r\nVia: 1.1 millrace\r\n\r\n"
        );
    }

    #[test]
    fn connection_cannot_take_out_what_we_say() {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\
            Connection: host, content-length, x-forwarded-for, via\r\n\r\n";
        let sent = forward(head, &client(false), &policy(), false);
        for line in [
            "Host: a\r\n",
            "Content-Length: 3\r\n",
            "X-Forwarded-For: 192.0.2.1\r\n",
            "Via: 1.1 millrace\r\n",
        ] {
            assert!(sent.contains(line), "{sent}");
        }
    }

    #[test]
    fn what_some_servers_take_for_another_field_ends_here() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\nContent_Length: 5\r\nX_Forwarded-For: 6.6.6.6\r\n\
            Proxy_Connection: x\r\nMy_Own: kept\r\n\r\n";
        for trusted in [false, true] {
            let sent = forward(head, &client(trusted), &policy(), false);
            assert!(sent.contains("My_Own: kept\r\n"), "{sent}");
            assert_eq!(sent.matches('_').count(), 1, "{sent}");
        }
    }

    #[test]
    fn only_trusted_peers_are_believed() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n\
            X-Forwarded-Proto: https\r\nX_Forwarded_Host: evil\r\nX-Forwarded-Port: 1\r\nForwarded: for=1.1.1.1\r\n\r\n";
        let sent = forward(head, &client(false), &policy(), false);
        assert!(
            sent.contains("X-Forwarded-For: 192.0.2.1\r\n") && sent.contains("X-Forwarded-Proto: http\r\n"),
            "{sent}"
        );
        assert!(!sent.contains("1.1.1.1") && !sent.contains("evil") && !sent.contains("Port"), "{sent}");
        let sent = forward(head, &client(true), &policy(), false);
        assert!(sent.contains("X-Forwarded-For: 1.1.1.1, 2.2.2.2, 192.0.2.1\r\n"), "{sent}");
        assert!(
            sent.contains("X-Forwarded-Proto: https\r\n") && sent.contains("Forwarded: for=1.1.1.1\r\n"),
            "{sent}"
        );
    }

    #[test]
    fn forwarded_as_rfc_7239_writes_it() {
        let policy = Policy { x_forwarded: false, forwarded: true, ..policy() };
        let v6 = Client { address: "2001:db8::1".into(), secure: true, trusted: true };
        let sent =
            forward("GET / HTTP/1.1\r\nHost: a\r\nForwarded: for=1.1.1.1\r\n\r\n", &v6, &policy, false);
        assert!(
            sent.contains("Forwarded: for=1.1.1.1, for=\"[2001:db8::1]\";host=\"a\";proto=https\r\n"),
            "{sent}"
        );
        assert!(!sent.contains("X-Forwarded"), "{sent}");
    }

    #[test]
    fn targets_become_origin_form() {
        let line = |head: &str| {
            forward(head, &client(false), &policy(), false).lines().take(2).collect::<Vec<_>>().join("|")
        };
        assert_eq!(line("GET http://b:1/x?y HTTP/1.1\r\nHost: a\r\n\r\n"), "GET /x?y HTTP/1.1|Host: b:1");
        assert_eq!(line("GET http://b HTTP/1.1\r\nHost: a\r\n\r\n"), "GET / HTTP/1.1|Host: b");
        assert_eq!(line("GET http://b?y HTTP/1.1\r\nHost: a\r\n\r\n"), "GET /?y HTTP/1.1|Host: b");
        assert_eq!(line("OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n"), "OPTIONS * HTTP/1.1|Host: b");
        assert_eq!(line("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), "OPTIONS * HTTP/1.1|Host: a");
        assert_eq!(line("GET / HTTP/1.0\r\n\r\n"), "GET / HTTP/1.1|Host: 10.0.0.1:80");
    }

    #[test]
    fn framing_is_written_anew() {
        let with = |fields: &str| {
            forward(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"), &client(false), &policy(), false)
        };
        assert!(with("Content-Length: 005\r\nContent-Length: 5\r\n").contains("Content-Length: 5\r\n"));
        assert_eq!(with("Content-Length: 5\r\nContent-Length: 5\r\n").matches("Content-Length").count(), 1);
        assert!(with("Transfer-Encoding: CHUNKED\r\n").contains("Transfer-Encoding: chunked\r\n"));
        assert!(with("Content-Length: 0\r\n").contains("Content-Length: 0\r\n"));
        assert!(!with("").contains("Content-Length"));
        assert!(with("Content-Length: 5\r\nExpect: 100-CONTINUE\r\n").contains("Expect: 100-continue\r\n"));
    }

    #[test]
    fn upgrades_ids_and_via() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nVia: 1.0 x\r\nX-Id: 7\r\n\r\n";
        let policy = Policy { request_id_field: Some("X-Id".into()), ..policy() };
        let sent = forward(head, &client(false), &policy, true);
        assert!(sent.contains("Connection: Upgrade\r\nUpgrade: websocket\r\n"), "{sent}");
        assert!(
            sent.contains("Via: 1.0 x, 1.1 millrace\r\n") && sent.contains("X-Id: 00000000000000ff\r\n"),
            "{sent}"
        );
        assert!(forward(head, &client(true), &policy, false).contains("X-Id: 7\r\n"));
        let silent = Policy { via: String::new(), ..policy };
        assert!(forward(head, &client(false), &silent, false).contains("Via: 1.0 x\r\n"));
    }
}
