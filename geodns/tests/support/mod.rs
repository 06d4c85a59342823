//! A server on a free port, and hickory-proto on the askers' side.
#![allow(dead_code)] // Each test file uses its part.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::str::FromStr;
use std::thread::JoinHandle;
use std::time::Duration;

use geodns::config::{Config, MemberConfig, PoolConfig, ZoneConfig};
use geodns::{Bound, Error};
use hickory_proto::op::{Edns, Message, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use ops::Service;

/// No answer for this long is a failure.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) const ZONE: &str = "\
$TTL 300
@     SOA ns1 hostmaster 1 7200 600 3600000 60
@     NS  ns1
ns1   A   192.0.2.53
alias CNAME www
*.w   TXT wild
sub   NS  ns.sub
ns.sub A  192.0.2.99
";

pub(crate) fn config() -> Config {
    let mut zone = ZONE.to_owned();
    for i in 0..200 {
        zone.push_str(&format!("big A 198.51.100.{i}\n"));
    }
    let member = |address: &str| MemberConfig { address: address.parse().unwrap(), weight: 1 };
    Config {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        cores: 2,
        zone: vec![ZoneConfig { name: "mysite.com".into(), file: None, text: Some(zone) }],
        pool: [(
            "web".into(),
            PoolConfig { ttl_seconds: 30, members: vec![member("192.0.2.1"), member("192.0.2.2")] },
        )]
        .into(),
        names: [("www.mysite.com".into(), "web".into())].into(),
        ..Config::default()
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) service: Service,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Server {
    pub(crate) fn start(config: Config) -> Server {
        let bound = Bound::bind(config).expect("zones that load and ports that are free");
        let address = bound.addresses()[0];
        let options = ops::Options { name: "geodns", admin: None, config: String::new() };
        let service = Service::start(options).unwrap();
        let running = service.clone();
        let thread = std::thread::Builder::new().spawn(move || bound.run(&running)).unwrap();
        Server { address, service, thread: Some(thread) }
    }

    /// Stops the server and gives what its `run` gave.
    pub(crate) fn stop(mut self) -> Result<(), Error> {
        self.service.stop().request();
        let result = self.thread.take().unwrap().join().unwrap();
        self.service.shutdown();
        result
    }

    pub(crate) fn udp(&self) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(self.address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket
    }

    pub(crate) fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// Asks over UDP, without EDNS; again when no answer comes, as datagrams may be lost.
    pub(crate) fn ask(&self, name: &str, kind: RecordType) -> Message {
        let socket = self.udp();
        let each = Duration::from_secs(1);
        socket.set_read_timeout(Some(each)).unwrap();
        let mut buffer = [0; 65_535];
        for _ in 0..DEADLINE.as_secs() / each.as_secs() {
            socket.send(&query(7, name, kind, None)).unwrap();
            if let Ok(length) = socket.recv(&mut buffer) {
                return Message::from_vec(&buffer[..length]).expect("an answer that hickory-proto reads");
            }
        }
        panic!("no answer in time");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.service.stop().request();
            let _ = thread.join();
            self.service.shutdown();
        }
    }
}

pub(crate) fn query(id: u16, name: &str, kind: RecordType, udp_bytes_max: Option<u16>) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = id;
    message.metadata.op_code = OpCode::Query;
    message.add_query(Query::query(Name::from_str(name).unwrap(), kind));
    if let Some(bytes) = udp_bytes_max {
        let mut edns = Edns::new();
        edns.set_max_payload(bytes);
        message.set_edns(edns);
    }
    message.to_vec().unwrap()
}

pub(crate) fn receive(socket: &UdpSocket) -> Message {
    let mut buffer = [0; 65_535];
    let length = socket.recv(&mut buffer).expect("an answer in time");
    Message::from_vec(&buffer[..length]).expect("an answer that hickory-proto reads")
}

pub(crate) fn frame(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

pub(crate) fn read_frame(stream: &mut TcpStream) -> Message {
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("an answer in time");
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).unwrap();
    Message::from_vec(&message).expect("an answer that hickory-proto reads")
}

pub(crate) fn ask_tcp(stream: &mut TcpStream, id: u16, name: &str, kind: RecordType) -> Message {
    stream.write_all(&frame(&query(id, name, kind, None))).unwrap();
    read_frame(stream)
}

/// Whether the peer has closed: end of stream or a reset, within the deadline.
pub(crate) fn is_closed(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 65_536];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(why) => return why.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}
