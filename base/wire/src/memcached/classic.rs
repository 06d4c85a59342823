//! A command line, read.
//!
//! How many tokens a command takes, and which of two faults is named first, follow memcached's `proto_text.c`.

use super::meta::{Meta, MetaKey};
use super::number::{parse_i32, parse_u32, parse_u64};
use super::request::{Refusal, Request, Storage, StorageMode, Tokens};
use super::{KEY_BYTES_MAX, VALUE_BYTES_MAX, answer};

/// The most tokens that any classic command but a retrieval looks at.
const CLASSIC_TOKENS: usize = 8;

/// Reads one command line, its line end already taken off.
///
/// # Errors
/// A [`Refusal`] says what to answer.
pub fn parse(line: &[u8]) -> Result<Request<'_>, Refusal> {
    let mut tokens = Tokens::new(line);
    let name = tokens.next().unwrap_or_default();
    match name {
        b"get" | b"bget" => retrieval(tokens, false, false),
        b"gets" => retrieval(tokens, true, false),
        b"gat" => retrieval(tokens, false, true),
        b"gats" => retrieval(tokens, true, true),
        b"mg" | b"md" | b"ma" | b"me" | b"mn" => meta(name[1], tokens),
        b"ms" => meta_set(tokens),
        b"set" => storage(StorageMode::Set, tokens),
        b"add" => storage(StorageMode::Add, tokens),
        b"replace" => storage(StorageMode::Replace, tokens),
        b"append" => storage(StorageMode::Append, tokens),
        b"prepend" => storage(StorageMode::Prepend, tokens),
        b"cas" => storage(StorageMode::Cas(0), tokens),
        b"stats" => Ok(Request::Stats(tokens)),
        b"version" => Ok(Request::Version),
        b"quit" => Ok(Request::Quit),
        b"shutdown" => Ok(Request::Shutdown(tokens)),
        b"slabs" | b"lru" | b"lru_crawler" | b"watch" => Ok(Request::Admin(name, tokens)),
        b"delete" | b"incr" | b"decr" | b"touch" | b"flush_all" | b"verbosity" | b"cache_memlimit" => {
            simple(name, tokens)
        }
        _ => Err(unknown(name, tokens)),
    }
}

/// A browser that lost its way is closed on; all else is an `ERROR`.
fn unknown(name: &[u8], tokens: Tokens<'_>) -> Refusal {
    let last = tokens.last().unwrap_or(name);
    match last.starts_with(b"HTTP/") {
        true => Refusal { text: None, noreply: false, skip: 0 },
        false => Refusal::new(answer::ERROR),
    }
}

fn key(token: &[u8]) -> Result<&[u8], Refusal> {
    match token.len() {
        1..=KEY_BYTES_MAX => Ok(token),
        _ => Err(Refusal::new(answer::BAD_FORMAT)),
    }
}

