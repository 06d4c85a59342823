//! What systemd hears, in the order of a service's life. One test: `NOTIFY_SOCKET` is the process's, so a child has it.

use ops::{Options, Service};
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
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

#[test]
fn ready_reloading_and_stopping_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child"])
        .env("OPS_TEST_CHILD", "1")
        .env("NOTIFY_SOCKET", &path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let hear = || {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    assert_eq!(hear(), "READY=1\n");
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    let reloading = hear();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(hear(), "READY=1\n");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(hear(), "STOPPING=1\n");
    assert!(child.wait().unwrap().success());
}
