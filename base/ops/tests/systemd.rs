//! What systemd hears of a service: `NOTIFY_SOCKET` is the process's, so each test starts this program again as its child.

use ops::{Options, Service};
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

#[test]
fn child() {
    if std::env::var_os("OPS_TEST_CHILD").is_none() {
        return;
    }
    let service = Service::start(Options { name: "child", ..Options::default() }).unwrap();
    service.on_reload(|| {});
    service.ready();
    service.stop().wait();
    service.shutdown();
}

struct Systemd {
    _folder: tempfile::TempDir,
    socket: UnixDatagram,
    child: Child,
}

impl Systemd {
    fn start(watchdog_usec: Option<&str>) -> Systemd {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child"]).env("OPS_TEST_CHILD", "1").env("NOTIFY_SOCKET", &path);
        if let Some(usec) = watchdog_usec {
            command.env("WATCHDOG_USEC", usec);
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Systemd { _folder: folder, socket, child }
    }

    fn hears(&self) -> String {
        let mut buffer = [0; 512];
        let length = self.socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn ready_reloading_and_stopping_are_told() {
    let mut systemd = Systemd::start(None);
    assert_eq!(systemd.hears(), "READY=1\n");
    systemd.signal(Signal::HUP);
    let reloading = systemd.hears();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(systemd.hears(), "READY=1\n");
    systemd.signal(Signal::TERM);
    assert_eq!(systemd.hears(), "STOPPING=1\n");
    assert!(systemd.child.wait().unwrap().success());
}

#[test]
fn the_watchdog_is_fed_until_the_end() {
    let mut systemd = Systemd::start(Some("20000"));
    let mut fed = 0;
    while fed < 5 {
        fed += usize::from(systemd.hears() == "WATCHDOG=1\n");
    }
    systemd.signal(Signal::TERM);
    while systemd.hears() != "STOPPING=1\n" {}
    assert!(systemd.child.wait().unwrap().success());
}
