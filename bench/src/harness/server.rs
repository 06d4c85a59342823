//! A server under measurement: a child process on CPUs of its own, with the figures that the kernel keeps of it.
//!
//! What always holds: its files are in a folder that goes with it; it is killed, with its children, when dropped, and
//! ends when this process is killed; when it dies by itself, what it wrote last is shown.

use crate::error::Error;
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a server may take until it takes connections.
const READY: Duration = Duration::from_secs(20);
/// How often free ports in a row are looked for.
const PORT_TRIES: usize = 1000;
/// How much of a dead server's output is shown, in lines.
const TAIL_LINES: usize = 12;

/// A command to start a server with.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    /// As it is called in the result.
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// The CPUs it may run on, as taskset(1) lists them.
    pub(crate) cpus: String,
    /// Takes a TCP connection there once it is ready.
    pub(crate) ready: SocketAddr,
}

impl fmt::Display for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Which program it is, its version says; where it is says nothing on another machine.
        let program = self.program.file_name().unwrap_or_default().to_string_lossy();
        write!(f, "taskset -c {} {program} {}", self.cpus, self.arguments.join(" "))
    }
}

/// A folder for one server's files, made before its command is known, as the command names it.
#[derive(Debug)]
pub(crate) struct Place {
    folder: TempDir,
    /// The CPUs that servers run on.
    pub(crate) cpus: String,
    /// How many threads a server may have.
    pub(crate) threads: usize,
}

impl Place {
    /// A folder in `parent`, or where temporary files go: durable scenarios want a real disk.
    pub(crate) fn new(parent: Option<&Path>, threads: usize) -> Result<Place, Error> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("millrace-bench-");
        let folder = match parent {
            Some(parent) => builder.tempdir_in(parent),
            None => builder.tempdir(),
        };
        let cpus = (0..threads).map(|cpu| cpu.to_string()).collect::<Vec<_>>().join(",");
        Ok(Place { folder: folder.map_err(Error::io("making a folder for a server"))?, cpus, threads })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a configuration file and gives its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        let path = self.path().join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::io(format!("making {}", parent.display())))?;
        }
        fs::write(&path, text).map_err(Error::io(format!("writing {}", path.display())))?;
        Ok(path)
    }
}

/// `count` ports that nobody has just now.
pub(crate) fn free_addresses(count: usize) -> Result<Vec<SocketAddr>, Error> {
    let bind = || TcpListener::bind("127.0.0.1:0").map_err(Error::io("looking for a free port"));
    let held: Vec<TcpListener> = (0..count).map(|_| bind()).collect::<Result<_, _>>()?;
    held.iter().map(|listener| listener.local_addr().map_err(Error::io("looking for a free port"))).collect()
}

/// The first of `count` ports in a row that nobody has just now.
pub(crate) fn free_ports_in_a_row(count: u16) -> Result<SocketAddr, Error> {
    for _ in 0..PORT_TRIES {
        let first = free_addresses(1)?[0];
        let Some(end) = first.port().checked_add(count) else { continue };
        let held: Result<Vec<TcpListener>, _> =
            (first.port()..end).map(|port| TcpListener::bind((first.ip(), port))).collect();
        if held.is_ok() {
            return Ok(first);
        }
    }
    Err(Error::Usage(format!("no {count} free ports in a row")))
}

/// A running server, or several that serve together.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: String,
    /// Where the load goes.
    pub(crate) address: SocketAddr,
    /// Further addresses, as the scenario means them: a TLS port, an origin behind a proxy.
    pub(crate) others: Vec<SocketAddr>,
    processes: Vec<(Child, PathBuf)>,
    place: Place,
}

impl Server {
    /// Starts the commands one after the other, each once the one before is ready. The first one's address is the
    /// server's.
    ///
    /// # Errors
    /// When one can't be started, ends, or is not ready in time.
    pub(crate) fn start(place: Place, launches: &[Launch]) -> Result<Server, Error> {
        let first = &launches[0];
        let mut server = Server {
            name: first.name.clone(),
            address: first.ready,
            others: launches[1..].iter().map(|launch| launch.ready).collect(),
            processes: Vec::new(),
            place,
        };
        for launch in launches {
            server.start_one(launch)?;
        }
        Ok(server)
    }

