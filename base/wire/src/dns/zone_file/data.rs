//! Record data from its tokens.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use hickory_proto::rr::{RData, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};

use super::tokens::Token;
use crate::dns::code::rtype;
use crate::dns::name::unescape;
use crate::dns::{Name, rdata};

/// The type that `text` names, by mnemonic or as TYPEnnn (RFC 3597 §5). Types that are no data are refused.
pub(super) fn record_type(text: &str) -> Result<u16, String> {
    let upper = text.to_ascii_uppercase();
    let number = match upper.strip_prefix("TYPE").map(u16::from_str) {
        Some(Ok(number)) => number,
        _ if upper == "SPF" => rtype::SPF,
        // hickory's own invention, with a number out of the private range.
        _ if upper == "ANAME" => return Err("ANAME is no standard type".into()),
        _ => RecordType::from_str(&upper).map(u16::from).map_err(|_| {
            format!("unknown type {text} (any type can be written as TYPEnnn \\# length hex)")
        })?,
    };
    match number {
        0 | rtype::OPT | rtype::META_FIRST..=rtype::META_LAST => {
            Err(format!("type {text} is no data of a zone"))
        }
        _ => Ok(number),
    }
}

/// The data of a record of type `kind`, uncompressed.
pub(super) fn read(kind: u16, tokens: &[Token<'_>], origin: &Name) -> Result<Vec<u8>, String> {
    let mut fields = Fields { tokens, origin, out: Vec::new() };
    if tokens.first().is_some_and(|first| first.text == "\\#" && !first.quoted) {
        fields.generic()?;
    } else {
        match kind {
            rtype::A => fields.ipv4()?,
            rtype::AAAA => fields.ipv6()?,
            rtype::NS | rtype::CNAME | rtype::PTR => fields.name()?,
            rtype::MX => {
                fields.u16("preference")?;
                fields.name()?;
            }
            rtype::SOA => fields.soa()?,
            rtype::TXT | rtype::SPF => fields.strings()?,
            rtype::HINFO => {
                fields.string()?;
                fields.string()?;
            }
            rtype::SRV => {
                for field in ["priority", "weight", "port"] {
                    fields.u16(field)?;
                }
                fields.name()?;
            }
            rtype::NAPTR => fields.naptr()?,
            rtype::CAA => fields.caa()?,
            _ => fields.by_hickory(kind)?,
        }
    }
    fields.end()?;
    let data = fields.out;
    if data.len() > usize::from(u16::MAX) {
        return Err("data of more than 65,535 octets".into());
    }
    rdata::split(kind, &data).ok_or("data that is not of the form of its type")?;
    Ok(data)
}

/// The tokens not read yet, and the octets so far.
struct Fields<'t, 'a> {
    tokens: &'t [Token<'a>],
    origin: &'t Name,
    out: Vec<u8>,
}

impl<'a> Fields<'_, 'a> {
    fn take(&mut self, what: &str) -> Result<Token<'a>, String> {
        let [first, rest @ ..] = self.tokens else {
            return Err(format!("its {what} is missing"));
        };
        self.tokens = rest;
        Ok(*first)
    }

    fn end(&self) -> Result<(), String> {
        match self.tokens {
            [] => Ok(()),
            [first, ..] => Err(format!("`{}` is one field too many", first.text)),
        }
    }

    fn number<T: FromStr>(&mut self, what: &str) -> Result<T, String> {
        let text = self.take(what)?.text;
        text.parse().map_err(|_| format!("`{text}` is no {what}"))
    }

    fn u16(&mut self, what: &str) -> Result<(), String> {
        let value: u16 = self.number(what)?;
        self.out.extend_from_slice(&value.to_be_bytes());
        Ok(())
    }

    fn ipv4(&mut self) -> Result<(), String> {
        let address: Ipv4Addr = self.number("IPv4 address")?;
        self.out.extend_from_slice(&address.octets());
        Ok(())
    }

    fn ipv6(&mut self) -> Result<(), String> {
        let address: Ipv6Addr = self.number("IPv6 address")?;
        self.out.extend_from_slice(&address.octets());
        Ok(())
    }

    fn name(&mut self) -> Result<(), String> {
        let text = self.take("name")?.text;
        let name = Name::from_text(text, Some(self.origin)).map_err(|why| format!("`{text}`: {why}"))?;
        self.out.extend_from_slice(name.as_wire());
        Ok(())
    }

    fn soa(&mut self) -> Result<(), String> {
        self.name()?;
        self.name()?;
        let serial: u32 = self.number("serial")?;
        self.out.extend_from_slice(&serial.to_be_bytes());
        for field in ["refresh", "retry", "expire", "minimum"] {
            let text = self.take(field)?.text;
            let seconds =
                super::parse_ttl(text)?.ok_or_else(|| format!("`{text}` is no {field} in seconds"))?;
            self.out.extend_from_slice(&seconds.to_be_bytes());
        }
        Ok(())
    }

    /// One character string: at most 255 octets behind their length (RFC 1035 §3.3).
    fn string(&mut self) -> Result<(), String> {
        let token = self.take("string")?;
        let octets = string_octets(token.text)?;
        let length =
            u8::try_from(octets.len()).map_err(|_| "a string of more than 255 octets (cut it in several)")?;
        self.out.push(length);
        self.out.extend_from_slice(&octets);
        Ok(())
    }

    fn strings(&mut self) -> Result<(), String> {
        self.string()?;
        while !self.tokens.is_empty() {
            self.string()?;
        }
        Ok(())
    }

    /// RFC 3403 §4.1.
    fn naptr(&mut self) -> Result<(), String> {
        self.u16("order")?;
        self.u16("preference")?;
        for _ in ["flags", "services", "regexp"] {
            self.string()?;
        }
        self.name()
    }

    /// RFC 8659 §4.1.1: flags, tag, and a value that is all of the rest.
    fn caa(&mut self) -> Result<(), String> {
        let flags: u8 = self.number("flags")?;
        let tag = self.take("tag")?.text;
        if tag.is_empty() || tag.len() > 255 || !tag.bytes().all(|octet| octet.is_ascii_alphanumeric()) {
            return Err(format!("`{tag}` is no tag of letters and digits"));
        }
        let value = string_octets(self.take("value")?.text)?;
        self.out.extend_from_slice(&[flags, tag.len() as u8]);
        self.out.extend_from_slice(tag.as_bytes());
        self.out.extend_from_slice(&value);
        Ok(())
    }

    /// `\# length hex…` (RFC 3597 §5).
    fn generic(&mut self) -> Result<(), String> {
        self.take("\\#")?;
        let length: u16 = self.number("length")?;
        let mut digits = String::new();
        while !self.tokens.is_empty() {
            digits.push_str(self.take("hex")?.text);
        }
        if !digits.len().is_multiple_of(2) {
            return Err("an odd number of hexadecimal digits".into());
        }
        for pair in digits.as_bytes().chunks(2) {
            let nibble =
                |digit: u8| char::from(digit).to_digit(16).ok_or("something other than hexadecimal digits");
            self.out.push((nibble(pair[0])? << 4 | nibble(pair[1])?) as u8);
        }
        if self.out.len() != usize::from(length) {
            return Err(format!("says {length} octets but holds {}", self.out.len()));
        }
        Ok(())
    }

    /// The rarer types. Names are made absolute first, for hickory reads them without an origin.
    fn by_hickory(&mut self, kind: u16) -> Result<(), String> {
        let name_at = matches!(kind, rtype::SVCB | rtype::HTTPS).then_some(1);
        let mut text = String::new();
        for (i, token) in self.tokens.iter().enumerate() {
            if Some(i) == name_at {
                let name = Name::from_text(token.text, Some(self.origin));
                let name = name.map_err(|why| format!("`{}`: {why}", token.text))?;
                let _ = write!(text, "{name} ");
            } else if token.quoted {
                let _ = write!(text, "\"{}\" ", token.text);
            } else {
                let _ = write!(text, "{} ", token.text);
            }
        }
        self.tokens = &[];
        let data =
            RData::try_from_str(RecordType::from(kind), text.trim_end()).map_err(|why| why.to_string())?;
        if u16::from(data.record_type()) != kind {
            return Err("hickory-proto took it for another type".into());
        }
        let mut encoder = BinEncoder::new(&mut self.out);
        encoder.set_name_encoding(NameEncoding::Uncompressed);
        data.emit(&mut encoder).map_err(|why| why.to_string())
    }
}

