//! The daemon on real sockets: pipelines, silence, garbage, limits, the end.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Duration;

use cachesrv::{Config, Error, Server};
use runtime::net::Address;

/// No answer takes so long; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

struct Daemon {
    addresses: Vec<Address>,
    service: ops::Service,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Daemon {
    fn start(change: impl FnOnce(&mut Config)) -> Daemon {
        let mut config = Config { listen: vec!["127.0.0.1:0".to_owned()], threads: 2, ..Config::default() };
        change(&mut config);
        let service = ops::Service::start(ops::Options { name: "cachesrv", ..ops::Options::default() })
            .expect("service");
        let server = Server::bind(&config).expect("bound");
        let addresses = server.addresses();
        let thread = std::thread::Builder::new().spawn({
            let service = service.clone();
            move || server.run(&service)
        });
        Daemon { addresses, service, thread: Some(thread.expect("thread")) }
    }

    fn address(&self) -> SocketAddr {
        self.addresses[0].ip().expect("TCP")
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.set_nodelay(true).expect("set");
        stream
    }

    fn stop(mut self) {
        self.service.stop().request();
        self.thread.take().expect("running").join().expect("no panic").expect("a clean end");
    }
}

/// Sends and reads as much as is expected.
#[track_caller]
fn exchange(stream: &mut (impl Read + Write), request: &[u8], expected: &str) {
    stream.write_all(request).expect("sent");
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer).expect("answered");
    assert_eq!(String::from_utf8_lossy(&answer), expected);
}

/// Everything until the daemon closes.
fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("not closed: {error}"),
    }
    all
}

#[test]
fn a_pipeline_cut_anywhere_on_either_backend() {
    let pipeline = b"set a 1 0 5\r\nhello\r\nget a b\r\nms m 3 T0\r\nabc\r\nset n 0 0 1 noreply\r\n7\r\nmg m v\r\nincr n 3\r\nbad\r\nmn\r\n";
    let answers = "STORED\r\nVALUE a 1 5\r\nhello\r\nEND\r\nHD\r\nVA 3\r\nabc\r\n10\r\nERROR\r\nMN\r\n";
    for epoll in [false, true] {
        let daemon = Daemon::start(|config| config.epoll = epoll);
        let mut stream = daemon.connect();
        for cut in 1..pipeline.len() {
            stream.write_all(&pipeline[..cut]).expect("sent");
            exchange(&mut stream, &pipeline[cut..], answers);
        }
        daemon.stop();
    }
}

#[test]
fn every_core_answers_every_key() {
    let daemon = Daemon::start(|_| {});
    let mut streams: Vec<TcpStream> = (0..16).map(|_| daemon.connect()).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        exchange(stream, format!("set key-{number} 0 0 2\r\n{number:02}\r\n").as_bytes(), "STORED\r\n");
    }
    for stream in &mut streams {
        for number in 0..16 {
            let expected = format!("VALUE key-{number} 0 2\r\n{number:02}\r\nEND\r\n");
            exchange(stream, format!("get key-{number}\r\n").as_bytes(), &expected);
        }
    }
    daemon.stop();
}

#[test]
fn large_values_and_slow_readers() {
    let daemon = Daemon::start(|_| {});
    let value: Vec<u8> = (0..1_000_000_u32).map(|n| b'a' + (n % 23) as u8).collect();
    let mut stream = daemon.connect();
    exchange(&mut stream, &[b"set large 0 0 1000000\r\n", &value[..], b"\r\n"].concat(), "STORED\r\n");
    // 64 MB of answers asked for at once, none read until all is asked.
    stream.write_all(&b"get large large large large\r\n".repeat(16)).expect("sent");
    let mut other = daemon.connect();
    exchange(&mut other, b"mn\r\n", "MN\r\n");
    let head = b"VALUE large 0 1000000\r\n";
    for _ in 0..16 {
        for _ in 0..4 {
            let mut answer = vec![0; head.len() + value.len() + 2];
            stream.read_exact(&mut answer).expect("answered");
            assert!(answer[head.len()..].starts_with(&value));
        }
        let mut end = [0; 5];
        stream.read_exact(&mut end).expect("answered");
        assert_eq!(&end, b"END\r\n");
    }
    daemon.stop();
}

#[test]
fn garbage_is_answered_or_closed_on_and_the_daemon_serves_on() {
    let daemon = Daemon::start(|_| {});
    let mut state: u64 = 99;
    for round in 0..200 {
        let mut stream = daemon.connect();
        let noise: Vec<u8> = (0..round * 40)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect();
        // The daemon may close before all is sent.
        let _ = stream.write_all(&noise);
        let _ = stream.shutdown(Shutdown::Write);
        read_to_end(&mut stream);
    }
    let mut letters = daemon.connect();
    let _ = letters.write_all(&vec![b'a'; 1 << 20]);
    assert!(read_to_end(&mut letters).is_empty());
    let mut binary = daemon.connect();
    let _ = binary.write_all(&[0x80; 24]);
    assert!(read_to_end(&mut binary).is_empty());
    exchange(&mut daemon.connect(), b"mn\r\n", "MN\r\n");
    daemon.stop();
}

