//! Runs a scenario: ours, peer, ours, peer …, each run on a server started for it, and keeps every row.
//!
//! | module | what |
//! |---|---|
//! | [`server`] | a server as pinned child processes: CPU time, memory, end |
//! | [`disk`] | syncs as the disk sees them |
//! | [`machine`] | what it ran on |
//! | [`metrics`] | what a server of ours says of itself |
//! | [`result`] | rows and their file |
//! | [`summary`] | medians, ratios, the table |
//!
//! What always holds: a figure comes from a run in which the server lived and answered rightly from its start to its end;
//! everything else is an error that ends the scenario. Only one contestant runs at a time.

pub(crate) mod disk;
pub(crate) mod machine;
pub(crate) mod metrics;
pub(crate) mod result;
pub(crate) mod server;
pub(crate) mod summary;

use crate::error::Error;
use crate::load::stream::{self, Spec};
use crate::load::{Counters, Pace, Seen, datagrams};
use crate::settings::Settings;
use disk::Disk;
use hdrhistogram::Histogram;
use machine::Machine;
use result::{Described, Gap, Latency, Memory, Report, Row, Saturation};
use server::{Launch, Place, Server};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use summary::{Figure, short};

/// Latency is measured at this share of the slowest contestant's requests per second at full speed.
const LATENCY_LOAD: f64 = 0.7;
/// A CPU that is busy for more than this is full.
const FULL: f64 = 0.95;

/// Contestants that all do the same work in the same state: one configuration each.
pub(crate) struct Group {
    /// What the configurations have in common, for the result; empty when a scenario has one group.
    pub(crate) name: &'static str,
    /// Ours first.
    pub(crate) contestants: Vec<Contestant>,
    pub(crate) cases: Vec<Case>,
    /// Where the servers' files are: a real disk for what is synced; where temporary files go otherwise.
    pub(crate) files: Option<PathBuf>,
}

/// One server that can be started.
pub(crate) struct Contestant {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) start: Box<dyn Fn(Place) -> Result<Started, Error>>,
}

/// A started server, and what it was started with.
pub(crate) struct Started {
    pub(crate) server: Server,
    /// Command lines and configuration files, as they were; where the server's own folder is named, the result has `FOLDER`.
    pub(crate) configuration: String,
}

impl Started {
    /// Starts servers that have a thread for each CPU they may run on, on `every_cpu`, and then has all the threads run on the
    /// place's CPUs.
    pub(crate) fn confined(place: Place, every_cpu: &str, launches: Vec<Launch>) -> Result<Started, Error> {
        let cpus = place.cpus.clone();
        let everywhere = |launch| Launch { cpus: every_cpu.to_owned(), ..launch };
        let launches: Vec<Launch> = launches.into_iter().map(everywhere).collect();
        let lines = launches.iter().map(|launch| format!("{launch}\n")).collect::<String>();
        let server = Server::start(place, &launches)?;
        server.confine(&cpus)?;
        Ok(Started { server, configuration: format!("{lines}then all threads on CPU {cpus}\n") })
    }
}

/// One kind of work.
pub(crate) struct Case {
    pub(crate) name: String,
    /// What is durable when an answer is sent; empty for reads and for what is not kept.
    pub(crate) durability: &'static str,
    pub(crate) work: Work,
    /// Contestants that can't do it, with the reason.
    pub(crate) gaps: Vec<(String, String)>,
}

/// Fills a server before it is measured.
pub(crate) type Prepare = Box<dyn Fn(&Server, &Settings) -> Result<(), Error>>;
/// A load of a server at a pace. The last argument reads the server's counters.
pub(crate) type Load =
    Box<dyn Fn(&Server, &Settings, Option<f64>, &dyn Fn() -> Counters) -> Result<Seen, Error>>;
/// What a scenario asks the server itself after a run at full speed: figures by name.
pub(crate) type Ask = Box<dyn Fn(&Server) -> Result<Vec<(String, f64)>, Error>>;