/// The octets that a character string stands for, its escapes undone.
fn string_octets(text: &str) -> Result<Vec<u8>, String> {
    let text = text.as_bytes();
    let mut octets = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        if text[at] == b'\\' {
            let (octet, used) =
                unescape(&text[at..]).ok_or("a backslash escape that is neither \\X nor \\DDD")?;
            octets.push(octet);
            at += used;
        } else {
            octets.push(text[at]);
            at += 1;
        }
    }
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::super::Reader;
    use super::*;

    fn data(record: &str) -> Result<Vec<u8>, String> {
        let origin = Name::from_absolute_text("example.com").unwrap();
        let text = format!("@ 60 {record}\n");
        let mut reader = Reader::new(&text, &origin);
        reader.next().expect("a record").map(|record| record.rdata).map_err(|why| why.to_string())
    }

    #[test]
    fn everyday_types() {
        assert_eq!(data("SRV 1 2 80 www").unwrap(), b"\x00\x01\x00\x02\x00\x50\x03www\x07example\x03com\x00");
        assert_eq!(data("CAA 128 issue \"ca.example; p=1\"").unwrap(), b"\x80\x05issueca.example; p=1");
        assert_eq!(data("HINFO PC \"Linux 6\"").unwrap(), b"\x02PC\x07Linux 6");
        assert_eq!(
            data("NAPTR 100 10 \"u\" \"E2U+sip\" \"!^.*$!sip:a@b!\" .").unwrap(),
            b"\x00\x64\x00\x0a\x01u\x07E2U+sip\x0e!^.*$!sip:a@b!\x00"
        );
        assert!(data("TXT").unwrap_err().contains("its string is missing"));
        assert!(data(&format!("TXT {}", "a".repeat(256))).unwrap_err().contains("more than 255 octets"));
        assert!(data("A 192.0.2.1 192.0.2.2").unwrap_err().contains("one field too many"));
        assert!(data("MX 65536 mail").unwrap_err().contains("`65536` is no preference"));
    }

    #[test]
    fn rarer_types_by_hickory() {
        assert_eq!(
            data("HTTPS 1 svc alpn=\"h2,h3\" port=8443").unwrap(),
            b"\x00\x01\x03svc\x07example\x03com\x00\x00\x01\x00\x06\x02h2\x02h3\x00\x03\x00\x02\x20\xfb"
        );
        assert_eq!(data("HTTPS 0 .").unwrap(), b"\x00\x00\x00");
        assert_eq!(data("TLSA 3 1 1 00ff").unwrap(), b"\x03\x01\x01\x00\xff");
        assert_eq!(data("SSHFP 4 2 00ff").unwrap(), b"\x04\x02\x00\xff");
        assert!(data("DNSKEY 256 3 8 AAAA").is_err());
        assert!(data("TYPE41 a").unwrap_err().contains("no data of a zone"));
        assert!(data("ANY a").unwrap_err().contains("no data of a zone"));
    }
}
