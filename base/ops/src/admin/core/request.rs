//! A request head as this endpoint takes it: RFC 9112 with nothing lenient.
//!
//! A request that carries a body is refused rather than skipped, so that where the next request begins is never in doubt.

use super::Status;
use crate::limits;

/// What of a request matters here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The path without query, as sent.
    pub(crate) path: String,
    /// HEAD: the answer goes out without its body.
    pub(crate) is_head: bool,
    /// The connection serves another request after this one (RFC 9112, 9.3).
    pub(crate) keep_alive: bool,
    /// How many bytes of the input the head took.
    pub(crate) bytes: usize,
}

/// Why a request is not served; the connection is closed after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: Status,
    pub(crate) reason: &'static str,
}

const fn refuse(status: Status, reason: &'static str) -> Refusal {
    Refusal { status, reason }
}

/// The head at the start of `input`; `None` as long as it is not complete and may still become right.
pub(crate) fn parse(input: &[u8]) -> Result<Option<Head>, Refusal> {
    // An empty line before a request line is skipped (RFC 9112, 2.2); more than one is not.
    let skipped = if input.starts_with(b"\r\n") { 2 } else { 0 };
    let mut headers = [httparse::EMPTY_HEADER; limits::ADMIN_HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let bytes = match request.parse(&input[skipped..]) {
        Ok(httparse::Status::Complete(bytes)) => skipped + bytes,
        Ok(httparse::Status::Partial) if input.len() < limits::ADMIN_HEAD_BYTES_MAX => return Ok(None),
        Ok(httparse::Status::Partial) => {
            return Err(refuse(Status::TooLarge, "the request head is too large"));
        }
        Err(httparse::Error::TooManyHeaders) => {
            return Err(refuse(Status::TooLarge, "too many header fields"));
        }
        Err(httparse::Error::Version) => {
            return Err(refuse(Status::Version, "HTTP/1.1 or HTTP/1.0 is spoken here"));
        }
        Err(_) => return Err(refuse(Status::BadRequest, "this is not HTTP/1.1")),
    };
    if bytes > limits::ADMIN_HEAD_BYTES_MAX {
        return Err(refuse(Status::TooLarge, "the request head is too large"));
    }
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(refuse(Status::BadRequest, "this is not HTTP/1.1"));
    };
    let fields = Fields::read(request.headers)?;
    if version == 1 && fields.hosts != 1 || fields.hosts > 1 {
        return Err(refuse(Status::BadRequest, "one Host field is needed (RFC 9112, 3.2)"));
    }
    if fields.has_body {
        return Err(refuse(Status::BadRequest, "no request here has a body"));
    }
    let is_head = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Err(refuse(Status::MethodNotAllowed, "GET and HEAD are answered here")),
    };
    let path = target.split('?').next().unwrap_or_default();
    if !path.starts_with('/') {
        return Err(refuse(Status::BadRequest, "the target must be a path"));
    }
    let keep_alive = version == 1 && !fields.close;
    Ok(Some(Head { path: path.to_owned(), is_head, keep_alive, bytes }))
}

#[derive(Default)]
struct Fields {
    hosts: usize,
    has_body: bool,
    close: bool,
}

impl Fields {
    fn read(headers: &[httparse::Header<'_>]) -> Result<Fields, Refusal> {
        let mut fields = Fields::default();
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("host") {
                fields.hosts += 1;
            } else if is("transfer-encoding") {
                fields.has_body = true;
            } else if is("content-length") {
                fields.has_body |= header.value != b"0";
            } else if is("expect") {
                return Err(refuse(Status::ExpectationFailed, "nothing is expected here"));
            } else if is("connection") {
                let mut options = header.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                fields.close |= options.any(|option| option.eq_ignore_ascii_case(b"close"));
            }
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(text: &str) -> Status {
        parse(text.as_bytes()).unwrap_err().status
    }

    #[test]
    fn a_request_is_read_whole_or_not_yet() {
        let text = b"GET /metrics?a=b HTTP/1.1\r\nHost: x\r\n\r\nGET /next";
        let end = text.len() - b"GET /next".len();
        for cut in 0..end {
            assert_eq!(parse(&text[..cut]), Ok(None), "{cut}");
        }
        let head = Head { path: "/metrics".to_owned(), is_head: false, keep_alive: true, bytes: end };
        assert_eq!(parse(text), Ok(Some(head)));
    }

    #[test]
    fn the_connection_is_kept_as_the_version_says() {
        let keeps = |text: &str| parse(text.as_bytes()).unwrap().unwrap().keep_alive;
        assert!(keeps("HEAD / HTTP/1.1\r\nhost: x\r\n\r\n"));
        assert!(keeps("\r\nGET / HTTP/1.1\r\nhost: x\r\nContent-Length: 0\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.1\r\nhost: x\r\nConnection: foo, Close\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.0\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn what_is_not_right_is_refused() {
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), Status::BadRequest);
        assert_eq!(status("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), Status::BadRequest);
        assert_eq!(status("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"), Status::BadRequest);
        assert_eq!(status("POST / HTTP/1.1\r\nHost: a\r\n\r\n"), Status::MethodNotAllowed);
        assert_eq!(status("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"), Status::BadRequest);
        assert_eq!(
            status("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Status::BadRequest
        );
        assert_eq!(
            status("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n"),
            Status::ExpectationFailed
        );
        assert_eq!(status("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"), Status::BadRequest);
        assert_eq!(status("GET / HTTP/1.1\r\nHost : a\r\n\r\n"), Status::BadRequest);
        assert_eq!(status("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n"), Status::BadRequest);
        assert_eq!(status("GET / HTTP/2.0\r\n\r\n"), Status::Version);
        assert_eq!(status("\0\0\0"), Status::BadRequest);
    }

    #[test]
    fn no_head_grows_past_its_limit() {
        let endless = "a".repeat(limits::ADMIN_HEAD_BYTES_MAX);
        assert_eq!(status(&endless), Status::TooLarge);
        let field = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {endless}\r\n\r\n");
        assert_eq!(status(&field), Status::TooLarge);
        let fields =
            format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(limits::ADMIN_HEADERS_MAX));
        assert_eq!(status(&fields), Status::TooLarge);
    }

    #[test]
    fn no_bytes_panic_it_or_make_it_wait_for_ever() {
        let whole = b"GET /metrics?x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize
        };
        for _ in 0..20_000 {
            let mut input = whole.to_vec();
            for _ in 0..random() % 4 + 1 {
                let at = random() % input.len();
                match random() % 3 {
                    0 => input[at] = random() as u8,
                    1 => input.truncate(at + 1),
                    _ => input.insert(at, random() as u8),
                }
            }
            if let Ok(Some(head)) = parse(&input) {
                assert!(head.bytes <= input.len() && head.path.starts_with('/'));
            }
            input.resize(limits::ADMIN_HEAD_BYTES_MAX, b'x');
            assert_ne!(parse(&input), Ok(None), "a full buffer is decided");
        }
    }
}
