//! TLS in front.

mod harness;

use harness::{Origin, Proxy, config};
use proxy::config::{Listen, Tls};
use std::io::{Read, Write};
use std::net::TcpStream;
use tls::rustls::{ClientConnection, StreamOwned};

#[test]
fn requests_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let ca = tls::dev::ensure(folder.path(), &["a.example"]).unwrap();
    let origin = Origin::answering(|request| request.to_owned());
    let mut config = config(&[origin.address]);
    let files = Tls { cert: ca.cert_pem.clone(), key: ca.key_pem.clone() };
    config.listen.push(Listen { address: "127.0.0.1:0".into(), tls: Some(files) });
    let proxy = Proxy::start(&config);

    let trust = tls::ClientConfig::from_pem_roots(&[&ca.ca_pem], &[b"h2", b"http/1.1"]).unwrap();
    let connection = ClientConnection::new(trust, "a.example".try_into().unwrap()).unwrap();
    let stream = TcpStream::connect(proxy.addresses[1]).unwrap();
    stream.set_read_timeout(Some(harness::PATIENCE)).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    for _ in 0..3 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"millrace\r\n\r\n") {
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0);
            answer.extend_from_slice(&buffer[..count]);
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("X-Forwarded-Proto: https\r\n"),
            "{answer}"
        );
    }
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));

    // Plain HTTP there is no handshake; plain HTTP on the other port goes on.
    let mut plain = harness::Client::connect(proxy.addresses[1]);
    plain.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(!plain.rest().starts_with(b"HTTP"));
    assert_eq!(proxy.client().get("/").status, 200);
}

#[test]
fn a_certificate_that_cannot_be_read_is_an_error_that_names_it() {
    let mut config = config(&[harness::nobody()]);
    config.listen[0].tls = Some(Tls { cert: "/nowhere/cert.pem".into(), key: "/nowhere/key.pem".into() });
    let error = proxy::Bound::new(&config).err().expect("no certificate").to_string();
    assert!(error.contains("/nowhere/cert.pem"), "{error}");
}
