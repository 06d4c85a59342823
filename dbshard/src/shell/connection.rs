//! One connection's bytes: received, cut into requests, executed in order, answered in order.
//!
//! What always holds: nothing more is executed while [`OUTPUT_PAUSE_BYTES`] of replies wait, so that a peer that does not
//! read stops itself; what waits for a commit leaves with that commit; a reply that rests on a lost write is never sent, nor one
//! that was made while another replica may have led.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use runtime::Segment;
use runtime::net::Stream;
use wire::resp::request::{Limits, Parser};

use super::host::Host;
use crate::core::output::{Output, Ready};
use crate::core::session::Session;
use crate::core::types::string::STRING_BYTES_MAX;

/// With so many bytes of replies waiting, nothing more is executed.
const OUTPUT_PAUSE_BYTES: usize = 1 << 20;
/// How often `WAIT` looks whether the replicas have what it waits for.
const WAIT_LOOK: Duration = Duration::from_millis(5);
/// Input kept while `WAIT` holds the connection up.
const PAUSED_INPUT_BYTES_MAX: usize = 1 << 20;
/// A connection whose requests take no more than this is not closed for what others take.
const SPARED_INPUT_BYTES: usize = 64 << 10;

/// What a connection takes of something that all connections of the core have together.
struct Share {
    bytes: usize,
    total: Rc<Cell<usize>>,
}

impl Share {
    fn of(total: &Rc<Cell<usize>>) -> Self {
        Self { bytes: 0, total: Rc::clone(total) }
    }

    fn set(&mut self, bytes: usize) {
        self.total.set(self.total.get() + bytes - self.bytes);
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// What is left of what was received.
struct Input {
    bytes: Vec<u8>,
    share: Share,
}

impl Input {
    /// Takes what was executed off the front.
    fn consume(&mut self, count: usize) {
        if count == self.bytes.len() {
            self.bytes = Vec::new();
        } else {
            self.bytes.drain(..count);
        }
    }
}

/// Why the execution of requests stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopped {
    /// More bytes are needed.
    Hungry,
    /// Replies must leave first.
    Full,
    /// The log is behind.
    Stalled,
    /// The connection is to be closed once its replies have left.
    Closing,
    /// `WAIT` holds it up.
    Paused,
}

struct Serving<'a> {
    stream: &'a Stream,
    host: &'a Rc<Host>,
    session: &'a Rc<RefCell<Session>>,
    parser: Parser,
    output: Output,
    input: Input,
    /// There are replies that the shard gave without being sure that it led.
    unconfirmed: bool,
    /// Replies of more than [`OUTPUT_PAUSE_BYTES`] on their way to the peer.
    leaving: Share,
}

/// Serves until the peer closes, a command ends the connection, or the peer stalls.
pub(super) async fn serve(
    stream: &Stream,
    host: &Rc<Host>,
    session: &Rc<RefCell<Session>>,
    idle: &Cell<bool>,
) -> io::Result<()> {
    let limits = Limits {
        bulk_bytes_max: STRING_BYTES_MAX,
        request_bytes_max: host.config.request_bytes_max,
        ..Limits::default()
    };
    let input = Input { bytes: Vec::new(), share: Share::of(&host.request_bytes) };
    let output = Output::new(host.config.output_bytes_max);
    let leaving = Share::of(&host.reply_bytes);
    let parser = Parser::new(limits);
    let mut serving = Serving { stream, host, session, parser, output, input, unconfirmed: false, leaving };
    let mut stopped = Stopped::Hungry;
    let mut ended = false;
    loop {
        if !serving.send().await? {
            stream.abort();
            return Ok(());
        }
        let waiting = serving.output.is_gated();
        if !waiting && (stopped == Stopped::Closing || ended && stopped == Stopped::Hungry) {
            return stream.shutdown().await;
        }
        match stopped {
            Stopped::Paused => {
                ended |= serving.pause().await?;
                stopped = serving.run_kept();
            }
            // It may have ended while replies were sent.
            Stopped::Stalled if host.is_stalled() => host.unstalled.notified().await,
            Stopped::Stalled => stopped = serving.run_kept(),
            Stopped::Full if !waiting || serving.output.len() < OUTPUT_PAUSE_BYTES => {
                stopped = serving.run_kept();
            }
            Stopped::Closing | Stopped::Full => host.settled.notified().await,
            Stopped::Hungry if ended => host.settled.notified().await,
            Stopped::Hungry => {
                idle.set(!waiting && serving.input.bytes.is_empty());
                if idle.get() && host.draining.get() {
                    return stream.shutdown().await;
                }
                match serving.receive(waiting).await? {
                    Received::Settled => {}
                    Received::Stalled => return Ok(()),
                    Received::Bytes(lease) if lease.is_empty() => ended = true,
                    Received::Bytes(lease) => {
                        idle.set(false);
                        host.shard.borrow_mut().stats.bytes_in += lease.len() as u64;
                        stopped = serving.run_received(&lease);
                    }
                }
            }
        }
    }
}