/// What is measured.
pub(crate) enum Work {
    /// Requests. The load's rate is none for full speed, or requests per second for an open loop.
    Requests { prepare: Option<Prepare>, load: Load, latency: bool, ask: Option<Ask> },
    /// What so many items cost in memory: `fill` stores them.
    Items { count: u64, fill: Prepare },
    /// What so many open connections without a request cost in memory.
    Idle { count: u64 },
}

/// Runs the groups' cases and gives the report. Every row is printed as it comes.
///
/// # Errors
/// The first run that gives no honest figure ends it all.
pub(crate) fn run(
    name: &str,
    settings: &Settings,
    groups: &[Group],
    gaps: Vec<Gap>,
) -> Result<Report, Error> {
    let mut report = Report {
        scenario: name.to_owned(),
        command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
        machine: Machine::this(),
        contestants: Vec::new(),
        rows: Vec::new(),
        gaps,
    };
    let chosen = |case: &Case| settings.cases.as_ref().is_none_or(|part| case.name.contains(part.as_str()));
    let total: usize =
        groups.iter().map(|group| group.cases.iter().filter(|case| chosen(case)).count()).sum();
    if total == 0 && !groups.is_empty() {
        let all: Vec<&str> =
            groups.iter().flat_map(|group| &group.cases).map(|case| case.name.as_str()).collect();
        return Err(Error::Usage(format!(
            "no case of {name} has that in its name; there are: {}",
            all.join(", ")
        )));
    }
    let mut done = 0;
    for group in groups {
        for case in group.cases.iter().filter(|case| chosen(case)) {
            done += 1;
            println!("case {done} of {total}: {}", case.name);
            run_case(settings, group, case, &mut report)?;
        }
    }
    Ok(report)
}

fn run_case(settings: &Settings, group: &Group, case: &Case, report: &mut Report) -> Result<(), Error> {
    let gap = |contestant: &Contestant| case.gaps.iter().find(|(name, _)| *name == contestant.name);
    for (contestant, reason) in &case.gaps {
        let gap = Gap { case: case.name.clone(), contestant: contestant.clone(), reason: reason.clone() };
        println!("  gap: {contestant}: {reason}");
        report.gaps.push(gap);
    }
    let runners: Vec<&Contestant> =
        group.contestants.iter().filter(|contestant| gap(contestant).is_none()).collect();
    let first = report.rows.len();
    for pair in 0..settings.pairs {
        for contestant in &runners {
            let row = Row {
                case: case.name.clone(),
                contestant: contestant.name.clone(),
                pair,
                durability: case.durability.to_owned(),
                ..Row::default()
            };
            let row = run_once(settings, group, case, contestant, row, None, report)?;
            println!("  pair {} of {}: {:<20} {}", pair + 1, settings.pairs, contestant.name, line(&row));
            report.rows.push(row);
        }
    }
    if !matches!(case.work, Work::Requests { latency: true, .. }) {
        return Ok(());
    }
    let slowest = runners.iter().filter_map(|contestant| {
        let rows = report.rows[first..].iter().filter(|row| row.contestant == contestant.name);
        Figure::of(rows.filter_map(|row| Some(row.saturation.as_ref()?.requests_per_second)))
    });
    let rate = slowest.map(|figure| figure.median).fold(f64::INFINITY, f64::min) * LATENCY_LOAD;
    println!(
        "  latencies at {} requests/s, {:.0} % of the slowest one's full speed",
        short(rate),
        LATENCY_LOAD * 100.0
    );
    for pair in 0..settings.pairs {
        for contestant in &runners {
            let at = report.rows[first..]
                .iter()
                .position(|row| row.contestant == contestant.name && row.pair == pair);
            let at = first + at.expect("every pair has its row");
            let row = report.rows[at].clone();
            let row = run_once(settings, group, case, contestant, row, Some(rate), report)?;
            println!("  pair {} of {}: {:<20} {}", pair + 1, settings.pairs, contestant.name, line(&row));
            report.rows[at] = row;
        }
    }
    Ok(())
}

