//! The simulator's own test: faults are planted in a copy of the source, one at a time, and each must be caught.
//!
//! `cargo run -p sim -- mutants [NAME]` copies what git knows of the workspace below the target folder, replaces one piece of
//! text, builds, and runs seeds until one fails; none within [`SEEDS`] means that the simulator is blind there.

use crate::launch::{root, simulate, target_folder};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// Seeds that a mutant has to survive to count as not caught.
const SEEDS: u32 = 500;

/// A planted fault.
struct Mutant {
    name: &'static str,
    scenario: &'static str,
    file: &'static str,
    /// A piece of the file that is in it once.
    text: &'static str,
    becomes: &'static str,
}

const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a batch is not synced",
        scenario: "wal",
        file: "base/replog/src/shell/writer.rs",
        text: "match self.current.file.append_durable(offset, buffers).await {",
        becomes: "let whole: Vec<u8> = buffers.iter().flat_map(|buffer| buffer.to_vec()).collect();
        match self.current.file.write_at(offset, whole).await.map(|()| buffers) {",
    },
    Mutant {
        name: "an entry is acknowledged before it is durable",
        scenario: "wal",
        file: "base/replog/src/shell/log.rs",
        text: "        if self.committed(group) < index && !shared.has_ended() {
            shared.waiters.wait(group, index).await;
        }
        if self.committed(group) < index { Err(Error::Closed) } else { Ok(()) }",
        becomes: "        Ok(())",
    },
    Mutant {
        name: "a new segment's header is not synced",
        scenario: "wal",
        file: "base/replog/src/shell/folder.rs",
        text: "        file.append_durable(0, vec![block]).await?;",
        becomes: "        file.write_at(0, block.to_vec()).await?;",
    },
    Mutant {
        name: "a new segment's name is not synced",
        scenario: "wal",
        file: "base/runtime/src/fs/folder.rs",
        text: "        system::rename(&from, &to)?;
        sync_parent(&to)?;",
        becomes: "        system::rename(&from, &to)?;",
    },
    Mutant {
        name: "a failed write is passed over",
        scenario: "wal",
        file: "base/replog/src/shell/writer.rs",
        text: "Err(error) => stop_process(\"a write to the log\", &self.current.path, &error),",
        becomes: "Err(_) => {}",
    },
    Mutant {
        name: "a torn tail is not zeroed",
        scenario: "wal",
        file: "base/replog/src/shell/open.rs",
        text: "        zero(&current.file, torn.start, torn.end)
            .await",
        becomes: "        zero(&current.file, torn.end, torn.end)
            .await",
    },
    Mutant {
        name: "cut at any bad checksum",
        scenario: "wal",
        file: "base/replog/src/core/recovery.rs",
        text: "            if let Some(damage) = judge_tail(segment.held.generation, &tails[at], begins, followed) {",
        becomes: "            if let Some(damage) = judge_tail(segment.held.generation, &tails[at], begins, followed).filter(|_| at + 1 < tails.len()) {",
    },
    Mutant {
        name: "the second reading is not checked",
        scenario: "wal",
        file: "base/replog/src/shell/open.rs",
        text: "        if end != held.end {",
        becomes: "        if end > held.end {",
    },
    Mutant {
        name: "what was read and not synced before is not made durable",
        scenario: "wal",
        file: "base/replog/src/shell/open.rs",
        text: "    current.file.sync_data().await.map_err(Error::io(\"sync\", &current.path))?;",
        becomes: "",
    },
    Mutant {
        name: "consensus is told before the log is durable",
        scenario: "cluster",
        file: "base/replog/src/shell/node/turn.rs",
        text: "            self.persisting.borrow_mut().push_back((ticket, group, number));",
        becomes: "            let _ = ticket;
            self.consensus.borrow_mut().persisted(group, number);
            self.work.notify_one();",
    },
    Mutant {
        name: "the vote is forgotten",
        scenario: "cluster",
        file: "base/replog/src/shell/node/turn.rs",
        text: "Some(state) if urgent => ticket = Some(stream.set_hard_state(group, state)),",
        becomes: "Some(state) if urgent => {
                    let state = consensus::HardState { vote: NodeId(0), ..state };
                    ticket = Some(stream.set_hard_state(group, state));
                }",
    },
    Mutant {
        name: "a lease never ends",
        scenario: "cluster",
        file: "base/replog/src/core/consensus/group.rs",
        text: "(alone || self.lease.holds(now))",
        becomes: "(alone || self.lease.holds(now) || !alone)",
    },
    Mutant {
        name: "a lease on a clock that sleeps with the machine",
        scenario: "cluster",
        file: "base/runtime/src/sim/clock.rs",
        text: "read(super::node::Clock::boot_ns,",
        becomes: "read(super::node::Clock::monotonic_ns,",
    },
];

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
            .args(["--", "--scenario", mutant.scenario, "--until-failure", "--seeds", &SEEDS.to_string()])
            .stderr(Stdio::null())
            .output();
        match run {
            Ok(output) if output.status.code() == Some(1) => {
                let text = String::from_utf8_lossy(&output.stdout);
                let found = text.lines().find(|line| line.starts_with("FAILED")).unwrap_or_default();
                println!("{}: caught. {found}", mutant.name);
            }
            Ok(output) => {
                println!("{}: NOT CAUGHT ({})", mutant.name, output.status);
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
        count => Err(format!("{} has the text {count} times: the list is out of date", mutant.file)),
    }
}
