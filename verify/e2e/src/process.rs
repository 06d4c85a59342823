//! Processes of the test: their output kept, their memory and children read, ended by their id.

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

/// A running process whose output is kept line by line.
pub struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    name: String,
}

impl Process {
    /// Starts `command`; `name` is for messages.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start(name: &str, command: &mut Command) -> Process {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        keep(child.stdout.take().expect("piped"), lines.clone());
        keep(child.stderr.take().expect("piped"), lines.clone());
        Process { child, lines, name: name.to_owned() }
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        send(self.child.id(), signal);
    }

    /// kill -9, and waits.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }

    /// SIGTERM, then waits for the end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait(&mut self) -> ExitStatus {
        let name = self.name.clone();
        crate::wait_for(&format!("the end of {name}"), || self.ended())
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("one's own child can be waited for")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines = self.lines.lock().unwrap();
            let last = &lines[lines.len().saturating_sub(60)..];
            eprintln!("--- the last lines of {} ---\n{}\n---", self.name, last.join("\n"));
        }
        if self.ended().is_none() {
            self.kill();
        }
    }
}

fn keep(from: impl Read + Send + 'static, lines: Arc<Mutex<Vec<String>>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            lines.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
        }
    });
}

/// Sends `signal` to a process of ours.
pub fn send(id: u32, signal: Signal) {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw).expect("a process id");
    // It may have ended already.
    let _ = kill_process(pid, signal);
}

/// The children of a process, each with its command line.
pub fn children(parent: u32) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(status) = std::fs::read_to_string(entry.path().join("status")) else { continue };
        let is_child = status.lines().any(|line| line == format!("PPid:\t{parent}"));
        let zombie = status.lines().any(|line| line.starts_with("State:\tZ"));
        if is_child && !zombie {
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push((id, String::from_utf8_lossy(&command).replace('\0', " ")));
        }
    }
    found
}

/// Resident memory of a process, bytes.
///
/// # Panics
/// When it has gone.
pub fn resident_bytes(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of KiB");
    kib * 1024
}