/// Starts the contestant, runs the case once at `rate` or at full speed, and puts what was seen into `row`.
fn run_once(
    settings: &Settings,
    group: &Group,
    case: &Case,
    contestant: &Contestant,
    mut row: Row,
    rate: Option<f64>,
    report: &mut Report,
) -> Result<Row, Error> {
    let place = Place::new(group.files.as_deref(), settings.threads)?;
    let disk = Disk::under(place.path()).filter(|_| !case.durability.is_empty());
    let Started { mut server, configuration } = (contestant.start)(place)?;
    let configuration = configuration.replace(&server.folder().display().to_string(), "FOLDER");
    keep_description(group, contestant, configuration, report);
    let counters = || Counters {
        server_cpu: server.cpu_time(),
        load_core_busy: machine::busy_time(settings.load_cpu),
        flushes: disk.as_ref().map(Disk::flushes).unwrap_or_default(),
    };
    let result = match &case.work {
        Work::Requests { prepare, load, ask, .. } => (|| {
            if let Some(prepare) = prepare {
                prepare(&server, settings)?;
            }
            let seen = load(&server, settings, rate, &counters)?;
            match rate {
                Some(rate) => row.latency = Some(latency(rate, &seen)),
                None => {
                    let mut saturation =
                        saturation(&seen, settings.threads, server.rss_bytes(), disk.is_some());
                    if let Some(ask) = ask {
                        saturation.others.extend(ask(&server)?);
                    }
                    row.saturation = Some(saturation);
                }
            }
            Ok(())
        })(),
        Work::Items { count, fill } => (|| {
            settle(&server);
            let before = server.rss_bytes();
            fill(&server, settings)?;
            settle(&server);
            row.memory = Some(memory("item", *count, before, server.rss_bytes()));
            Ok(())
        })(),
        Work::Idle { count } => (|| {
            settle(&server);
            let before = server.rss_bytes();
            let spec = settings.spec(server.address, 0, None);
            let after = stream::with_idle(&spec, usize::try_from(*count).expect("fits"), || {
                settle(&server);
                server.rss_bytes()
            })?;
            row.memory = Some(memory("idle connection", *count, before, after));
            Ok(())
        })(),
    };
    // A server that died explains every other error.
    server.check(&format!("`{}`", case.name))?;
    result.map_err(|error| match error {
        Error::WrongAnswer(what) => {
            Error::WrongAnswer(format!("{}, `{}`: {what}", contestant.name, case.name))
        }
        other => other,
    })?;
    Ok(row)
}

fn keep_description(group: &Group, contestant: &Contestant, configuration: String, report: &mut Report) {
    let known = |described: &Described| described.name == contestant.name && described.group == group.name;
    if report.contestants.iter().any(known) {
        return;
    }
    println!("  {} is {}, run as\n{}", contestant.name, contestant.version, indent(&configuration));
    report.contestants.push(Described {
        name: contestant.name.clone(),
        version: contestant.version.clone(),
        configuration,
        group: group.name.to_owned(),
    });
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("    | {line}")).collect::<Vec<_>>().join("\n")
}

