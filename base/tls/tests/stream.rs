//! Real handshakes over real sockets, on one core.

use futures_util::future::join;
use runtime::net::{self, Address, ListenOptions, Listener, Stream};
use runtime::{Segment, time};
use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tls::{CertifiedFiles, ClientConfig, Conn, Error, ServerConfig, TlsStream};

const PATIENCE: Duration = Duration::from_secs(30);

fn run<T>(test: impl Future<Output = T>) -> T {
    let limited = time::timeout(PATIENCE, test);
    match runtime::block_on(&runtime::Options::default(), limited).unwrap() {
        Ok(value) => value,
        Err(_) => panic!("the test has not ended in {PATIENCE:?}"),
    }
}

/// A CA with one leaf, and the two configurations.
struct Site {
    _folder: tempfile::TempDir,
    files: CertifiedFiles,
    server: Arc<rustls::ServerConfig>,
    client: Arc<rustls::ClientConfig>,
}

impl Site {
    fn new(names: &[&str], server_alpn: &[&[u8]], client_alpn: &[&[u8]]) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let ca = tls::dev::ensure(folder.path(), names).unwrap();
        let files = CertifiedFiles { cert: ca.cert_pem, key: ca.key_pem };
        let server = ServerConfig::from_pem(std::slice::from_ref(&files), server_alpn).unwrap();
        let client = ClientConfig::from_pem_roots(&[&ca.ca_pem], client_alpn).unwrap();
        Site { _folder: folder, files, server, client }
    }

    fn plain() -> Site {
        Site::new(&["a.test"], &[], &[])
    }

    /// Both ends of one connection.
    async fn pair(&self) -> (TlsStream, TlsStream) {
        let (server, client) = sockets().await;
        let accepted = tls::accept(server, self.server.clone());
        let (server, client) = join(accepted, tls::connect(client, "a.test", self.client.clone())).await;
        (server.unwrap(), client.unwrap())
    }
}

fn listen() -> (Listener, SocketAddr) {
    let address: Address = "127.0.0.1:0".parse().unwrap();
    let bound = net::listen(&address, 1, &ListenOptions::default()).unwrap().remove(0);
    let listener = bound.open().unwrap();
    match listener.local_addr() {
        Address::Ip(address) => (listener, address),
        other => panic!("{other}"),
    }
}

async fn sockets() -> (Stream, Stream) {
    let (listener, address) = listen();
    let (accepted, connected) = join(listener.accept(), Stream::connect(&Address::from(address))).await;
    (accepted.unwrap().0, connected.unwrap())
}

fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|i| ((i * 31 + i / 251 + seed) % 256) as u8).collect()
}

async fn read_to_end(stream: &TlsStream) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let lease = stream.recv().await?;
        if lease.is_empty() {
            return Ok(all);
        }
        all.extend_from_slice(&lease);
    }
}

#[test]
fn a_mebibyte_goes_both_ways_at_once() {
    run(async {
        let site = Site::plain();
        let (server, client) = site.pair().await;
        let (up, down) = (pattern(1 << 20, 1), pattern(1 << 20, 7));
        let send = async |stream: &TlsStream, data: &[u8]| {
            for piece in data.chunks(10_007) {
                stream.send(piece.to_vec()).await.unwrap();
            }
            stream.shutdown().await.unwrap();
        };
        let at_server = join(send(&server, &down), read_to_end(&server));
        let at_client = join(send(&client, &up), read_to_end(&client));
        let (((), got_up), ((), got_down)) = join(at_server, at_client).await;
        assert!(got_up.unwrap() == up && got_down.unwrap() == down);
        assert!(server.recv().await.unwrap().is_empty(), "the end stays the end");
    });
}

