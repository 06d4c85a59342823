//! Sockets handed over as systemd does: a shell puts them in place, then becomes this program.

use ops::sockets::{self, Socket};
use ops::{Options, Service};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

/// Not a test by itself: what the child runs.
#[test]
fn child() {
    if std::env::var_os("OPS_TEST_CHILD").is_none() {
        return;
    }
    let service = Service::start(Options { name: "child", ..Options::default() }).unwrap();
    assert!(std::env::var_os("LISTEN_FDS").is_none(), "children must not take them for theirs");
    let http = sockets::handed_over("http").unwrap();
    let [Socket::Tcp(listener)] = &http[..] else { panic!("{http:?}") };
    let dns = sockets::handed_over("dns").unwrap();
    let [Socket::Udp(udp)] = &dns[..] else { panic!("{dns:?}") };
    assert!(sockets::handed_over("http").unwrap().is_empty(), "each is given once");
    assert!(sockets::handed_over("ftp").unwrap().is_empty());
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(udp.local_addr().unwrap().to_string().as_bytes()).unwrap();
    service.shutdown();
}

#[test]
fn each_goes_to_who_asks_for_its_name() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (address, udp_address) = (listener.local_addr().unwrap(), udp.local_addr().unwrap());
    // They arrive as stdin and stdout and are moved to where systemd puts them, 3 and 4.
    let script = r#"exec 3<&0 4<&1 0</dev/null 1>/dev/null
        LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES=http:dns exec "$0" --exact child"#;
    let mut child = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .env("OPS_TEST_CHILD", "1")
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::from(OwnedFd::from(udp)))
        .spawn()
        .unwrap();
    let mut said = String::new();
    TcpStream::connect(address).unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, udp_address.to_string());
    assert!(child.wait().unwrap().success());
}
