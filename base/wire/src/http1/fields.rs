//! Field lines: their names, the lists in their values, and the two fields that decide a message's length.
//!
//! What always holds: a name is compared without regard to case; `Framed::read` refuses whatever leaves two readings of
//! the length open; values are given as they were sent, without the spaces around them.

use super::{Error, FIELDS_MAX, Version};
use std::mem::MaybeUninit;

/// One field line: `name` a token, `value` without surrounding spaces.
pub use httparse::Header as Field;

/// Room for the field lines of one head. It borrows from the head's bytes and costs nothing to make.
#[derive(Debug)]
pub struct FieldStorage<'a>(pub(super) [MaybeUninit<Field<'a>>; FIELDS_MAX]);

impl FieldStorage<'_> {
    /// Empty room for [`FIELDS_MAX`] fields.
    pub fn new() -> Self {
        FieldStorage([const { MaybeUninit::uninit() }; FIELDS_MAX])
    }
}

impl Default for FieldStorage<'_> {
    fn default() -> Self {
        FieldStorage::new()
    }
}

/// The fields that a parser or an intermediary treats in a way of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is named as its field")]
pub enum FieldName {
    Connection,
    ContentLength,
    Date,
    Expect,
    Forwarded,
    Host,
    Http2Settings,
    KeepAlive,
    Proxy,
    ProxyConnection,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    Via,
    XForwardedFor,
    XForwardedHost,
    XForwardedProto,
    /// Any other name.
    Other,
}

impl FieldName {
    /// Which of them `name` is.
    pub fn of(name: &str) -> FieldName {
        // Length and first letter rule out nearly every other name.
        let first = name.as_bytes().first().map_or(0, |byte| byte | 0x20);
        let (known, id) = match (name.len(), first) {
            (2, b't') => ("te", FieldName::Te),
            (3, b'v') => ("via", FieldName::Via),
            (4, b'd') => ("date", FieldName::Date),
            (4, b'h') => ("host", FieldName::Host),
            (5, b'p') => ("proxy", FieldName::Proxy),
            (6, b'e') => ("expect", FieldName::Expect),
            (7, b't') => ("trailer", FieldName::Trailer),
            (7, b'u') => ("upgrade", FieldName::Upgrade),
            (9, b'f') => ("forwarded", FieldName::Forwarded),
            (10, b'c') => ("connection", FieldName::Connection),
            (10, b'k') => ("keep-alive", FieldName::KeepAlive),
            (14, b'c') => ("content-length", FieldName::ContentLength),
            (14, b'h') => ("http2-settings", FieldName::Http2Settings),
            (15, b'x') => ("x-forwarded-for", FieldName::XForwardedFor),
            (16, b'p') => ("proxy-connection", FieldName::ProxyConnection),
            (16, b'x') => ("x-forwarded-host", FieldName::XForwardedHost),
            (17, b't') => ("transfer-encoding", FieldName::TransferEncoding),
            (17, b'x') => ("x-forwarded-proto", FieldName::XForwardedProto),
            _ => return FieldName::Other,
        };
        if name.eq_ignore_ascii_case(known) { id } else { FieldName::Other }
    }
}

/// The members of a comma-separated list (RFC 9110 section 5.6.1), without surrounding spaces, empty ones left out.
pub fn list_members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// What the Connection fields of a message ask for (RFC 9110 section 7.6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// `close`.
    pub close: bool,
    /// `keep-alive`.
    pub keep_alive: bool,
    /// `upgrade`.
    pub upgrade: bool,
    /// Anything else: names of fields that are for this connection only.
    pub names_fields: bool,
}

impl ConnectionOptions {
    fn add(&mut self, value: &[u8]) {
        for option in list_members(value) {
            if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                self.names_fields = true;
            }
        }
    }

    /// Whether the sender of these options keeps the connection open after the message.
    pub fn persists(self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }

    /// Whether `name` is one of the fields that the Connection fields among `fields` name.
    pub fn names(self, fields: &[Field<'_>], name: &str) -> bool {
        self.names_fields
            && fields
                .iter()
                .filter(|field| FieldName::of(field.name) == FieldName::Connection)
                .flat_map(|field| list_members(field.value))
                .any(|option| option.eq_ignore_ascii_case(name.as_bytes()))
    }
}

