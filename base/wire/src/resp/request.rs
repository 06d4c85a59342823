//! What a server reads: one request at a time, as a multibulk array or an inline line.
//!
//! The calling contract: [`Parser::parse`] is given the bytes from the first byte of the request on. Told to come again, the
//! caller keeps those bytes, appends what arrives and calls with the whole; the parser remembers how far it had come, so a
//! value that arrives in pieces is not scanned anew. Once a request is there, [`Parser::arguments`] shows it, and
//! [`Parser::finish`] forgets it; the caller then drops the bytes it took.
//!
//! Always: no length is believed beyond [`Limits`]; memory beside the caller's bytes grows only with arguments that arrived.

use super::number;

/// What a peer may ask of us.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest argument (`proto-max-bulk-len`).
    pub bulk_bytes_max: usize,
    /// The most arguments of one request.
    pub arguments_max: usize,
    /// The longest inline request, and the longest line that holds a length (`PROTO_INLINE_MAX_SIZE`).
    pub inline_bytes_max: usize,
    /// The longest request in all, in bytes; below 4 GiB.
    pub request_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bulk_bytes_max: 16 << 20,
            arguments_max: 1 << 20,
            inline_bytes_max: 64 << 10,
            request_bytes_max: 64 << 20,
        }
    }
}

/// Why a connection's bytes are no request. After any of these the stream has no meaning: answer, then close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The line with the number of arguments has no end.
    #[error("too big mbulk count string")]
    CountTooLong,
    /// The number of arguments is no number, or too many.
    #[error("invalid multibulk length")]
    Count,
    /// The line with an argument's length has no end.
    #[error("too big bulk count string")]
    LengthTooLong,
    /// Something else stands where an argument begins.
    #[error("expected '$', got '{}'", printable(*.0))]
    NoBulk(u8),
    /// An argument's length is no number, negative or too long.
    #[error("invalid bulk length")]
    Length,
    /// An inline request has no end.
    #[error("too big inline request")]
    InlineTooLong,
    /// An inline request with a quote that is not closed, or closed and followed by something other than a space.
    #[error("unbalanced quotes in request")]
    Quotes,
    /// The request as a whole is longer than allowed.
    #[error("too big request")]
    RequestTooLong,
}

fn printable(byte: u8) -> char {
    if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '?' }
}

/// The arguments of one request, the command's name first.
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a> {
    bytes: &'a [u8],
    ranges: &'a [(u32, u32)],
}

impl<'a> Arguments<'a> {
    /// Arguments kept elsewhere: `ranges` are (start, end) in `bytes`.
    ///
    /// # Panics
    /// Where an argument is taken whose range does not lie in `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8], ranges: &'a [(u32, u32)]) -> Self {
        Self { bytes, ranges }
    }

    /// How many, the name included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there is none: an empty line or array, to be ignored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The argument at `at`; `None` beyond the last.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<&'a [u8]> {
        self.ranges.get(at).map(|&(start, end)| &self.bytes[start as usize..end as usize])
    }

    /// All of them in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes;
        self.ranges.iter().map(move |&(start, end)| &bytes[start as usize..end as usize])
    }

    /// Those from `at` on.
    #[must_use]
    pub fn from(&self, at: usize) -> Arguments<'a> {
        Arguments { bytes: self.bytes, ranges: self.ranges.get(at..).unwrap_or_default() }
    }
}

impl std::ops::Index<usize> for Arguments<'_> {
    type Output = [u8];

    fn index(&self, at: usize) -> &[u8] {
        let (start, end) = self.ranges[at];
        &self.bytes[start as usize..end as usize]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the first byte.
    Start,
    /// Before the head of the next of so many arguments.
    Head { left: usize },
    /// Within an argument of this length.
    Body { left: usize, length: usize },
}

/// Reads one request after another.
#[derive(Debug)]
pub struct Parser {
    limits: Limits,
    state: State,
    /// Up to here, from the start of the request, all is understood.
    at: usize,
    ranges: Vec<(u32, u32)>,
    /// The words of an inline request, unquoted; empty for a multibulk one.
    inline: Vec<u8>,
    is_inline: bool,
}

