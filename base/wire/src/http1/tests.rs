//! Every rule of framing, in requests and answers, each also with the input cut at every byte.

use super::*;

/// What a reader makes of a byte stream: per message a line for its head and its body, and how it stopped.
#[derive(Debug, PartialEq, Eq, Clone)]
enum Seen {
    Head(String),
    Data(Vec<u8>),
    Trailer(String, Vec<u8>),
    End,
    Refused(Error),
    Cut,
}

/// Reads `stream` in the pieces given by `cuts` as requests (or answers to GET or HEAD), to its end or first fault.
fn read_all(kind: HeadKind, stream: &[u8], cuts: &[usize], to_head: bool) -> Vec<Seen> {
    let limits = Limits { line_bytes_max: 200, head_bytes_max: 1000, fields_max: 8 };
    let mut seen = Vec::new();
    let mut input: Vec<u8> = Vec::new();
    let mut scan = HeadScan::new(kind);
    let mut body: Option<Body> = None;
    let mut ends = cuts.to_vec();
    ends.push(stream.len());
    let mut from = 0;
    for to in ends {
        input.extend_from_slice(&stream[from..to]);
        from = to;
        loop {
            let Some(reader) = body.as_mut() else {
                match scan.find(&input, &limits) {
                    Err(error) => return [seen, vec![Seen::Refused(error)]].concat(),
                    Ok(None) => break,
                    Ok(Some(range)) => {
                        let end = range.end;
                        match parse(kind, &input[range], to_head, &limits) {
                            Err(error) => return [seen, vec![Seen::Refused(error)]].concat(),
                            Ok((line, framing)) => {
                                seen.push(Seen::Head(line));
                                body = Some(Body::new(framing));
                            }
                        }
                        input.drain(..end);
                        scan = HeadScan::new(kind);
                        continue;
                    }
                }
            };
            let (taken, piece) = match reader.read(&input) {
                Err(error) => return [seen, vec![Seen::Refused(error)]].concat(),
                Ok((taken, Piece::Data(data))) => {
                    match seen.last_mut() {
                        Some(Seen::Data(whole)) => whole.extend_from_slice(data),
                        _ => seen.push(Seen::Data(data.to_vec())),
                    }
                    (taken, Piece::Data(&[]))
                }
                Ok((taken, Piece::More)) => (taken, Piece::More),
                Ok((taken, Piece::End)) => (taken, Piece::End),
            };
            input.drain(..taken);
            match piece {
                Piece::More => break,
                Piece::Data(_) => {}
                Piece::End => {
                    seen.extend(
                        reader.trailers().map(|(name, value)| Seen::Trailer(name.into(), value.into())),
                    );
                    seen.push(Seen::End);
                    body = None;
                    if input.is_empty() {
                        break;
                    }
                }
            }
        }
    }
    let whole = body.as_ref().map_or(input.is_empty(), Body::ends_at_close);
    seen.push(if whole { Seen::End } else { Seen::Cut });
    seen
}

fn parse(kind: HeadKind, head: &[u8], to_head: bool, limits: &Limits) -> Result<(String, Framing), Error> {
    let mut storage = FieldStorage::new();
    match kind {
        HeadKind::Request => {
            let request = Request::parse(head, &mut storage, limits)?;
            Ok((format!("{} {:?} {:?}", request.method, request.target, request.framing), request.framing))
        }
        HeadKind::Response => {
            let response = Response::parse(head, &mut storage, to_head, limits)?;
            Ok((format!("{} {:?}", response.status, response.framing), response.framing))
        }
    }
}

/// Reads `stream` whole, at every single cut, and a byte at a time; all must agree.
fn read_cut(kind: HeadKind, stream: &[u8], to_head: bool) -> Vec<Seen> {
    let whole = read_all(kind, stream, &[], to_head);
    for cut in 0..=stream.len() {
        assert_eq!(
            read_all(kind, stream, &[cut], to_head),
            whole,
            "cut at {cut} of {:?}",
            stream.escape_ascii().to_string()
        );
    }
    let each: Vec<usize> = (0..stream.len()).collect();
    assert_eq!(
        read_all(kind, stream, &each, to_head),
        whole,
        "byte by byte: {:?}",
        stream.escape_ascii().to_string()
    );
    whole
}

