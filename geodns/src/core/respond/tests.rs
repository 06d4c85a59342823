//! The rules of the RFCs, each asked of a small zone; hickory-proto reads every response as well.

use hickory_proto::op::Message;
use wire::dns::code::flag;
use wire::dns::query::write_query;
use wire::dns::reply::{Reply, ReplyRecord};
use wire::dns::zone_file::Reader;

use super::*;
use crate::core::{Member, Zone, ZoneError};

const ZONE: &str = r#"
$TTL 300
@           SOA   ns1 hostmaster 2026010100 7200 600 3600000 60
@           NS    ns1
@           NS    ns2.example.net.
@           MX    10 mail
@           TXT   "v=spf1 -all"
@           CAA   0 issue "ca.example.net"
ns1         A     192.0.2.53
ns1         AAAA  2001:db8::53
mail        A     192.0.2.25
_http._tcp  SRV   0 5 80 mail
deep.empty  A     192.0.2.9
alias       CNAME alias2
alias2      CNAME mail
outside     CNAME www.example.org.
dangling    CNAME nothing
to-pool     CNAME pool
to-sub      CNAME host.sub
to-wild     CNAME any.wild
to-out-v6   CNAME v4only
*.wild      A     192.0.2.77
*.wild      MX    5 mail
*.walias    CNAME mail
*.self      MX    5 *.self
exact.wild  TXT   "exact"
sub         NS    ns.sub
sub         NS    ns1
ns.sub      A     192.0.2.99
host.sub    A     192.0.2.98
far         NS    ns.example.org.
"#;

fn name(text: &str) -> Name {
    Name::from_absolute_text(text).unwrap()
}

fn build(zones: &[(&str, &str)], bound: &[(&str, usize)], pools: &[Pool]) -> Result<Responder, ZoneError> {
    let bound: Vec<_> = bound.iter().map(|(bound, pool)| (name(bound), *pool)).collect();
    let load = |(apex, text): &(&str, &str)| {
        let apex = name(apex);
        let inside: Vec<_> = bound.iter().filter(|(bound, _)| bound.is_within(&apex)).cloned().collect();
        Zone::load(&apex, text, "test", &inside)
    };
    let zones = zones.iter().map(load).collect::<Result<Vec<_>, _>>()?;
    let catalogue = Catalogue::build(&zones, pools)?;
    Ok(Responder::new(Arc::new(catalogue), pools.to_vec(), &Identity::default(), 1232))
}

fn pool(members: &[(&str, u32)]) -> Pool {
    let member =
        |(address, weight): &(&str, u32)| Member { address: address.parse().unwrap(), weight: *weight };
    Pool::new(30, &members.iter().map(member).collect::<Vec<_>>())
}

fn responder() -> Responder {
    let pools = [
        pool(&[("192.0.2.1", 1), ("192.0.2.2", 1), ("2001:db8::1", 1)]),
        pool(&[("192.0.2.3", 1)]),
        pool(&[("192.0.2.4", 1), ("2001:db8::4", 0)]),
    ];
    let bound = [
        ("pool.example.com", 0),
        ("v4only.example.com", 1),
        ("*.poolwild.example.com", 0),
        ("v6out.example.com", 2),
        ("example.com", 1),
    ];
    build(&[("example.com", ZONE)], &bound, &pools).unwrap()
}

fn send(responder: &Responder, packet: &[u8], transport: Transport) -> (Vec<u8>, Outcome) {
    let mut out = Vec::new();
    let outcome = responder.respond(packet, transport, 0, &mut out);
    (out, outcome)
}

fn query(asked: &str, kind: u16, edns: Option<Edns>) -> Vec<u8> {
    let mut packet = Vec::new();
    write_query(0xbeef, &name(asked), kind, edns, &mut packet);
    packet
}

/// The response to `packet`, held against hickory-proto's reading of it.
fn reply(responder: &Responder, packet: &[u8]) -> Reply {
    let (out, outcome) = send(responder, packet, Transport::Udp);
    let reply = Reply::parse(&out).expect("a well-formed response");
    let message = Message::from_vec(&out).expect("a response that hickory-proto reads");
    assert_eq!(message.answers.len(), reply.sections[0].len());
    assert_eq!(message.authorities.len(), reply.sections[1].len());
    assert_eq!(message.additionals.len(), reply.sections[2].len());
    for (ours, theirs) in reply.sections[0].iter().zip(&message.answers) {
        assert_eq!(ours.owner.to_string(), theirs.name.to_string());
        assert_eq!((ours.rtype, ours.ttl), (theirs.record_type().into(), theirs.ttl));
    }
    assert_eq!(outcome.rcode, Some(reply.rcode));
    assert_eq!(reply.id, 0xbeef);
    reply
}

