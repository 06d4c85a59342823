//! `proxy`: ours, nginx and haproxy in front of one same origin, with the same fields added for it.
//!
//! | module | what |
//! |---|---|
//! | [`origin`] | what stands behind them |
//! | [`contestants`] | how each is configured |
//!
//! What always holds: the origin's CPU time is no proxy's; what it used of its CPU is in the row. Where there are CPUs enough
//! it has one of its own, else it shares the load's.

mod contestants;
mod origin;

use crate::error::Error;
use crate::harness::result::{Gap, Report};
use crate::harness::{self, Case, Group, Load, Prepare, Work};
use crate::load::http::{self, Get};
use crate::load::outside::{self, Tool};
use crate::load::stream;
use crate::peers::{self, HAPROXY, NGINX, OURS};
use crate::settings::Settings;
use contestants::contestant;
use origin::{HOST, Origin};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use tls::rustls::ClientConfig;
use tls::rustls::client::Resumption;

pub(crate) fn run(settings: &Settings) -> Result<Report, Error> {
    let (found, mut gaps) = peers::find(settings, &[NGINX, HAPROXY])?;
    gaps.push(Gap {
        case: "answers from the cache".to_owned(),
        contestant: "varnish".to_owned(),
        reason: "our proxy has no cache yet to compare it with".to_owned(),
    });
    let named = found.iter().find(|found| found.peer == NGINX.name).map(|found| found.path.clone());
    let Some(nginx) = named.or_else(|| peers::on_path(NGINX.program)) else {
        gaps.push(Gap {
            case: String::new(),
            contestant: "the origin".to_owned(),
            reason: "it is an nginx, which is not installed; --install-peers installs it".to_owned(),
        });
        return harness::run("proxy", settings, &[], gaps);
    };
    let origin = Rc::new(Origin::start(settings, nginx)?);
    let ours = peers::ours(settings)?;
    let our_names: Vec<String> = ours.iter().map(|found| found.name.clone()).collect();
    let contestants = ours.into_iter().chain(found).map(|found| contestant(found, &origin)).collect();
    let mut cases = cases(settings, &origin);
    for outside in outside_cases(settings, &origin, &our_names)? {
        match outside {
            Ok(case) => cases.push(case),
            Err(gap) => gaps.push(gap),
        }
    }
    let groups = [Group { name: "", contestants, cases, files: None }];
    harness::run("proxy", settings, &groups, gaps)
}

/// How a case's clients ask.
#[derive(Clone, Copy)]
struct Shape {
    body_bytes: usize,
    connections: usize,
    tls: Option<Sessions>,
    new_connections: bool,
}

/// What clients of TLS do with their sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sessions {
    Forgotten,
    Resumed,
}

fn cases(settings: &Settings, origin: &Rc<Origin>) -> Vec<Case> {
    let small = Shape { body_bytes: 100, connections: 64, tls: None, new_connections: false };
    let medium = Shape { body_bytes: 64 << 10, ..small };
    let large = Shape { body_bytes: 1 << 20, connections: 16, ..small };
    let new = Shape { new_connections: true, ..small };
    let encrypted = |shape: Shape, sessions: Sessions| Shape { tls: Some(sessions), ..shape };
    let case = |name: &str, shape: Shape, latency: bool| requests(name, shape, latency, origin);
    vec![
        case("100 B, 64 connections", small, true),
        case("64 KiB, 64 connections", medium, true),
        case("1 MiB, 16 connections", large, false),
        case("100 B, a new connection for each request, 64 at a time", new, false),
        case("100 B over TLS, 64 connections", encrypted(small, Sessions::Forgotten), true),
        case("64 KiB over TLS, 64 connections", encrypted(medium, Sessions::Forgotten), false),
        case(
            "100 B over TLS, a new connection and a full handshake for each request, 64 at a time",
            encrypted(new, Sessions::Forgotten),
            false,
        ),
        case(
            "100 B over TLS, a new connection and a resumed session for each request, 64 at a time",
            encrypted(new, Sessions::Resumed),
            false,
        ),
        Case {
            name: "memory of 10,000 idle connections".to_owned(),
            durability: "",
            work: Work::Idle { count: settings.scaled(10_000) },
            gaps: Vec::new(),
        },
    ]
}

