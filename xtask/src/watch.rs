//! A test program under a limit of time. One that hangs is named, with the tests that had not ended, and killed with all
//! that it has started.
#![allow(clippy::disallowed_methods)] // this waits for other programs and serves nobody

use rustix::process::{Pid, Signal, kill_process};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often the program is looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// After the program's end this long is waited for the last of its output: a process that it left may hold the pipe.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(5);

/// So much of the output of a program beside others is kept; the rest is not shown.
const HELD_BYTES_MAX: usize = 16 << 20;

/// Runs `command` and passes its output on as it comes.
///
/// # Errors
/// One line, when it fails, can't be started, or has not ended within `limit`.
pub(crate) fn watch(name: &str, command: &mut Command, limit: Duration) -> Result<(), String> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| format!("{name} cannot be run: {error}"))?;
    let stdout = child.stdout.take().expect("piped");
    until_it_ends(name, &mut child, limit, stdout, |bytes| {
        // A closed stdout is no reason to stop the tests.
        let _ = std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush());
    })
}

/// As [`watch`], while others run: all that it says is shown when it has ended, in one piece below its name.
///
/// # Errors
/// As [`watch`].
pub(crate) fn watch_beside(name: &str, command: &mut Command, limit: Duration) -> Result<(), String> {
    let (output, input) = std::io::pipe().map_err(|error| format!("no pipe for {name}: {error}"))?;
    let second = input.try_clone().map_err(|error| format!("no pipe for {name}: {error}"))?;
    let child = command.stdin(Stdio::null()).stdout(input).stderr(second).spawn();
    // The command's own ends: its output is over when the program has ended.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = child.map_err(|error| format!("{name} cannot be run: {error}"))?;
    let held = Arc::new(Mutex::new(Vec::new()));
    let holding = held.clone();
    let outcome = until_it_ends(name, &mut child, limit, output, move |bytes| {
        let mut held = holding.lock().expect("holding does not panic");
        let room = HELD_BYTES_MAX - held.len();
        held.extend_from_slice(&bytes[..bytes.len().min(room)]);
    });
    let held = held.lock().expect("holding does not panic");
    println!("xtask: {name}\n{}", String::from_utf8_lossy(&held).trim_end());
    outcome
}

/// Waits for the child, `limit` at most, while all that it says goes to `show`.
fn until_it_ends(
    name: &str,
    child: &mut Child,
    limit: Duration,
    said: impl Read + Send + 'static,
    show: impl FnMut(&[u8]) + Send + 'static,
) -> Result<(), String> {
    let begun = Instant::now();
    let tests = Arc::new(Mutex::new(Tests::default()));
    let reading = tests.clone();
    let output = std::thread::spawn(move || pass_on(said, &reading, show));
    let status = wait(child, begun + limit);
    if status.is_none() {
        kill_all(child.id());
        let _ = child.wait();
    }
    let until = Instant::now() + OUTPUT_PATIENCE;
    while !output.is_finished() && Instant::now() < until {
        std::thread::sleep(INTERVAL);
    }
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("{name} failed ({status})")),
        None => {
            let running = tests.lock().expect("reading does not panic").running();
            Err(format!("{name} hung: killed after {} s; {running}", limit.as_secs()))
        }
    }
}

fn wait(child: &mut Child, until: Instant) -> Option<ExitStatus> {
    loop {
        let status = child.try_wait().expect("one's own child can be waited for");
        if status.is_some() || Instant::now() >= until {
            return status;
        }
        std::thread::sleep(INTERVAL);
    }
}

fn pass_on(mut from: impl Read, tests: &Mutex<Tests>, mut show: impl FnMut(&[u8])) {
    let mut bytes = [0; 8192];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        show(&bytes[..count]);
        tests.lock().expect("reading does not panic").take(&bytes[..count]);
    }
}