fn ask(asked: &str, kind: u16) -> Reply {
    reply(&responder(), &query(asked, kind, None))
}

/// Records as zone file lines would give them.
fn records(lines: &str) -> Vec<ReplyRecord> {
    let read = Reader::new(lines, &name("example.com"));
    read.map(|record| {
        let record = record.unwrap();
        ReplyRecord {
            owner: record.owner,
            rtype: record.rtype,
            class: class::IN,
            ttl: record.ttl,
            rdata: record.rdata,
        }
    })
    .collect()
}

const SOA: &str = "@ 60 SOA ns1 hostmaster 2026010100 7200 600 3600000 60\n";

#[track_caller]
fn expect(reply: &Reply, code: u16, answer: &str, authority: &str, additional: &str) {
    assert_eq!(reply.rcode, code);
    for (section, lines) in [answer, authority, additional].into_iter().enumerate() {
        let expected = records(lines);
        assert_eq!(reply.sections[section].len(), expected.len(), "section {section}: {reply:?}");
        for (have, want) in reply.sections[section].iter().zip(&expected) {
            assert_eq!(have.owner, want.owner);
            assert_eq!((have.rtype, have.class, have.ttl), (want.rtype, want.class, want.ttl));
            assert!(have.rdata.eq_ignore_ascii_case(&want.rdata), "{have:?} is not {want:?}");
        }
    }
}

fn is_authoritative(reply: &Reply) -> bool {
    reply.flags & flag::AA != 0
}

#[test]
fn rfc1034_4_3_2_records_of_the_name_and_type() {
    let a = ask("mail.example.com", rtype::A);
    expect(&a, 0, "mail 300 A 192.0.2.25", "", "");
    assert!(is_authoritative(&a));
    assert_eq!(a.flags, flag::QR | flag::AA);
    expect(&ask("example.com", rtype::MX), 0, "@ 300 MX 10 mail", "", "");
    expect(&ask("example.com", rtype::TXT), 0, "@ 300 TXT \"v=spf1 -all\"", "", "");
    expect(&ask("example.com", rtype::CAA), 0, "@ 300 CAA 0 issue \"ca.example.net\"", "", "");
    expect(&ask("_http._tcp.example.com", rtype::SRV), 0, "_http._tcp 300 SRV 0 5 80 mail", "", "");
    expect(&ask("example.com", rtype::SOA), 0, &SOA.replace("60 SOA", "300 SOA"), "", "");
}

#[test]
fn ns_brings_the_addresses_of_servers_inside_the_zone() {
    let glue = "ns1 300 A 192.0.2.53\nns1 300 AAAA 2001:db8::53";
    expect(&ask("example.com", rtype::NS), 0, "@ 300 NS ns1\n@ 300 NS ns2.example.net.", "", glue);
}

#[test]
fn rfc1035_4_1_1_recursion_desired_is_copied_and_not_available() {
    let mut packet = query("mail.example.com", rtype::A, None);
    packet[2] |= 1;
    packet[3] |= 0x30; // AD and CD of the query are not for us to echo (RFC 4035 §3.1.6).
    assert_eq!(reply(&responder(), &packet).flags, flag::QR | flag::AA | flag::RD);
}

#[test]
fn the_question_comes_back_in_its_own_case() {
    let packet = query("mAiL.eXamPle.COM", rtype::A, None);
    let (out, _) = send(&responder(), &packet, Transport::Udp);
    assert_eq!(out[12..packet.len()], packet[12..]);
    assert_eq!(Reply::parse(&out).unwrap().sections[0][0].owner.to_string(), "mAiL.eXamPle.COM.");
}

#[test]
fn rfc2308_2_2_no_data_has_the_soa_with_the_negative_ttl() {
    let no_data = ask("mail.example.com", rtype::AAAA);
    expect(&no_data, 0, "", SOA, "");
    assert!(is_authoritative(&no_data));
    expect(&ask("empty.example.com", rtype::A), 0, "", SOA, "");
    expect(&ask("mail.example.com", 65_280), 0, "", SOA, "");
}

