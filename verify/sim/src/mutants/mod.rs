//! The simulator's own test: faults are planted in a copy of the source, one at a time, and each must be caught.
//!
//! `cargo run -p sim -- mutants [NAME]` copies what git knows of the workspace below the target folder, replaces one piece of
//! text, builds, and runs seeds until one fails; none within [`SEEDS`] means that the simulator is blind there.

mod list;

use crate::launch::{root, simulate, target_folder};
use list::{MUTANTS, Mutant};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// Seeds that a mutant has to survive to count as not caught.
const SEEDS: u32 = 500;

pub(crate) fn main(names: &[String]) -> ExitCode {
    let copy = target_folder().join("sim-mutants/source");
    let target = target_folder().join("sim-mutants/target");
    let chosen =
        MUTANTS.iter().filter(|mutant| names.is_empty() || names.iter().any(|name| name == mutant.name));
    let mut missed = 0;
    for mutant in chosen {
        if let Err(error) = plant(mutant, &copy) {
            println!("{}: can't be planted: {error}", mutant.name);
            missed += 1;
            continue;
        }
        let run = simulate(&copy, &target)
            // What most of them are planted in is built again for each, and runs a short while.
            .args(["--config", "profile.release.package.replog.opt-level=1"])
            .args(["--", "--scenario", mutant.scenario, "--until-failure", "--seeds", &SEEDS.to_string()])
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .output();
        match run {
            Ok(output) if output.status.code() == Some(1) => {
                let text = String::from_utf8_lossy(&output.stdout);
                let found = text.lines().find(|line| line.starts_with("FAILED")).unwrap_or_default();
                println!("{}: caught. {found}", mutant.name);
            }
            Ok(output) if output.status.success() => {
                println!("{}: NOT CAUGHT within {SEEDS} seeds", mutant.name);
                missed += 1;
            }
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stderr);
                println!("{}: does not build ({})\n{}", mutant.name, output.status, text.trim_end());
                missed += 1;
            }
            Err(error) => {
                println!("{}: can't run: {error}", mutant.name);
                missed += 1;
            }
        }
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Makes the copy what the workspace is, save for the fault.
fn plant(mutant: &Mutant, copy: &Path) -> Result<(), String> {
    let root = root();
    let mut git = Command::new("git");
    let listed = git
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(&root)
        .output()
        .map_err(|error| format!("git: {error}"))?;
    for name in String::from_utf8_lossy(&listed.stdout).lines() {
        let (from, to) = (root.join(name), copy.join(name));
        let Ok(bytes) = std::fs::read(&from) else { continue };
        let bytes = if name == mutant.file { mutated(mutant, &bytes)? } else { bytes };
        // What is as it was keeps its time, so that cargo need not build it again.
        if std::fs::read(&to).is_ok_and(|old| old == bytes) {
            continue;
        }
        let wrong = |error: std::io::Error| format!("{}: {error}", to.display());
        to.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(wrong)?;
        std::io::Write::write_all(&mut std::fs::File::create(&to).map_err(wrong)?, &bytes).map_err(wrong)?;
    }
    Ok(())
}

fn mutated(mutant: &Mutant, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let text = String::from_utf8_lossy(bytes);
    match text.matches(mutant.text).count() {
        1 => Ok(text.replacen(mutant.text, mutant.becomes, 1).into_bytes()),
        count => Err(format!(
            "{} has its text {count} times: bring verify/sim/src/mutants/list.rs up to date",
            mutant.file
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The source has moved on from a mutant whose text is gone.
    #[test]
    fn every_fault_can_be_planted() {
        for mutant in MUTANTS {
            let bytes = std::fs::read(root().join(mutant.file)).expect(mutant.file);
            let planted = mutated(mutant, &bytes);
            assert!(planted.is_ok_and(|planted| planted != bytes), "{}: {}", mutant.name, mutant.file);
        }
    }
}
