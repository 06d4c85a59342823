//! `wire::dns`: queries, responses.

use wire::dns::code::rtype;
use wire::dns::query::{write_query, write_rejection};
use wire::dns::reply::{Reply, ReplyRecord};
use wire::dns::sections::{Owner, Section, Sections};
use wire::dns::{MESSAGE_BYTES_MAX, Name, Query, Rejected};

/// Takes `data` for a query and for a response.
pub fn run(data: &[u8]) {
    if data.len() > MESSAGE_BYTES_MAX {
        return;
    }
    crate::bounded(data.len(), 64, || {
        query(data);
        response(data);
    });
}

/// What parses has a valid name and, written anew, parses to the same; what is rejected with a code can be answered.
fn query(data: &[u8]) {
    match Query::parse(data) {
        Ok(query) => {
            let name = Name::from_wire(query.name()).expect("a question has a valid name");
            let from_text = Name::from_text(&name.to_string(), None).expect("a name's text is a name");
            assert_eq!(from_text.as_wire(), name.as_wire(), "through text");

            let mut again = Vec::new();
            write_query(7, &name, query.qtype, query.edns, &mut again);
            let again = Query::parse(&again).expect("what we write we read");
            assert_eq!((again.name(), again.qtype), (query.name(), query.qtype));
            let sent =
                |query: Query<'_>| query.edns.map(|edns| (edns.udp_bytes_max, edns.version, edns.dnssec_ok));
            assert_eq!(sent(again), sent(query));
        }
        Err(Rejected::Ignore) => {}
        Err(Rejected::Answer(code)) => assert!(write_rejection(data, code, &mut Vec::new())),
    }
}

/// A response's records, written with our compression behind its question, read the same, but for the case of names in
/// record data: a pointer may lead to the same name in other letters (RFC 4343 §3).
fn response(data: &[u8]) {
    let Some(reply) = Reply::parse(data) else { return };
    let Some((question, qtype, qclass)) = &reply.question else { return };
    let mut sections = Sections::new(question, false);
    for (section, records) in
        [Section::Answer, Section::Authority, Section::Additional].into_iter().zip(&reply.sections)
    {
        for record in records {
            let owner = Owner::Name(&record.owner);
            let pushed = sections.push(section, owner, record.rtype, record.class, record.ttl, &record.rdata);
            if pushed.is_err() {
                return;
            }
        }
    }
    let body = sections.finish();
    let mut packet = data[..4].to_vec();
    packet[3] &= 0xf0;
    packet.extend_from_slice(&[0, 1]);
    for count in body.counts {
        packet.extend_from_slice(&count.to_be_bytes());
    }
    packet.extend_from_slice(question.as_wire());
    packet.extend_from_slice(&qtype.to_be_bytes());
    packet.extend_from_slice(&qclass.to_be_bytes());
    packet.extend_from_slice(&body.bytes);
    let again = Reply::parse(&packet).expect("what we write we read");
    assert_eq!(again.sections.map(folded), reply.sections.map(folded));
}

/// The records with the names in their data in lower case; an owner compares without regard to case by itself.
fn folded(mut records: Vec<ReplyRecord>) -> Vec<ReplyRecord> {
    for record in &mut records {
        if matches!(record.rtype, rtype::NS | rtype::CNAME | rtype::PTR | rtype::MX | rtype::SOA) {
            record.rdata.make_ascii_lowercase();
        }
    }
    records
}