#[test]
fn rfc2308_2_1_name_error_has_the_soa() {
    let missing = ask("a.b.c.example.com", rtype::A);
    expect(&missing, rcode::NXDOMAIN, "", SOA, "");
    assert!(is_authoritative(&missing));
}

#[test]
fn foreign_names_are_refused() {
    for asked in ["example.org", "com", ".", "anexample.com", "www.sub.example.net"] {
        let refused = ask(asked, rtype::A);
        expect(&refused, rcode::REFUSED, "", "", "");
        assert_eq!(refused.flags & (flag::AA | flag::TC), 0);
        assert_eq!(refused.question.unwrap().0, name(asked));
    }
}

#[test]
fn rfc1034_3_6_2_aliases_are_followed_inside_the_zone() {
    let chain = "alias 300 CNAME alias2\nalias2 300 CNAME mail\n";
    expect(&ask("alias.example.com", rtype::A), 0, &format!("{chain}mail 300 A 192.0.2.25"), "", "");
    expect(&ask("alias.example.com", rtype::CNAME), 0, "alias 300 CNAME alias2", "", "");
    expect(&ask("alias.example.com", rtype::AAAA), 0, chain, SOA, "");
    expect(&ask("outside.example.com", rtype::A), 0, "outside 300 CNAME www.example.org.", "", "");
}

#[test]
fn rfc6604_3_the_code_is_that_of_the_last_name() {
    expect(&ask("dangling.example.com", rtype::A), rcode::NXDOMAIN, "dangling 300 CNAME nothing", SOA, "");
}

#[test]
fn rfc1034_4_3_2_an_alias_into_a_delegation_ends_with_a_referral() {
    let referral = ask("to-sub.example.com", rtype::A);
    let servers = "sub 300 NS ns.sub\nsub 300 NS ns1";
    let glue = "ns.sub 300 A 192.0.2.99\nns1 300 A 192.0.2.53\nns1 300 AAAA 2001:db8::53";
    expect(&referral, 0, "to-sub 300 CNAME host.sub", servers, glue);
    assert!(is_authoritative(&referral), "AA is about the first name");
}

#[test]
fn rfc4592_2_2_1_wildcards() {
    expect(&ask("a.b.wild.example.com", rtype::A), 0, "a.b.wild 300 A 192.0.2.77", "", "");
    expect(&ask("x.wild.example.com", rtype::MX), 0, "x.wild 300 MX 5 mail", "", "");
    expect(&ask("*.wild.example.com", rtype::A), 0, "*.wild 300 A 192.0.2.77", "", "");
    expect(&ask("x.wild.example.com", rtype::TXT), 0, "", SOA, "");
    expect(&ask("exact.wild.example.com", rtype::A), 0, "", SOA, "");
    expect(&ask("x.exact.wild.example.com", rtype::A), rcode::NXDOMAIN, "", SOA, "");
    expect(&ask("x.*.wild.example.com", rtype::A), rcode::NXDOMAIN, "", SOA, "");
    expect(
        &ask("to-wild.example.com", rtype::A),
        0,
        "to-wild 300 CNAME any.wild\nany.wild 300 A 192.0.2.77",
        "",
        "",
    );
    // The name that stands in the data is the wildcard's own, not the question's.
    expect(&ask("xyz.self.example.com", rtype::MX), 0, "xyz.self 300 MX 5 *.self", "", "");
    let long = format!("{0}.{0}.{0}.walias", "x".repeat(60));
    let chain = format!("{long} 300 CNAME mail\nmail 300 A 192.0.2.25");
    expect(&ask(&format!("{long}.example.com"), rtype::A), 0, &chain, "", "");
}

#[test]
fn rfc1034_4_2_1_delegations_are_referred_to() {
    let servers = "sub 300 NS ns.sub\nsub 300 NS ns1";
    let glue = "ns.sub 300 A 192.0.2.99\nns1 300 A 192.0.2.53\nns1 300 AAAA 2001:db8::53";
    for asked in ["sub.example.com", "host.sub.example.com", "ns.sub.example.com", "x.y.sub.example.com"] {
        for kind in [rtype::A, rtype::NS, rtype::SOA, rtype::ANY] {
            let referral = ask(asked, kind);
            expect(&referral, 0, "", servers, glue);
            assert!(!is_authoritative(&referral));
        }
    }
    expect(&ask("a.far.example.com", rtype::A), 0, "", "far 300 NS ns.example.org.", "");
}

