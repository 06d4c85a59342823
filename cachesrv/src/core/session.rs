//! One connection: received bytes in, answers out.
//!
//! What always holds:
//! - [`Session::step`] takes every byte it is given exactly once; what it can't use yet it keeps, and what it keeps
//!   is bounded: a line of [`LINE_BYTES_MAX`] (a retrieval's: [`RETRIEVAL_BYTES_MAX`]), one value of the item limit.
//! - How the bytes are cut into calls changes no answer.
//! - Long lines and values that are not all there yet are booked against a limit that all connections share.
//! - A value that arrives in pieces is put together once, where it will be stored.
//! - After [`Step::Full`] the caller sends `out` away and calls again: the answers waiting are bounded too, by
//!   [`ANSWERS_BYTES`] and one item.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use memchr::memchr;
use wire::memcached::{Keys, LINE_BYTES_MAX, Refusal, Request, Storage, StorageMode, Tokens, answer, parse};

use super::cache::Cache;
use super::change::{Value, fits_item};
use super::classic;
use super::clock::Now;
use super::meta;
use super::stats;
use super::store::HEAD_BYTES;

/// The longest line of a retrieval, in bytes; a longer one closes the connection.
pub const RETRIEVAL_BYTES_MAX: usize = 4 << 20;
/// Spaces before the name of a long retrieval; memcached's number.
const LEADING_SPACES_MAX: usize = 100;
/// Answers of so many bytes are sent before more commands are looked at.
pub const ANSWERS_BYTES: usize = 256 << 10;
/// The first byte of a client that speaks the binary protocol, which is not there yet: it is closed on, since an
/// answer in text would mean nothing to it.
const BINARY_PROTOCOL: u8 = 0x80;
/// So many keys of one retrieval are looked up before others get their turn.
const KEYS_PER_TURN: usize = 4096;
/// `cache_memlimit` takes no less, in MiB.
const MEMLIMIT_MIN_MIB: u32 = 8;
/// `cache_memlimit` takes what is above for bytes by mistake.
const MEMLIMIT_MAX_MIB: u32 = 1_000_000_000;
/// `verbosity` knows no more levels.
const VERBOSITY_MAX: u32 = 2;

/// What the caller is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// All bytes are taken; send `out` and receive more.
    Hungry,
    /// Send `out`, let others have a turn, and call again with what is left.
    Full,
    /// Send `out` and close.
    Close,
    /// Send `out`, close, and stop the whole server.
    Shutdown,
}

#[derive(Debug)]
enum State {
    /// The start of a line, looked through for a newline up to its end.
    Line(Vec<u8>),
    /// A storage command's line, and its value so far behind [`HEAD_BYTES`] and the key; `missing` counts what is
    /// yet to come, its line end included.
    Value { line: Vec<u8>, item: Vec<u8>, missing: usize },
    /// Data that nobody wants.
    Skip(u64),
    /// A retrieval that was answered up to `done`.
    Retrieval { line: Vec<u8>, done: usize, cas: bool, exptime: Option<i32> },
}

/// One connection's state.
#[derive(Debug)]
pub struct Session {
    cache: Arc<Cache>,
    state: State,
    /// Nothing was received yet.
    fresh: bool,
    /// Bytes that the state was given of those that all connections share, see [`Cache::book_incoming`].
    booked: usize,
}

impl Session {
    /// A fresh connection.
    pub fn new(cache: Arc<Cache>) -> Session {
        Session { cache, state: State::Line(Vec::new()), fresh: true, booked: 0 }
    }

    /// Whether nothing is half received.
    pub fn is_idle(&self) -> bool {
        matches!(&self.state, State::Line(line) if line.is_empty())
    }

