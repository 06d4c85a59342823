//! Queries: read in place without an allocation, and written for clients and tests.
//!
//! What always holds: [`Query::parse`] looks at each octet at most once, follows no pointer (a query has nothing earlier to
//! point at), and accepts only messages whose every octet is accounted for. What it refuses comes with the response code
//! that is due, or with nothing where an answer would feed a loop.

use super::code::{class, flag, opcode, rcode, rtype};
use super::name::uncompressed_len;
use super::{HEADER_BYTES, Name, u16_at};

/// A well-formed standard query with one question.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    packet: &'a [u8],
    question_end: usize,
    /// What is asked for.
    pub qtype: u16,
    /// In which class.
    pub qclass: u16,
    /// What the OPT record said, when there was one.
    pub edns: Option<Edns>,
}

/// What an OPT record says (RFC 6891 §6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// The largest UDP message that the sender takes, in octets, as sent: below 512 means 512 (§6.2.3).
    pub udp_bytes_max: u16,
    /// The version of EDNS; we speak 0.
    pub version: u8,
    /// The DO bit (RFC 3225).
    pub dnssec_ok: bool,
}

/// Why a message is not answered as a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// Too short to answer, or itself a response: answering could loop (RFC 8906 §3.1.1 allows silence for neither query).
    Ignore,
    /// Answer with this response code and nothing else: FORMERR or NOTIMP.
    Answer(u16),
}

impl<'a> Query<'a> {
    /// Reads `packet`. Refused: responses and fragments below a header; other opcodes (NOTIMP); anything but one question
    /// (RFC 9619), records in the answer section, an authority section outside IXFR, a question name with a pointer, a
    /// second OPT or one not at the root (RFC 6891 §6.1.1), options that overrun theirs, and trailing octets (FORMERR).
    pub fn parse(packet: &'a [u8]) -> Result<Query<'a>, Rejected> {
        if packet.len() < HEADER_BYTES || packet[2] & 0x80 != 0 {
            return Err(Rejected::Ignore);
        }
        if (packet[2] >> 3) & 0x0f != opcode::QUERY {
            return Err(Rejected::Answer(rcode::NOTIMP));
        }
        Query::parse_sections(packet).ok_or(Rejected::Answer(rcode::FORMERR))
    }

    fn parse_sections(packet: &'a [u8]) -> Option<Query<'a>> {
        let questions = u16_at(packet, 4)?;
        let answers = u16_at(packet, 6)?;
        let authorities = u16_at(packet, 8)?;
        let additionals = u16_at(packet, 10)?;
        if questions != 1 || answers != 0 {
            return None;
        }
        let name_end = HEADER_BYTES + uncompressed_len(&packet[HEADER_BYTES..])?;
        let qtype = u16_at(packet, name_end)?;
        let qclass = u16_at(packet, name_end + 2)?;
        let question_end = name_end + 4;
        if qtype == rtype::OPT || (authorities != 0 && qtype != rtype::IXFR) {
            return None;
        }

        let mut at = question_end;
        for _ in 0..authorities {
            at = Record::parse(packet, at)?.end;
        }
        let mut edns = None;
        for _ in 0..additionals {
            let record = Record::parse(packet, at)?;
            if record.rtype == rtype::OPT {
                if edns.is_some() || packet[at] != 0 {
                    return None;
                }
                edns = Some(record.edns()?);
            }
            at = record.end;
        }
        (at == packet.len()).then_some(Query { packet, question_end, qtype, qclass, edns })
    }

    /// The question's name as it was sent, uncompressed.
    pub fn name(&self) -> &'a [u8] {
        &self.packet[HEADER_BYTES..self.question_end - 4]
    }

    /// The question as it was sent: name, type and class.
    pub fn question(&self) -> &'a [u8] {
        &self.packet[HEADER_BYTES..self.question_end]
    }

    /// The identifier, to be copied into the response.
    pub fn id(&self) -> [u8; 2] {
        [self.packet[0], self.packet[1]]
    }

    /// The header bits that a response copies: RD (RFC 1035 §4.1.1); the opcode is 0.
    pub fn copied_flags(&self) -> u16 {
        u16::from(self.packet[2]) << 8 & flag::RD
    }
}

