//! `runtime`: the same small answer to the same small request on each runtime: what our facade costs.

use super::echo::{self, Runtime, Transport};
use crate::error::Error;
use crate::harness::result::Report;
use crate::harness::server::{Launch, Place, Server, free_addresses};
use crate::harness::{self, Case, Contestant, Group, Load, Started, Work};
use crate::load::datagrams::{self, Answer, DatagramClient, Found};
use crate::load::{Client, Tally, stream};
use crate::settings::Settings;

/// Sockets of a closed loop over UDP, and the requests that each has under way.
const SOCKETS: usize = 4;
const UNDER_WAY: usize = 32;
/// Sockets of an open loop: in more of them more answers find room while the load is busy.
const SOCKETS_OPEN: usize = 16;

pub(crate) fn run(settings: &Settings) -> Result<Report, Error> {
    let asked = settings.peers.as_deref();
    let names = || Runtime::of(Transport::Udp).map(Runtime::name);
    if let Some(unknown) = asked.iter().copied().flatten().find(|asked| !names().any(|name| name == *asked)) {
        let names = names().collect::<Vec<_>>().join(", ");
        return Err(Error::Usage(format!("no runtime `{unknown}`; there are: {names}")));
    }
    let is_asked = |runtime: &Runtime| {
        *runtime == Runtime::Ring || asked.is_none_or(|asked| asked.iter().any(|name| name == runtime.name()))
    };
    let group = |transport: Transport, cases| Group {
        name: transport.name(),
        contestants: Runtime::of(transport)
            .filter(is_asked)
            .map(|runtime| contestant(runtime, transport))
            .collect(),
        cases,
        files: None,
    };
    let streams =
        [(64, 1), (64, 16), (512, 1)].map(|(connections, in_flight)| in_streams(connections, in_flight));
    let groups = [group(Transport::Tcp, streams.into()), group(Transport::Udp, vec![in_datagrams()])];
    harness::run("runtime", settings, &groups, Vec::new())
}

fn contestant(runtime: Runtime, transport: Transport) -> Contestant {
    let start = move |place: Place| {
        let address = free_addresses(1)?[0];
        let arguments = ["echo-server", runtime.name(), transport.name(), &address.to_string()];
        let launch = Launch {
            name: runtime.name().to_owned(),
            program: std::env::current_exe().map_err(Error::io("finding this program"))?,
            arguments: arguments.map(str::to_owned).to_vec(),
            cpus: place.cpus.clone(),
            ready: address,
        };
        Ok(Started { configuration: launch.to_string(), server: Server::start(place, &[launch])? })
    };
    let version = runtime.version().to_owned();
    Contestant { name: runtime.name().to_owned(), version, start: Box::new(start) }
}

fn in_streams(connections: usize, in_flight: usize) -> Case {
    let load: Load = Box::new(move |server, settings, rate, counters| {
        let spec = stream::Spec { connections, ..settings.spec(server.address, in_flight, rate) };
        stream::run(&spec, |_| Echo::default(), counters)
    });
    Case {
        name: format!("8-byte request, 53-byte answer, {connections} connections × {in_flight} in flight"),
        durability: "",
        work: Work::Requests { prepare: None, load, latency: in_flight == 1, ask: None },
        gaps: Vec::new(),
    }
}

fn in_datagrams() -> Case {
    let load: Load = Box::new(move |server, settings, rate, counters| {
        let sockets = if rate.is_some() { SOCKETS_OPEN } else { SOCKETS };
        let spec = datagrams::Spec { sockets, ..settings.datagrams(server.address, UNDER_WAY, rate) };
        datagrams::run(&spec, |_| Numbered, counters)
    });
    Case {
        name: format!("8-byte request, 53-byte answer over UDP, {} under way", SOCKETS * UNDER_WAY),
        durability: "",
        work: Work::Requests { prepare: None, load, latency: true, ask: None },
        gaps: Vec::new(),
    }
}

/// The client of streams: answers are counted by their length.
#[derive(Default)]
struct Echo {
    partial: usize,
}

impl Client for Echo {
    fn request(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(echo::REQUEST);
    }

    fn receive(&mut self, bytes: &[u8], tally: &mut Tally) -> Result<(), String> {
        let total = self.partial + bytes.len();
        tally.answers += (total / echo::ANSWER.len()) as u64;
        self.partial = total % echo::ANSWER.len();
        Ok(())
    }
}

/// The client of datagrams: every answer is looked at whole.
struct Numbered;

impl DatagramClient for Numbered {
    fn request(&mut self, number: u16, out: &mut Vec<u8>) -> u32 {
        out.extend_from_slice(&number.to_be_bytes());
        out.extend_from_slice(&echo::REQUEST[2..]);
        0
    }

    fn answer(&self, bytes: &[u8]) -> Result<Answer, String> {
        match bytes.split_first_chunk() {
            Some((number, rest)) if rest == &echo::ANSWER[2..] => {
                Ok(Answer { number: u16::from_be_bytes(*number), found: Found::Right(0) })
            }
            _ => Err(format!("{bytes:02x?}")),
        }
    }
}
