//! Load by others' tools, so that nobody need trust ours: each runs on the load's CPU against the same servers, and its own
//! words are read.
//!
//! What always holds: requests and their rate are what the tool reports; the server's CPU time is the kernel's, over the
//! tool's whole run, connecting included; a tool that fails or whose words can't be read ends the run with what it said.

use super::{Counters, Seen, Tally};
use crate::error::Error;
use crate::harness::result::Gap;
use crate::harness::server::Server;
use crate::harness::{Ask, Case, Load, Prepare, Work};
use crate::peers::{self, Peer};
use crate::settings::Settings;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Requests of the run that tells how many a run of the asked length takes, for a tool that wants their number.
const TRIAL_REQUESTS: u64 = 20_000;
/// What a tool may take beyond the length it was given, in seconds.
const PATIENCE_SECONDS: u64 = 30;
/// How much of what a failed tool said is shown, in lines.
const TAIL_LINES: usize = 8;

/// The tools whose words we read. Flags of length and threads are given here, the rest by the scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    /// HTTP/1.1, closed loop.
    Wrk,
    /// HTTP/1.1 and HTTP/2.
    Oha,
    /// HTTP/2 and HTTP/1.1, from nghttp2.
    H2load,
    /// DNS over UDP.
    Dnsperf,
    /// RESP.
    RedisBenchmark,
}

/// What a tool reports.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Reported {
    /// Requests that were answered; 0 when the tool says only how many there were a second.
    requests: u64,
    requests_per_second: f64,
    /// Of the requests, those that were not answered well.
    failed: u64,
}

impl Tool {
    fn peer(self) -> Peer {
        let (name, package, version): (_, _, &[&str]) = match self {
            Tool::Wrk => ("wrk", "wrk", &["-v"]),
            Tool::Oha => ("oha", "oha", &["--version"]),
            Tool::H2load => ("h2load", "nghttp2-client", &["--version"]),
            Tool::Dnsperf => ("dnsperf", "dnsperf", &["-h"]),
            Tool::RedisBenchmark => ("redis-benchmark", "redis-tools", &["--version"]),
        };
        Peer { name, program: name, package, version }
    }

    /// Whether a run's length is a number of requests.
    fn counts_requests(self) -> bool {
        self == Tool::RedisBenchmark
    }

    /// One thread, a report that can be read, and the length: whole seconds, or a number of requests.
    fn arguments(self, length: u64) -> Vec<String> {
        let words = match self {
            Tool::Wrk => format!("-t 1 -d {length}s"),
            Tool::Oha => format!("--no-tui -z {length}s"),
            Tool::H2load => format!("-t 1 -D {length}"),
            Tool::Dnsperf => format!("-T 1 -l {length}"),
            Tool::RedisBenchmark => format!("--csv -n {length}"),
        };
        words.split(' ').map(str::to_owned).collect()
    }

    /// None when these are not the words of a run that came to its end.
    fn read(self, said: &str) -> Option<Reported> {
        // The number after a label, or before it.
        let after = |label: &str| number(said.split_once(label)?.1.split_whitespace().next()?);
        let before = |label: &str| number(said.split_once(label)?.0.split_whitespace().next_back()?);
        Some(match self {
            Tool::Wrk => {
                let errors = said.lines().find_map(|line| line.trim().strip_prefix("Socket errors:"));
                let errors = errors.unwrap_or_default().split(',');
                let errors = errors.filter_map(|error| number(error.split_whitespace().next_back()?));
                let refused = after("Non-2xx or 3xx responses:").unwrap_or_default();
                Reported {
                    requests: before(" requests in ")? as u64,
                    requests_per_second: after("Requests/sec:")?,
                    failed: (errors.sum::<f64>() + refused) as u64,
                }
            }
            Tool::Oha => {
                let statuses = said.lines().filter_map(|line| {
                    let (status, count) = line.trim().strip_prefix('[')?.split_once("] ")?;
                    Some((status, number(count.strip_suffix(" responses")?)? as u64))
                });
                let statuses: Vec<(&str, u64)> = statuses.collect();
                let bad = statuses.iter().filter(|(status, _)| !status.starts_with(['2', '3']));
                Reported {
                    requests: statuses.iter().map(|(_, count)| count).sum(),
                    requests_per_second: after("Requests/sec:")?,
                    failed: bad.map(|(_, count)| count).sum(),
                }
            }
            Tool::H2load => Reported {
                requests: before(" done,")? as u64,
                requests_per_second: before(" req/s")?,
                failed: (before(" failed,")? + before(" 4xx")? + before(" 5xx")?) as u64,
            },
            Tool::Dnsperf => {
                let completed = after("Queries completed:")? as u64;
                let codes = said.lines().find_map(|line| line.trim().strip_prefix("Response codes:"));
                let codes = codes.unwrap_or_default().split(',').map(str::trim);
                let bad = codes.filter(|code| !code.starts_with("NOERROR") && !code.starts_with("NXDOMAIN"));
                let bad = bad.filter_map(|code| number(code.split_whitespace().nth(1)?)).sum::<f64>();
                Reported {
                    requests: completed,
                    requests_per_second: after("Queries per second:")?,
                    failed: (bad + after("Queries lost:")?) as u64,
                }
            }
            Tool::RedisBenchmark => {
                // Nothing of a line that an error broke off.
                let row = said.lines().rfind(|line| line.starts_with('"') && !line.contains("\"rps\""))?;
                let rate = number(row.split(',').nth(1)?.trim_matches('"'))?;
                Reported { requests: 0, requests_per_second: rate, failed: 0 }
            }
        })
    }
}