    /// Takes bytes off the front of `input` and appends answers to `out`.
    pub fn step(&mut self, input: &mut &[u8], now: Now, out: &mut Vec<u8>) -> Step {
        if std::mem::take(&mut self.fresh) && input.first() == Some(&BINARY_PROTOCOL) {
            return Step::Close;
        }
        loop {
            if out.len() >= ANSWERS_BYTES {
                return Step::Full;
            }
            match std::mem::replace(&mut self.state, State::Line(Vec::new())) {
                State::Line(held) => {
                    let Some(end) = memchr(b'\n', input) else {
                        return self.hold_line(held, input);
                    };
                    let (line, rest) = (&input[..end], &input[end + 1..]);
                    *input = rest;
                    let step = if held.is_empty() {
                        if is_overlong(line) {
                            return Step::Close;
                        }
                        self.command(without_return(line), input, now, out)
                    } else {
                        let whole = [&held[..], line].concat();
                        if is_overlong(&whole) {
                            return Step::Close;
                        }
                        self.command(without_return(&whole), input, now, out)
                    };
                    if !matches!(self.state, State::Value { .. } | State::Retrieval { .. }) {
                        self.release();
                    }
                    if let Some(step) = step {
                        return step;
                    }
                }
                State::Skip(left) => {
                    let skipped = left.min(input.len() as u64);
                    *input = &input[skipped as usize..];
                    if skipped < left {
                        self.state = State::Skip(left - skipped);
                        return Step::Hungry;
                    }
                }
                State::Value { line, mut item, missing } => {
                    let taken = missing.min(input.len());
                    item.extend_from_slice(&input[..taken]);
                    *input = &input[taken..];
                    if taken < missing {
                        self.state = State::Value { line, item, missing: missing - taken };
                        return Step::Hungry;
                    }
                    self.release();
                    self.whole_value(&line, item, now, out);
                }
                State::Retrieval { line, done, cas, exptime } => {
                    let keys = Tokens::new(&line[done..]);
                    if let Some(left) = self.retrieve(keys, cas, exptime, now, out) {
                        let done = line.len() - left.len();
                        self.state = State::Retrieval { line, done, cas, exptime };
                        return Step::Full;
                    }
                    self.release();
                }
            }
        }
    }

    /// Keeps the start of a line.
    fn hold_line(&mut self, mut held: Vec<u8>, input: &mut &[u8]) -> Step {
        held.extend_from_slice(input);
        *input = &[];
        if is_overlong(&held) {
            return Step::Close;
        }
        let more = held.capacity().saturating_sub(self.booked);
        if held.len() > LINE_BYTES_MAX && !self.book(more) {
            return Step::Close;
        }
        self.state = State::Line(held);
        Step::Hungry
    }

    fn book(&mut self, bytes: usize) -> bool {
        let booked = self.cache.book_incoming(bytes);
        self.booked += if booked { bytes } else { 0 };
        booked
    }

    fn release(&mut self) {
        if self.booked > 0 {
            self.cache.release_incoming(std::mem::take(&mut self.booked));
        }
    }

    /// Carries out one line. `None` goes on with what `input` has left.
    fn command(&mut self, line: &[u8], input: &mut &[u8], now: Now, out: &mut Vec<u8>) -> Option<Step> {
        let request = match parse(line) {
            Ok(request) => request,
            Err(refusal) => return self.refuse(refusal, out),
        };
        let cache = Arc::clone(&self.cache);
        match request {
            Request::Get { keys, cas, exptime } => {
                let left = self.retrieve(keys, cas, exptime, now, out)?;
                let line = left.to_vec();
                self.state = State::Retrieval { line, done: 0, cas, exptime };
                return Some(Step::Full);
            }
            Request::Store(storage) => self.classic_value(line, &storage, input, now, out),
            Request::MetaSet(request, bytes) => {
                let key = request.key.bytes();
                if self.accept_value(line, key, bytes as usize, true, false, input, now, out) {
                    let (data, end) = take_value(input, bytes as usize);
                    match end {
                        b"\r\n" => meta::set(&cache, &request, Value::Borrowed(data), now, out),
                        _ => put(out, answer::BAD_CHUNK),
                    }
                }
            }
            Request::Delete { key, noreply } => reply(out, noreply, classic::delete(&cache, key, now)),
            Request::Arithmetic { key, increment, delta, noreply } => {
                let start = out.len();
                classic::arithmetic(&cache, key, increment, delta, now, out);
                if noreply {
                    out.truncate(start);
                }
            }
            Request::Touch { key, exptime, noreply } => {
                reply(out, noreply, classic::touch(&cache, key, exptime, now));
            }
            Request::MetaGet(request) => meta::get(&cache, &request, now, out),
            Request::MetaDelete(request) => meta::delete(&cache, &request, now, out),
            Request::MetaArithmetic(request) => meta::arithmetic(&cache, &request, now, out),
            Request::MetaDebug(key) => meta::debug(&cache, &key, now, out),
            Request::MetaNoop => put(out, "MN"),
            Request::Stats(arguments) => stats::answer(&cache, arguments, now, out),
            Request::Version => put(out, &format!("VERSION {}", cache.options.version)),
            Request::Quit => return Some(Step::Close),
            Request::Shutdown(arguments) => return self.shutdown(arguments, out),
            other => self.administer(&other, now, out),
        }
        None
    }

