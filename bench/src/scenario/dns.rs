//! `dns`: geodns beside gdnsd and knot, over UDP, with one same zone.

use crate::error::Error;
use crate::harness::result::Report;
use crate::harness::server::{Place, Server, free_addresses};
use crate::harness::{self, Case, Contestant, Group, Load, Prepare, Started, Work};
use crate::load::datagrams;
use crate::load::dns::{Ask, Dns, NEAREST, NETWORKS, ZONE, address, label};
use crate::load::outside::{self, Outside, Tool};
use crate::peers::{self, Found, GDNSD, KNOT, OURS};
use crate::settings::Settings;
use std::fmt::Write;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;
use wire::dns::code::flag;
use wire::dns::reply::Reply;

/// Names in the zone.
const NAMES: u64 = 10_000;
/// Requests under way in a closed loop.
const UNDER_WAY: usize = 128;
/// Sockets of a closed loop: few with many requests each cost the load less.
const SOCKETS: usize = 4;
/// Sockets of an open loop, and of dnsperf: in more of them more answers find room while the load is busy.
const SOCKETS_OPEN: usize = 16;
/// How long a server may take for the one request that is looked at whole.
const PATIENCE: Duration = Duration::from_secs(5);
/// What dnsperf asks, one file for each kind.
const QUERIES: [(Ask, &str); 2] = [(Ask::Address, "address.queries"), (Ask::Missing, "missing.queries")];

pub(crate) fn run(settings: &Settings) -> Result<Report, Error> {
    let (found, mut gaps) = peers::find(settings, &[GDNSD, KNOT])?;
    let ours = peers::ours(settings)?;
    let all: Vec<Found> = ours.into_iter().chain(found).collect();
    let names = settings.scaled(NAMES);
    let mut cases = vec![
        case("the address of a name", Ask::Address, names, true),
        case("a name that there is not", Ask::Missing, names, true),
        Case {
            gaps: all.iter().filter_map(no_nearest).collect(),
            ..case("the address nearest to a client, by EDNS's client subnet", Ask::Nearest, names, true)
        },
    ];
    match outside::find(settings, Tool::Dnsperf)? {
        Ok(dnsperf) => cases.extend(QUERIES.map(|(ask, file)| by_dnsperf(&dnsperf, ask, file))),
        Err(gap) => gaps.push(gap),
    }
    let contestants = all.into_iter().map(|found| contestant(found, names)).collect();
    let groups = [Group { name: "", contestants, cases, files: None }];
    harness::run("dns", settings, &groups, gaps)
}

fn no_nearest(found: &Found) -> Option<(String, String)> {
    let reason = match found.peer {
        peer if peer == OURS => "does not look at a client's network yet",
        peer if peer == KNOT.name => "its module for that is a package of its own, which is not set up here",
        _ => return None,
    };
    Some((found.name.clone(), reason.to_owned()))
}

fn case(name: &str, ask: Ask, names: u64, latency: bool) -> Case {
    let load: Load = Box::new(move |server, settings, rate, counters| {
        let sockets = if rate.is_some() { SOCKETS_OPEN } else { SOCKETS };
        let spec =
            datagrams::Spec { sockets, ..settings.datagrams(server.address, UNDER_WAY / SOCKETS, rate) };
        let seen = datagrams::run(&spec, |number| Dns::new(ask, names, number as u64), counters)?;
        if seen.tally.refused > 0 {
            let text = format!("{} of {} requests were refused", seen.tally.refused, seen.tally.answers);
            return Err(Error::WrongAnswer(text));
        }
        Ok(seen)
    });
    let work = Work::Requests { prepare: Some(whole_answer(ask)), load, latency, ask: None };
    let name = format!("{name}, {UNDER_WAY} under way");
    Case { name, durability: "", work, gaps: Vec::new() }
}

/// Asks once, and reads every record of what comes back.
fn whole_answer(ask: Ask) -> Prepare {
    Box::new(move |server, _| {
        let exchange = || {
            let socket = UdpSocket::bind((server.address.ip(), 0))?;
            socket.connect(server.address)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            let mut query = Vec::new();
            Dns::new(ask, 1, 0).write(1, 0, &mut query);
            socket.send(&query)?;
            let mut answer = vec![0; 4096];
            let length = socket.recv(&mut answer)?;
            answer.truncate(length);
            Ok(answer)
        };
        let answer = exchange().map_err(Error::io(format!("asking {} once", server.address)))?;
        let reply = Reply::parse(&answer).filter(|reply| reply.id == 1 && reply.flags & flag::AA != 0);
        match reply {
            Some(_) => Ok(()),
            None => {
                Err(Error::WrongAnswer(format!("not the whole answer of a zone's server: {answer:02x?}")))
            }
        }
    })
}

