//! Zone files (RFC 1035 §5, RFC 2308 §4 for `$TTL`, RFC 3597 §5 for types without a name) to records.
//!
//! Entries, directives, names and the data of the everyday types are read here; the data of the others by hickory-proto.
//! Its zone parser is not used as a whole, because it splits quoted strings inside parentheses, reads `\DDD` as something
//! other than decimal and reports no line.
//!
//! What always holds: every error names its line; `$INCLUDE` is refused, so that a zone is what its file says and no path is
//! ever opened; memory is a small multiple of the text. Left out: `$GENERATE`, classes other than IN.

use super::Name;
use super::code::rtype;

mod data;
mod tokens;

use tokens::{Entry, Token, Tokens};

/// A record of a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose it is.
    pub owner: Name,
    /// How long it may be kept, in seconds: at most 2^31 - 1 (RFC 2181 §8).
    pub ttl: u32,
    /// Its type.
    pub rtype: u16,
    /// Its data, uncompressed, of the form that [`super::rdata::split`] knows.
    pub rdata: Vec<u8>,
    /// The line it begins at, from 1.
    pub line: usize,
}

/// What is wrong, and in which line, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ZoneFileError {
    /// The line where the entry begins.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

/// Reads the records of a zone file one after the other. After an error there are no more.
#[derive(Debug)]
pub struct Reader<'a> {
    tokens: Tokens<'a>,
    origin: Name,
    owner: Option<Name>,
    default_ttl: Option<u32>,
    last_ttl: Option<u32>,
    failed: bool,
}

