//! `site`: the whole stack of `millrace up`, asked through its proxy. There is no other whole site that does the same, so
//! these figures stand alone: they are to be held against earlier ones.

use crate::error::Error;
use crate::harness::disk::target_folder;
use crate::harness::result::{Gap, Report};
use crate::harness::server::Server;
use crate::harness::{self, Case, Contestant, Group, Load, Prepare, Started, Work};
use crate::load::site::{HOST, Visit, Visitor};
use crate::load::stream;
use crate::load::{Client, Counters, Tally, http};
use crate::peers::{self, Found};
use crate::settings::Settings;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// The site's ports (docs/ARCHITECTURE.md), which `--offset` moves.
const HTTP: u16 = 8080;
const HTTPS: u16 = 8443;
const DASHBOARD: u16 = 8900;
const PORTS: [u16; 20] = [
    HTTP, HTTPS, DASHBOARD, 8053, 8901, 8902, 8903, 8904, 8905, 8906, 8907, 8908, 9101, 9102, 11211, 7001,
    7002, 7003, 9092, 19092,
];
/// Offsets that are looked at: below the ports that the kernel gives to clients.
const OFFSETS: [u16; 12] = [10_000, 11_000, 12_000, 13_000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000];
/// How long the site may take until all of it is ready.
const READY: Duration = Duration::from_secs(30);
/// Sessions that the visitors who are logged in share.
const SESSIONS: u64 = 100;
/// What is on disk when a log-in or a change is answered.
const SYNCED: &str = "every write of the database on disk";

pub(crate) fn run(settings: &Settings) -> Result<Report, Error> {
    let (_, mut gaps) = peers::find(settings, &[])?;
    gaps.push(Gap {
        case: String::new(),
        contestant: "a peer".to_owned(),
        reason: "no other whole site does the same; the figures stand alone".to_owned(),
    });
    let contestants = peers::ours(settings)?.into_iter().map(contestant).collect();
    let look = Shape { visit: Visit::Look, connections: 64, tls: false };
    let cases = vec![
        case("GET /users/N, 64 connections", look, "", true),
        case("GET /users/N over TLS, 64 connections", Shape { tls: true, ..look }, "", true),
        case(
            "GET /me of one who is logged in, 64 connections",
            Shape { visit: Visit::Stay, ..look },
            "",
            false,
        ),
        case("PATCH /users/N, 64 connections", Shape { visit: Visit::Change, ..look }, SYNCED, false),
        case(
            "POST /login and GET /me in turn, 16 connections",
            Shape { visit: Visit::ComeAndGo, connections: 16, ..look },
            SYNCED,
            false,
        ),
    ];
    let groups = [Group { name: "", contestants, cases, files: Some(target_folder()) }];
    harness::run("site", settings, &groups, gaps)
}

fn contestant(found: Found) -> Contestant {
    found.contestant(|found, place| {
        let offset = free_offset()?;
        let data = place.path().join("data").display().to_string();
        let arguments = ["up", "--data", &data, "--offset", &offset.to_string()];
        let launch = found.launch(&place, arguments, at(HTTP, offset));
        let configuration = launch.to_string();
        let mut server = Server::start(place, &[launch])?;
        server.others.push(at(HTTPS, offset));
        wait_until_ready(at(DASHBOARD, offset), &mut server)?;
        Ok(Started { configuration, server })
    })
}

fn at(port: u16, offset: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port + offset).into()
}

/// An offset at which nobody has a port of the site just now.
fn free_offset() -> Result<u16, Error> {
    let is_free = |offset: &u16| PORTS.iter().all(|port| TcpListener::bind(at(*port, *offset)).is_ok());
    OFFSETS
        .into_iter()
        .find(is_free)
        .ok_or_else(|| Error::Usage("every offset that a site could have is taken".to_owned()))
}