fn requests(name: &str, shape: Shape, latency: bool, origin: &Rc<Origin>) -> Case {
    let load: Load = {
        let origin = origin.clone();
        Box::new(move |server, settings, rate, counters| {
            let clients = |sessions| clients(&origin.certificates.ca_pem, sessions, shape.connections);
            let tls = shape.tls.map(clients).transpose()?;
            let address = if tls.is_some() { server.others[0] } else { server.address };
            let spec = stream::Spec {
                connections: shape.connections,
                tls: tls.map(|clients| (clients, HOST.to_owned())),
                reconnect: shape.new_connections,
                ..settings.spec(address, 1, rate)
            };
            let request: Rc<[u8]> =
                http::get(&format!("/{}", shape.body_bytes), HOST, shape.new_connections).into();
            let client = move |_| Get::new(request.clone(), shape.body_bytes as u64);
            origin.watched(counters, |counters| stream::run(&spec, client, counters))
        })
    };
    let work =
        Work::Requests { prepare: Some(whole_answer(shape.body_bytes, origin)), load, latency, ask: None };
    Case { name: name.to_owned(), durability: "", work, gaps: Vec::new() }
}

/// Asks once and looks at every byte of what comes through.
fn whole_answer(body_bytes: usize, origin: &Rc<Origin>) -> Prepare {
    let origin = origin.clone();
    Box::new(move |server, _| {
        let answer = http::once(server.address, &http::get(&format!("/{body_bytes}"), HOST, true))?;
        origin.check()?;
        let content = origin::content(body_bytes);
        if !answer.starts_with(b"HTTP/1.1 200 ") || !answer.ends_with(&content) {
            let head = String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned();
            return Err(Error::WrongAnswer(format!("other content than the origin's: {head}")));
        }
        Ok(())
    })
}

/// A client for each connection: each resumes sessions of its own, as clients on many machines do.
fn clients(ca: &Path, sessions: Sessions, count: usize) -> Result<Vec<Arc<ClientConfig>>, Error> {
    let config = tls::ClientConfig::from_pem_roots(&[ca], &[b"http/1.1"]);
    let config = config.map_err(|error| Error::Usage(error.to_string()))?;
    let client = || {
        let mut client = (*config).clone();
        client.resumption = match sessions {
            Sessions::Forgotten => Resumption::disabled(),
            Sessions::Resumed => Resumption::in_memory_sessions(1),
        };
        Arc::new(client)
    };
    Ok((0..count).map(|_| client()).collect())
}

/// The cases of others' loads, or the gaps that absent tools leave.
fn outside_cases(
    settings: &Settings,
    origin: &Rc<Origin>,
    ours: &[String],
) -> Result<Vec<Result<Case, Gap>>, Error> {
    let words = |text: String| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let wrk = outside::find(settings, Tool::Wrk)?.map(|tool| {
        tool.case("100 B, 64 connections", "", None, None, move |server| {
            words(format!("-c 64 http://{}/100", server.address))
        })
    });
    let oha = outside::find(settings, Tool::Oha)?.map(|tool| {
        tool.case("100 B, 64 connections", "", None, None, move |server| {
            words(format!("-c 64 http://{}/100", server.address))
        })
    });
    let h2load = outside::find(settings, Tool::H2load)?.map(|tool| {
        let case = tool.case(
            "100 B over HTTP/2 and TLS, 16 connections × 32 streams",
            "",
            None,
            None,
            move |server| words(format!("-c 16 -m 32 https://{}/100", server.others[0])),
        );
        let gap = |name: &String| (name.clone(), format!("{OURS} has no HTTP/2 yet"));
        Case { gaps: ours.iter().map(gap).collect(), ..case }
    });
    let watch = |case: Result<Case, Gap>| case.map(|case| origin.watch(case));
    Ok([wrk, oha, h2load].map(watch).into())
}