impl<'a> Reader<'a> {
    /// Reads `text`; names are relative to `origin` until an `$ORIGIN` says otherwise.
    pub fn new(text: &'a str, origin: &Name) -> Reader<'a> {
        Reader {
            tokens: Tokens::new(text),
            origin: origin.clone(),
            owner: None,
            default_ttl: None,
            last_ttl: None,
            failed: false,
        }
    }

    fn read(&mut self) -> Result<Option<Record>, ZoneFileError> {
        while let Some(entry) = self.tokens.next_entry()? {
            let line = entry.line;
            if let Some(record) =
                self.read_entry(&entry).map_err(|problem| ZoneFileError { line, problem })?
            {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Gives the entry's record; none for a directive.
    fn read_entry(&mut self, entry: &Entry<'_>) -> Result<Option<Record>, String> {
        let mut tokens = entry.tokens.as_slice();
        if !entry.starts_blank {
            let first = &tokens[0];
            if !first.quoted && first.text.starts_with('$') {
                return self.read_directive(first.text, &tokens[1..]).map(|()| None);
            }
            self.owner = Some(self.name(first)?);
            tokens = &tokens[1..];
        }
        let (ttl, tokens) = take_ttl_and_class(tokens)?;
        let [kind, tokens @ ..] = tokens else {
            return Err("a record without a type".into());
        };
        let rtype = data::record_type(kind.text)?;
        let rdata = data::read(rtype, tokens, &self.origin).map_err(|why| format!("{}: {why}", kind.text))?;
        let owner = self.owner.clone().ok_or("the first record has no name")?;
        let ttl = self.ttl(ttl, rtype, &rdata)?;
        Ok(Some(Record { owner, ttl, rtype, rdata, line: entry.line }))
    }

    fn read_directive(&mut self, directive: &str, arguments: &[Token<'_>]) -> Result<(), String> {
        let one = || match arguments {
            [one] => Ok(one),
            _ => Err(format!("{directive} takes one argument")),
        };
        if directive.eq_ignore_ascii_case("$ORIGIN") {
            self.origin = self.name(one()?)?;
        } else if directive.eq_ignore_ascii_case("$TTL") {
            let text = one()?.text;
            self.default_ttl = Some(parse_ttl(text)?.ok_or_else(|| format!("{text} is no TTL"))?);
        } else if directive.eq_ignore_ascii_case("$INCLUDE") {
            return Err("$INCLUDE is not supported: put the records into this file".into());
        } else {
            return Err(format!("unknown directive {directive}"));
        }
        Ok(())
    }

    /// The record's own TTL; else `$TTL`'s; else the last one given (RFC 1035 §5.1); else, for the SOA, its minimum.
    fn ttl(&mut self, given: Option<u32>, kind: u16, rdata: &[u8]) -> Result<u32, String> {
        let minimum = || super::rdata::soa_minimum(rdata).filter(|_| kind == rtype::SOA);
        let ttl = given
            .or(self.default_ttl)
            .or(self.last_ttl)
            .or_else(minimum)
            .ok_or("no TTL: give the record one, or the file a $TTL")?;
        self.last_ttl = Some(ttl);
        Ok(ttl)
    }

    fn name(&self, token: &Token<'_>) -> Result<Name, String> {
        Name::from_text(token.text, Some(&self.origin)).map_err(|why| format!("`{}`: {why}", token.text))
    }
}

impl Iterator for Reader<'_> {
    type Item = Result<Record, ZoneFileError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let read = self.read();
        self.failed = read.is_err();
        read.transpose()
    }
}

/// Takes `[TTL] [class]` or `[class] [TTL]` from the front.
fn take_ttl_and_class<'t, 'a>(mut tokens: &'t [Token<'a>]) -> Result<(Option<u32>, &'t [Token<'a>]), String> {
    let mut ttl = None;
    let mut class = false;
    while let [first, rest @ ..] = tokens {
        if !class && first.text.eq_ignore_ascii_case("IN") {
            class = true;
        } else if ["CH", "HS", "CS"].iter().any(|other| first.text.eq_ignore_ascii_case(other)) {
            return Err(format!("class {}: only IN is served", first.text));
        } else if ttl.is_none()
            && let Some(value) = parse_ttl(first.text)?
        {
            ttl = Some(value);
        } else {
            break;
        }
        tokens = rest;
    }
    Ok((ttl, tokens))
}

/// Reads seconds, or BIND's `1w2d3h4m5s`; none when `text` is no such thing.
fn parse_ttl(text: &str) -> Result<Option<u32>, String> {
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return Ok(None);
    }
    match hickory_proto::serialize::txt::parse_ttl(text) {
        Ok(ttl) if ttl <= i32::MAX as u32 => Ok(Some(ttl)),
        _ => Err(format!("`{text}` is no TTL of 0 to 2147483647 seconds")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Name {
        Name::from_absolute_text("example.com").unwrap()
    }

    fn read(text: &str) -> Vec<(String, u32, u16, Vec<u8>)> {
        Reader::new(text, &origin())
            .map(|record| record.map(|r| (r.owner.to_string(), r.ttl, r.rtype, r.rdata)).unwrap())
            .collect()
    }

    fn error(text: &str) -> String {
        Reader::new(text, &origin()).find_map(Result::err).expect("an error").to_string()
    }

    #[test]
    fn rfc1035_5_3_a_whole_zone() {
        let zone = r#"
$ORIGIN example.com.
$TTL 1h
@   IN  SOA ns1 Action\.domains (
            20     ; SERIAL
            7200   ; REFRESH
            600    ; RETRY
            3600000; EXPIRE
            60)    ; MINIMUM
        NS  ns1
        MX  10 mail
ns1 300 A   192.0.2.1
    IN 5m AAAA 2001:db8::1
mail    A   192.0.2.2
$ORIGIN sub
www     CNAME @
"#;
        let records = read(zone);
        let short: Vec<_> =
            records.iter().map(|(owner, ttl, kind, _)| (owner.as_str(), *ttl, *kind)).collect();
        assert_eq!(
            short,
            [
                ("example.com.", 3600, rtype::SOA),
                ("example.com.", 3600, rtype::NS),
                ("example.com.", 3600, rtype::MX),
                ("ns1.example.com.", 300, rtype::A),
                ("ns1.example.com.", 300, rtype::AAAA),
                ("mail.example.com.", 3600, rtype::A),
                ("www.sub.example.com.", 3600, rtype::CNAME),
            ]
        );
        assert!(
            records[0]
                .3
                .starts_with(b"\x03ns1\x07example\x03com\x00\x0eAction.domains\x07example\x03com\x00")
        );
        assert_eq!(records[2].3, b"\x00\x0a\x04mail\x07example\x03com\x00");
        assert_eq!(records[6].3, b"\x03sub\x07example\x03com\x00");
    }

    #[test]
    fn quoted_strings_keep_spaces_and_semicolons_also_inside_parentheses() {
        let records = read("@ 60 TXT ( \"v=DKIM1; k=rsa\"\n \"p=a b\" ) ; a comment\n");
        assert_eq!(records[0].3, b"\x0ev=DKIM1; k=rsa\x05p=a b");
        assert_eq!(read(r#"@ 60 TXT "a\"b\\c\255" plain\ space"#)[0].3, b"\x06a\"b\\c\xff\x0bplain space");
    }

    #[test]
    fn rfc1035_5_1_ttl_defaults_to_the_last_one_given_and_rfc2308_4_to_the_directive() {
        let ttls: Vec<_> =
            read("@ 7 A 192.0.2.1\n A 192.0.2.2\n$TTL 1d\n A 192.0.2.3\n").iter().map(|r| r.1).collect();
        assert_eq!(ttls, [7, 7, 86_400]);
        assert_eq!(error("@ A 192.0.2.1"), "line 1: no TTL: give the record one, or the file a $TTL");
        assert_eq!(read("@ SOA a b 1 2 3 4 55")[0].1, 55);
    }

    #[test]
    fn rfc3597_5_unknown_types_and_generic_data() {
        assert_eq!(read(r"@ 60 TYPE65280 \# 4 0A00 0001")[0].2, 65_280);
        assert_eq!(read(r"@ 60 TYPE65280 \# 4 0A00 0001")[0].3, [10, 0, 0, 1]);
        assert_eq!(read(r"@ 60 A \# 4 C0000201")[0].3, [192, 0, 2, 1]);
        assert!(error(r"@ 60 A \# 3 C00002").contains("not of the form"));
        assert!(error(r"@ 60 TYPE65280 \# 5 0A000001").contains("says 5 octets but holds 4"));
    }

    #[test]
    fn errors_name_their_line() {
        assert_eq!(error("\n\n@ 60 A nonsense\n"), "line 3: A: `nonsense` is no IPv4 address");
        assert_eq!(error("@ 60 TXT \"a\nb\""), "line 1: a quoted string that its line does not close");
        assert_eq!(error("@ 60 TXT (\n\n a"), "line 1: a ( that nothing closes");
        assert_eq!(error("@ 60 TXT a)"), "line 1: a ) without its (");
        assert_eq!(
            error("$INCLUDE /etc/passwd"),
            "line 1: $INCLUDE is not supported: put the records into this file"
        );
        assert_eq!(error("$GENERATE 1-2 a A 192.0.2.$"), "line 1: unknown directive $GENERATE");
        assert_eq!(error("@ 60 CH TXT a"), "line 1: class CH: only IN is served");
        assert_eq!(
            error("@ 2147483648 A 192.0.2.1"),
            "line 1: `2147483648` is no TTL of 0 to 2147483647 seconds"
        );
        assert_eq!(
            error("@ 60 FOO a"),
            "line 1: unknown type FOO (any type can be written as TYPEnnn \\# length hex)"
        );
    }
}
