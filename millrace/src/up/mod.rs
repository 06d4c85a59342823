//! `millrace up`: the whole site on this machine, every daemon a child process.
//!
//! | module | what |
//! |---|---|
//! | [`plan`] | which processes, with which configuration, on which ports: pure |
//! | [`preflight`] | refuses what can't work before anything starts |
//! | [`child`] | one process: start, logs, readiness, stop |
//! | [`supervisor`] | all of them: start order, restarts with back-off, stop order |
//!
//! What always holds: nothing is left running when it returns, whatever the reason; and if it is killed itself, the
//! kernel ends the children ([`follow_parent`]).

mod child;
mod plan;
mod preflight;
mod supervisor;

use crate::cli;
use ops::Service;
use plan::{Plan, Ports};
use std::io::Write;
use std::path::Path;

/// Set for children: the process that must be their parent.
const PARENT_VARIABLE: &str = "MILLRACE_UP";

/// Why `up` could not go on: one line for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Error(String);

/// In a child of `up`: asks the kernel for SIGTERM when the parent dies, and ends at once if it is dead already.
pub(crate) fn follow_parent() {
    let Some(parent) = std::env::var(PARENT_VARIABLE).ok().and_then(|pid| pid.parse::<i32>().ok()) else {
        return;
    };
    let followed = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
    let alive = rustix::process::getppid().is_some_and(|pid| pid.as_raw_nonzero().get() == parent);
    if followed.is_err() || !alive {
        eprintln!("millrace: `millrace up` (process {parent}) has gone");
        #[expect(
            clippy::disallowed_methods,
            reason = "nothing has been started that would have to be drained"
        )]
        std::process::exit(1);
    }
}

/// Runs the site until SIGINT or SIGTERM.
pub(crate) fn run(arguments: &cli::Up, common: &cli::Common) -> Result<(), Box<dyn std::error::Error>> {
    if common.admin.is_some() {
        let message = "--admin is for one daemon; up gives each an endpoint of its own";
        return Err(Error(message.to_owned()).into());
    }
    ops::logs::init(common.log_format.unwrap_or(ops::logs::Format::Text));
    let ports = Ports::with_offset(arguments.offset);
    preflight::ports_are_free(&ports)?;
    let data = preflight::data_folder(&arguments.data)?;
    let certificates = tls::dev::ensure(&data.path().join("tls"), &plan::CERTIFICATE_NAMES)?;
    let plan = Plan::new(data.path(), &ports, &certificates)?;
    plan.write_configuration()?;
    let service = Service::start(ops::Options {
        name: "millrace",
        admin: Some(ports.dashboard()),
        config: plan.summary(),
    })?;
    let backend = preflight::backend();
    let result =
        supervisor::run(&plan, &service, backend, &mut |seconds| announce(&plan, data.path(), seconds));
    service.shutdown();
    Ok(result?)
}

/// The table of addresses and three lines to try.
fn announce(plan: &Plan, data: &Path, seconds: f64) {
    let mut out = std::io::stdout().lock();
    // A closed stdout is no reason to stop the site.
    let _ = write!(out, "{}", plan.welcome(data, seconds)).and_then(|()| out.flush());
}
