//! One child process: started, its logs passed on with its name before each line, asked whether it is ready, stopped.

use super::PARENT_VARIABLE;
use super::plan::Process;
use super::preflight::Backend;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A probe of readiness is given up after this long.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// The longest line passed on in one piece, bytes.
const LINE_BYTES_MAX: u64 = 64 * 1024;

pub(crate) struct Running {
    child: Child,
    logs: Vec<thread::JoinHandle<()>>,
    last_line: Arc<Mutex<String>>,
}

/// Starts `process`: this same program, in a process group of its own, so that a Ctrl-C on the terminal reaches only
/// `up`, which stops the children in order.
pub(crate) fn start(process: &Process, backend: Backend) -> io::Result<Running> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(&process.arguments)
        .args(["--log-format", "text"])
        .env(PARENT_VARIABLE, std::process::id().to_string())
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    if backend == Backend::Epoll {
        command.env(runtime::BACKEND_VARIABLE, "epoll");
    }
    let mut child = command.spawn()?;
    let prefix = format!("{:<9}| ", process.name);
    let (mut logs, last_line) = (Vec::new(), Arc::default());
    if let Some(stdout) = child.stdout.take() {
        logs.push(pass_on(stdout, prefix.clone(), &last_line)?);
    }
    if let Some(stderr) = child.stderr.take() {
        logs.push(pass_on(stderr, prefix, &last_line)?);
    }
    Ok(Running { child, logs, last_line })
}

fn pass_on(
    from: impl Read + Send + 'static,
    prefix: String,
    last_line: &Arc<Mutex<String>>,
) -> io::Result<thread::JoinHandle<()>> {
    let last_line = last_line.clone();
    let colour = io::stderr().is_terminal();
    let prefix = if colour { format!("\x1b[36m{prefix}\x1b[0m") } else { prefix };
    thread::Builder::new().name("logs".into()).spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = prefix.clone().into_bytes();
        while from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            if line.last() != Some(&b'\n') {
                line.push(b'\n');
            }
            // A closed stderr is no reason to stop the site.
            let _ = io::stderr().write_all(&line);
            let said = String::from_utf8_lossy(&line[prefix.len()..]).trim_end().to_owned();
            *last_line.lock().expect("no panic under this lock") = said;
            line.truncate(prefix.len());
        }
    })
}

impl Running {
    pub(crate) fn has_ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.logs.drain(..).for_each(|log| drop(log.join()));
        }
        Ok(status)
    }

    /// The last line of its log; of one that failed by itself, why.
    pub(crate) fn last_line(&self) -> String {
        self.last_line.lock().expect("no panic under this lock").clone()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended this moment.
            let _ = kill_process(pid, signal);
        }
    }
}

/// Whether the process's admin endpoint says that it is ready.
pub(crate) fn is_ready(process: &Process) -> bool {
    let probe = || -> io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&process.admin, PROBE_TIMEOUT)?;
        stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
        write!(stream, "GET /readyz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", process.admin)?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(status == *b"HTTP/1.1 200")
    };
    probe().unwrap_or(false)
}