#[test]
fn rfc4035_3_1_4_1_the_parent_answers_for_ds() {
    let ds = ask("sub.example.com", rtype::DS);
    expect(&ds, 0, "", SOA, "");
    assert!(is_authoritative(&ds));
    let child = ("sub.example.com", "@ 5 SOA a b 1 2 3 4 5\n@ 5 NS ns.example.org.\nhost A 192.0.2.11\n");
    let both = build(&[("example.com", ZONE), child], &[], &[]).unwrap();
    expect(&reply(&both, &query("sub.example.com", rtype::DS, None)), 0, "", SOA, "");
}

#[test]
fn a_deeper_zone_of_ours_answers_for_itself() {
    let child = ("sub.example.com", "@ 5 SOA a b 1 2 3 4 5\n@ 5 NS ns.example.org.\nhost 7 A 192.0.2.11\n");
    for zones in [[("example.com", ZONE), child], [child, ("example.com", ZONE)]] {
        let both = build(&zones, &[], &[]).unwrap();
        expect(
            &reply(&both, &query("host.sub.example.com", rtype::A, None)),
            0,
            "host.sub 7 A 192.0.2.11",
            "",
            "",
        );
        let missing = reply(&both, &query("x.sub.example.com", rtype::A, None));
        expect(&missing, rcode::NXDOMAIN, "", "sub 5 SOA a.sub b.sub 1 2 3 4 5", "");
        expect(
            &reply(&both, &query("to-sub.example.com", rtype::A, None)),
            0,
            "to-sub 300 CNAME host.sub",
            "",
            "",
        );
    }
}

#[test]
fn rfc8482_any_is_answered_with_hinfo() {
    expect(&ask("mail.example.com", rtype::ANY), 0, "mail 3600 HINFO RFC8482 \"\"", "", "");
    expect(&ask("x.wild.example.com", rtype::ANY), 0, "x.wild 3600 HINFO RFC8482 \"\"", "", "");
    expect(&ask("alias.example.com", rtype::ANY), 0, "alias 300 CNAME alias2", "", "");
    expect(&ask("empty.example.com", rtype::ANY), 0, "", SOA, "");
    expect(&ask("nothing.example.com", rtype::ANY), rcode::NXDOMAIN, "", SOA, "");
}

#[test]
fn transfers_and_other_meta_questions_are_notimp() {
    for kind in [128, 249, 250, rtype::IXFR, rtype::AXFR, 253, 254] {
        expect(&ask("example.com", kind), rcode::NOTIMP, "", "", "");
    }
}

#[test]
fn pools_choose_and_compose_with_other_records() {
    let responder = responder();
    let answer = |asked: &str, kind, random| {
        let mut out = Vec::new();
        responder.respond(&query(asked, kind, None), Transport::Udp, random, &mut out);
        Reply::parse(&out).unwrap()
    };
    expect(&answer("pool.example.com", rtype::A, 0), 0, "pool 30 A 192.0.2.1", "", "");
    expect(&answer("pool.example.com", rtype::A, u64::MAX), 0, "pool 30 A 192.0.2.2", "", "");
    expect(&answer("pool.example.com", rtype::AAAA, 1), 0, "pool 30 AAAA 2001:db8::1", "", "");
    expect(&answer("pool.example.com", rtype::MX, 1), 0, "", SOA, "");
    expect(&answer("example.com", rtype::A, 1), 0, "@ 30 A 192.0.2.3", "", "");
    let wild = "a.b.poolwild 30 A 192.0.2.2";
    expect(&answer("a.b.poolwild.example.com", rtype::A, u64::MAX), 0, wild, "", "");
    let chain = "to-pool 300 CNAME pool\npool 30 A 192.0.2.2";
    expect(&answer("to-pool.example.com", rtype::A, u64::MAX), 0, chain, "", "");
}

#[test]
fn a_pool_without_a_member_to_give_is_no_data() {
    expect(&ask("v4only.example.com", rtype::AAAA), 0, "", SOA, "");
    expect(&ask("v6out.example.com", rtype::AAAA), 0, "", SOA, "");
    expect(&ask("v6out.example.com", rtype::A), 0, "v6out 30 A 192.0.2.4", "", "");
    expect(&ask("to-out-v6.example.com", rtype::AAAA), 0, "to-out-v6 300 CNAME v4only", SOA, "");
}