#[test]
fn one_large_send_and_many_small_segments_arrive_in_order() {
    run(async {
        let site = Site::plain();
        let (server, client) = site.pair().await;
        let large = pattern(3 << 20, 3);
        let small: Vec<Segment> =
            large.chunks(5).take(10_000).map(|piece| Segment::from(piece.to_vec())).collect();
        let sending = async {
            client.send(large.clone()).await.unwrap();
            client.send_all(small).await.unwrap();
            client.send_all([]).await.unwrap();
            client.send(Vec::new()).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let ((), received) = join(sending, read_to_end(&server)).await;
        let received = received.unwrap();
        assert!(received[..large.len()] == large[..]);
        assert!(received[large.len()..] == large[..50_000]);
    });
}

#[test]
fn a_dropped_recv_loses_nothing() {
    run(async {
        let site = Site::plain();
        let (server, client) = site.pair().await;
        let data = pattern(1 << 20, 5);
        let received = RefCell::new(Vec::new());
        let receiving = async {
            loop {
                // Gives up at once or after a turn, most of the time with a receive under way.
                let waited = time::timeout(Duration::from_micros(200), server.recv()).await;
                match waited {
                    Ok(lease) => match lease.unwrap() {
                        lease if lease.is_empty() => return,
                        lease => received.borrow_mut().extend_from_slice(&lease),
                    },
                    Err(_) => runtime::yield_now().await,
                }
            }
        };
        let sending = async {
            for piece in data.chunks(777) {
                client.send(piece.to_vec()).await.unwrap();
                runtime::yield_now().await;
            }
            client.shutdown().await.unwrap();
        };
        join(receiving, sending).await;
        assert!(received.into_inner() == data);
    });
}

#[test]
fn what_a_dropped_send_had_taken_arrives() {
    run(async {
        let site = Site::plain();
        let (server, client) = site.pair().await;
        client.set_send_queue_limit(64 << 10);
        let client = Rc::new(client);
        // More than the kernel's buffers of both ends ever hold.
        let data = pattern(64 << 20, 9);
        // Nobody receives: at some point a send must wait, and is dropped without having taken anything.
        let mut taken = 0;
        for piece in data.chunks(16 << 10) {
            match time::timeout(Duration::from_millis(20), client.send(piece.to_vec())).await {
                Ok(sent) => sent.unwrap(),
                Err(_) => break,
            }
            taken += piece.len();
        }
        assert!(taken < data.len(), "the queue has a limit");
        let ending = async { client.shutdown().await.unwrap() };
        let ((), received) = join(ending, read_to_end(&server)).await;
        assert!(received.unwrap() == data[..taken]);
    });
}

#[test]
fn an_end_without_close_notify_is_a_truncation() {
    let site = Site::plain();
    run(async {
        let (listener, address) = listen();
        let config = site.client.clone();
        let client = std::thread::Builder::new().spawn(move || {
            let mut client = StdClient::connect(address, config);
            client.stream.write_all(b"half of ").unwrap();
            client.stream.flush().unwrap();
            client.stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
            // Held until the server has seen the end.
            let _ = client.stream.sock.read(&mut [0]);
        });
        let (stream, _) = listener.accept().await.unwrap();
        let server = tls::accept(stream, site.server.clone()).await.unwrap();
        assert_eq!(&*server.recv().await.unwrap(), b"half of ");
        for _ in 0..2 {
            let error = server.recv().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
            assert!(error.to_string().contains("close_notify"), "{error}");
        }
        drop(server);
        runtime::blocking(move || client.unwrap().join().unwrap()).await;
    });
}

/// rustls's own blocking stream, which our code has no part in.
struct StdClient {
    stream: rustls::StreamOwned<rustls::ClientConnection, TcpStream>,
}

impl StdClient {
    fn connect(address: SocketAddr, config: Arc<rustls::ClientConfig>) -> StdClient {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let connection = rustls::ClientConnection::new(config, "a.test".try_into().unwrap()).unwrap();
        StdClient { stream: rustls::StreamOwned::new(connection, socket) }
    }
}

#[test]
fn sessions_resume_and_keys_are_renewed() {
    let site = Site::plain();
    run(async {
        let (listener, address) = listen();
        let config = site.client.clone();
        let client = std::thread::Builder::new().spawn(move || {
            let mut kinds = Vec::new();
            for _ in 0..2 {
                let mut client = StdClient::connect(address, config.clone());
                for round in 0..3_u8 {
                    client.stream.write_all(&[round; 100]).unwrap();
                    let mut echo = [0; 100];
                    client.stream.read_exact(&mut echo).unwrap();
                    assert_eq!(echo, [round; 100]);
                    client.stream.conn.refresh_traffic_keys().unwrap();
                }
                kinds.push(client.stream.conn.handshake_kind().unwrap());
                client.stream.conn.send_close_notify();
                client.stream.flush().unwrap();
                assert_eq!(client.stream.read(&mut [0]).unwrap(), 0, "the server's close_notify");
            }
            kinds
        });
        for expected in [false, true] {
            let (stream, _) = listener.accept().await.unwrap();
            let server = tls::accept(stream, site.server.clone()).await.unwrap();
            assert_eq!(server.is_resumed(), expected);
            loop {
                let lease = server.recv().await.unwrap();
                if lease.is_empty() {
                    break;
                }
                server.send(lease).await.unwrap();
            }
            server.shutdown().await.unwrap();
        }
        let kinds = runtime::blocking(move || client.unwrap().join().unwrap()).await;
        assert_eq!(kinds, [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed]);
    });
}

#[test]
fn the_name_chooses_the_certificate_and_alpn_the_protocol() {
    run(async {
        let a = Site::new(&["a.test", "*.wild.test"], &[], &[b"http/1.1"]);
        let b = Site::new(&["B.test"], &[], &[b"h2", b"http/1.1"]);
        let both = [a.files.clone(), b.files.clone()];
        let server = ServerConfig::from_pem(&both, &[b"h2", b"http/1.1"]).unwrap();
        for (site, name, protocol) in [
            (&a, "a.test", &b"http/1.1"[..]),
            (&b, "b.test", b"h2"),
            (&b, "b.TEST", b"h2"),
            (&a, "one.wild.test", b"http/1.1"),
            (&a, "127.0.0.1", b"http/1.1"),
        ] {
            let (accepted, connected) = sockets().await;
            let accepting = tls::accept(accepted, server.clone());
            let (accepted, connected) =
                join(accepting, tls::connect(connected, name, site.client.clone())).await;
            let (accepted, connected) = (accepted.unwrap(), connected.unwrap());
            assert_eq!(accepted.alpn(), Some(protocol));
            assert_eq!(connected.alpn(), Some(protocol));
            let asked = accepted.server_name().map(str::to_ascii_lowercase);
            assert_eq!(asked, (name != "127.0.0.1").then(|| name.to_ascii_lowercase()));
        }
        // b's clients do not trust what an unknown name gets: the first, a's.
        let (accepted, connected) = sockets().await;
        let accepting = tls::accept(accepted, server.clone());
        let (_, connected) = join(accepting, tls::connect(connected, "c.test", b.client.clone())).await;
        assert!(matches!(connected, Err(Error::Handshake(_))));
    });
}

async fn refused(client: Arc<rustls::ClientConfig>, name: &str, site: &Site) -> (String, String) {
    let (accepted, connected) = sockets().await;
    let accepting = tls::accept(accepted, site.server.clone());
    let (accepted, connected) = join(accepting, tls::connect(connected, name, client)).await;
    (accepted.err().unwrap().to_string(), connected.err().unwrap().to_string())
}

#[test]
fn a_foreign_ca_and_a_foreign_name_are_refused() {
    run(async {
        let (site, other) = (Site::plain(), Site::plain());
        let (server, client) = refused(other.client.clone(), "a.test", &site).await;
        assert!(client.starts_with("TLS handshake: invalid peer certificate"), "{client}");
        assert!(server.starts_with("TLS handshake: received fatal alert"), "{server}");
        let (_, client) = refused(site.client.clone(), "b.test", &site).await;
        assert!(client.contains("not valid for name"), "{client}");
        let (_, client) = refused(site.client.clone(), "127.0.0.2", &site).await;
        assert!(client.contains("not valid for name"), "{client}");
        let (_, stream) = sockets().await;
        let error = tls::connect(stream, "no name", site.client.clone()).await.err().unwrap();
        assert!(matches!(error, Error::ServerName(_)));
    });
}

#[test]
fn no_common_protocol_is_refused() {
    run(async {
        let site = Site::new(&["a.test"], &[b"h2"], &[b"http/1.1"]);
        let (server, client) = refused(site.client.clone(), "a.test", &site).await;
        assert!(
            client.contains("NoApplicationProtocol") || client.contains("no application protocol"),
            "{client}"
        );
        assert!(server.contains("no known") || server.contains("protocol"), "{server}");
    });
}

#[test]
fn what_is_not_tls_is_refused_and_silence_meets_the_callers_deadline() {
    run(async {
        let site = Site::plain();
        let megabyte = vec![b'a'; 1 << 20];
        for input in
            [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], &megabyte, &[0; 100_000], &[0x16, 3, 1, 255, 255, 1]]
        {
            let (accepted, connected) = sockets().await;
            let sending = async {
                let _ = connected.send(input.to_vec()).await;
                let _ = connected.shutdown().await;
            };
            let (accepted, ()) = join(tls::accept(accepted, site.server.clone()), sending).await;
            assert!(matches!(accepted, Err(Error::Handshake(_) | Error::Closed)));
        }
        let (accepted, connected) = sockets().await;
        connected.send(&[0x16_u8, 3, 1][..]).await.unwrap();
        let accepting = tls::accept(accepted, site.server.clone());
        assert!(time::timeout(Duration::from_millis(50), accepting).await.is_err());
    });
}