enum Received {
    Bytes(runtime::Lease),
    /// Writes were committed or lost.
    Settled,
    /// Nothing came for too long.
    Stalled,
}

impl Serving<'_> {
    /// Sends what may leave; `false` when a reply is lost or too long, and the peer must be told nothing more.
    async fn send(&mut self) -> io::Result<bool> {
        if self.unconfirmed {
            if !self.host.confirm().await {
                return Ok(false);
            }
            self.unconfirmed = false;
        }
        let committed = self.host.shard.borrow().committed_sequence();
        if self.stream.send_queue_bytes() > 0 && self.output.has_ready(committed) {
            self.flush().await?;
        }
        let Some(ready) = self.take_ready() else { return Ok(false) };
        let bytes = ready.len();
        if ready.large.is_empty() {
            if bytes > 0 {
                self.stream.send(ready.bytes).await?;
            }
        } else {
            self.stream.send_all(ready.pieces().map(Segment::from)).await?;
        }
        if bytes > OUTPUT_PAUSE_BYTES {
            self.leaving.set(bytes);
            if self.host.reply_bytes.get() > self.host.config.replies_bytes_max {
                tracing::warn!("long replies take more than `replies_bytes_max`: a connection is closed");
                return Ok(false);
            }
            self.flush().await?;
            self.leaving.set(0);
        }
        Ok(true)
    }

    /// What may leave now; `None` when a reply is lost or too long.
    fn take_ready(&mut self) -> Option<Ready> {
        let mut shard = self.host.shard.borrow_mut();
        if shard.is_lost(&self.output) || self.output.overflowed() {
            return None;
        }
        let ready = self.output.take(shard.committed_sequence());
        shard.stats.bytes_out += ready.len() as u64;
        Some(ready)
    }

    /// Waits until the peer has read what was sent. It may be slow, but not silent.
    async fn flush(&self) -> io::Result<()> {
        let limit = Duration::from_secs(self.host.config.stall_timeout_s);
        loop {
            let before = self.stream.send_queue_bytes();
            match runtime::time::timeout(limit, self.stream.flush()).await {
                Ok(flushed) => return flushed,
                Err(_) if self.stream.send_queue_bytes() < before => {}
                Err(_) => {
                    self.stream.abort();
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "the peer reads nothing"));
                }
            }
        }
    }

    /// The next bytes, or, while replies wait for commits, such a commit.
    async fn receive(&self, waiting: bool) -> io::Result<Received> {
        if waiting {
            let settled = pin!(self.host.settled.notified());
            return match select(pin!(self.stream.recv()), settled).await {
                Either::Left((received, _)) => received.map(Received::Bytes),
                Either::Right(_) => Ok(Received::Settled),
            };
        }
        let config = &self.host.config;
        let limit_s =
            if self.input.bytes.is_empty() { config.idle_timeout_s } else { config.stall_timeout_s };
        if limit_s == 0 {
            return self.stream.recv().await.map(Received::Bytes);
        }
        match runtime::time::timeout(Duration::from_secs(limit_s), self.stream.recv()).await {
            Ok(received) => received.map(Received::Bytes),
            Err(_) => Ok(Received::Stalled),
        }
    }

    /// Executes what was received, and keeps what is left.
    fn run_received(&mut self, received: &[u8]) -> Stopped {
        if self.input.bytes.is_empty() {
            let (taken, stopped) = self.run(received);
            self.keep(&received[taken..]);
            return self.bounded(stopped);
        }
        self.keep(received);
        self.run_kept()
    }

    /// Counts what this connection keeps of requests, queued by MULTI among them; ends it if that is too much for the core.
    fn bounded(&mut self, stopped: Stopped) -> Stopped {
        let kept = self.input.bytes.capacity() + self.session.borrow().kept_bytes();
        self.input.share.set(kept);
        if kept <= SPARED_INPUT_BYTES || self.host.request_bytes.get() <= self.host.config.requests_bytes_max
        {
            return stopped;
        }
        tracing::warn!("requests kept take more than `requests_bytes_max`: a connection is closed");
        self.output.error(b"ERR too many large requests at once");
        Stopped::Closing
    }

    fn keep(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let there = self.input.bytes.len() + bytes.len();
        // Room for what was announced, but not more than what came makes likely.
        let needed = self.parser.bytes_needed().clamp(there, 2 * there + SPARED_INPUT_BYTES);
        if needed > self.input.bytes.capacity() {
            self.input.bytes.reserve_exact(needed - self.input.bytes.len());
        }
        self.input.bytes.extend_from_slice(bytes);
    }

    /// Executes what was kept.
    fn run_kept(&mut self) -> Stopped {
        let bytes = std::mem::take(&mut self.input.bytes);
        let (taken, stopped) = self.run(&bytes);
        self.input.bytes = bytes;
        self.input.consume(taken);
        self.bounded(stopped)
    }

    /// Executes requests; gives how many bytes they took.
    fn run(&mut self, input: &[u8]) -> (usize, Stopped) {
        let host = self.host;
        let now_ms = runtime::time::unix_ms();
        let mut session = self.session.borrow_mut();
        let mut taken = 0;
        let mut wrote = false;
        let stopped = loop {
            if self.output.len() >= OUTPUT_PAUSE_BYTES {
                break Stopped::Full;
            }
            if host.is_stalled() {
                break Stopped::Stalled;
            }
            let rest = &input[taken..];
            let request_bytes = match self.parser.parse(rest) {
                Ok(Some(request_bytes)) => request_bytes,
                Ok(None) => break Stopped::Hungry,
                Err(error) => {
                    self.output.error(format!("ERR Protocol error: {error}").as_bytes());
                    break Stopped::Closing;
                }
            };
            let arguments = self.parser.arguments(rest);
            if host.shard.borrow().wants_proposal(request_bytes, arguments) && !host.propose() {
                host.written.notify_one();
                break Stopped::Stalled;
            }
            let mut shard = host.shard.borrow_mut();
            shard.execute(&mut session, arguments, &mut self.output, now_ms);
            wrote |= shard.batch().is_some();
            let killed = shard.take_killed();
            if shard.take_save_asked() {
                host.checkpoint.notify_one();
            }
            drop(shard);
            if !killed.is_empty() {
                host.close_killed(killed);
            }
            self.parser.finish();
            taken += request_bytes;
            if session.close || self.output.overflowed() {
                break Stopped::Closing;
            }
            if session.wait.is_some() {
                break Stopped::Paused;
            }
        };
        if wrote {
            host.written.notify_one();
        }
        // Asked afterwards, so that a process that was stopped meanwhile is noticed.
        if taken > 0 && host.shard.borrow().leads() && !host.is_current() {
            self.unconfirmed = true;
        }
        (taken, stopped)
    }

    /// Waits until `WAIT` is over, keeping what comes meanwhile; says whether the peer has finished.
    async fn pause(&mut self) -> io::Result<bool> {
        let Some(wait) = self.session.borrow_mut().wait.take() else { return Ok(false) };
        let left = wait.until_ms.saturating_sub(runtime::time::unix_ms()).min(u64::from(u32::MAX));
        let over = runtime::time::now() + Duration::from_millis(left);
        let stall = Duration::from_secs(self.host.config.stall_timeout_s);
        let (mut ended, mut unread_since) = (false, None);
        let acknowledged = loop {
            self.host.look_at_replicas();
            let acknowledged = self.host.shard.borrow().acknowledged(wait.index);
            let now = runtime::time::now();
            if ended || now >= over || acknowledged >= wait.replicas {
                break acknowledged;
            }
            let look = if self.host.is_alone() { over } else { over.min(now + WAIT_LOOK) };
            if self.input.bytes.len() >= PAUSED_INPUT_BYTES_MAX {
                // Unread, the peer's end is not noticed: that must not last.
                let limit = *unread_since.get_or_insert(now) + stall;
                if now >= limit {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "more requests behind a WAIT than are kept",
                    ));
                }
                runtime::time::sleep_until(look.min(limit)).await;
            } else if let Ok(received) = runtime::time::deadline(look, self.stream.recv()).await {
                let received = received?;
                ended = received.is_empty();
                self.keep(&received);
                if self.bounded(Stopped::Paused) == Stopped::Closing {
                    return Err(io::Error::other("requests kept take too much"));
                }
            }
        };
        self.output.lift();
        if !wait.is_silent {
            self.output.integer(acknowledged as i64);
        }
        Ok(ended)
    }
}
