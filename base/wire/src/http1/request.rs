//! Requests: the head's line, target and framing (RFC 9112 sections 3 and 6).

use super::fields::{ConnectionOptions, Field, FieldStorage, Framed};
use super::{Error, Framing, Limits, Version};

/// Where a request goes (RFC 9112 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// `/path?query`.
    Origin(&'a str),
    /// `http://authority/path?query`: the authority replaces Host. `path` may be empty or begin with `?`.
    Absolute {
        /// `host` or `host:port`, never empty, without user information.
        authority: &'a str,
        /// What follows it.
        path: &'a str,
        /// The scheme is `https`.
        secure: bool,
    },
    /// `host:port`, of CONNECT only.
    Authority(&'a str),
    /// `*`, of OPTIONS only.
    Asterisk,
}

/// A request's head.
#[derive(Debug)]
pub struct Request<'s, 'a> {
    /// The method, a token; its case matters.
    pub method: &'a str,
    /// The target.
    pub target: Target<'a>,
    /// The version.
    pub version: Version,
    /// All field lines, in order.
    pub fields: &'s [Field<'a>],
    /// How the body ends.
    pub framing: Framing,
    /// What its Connection fields ask for.
    pub connection: ConnectionOptions,
    /// The host and port it is for: of an absolute target, else of Host; `None` only in HTTP/1.0, empty if Host is.
    pub host: Option<&'a str>,
    /// It waits for 100 (Continue) before it sends its body. Always false in HTTP/1.0 (RFC 9110 section 10.1.1).
    pub expects_continue: bool,
    /// It expects what nobody knows: 417.
    pub expects_other: bool,
    /// The value of its one Upgrade field, if Connection names it too.
    pub upgrade: Option<&'a str>,
}

impl<'s, 'a> Request<'s, 'a> {
    /// Parses `bytes`, one whole head as [`HeadScan::find`](super::HeadScan::find) gave it.
    pub fn parse(
        bytes: &'a [u8],
        storage: &'s mut FieldStorage<'a>,
        limits: &Limits,
    ) -> Result<Request<'s, 'a>, Error> {
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(bytes, &mut storage.0) {
            Ok(httparse::Status::Complete(end)) if end == bytes.len() => {}
            Ok(_) => return Err(Error::FirstLine),
            Err(error) => return Err(fault(error, bytes)),
        }
        let method = parsed.method.ok_or(Error::FirstLine)?;
        let version = version(parsed.version)?;
        let fields: &'s [Field<'a>] = parsed.headers;
        if fields.len() > limits.fields_max {
            return Err(Error::TooManyFields);
        }
        let target = Target::parse(method, parsed.path.ok_or(Error::Target)?)?;
        let framed = Framed::read(bytes, fields, version)?;
        let field_host = match framed.host {
            Some(value) => Some(host(value)?),
            None if version == Version::Http11 => return Err(Error::HostMissing),
            None => None,
        };
        let host = match target {
            Target::Absolute { authority, .. } | Target::Authority(authority) => Some(authority),
            Target::Origin(_) | Target::Asterisk => field_host,
        };
        let framing = match framed.length {
            _ if framed.chunked => Framing::Chunked,
            None | Some(0) => Framing::None,
            Some(length) => Framing::Length(length),
        };
        Ok(Request {
            method,
            target,
            version,
            fields,
            framing,
            connection: framed.connection,
            host,
            expects_continue: framed.expects_continue && version == Version::Http11,
            expects_other: framed.expects_other && version == Version::Http11,
            upgrade: framed
                .upgrade
                .filter(|_| framed.connection.upgrade && version == Version::Http11)
                .and_then(|value| std::str::from_utf8(value).ok()),
        })
    }

    /// Whether the request states a length, be it zero.
    pub fn states_length(&self) -> bool {
        self.framing != Framing::None
            || self
                .fields
                .iter()
                .any(|field| super::FieldName::of(field.name) == super::FieldName::ContentLength)
    }

    /// Whether the client keeps the connection open for another request.
    pub fn persists(&self) -> bool {
        self.connection.persists(self.version)
    }
}

impl<'a> Target<'a> {
    fn parse(method: &str, text: &'a str) -> Result<Target<'a>, Error> {
        // RFC 3986 has no other bytes, and no fragment here; `httparse` would take any byte above 127.
        if text.bytes().any(|byte| !(0x21..=0x7e).contains(&byte) || byte == b'#') {
            return Err(Error::Target);
        }
        if method == "CONNECT" {
            let port = text.rsplit_once(':').map(|(_, port)| port);
            let good = is_authority(text) && port.is_some_and(|port| !port.is_empty());
            return if good { Ok(Target::Authority(text)) } else { Err(Error::Target) };
        }
        if text.starts_with('/') {
            return Ok(Target::Origin(text));
        }
        if text == "*" {
            return if method == "OPTIONS" { Ok(Target::Asterisk) } else { Err(Error::Target) };
        }
        let (scheme, rest) = text.split_once("://").ok_or(Error::Target)?;
        let secure = scheme.eq_ignore_ascii_case("https");
        if !secure && !scheme.eq_ignore_ascii_case("http") {
            return Err(Error::Target);
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if is_authority(authority) {
            Ok(Target::Absolute { authority, path, secure })
        } else {
            Err(Error::Target)
        }
    }
}

/// A Host field's value: empty, or host and port (RFC 9110 section 7.2).
fn host(value: &[u8]) -> Result<&str, Error> {
    let text = std::str::from_utf8(value).map_err(|_| Error::Host)?;
    if text.is_empty() || is_authority(text) { Ok(text) } else { Err(Error::Host) }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`, without user information (RFC 3986 section 3.2; RFC 9110 section 4.2.4).
fn is_authority(text: &str) -> bool {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, rest)) = rest.split_once(']') else { return false };
        if address.is_empty()
            || !address.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":.%-_~".contains(&byte))
        {
            return false;
        }
        match rest.strip_prefix(':') {
            Some(port) => ("v6", port),
            None if rest.is_empty() => ("v6", ""),
            None => return false,
        }
    } else {
        text.split_once(':').unwrap_or((text, ""))
    };
    !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(&byte))
        && port.len() <= 5
        && port.bytes().all(|byte| byte.is_ascii_digit())
}

pub(super) fn version(minor: Option<u8>) -> Result<Version, Error> {
    match minor {
        Some(0) => Ok(Version::Http10),
        Some(1) => Ok(Version::Http11),
        _ => Err(Error::Version),
    }
}

/// Our name for what `httparse` refused.
pub(super) fn fault(error: httparse::Error, bytes: &[u8]) -> Error {
    match error {
        httparse::Error::HeaderName => Error::FieldName,
        httparse::Error::HeaderValue => Error::FieldValue,
        httparse::Error::TooManyHeaders => Error::TooManyFields,
        httparse::Error::Status => Error::Status,
        httparse::Error::Version if states_version(bytes) => Error::Version,
        httparse::Error::Version | httparse::Error::Token | httparse::Error::NewLine => Error::FirstLine,
    }
}

/// Whether the first line states a version of the right shape, though not one of ours.
fn states_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let word = match words[..] {
        [version, _, ..] if version.starts_with(b"HTTP/") => version,
        [_, _, version] => version,
        _ => return false,
    };
    matches!(word, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit())
}