/// What the field lines of a head say about its own length and connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Framed<'a> {
    /// Content-Length.
    pub(super) length: Option<u64>,
    /// Transfer-Encoding is exactly `chunked`.
    pub(super) chunked: bool,
    pub(super) connection: ConnectionOptions,
    pub(super) host: Option<&'a [u8]>,
    /// `Expect` with `100-continue`.
    pub(super) expects_continue: bool,
    /// `Expect` with anything else.
    pub(super) expects_other: bool,
    /// The one Upgrade field's value, if there is exactly one.
    pub(super) upgrade: Option<&'a [u8]>,
}

impl<'a> Framed<'a> {
    /// Reads all `fields` of the head `bytes` that they borrow from.
    pub(super) fn read(bytes: &'a [u8], fields: &[Field<'a>], version: Version) -> Result<Framed<'a>, Error> {
        let mut framed = Framed::default();
        let mut coding: Option<&[u8]> = None;
        let mut upgrades = 0;
        for field in fields {
            match FieldName::of(field.name) {
                FieldName::ContentLength => {
                    let length = content_length(raw_value(bytes, field))?;
                    if framed.length.is_some_and(|other| other != length) {
                        return Err(Error::LengthsDiffer);
                    }
                    framed.length = Some(length);
                }
                // Two fields are one list; a list that ends in `chunked` twice is refused as such a list is.
                FieldName::TransferEncoding if coding.is_some() => return Err(Error::Coding),
                FieldName::TransferEncoding => coding = Some(field.value),
                FieldName::Connection => framed.connection.add(field.value),
                FieldName::Host if framed.host.is_some() => return Err(Error::HostRepeated),
                FieldName::Host => framed.host = Some(field.value),
                FieldName::Expect if field.value.eq_ignore_ascii_case(b"100-continue") => {
                    framed.expects_continue = true;
                }
                FieldName::Expect => framed.expects_other = true,
                FieldName::Upgrade => {
                    upgrades += 1;
                    framed.upgrade = (upgrades == 1).then_some(field.value);
                }
                _ => {}
            }
        }
        if let Some(coding) = coding {
            if version == Version::Http10 {
                return Err(Error::CodingInHttp10);
            }
            if framed.length.is_some() {
                return Err(Error::LengthAndCoding);
            }
            transfer_encoding(coding)?;
            framed.chunked = true;
        }
        Ok(framed)
    }
}

/// What stands between the colon and the line end, spaces included.
fn raw_value<'a>(bytes: &'a [u8], field: &Field<'a>) -> &'a [u8] {
    let base = bytes.as_ptr() as usize;
    let begin = field.name.as_ptr() as usize + field.name.len() + 1 - base;
    let end = begin + memchr::memchr(b'\r', &bytes[begin..]).unwrap_or(bytes.len() - begin);
    &bytes[begin..end]
}

/// Digits, behind at most one space. RFC 9110 section 5.5 would allow more spaces on either side; nobody sends them but to
/// see two parsers disagree.
fn content_length(raw: &[u8]) -> Result<u64, Error> {
    let digits = raw.strip_prefix(b" ").unwrap_or(raw);
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Error::Length);
    }
    // At most 19 digits, so this cannot overflow 64 bits.
    let length = digits.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    if length > i64::MAX as u64 { Err(Error::Length) } else { Ok(length) }
}

/// `chunked` alone. Another coding before it is well formed but not understood here (RFC 9112 section 6.1: 501).
fn transfer_encoding(value: &[u8]) -> Result<(), Error> {
    let mut members = value.split(|&byte| byte == b',').rev().map(<[u8]>::trim_ascii);
    if !members.next().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked")) {
        return Err(Error::Coding);
    }
    let mut others = members.peekable();
    if others.peek().is_none() {
        return Ok(());
    }
    let well_formed = others.all(|member| !member.is_empty() && !member.eq_ignore_ascii_case(b"chunked"));
    Err(if well_formed { Error::CodingUnsupported } else { Error::Coding })
}
