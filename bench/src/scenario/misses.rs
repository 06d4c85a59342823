//! `misses`: how often cachesrv and memcached have not what is asked for, at equal memory.

use super::cache::contestant;
use crate::error::Error;
use crate::harness::result::Report;
use crate::harness::{self, Case, Group, Load, Work};
use crate::load::aside;
use crate::load::trace::Trace;
use crate::peers::{self, MEMCACHED};
use crate::settings::Settings;
use std::path::PathBuf;

/// Requests of a trace: a file may have fewer.
const REQUESTS: u64 = 2_000_000;

pub(crate) fn run(settings: &Settings, files: &[PathBuf], memory_mib: usize) -> Result<Report, Error> {
    let (found, gaps) = peers::find(settings, &[MEMCACHED])?;
    let ours = peers::ours(settings)?;
    let contestants = ours.into_iter().chain(found).map(|found| contestant(found, memory_mib)).collect();
    let made_up = [0.8, 0.9, 1.0, 1.1, 1.2].map(|s| Trace::Zipf { s }).into_iter();
    let mixed = [Trace::Scans { every: 10_000, length: 10_000 }, Trace::Sliding];
    let traces = made_up.chain(mixed).chain(files.iter().cloned().map(Trace::File));
    let cases =
        traces.map(|trace| case(&trace, settings.scaled(REQUESTS), memory_mib)).collect::<Result<_, _>>()?;
    let groups = [Group { name: "", contestants, cases, files: None }];
    harness::run("misses", settings, &groups, gaps)
}

fn case(trace: &Trace, count: u64, memory_mib: usize) -> Result<Case, Error> {
    let name = format!("{}, {memory_mib} MiB", trace.name());
    let requests = trace.requests(count)?;
    let load: Load = Box::new(move |server, settings, rate, counters| {
        aside::run(&settings.spec(server.address, 1, rate), &requests, counters)
    });
    let work = Work::Requests { prepare: None, load, latency: false, ask: None };
    Ok(Case { name, durability: "", work, gaps: Vec::new() })
}
