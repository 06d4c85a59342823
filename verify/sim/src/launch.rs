//! Builds this crate with `--cfg sim` and runs it.

use crate::mutants;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

pub(crate) fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "mutants") {
        return mutants::main(&arguments[1..]);
    }
    let root = root();
    let status = simulate(&root, &target_folder().join("sim")).arg("--").args(arguments).status();
    match status.map(|status| status.code()) {
        Ok(Some(code)) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Ok(None) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sim: can't run cargo: {error}");
            ExitCode::from(2)
        }
    }
}

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("this crate lies two folders below the workspace").to_owned()
}

/// The target folder that this program was built in.
pub(crate) fn target_folder() -> PathBuf {
    let program = std::env::current_exe().expect("a running program has a path");
    program.ancestors().nth(2).expect("TARGET/PROFILE/sim").to_owned()
}

/// `cargo run` of this crate, as it is in the workspace at `root`, on the simulated runtime.
pub(crate) fn simulate(root: &Path, target: &Path) -> Command {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    let mut command = Command::new(cargo);
    command
        .args(["run", "--quiet", "--release", "--package", "sim", "--manifest-path"])
        .arg(root.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .env("RUSTFLAGS", format!("{flags} --cfg sim").trim_start());
    command
}