/// All keys are checked before the first is looked up, so that an answer is either values or an error.
fn retrieval(mut tokens: Tokens<'_>, cas: bool, touches: bool) -> Result<Request<'_>, Refusal> {
    let mut exptime = None;
    if touches {
        let token = tokens.next().ok_or(Refusal::new(answer::ERROR))?;
        exptime = Some(parse_i32(token).ok_or(Refusal::new(answer::BAD_EXPTIME))?);
    }
    let keys = tokens;
    let mut count = 0;
    for token in tokens {
        key(token)?;
        count += 1;
    }
    if count == 0 {
        return Err(Refusal::new(answer::ERROR));
    }
    Ok(Request::Get { keys, cas, exptime })
}

/// `<key> <flags> <exptime> <bytes> [<cas>] [noreply]`
fn storage(mode: StorageMode, tokens: Tokens<'_>) -> Result<Request<'_>, Refusal> {
    let wanted = if matches!(mode, StorageMode::Cas(_)) { 5 } else { 4 };
    let (found, count) = collect(tokens);
    if count != wanted && count != wanted + 1 {
        return Err(Refusal::new(answer::ERROR));
    }
    let noreply = found[count - 1] == b"noreply";
    let malformed = Refusal::new(answer::BAD_FORMAT).quiet(noreply);
    let key = key(found[0]).map_err(|refusal| refusal.quiet(noreply))?;
    let flags = parse_u32(found[1]).ok_or(malformed)?;
    let exptime = parse_i32(found[2]).ok_or(malformed)?;
    let bytes = parse_length(found[3]).ok_or(malformed)?;
    let mode = match mode {
        StorageMode::Cas(_) => StorageMode::Cas(parse_u64(found[4]).ok_or(malformed)?),
        other => other,
    };
    Ok(Request::Store(Storage { mode, key, flags, exptime, bytes, noreply }))
}

fn parse_length(token: &[u8]) -> Option<u32> {
    parse_i32(token).and_then(|bytes| u32::try_from(bytes).ok()).filter(|bytes| *bytes <= VALUE_BYTES_MAX)
}

/// The first [`CLASSIC_TOKENS`] tokens, and how many there are, counted no further than one past them.
fn collect(tokens: Tokens<'_>) -> ([&[u8]; CLASSIC_TOKENS], usize) {
    let mut found: [&[u8]; CLASSIC_TOKENS] = [&[]; CLASSIC_TOKENS];
    let mut count = 0;
    for token in tokens.take(CLASSIC_TOKENS + 1) {
        if let Some(place) = found.get_mut(count) {
            *place = token;
        }
        count += 1;
    }
    (found, count)
}

fn simple<'a>(name: &'a [u8], tokens: Tokens<'a>) -> Result<Request<'a>, Refusal> {
    let (found, count) = collect(tokens);
    let noreply = (1..=CLASSIC_TOKENS).contains(&count) && found[count - 1] == b"noreply";
    let fail = |text| Refusal::new(text).quiet(noreply);
    let (least, most) = match name {
        b"delete" => (1, 3),
        b"flush_all" => (0, 2),
        b"verbosity" | b"cache_memlimit" => (1, 2),
        _ => (2, 3),
    };
    if count < least || count > most {
        return Err(Refusal::new(answer::ERROR));
    }
    match name {
        b"delete" => {
            // A hold time of 0 is taken from old clients; any other was never kept.
            let hold = count > 1 && found[1] == b"0";
            if !(count == 1 || count == 2 && (hold || noreply) || count == 3 && hold && noreply) {
                return Err(fail(answer::DELETE_USAGE));
            }
            let key = key(found[0]).map_err(|refusal| refusal.quiet(noreply))?;
            Ok(Request::Delete { key, noreply })
        }
        b"incr" | b"decr" => {
            let key = key(found[0]).map_err(|refusal| refusal.quiet(noreply))?;
            let delta = parse_u64(found[1]).ok_or(fail(answer::BAD_DELTA))?;
            Ok(Request::Arithmetic { key, increment: name == b"incr", delta, noreply })
        }
        b"touch" => {
            let key = key(found[0]).map_err(|refusal| refusal.quiet(noreply))?;
            let exptime = parse_i32(found[1]).ok_or(fail(answer::BAD_EXPTIME))?;
            Ok(Request::Touch { key, exptime, noreply })
        }
        b"flush_all" => {
            let delay = match count - usize::from(noreply) {
                0 => 0,
                _ => parse_i32(found[0]).ok_or(fail(answer::BAD_EXPTIME))?,
            };
            Ok(Request::FlushAll { delay, noreply })
        }
        b"verbosity" => {
            let level = parse_u32(found[0]).ok_or(fail(answer::BAD_FORMAT))?;
            Ok(Request::Verbosity { level, noreply })
        }
        _ => {
            let megabytes = parse_u32(found[0]).ok_or(fail(answer::ERROR))?;
            Ok(Request::CacheMemlimit { megabytes, noreply })
        }
    }
}

fn meta(letter: u8, mut tokens: Tokens<'_>) -> Result<Request<'_>, Refusal> {
    if letter == b'n' {
        return Ok(Request::MetaNoop);
    }
    let key = key(tokens.next().unwrap_or_default())?;
    if letter == b'e' {
        let key = match tokens.next() {
            Some(b"b") => MetaKey::base64(key).ok_or(Refusal::new(answer::BAD_FORMAT))?,
            _ => MetaKey::plain(key),
        };
        return Ok(Request::MetaDebug(key));
    }
    let meta = Meta::parse(key, tokens);
    match letter {
        b'g' => meta.map(Request::MetaGet).map_err(Refusal::new),
        b'd' => meta.map(Request::MetaDelete).map_err(|text| Refusal::new(one_text_for_flags(text))),
        _ => meta.map(Request::MetaArithmetic).map_err(|text| Refusal::new(one_text_for_flags(text))),
    }
}

/// `md` and `ma` say the same of every fault that reading the flags finds.
fn one_text_for_flags(text: &'static str) -> &'static str {
    match text {
        answer::FLAGS_TOO_LONG | answer::OPAQUE_TOO_LONG => text,
        _ => answer::INVALID_OR_DUPLICATE_FLAG,
    }
}

/// `<key> <bytes> <flags>*`. Once the length is known, a faulty line's data is skipped.
fn meta_set(mut tokens: Tokens<'_>) -> Result<Request<'_>, Refusal> {
    let token = tokens.next().unwrap_or_default();
    let bytes = tokens.next().and_then(parse_length).ok_or(Refusal::new(answer::BAD_FORMAT))?;
    let skip = u64::from(bytes) + 2;
    let refuse = |text| Refusal { text: Some(text), noreply: false, skip };
    let key = key(token).map_err(|_| refuse(answer::BAD_FORMAT))?;
    let meta = Meta::parse(key, tokens).map_err(refuse)?;
    match meta.flags.mode_m {
        None | Some(b'E' | b'A' | b'P' | b'R' | b'S') => Ok(Request::MetaSet(meta, bytes)),
        Some(_) => Err(refuse(answer::BAD_SET_MODE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &[u8]) -> &'static str {
        parse(line).expect_err("refused").text.expect("answered")
    }

    #[test]
    fn storage_lines() {
        let request = parse(b"cas k 1 -2 3 4 noreply").unwrap();
        let Request::Store(storage) = request else { panic!("{request:?}") };
        assert_eq!(
            storage,
            Storage { mode: StorageMode::Cas(4), key: b"k", flags: 1, exptime: -2, bytes: 3, noreply: true }
        );
        assert_eq!(text(b"set k 0 0"), "ERROR");
        assert_eq!(text(b"set k 0 0 1 2 3"), "ERROR");
        assert_eq!(text(b"cas k 0 0 1"), "ERROR");
        assert_eq!(text(b"set k 0 0 -1"), "CLIENT_ERROR bad command line format");
        assert_eq!(text(b"set k 4294967296 0 1"), "CLIENT_ERROR bad command line format");
        assert_eq!(text(b"set k 0 0 2147483647"), "CLIENT_ERROR bad command line format");
        assert!(parse(b"set k 0 0 noreply").unwrap_err().noreply);
    }

    #[test]
    fn keys_end_at_250_bytes() {
        let line = |length: usize| [b"get ".as_slice(), &vec![b'k'; length]].concat();
        assert!(parse(&line(250)).is_ok());
        assert_eq!(text(&line(251)), "CLIENT_ERROR bad command line format");
        assert_eq!(
            text(&[b"get a ".as_slice(), &line(251)[4..]].concat()),
            "CLIENT_ERROR bad command line format"
        );
        assert_eq!(text(b"get"), "ERROR");
        assert_eq!(text(b"get  "), "ERROR");
        assert_eq!(text(b"gat 0"), "ERROR");
        assert_eq!(text(b"gat x k"), "CLIENT_ERROR invalid exptime argument");
    }

    #[test]
    fn deletes_take_a_hold_of_zero_only() {
        for line in [&b"delete k"[..], b"delete k 0", b"delete k noreply", b"delete k 0 noreply"] {
            assert!(parse(line).is_ok(), "{line:?}");
        }
        assert_eq!(
            text(b"delete k 5"),
            "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]"
        );
        assert_eq!(text(b"delete"), "ERROR");
        assert_eq!(text(b"delete a b c d"), "ERROR");
    }

    #[test]
    fn numbers_are_named_by_command() {
        assert_eq!(text(b"incr k x"), "CLIENT_ERROR invalid numeric delta argument");
        assert_eq!(text(b"touch k x"), "CLIENT_ERROR invalid exptime argument");
        assert_eq!(text(b"flush_all x"), "CLIENT_ERROR invalid exptime argument");
        assert_eq!(text(b"verbosity x"), "CLIENT_ERROR bad command line format");
        assert_eq!(text(b"verbosity"), "ERROR");
        assert_eq!(text(b"cache_memlimit x"), "ERROR");
        assert_eq!(parse(b"flush_all noreply"), Ok(Request::FlushAll { delay: 0, noreply: true }));
        assert_eq!(parse(b"flush_all 9 noreply"), Ok(Request::FlushAll { delay: 9, noreply: true }));
    }

    #[test]
    fn unknown_lines() {
        for line in [&b""[..], b"   ", b"x", b"GET k", b"noop", b"foo bar"] {
            assert_eq!(text(line), "ERROR", "{line:?}");
        }
        assert_eq!(parse(b"GET / HTTP/1.1").unwrap_err().text, None, "closed on");
    }

    #[test]
    fn meta_flags_are_read_once_each() {
        let Ok(Request::MetaGet(meta)) = parse(b"mg k v t N30 R-1 Oabc k") else { panic!() };
        assert!(meta.flags.value_v);
        assert_eq!((meta.flags.vivify_n, meta.flags.recache_r), (Some(30), Some(-1)));
        assert_eq!(meta.tokens(), [&b"v"[..], b"t", b"N30", b"R-1", b"Oabc", b"k"]);
        assert_eq!(text(b"mg k v v"), "CLIENT_ERROR duplicate flag");
        assert_eq!(text(b"mg k !"), "CLIENT_ERROR invalid flag");
        assert_eq!(text(b"mg k Nx"), "CLIENT_ERROR bad token in command line format");
        assert_eq!(text(b"md k v v"), "CLIENT_ERROR invalid or duplicate flag");
        assert_eq!(text(b"mg"), "CLIENT_ERROR bad command line format");
    }

    #[test]
    fn meta_limits() {
        let opaque = |length: usize| [b"mg k O".as_slice(), &vec![b'x'; length]].concat();
        assert!(parse(&opaque(31)).is_ok());
        assert_eq!(text(&opaque(32)), "CLIENT_ERROR opaque token too long");
        let flags = b"abcdefghijklmnopqrstuvwxyz".map(|letter| [b' ', letter]).concat();
        assert_eq!(text(&[b"mg k".as_slice(), &flags].concat()), "CLIENT_ERROR options flags are too long");
    }

    #[test]
    fn a_faulty_meta_set_skips_its_data() {
        let refusal = parse(b"ms k 5 !").unwrap_err();
        assert_eq!((refusal.text, refusal.skip), (Some("CLIENT_ERROR invalid flag"), 7));
        assert_eq!(parse(b"ms k x").unwrap_err().skip, 0);
        assert_eq!(parse(b"ms k 2 MZ").unwrap_err().text, Some("CLIENT_ERROR invalid mode for ms M token"));
        assert_eq!(parse(b"ms k 2 MSS").unwrap_err().text, Some("CLIENT_ERROR incorrect length for M token"));
    }

    #[test]
    fn binary_keys() {
        let Ok(Request::MetaGet(meta)) = parse(b"mg AAECIA== b") else { panic!() };
        assert_eq!(meta.key.bytes(), [0, 1, 2, b' ']);
        assert!(meta.key.is_binary());
        assert_eq!(text(b"mg **** b"), "CLIENT_ERROR error decoding key");
    }

    /// No line may panic or be read past its end.
    #[test]
    fn any_bytes_are_read() {
        let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
        let starts: [&[u8]; 12] = [
            b"get ", b"mg ", b"ms ", b"set ", b"cas ", b"gat ", b"md ", b"ma ", b"me ", b"", b"delete ",
            b"stats ",
        ];
        for round in 0..20_000 {
            let mut line = starts[round % starts.len()].to_vec();
            for _ in 0..round % 60 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let byte = (state >> 56) as u8;
                line.push(if byte & 1 == 0 { b" 0aOMTNbk-"[usize::from(byte) % 10] } else { byte });
            }
            let _ = parse(&line);
        }
    }
}