    fn refuse(&mut self, refusal: Refusal, out: &mut Vec<u8>) -> Option<Step> {
        let Some(text) = refusal.text else {
            return Some(Step::Close);
        };
        reply(out, refusal.noreply, text);
        if refusal.skip > 0 {
            self.state = State::Skip(refusal.skip);
        }
        None
    }

    /// Answers keys until all are done, or gives the rest of the line.
    fn retrieve<'a>(
        &self,
        mut keys: Keys<'a>,
        cas: bool,
        exptime: Option<i32>,
        now: Now,
        out: &mut Vec<u8>,
    ) -> Option<&'a [u8]> {
        for _ in 0..KEYS_PER_TURN {
            let Some(key) = keys.next() else {
                put(out, "END");
                return None;
            };
            classic::get(&self.cache, key, cas, exptime, now, out);
            if out.len() >= ANSWERS_BYTES {
                break;
            }
        }
        Some(keys.rest())
    }

    fn classic_value(
        &mut self,
        line: &[u8],
        storage: &Storage<'_>,
        input: &mut &[u8],
        now: Now,
        out: &mut Vec<u8>,
    ) {
        let bytes = storage.bytes as usize;
        let forgets = storage.mode == StorageMode::Set;
        if self.accept_value(line, storage.key, bytes, forgets, storage.noreply, input, now, out) {
            let (data, end) = take_value(input, bytes);
            let text = match end {
                b"\r\n" => classic::store(&self.cache, storage, Value::Borrowed(data), now),
                _ => answer::BAD_CHUNK,
            };
            reply(out, storage.noreply, text);
        }
    }

    /// Whether a value is all there, to be stored. If it may not be stored that is said and it is skipped; if it is
    /// not all there it is waited for.
    #[allow(clippy::too_many_arguments)]
    fn accept_value(
        &mut self,
        line: &[u8],
        key: &[u8],
        bytes: usize,
        forgets: bool,
        noreply: bool,
        input: &mut &[u8],
        now: Now,
        out: &mut Vec<u8>,
    ) -> bool {
        let missing = bytes + 2;
        let fits = fits_item(&self.cache, key.len(), bytes);
        if fits && input.len() >= missing {
            return true;
        }
        let booked = HEAD_BYTES + key.len() + missing;
        if !fits || !self.book(booked) {
            let text = classic::refuse_store(&self.cache, key, forgets, !fits, now);
            reply(out, noreply, text);
            self.state = State::Skip(missing as u64);
            return false;
        }
        let mut item = Vec::with_capacity(booked);
        item.resize(HEAD_BYTES, 0);
        item.extend_from_slice(key);
        self.state = State::Value { line: line.to_vec(), item, missing };
        false
    }

    /// Stores a value that arrived in pieces.
    fn whole_value(&mut self, line: &[u8], mut item: Vec<u8>, now: Now, out: &mut Vec<u8>) {
        let ended = item.ends_with(b"\r\n");
        item.truncate(item.len() - 2);
        match parse(line) {
            Ok(Request::Store(storage)) => {
                let text = match ended {
                    true => classic::store(&self.cache, &storage, Value::Whole(item), now),
                    false => answer::BAD_CHUNK,
                };
                reply(out, storage.noreply, text);
            }
            Ok(Request::MetaSet(request, _)) if ended => {
                meta::set(&self.cache, &request, Value::Whole(item), now, out);
            }
            _ => put(out, answer::BAD_CHUNK),
        }
    }

    fn shutdown(&self, mut arguments: Tokens<'_>, out: &mut Vec<u8>) -> Option<Step> {
        if !self.cache.options.shutdown_command {
            put(out, "ERROR: shutdown not enabled");
            return None;
        }
        match (arguments.next(), arguments.next()) {
            (None, _) | (Some(b"graceful"), None) => Some(Step::Shutdown),
            _ => {
                put(out, "CLIENT_ERROR invalid shutdown mode");
                None
            }
        }
    }

    fn administer(&self, request: &Request<'_>, now: Now, out: &mut Vec<u8>) {
        let cache = &self.cache;
        match request {
            Request::FlushAll { delay, noreply } => {
                let text = if cache.options.flush_all {
                    let at_ms = if *delay > 0 { now.expiry_ms(*delay) } else { now.ms };
                    cache.flush(at_ms, now);
                    "OK"
                } else {
                    "CLIENT_ERROR flush_all not allowed"
                };
                reply(out, *noreply, text);
            }
            Request::Verbosity { level, noreply } => {
                cache.verbosity.store((*level).min(VERBOSITY_MAX), Ordering::Relaxed);
                reply(out, *noreply, "OK");
            }
            Request::CacheMemlimit { megabytes, noreply } => {
                reply(out, *noreply, self.limit_memory(*megabytes, now));
            }
            Request::Admin(name, arguments) => put(out, not_offered(name, *arguments)),
            _ => unreachable!("all other requests are carried out by command"),
        }
    }

    fn limit_memory(&self, megabytes: u32, now: Now) -> &'static str {
        match megabytes {
            ..MEMLIMIT_MIN_MIB => "MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m",
            MEMLIMIT_MAX_MIB.. => "MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes",
            _ => match self.cache.set_memory_limit(megabytes as usize * (1 << 20), now) {
                true => "OK",
                false => "MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust",
            },
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.release();
    }
}

