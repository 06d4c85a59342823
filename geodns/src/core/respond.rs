//! From query to response.
//!
//! What always holds: no allocation beyond the response buffer's own growth; whatever the octets, the response is a valid
//! message of at most the size that the asker takes, or none. Left out: recursion, transfers, updates, DNSSEC.

use std::sync::Arc;

use wire::dns::code::{class, rcode, rtype};
use wire::dns::name::NAME_BYTES_MAX;
use wire::dns::query::write_rejection;
use wire::dns::sections::{Owner, Section, Sections};
use wire::dns::{Edns, MESSAGE_BYTES_MAX, Name, Query, Rejected, UDP_BYTES_CLASSIC};

use super::prepared::Prepared;
use super::{Catalogue, Pool};

/// Over what a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One datagram, whose answer is bounded by what the asker and we take.
    Udp,
    /// A stream, whose answers have up to 65,535 octets.
    Tcp,
}

/// What became of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The response's code; none when there is no response.
    pub rcode: Option<u16>,
    /// Whether it says TC.
    pub truncated: bool,
}

/// What a server tells of itself in class CHAOS (RFC 4892); what is not set is refused.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// The text of version.bind and version.server, at most 255 octets.
    pub version: Option<String>,
    /// The text of id.server and hostname.bind, at most 255 octets.
    pub id: Option<String>,
}

/// Answers queries.
#[derive(Debug, Clone)]
pub struct Responder {
    catalogue: Arc<Catalogue>,
    pools: Vec<Pool>,
    chaos: Arc<[(Name, Prepared)]>,
    refused: Arc<[Prepared; 3]>,
    udp_bytes_max: u16,
}

impl Responder {
    /// Answers from `catalogue`, which was built with these `pools`; UDP responses have at most `udp_bytes_max` octets (512
    /// at least).
    pub fn new(
        catalogue: Arc<Catalogue>,
        pools: Vec<Pool>,
        identity: &Identity,
        udp_bytes_max: u16,
    ) -> Responder {
        let mut chaos = Vec::new();
        let texts = [
            ("version.bind", &identity.version),
            ("version.server", &identity.version),
            ("id.server", &identity.id),
            ("hostname.bind", &identity.id),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                let name = Name::from_absolute_text(name).expect("a valid name");
                chaos.push((name.clone(), chaos_answer(&name, text)));
            }
        }
        Responder {
            catalogue,
            pools,
            chaos: chaos.into(),
            refused: Arc::new([rcode::REFUSED, rcode::NOTIMP, rcode::BADVERS].map(Prepared::empty)),
            udp_bytes_max: udp_bytes_max.max(UDP_BYTES_CLASSIC as u16),
        }
    }

    /// Appends the response to `packet` to `out`, which begins empty. `random` is evenly distributed over all of u64 and
    /// decides which member of a pool is named.
    pub fn respond(&self, packet: &[u8], transport: Transport, random: u64, out: &mut Vec<u8>) -> Outcome {
        let query = match Query::parse(packet) {
            Ok(query) => query,
            Err(Rejected::Ignore) => return Outcome { rcode: None, truncated: false },
            Err(Rejected::Answer(code)) => {
                let written = write_rejection(packet, code, out);
                return Outcome { rcode: written.then_some(code), truncated: false };
            }
        };
        let mut prepared = self.decide(&query);
        let mut address = &[][..];
        if let Some(pick) = &prepared.pick {
            match self.pools[pick.pool].choose(pick.rtype, random) {
                Some(chosen) => address = chosen,
                None => prepared = self.catalogue.get(pick.otherwise),
            }
        }
        // The DO bit is copied (RFC 3225 §3); the size is what we take ourselves.
        let edns = query.edns.map(|edns| Edns {
            udp_bytes_max: self.udp_bytes_max,
            version: 0,
            dnssec_ok: edns.dnssec_ok,
        });
        let truncated = prepared.write(&query, edns, self.bytes_max(&query, transport), address, out);
        Outcome { rcode: Some(prepared.rcode), truncated }
    }

    fn decide(&self, query: &Query<'_>) -> &Prepared {
        let [refused, not_implemented, bad_version] = &*self.refused;
        if query.edns.is_some_and(|edns| edns.version != 0) {
            return bad_version;
        }
        match query.qclass {
            class::IN => {}
            class::CH => return self.chaos(query).unwrap_or(refused),
            _ => return refused,
        }
        // Transfers, TSIG and TKEY, mail boxes: questions that ask for what we do not do.
        if (rtype::META_FIRST..=rtype::META_LAST).contains(&query.qtype) && query.qtype != rtype::ANY {
            return not_implemented;
        }
        // Lengths of labels are at most 63, below 'A', so that the whole wire form can be put in lower case.
        let mut lower = [0; NAME_BYTES_MAX];
        let name = query.name();
        let lower = &mut lower[..name.len()];
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        self.catalogue.answer(lower, query.qtype).unwrap_or(refused)
    }

    fn chaos(&self, query: &Query<'_>) -> Option<&Prepared> {
        if !matches!(query.qtype, rtype::TXT | rtype::ANY) {
            return None;
        }
        let asked = |name: &Name| name.as_wire().eq_ignore_ascii_case(query.name());
        self.chaos.iter().find(|(name, _)| asked(name)).map(|(_, prepared)| prepared)
    }

    /// RFC 6891 §6.2.3–5: what the asker takes, at least 512 and at most what we send.
    fn bytes_max(&self, query: &Query<'_>, transport: Transport) -> usize {
        match (transport, query.edns) {
            (Transport::Tcp, _) => MESSAGE_BYTES_MAX,
            (Transport::Udp, None) => UDP_BYTES_CLASSIC,
            (Transport::Udp, Some(edns)) => {
                usize::from(edns.udp_bytes_max.min(self.udp_bytes_max)).max(UDP_BYTES_CLASSIC)
            }
        }
    }
}

/// RFC 4892 §3: a TXT record in class CHAOS with TTL 0.
fn chaos_answer(name: &Name, text: &str) -> Prepared {
    let text = &text.as_bytes()[..text.len().min(255)];
    let data = [&[text.len() as u8], text].concat();
    let mut sections = Sections::new(name, false);
    let pushed = sections.push(Section::Answer, Owner::Question, rtype::TXT, class::CH, 0, &data);
    pushed.expect("one string fits a message");
    Prepared::new(sections.finish(), name.as_wire().len())
}

#[cfg(test)]
mod tests;