#[test]
fn rfc6891_6_2_the_response_to_edns_has_edns() {
    let edns = Edns { udp_bytes_max: 4096, version: 0, dnssec_ok: true };
    for asked in ["mail.example.com", "nothing.example.com", "example.org"] {
        let with = reply(&responder(), &query(asked, rtype::A, Some(edns)));
        assert_eq!(with.edns, Some(Edns { udp_bytes_max: 1232, version: 0, dnssec_ok: true }));
        assert_eq!(ask(asked, rtype::A).edns, None, "and the response without does not");
    }
}

#[test]
fn rfc6891_6_1_3_other_versions_are_badvers() {
    let edns = Edns { udp_bytes_max: 4096, version: 1, dnssec_ok: false };
    let badvers = reply(&responder(), &query("mail.example.com", rtype::A, Some(edns)));
    expect(&badvers, rcode::BADVERS, "", "", "");
    assert_eq!(badvers.edns.unwrap().version, 0);
    assert_eq!(badvers.flags & flag::RCODE, 0, "the upper bits are in the OPT record");
}

fn big_zone() -> Responder {
    use std::fmt::Write;
    let mut text = format!("$TTL 5\n{SOA}@ NS ns1\nns1 A 192.0.2.53\n");
    for i in 0..60 {
        let _ = writeln!(
            text,
            "many A 192.0.2.{i}\nlots NS n{i}.example.net.\nglued NS n{i}.glued\nn{i}.glued A 192.0.2.{i}"
        );
        let _ = writeln!(text, "@ NS m{i}\nm{i} A 192.0.2.{i}");
    }
    build(&[("example.com", &text)], &[], &[]).unwrap()
}

#[test]
fn rfc2181_9_what_does_not_fit_is_truncated() {
    let big = big_zone();
    let sized = |asked: &str, kind, bytes: Option<u16>| {
        let edns = bytes.map(|udp_bytes_max| Edns { udp_bytes_max, version: 0, dnssec_ok: false });
        let packet = query(asked, kind, edns);
        let (out, outcome) = send(&big, &packet, Transport::Udp);
        assert!(out.len() <= usize::from(bytes.unwrap_or(512).clamp(512, 1232)));
        let reply = Reply::parse(&out).unwrap();
        assert_eq!(reply.flags & flag::TC != 0, outcome.truncated);
        (reply.sections.map(|section| section.len()), outcome.truncated)
    };
    // 60 × 16 octets and the head: above 512, below 1232.
    for (bytes, expected) in [(None, 0), (Some(0), 0), (Some(512), 0), (Some(1232), 60), (Some(65_535), 60)] {
        assert_eq!(
            sized("many.example.com", rtype::A, bytes),
            ([expected, 0, 0], expected == 0),
            "{bytes:?}"
        );
    }
    // The addresses of NS are a kindness and go without a word; glue that a referral needs does not.
    assert_eq!(sized("example.com", rtype::NS, Some(1232)), ([61, 0, 0], false));
    assert_eq!(sized("x.glued.example.com", rtype::A, Some(1232)), ([0, 0, 0], true));
    assert_eq!(sized("example.com", rtype::NS, None), ([0, 0, 0], true));

    let (out, outcome) = send(&big, &query("x.glued.example.com", rtype::A, None), Transport::Tcp);
    assert!(!outcome.truncated);
    assert_eq!(Reply::parse(&out).unwrap().sections.map(|section| section.len()), [0, 60, 60]);
}

#[test]
fn classes_other_than_in_are_refused_unless_chaos_is_configured() {
    let of_class = |responder: &Responder, asked: &str, class: u8| {
        let mut packet = query(asked, rtype::TXT, None);
        *packet.last_mut().unwrap() = class;
        reply(responder, &packet)
    };
    for asked_class in [0, 2, 3, 4, 254, 255] {
        expect(&of_class(&responder(), "version.bind", asked_class), rcode::REFUSED, "", "", "");
        expect(&of_class(&responder(), "example.com", asked_class), rcode::REFUSED, "", "", "");
    }
    let mut told = responder();
    let identity = Identity { version: Some("millrace".into()), id: None };
    told = Responder::new(told.catalogue.clone(), told.pools.clone(), &identity, 1232);
    let version = of_class(&told, "VERSION.bind", 3);
    assert_eq!(version.sections[0][0].rdata, b"\x08millrace");
    assert_eq!((version.sections[0][0].class, version.sections[0][0].ttl), (class::CH, 0));
    expect(&of_class(&told, "id.server", 3), rcode::REFUSED, "", "", "");
}