/// What memcached says when the machinery that a command is for is switched off.
fn not_offered(name: &[u8], mut arguments: Tokens<'_>) -> &'static str {
    match (name, arguments.next()) {
        (b"watch", _) => "CLIENT_ERROR watch commands not allowed",
        (b"slabs", Some(b"reassign")) => "CLIENT_ERROR slab reassignment disabled",
        (b"lru_crawler", Some(b"crawl")) => "CLIENT_ERROR lru crawler disabled",
        (b"lru_crawler", Some(b"metadump" | b"mgdump")) => "ERROR metadump not allowed",
        _ => answer::ERROR,
    }
}

fn take_value<'a>(input: &mut &'a [u8], bytes: usize) -> (&'a [u8], &'a [u8]) {
    let (data, rest) = input.split_at(bytes);
    let (end, rest) = rest.split_at(2);
    *input = rest;
    (data, end)
}

/// Whether a line, or the start of one, is too long to be a command. memcached lets only `get` and `gets` be long, but takes
/// any line that happens to come in one piece; here `gat` and `gats` may be long too, and how a line came does not matter.
fn is_overlong(line: &[u8]) -> bool {
    if line.len() <= LINE_BYTES_MAX {
        return false;
    }
    let spaces = line.iter().take_while(|byte| **byte == b' ').count();
    let is_retrieval =
        [&b"get "[..], b"gets ", b"gat ", b"gats "].iter().any(|name| line[spaces..].starts_with(name));
    !is_retrieval || spaces > LEADING_SPACES_MAX || line.len() > RETRIEVAL_BYTES_MAX
}

fn without_return(line: &[u8]) -> &[u8] {
    match line {
        // As in memcached, a lone "\r\n" keeps its return.
        [before @ .., b'\r'] if !before.is_empty() => before,
        _ => line,
    }
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn reply(out: &mut Vec<u8>, noreply: bool, text: &str) {
    if !noreply {
        put(out, text);
    }
}
