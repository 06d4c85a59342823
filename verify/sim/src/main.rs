//! The simulator's command: `cargo run -p sim -- --seed N` replays one run, `--until-failure` hunts for one that fails.
//!
//! Built as usual, this is a launcher: it has cargo build this same crate once more with `--cfg sim`, on the simulated
//! runtime, in a folder of its own below the target folder, and runs that with the same arguments. So nobody has to remember
//! the flag, and no build without it is touched.
//!
//! The map: `launch` is that; `mutants` plants faults in copies of the source and sees that they are caught; `command` and
//! `hunt` run seeds; a module per scenario says what runs in the world and what must hold.
#![forbid(unsafe_code)]

#[cfg(sim)]
mod cluster;
#[cfg(sim)]
mod command;
#[cfg(sim)]
mod hunt;
#[cfg(not(sim))]
mod launch;
#[cfg(not(sim))]
mod mutants;
#[cfg(sim)]
mod quiet;
#[cfg(sim)]
mod wal;

fn main() -> std::process::ExitCode {
    #[cfg(sim)]
    return command::main();
    #[cfg(not(sim))]
    launch::main()
}
