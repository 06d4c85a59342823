//! The whole site, by `millrace up`, in a folder and on ports of its own.

use crate::client::{Answer, curl};
use crate::process::{self, Process};
use crate::{program, wait_for};
use rustix::process::Signal;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A running site.
pub struct Site {
    /// `millrace up` itself.
    pub up: Process,
    offset: u16,
    data: PathBuf,
    /// Where it is this handle's own; removed with it.
    folder: Option<TempDir>,
}

/// Some of the site's ports, at offset 0: what must be free for an offset to be taken.
const PORTS: [u16; 22] = [
    8053, 8080, 8443, 8900, 8901, 8902, 8903, 8904, 8905, 8906, 8907, 8908, 9092, 9101, 9102, 11211, 7001,
    7002, 7003, 17001, 17011, 19092,
];

/// An offset at which all ports are free.
///
/// # Panics
/// When there is none.
pub fn free_offset() -> u16 {
    (1..=46)
        .map(|thousands| thousands * 1000)
        .find(|offset| PORTS.iter().all(|port| TcpListener::bind(("127.0.0.1", port + offset)).is_ok()))
        .expect("an offset with free ports")
}

/// The command `millrace up` on a data folder.
pub fn up_command(data: &Path, offset: u16) -> Command {
    let mut command = Command::new(program("millrace"));
    command.arg("up").arg("--data").arg(data).args(["--offset", &offset.to_string()]);
    command
}

impl Site {
    /// Starts a site on a fresh folder and waits until it is ready.
    pub fn start() -> Site {
        let folder = tempfile::tempdir().expect("a folder");
        let mut site = Site::start_in(folder.path());
        site.folder = Some(folder);
        site
    }

    /// [`Site::start`] on a folder of the caller's.
    pub fn start_in(data: &Path) -> Site {
        let offset = free_offset();
        let up = Process::start("millrace up", &mut up_command(data, offset));
        let mut site = Site { up, offset, data: data.to_owned(), folder: None };
        site.wait_until_ready();
        site
    }

    /// Starts it again on the same folder and ports.
    pub fn start_again(&mut self) {
        self.up = Process::start("millrace up", &mut up_command(&self.data, self.offset));
        self.wait_until_ready();
    }

    fn wait_until_ready(&mut self) {
        let up = &mut self.up;
        wait_for("the site to be ready", || {
            if let Some(status) = up.ended() {
                panic!("millrace up ended ({status}): {}", up.output());
            }
            up.output().contains("The site is ready").then_some(())
        });
    }

    /// The address of one of the site's ports.
    pub fn address(&self, port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port + self.offset).into()
    }

    /// A URL on the proxy.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address(8080))
    }

    /// GET through the proxy.
    pub fn get(&self, path: &str) -> Answer {
        curl(&self.url(path), &[])
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The id of a process of the site: `web1`, `dbshard`.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn process(&self, name: &str) -> u32 {
        wait_for(&format!("the process {name}"), || {
            let all = process::children(self.up.id());
            let by_file = format!("/config/{name}.toml ");
            let by_command = format!("millrace {name} ");
            all.iter()
                .find(|(_, line)| line.contains(&by_file) || line.contains(&by_command))
                .map(|(id, _)| *id)
        })
    }

    /// kill -9 of one process; `up` starts it again.
    pub fn kill(&self, name: &str) {
        process::send(self.process(name), Signal::KILL);
    }

    /// Whether every process is ready, as the dashboard says.
    pub fn is_ready(&self) -> bool {
        let url = format!("http://{}/readyz", self.address(8900));
        crate::client::try_curl(&url, &[]).is_ok_and(|answer| answer.status == 200)
    }

    /// Stops the site as Ctrl-C does and checks that it ends well and leaves nothing running.
    pub fn stop(&mut self) {
        let children = process::children(self.up.id());
        self.up.signal(Signal::INT);
        let status = self.up.wait();
        assert!(status.success(), "millrace up ended with {status}: {}", self.up.output());
        for (id, line) in children {
            assert!(!Path::new(&format!("/proc/{id}")).exists(), "left running: {line}");
        }
    }
}