/// Until the dashboard says that every process is ready.
fn wait_until_ready(dashboard: SocketAddr, server: &mut Server) -> Result<(), Error> {
    let begun = Instant::now();
    loop {
        server.check("its start")?;
        let answer = http::once(dashboard, &http::get("/readyz", HOST, true));
        if answer.is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200 ")) {
            return Ok(());
        }
        if begun.elapsed() > READY {
            return Err(Error::Usage(format!(
                "{dashboard} did not say within {} s that all is ready",
                READY.as_secs()
            )));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[derive(Clone, Copy)]
struct Shape {
    visit: Visit,
    connections: usize,
    tls: bool,
}

fn case(name: &str, shape: Shape, durability: &'static str, latency: bool) -> Case {
    let load: Load = Box::new(move |server, settings, rate, counters| {
        let tls = shape.tls.then(|| {
            let ca = server.folder().join("data/tls/ca.pem");
            let config = tls::ClientConfig::from_pem_roots(&[&ca], &[b"http/1.1"]);
            Ok((vec![config.map_err(|error| Error::Usage(error.to_string()))?], HOST.to_owned()))
        });
        let connections = match shape.visit {
            // An unoptimized build takes most of a second for a password.
            Visit::ComeAndGo if settings.small => 2,
            _ => shape.connections,
        };
        let spec = stream::Spec {
            connections,
            tls: tls.transpose()?,
            ..settings.spec(if shape.tls { server.others[0] } else { server.address }, 1, rate)
        };
        let sessions = match shape.visit {
            Visit::Stay => log_in(server, settings.scaled(SESSIONS))?,
            _ => Vec::new(),
        };
        let visitor = move |number: usize| {
            let session = sessions.get(number % sessions.len().max(1)).cloned();
            Visitor::new(shape.visit, number as u64, session)
        };
        // The counters are read when the counted part of the run begins and when it ends.
        let used: RefCell<Vec<BTreeMap<String, Duration>>> = RefCell::default();
        let counters = || -> Counters {
            used.borrow_mut().push(server.cpu_time_by_command());
            counters()
        };
        let mut seen = stream::run(&spec, visitor, counters)?;
        http::few_refusals(&seen.tally)?;
        if let [before, .., after] = &used.borrow()[..] {
            seen.others.extend(shares(before, after));
        }
        Ok(seen)
    });
    let work = Work::Requests { prepare: Some(whole_answer()), load, latency, ask: None };
    Case { name: name.to_owned(), durability, work, gaps: Vec::new() }
}

/// The sessions of the first users.
fn log_in(server: &Server, count: u64) -> Result<Vec<Vec<u8>>, Error> {
    let session = |user: u64| {
        let (mut visitor, mut request) = (Visitor::new(Visit::Stay, user, None), Vec::new());
        visitor.request(&mut request);
        // The site is to close the connection behind its answer.
        let end = request.windows(2).position(|two| two == b"\r\n").expect("a request line") + 2;
        request.splice(end..end, *b"Connection: close\r\n");
        let answer = http::once(server.address, &request)?;
        visitor.receive(&answer, &mut Tally::default()).map_err(Error::WrongAnswer)?;
        let wrong = || Error::WrongAnswer(format!("no log-in: {}", String::from_utf8_lossy(&answer)));
        visitor.session().ok_or_else(wrong)
    };
    (0..count).map(session).collect()
}

/// Each daemon's part of the CPU time used in between, in percent.
fn shares(before: &BTreeMap<String, Duration>, after: &BTreeMap<String, Duration>) -> Vec<(String, f64)> {
    let used = |name: &String| after[name].saturating_sub(before.get(name).copied().unwrap_or_default());
    let all = after.keys().map(used).sum::<Duration>().as_secs_f64();
    let percent = |name: &String| (format!("CPU of {name}, %"), used(name).as_secs_f64() * 100.0 / all);
    after.keys().filter(|name| !used(name).is_zero()).map(percent).collect()
}

/// Asks for one user and looks at what comes.
fn whole_answer() -> Prepare {
    Box::new(|server, _| {
        let answer = http::once(server.address, &http::get("/users/12", HOST, true))?;
        let text = String::from_utf8_lossy(&answer);
        if text.starts_with("HTTP/1.1 200 ") && text.contains("\r\n\r\n{\"id\":12,") {
            return Ok(());
        }
        Err(Error::WrongAnswer(format!("not user 12: {}", text.lines().next().unwrap_or_default())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_what_was_used_in_between() {
        let times = |proxy, web| {
            let times = [("proxy".to_owned(), proxy), ("web".to_owned(), web)];
            BTreeMap::from(times.map(|(name, seconds)| (name, Duration::from_secs(seconds))))
        };
        let shares = shares(&times(5, 1), &times(6, 4));
        assert_eq!(shares.iter().map(|(_, share)| *share).collect::<Vec<_>>(), [25.0, 75.0]);
    }
}