/// What libtest's output tells of the tests under way: those that it has called slow (after 60 s), and, where they run one
/// at a time, the one whose line has no end yet.
#[derive(Debug, Default)]
struct Tests {
    line: Vec<u8>,
    slow: BTreeSet<String>,
    last_ended: Option<String>,
}

impl Tests {
    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.end_line(&String::from_utf8_lossy(&line));
            } else {
                self.line.push(*byte);
            }
        }
    }

    fn end_line(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test ") else { return };
        if let Some((name, _)) = rest.split_once(" has been running for over ") {
            self.slow.insert(name.to_owned());
        } else if let Some((name, _)) = rest.split_once(" ... ") {
            self.slow.remove(name);
            self.last_ended = Some(name.to_owned());
        }
    }

    fn running(&self) -> String {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        let begun =
            line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")).map(|(name, _)| name);
        let running: Vec<&str> = self.slow.iter().map(String::as_str).chain(begun).collect();
        match (&running[..], &self.last_ended) {
            ([], Some(last)) => {
                format!("it does not say which test was running; the last that ended was {last}")
            }
            ([], None) => "it does not say which test was running".to_owned(),
            _ => format!("still running: {}", running.join(", ")),
        }
    }
}

/// kill -9 of a process of ours and all below it.
fn kill_all(process: u32) {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // proc_pid_stat(5): after the name, which may hold anything, the state and the parent.
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        if let (Some(id), Some(parent)) = (id, parent) {
            children.entry(parent).or_default().push(id);
        }
    }
    let mut all = vec![process];
    let mut looked_at = 0;
    while let Some(parent) = all.get(looked_at) {
        all.extend(children.remove(parent).unwrap_or_default());
        looked_at += 1;
    }
    for id in all {
        if let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) {
            // It may have ended this moment.
            let _ = kill_process(id, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(output: &str) -> String {
        let mut tests = Tests::default();
        output.as_bytes().chunks(7).for_each(|chunk| tests.take(chunk));
        tests.running()
    }

    #[test]
    fn what_runs_is_read_from_the_output() {
        let many = "\nrunning 3 tests\ntest a::one ... ok\ntest a::two has been running for over 60 seconds\n\
             test b has been running for over 60 seconds\ntest b ... FAILED\n";
        assert_eq!(running(many), "still running: a::two");
        assert_eq!(running("running 2 tests\ntest first ... ok\ntest second ... "), "still running: second");
        assert!(running("test first ... ok\n").ends_with("the last that ended was first"));
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        let file = std::env::temp_dir().join(format!("xtask-watch-{}", std::process::id()));
        let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
        let hung = watch("sh", Command::new("sh").args(["-c", &script]), Duration::from_millis(500));
        assert_eq!(hung.unwrap_err(), "sh hung: killed after 0 s; it does not say which test was running");
        let child: u32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        std::fs::remove_file(&file).unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        let state = || std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        while !state().is_empty() && !state().contains(") Z ") {
            assert!(Instant::now() < until, "the child lives: {}", state());
            std::thread::sleep(INTERVAL);
        }
    }

    #[test]
    fn what_runs_beside_others_is_told_apart_and_named_too() {
        let script = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            watch_beside("sh", &mut command, Duration::from_millis(500))
        };
        assert_eq!(script("echo out; echo err >&2"), Ok(()));
        assert_eq!(script("exit 3").unwrap_err(), "sh failed (exit status: 3)");
        let hung = script("printf 'test one ... ok\ntest two ... '; exec sleep 1000");
        assert_eq!(hung.unwrap_err(), "sh hung: killed after 0 s; still running: two");
    }

    #[test]
    fn success_and_failure_are_told_apart() {
        let run = |program: &str| watch(program, &mut Command::new(program), Duration::from_secs(60));
        assert_eq!(run("true"), Ok(()));
        assert_eq!(run("false").unwrap_err(), "false failed (exit status: 1)");
        assert!(run("/no/such/program").unwrap_err().contains("cannot be run"));
    }
}
