//! Bad input on every port of the site: an error or a close, the daemon serves on, its memory stays bounded.
#![forbid(unsafe_code)]

use e2e::client::{curl, python, run};
use e2e::process::resident_bytes;
use e2e::site::Site;

/// What a daemon may grow by under bad input: receive buffers of two cores and what 100 half requests hold.
const GROWTH_BYTES_MAX: u64 = 128 << 20;

#[test]
fn every_port_survives_bad_input() {
    let mut site = Site::start();
    assert_eq!(site.get("/users/12").status, 200);
    // A process, its port at offset 0, requests of its protocol cut in half.
    let targets: [(&str, u16, &[&str]); 14] = [
        ("geodns", 8053, &[r"\x00\x1d\xab\xcd\x01\x00\x00\x01"]),
        (
            "proxy",
            8080,
            &[
                "GET /users/12 HTTP/1.1\\r\\nHost: x",
                "POST /login HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 100\\r\\n\\r\\n{",
            ],
        ),
        ("proxy", 8443, &[r"\x16\x03\x01\x02\x00\x01", "GET / HTTP/1.1\\r\\n"]),
        ("cachesrv", 11211, &["set a 0 0 100\\r\\nabc", "mg ", r"\x80\x01\x00\x03"]),
        (
            "dbshard",
            7001,
            &[
                "*3\\r\\n$3\\r\\nSET\\r\\n$1\\r\\na\\r\\n$100\\r\\nx",
                "*1000000000\\r\\n",
                "$999999999999\\r\\n",
            ],
        ),
        ("dbshard", 7002, &["*2\\r\\n$3\\r\\nGET"]),
        ("broker", 9092, &[r"\x7f\xff\xff\xff\x00\x12", r"\x00\x00\x00\x20\x00\x00\x00\x03\x00"]),
        ("web1", 9101, &["GET /users/12 HTTP/1.1\\r\\nHost: x"]),
        ("geodns", 8908, &["GET /metrics HTTP/1.1\\r\\n"]),
        ("dbshard", 8901, &["GET /metrics HTTP/1.1\\r\\n"]),
        ("broker", 8902, &["GET /"]),
        ("cachesrv", 8903, &["G"]),
        ("proxy", 8907, &["POST /metrics HTTP/1.1\\r\\nContent-Length: 5\\r\\n\\r\\n"]),
        ("worker1", 8906, &["GET /readyz"]),
    ];
    let processes: Vec<u32> = targets.iter().map(|(name, ..)| site.process(name)).collect();
    for ((name, port, halves), id) in targets.iter().zip(&processes) {
        let before = resident_bytes(*id);
        let port = site.address(*port).port().to_string();
        let mut arguments = vec!["127.0.0.1", &port];
        arguments.extend(*halves);
        python("hostile.py", &arguments);
        assert_eq!(site.process(name), *id, "{name} has died: {}", site.up.output());
        let growth = resident_bytes(*id).saturating_sub(before);
        assert!(growth <= GROWTH_BYTES_MAX, "{name} grew by {growth} bytes");
    }
    assert!(site.is_ready(), "{}", site.up.output());
    assert_eq!(site.get("/users/12").status, 200);
    let port = site.address(8053).port().to_string();
    assert_eq!(run("dig", &["@127.0.0.1", "-p", &port, "www.mysite.com", "+short"]), "127.0.0.1\n");
    site.stop();
}

#[test]
fn random_datagrams_do_not_stop_dns() {
    let site = Site::start();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let target = site.address(8053);
    let mut state = 1u64;
    for round in 0..20_000usize {
        let datagram: Vec<u8> = (0..round % 600)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        socket.send_to(&datagram, target).unwrap();
    }
    let port = target.port().to_string();
    assert_eq!(run("dig", &["@127.0.0.1", "-p", &port, "www.mysite.com", "+short"]), "127.0.0.1\n");
}

#[test]
fn smuggled_requests_are_refused() {
    let site = Site::start();
    let url = site.url("/users/12");
    for fields in [
        ["-H", "Content-Length: 5", "-H", "Transfer-Encoding: chunked"],
        ["-H", "Transfer-Encoding: chunked, identity", "-H", "X: y"],
        ["-H", "Content-Length: +5", "-H", "X: y"],
    ] {
        let mut arguments = vec!["-X", "POST", "--data-binary", "@/dev/null"];
        arguments.extend(fields);
        assert_eq!(curl(&url, &arguments).status, 400, "{fields:?}");
    }
}