fn request_fault(stream: impl AsRef<[u8]>) -> Option<Error> {
    match read_cut(HeadKind::Request, stream.as_ref(), false).last() {
        Some(Seen::Refused(error)) => Some(*error),
        _ => None,
    }
}

fn response_fault(stream: impl AsRef<[u8]>) -> Option<Error> {
    match read_cut(HeadKind::Response, stream.as_ref(), false).last() {
        Some(Seen::Refused(error)) => Some(*error),
        _ => None,
    }
}

#[test]
fn requests_with_two_readings_are_refused() {
    let with = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    for (fields, fault) in [
        // Both lengths, in either order.
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Error::LengthAndCoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Error::LengthAndCoding),
        ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", Error::LengthAndCoding),
        // Content-Length.
        ("Content-Length: 5\r\nContent-Length: 6\r\n", Error::LengthsDiffer),
        ("Content-Length: 5,5\r\n", Error::Length),
        ("Content-Length: 5, 6\r\n", Error::Length),
        ("Content-Length: +5\r\n", Error::Length),
        ("Content-Length: -5\r\n", Error::Length),
        ("Content-Length: 0x5\r\n", Error::Length),
        ("Content-Length: 5 5\r\n", Error::Length),
        ("Content-Length:  5\r\n", Error::Length),
        ("Content-Length: 5 \r\n", Error::Length),
        ("Content-Length: 5\t\r\n", Error::Length),
        ("Content-Length:\t5\r\n", Error::Length),
        ("Content-Length:\r\n", Error::Length),
        ("Content-Length: \r\n", Error::Length),
        ("Content-Length: 1_0\r\n", Error::Length),
        ("Content-Length: 5.0\r\n", Error::Length),
        ("Content-Length: \u{664}\r\n", Error::Length),
        ("Content-Length: 9223372036854775808\r\n", Error::Length),
        ("Content-Length: 18446744073709551616\r\n", Error::Length),
        ("Content-Length: 18446744073709551621\r\n", Error::Length),
        ("Content-Length: 00000000000000000005\r\n", Error::Length),
        // Transfer-Encoding.
        ("Transfer-Encoding: identity\r\n", Error::Coding),
        ("Transfer-Encoding: gzip\r\n", Error::Coding),
        ("Transfer-Encoding: chunked, gzip\r\n", Error::Coding),
        ("Transfer-Encoding: chunked, identity\r\n", Error::Coding),
        ("Transfer-Encoding: chunked, chunked\r\n", Error::Coding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Error::Coding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", Error::Coding),
        ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", Error::Coding),
        ("Transfer-Encoding: xchunked\r\n", Error::Coding),
        ("Transfer-Encoding: chunkedx\r\n", Error::Coding),
        ("Transfer-Encoding: chunked,\r\n", Error::Coding),
        ("Transfer-Encoding: ,chunked\r\n", Error::Coding),
        ("Transfer-Encoding: \"chunked\"\r\n", Error::Coding),
        ("Transfer-Encoding: chunked;q=1\r\n", Error::Coding),
        ("Transfer-Encoding: chun ked\r\n", Error::Coding),
        ("Transfer-Encoding:\r\n", Error::Coding),
        ("Transfer-Encoding: gzip, chunked\r\n", Error::CodingUnsupported),
        ("Transfer-Encoding: \x0bchunked\r\n", Error::FieldValue),
        // Names and colons.
        ("Content-Length : 5\r\n", Error::FieldName),
        ("Transfer-Encoding : chunked\r\n", Error::FieldName),
        ("Transfer-Encoding\t: chunked\r\n", Error::FieldName),
        (" Transfer-Encoding: chunked\r\n", Error::FieldName),
        ("X: a\r\n b\r\n", Error::FieldName),
        ("X: a\r\n\tb\r\n", Error::FieldName),
        ("X\0: a\r\n", Error::FieldName),
        ("X\x7f: a\r\n", Error::FieldName),
        ("X\u{e9}: a\r\n", Error::FieldName),
        ("X[]: a\r\n", Error::FieldName),
        (": a\r\n", Error::FieldName),
        ("no colon\r\n", Error::FieldName),
        ("nocolon\r\n", Error::FieldName),
        // Values.
        ("X: a\0b\r\n", Error::FieldValue),
        ("X: a\x01b\r\n", Error::FieldValue),
        ("X: a\x7fb\r\n", Error::FieldValue),
        ("X: a\x0bb\r\n", Error::FieldValue),
        ("X: a\rb\r\n", Error::FieldValue),
        ("X: a\r\r\n", Error::FieldValue),
        ("X: a\rTransfer-Encoding: chunked\r\n", Error::FieldValue),
        // Line ends.
        ("X: a\n", Error::BareLf),
        ("X: a\nTransfer-Encoding: chunked\r\n", Error::BareLf),
        ("X: a\r\n\n", Error::BareLf),
        ("\n", Error::BareLf),
        // Host.
        ("Host: a\r\n", Error::HostRepeated),
        ("Host: b\r\n", Error::HostRepeated),
    ] {
        assert_eq!(request_fault(with(fields)), Some(fault), "{fields:?}");
        assert_eq!(fault.status(), if fault == Error::CodingUnsupported { 501 } else { 400 });
    }
}

