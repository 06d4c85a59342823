//! Runs alternated in one go, their medians and their result file.

use crate::echo::Runtime;
use crate::load::{self, Shape};
use crate::process::Server;
use serde::Serialize;
use std::fmt::Write;
use std::io;
use std::path::Path;

const SHAPES: [Shape; 3] = [
    Shape { connections: 64, pipelined: 1 },
    Shape { connections: 64, pipelined: 16 },
    Shape { connections: 512, pipelined: 1 },
];

/// One run.
#[derive(Debug, Clone, Serialize)]
struct Row {
    runtime: &'static str,
    connections: usize,
    pipelined: usize,
    requests: u64,
    seconds: f64,
    cpu_us_per_request: f64,
}

/// A scenario's rows with what is needed to judge them.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    scenario: &'static str,
    command: String,
    kernel: String,
    cpu: String,
    commit: String,
    rows: Vec<Row>,
}

/// The `runtime` scenario: in each round every runtime runs once in each shape.
pub(crate) fn runtimes(rounds: usize, seconds: u64) -> io::Result<Report> {
    let mut rows = Vec::new();
    for shape in SHAPES {
        for round in 0..rounds {
            for runtime in Runtime::ALL {
                let server = Server::start(&["echo-server", runtime.name()])?;
                let seen = load::run(server.address, shape, seconds, || server.cpu_time())?;
                let row = Row {
                    runtime: runtime.name(),
                    connections: shape.connections,
                    pipelined: shape.pipelined,
                    requests: seen.requests,
                    seconds: seen.elapsed.as_secs_f64(),
                    cpu_us_per_request: seen.cpu.as_secs_f64() * 1e6 / seen.requests.max(1) as f64,
                };
                println!(
                    "round {} of {rounds}, {} connections × {}: {:<12} {:.3} µs CPU per request, {:.0} requests/s",
                    round + 1,
                    row.connections,
                    row.pipelined,
                    row.runtime,
                    row.cpu_us_per_request,
                    row.requests as f64 / row.seconds
                );
                rows.push(row);
            }
        }
    }
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let commit = std::process::Command::new("git").args(["rev-parse", "HEAD"]).output()?;
    Ok(Report {
        scenario: "runtime",
        command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        cpu: model.trim_start_matches([' ', '\t', ':']).to_owned(),
        commit: String::from_utf8_lossy(&commit.stdout).trim().to_owned(),
        rows,
    })
}

impl Report {
    /// Medians, and each runtime's ratio to ours on io_uring.
    pub(crate) fn table(&self) -> String {
        let mut out = String::from("median µs CPU per request (lowest to highest; ratio to ring)\n");
        for shape in SHAPES {
            let _ = writeln!(out, "{} connections × {}", shape.connections, shape.pipelined);
            let figures = |runtime: Runtime| {
                let rows = self.rows.iter().filter(|row| {
                    row.runtime == runtime.name()
                        && (row.connections, row.pipelined) == (shape.connections, shape.pipelined)
                });
                let mut figures: Vec<f64> = rows.map(|row| row.cpu_us_per_request).collect();
                figures.sort_by(f64::total_cmp);
                figures
            };
            let ring = figures(Runtime::Ring);
            for runtime in Runtime::ALL {
                let figures = figures(runtime);
                let (Some(lowest), Some(highest), median) =
                    (figures.first(), figures.last(), figures.len() / 2)
                else {
                    continue;
                };
                let ratio = figures[median] / ring[median];
                let _ = writeln!(
                    out,
                    "  {:<12} {:.3} ({lowest:.3} to {highest:.3}; {ratio:.2})",
                    runtime.name(),
                    figures[median]
                );
            }
        }
        out
    }

    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        io::Write::write_all(&mut std::fs::File::create(path)?, text.as_bytes())
    }
}