fn number(text: &str) -> Option<f64> {
    text.trim_end_matches([',', '%', 's']).parse().ok()
}

/// A tool that is there.
#[derive(Debug, Clone)]
pub(crate) struct Outside {
    tool: Tool,
    path: PathBuf,
    /// Its name and version, for a case's name.
    pub(crate) name: String,
}

/// The tool, or the gap that its absence leaves. `--install-peers` installs it too, where Debian has it.
///
/// # Errors
/// When it names no version.
pub(crate) fn find(settings: &Settings, tool: Tool) -> Result<Result<Outside, Gap>, Error> {
    let peer = tool.peer();
    let mut path = peers::on_path(peer.program);
    let mut reason = "not installed; --install-peers installs it".to_owned();
    if path.is_none() && settings.install_peers {
        // Not every tool is in Debian.
        match peers::install(peer.package) {
            Ok(()) => path = peers::on_path(peer.program),
            Err(error) => reason = error.to_string(),
        }
    }
    let Some(path) = path else {
        let case = format!("load by {}", peer.name);
        return Ok(Err(Gap { case, contestant: peer.name.to_owned(), reason }));
    };
    let name = format!("{} {}", peer.name, peers::version(&path, peer.version)?);
    Ok(Ok(Outside { tool, path, name }))
}

impl Outside {
    /// A case whose load is the tool's. `arguments` says what it asks of which server; how long, on how many threads and on
    /// which CPU is added. The case's name gets the tool's behind it.
    pub(crate) fn case(
        &self,
        name: &str,
        durability: &'static str,
        prepare: Option<Prepare>,
        ask: Option<Ask>,
        arguments: impl Fn(&Server) -> Vec<String> + 'static,
    ) -> Case {
        let outside = self.clone();
        let load: Load = Box::new(move |server, settings, _, counters| {
            outside.run(&arguments(server), settings, counters)
        });
        Case {
            name: format!("{name}, by {}", self.name),
            durability,
            work: Work::Requests { prepare, load, latency: false, ask },
            gaps: Vec::new(),
        }
    }

    fn run(
        &self,
        arguments: &[String],
        settings: &Settings,
        counters: &dyn Fn() -> Counters,
    ) -> Result<Seen, Error> {
        let seconds = settings.duration.as_secs_f64();
        let length = if self.tool.counts_requests() {
            let trial = self.once(settings.scaled(TRIAL_REQUESTS), arguments, settings)?;
            (trial.requests_per_second * seconds).max(1.0) as u64
        } else {
            seconds.ceil() as u64
        };
        let (before, load_before) = (counters(), ended_children_cpu_time());
        let reported = self.once(length, arguments, settings)?;
        let (after, load_after) = (counters(), ended_children_cpu_time());
        let answers = if self.tool.counts_requests() { length } else { reported.requests };
        if answers == 0 || reported.requests_per_second <= 0.0 {
            return Err(Error::WrongAnswer(format!("{} counted none at all", self.name)));
        }
        Ok(Seen::saturated(
            Tally { answers, refused: reported.failed, ..Tally::default() },
            Duration::from_secs_f64(answers as f64 / reported.requests_per_second),
            after.since(before),
            load_after.saturating_sub(load_before),
        ))
    }