impl Parser {
    /// A parser at the start of a connection.
    ///
    /// # Panics
    /// If the limits allow requests of 4 GiB or more.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        assert!(u32::try_from(limits.request_bytes_max).is_ok(), "requests stay below 4 GiB");
        Self { limits, state: State::Start, at: 0, ranges: Vec::new(), inline: Vec::new(), is_inline: false }
    }

    /// Reads on. `input` begins at the first byte of the request. `Some(n)`: a request is there and takes the first `n` bytes.
    /// `None`: more is needed.
    ///
    /// # Errors
    /// The bytes are no request; the parser is of no more use.
    pub fn parse(&mut self, input: &[u8]) -> Result<Option<usize>, Error> {
        loop {
            match self.state {
                State::Start => match input.first() {
                    None => return Ok(None),
                    Some(b'*') => {
                        let Some(line) = self.line(input, Error::CountTooLong)? else { return Ok(None) };
                        let count = number::integer(&line[1..]).ok_or(Error::Count)?;
                        if count > self.limits.arguments_max as i64 {
                            return Err(Error::Count);
                        }
                        match usize::try_from(count) {
                            Err(_) | Ok(0) => return Ok(Some(self.at)),
                            Ok(left) => self.state = State::Head { left },
                        }
                    }
                    Some(_) => return self.inline(input),
                },
                State::Head { left: 0 } => return Ok(Some(self.at)),
                State::Head { left } => {
                    match input.get(self.at) {
                        None => return Ok(None),
                        Some(b'$') => {}
                        // Redis looks for the end of the line first; what it says is the same.
                        Some(&other) => return Err(Error::NoBulk(other)),
                    }
                    let Some(line) = self.line(input, Error::LengthTooLong)? else { return Ok(None) };
                    let length = number::integer(&line[1..]).and_then(|length| usize::try_from(length).ok());
                    let length =
                        length.filter(|&length| length <= self.limits.bulk_bytes_max).ok_or(Error::Length)?;
                    if self.at + length + 2 > self.limits.request_bytes_max {
                        return Err(Error::RequestTooLong);
                    }
                    self.state = State::Body { left, length };
                }
                State::Body { left, length } => {
                    let end = self.at + length;
                    if input.len() < end + 2 {
                        return Ok(None);
                    }
                    self.ranges.push((self.at as u32, end as u32));
                    self.at = end + 2;
                    self.state = State::Head { left: left - 1 };
                }
            }
        }
    }

    /// The request that [`parse`](Self::parse) found, in the same `input`.
    #[must_use]
    pub fn arguments<'a>(&'a self, input: &'a [u8]) -> Arguments<'a> {
        Arguments { bytes: if self.is_inline { &self.inline } else { input }, ranges: &self.ranges }
    }

    /// How many bytes the input will have once the argument under way is there; a caller may make room for so many at once.
    #[must_use]
    pub fn bytes_needed(&self) -> usize {
        match self.state {
            State::Body { length, .. } => self.at + length + 2,
            State::Start | State::Head { .. } => self.at,
        }
    }

    /// Forgets the request; the next `input` begins after it.
    pub fn finish(&mut self) {
        self.state = State::Start;
        self.at = 0;
        self.ranges.clear();
        if self.ranges.capacity() > 1024 {
            self.ranges = Vec::new();
        }
        self.inline = Vec::new();
        self.is_inline = false;
    }

    /// The line at `self.at`, without its CRLF; the position moves behind it.
    fn line<'a>(&mut self, input: &'a [u8], too_long: Error) -> Result<Option<&'a [u8]>, Error> {
        let rest = &input[self.at..];
        let window = &rest[..rest.len().min(self.limits.inline_bytes_max)];
        match memchr::memchr(b'\r', window) {
            Some(end) if end + 1 < rest.len() => {
                self.at += end + 2;
                if self.at > self.limits.request_bytes_max {
                    return Err(Error::RequestTooLong);
                }
                Ok(Some(&rest[..end]))
            }
            Some(_) => Ok(None),
            None if rest.len() >= self.limits.inline_bytes_max => Err(too_long),
            None => Ok(None),
        }
    }

    fn inline(&mut self, input: &[u8]) -> Result<Option<usize>, Error> {
        let window = &input[..input.len().min(self.limits.inline_bytes_max)];
        let Some(end) = memchr::memchr(b'\n', window) else {
            return if input.len() >= self.limits.inline_bytes_max {
                Err(Error::InlineTooLong)
            } else {
                Ok(None)
            };
        };
        let line = &input[..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.is_inline = true;
        split_words(line, &mut self.inline, &mut self.ranges)?;
        Ok(Some(end + 1))
    }
}