#[test]
fn a_broken_record_ends_the_stream_after_what_came_before() {
    let site = Site::plain();
    run(async {
        let (listener, address) = listen();
        let config = site.client.clone();
        let client = std::thread::Builder::new().spawn(move || {
            let mut client = StdClient::connect(address, config);
            client.stream.write_all(b"right").unwrap();
            client.stream.flush().unwrap();
            client.stream.sock.write_all(&[0x17, 3, 3, 0, 20]).unwrap();
            client.stream.sock.write_all(&[0; 20]).unwrap();
            let error = client.stream.read(&mut [0]).unwrap_err();
            assert!(error.to_string().contains("BadRecordMac"), "{error}");
        });
        let (stream, _) = listener.accept().await.unwrap();
        let server = tls::accept(stream, site.server.clone()).await.unwrap();
        assert_eq!(&*server.recv().await.unwrap(), b"right");
        assert_eq!(server.recv().await.unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(server.recv().await.unwrap_err().kind(), ErrorKind::InvalidData);
        runtime::blocking(move || client.unwrap().join().unwrap()).await;
    });
}

#[test]
fn a_shell_is_written_once_for_both() {
    run(async {
        let echo = async |conn: &Conn| {
            let lease = conn.recv().await.unwrap();
            conn.send_all([Segment::from(lease), Segment::from("!")]).await.unwrap();
            conn.shutdown().await.unwrap();
        };
        let ask = async |conn: &Conn| {
            conn.send("hello").await.unwrap();
            conn.flush().await.unwrap();
            let mut answer = Vec::new();
            while let Ok(lease) = conn.recv().await {
                if lease.is_empty() {
                    break;
                }
                answer.extend_from_slice(&lease);
            }
            answer
        };
        let (server, client) = Site::plain().pair().await;
        let (server, client) = (Conn::from(server), Conn::from(client));
        assert!(server.is_tls() && server.server_name() == Some("a.test"));
        assert_eq!(join(echo(&server), ask(&client)).await.1, b"hello!");
        let (server, client) = sockets().await;
        let (server, client) = (Conn::from(server), Conn::from(client));
        assert!(!server.is_tls() && server.alpn().is_none());
        assert_eq!(join(echo(&server), ask(&client)).await.1, b"hello!");
    });
}
