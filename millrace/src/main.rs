//! The command: `up` runs the whole site on this machine, a subcommand per daemon runs one, `check` reads a
//! configuration file and says what is wrong with it, `wal` looks into logs.
//!
//! | module | what |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`daemons`] | one daemon in this process: configuration, logs, service, run |
//! | [`up`] | all of them as child processes |
//! | [`wal`] | what lies in the logs of dbshard and broker |
//!
//! What always holds: an error is one line on stderr that names what failed, and the exit code is not 0.
#![forbid(unsafe_code)]

mod cli;
mod daemons;
mod up;
mod wal;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    up::follow_parent();
    let result = match cli.command {
        cli::Command::Up(arguments) => up::run(&arguments, &cli.common),
        cli::Command::Check(arguments) => daemons::check(&arguments),
        cli::Command::Wal(wal) => wal::run(&wal),
        cli::Command::Daemon(daemon) => daemons::run(daemon, &cli.common),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("millrace: {error}");
            ExitCode::FAILURE
        }
    }
}