    fn start_one(&mut self, launch: &Launch) -> Result<(), Error> {
        if TcpStream::connect_timeout(&launch.ready, Duration::from_millis(200)).is_ok() {
            let line = format!("{} is taken, {} can't be started there", launch.ready, launch.name);
            return Err(Error::Usage(line));
        }
        let log_path = self.place.path().join(format!("{}-{}.log", launch.name, self.processes.len()));
        let log = File::create(&log_path).map_err(Error::io(format!("making {}", log_path.display())))?;
        let log_too = log.try_clone().map_err(Error::io("duplicating a descriptor"))?;
        // It ends when this process does, however that ends.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "taskset", "-c", &launch.cpus])
            .arg(&launch.program)
            .args(&launch.arguments)
            .current_dir(self.place.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too)
            .process_group(0)
            .spawn()
            .map_err(Error::io(format!("starting {} by setpriv and taskset", launch.program.display())))?;
        self.processes.push((child, log_path));
        let begun = Instant::now();
        while TcpStream::connect_timeout(&launch.ready, Duration::from_millis(200)).is_err() {
            self.check("its start")?;
            if begun.elapsed() > READY {
                let (_, log) = self.processes.last().expect("just pushed");
                return Err(Error::NotReady {
                    server: launch.name.clone(),
                    address: launch.ready.to_string(),
                    seconds: READY.as_secs(),
                    tail: tail(log),
                });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// From here on all threads of the server run on these CPUs only. For servers started on every CPU, which have as many
    /// threads as they have by default.
    pub(crate) fn confine(&self, cpus: &str) -> Result<(), Error> {
        for pid in self.family() {
            let status = Command::new("taskset")
                .args(["-a", "-c", "-p", cpus, &pid.to_string()])
                .stdout(Stdio::null())
                .status()
                .map_err(Error::io("starting taskset"))?;
            if !status.success() {
                return Err(Error::Usage(format!("{} can't be confined to CPU {cpus}", self.name)));
            }
        }
        Ok(())
    }

    /// An error when a process of the server has ended by itself.
    pub(crate) fn check(&mut self, during: &str) -> Result<(), Error> {
        for (child, log) in &mut self.processes {
            let status = child.try_wait().map_err(Error::io(format!("asking after {}", self.name)))?;
            if let Some(status) = status {
                return Err(Error::Died {
                    server: self.name.clone(),
                    during: during.to_owned(),
                    status: status.to_string(),
                    tail: tail(log),
                });
            }
        }
        Ok(())
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> &Path {
        self.place.path()
    }

    /// User and system time so far of the server's processes and all below them (proc_pid_stat(5): fields 14 to 17, in
    /// ticks of 10 ms).
    pub(crate) fn cpu_time(&self) -> Duration {
        let ticks: u64 = self
            .family()
            .iter()
            .filter_map(|pid| stat_fields(*pid))
            .map(|f| f[11..15].iter().sum::<u64>())
            .sum();
        Duration::from_millis(ticks * 10)
    }

    /// User and system time so far of each of the server's processes, by the first argument of its command line: the
    /// daemon, where they are ours. Those with the same one are taken together.
    pub(crate) fn cpu_time_by_command(&self) -> BTreeMap<String, Duration> {
        let mut times: BTreeMap<String, Duration> = BTreeMap::new();
        for pid in self.family() {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let command = command.split(|byte| *byte == 0).nth(1).unwrap_or_default();
            let Some(fields) = stat_fields(pid) else { continue };
            let time = Duration::from_millis(fields[11..13].iter().sum::<u64>() * 10);
            *times.entry(String::from_utf8_lossy(command).into_owned()).or_default() += time;
        }
        times
    }

    /// Resident memory of the server's processes, in bytes (proc_pid_status(5): VmRSS).
    pub(crate) fn rss_bytes(&self) -> u64 {
        let resident = |pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        };
        self.family().iter().filter_map(resident).sum::<u64>() * 1024
    }

    /// The processes that were started and all below them.
    fn family(&self) -> Vec<u32> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        for pid in all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
            if let Some(fields) = stat_fields(pid) {
                children.entry(fields[1] as u32).or_default().push(pid);
            }
        }
        let mut family: Vec<u32> = self.processes.iter().map(|(child, _)| child.id()).collect();
        let mut at = 0;
        while at < family.len() {
            family.extend(children.remove(&family[at]).unwrap_or_default());
            at += 1;
        }
        family
    }
}

/// The numbers of /proc/PID/stat from the third field, the state (as 0), on.
fn stat_fields(pid: u32) -> Option<Vec<u64>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.rsplit_once(')')?.1;
    Some(after_name.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect())
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    lines[from..].iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

impl Drop for Server {
    fn drop(&mut self) {
        let group = |child: &Child| Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("not 0");
        for (child, _) in &mut self.processes {
            let _ = kill_process_group(group(child), Signal::TERM);
        }
        let begun = Instant::now();
        for (child, _) in &mut self.processes {
            while matches!(child.try_wait(), Ok(None)) && begun.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = kill_process_group(group(child), Signal::KILL);
            let _ = child.wait();
        }
    }
}