#[test]
fn malformed_queries_are_formerr_or_nothing() {
    let responder = responder();
    let packet = query("mail.example.com", rtype::A, None);
    for end in 0..packet.len() {
        let (out, outcome) = send(&responder, &packet[..end], Transport::Udp);
        if end < 12 {
            assert_eq!((outcome.rcode, out.len()), (None, 0));
        } else {
            assert_eq!((outcome.rcode, &out[..4]), (Some(rcode::FORMERR), &[0xbe, 0xef, 0x80, 1][..]));
        }
    }
}

#[test]
fn zones_that_cannot_be_answered_from_are_refused() {
    let head = "$TTL 5\n@ SOA a b 1 2 3 4 5\n@ NS ns.example.org.\n";
    let error =
        |more: &str| build(&[("example.com", &format!("{head}{more}"))], &[], &[]).unwrap_err().problem;
    assert_eq!(error("a CNAME b\nb CNAME a"), "the CNAME at a.example.com. leads in a circle");
    assert_eq!(error("a CNAME a"), "the CNAME at a.example.com. leads in a circle");
    assert_eq!(error("*.w CNAME x.w"), "the CNAME at *.w.example.com. leads in a circle");
    let long: String = (0..18).map(|i| format!("c{i} CNAME c{}\n", i + 1)).collect();
    assert!(error(&long).contains("leads through more than 16 others"));
    assert_eq!(error("@ NS nowhere"), "its server nowhere.example.com. has no A or AAAA record");
    let fat: String = (0..300).map(|i| format!("fat TXT {i}{}\n", "x".repeat(240))).collect();
    assert!(
        error(&fat).contains("fat.example.com.: the records of one answer take more than the 65,535 octets")
    );
    let twice = build(&[("example.com", head), ("Example.COM", head)], &[], &[]);
    assert_eq!(twice.unwrap_err().problem, "is configured twice");
}

#[test]
fn a_zone_at_the_root_answers_everything() {
    let root = build(
        &[(".", "@ 5 SOA a. b. 1 2 3 4 5\n@ 5 NS ns.example.\nexample A 192.0.2.1\nns.example A 192.0.2.2")],
        &[],
        &[],
    )
    .unwrap();
    let soa = ". 5 SOA a. b. 1 2 3 4 5";
    expect(&reply(&root, &query("a.b.c", rtype::A, None)), rcode::NXDOMAIN, "", soa, "");
    expect(&reply(&root, &query(".", rtype::A, None)), 0, "", soa, "");
    expect(&reply(&root, &query("x.example", rtype::A, None)), rcode::NXDOMAIN, "", soa, "");
}

/// SplitMix64, seeded: what fails once fails again.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

#[test]
fn random_and_mutated_queries_get_a_valid_response_or_none() {
    let responder = responder();
    let mut draws = Draws(20_260_101);
    let edns = Edns { udp_bytes_max: 1232, version: 0, dnssec_ok: false };
    let asked = [
        "mail.example.com",
        "to-sub.example.com",
        "x.wild.example.com",
        "a.b.pool.example.com",
        "example.org",
    ];
    let mut out = Vec::new();
    let mut answered = 0;
    for round in 0..300_000 {
        let mut packet: Vec<u8>;
        if round % 3 == 0 {
            packet = (0..draws.below(64)).map(|_| draws.next() as u8).collect();
        } else {
            let kind = [rtype::A, rtype::NS, rtype::ANY, rtype::DS][draws.below(4)];
            packet = query(asked[draws.below(asked.len())], kind, (round % 2 == 0).then_some(edns));
            for _ in 0..draws.below(4) {
                let at = draws.below(packet.len());
                match draws.below(4) {
                    0 => packet[at] = draws.next() as u8,
                    1 => packet[at] = [0, 0xc0, 0xff, 63][draws.below(4)],
                    2 => packet.truncate(at + 1),
                    _ => packet.insert(at, draws.next() as u8),
                }
            }
        }
        out.clear();
        let outcome = responder.respond(&packet, Transport::Udp, draws.next(), &mut out);
        match outcome.rcode {
            None => assert!(out.is_empty()),
            Some(code) => {
                let reply = Reply::parse(&out).unwrap_or_else(|| panic!("{packet:02x?} gave {out:02x?}"));
                assert_eq!(reply.rcode, code);
                assert_eq!(out[..2], packet[..2]);
                assert!(out.len() <= 1232);
                answered += usize::from(code == rcode::NOERROR);
            }
        }
    }
    assert!(answered > 10_000, "only {answered} of them were proper queries");
}