/// Writes the answer to a message that [`Query::parse`] rejected with a code: a header and nothing else.
///
/// Gives false, and writes nothing, when the message is too short to have an identifier and flags.
pub fn write_rejection(packet: &[u8], code: u16, out: &mut Vec<u8>) -> bool {
    let (Some(id), Some(flags)) = (packet.get(..2), u16_at(packet, 2)) else { return false };
    let flags = flag::QR | (flags & (flag::OPCODE | flag::RD)) | (code & flag::RCODE);
    out.extend_from_slice(id);
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&[0; 8]);
    true
}

/// Writes a query for `name`: recursion not desired, class IN, with an OPT record when `edns` is given.
pub fn write_query(id: u16, name: &Name, qtype: u16, edns: Option<Edns>, out: &mut Vec<u8>) {
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())]);
    out.extend_from_slice(name.as_wire());
    out.extend_from_slice(&qtype.to_be_bytes());
    out.extend_from_slice(&class::IN.to_be_bytes());
    if let Some(edns) = edns {
        write_opt(edns, rcode::NOERROR, out);
    }
}

/// Writes an OPT record without options that carries the upper bits of `code` (RFC 6891 §6.1.3).
pub fn write_opt(edns: Edns, code: u16, out: &mut Vec<u8>) {
    let [size_high, size_low] = edns.udp_bytes_max.to_be_bytes();
    let [_, type_low] = rtype::OPT.to_be_bytes();
    let dnssec_ok = if edns.dnssec_ok { 0x80 } else { 0 };
    let extended = (code >> 4) as u8;
    out.extend_from_slice(&[0, 0, type_low, size_high, size_low, extended, edns.version, dnssec_ok, 0, 0, 0]);
}

/// A record's fixed part; its name was only skipped.
struct Record<'a> {
    rtype: u16,
    class: u16,
    ttl: [u8; 4],
    rdata: &'a [u8],
    end: usize,
}

