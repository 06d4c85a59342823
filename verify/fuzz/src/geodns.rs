//! geodns's core: any octets as a query to a server with a zone of every kind of name.

use std::sync::{Arc, LazyLock};

use geodns::core::respond::Identity;
use geodns::core::{Catalogue, Member, Pool, Responder, Transport, Zone};
use wire::dns::code::flag;
use wire::dns::reply::Reply;
use wire::dns::{MESSAGE_BYTES_MAX, Name};

const ZONE: &str = include_str!("../corpus/zone/everything");
const UDP_BYTES_MAX: u16 = 1232;

static RESPONDER: LazyLock<Responder> = LazyLock::new(|| {
    let member = |address: &str, weight| Member { address: address.parse().expect("an address"), weight };
    let pool = Pool::new(30, &[member("192.0.2.1", 1), member("192.0.2.2", 3), member("2001:db8::1", 1)]);
    let name = |text| Name::from_absolute_text(text).expect("a name");
    let bound = [(name("pool.example.com"), 0), (name("*.poolwild.example.com"), 0)];
    let zone = Zone::load(&name("example.com"), ZONE, "seed", &bound).expect("the seed zone loads");
    let catalogue =
        Catalogue::build(&[zone], std::slice::from_ref(&pool)).expect("the seed zone can be served");
    let identity = Identity { version: Some("fuzz".into()), id: None };
    Responder::new(Arc::new(catalogue), vec![pool], &identity, UDP_BYTES_MAX)
});

/// Asks `data`, behind one octet that chooses transport and random number.
pub fn run(data: &[u8]) {
    let [choice, packet @ ..] = data else { return };
    if packet.len() > MESSAGE_BYTES_MAX {
        return;
    }
    let (transport, bytes_max) = match choice & 1 {
        0 => (Transport::Udp, usize::from(UDP_BYTES_MAX)),
        _ => (Transport::Tcp, MESSAGE_BYTES_MAX),
    };
    let random = u64::from(choice >> 1) << 57;
    let responder = &*RESPONDER;
    let mut out = Vec::new();
    let outcome = crate::bounded(packet.len(), 1, || responder.respond(packet, transport, random, &mut out));
    let Some(code) = outcome.rcode else {
        assert!(out.is_empty(), "no code but a response");
        return;
    };
    let reply = Reply::parse(&out).expect("every response can be read");
    assert!(out.len() <= bytes_max);
    assert_eq!(reply.rcode, code);
    assert_eq!(out[..2], packet[..2], "the identifier comes back");
    assert_eq!(reply.flags & flag::TC != 0, outcome.truncated);
    if reply.question.is_some() {
        let question_end = out.len().min(packet.len());
        let name_end =
            12 + wire::dns::name::uncompressed_len(&packet[12..question_end]).expect("its name is whole");
        assert_eq!(out[12..name_end + 4], packet[12..name_end + 4], "the question comes back octet by octet");
    }
}