#[test]
fn first_lines_are_read_to_the_letter() {
    let with = |line: &str| format!("{line}\r\nHost: a\r\n\r\n");
    for (line, fault) in [
        ("GET / HTTP/1.1", None),
        ("M-SEARCH / HTTP/1.1", None),
        ("get / HTTP/1.0", None),
        ("GE(T / HTTP/1.1", Some(Error::FirstLine)),
        ("GET\t/ HTTP/1.1", Some(Error::FirstLine)),
        ("GET  / HTTP/1.1", Some(Error::FirstLine)),
        ("GET /  HTTP/1.1", Some(Error::FirstLine)),
        ("GET / HTTP/1.1 ", Some(Error::FirstLine)),
        (" GET / HTTP/1.1", Some(Error::FirstLine)),
        ("GET / a HTTP/1.1", Some(Error::FirstLine)),
        ("GET /", Some(Error::FirstLine)),
        ("GET", Some(Error::FirstLine)),
        ("GET / http/1.1", Some(Error::FirstLine)),
        ("GET / HTTP/1.1x", Some(Error::FirstLine)),
        ("GET / HTTP/01.1", Some(Error::FirstLine)),
        ("GET / HTTP/1.2", Some(Error::Version)),
        ("GET / HTTP/2.0", Some(Error::Version)),
        ("GET / HTTP/0.9", Some(Error::Version)),
        ("\u{16}\u{3}\u{1}", Some(Error::FirstLine)),
        // Targets.
        ("GET a HTTP/1.1", Some(Error::Target)),
        ("GET * HTTP/1.1", Some(Error::Target)),
        ("OPTIONS * HTTP/1.1", None),
        ("GET http://a/b HTTP/1.1", None),
        ("GET HTTPS://a:1?b HTTP/1.1", None),
        ("GET http://[::1]:80/ HTTP/1.1", None),
        ("GET ftp://a/ HTTP/1.1", Some(Error::Target)),
        ("GET http:/a HTTP/1.1", Some(Error::Target)),
        ("GET http:///a HTTP/1.1", Some(Error::Target)),
        ("GET http://user@a/ HTTP/1.1", Some(Error::Target)),
        ("GET http://a:b/ HTTP/1.1", Some(Error::Target)),
        ("GET http://a\\b/ HTTP/1.1", Some(Error::Target)),
        ("GET a:80 HTTP/1.1", Some(Error::Target)),
        ("CONNECT a:80 HTTP/1.1", None),
        ("CONNECT a HTTP/1.1", Some(Error::Target)),
        ("CONNECT / HTTP/1.1", Some(Error::Target)),
        ("CONNECT http://a/ HTTP/1.1", Some(Error::Target)),
        ("GET /a#b HTTP/1.1", Some(Error::Target)),
        ("GET /\u{e9} HTTP/1.1", Some(Error::Target)),
        ("GET /a\x7f HTTP/1.1", Some(Error::FirstLine)),
        ("GET /a\0 HTTP/1.1", Some(Error::FirstLine)),
        ("GET /a\rb HTTP/1.1", Some(Error::FirstLine)),
    ] {
        assert_eq!(request_fault(with(line)), fault, "{line:?}");
    }
    assert_eq!(request_fault("GET / HTTP/1.1\nHost: a\r\n\r\n"), Some(Error::BareLf));
    assert_eq!(request_fault("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), Some(Error::FirstLine));
    assert_eq!(request_fault("\r\rGET / HTTP/1.1\r\nHost: a\r\n\r\n"), Some(Error::FirstLine));
    assert_eq!(request_fault("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), None);
    assert_eq!(request_fault("\r\n".repeat(20)), Some(Error::EmptyLines));
}

#[test]
fn hosts_are_checked() {
    assert_eq!(request_fault("GET / HTTP/1.1\r\n\r\n"), Some(Error::HostMissing));
    assert_eq!(request_fault("GET http://a/ HTTP/1.1\r\n\r\n"), Some(Error::HostMissing));
    assert_eq!(request_fault("GET / HTTP/1.0\r\n\r\n"), None);
    assert_eq!(request_fault("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), Some(Error::HostRepeated));
    for (host, good) in [
        ("a", true),
        ("", true),
        ("a.example:8080", true),
        ("[::1]:80", true),
        ("a_b", true),
        ("a b", false),
        ("a/b", false),
        ("a,b", false),
        ("u@a", false),
        ("a:b", false),
        ("a:1:2", false),
        ("[::1", false),
        ("a#", false),
        ("\u{e9}", false),
    ] {
        let fault = request_fault(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(fault, (!good).then_some(Error::Host), "{host:?}");
    }
}

#[test]
fn transfer_encoding_needs_http_1_1() {
    let fields = "Host: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(request_fault(format!("POST / HTTP/1.0\r\n{fields}")), Some(Error::CodingInHttp10));
    assert_eq!(request_fault(format!("POST / HTTP/1.1\r\n{fields}")), None);
    assert_eq!(
        response_fault("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        Some(Error::CodingInHttp10)
    );
}

#[test]
fn chunks_are_read_to_the_letter() {
    let with = |body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n{body}");
    for (body, fault) in [
        ("5\r\nhello\r\n0\r\n\r\n", None),
        ("005\r\nhello\r\n000\r\n\r\n", None),
        ("A;a=b;c=\"d e\"\r\nhellohello\r\n0;x\r\n\r\n", None),
        ("5\r\nhello\r\n0\r\nX: y\r\n\r\n", None),
        ("\r\n", Some(Error::ChunkSize)),
        (" 5\r\nhello\r\n0\r\n\r\n", Some(Error::ChunkSize)),
        ("5 \r\nhello\r\n0\r\n\r\n", Some(Error::ChunkSize)),
        ("5 ;a\r\nhello\r\n0\r\n\r\n", Some(Error::ChunkSize)),
        ("5\t\r\nhello\r\n", Some(Error::ChunkSize)),
        ("+5\r\nhello\r\n", Some(Error::ChunkSize)),
        ("-5\r\nhello\r\n", Some(Error::ChunkSize)),
        ("0x5\r\nhello\r\n", Some(Error::ChunkSize)),
        ("1_0\r\n", Some(Error::ChunkSize)),
        ("5g\r\n", Some(Error::ChunkSize)),
        ("5\nhello\r\n0\r\n\r\n", Some(Error::ChunkSize)),
        ("5\rhello\r\n0\r\n\r\n", Some(Error::ChunkSize)),
        ("8000000000000000\r\n", Some(Error::ChunkSize)),
        ("10000000000000005\r\n", Some(Error::ChunkSize)),
        ("00000000000000005\r\n", Some(Error::ChunkSize)),
        ("5;a\nhello\r\n", Some(Error::ChunkExtension)),
        ("5;a\0\r\nhello\r\n", Some(Error::ChunkExtension)),
        ("5;a\rb\r\nhello\r\n", Some(Error::ChunkSize)),
        ("5\r\nhelloX\r\n0\r\n\r\n", Some(Error::ChunkEnd)),
        ("5\r\nhello\n0\r\n\r\n", Some(Error::ChunkEnd)),
        ("5\r\nhello\rX0\r\n\r\n", Some(Error::ChunkEnd)),
        ("5\r\nhello0\r\n\r\n", Some(Error::ChunkEnd)),
        ("0\r\nX : y\r\n\r\n", Some(Error::Trailer)),
        ("0\r\nX: y\n\r\n", Some(Error::Trailer)),
        ("0\r\n\n", Some(Error::Trailer)),
        ("0\r\nX: y\r\n z\r\n\r\n", Some(Error::Trailer)),
        ("0\r\nX: a\0\r\n\r\n", Some(Error::Trailer)),
        ("0\r\nno colon\r\n\r\n", Some(Error::Trailer)),
    ] {
        assert_eq!(request_fault(with(body)), fault, "{body:?}");
    }
}

#[test]
fn extensions_and_trailers_are_bounded() {
    let mut body = Body::new(Framing::Chunked);
    let chunk = format!("1;{}\r\nx\r\n", "e".repeat(100));
    let mut stream = chunk.repeat(CHUNK_EXTENSION_BYTES_MAX / 100 + 1).into_bytes();
    let fault = loop {
        match body.read(&stream) {
            Err(error) => break error,
            Ok((taken, Piece::Data(_))) => drop(stream.drain(..taken)),
            Ok((_, piece)) => panic!("{piece:?}"),
        }
    };
    assert_eq!(fault, Error::ChunkExtension);

    let mut body = Body::new(Framing::Chunked);
    let stream = format!("0\r\n{}", "X: y\r\n".repeat(TRAILER_BYTES_MAX / 6 + 1));
    assert_eq!(body.read(stream.as_bytes()), Err(Error::TrailerTooLarge));
    assert_eq!(Error::TrailerTooLarge.status(), 431);
}

#[test]
fn pipelined_requests_come_apart_where_they_should() {
    let stream = b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello\r\n\
        GET /2 HTTP/1.1\r\nHost: a\r\n\r\n\
        POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nDigest: x\r\nA: \r\n\r\n\
        GET /4 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    let head = |text: &str| Seen::Head(text.into());
    assert_eq!(
        read_cut(HeadKind::Request, stream, false),
        [
            head("POST Origin(\"/1\") Length(5)"),
            Seen::Data(b"hello".into()),
            Seen::End,
            head("GET Origin(\"/2\") None"),
            Seen::End,
            head("POST Origin(\"/3\") Chunked"),
            Seen::Data(b"abcde".into()),
            Seen::Trailer("Digest".into(), b"x".into()),
            Seen::Trailer("A".into(), b"".into()),
            Seen::End,
            head("GET Origin(\"/4\") None"),
            Seen::End,
            Seen::End,
        ]
    );
}

#[test]
fn answers_are_read_as_strictly() {
    for (stream, fault) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", None),
        ("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", None),
        ("HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", None),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
            Some(Error::LengthAndCoding),
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n", Some(Error::LengthsDiffer)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2,2\r\n\r\n", Some(Error::Length)),
        ("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n", Some(Error::Length)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", Some(Error::Coding)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, x\r\n\r\n", Some(Error::Coding)),
        ("HTTP/1.1 200 OK\r\nX : a\r\n\r\n", Some(Error::FieldName)),
        ("HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", Some(Error::FieldName)),
        ("HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n", Some(Error::FieldValue)),
        ("HTTP/1.1 200 OK\r\nX: a\0\r\n\r\n", Some(Error::FieldValue)),
        ("HTTP/1.1 200 OK\r\nX: a\n\r\n", Some(Error::BareLf)),
        ("HTTP/1.1 200 OK\n\r\n", Some(Error::BareLf)),
        ("HTTP/1.1 999 OK\r\n\r\n", Some(Error::Status)),
        ("HTTP/1.1 099 OK\r\n\r\n", Some(Error::Status)),
        ("HTTP/1.1 20 OK\r\n\r\n", Some(Error::Status)),
        ("HTTP/2.0 200 OK\r\n\r\n", Some(Error::Version)),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", Some(Error::FirstLine)),
        ("ICY 200 OK\r\n\r\n", Some(Error::FirstLine)),
        ("HTTP/1.1 204 \r\nTransfer-Encoding: chunked\r\n\r\n", Some(Error::Coding)),
        ("HTTP/1.1 204 \r\nContent-Length: 5\r\n\r\n", Some(Error::Length)),
        ("HTTP/1.1 204 \r\nContent-Length: 0\r\n\r\n", None),
        ("HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n", Some(Error::Coding)),
    ] {
        assert_eq!(response_fault(stream), fault, "{stream:?}");
    }
}

#[test]
fn answers_end_where_section_6_3_says() {
    let framing = |stream: &str, to_head| match &read_cut(HeadKind::Response, stream.as_bytes(), to_head)[0] {
        Seen::Head(line) => line.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(framing("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false), "200 Length(5)");
    assert_eq!(framing("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true), "200 None");
    assert_eq!(framing("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", true), "200 None");
    assert_eq!(framing("HTTP/1.1 304 \r\nContent-Length: 5\r\n\r\n", false), "304 None");
    assert_eq!(framing("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", false), "103 None");
    assert_eq!(framing("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false), "200 None");
    assert_eq!(framing("HTTP/1.0 200 OK\r\n\r\nall of it", false), "200 UntilClose");
    let seen = read_cut(HeadKind::Response, b"HTTP/1.0 200 OK\r\n\r\nall of it", false);
    assert_eq!(seen[1..], [Seen::Data(b"all of it".into()), Seen::End]);
    let seen = read_cut(HeadKind::Response, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nall", false);
    assert_eq!(seen[1..], [Seen::Data(b"all".into()), Seen::Cut]);
}

#[test]
fn heads_are_bounded() {
    let long = "a".repeat(186);
    assert_eq!(request_fault(format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n")), None);
    assert_eq!(request_fault(format!("GET /{long}a HTTP/1.1\r\nHost: a\r\n\r\n")), Some(Error::LineTooLong));
    assert_eq!(request_fault("a".repeat(2000)), Some(Error::LineTooLong));
    let field = format!("X: {}\r\n", "a".repeat(980));
    assert_eq!(request_fault(format!("GET / HTTP/1.1\r\n{field}")), Some(Error::HeadTooLarge));
    let fields = "A: b\r\n".repeat(7);
    assert_eq!(request_fault(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")), None);
    assert_eq!(
        request_fault(format!("GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n{fields}\r\n")),
        Some(Error::TooManyFields)
    );
    assert_eq!((Error::LineTooLong.status(), Error::HeadTooLarge.status()), (414, 431));
}

#[test]
fn connection_options_and_persistence() {
    let parse = |stream: &str, check: &dyn Fn(&Request<'_, '_>)| {
        let mut storage = FieldStorage::new();
        check(&Request::parse(stream.as_bytes(), &mut storage, &Limits::default()).unwrap());
    };
    parse("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &|request| assert!(request.persists()));
    parse("GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n", &|request| assert!(!request.persists()));
    parse("GET / HTTP/1.0\r\n\r\n", &|request| assert!(!request.persists()));
    parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", &|request| assert!(request.persists()));
    parse(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: x-a ,, upgrade\r\nConnection: X-B\r\nUpgrade: websocket\r\n\r\n",
        &|request| {
            assert!(request.connection.names(request.fields, "X-A"));
            assert!(request.connection.names(request.fields, "x-b"));
            assert!(!request.connection.names(request.fields, "x-c"));
            assert_eq!(request.upgrade, Some("websocket"));
        },
    );
    parse("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", &|request| {
        assert_eq!(request.upgrade, None);
    });
    parse("GET http://b:1/x HTTP/1.1\r\nHost: a\r\n\r\n", &|request| assert_eq!(request.host, Some("b:1")));
    parse("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n\r\n", &|request| {
        assert!(request.expects_continue);
    });
    parse("PUT / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", &|request| assert!(request.expects_other));
}

#[test]
fn every_known_name_is_known() {
    for (name, id) in [
        ("Connection", FieldName::Connection),
        ("Content-Length", FieldName::ContentLength),
        ("Date", FieldName::Date),
        ("Expect", FieldName::Expect),
        ("Forwarded", FieldName::Forwarded),
        ("HOST", FieldName::Host),
        ("HTTP2-Settings", FieldName::Http2Settings),
        ("Keep-Alive", FieldName::KeepAlive),
        ("Proxy", FieldName::Proxy),
        ("Proxy-Connection", FieldName::ProxyConnection),
        ("TE", FieldName::Te),
        ("Trailer", FieldName::Trailer),
        ("Transfer-Encoding", FieldName::TransferEncoding),
        ("Upgrade", FieldName::Upgrade),
        ("Via", FieldName::Via),
        ("X-Forwarded-For", FieldName::XForwardedFor),
        ("X-Forwarded-Host", FieldName::XForwardedHost),
        ("X-Forwarded-Proto", FieldName::XForwardedProto),
        ("Server", FieldName::Other),
        ("Content_Length", FieldName::Other),
    ] {
        assert_eq!(FieldName::of(name), id, "{name}");
    }
}

#[test]
fn chunk_heads_are_plain_hexadecimal() {
    for bytes in [1, 9, 15, 16, 255, 4096, 65535, 1 << 20] {
        let mut out = Vec::new();
        write_chunk_head(&mut out, bytes);
        assert_eq!(out, format!("{bytes:x}\r\n").into_bytes());
        assert!(out.len() <= CHUNK_HEAD_BYTES_MAX);
    }
}

#[test]
fn no_input_makes_it_panic_or_run_on() {
    // A small generator of its own (xorshift), so that the run is the same each time.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let words: [&[u8]; 16] = [
        b"GET ",
        b"/ ",
        b"HTTP/1.1",
        b"\r\n",
        b"Host: a",
        b"Content-Length: ",
        b"5",
        b"Transfer-Encoding: ",
        b"chunked",
        b"\n",
        b"\r",
        b"0\r\n\r\n",
        b"hello",
        b" ",
        b"\0",
        b"ffff",
    ];
    for _ in 0..3000 {
        let mut stream = Vec::new();
        for _ in 0..next() % 24 {
            match next() % 20 {
                word @ 0..16 => stream.extend_from_slice(words[word as usize]),
                _ => stream.push(next() as u8),
            }
        }
        let cut = if stream.is_empty() { 0 } else { next() as usize % stream.len() };
        for kind in [HeadKind::Request, HeadKind::Response] {
            assert_eq!(read_all(kind, &stream, &[cut], false), read_all(kind, &stream, &[], false));
        }
    }
}