impl<'a> Record<'a> {
    fn parse(packet: &'a [u8], at: usize) -> Option<Record<'a>> {
        let fixed = at + skip_name(packet.get(at..)?)?;
        let ttl = packet.get(fixed + 4..fixed + 8)?;
        let rdata_at = fixed + 10;
        let end = rdata_at + usize::from(u16_at(packet, fixed + 8)?);
        Some(Record {
            rtype: u16_at(packet, fixed)?,
            class: u16_at(packet, fixed + 2)?,
            ttl: [ttl[0], ttl[1], ttl[2], ttl[3]],
            rdata: packet.get(rdata_at..end)?,
            end,
        })
    }

    /// Reads the OPT record; none when its options overrun it. Those of another version are not ours to judge.
    fn edns(&self) -> Option<Edns> {
        let version = self.ttl[1];
        let mut options = self.rdata;
        while version == 0 && !options.is_empty() {
            options = options.get(4 + usize::from(u16_at(options, 2)?)..)?;
        }
        Some(Edns { udp_bytes_max: self.class, version, dnssec_ok: self.ttl[2] & 0x80 != 0 })
    }
}

/// How many octets the name at the start of `bytes` takes, a pointer ending it; where it points is not looked at.
fn skip_name(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            0xc0..=0xff => return bytes.get(at + 1).map(|_| at + 2),
            _ => return None,
        }
        if at >= super::name::NAME_BYTES_MAX {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMERR: Rejected = Rejected::Answer(rcode::FORMERR);
    const EDNS: Edns = Edns { udp_bytes_max: 1232, version: 0, dnssec_ok: true };

    fn query(edns: Option<Edns>) -> Vec<u8> {
        let mut out = Vec::new();
        write_query(
            0x1234,
            &Name::from_absolute_text("wWw.example.com").unwrap(),
            rtype::AAAA,
            edns,
            &mut out,
        );
        out
    }

    #[test]
    fn what_is_written_is_read() {
        for edns in [None, Some(EDNS)] {
            let packet = query(edns);
            let read = Query::parse(&packet).unwrap();
            assert_eq!(read.id(), [0x12, 0x34]);
            assert_eq!(read.name(), b"\x03wWw\x07example\x03com\x00");
            assert_eq!((read.qtype, read.qclass, read.edns), (rtype::AAAA, class::IN, edns));
        }
    }

    #[test]
    fn every_prefix_and_every_suffix_is_refused() {
        let packet = query(Some(EDNS));
        for end in 0..packet.len() {
            let expected = if end < HEADER_BYTES { Rejected::Ignore } else { FORMERR };
            assert_eq!(Query::parse(&packet[..end]).unwrap_err(), expected, "{end} octets");
        }
        let mut longer = packet;
        longer.push(0);
        assert_eq!(Query::parse(&longer).unwrap_err(), FORMERR);
    }

    #[test]
    fn responses_are_ignored_lest_two_servers_answer_each_other() {
        let mut packet = query(None);
        packet[2] |= 0x80;
        assert_eq!(Query::parse(&packet).unwrap_err(), Rejected::Ignore);
    }

    #[test]
    fn rfc8906_3_1_3_other_opcodes_are_notimp() {
        for opcode in 1..16u8 {
            let mut packet = query(None);
            packet[2] = opcode << 3 | 1;
            assert_eq!(Query::parse(&packet).unwrap_err(), Rejected::Answer(rcode::NOTIMP));
            let mut out = Vec::new();
            assert!(write_rejection(&packet, rcode::NOTIMP, &mut out));
            assert_eq!(out, [0x12, 0x34, 0x80 | opcode << 3 | 1, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
    }

    #[test]
    fn rfc9619_only_one_question() {
        for count in [0, 2, 255] {
            let mut packet = query(None);
            packet[5] = count;
            assert_eq!(Query::parse(&packet).unwrap_err(), FORMERR);
        }
    }

    #[test]
    fn sections_that_a_query_has_no_use_for_are_formerr() {
        for (section, count) in [(7, 1), (9, 1), (11, 2)] {
            let mut packet = query(Some(EDNS));
            packet[section] = count;
            assert_eq!(Query::parse(&packet).unwrap_err(), FORMERR);
        }
    }

    #[test]
    fn compression_pointers_in_the_question_are_formerr() {
        for pointer in [[0xc0, 12], [0xc0, 0], [0xff, 0xff]] {
            let mut packet = query(None);
            packet.splice(12.., pointer.into_iter().chain([0, 1, 0, 1]));
            assert_eq!(Query::parse(&packet).unwrap_err(), FORMERR);
        }
    }

    #[test]
    fn rfc6891_6_1_1_two_opts_or_an_owner_are_formerr() {
        let mut packet = query(Some(EDNS));
        packet[11] = 2;
        write_opt(EDNS, 0, &mut packet);
        assert_eq!(Query::parse(&packet).unwrap_err(), FORMERR);

        let mut packet = query(Some(EDNS));
        let opt = packet.len() - crate::dns::OPT_BYTES;
        packet.splice(opt..=opt, *b"\x01a\x00");
        assert_eq!(Query::parse(&packet).unwrap_err(), FORMERR);
    }

    #[test]
    fn rfc6891_6_1_2_options_must_fit_and_are_otherwise_ignored() {
        let with_options = |options: &[u8]| {
            let mut packet = query(Some(EDNS));
            let length = packet.len() - 1;
            packet[length] = options.len() as u8;
            packet.extend_from_slice(options);
            packet
        };
        assert!(Query::parse(&with_options(&[0, 10, 0, 2, 1, 2, 0xff, 0xff, 0, 0])).is_ok());
        assert_eq!(Query::parse(&with_options(&[0, 10, 0, 3, 1, 2])).unwrap_err(), FORMERR);
        assert_eq!(Query::parse(&with_options(&[0, 10, 0])).unwrap_err(), FORMERR);
        // Another version's options may look otherwise; BADVERS comes before their form.
        let mut future = with_options(&[0, 10, 0]);
        let version = future.len() - 3 - 5;
        future[version] = 1;
        assert_eq!(Query::parse(&future).unwrap().edns.unwrap().version, 1);
    }

    #[test]
    fn ixfr_may_bring_its_soa() {
        let mut packet = query(None);
        let at = packet.len() - 3;
        packet[at] = rtype::IXFR as u8;
        packet[9] = 1;
        packet.extend_from_slice(&[0xc0, 12, 0, 6, 0, 1, 0, 0, 0, 0, 0, 2, 0, 0]);
        assert_eq!(Query::parse(&packet).unwrap().qtype, rtype::IXFR);
    }
}
