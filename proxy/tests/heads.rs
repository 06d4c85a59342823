//! Heads as they are passed on, for heads of every sort: what goes out is one head, read as strictly as what came in, and
//! says the same of method, host and length. A request that one of two parsers could read otherwise would fail here.

use proxy::core::answer::{self, Asked, Plan};
use proxy::core::forward::{self, Client, Extra, Policy};
use wire::http1::{FieldStorage, Framing, HeadKind, HeadScan, Limits, Request, Response, Version};

const ROUNDS: usize = 60_000;

/// SplitMix64 with a fixed seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 33) as usize % limit
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

const FIELDS: [&str; 36] = [
    "Host: a.example",
    "Host: a.example:80",
    "Host:",
    "Content-Length: 5",
    "Content-Length: 0",
    "Content-Length: 05",
    "Content-Length: 5, 5",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding:\tchunked ",
    "Transfer-Encoding: gzip, chunked",
    "Transfer_Encoding: chunked",
    "Connection: close",
    "Connection: keep-alive",
    "Connection: upgrade",
    "Connection: content-length, host, x",
    "Connection: transfer-encoding",
    "Upgrade: websocket",
    "Upgrade: h2c",
    "Expect: 100-continue",
    "TE: trailers",
    "Trailer: x",
    "X: y",
    "X-Forwarded-For: 1.1.1.1",
    "X_Forwarded_For: 1.1.1.1",
    "X-Forwarded-Host: b",
    "Forwarded: for=1.1.1.1",
    "Via: 1.0 x",
    "Via:",
    "X-Id: 9",
    "Proxy: x",
    "Keep-Alive: 5",
    "Date: now",
    "Cookie: a=b; c=\u{e9}",
    "Content_Length: 7",
    "Proxy-Connection: keep-alive",
    "Content-Type: text/plain",
];
const INSERTED: [&str; 12] = ["\r", "\n", "\0", " ", "\t", ":", ",", "\x0b", "\r\n", "\r\n ", "\u{a0}", "0"];

/// A head, often malformed: fields of every sort, now and then with something inserted anywhere.
fn head(numbers: &mut Numbers, first: &str) -> Vec<u8> {
    let mut text = format!("{first}\r\n");
    if numbers.below(8) > 0 {
        text += "Host: a.example\r\n";
    }
    for _ in 0..numbers.below(5) {
        text += numbers.pick(&FIELDS);
        text += "\r\n";
    }
    text += "\r\n";
    let mut bytes = text.into_bytes();
    if numbers.below(3) == 0 {
        let at = numbers.below(bytes.len());
        let inserted = numbers.pick(&INSERTED).bytes();
        bytes.splice(at..at, inserted);
    }
    bytes
}

fn is_one_head(kind: HeadKind, bytes: &[u8]) -> bool {
    matches!(HeadScan::new(kind).find(bytes, &Limits::default()), Ok(Some(range)) if range == (0..bytes.len()))
}

#[test]
fn requests_have_one_reading_on_both_sides() {
    let mut numbers = Numbers(1);
    let mut accepted = 0;
    for _ in 0..ROUNDS {
        let method = numbers.pick(&["GET", "POST", "HEAD", "OPTIONS", "PUT", "get"]);
        let target =
            numbers.pick(&["/", "/a?b", "*", "http://b.example/x", "http://b.example", "http://b?q"]);
        let version = numbers.pick(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.0"]);
        let bytes = head(&mut numbers, &format!("{method} {target} {version}"));
        let Ok(Some(range)) = HeadScan::new(HeadKind::Request).find(&bytes, &Limits::default()) else {
            continue;
        };
        let mut storage = FieldStorage::new();
        let Ok(request) = Request::parse(&bytes[range], &mut storage, &Limits::default()) else { continue };
        accepted += 1;
        let client = Client { address: "192.0.2.1".into(), secure: false, trusted: numbers.below(2) == 0 };
        let policy = Policy {
            x_forwarded: true,
            forwarded: true,
            via: "v".into(),
            request_id_field: Some("X-Id".into()),
        };
        let upgrade = request.framing == Framing::None;
        let extra = Extra { default_host: "default", request_id: 7, upgrade };
        let mut out = Vec::new();
        forward::write_head(&mut out, &request, &client, &policy, extra);
        let text = String::from_utf8_lossy(&out);
        assert!(is_one_head(HeadKind::Request, &out), "{text:?}");
        let mut storage = FieldStorage::new();
        let read = Request::parse(&out, &mut storage, &Limits::default()).expect(&text);
        assert_eq!(
            (read.method, read.framing, read.version),
            (request.method, request.framing, Version::Http11)
        );
        assert_eq!(read.host, Some(request.host.unwrap_or("default")), "{text:?}");
        assert_eq!(text.matches("\r\nX-Id: ").count(), 1, "{text:?}");
        for name in ["Transfer_Encoding", "Content_Length", "X_Forwarded_For", "Proxy", "Keep-Alive", "TE"] {
            assert!(!text.contains(&format!("\r\n{name}:")), "{text:?}");
        }
    }
    assert!(accepted > ROUNDS / 10, "{accepted} heads were good enough to try");
}

#[test]
fn answers_have_one_reading_on_both_sides() {
    let mut numbers = Numbers(2);
    let mut accepted = 0;
    for _ in 0..ROUNDS {
        let status =
            numbers.pick(&["200 OK", "204 No Content", "304 Not Modified", "103 Early", "101 Up", "500 "]);
        let version = numbers.pick(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.0"]);
        let bytes = head(&mut numbers, &format!("{version} {status}"));
        let to_head = numbers.below(4) == 0;
        let Ok(Some(range)) = HeadScan::new(HeadKind::Response).find(&bytes, &Limits::default()) else {
            continue;
        };
        let mut storage = FieldStorage::new();
        let Ok(response) = Response::parse(&bytes[range], &mut storage, to_head, &Limits::default()) else {
            continue;
        };
        accepted += 1;
        for version in [Version::Http10, Version::Http11] {
            let asked = Asked { version, head: to_head, persists: true, upgrade: true };
            let plan = Plan::of(&response, asked, true);
            let mut out = Vec::new();
            match response.status {
                101 if response.upgrade.is_some() => answer::write_upgrade_head(&mut out, &response),
                100..200 => answer::write_interim_head(&mut out, &response),
                _ => answer::write_head(&mut out, &response, asked, plan, b"now"),
            }
            let text = String::from_utf8_lossy(&out);
            assert!(is_one_head(HeadKind::Response, &out), "{text:?}");
            let mut storage = FieldStorage::new();
            let read = Response::parse(&out, &mut storage, to_head, &Limits::default()).expect(&text);
            assert_eq!((read.status, read.framing), (response.status, plan.write), "{text:?}");
        }
    }
    assert!(accepted > ROUNDS / 10, "{accepted} heads were good enough to try");
}