/// Splits a line into words as `sdssplitargs` does: double quotes with escapes (`\xHH`, `\n`, `\r`, `\t`, `\b`, `\a`), single
/// quotes with `\'` alone.
fn split_words(line: &[u8], words: &mut Vec<u8>, ranges: &mut Vec<(u32, u32)>) -> Result<(), Error> {
    let is_space = |byte: u8| byte.is_ascii_whitespace() || byte == 0x0b || byte == 0;
    let mut at = 0;
    loop {
        while at < line.len() && is_space(line[at]) {
            at += 1;
        }
        if at == line.len() {
            return Ok(());
        }
        let start = words.len();
        while at < line.len() && !is_space(line[at]) {
            match line[at] {
                quote @ (b'"' | b'\'') => {
                    at = quoted(line, at + 1, quote, words)?;
                    if at < line.len() && !is_space(line[at]) {
                        return Err(Error::Quotes);
                    }
                }
                byte => {
                    words.push(byte);
                    at += 1;
                }
            }
        }
        ranges.push((start as u32, words.len() as u32));
    }
}

/// Reads from behind an opening quote to behind its closing one, whose position it gives.
fn quoted(line: &[u8], mut at: usize, quote: u8, words: &mut Vec<u8>) -> Result<usize, Error> {
    loop {
        match (line.get(at..).unwrap_or_default(), quote) {
            ([], _) => return Err(Error::Quotes),
            ([b'\\', b'x', high, low, ..], b'"') if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
                words.push(digit(*high) << 4 | digit(*low));
                at += 4;
            }
            ([b'\\', escaped, ..], b'"') => {
                words.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                at += 2;
            }
            ([b'\\', b'\'', ..], b'\'') => {
                words.push(b'\'');
                at += 2;
            }
            ([byte, ..], _) if *byte == quote => return Ok(at + 1),
            ([byte, ..], _) => {
                words.push(*byte);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut input: &[u8]) -> Result<Vec<Vec<String>>, Error> {
        let mut parser = Parser::new(Limits::default());
        let mut requests = Vec::new();
        while let Some(taken) = parser.parse(input)? {
            let words = parser.arguments(input).iter().map(|word| String::from_utf8_lossy(word).into_owned());
            requests.push(words.collect());
            parser.finish();
            input = &input[taken..];
        }
        Ok(requests)
    }

    #[test]
    fn multibulk_and_inline_mix() {
        let requests = all(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n\r\n*0\r\nset a \"b\\x41\\n\"\n*-1\r\n")
            .expect("valid");
        assert_eq!(
            requests,
            vec![vec!["GET", "k"], vec!["PING"], vec![], vec![], vec!["set", "a", "bA\n"], vec![]]
                as Vec<Vec<&str>>
        );
    }

    #[test]
    fn any_split_gives_the_same() {
        let input = b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nva\r\nl\r\n";
        for cut in 0..input.len() {
            let mut parser = Parser::new(Limits::default());
            assert_eq!(parser.parse(&input[..cut]), Ok(None), "cut at {cut}");
            assert_eq!(parser.parse(input), Ok(Some(input.len())));
            assert_eq!(&parser.arguments(input)[2], b"va\r\nl");
        }
    }

    #[test]
    fn errors_are_named_as_redis_names_them() {
        let said = |input: &[u8]| all(input).expect_err("refused").to_string();
        assert_eq!(said(b"*a\r\n"), "invalid multibulk length");
        assert_eq!(said(b"*1048577\r\n"), "invalid multibulk length");
        assert_eq!(said(b"*1\r\n:3\r\n"), "expected '$', got ':'");
        assert_eq!(said(b"*1\r\n$-1\r\n"), "invalid bulk length");
        assert_eq!(said(b"*1\r\n$16777217\r\n"), "invalid bulk length");
        assert_eq!(said(&[b'a'; 1 << 20]), "too big inline request");
        assert_eq!(said(&[&b"*"[..], &[b'1'; 1 << 17]].concat()), "too big mbulk count string");
        assert_eq!(said(&[&b"*1\r\n$"[..], &[b'1'; 1 << 17]].concat()), "too big bulk count string");
        assert_eq!(said(b"set \"a\n"), "unbalanced quotes in request");
        assert_eq!(said(b"set \"a\"b\n"), "unbalanced quotes in request");
    }

    #[test]
    fn a_request_is_bounded_as_a_whole() {
        let limits = Limits { request_bytes_max: 64, ..Limits::default() };
        let mut parser = Parser::new(limits);
        assert_eq!(parser.parse(b"*2\r\n$50\r\n"), Ok(None));
        let mut parser = Parser::new(limits);
        assert_eq!(parser.parse(b"*2\r\n$60\r\n"), Err(Error::RequestTooLong));
    }

    #[test]
    fn arguments_by_position() {
        let bytes = b"abc";
        let arguments = Arguments::new(bytes, &[(0, 1), (1, 3)]);
        assert_eq!((arguments.len(), arguments.get(1), arguments.get(2)), (2, Some(&b"bc"[..]), None));
        assert_eq!(arguments.from(1).iter().next(), Some(&b"bc"[..]));
        assert!(arguments.from(5).is_empty());
    }
}