/// Waits until the server's memory no longer changes, two seconds at most.
fn settle(server: &Server) {
    let begun = Instant::now();
    let mut before = 0;
    while begun.elapsed() < Duration::from_secs(2) {
        let now = server.rss_bytes();
        if now == before {
            return;
        }
        before = now;
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn saturation(seen: &Seen, threads: usize, rss_bytes: u64, syncs: bool) -> Saturation {
    let seconds = seen.elapsed.as_secs_f64();
    let [server_cpus, load_cpus, load_core_busy] =
        [seen.counted.server_cpu, seen.load_cpu, seen.counted.load_core_busy]
            .map(|time| time.as_secs_f64() / seconds);
    Saturation {
        requests: seen.tally.answers,
        seconds,
        requests_per_second: seen.tally.answers as f64 / seconds,
        cpu_us_per_request: seen.counted.server_cpu.as_secs_f64() * 1e6 / seen.tally.answers as f64,
        server_cpus,
        load_cpus,
        load_core_busy,
        load_was_the_limit: load_cpus.max(load_core_busy) > FULL && server_cpus < FULL * threads as f64,
        misses: seen.tally.misses,
        refused: seen.tally.refused,
        lost: seen.tally.lost,
        bytes_received: seen.tally.bytes,
        rss_bytes,
        syncs_per_second: syncs.then(|| seen.counted.flushes as f64 / seconds),
        others: seen.others.clone(),
    }
}

fn latency(rate: f64, seen: &Seen) -> Latency {
    let us = |histogram: &Histogram<u64>, quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
    let (p99_us, late_p99_us) = (us(&seen.latency, 0.99), us(&seen.lateness, 0.99));
    let answered = seen.tally.answers as f64 / seen.elapsed.as_secs_f64();
    Latency {
        requests_per_second: rate,
        answers: seen.tally.answers,
        lost: seen.tally.lost,
        p50_us: us(&seen.latency, 0.5),
        p99_us,
        p999_us: us(&seen.latency, 0.999),
        max_us: us(&seen.latency, 1.0),
        late_p99_us,
        suspect: late_p99_us > p99_us / 10.0 || answered < rate * 0.98,
    }
}

fn memory(of: &str, count: u64, before: u64, after: u64) -> Memory {
    Memory {
        of: of.to_owned(),
        count,
        rss_before_bytes: before,
        rss_after_bytes: after,
        bytes_each: after.saturating_sub(before) as f64 / count as f64,
    }
}

/// A row on the terminal.
fn line(row: &Row) -> String {
    if let Some(seen) = &row.latency {
        let suspect = if seen.suspect { ", the load was late or the server fell behind" } else { "" };
        let lost = lost(seen.lost);
        return format!(
            "p50 {} p99 {} p99.9 {} µs{suspect}{lost}",
            short(seen.p50_us),
            short(seen.p99_us),
            short(seen.p999_us)
        );
    }
    if let Some(seen) = &row.saturation {
        let syncs =
            seen.syncs_per_second.map(|syncs| format!(", {} syncs/s", short(syncs))).unwrap_or_default();
        let limit = if seen.load_was_the_limit { ", the load was the limit" } else { "" };
        let misses = seen.miss_percent().map(|share| format!(", {share:.2} % misses")).unwrap_or_default();
        let refused = if seen.refused > 0 { format!(", {} refused", seen.refused) } else { String::new() };
        let lost = lost(seen.lost);
        let others = seen.others.iter().map(|(name, value)| format!(", {name} {}", short(*value)));
        let others = others.collect::<String>();
        return format!(
            "{} µs CPU per request, {} requests/s, server {:.0} % of a CPU, load {:.0} %{syncs}{misses}{limit}{refused}{lost}{others}",
            short(seen.cpu_us_per_request),
            short(seen.requests_per_second),
            seen.server_cpus * 100.0,
            seen.load_cpus * 100.0,
        );
    }
    row.memory
        .as_ref()
        .map(|seen| format!("{} bytes per {}", short(seen.bytes_each), seen.of))
        .unwrap_or_default()
}

fn lost(count: u64) -> String {
    if count > 0 { format!(", {count} lost") } else { String::new() }
}

impl Settings {
    /// A load of `address` with the settings' times: at `rate`, or at full speed with so many in flight.
    pub(crate) fn spec(&self, address: std::net::SocketAddr, in_flight: usize, rate: Option<f64>) -> Spec {
        Spec {
            address,
            others: Vec::new(),
            connections: 64,
            pace: match rate {
                Some(requests_per_second) => Pace::Rate { requests_per_second },
                None => Pace::Saturate { in_flight },
            },
            warm_up: self.warm_up,
            duration: self.duration,
            cpu: self.load_cpu,
            tls: None,
            reconnect: false,
        }
    }

    /// The same over datagrams, from one socket.
    pub(crate) fn datagrams(
        &self,
        address: std::net::SocketAddr,
        in_flight: usize,
        rate: Option<f64>,
    ) -> datagrams::Spec {
        let Spec { pace, warm_up, duration, cpu, .. } = self.spec(address, in_flight, rate);
        datagrams::Spec { address, sockets: 1, pace, warm_up, duration, cpu }
    }
}
