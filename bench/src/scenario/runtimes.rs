//! `runtime`: the same small answer to the same small request on each runtime: what our facade costs.

use super::echo::{self, Runtime};
use crate::error::Error;
use crate::harness::result::Report;
use crate::harness::server::{Launch, Place, Server, free_addresses};
use crate::harness::{self, Case, Contestant, Group, Load, Started, Work};
use crate::load::{Client, Tally, stream};
use crate::settings::Settings;

pub(crate) fn run(settings: &Settings) -> Result<Report, Error> {
    let cases = [(64, 1), (64, 16), (512, 1)].map(|(connections, in_flight)| case(connections, in_flight));
    let contestants = Runtime::ALL.map(contestant).into();
    let groups = [Group { name: "", contestants, cases: cases.into(), files: None }];
    harness::run("runtime", settings, &groups, Vec::new())
}

fn contestant(runtime: Runtime) -> Contestant {
    let start = move |place: Place| {
        let address = free_addresses(1)?[0];
        let launch = Launch {
            name: runtime.name().to_owned(),
            program: std::env::current_exe().map_err(Error::io("finding this program"))?,
            arguments: vec!["echo-server".to_owned(), runtime.name().to_owned(), address.to_string()],
            cpus: place.cpus.clone(),
            ready: address,
        };
        Ok(Started { configuration: launch.to_string(), server: Server::start(place, &[launch])? })
    };
    let version = runtime.version().to_owned();
    Contestant { name: runtime.name().to_owned(), version, start: Box::new(start) }
}

fn case(connections: usize, in_flight: usize) -> Case {
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

/// The client: answers are counted by their length.
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
