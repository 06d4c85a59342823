//! Answers: the status line and framing (RFC 9112 sections 4 and 6). Read as strictly as requests.

use super::fields::{ConnectionOptions, Field, FieldStorage, Framed};
use super::request::{fault, version};
use super::{Error, Framing, Limits, Version};

/// An answer's head.
#[derive(Debug)]
pub struct Response<'s, 'a> {
    /// 100 to 599.
    pub status: u16,
    /// The reason phrase, often empty.
    pub reason: &'a str,
    /// The version.
    pub version: Version,
    /// All field lines, in order.
    pub fields: &'s [Field<'a>],
    /// How the body ends; [`Framing::None`] for 1xx, 204, 304 and answers to HEAD.
    pub framing: Framing,
    /// Content-Length as stated; without a body it tells what a GET would get (RFC 9110 section 8.6).
    pub length: Option<u64>,
    /// What its Connection fields say.
    pub connection: ConnectionOptions,
    /// The value of its one Upgrade field, if Connection names it too.
    pub upgrade: Option<&'a str>,
}

impl<'s, 'a> Response<'s, 'a> {
    /// Parses `bytes`, one whole head as [`HeadScan::find`](super::HeadScan::find) gave it, of an answer to a request whose
    /// method was HEAD or not.
    pub fn parse(
        bytes: &'a [u8],
        storage: &'s mut FieldStorage<'a>,
        to_head: bool,
        limits: &Limits,
    ) -> Result<Response<'s, 'a>, Error> {
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut storage.0) {
            Ok(httparse::Status::Complete(end)) if end == bytes.len() => {}
            Ok(_) => return Err(Error::FirstLine),
            Err(error) => return Err(fault(error, bytes)),
        }
        let status = parsed.code.filter(|code| (100..600).contains(code)).ok_or(Error::Status)?;
        let version = version(parsed.version)?;
        let fields: &'s [Field<'a>] = parsed.headers;
        if fields.len() > limits.fields_max {
            return Err(Error::TooManyFields);
        }
        let framed = Framed::read(bytes, fields, version)?;
        let bodiless = status < 200 || status == 204;
        if bodiless && framed.chunked {
            // RFC 9112 section 6.1: it must not be there; who sends it may send a body too.
            return Err(Error::Coding);
        }
        if bodiless && framed.length.is_some_and(|length| length > 0) {
            return Err(Error::Length);
        }
        let framing = match framed.length {
            _ if bodiless || status == 304 || to_head => Framing::None,
            _ if framed.chunked => Framing::Chunked,
            Some(0) => Framing::None,
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        };
        Ok(Response {
            status,
            reason: parsed.reason.unwrap_or_default(),
            version,
            fields,
            framing,
            length: framed.length,
            connection: framed.connection,
            upgrade: framed
                .upgrade
                .filter(|_| framed.connection.upgrade)
                .and_then(|value| std::str::from_utf8(value).ok()),
        })
    }

    /// Whether the connection can carry another answer after this one.
    pub fn persists(&self) -> bool {
        self.framing != Framing::UntilClose && self.connection.persists(self.version)
    }
}
