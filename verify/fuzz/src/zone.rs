//! Zone files, and the answers prepared from them.

use std::sync::Arc;

use geodns::core::respond::Identity;
use geodns::core::{Catalogue, Responder, Transport, Zone};
use wire::dns::Name;
use wire::dns::code::rtype;
use wire::dns::query::write_query;
use wire::dns::reply::Reply;

/// The names of one zone that are asked for.
const NAMES_MAX: usize = 64;
/// The longest text tried, in bytes: loading is not a hot path.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// Loads `data` as the zone example.com; when that works, every name answers, as do one below it and the apex.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.len() > TEXT_BYTES_MAX {
        return;
    }
    crate::bounded(text.len(), 4096, || load_and_ask(text));
}

fn load_and_ask(text: &str) {
    let apex = Name::from_absolute_text("example.com").expect("a name");
    let Ok(zone) = Zone::load(&apex, text, "fuzz", &[]) else { return };
    let names: Vec<Name> = zone.owners().map(|owner| owner.name.clone()).take(NAMES_MAX).collect();
    let kinds: Vec<Vec<u16>> =
        zone.owners().map(|owner| owner.sets.iter().map(|set| set.rtype).collect()).take(NAMES_MAX).collect();
    let Ok(catalogue) = Catalogue::build(&[zone], &[]) else { return };
    let responder = Responder::new(Arc::new(catalogue), Vec::new(), &Identity::default(), 1232);
    for (name, kinds) in names.iter().zip(kinds) {
        ask(&responder, name, rtype::ANY);
        ask(&responder, name, 65_280);
        for kind in kinds {
            ask(&responder, name, kind);
        }
        if let Ok(below) = name.child(b"x") {
            ask(&responder, &below, rtype::A);
        }
    }
}

fn ask(responder: &Responder, name: &Name, kind: u16) {
    let mut query = Vec::new();
    write_query(1, name, kind, None, &mut query);
    for (transport, bytes_max) in [(Transport::Udp, 512), (Transport::Tcp, 65_535)] {
        let mut out = Vec::new();
        responder.respond(&query, transport, 0, &mut out);
        let reply = Reply::parse(&out).expect("every response can be read");
        assert!(out.len() <= bytes_max);
        assert!(
            !(transport == Transport::Tcp && reply.flags & wire::dns::code::flag::TC != 0),
            "TC over TCP"
        );
    }
}
