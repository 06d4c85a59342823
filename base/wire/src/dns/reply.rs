//! A response read back: for clients, health checks and tests. It allocates; a server's hot path has no use for it.
//!
//! What always holds: a pointer is followed only to an earlier offset than the name it stands in began at, so that no chain
//! of them loops; memory stays below 32 octets for each of the message's.

use super::code::{flag, rtype};
use super::query::Edns;
use super::{HEADER_BYTES, Name, rdata, u16_at, u32_at};

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The query's identifier.
    pub id: u16,
    /// The header's second word; see [`flag`].
    pub flags: u16,
    /// The response code, with EDNS's upper bits.
    pub rcode: u16,
    /// The question sent back, when there was one.
    pub question: Option<(Name, u16, u16)>,
    /// Answer, authority and additional records, the OPT record taken out.
    pub sections: [Vec<ReplyRecord>; 3],
    /// What the OPT record said.
    pub edns: Option<Edns>,
}

/// A record of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyRecord {
    /// Whose it is.
    pub owner: Name,
    /// Its type.
    pub rtype: u16,
    /// Its class.
    pub class: u16,
    /// How long it may be kept, in seconds.
    pub ttl: u32,
    /// Its data; names in the types of RFC 1035 are decompressed.
    pub rdata: Vec<u8>,
}

impl Reply {
    /// Reads a whole message; none when it is malformed, no response, or has trailing octets.
    pub fn parse(packet: &[u8]) -> Option<Reply> {
        let flags = u16_at(packet, 2)?;
        let questions = u16_at(packet, 4)?;
        if flags & flag::QR == 0 || questions > 1 {
            return None;
        }
        let mut at = HEADER_BYTES;
        let mut question = None;
        if questions == 1 {
            let name = read_name(packet, &mut at)?;
            question = Some((name, u16_at(packet, at)?, u16_at(packet, at + 2)?));
            at += 4;
        }
        let mut reply = Reply {
            id: u16_at(packet, 0)?,
            flags,
            rcode: flags & flag::RCODE,
            question,
            sections: Default::default(),
            edns: None,
        };
        for section in 0..3 {
            for _ in 0..u16_at(packet, 6 + 2 * section)? {
                reply.read_record(packet, &mut at, section)?;
            }
        }
        (at == packet.len()).then_some(reply)
    }

    fn read_record(&mut self, packet: &[u8], at: &mut usize, section: usize) -> Option<()> {
        let owner = read_name(packet, at)?;
        let kind = u16_at(packet, *at)?;
        let class = u16_at(packet, *at + 2)?;
        let ttl = u32_at(packet, *at + 4)?;
        let data_at = *at + 10;
        let end = data_at + usize::from(u16_at(packet, *at + 8)?);
        packet.get(data_at..end)?;
        *at = end;
        if kind == rtype::OPT {
            let [extended, version, flags, _] = ttl.to_be_bytes();
            self.rcode |= u16::from(extended) << 4;
            let edns = Edns { udp_bytes_max: class, version, dnssec_ok: flags & 0x80 != 0 };
            return self.edns.replace(edns).is_none().then_some(());
        }
        let rdata = read_data(packet, kind, data_at, end)?;
        self.sections[section].push(ReplyRecord { owner, rtype: kind, class, ttl, rdata });
        Some(())
    }
}

/// Reads the name at `at` and moves `at` behind it.
fn read_name(packet: &[u8], at: &mut usize) -> Option<Name> {
    let mut wire = Vec::new();
    let mut here = *at;
    let mut earliest = *at;
    let mut followed = false;
    loop {
        match *packet.get(here)? {
            0 => {
                wire.push(0);
                here += 1;
                break;
            }
            length @ 1..=63 => {
                let end = here + 1 + usize::from(length);
                wire.extend_from_slice(packet.get(here..end)?);
                here = end;
            }
            0xc0..=0xff => {
                let target = usize::from(u16_at(packet, here)? & 0x3fff);
                if target >= earliest {
                    return None;
                }
                if !followed {
                    *at = here + 2;
                }
                followed = true;
                earliest = target;
                here = target;
            }
            _ => return None,
        }
        if wire.len() >= super::name::NAME_BYTES_MAX {
            return None;
        }
    }
    if !followed {
        *at = here;
    }
    Name::from_wire(&wire).ok()
}

/// The data in `at..end` with its names decompressed; none when it is not of its type's form.
fn read_data(packet: &[u8], kind: u16, at: usize, end: usize) -> Option<Vec<u8>> {
    let (head, names) = match kind {
        rtype::NS | rtype::CNAME | rtype::PTR => (0, 1),
        rtype::MX => (2, 1),
        rtype::SOA => (0, 2),
        _ => (end - at, 0),
    };
    let mut here = at + head;
    let mut data = packet.get(at..here.min(end))?.to_vec();
    for _ in 0..names {
        data.extend_from_slice(read_name(packet, &mut here)?.as_wire());
    }
    data.extend_from_slice(packet.get(here..end)?);
    rdata::split(kind, &data)?;
    Some(data)
}

#[cfg(test)]
mod tests {
    use super::super::code::class;
    use super::super::sections::{Owner, Section, Sections};
    use super::*;

    #[test]
    fn what_sections_writes_is_read_back() {
        let question = Name::from_absolute_text("example.com").unwrap();
        let ns = Name::from_absolute_text("ns.example.com").unwrap();
        let soa = [ns.as_wire(), question.as_wire(), &[7; 20]].concat();
        let mut sections = Sections::new(&question, false);
        let push = &mut |section, owner, kind, data: &[u8]| {
            sections.push(section, owner, kind, class::IN, 9, data).unwrap();
        };
        push(Section::Answer, Owner::Question, rtype::SOA, &soa);
        push(Section::Authority, Owner::Question, rtype::NS, ns.as_wire());
        push(Section::Additional, Owner::Name(&ns), rtype::AAAA, &[1; 16]);
        let body = sections.finish();

        let mut packet = vec![0, 7, 0x84, 0, 0, 1, 0, 1, 0, 1, 0, 1];
        packet.extend_from_slice(question.as_wire());
        packet.extend_from_slice(&[0, 6, 0, 1]);
        packet.extend_from_slice(&body.bytes);
        let reply = Reply::parse(&packet).unwrap();
        assert_eq!(reply.sections[0][0].rdata, soa);
        assert_eq!(reply.sections[1][0].rdata, ns.as_wire());
        assert_eq!(reply.sections[2][0].owner, ns);
        for end in 0..packet.len() {
            assert_eq!(Reply::parse(&packet[..end]), None);
        }
    }

    #[test]
    fn pointer_loops_end() {
        for pointer in [[0xc0, 12], [0xc0, 14], [0xff, 0xff]] {
            let mut packet = vec![0, 7, 0x84, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            packet.extend_from_slice(&pointer);
            packet.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
            assert_eq!(Reply::parse(&packet), None);
        }
    }
}