#[test]
fn half_a_set_then_silence_costs_a_bounded_share() {
    let daemon = Daemon::start(|_| {});
    // Half of 64 MiB may be announced at a time: the 33rd value of nearly 1 MiB is refused, not waited for.
    let mut silent: Vec<TcpStream> = (0..40).map(|_| daemon.connect()).collect();
    for (number, stream) in silent.iter_mut().enumerate() {
        // The answer to the first command shows that the second was looked at.
        exchange(stream, format!("mn\r\nset k{number} 0 0 1000000\r\nhalf\r\n").as_bytes(), "MN\r\n");
    }
    let rest = [vec![b'x'; 1_000_000 - 6], b"\r\n".to_vec()].concat();
    let mut refused = 0;
    for stream in &mut silent {
        stream.write_all(&rest).expect("sent");
        stream.shutdown(Shutdown::Write).expect("finished");
        match read_to_end(stream).as_slice() {
            b"STORED\r\n" => {}
            b"SERVER_ERROR out of memory storing object\r\n" => refused += 1,
            other => panic!("{}", String::from_utf8_lossy(other)),
        }
    }
    assert!((5..=10).contains(&refused), "{refused} refused");
    drop(silent);
    let mut stream = daemon.connect();
    exchange(
        &mut stream,
        b"set small 0 0 2\r\nok\r\nget small\r\n",
        "STORED\r\nVALUE small 0 2\r\nok\r\nEND\r\n",
    );
    daemon.stop();
}

#[test]
fn one_connection_too_many_is_told_so() {
    let daemon = Daemon::start(|config| config.connections_max = 2);
    let mut kept = [daemon.connect(), daemon.connect()];
    for stream in &mut kept {
        exchange(stream, b"mn\r\n", "MN\r\n");
    }
    assert_eq!(read_to_end(&mut daemon.connect()), b"ERROR Too many open connections\r\n");
    let [first, mut second] = kept;
    drop(first);
    // The daemon notices the end of a connection in its own time.
    let deadline = runtime::time::now() + PATIENCE;
    loop {
        let mut stream = daemon.connect();
        stream.write_all(b"mn\r\nquit\r\n").expect("sent");
        if read_to_end(&mut stream) == b"MN\r\n" {
            break;
        }
        assert!(runtime::time::now() < deadline, "a place became free");
    }
    exchange(&mut second, b"mn\r\n", "MN\r\n");
    daemon.stop();
}

#[test]
fn unix_sockets() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("cache.sock");
    let daemon = Daemon::start(|config| {
        config.listen = vec![format!("unix:{}", path.display())];
        config.unix_mode = 0o640;
    });
    let mut stream = UnixStream::connect(&path).expect("connected");
    exchange(&mut stream, b"set k 0 0 1\r\na\r\nget k\r\n", "STORED\r\nVALUE k 0 1\r\na\r\nEND\r\n");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).expect("there").permissions());
    assert_eq!(mode & 0o777, 0o640);
    daemon.stop();
    assert!(!path.exists());
}

#[test]
fn a_port_in_use_is_named() {
    let daemon = Daemon::start(|_| {});
    let config = Config { listen: vec![daemon.address().to_string()], ..Config::default() };
    let text = Server::bind(&config).expect_err("in use").to_string();
    assert!(text.contains(&daemon.address().to_string()), "{text}");
    daemon.stop();
}

#[test]
fn a_stop_closes_the_idle_and_lets_the_others_finish() {
    let daemon = Daemon::start(|_| {});
    let mut idle = daemon.connect();
    exchange(&mut idle, b"mn\r\n", "MN\r\n");
    let mut busy = daemon.connect();
    exchange(&mut busy, b"mn\r\nset k 0 0 10\r\nhello", "MN\r\n");
    daemon.service.stop().request();
    assert!(read_to_end(&mut idle).is_empty());
    busy.write_all(b"world\r\n").expect("sent");
    assert_eq!(read_to_end(&mut busy), b"STORED\r\n");
    daemon.stop();
}

#[test]
fn the_drain_time_is_kept() {
    let daemon = Daemon::start(|config| config.drain_ms = 50);
    let mut busy = daemon.connect();
    exchange(&mut busy, b"mn\r\nset k 0 0 10\r\nhello", "MN\r\n");
    daemon.stop();
    assert!(read_to_end(&mut busy).is_empty());
}

#[test]
fn shutdown_stops_the_service() {
    let daemon = Daemon::start(|config| config.shutdown_command = true);
    let mut stream = daemon.connect();
    stream.write_all(b"shutdown\r\n").expect("sent");
    assert!(read_to_end(&mut stream).is_empty());
    daemon.stop();
}

#[test]
fn the_idle_are_closed_on_if_so_set() {
    let daemon = Daemon::start(|config| config.idle_timeout_s = 1);
    let mut stream = daemon.connect();
    exchange(&mut stream, b"mn\r\n", "MN\r\n");
    assert!(read_to_end(&mut stream).is_empty());
    daemon.stop();
}
