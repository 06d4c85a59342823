//! The admin endpoint over real sockets.

use ops::{Options, Service};
use prometheus_client::metrics::counter::Counter;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

fn start(config: &str) -> (Service, SocketAddr) {
    let admin = Some("127.0.0.1:0".parse().unwrap());
    let service = Service::start(Options { name: "testd", admin, config: config.to_owned() }).unwrap();
    let address = service.admin_address().unwrap();
    (service, address)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// One answer: status code, head, body.
fn read_answer(reader: &mut impl BufRead, with_body: bool) -> (u16, String, String) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "closed in the head: {head:?}");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    let mut body = vec![0; if with_body { length.parse().unwrap() } else { 0 }];
    reader.read_exact(&mut body).unwrap();
    let code = head[9..12].parse().unwrap();
    (code, head, String::from_utf8(body).unwrap())
}

fn get(address: SocketAddr, path: &str) -> (u16, String, String) {
    let mut stream = connect(address);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut reader = BufReader::new(stream);
    let answer = read_answer(&mut reader, true);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0, "the connection is closed");
    answer
}

#[test]
fn readiness_follows_the_life_of_the_service() {
    let (service, address) = start("");
    assert_eq!(get(address, "/readyz").0, 503);
    assert_eq!(get(address, "/healthz"), (200, get(address, "/healthz").1, "ok\n".to_owned()));

    let has_quorum = Arc::new(AtomicBool::new(false));
    let asked = has_quorum.clone();
    service.add_check("quorum", move || match asked.load(Ordering::SeqCst) {
        true => Ok(()),
        false => Err("1 of 3 nodes".to_owned()),
    });
    service.ready();
    let (code, _, body) = get(address, "/readyz");
    assert_eq!((code, body.as_str()), (503, "quorum: 1 of 3 nodes\n"));
    has_quorum.store(true, Ordering::SeqCst);
    assert_eq!(get(address, "/readyz").0, 200);

    service.stop().request();
    let (code, _, body) = get(address, "/readyz");
    assert_eq!((code, body.as_str()), (503, "stopping\n"));
    service.shutdown();
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn metrics_config_and_pages_are_shown() {
    let (service, address) = start("port = 7\n");
    let gets = Counter::<u64>::default();
    service.register(|registry| registry.register("millrace_testd_gets", "Gets", gets.clone()));
    gets.inc();
    let (code, head, body) = get(address, "/metrics?x=y");
    assert_eq!(code, 200);
    assert!(
        head.contains("\r\nContent-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n")
    );
    assert!(body.contains("\nmillrace_testd_gets_total 1\n") && body.ends_with("# EOF\n"), "{body}");
    assert!(body.contains("\nprocess_resident_memory_bytes "));

    assert_eq!(get(address, "/config").2, "port = 7\n");
    assert_eq!(get(address, "/pools").0, 404);
    service.add_page("/pools", || ("application/json", "[]".to_owned()));
    let (code, head, body) = get(address, "/pools");
    assert_eq!((code, body.as_str()), (200, "[]"));
    assert!(head.contains("\r\nContent-Type: application/json\r\n"));
    assert!(get(address, "/").2.contains("\n/pools\n"));
    service.shutdown();
}

#[test]
fn one_connection_serves_many_requests() {
    let (service, address) = start("");
    let mut stream = connect(address);
    let request = "HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    stream.write_all(request.repeat(50).as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    for _ in 0..50 {
        assert_eq!(read_answer(&mut reader, false).0, 200);
        assert_eq!(read_answer(&mut reader, true).2, "ok\n");
    }
    service.shutdown();
    assert_eq!(reader.read(&mut [0]).unwrap(), 0, "an idle connection does not hold up the shutdown");
}

#[test]
fn bad_input_is_answered_or_closed_and_the_endpoint_serves_on() {
    let (service, address) = start("");
    for (input, code) in [
        (vec![b'a'; 1 << 20], 431),
        (b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody".to_vec(), 400),
        (b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 405),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), 400),
    ] {
        let mut stream = connect(address);
        // The answer may come, and the connection close, before all is written.
        let _ = stream.write_all(&input);
        let mut reader = BufReader::new(stream);
        let (answered, head, _) = read_answer(&mut reader, true);
        assert_eq!(answered, code);
        assert!(head.contains("\r\nConnection: close\r\n"));
    }
    let mut half = connect(address);
    half.write_all(b"GET /metrics HT").unwrap();
    half.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(half.read(&mut [0]).unwrap(), 0);
    let _silent = connect(address);
    assert_eq!(get(address, "/healthz").0, 200);
    service.shutdown();
}

#[test]
fn connections_over_the_limit_wait_their_turn() {
    let (service, address) = start("");
    let mut idle: Vec<_> = (0..ops::limits::ADMIN_CONNECTIONS_MAX)
        .map(|_| {
            // Answered, so each has its place before the next asks for one.
            let mut reader = BufReader::new(connect(address));
            reader.get_mut().write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            assert_eq!(read_answer(&mut reader, true).0, 200);
            reader
        })
        .collect();
    let mut late = BufReader::new(connect(address));
    late.get_mut().write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    late.get_mut().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert_eq!(late.fill_buf().unwrap_err().kind(), ErrorKind::WouldBlock);
    late.get_mut().set_read_timeout(Some(PATIENCE)).unwrap();
    idle.pop();
    assert_eq!(read_answer(&mut late, true).0, 200);
    service.shutdown();
}

#[test]
fn an_address_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let options = Options { name: "testd", admin: Some(address), config: String::new() };
    let error = Service::start(options).err().unwrap().to_string();
    assert_eq!(
        error,
        format!(
            "cannot open the admin endpoint on {address}: Address already in use (os error 98); \
             set another address for it or free this one"
        )
    );
}