fn by_dnsperf(dnsperf: &Outside, ask: Ask, file: &'static str) -> Case {
    let name = if ask == Ask::Address { "the address of a name" } else { "a name that there is not" };
    dnsperf.case(name, "", Some(whole_answer(ask)), None, move |server| {
        let file = server.folder().join(file).display().to_string();
        let (host, port) = (server.address.ip().to_string(), server.address.port().to_string());
        let under_way = UNDER_WAY.to_string();
        let sockets = SOCKETS_OPEN.to_string();
        ["-s", &host, "-p", &port, "-d", &file, "-c", &sockets, "-q", &under_way].map(str::to_owned).into()
    })
}

fn contestant(found: Found, names: u64) -> Contestant {
    found.contestant(move |found, place| {
        let address = free_addresses(1)?[0];
        for (ask, file) in QUERIES {
            place.file(file, &queries(ask, names))?;
        }
        let (arguments, text) = match found.peer {
            peer if peer == GDNSD.name => gdnsd(&place, address, names)?,
            peer if peer == KNOT.name => knot(&place, address, names)?,
            _ => ours(&place, address, names)?,
        };
        let launch = found.launch(&place, arguments, address);
        let configuration =
            format!("{launch}\n{text}the zone, which has {names} names like the last:\n{}", zone(1));
        Ok(Started { configuration, server: Server::start(place, &[launch])? })
    })
}

/// Arguments and the text of the file that they name.
type Configured = Result<(Vec<String>, String), Error>;

fn ours(place: &Place, listen: SocketAddr, names: u64) -> Configured {
    let file = place.file("zone", &zone(names))?;
    let text = format!(
        "listen = [\"{listen}\"]\ncores = {}\n\n[[zone]]\nname = \"{ZONE}\"\nfile = {file:?}\n",
        place.threads
    );
    let file = place.file("geodns.toml", &text)?;
    Ok((["geodns", "--config", &file.display().to_string()].map(str::to_owned).into(), text))
}

fn gdnsd(place: &Place, listen: SocketAddr, names: u64) -> Configured {
    let near = format!("{NEAREST}. 300 DYNA geoip!near\n");
    place.file(&format!("zones/{ZONE}"), &(zone(names) + &near))?;
    let (mut datacenters, mut nets, mut addresses) = (String::new(), String::new(), String::new());
    for (number, ([first, second], near)) in NETWORKS.iter().enumerate() {
        let _ = write!(datacenters, " dc{number}");
        let _ = write!(nets, " {first}.{second}.0.0/16 => dc{number}");
        let _ = write!(addresses, " dc{number} => {near}");
    }
    let datacenters = datacenters.trim().replace(' ', ", ");
    let text = format!(
        "options => {{ listen => \"{listen}\", run_dir => \"{run}\", state_dir => \"{state}\", udp_threads => {threads}, \
         tcp_threads => {threads} }}\nplugins => {{ geoip => {{\n  maps => {{ near => {{ datacenters => [{datacenters}], \
         nets => {{{nets} }} }} }}\n  resources => {{ near => {{ map => near, dcmap => {{{addresses} }} }} }}\n}} }}\n",
        run = place.path().join("run").display(),
        state = place.path().join("state").display(),
        threads = place.threads,
    );
    place.file("config", &text)?;
    Ok((["-c", &place.path().display().to_string(), "start"].map(str::to_owned).into(), text))
}

fn knot(place: &Place, listen: SocketAddr, names: u64) -> Configured {
    let zone_file = place.file("zone", &zone(names))?;
    let folder = place.path().display();
    let text = format!(
        "server:\n    rundir: \"{folder}\"\n    listen: {ip}@{port}\n    udp-workers: {threads}\n    tcp-workers: {threads}\n    \
         background-workers: 1\ndatabase:\n    storage: \"{folder}\"\nzone:\n  - domain: {ZONE}\n    file: {zone_file:?}\n    \
         zonefile-sync: -1\n    journal-content: none\n",
        ip = listen.ip(),
        port = listen.port(),
        threads = place.threads,
    );
    let file: PathBuf = place.file("knot.conf", &text)?;
    Ok((["-c", &file.display().to_string()].map(str::to_owned).into(), text))
}

/// The zone's file.
fn zone(names: u64) -> String {
    let mut text = format!(
        "$TTL 300\n@ IN SOA ns1 hostmaster 1 7200 900 1209600 60\n@ IN NS ns1\nns1 IN A {}\n",
        address(0)
    );
    for number in 0..names {
        let _ = writeln!(text, "{} IN A {}", label(Ask::Address, number), address(number));
    }
    text
}

/// What dnsperf asks, again and again.
fn queries(ask: Ask, names: u64) -> String {
    // An odd factor that has none in common with the number of names: each name once, in no order.
    let numbers = (0..names).map(|at| at * 7919 % names);
    numbers.map(|number| format!("{}.{ZONE} A\n", label(ask, number))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_asked_for() {
        for names in [100, NAMES] {
            let text = queries(Ask::Address, names);
            let asked: std::collections::BTreeSet<&str> = text.lines().collect();
            assert_eq!(asked.len() as u64, names);
        }
    }
}