    fn once(&self, length: u64, arguments: &[String], settings: &Settings) -> Result<Reported, Error> {
        let patience = PATIENCE_SECONDS + 3 * settings.duration.as_secs();
        let output = Command::new("taskset")
            .args(["-c", &settings.load_cpu.to_string(), "timeout", &patience.to_string()])
            .arg(&self.path)
            .args(self.tool.arguments(length))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .map_err(Error::io(format!("starting {} by taskset", self.name)))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let reported = self.tool.read(&said).filter(|_| output.status.success());
        reported.ok_or_else(|| {
            let all = format!("{said}\n{}", String::from_utf8_lossy(&output.stderr));
            let lines: Vec<&str> = all.lines().filter(|line| !line.trim().is_empty()).collect();
            let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n    ");
            Error::Usage(format!("{} ended with {}; its last lines:\n    {tail}", self.name, output.status))
        })
    }
}

/// User and system time of all children that have ended (proc_pid_stat(5): fields 16 and 17, in ticks of 10 ms).
fn ended_children_cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let fields = after_name.split_whitespace().skip(13).take(2);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(requests: u64, requests_per_second: f64, failed: u64) -> Option<Reported> {
        Some(Reported { requests, requests_per_second, failed })
    }

    #[test]
    fn what_wrk_says() {
        let said = "Running 4s test @ http://127.0.0.1:8080/\n  1 threads and 64 connections\n  Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency     1.02ms  100.00us   5.01ms   90.00%\n    Req/Sec    61.73k     1.20k   63.00k    80.00%\n  246912 requests in 4.00s, 30.12MB read\n  Socket errors: connect 0, read 2, write 0, timeout 1\n  Non-2xx or 3xx responses: 12\nRequests/sec:  61728.00\nTransfer/sec:      7.53MB\n";
        assert_eq!(Tool::Wrk.read(said), reported(246_912, 61_728.0, 15));
        assert_eq!(Tool::Wrk.read("unable to connect to 127.0.0.1:8080 Connection refused\n"), None);
    }

    #[test]
    fn what_oha_says() {
        let said = "Summary:\n  Success rate:\t100.00%\n  Total:\t4.0012 secs\n  Slowest:\t0.0051 secs\n  Requests/sec:\t50123.4567\n\nStatus code distribution:\n  [200] 200500 responses\n  [503] 20 responses\n\nError distribution:\n  [64] aborted due to deadline\n";
        assert_eq!(Tool::Oha.read(said), reported(200_520, 50_123.456_7, 20));
    }

    #[test]
    fn what_h2load_says() {
        let said = "finished in 4.00s, 123456.00 req/s, 12.34MB/s\nrequests: 493824 total, 493856 started, 493824 done, 493820 succeeded, 4 failed, 0 errored, 0 timeout\nstatus codes: 493819 2xx, 0 3xx, 1 4xx, 0 5xx\n";
        assert_eq!(Tool::H2load.read(said), reported(493_824, 123_456.0, 5));
    }

    #[test]
    fn what_dnsperf_says() {
        let said = "Statistics:\n\n  Queries sent:         400010\n  Queries completed:    400000 (100.00%)\n  Queries lost:         10 (0.00%)\n\n  Response codes:       NOERROR 399990 (100.00%), SERVFAIL 10 (0.00%)\n  Average packet size:  request 33, response 49\n  Run time (s):         4.000051\n  Queries per second:   99998.725000\n";
        assert_eq!(Tool::Dnsperf.read(said), reported(400_000, 99_998.725, 20));
    }

    #[test]
    fn what_redis_benchmark_says() {
        let said = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\"p99_latency_ms\",\"max_latency_ms\"\n\"GET\",\"180505.41\",\"0.258\",\"0.096\",\"0.255\",\"0.327\",\"0.399\",\"0.767\"\n";
        assert_eq!(Tool::RedisBenchmark.read(said), reported(0, 180_505.41, 0));
        assert_eq!(
            Tool::RedisBenchmark.read("Could not connect to Redis at 127.0.0.1:1: Connection refused\n"),
            None
        );
    }
}
