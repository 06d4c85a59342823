//! Clients that are not ours, run to their end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU16, Ordering};

/// Runs a program and gives what it printed on stdout.
///
/// # Panics
/// When it fails; its whole output is shown.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = output(Command::new(program).args(arguments));
    assert!(output.status.success(), "{program} {arguments:?} failed: {}", both(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a script of `clients/` with the Python that has the packages of its requirements.txt.
///
/// # Panics
/// When it fails; its whole output is shown.
pub fn python(script: &str, arguments: &[&str]) -> String {
    let output = output(&mut python_command(script, arguments));
    assert!(output.status.success(), "{script} {arguments:?} failed: {}", both(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The command of [`python`], to be run in the background.
///
/// # Panics
/// When the suite was not started by `cargo xtask test e2e`.
pub fn python_command(script: &str, arguments: &[&str]) -> Command {
    let python = std::env::var_os("MILLRACE_PYTHON").expect("run this suite by: cargo xtask test e2e");
    let mut command = Command::new(python);
    command.arg("-u").arg(clients().join(script)).args(arguments);
    command
}

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"))
}

fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// An answer to curl.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header section, field names in lower case.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// `curl` with further arguments; the answer's head and body taken apart.
///
/// # Panics
/// When curl fails.
pub fn curl(url: &str, arguments: &[&str]) -> Answer {
    try_curl(url, arguments).unwrap_or_else(|error| panic!("curl {url}: {error}"))
}

/// [`curl`], which may fail.
///
/// # Errors
/// What curl said.
pub fn try_curl(url: &str, arguments: &[&str]) -> Result<Answer, String> {
    let head = tempfile::NamedTempFile::new().expect("a file for the head");
    let output = output(
        Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "30", "--dump-header"])
            .arg(head.path())
            .args(arguments)
            .arg(url),
    );
    if !output.status.success() {
        return Err(both(&output));
    }
    let head = std::fs::read_to_string(head.path()).expect("curl wrote the head");
    // Interim answers stand before the last head.
    let last = head.trim_end().rsplit("\r\n\r\n").next().unwrap_or_default();
    let status = last
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| format!("no status in {head}"))?;
    let lines = last.lines().skip(1).map(|line| match line.split_once(':') {
        Some((name, value)) => format!("{}:{value}", name.to_ascii_lowercase()),
        None => line.to_owned(),
    });
    Ok(Answer { status, head: lines.collect::<Vec<_>>().join("\n"), body: output.stdout })
}

/// Ports below the kernel's ephemeral range, so that no client's own port takes one while its daemon restarts.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A port that nothing listens on now, on loopback; another at every call.
///
/// # Panics
/// When there is none.
pub fn free_address() -> SocketAddr {
    static CALLS: AtomicU16 = AtomicU16::new(0);
    let ports = PORTS.end - PORTS.start;
    // Suites that run side by side begin at different places.
    let begin = (std::process::id() % u32::from(ports)) as u16;
    (0..ports)
        .map(|_| PORTS.start + begin.wrapping_add(CALLS.fetch_add(1, Ordering::Relaxed)) % ports)
        .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
        .find(|address| std::net::TcpListener::bind(address).is_ok())
        .expect("a free port")
}
