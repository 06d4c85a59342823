//! One connection: frames in, answers out in the order of the requests.
//!
//! Requests are handled one after another, as clients rely on; only Produce lets the next go on while its batches become
//! durable, so that a client with several in flight fills one group commit. At most [`IN_FLIGHT_MAX`] answers wait, of
//! [`WAITING_BYTES_MAX`] and one answer more; a client that reads nothing of them is cut off.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{Either, LocalBoxFuture, select};
use runtime::limits::SEND_QUEUE_BYTES;
use runtime::net::{Address, Stream};
use runtime::sync::Notify;
use runtime::{Lease, time};
use wire::kafka::StrBytes;
use wire::kafka::frame::FrameReader;

use super::core::{Core, Reservation};
use super::handlers::{self, Answer, Client, Handled};

/// Answers of one connection that are not yet sent; its next request waits at that.
const IN_FLIGHT_MAX: usize = 64;

/// Bytes of answers that wait behind the one that is being sent; the next request waits at that.
const WAITING_BYTES_MAX: usize = 1024 * 1024;

/// A request that has arrived in part counts against `buffered_bytes_max` if it will have more bytes than this; a whole one
/// counts always.
const UNCOUNTED_BYTES: usize = 4096;

/// How often a request that found no room looks again.
const ROOM_EVERY: Duration = Duration::from_millis(20);

type Pending = LocalBoxFuture<'static, Option<Answer>>;

/// Answers to be sent, in order.
#[derive(Default)]
struct Outbox {
    /// Each with the bytes that it is known to have.
    queue: RefCell<VecDeque<(Pending, usize)>>,
    waiting_bytes: Cell<usize>,
    filled: Notify,
    emptied: Notify,
    closed: Cell<bool>,
    broken: Cell<bool>,
}

/// Why a connection ends that its client didn't end.
enum Ended {
    Clean,
    Bad(String),
}

/// Serves one connection to its end.
pub(crate) async fn serve(core: Rc<Core>, stream: Stream, peer: Address) {
    let metrics = &core.shared.metrics;
    if core.shared.connections.fetch_add(1, Ordering::Relaxed) >= core.shared.config.connections_max {
        metrics.refused_connections.inc();
        stream.abort();
    } else {
        metrics.connections.inc();
        let stream = Rc::new(stream);
        let outbox = Rc::new(Outbox::default());
        let patience = Duration::from_millis(core.shared.config.stall_ms);
        let writer = runtime::spawn(write(stream.clone(), outbox.clone(), patience));
        let ended = read(&core, &stream, &peer, &outbox).await;
        if let Ended::Bad(why) = ended {
            metrics.malformed.inc();
            tracing::debug!(%peer, why, "closing a connection");
        }
        outbox.closed.set(true);
        outbox.filled.notify_one();
        writer.await;
        metrics.connections.dec();
    }
    core.shared.connections.fetch_sub(1, Ordering::Relaxed);
}

async fn read(core: &Rc<Core>, stream: &Rc<Stream>, peer: &Address, outbox: &Rc<Outbox>) -> Ended {
    let config = &core.shared.config;
    let host = peer.ip().map_or_else(|| "/unknown".to_owned(), |a| format!("/{}", a.ip()));
    let client = Client { host: StrBytes::from_string(host) };
    let mut frames = FrameReader::new(config.request_bytes_max);
    let mut reservation: Option<Reservation> = None;
    loop {
        loop {
            let frame = match frames.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => return Ended::Bad(error.to_string()),
            };
            let reserved = match reservation.take() {
                Some(reserved) => Some(reserved),
                None => reserve(core, frame.len(), config.stall_ms).await,
            };
            let Some(reserved) = reserved else { return Ended::Bad("no room for a request".into()) };
            let handled = match handlers::handle(core, &client, frame).await {
                Ok(handled) => handled,
                Err(error) => return Ended::Bad(error.to_string()),
            };
            outbox.push(handled, reserved).await;
            if outbox.broken.get() || core.shared.stop.is_requested() {
                return Ended::Clean;
            }
        }
        if frames.claimed_bytes() > UNCOUNTED_BYTES && reservation.is_none() {
            match reserve(core, frames.claimed_bytes(), config.stall_ms).await {
                Some(taken) => reservation = Some(taken),
                None => return Ended::Bad("no room for a large request".into()),
            }
        }
        match next_piece(core, stream, frames.buffered_bytes() > 0).await {
            Ok(piece) => frames.push(&piece),
            Err(ended) => return ended,
        }
    }
}

/// Waits for room for a request; `None` when none came within `stall_ms`.
async fn reserve(core: &Rc<Core>, bytes: usize, stall_ms: u64) -> Option<Reservation> {
    let deadline = time::now() + Duration::from_millis(stall_ms);
    loop {
        if let Some(reservation) = Reservation::take(&core.shared, bytes) {
            return Some(reservation);
        }
        if time::now() >= deadline || core.shared.stop.is_requested() {
            return None;
        }
        time::sleep(ROOM_EVERY).await;
    }
}

/// What arrives next. A request half here has to go on arriving; between requests there is more patience.
async fn next_piece(core: &Rc<Core>, stream: &Stream, within_request: bool) -> Result<Lease, Ended> {
    let config = &core.shared.config;
    let patience = Duration::from_millis(if within_request { config.stall_ms } else { config.idle_ms });
    let received = pin!(time::timeout(patience, stream.recv()));
    let stopped = pin!(core.shared.stop.requested());
    match select(received, stopped).await {
        Either::Left((Ok(Ok(piece)), _)) if !piece.is_empty() => Ok(piece),
        Either::Left((Err(_), _)) if within_request => Err(Ended::Bad("half a request, then silence".into())),
        _ => Err(Ended::Clean),
    }
}

impl Outbox {
    /// Takes an answer; waits while too much waits before the next. `reserved` is what its request takes.
    async fn push(&self, handled: Handled, reserved: Reservation) {
        let (pending, bytes): (Pending, usize) = match handled {
            Handled::Now(answer) => {
                drop(reserved);
                let bytes = answer.bytes();
                (Box::pin(std::future::ready(Some(answer))), bytes)
            }
            Handled::Later(future) => (Box::pin(hold(future, reserved)), 0),
        };
        self.waiting_bytes.set(self.waiting_bytes.get() + bytes);
        self.queue.borrow_mut().push_back((pending, bytes));
        self.filled.notify_one();
        while self.is_full() && !self.broken.get() {
            self.emptied.notified().await;
        }
    }

    fn is_full(&self) -> bool {
        self.queue.borrow().len() >= IN_FLIGHT_MAX || self.waiting_bytes.get() >= WAITING_BYTES_MAX
    }

    fn pop(&self) -> Option<Pending> {
        let (pending, bytes) = self.queue.borrow_mut().pop_front()?;
        self.waiting_bytes.set(self.waiting_bytes.get() - bytes);
        self.emptied.notify_one();
        Some(pending)
    }
}

async fn hold<T>(future: impl Future<Output = T>, reserved: Reservation) -> T {
    let result = future.await;
    drop(reserved);
    result
}

async fn write(stream: Rc<Stream>, outbox: Rc<Outbox>, patience: Duration) {
    loop {
        let Some(pending) = outbox.pop() else {
            if outbox.closed.get() {
                break;
            }
            outbox.filled.notified().await;
            continue;
        };
        if let Some(answer) = pending.await
            && send(&stream, answer, patience).await.is_err()
        {
            outbox.broken.set(true);
            outbox.queue.borrow_mut().clear();
            outbox.emptied.notify_one();
            // Wakes the reader, should it wait for more.
            stream.abort();
            return;
        }
    }
    // A client that is gone needs no farewell.
    if flush(&stream, patience).await.is_ok() {
        let _ = stream.shutdown().await;
    }
}

/// Sends an answer; one that holds something is sent whole before that is let go.
async fn send(stream: &Stream, answer: Answer, patience: Duration) -> io::Result<()> {
    if stream.send_queue_bytes() > SEND_QUEUE_BYTES {
        flush(stream, patience).await?;
    }
    let holds = !answer.held.is_empty();
    stream.send_all(answer.pieces).await?;
    if holds { flush(stream, patience).await } else { Ok(()) }
}

/// Waits until the client has read what was sent. It may be slow, but not silent.
async fn flush(stream: &Stream, patience: Duration) -> io::Result<()> {
    loop {
        let before = stream.send_queue_bytes();
        match time::timeout(patience, stream.flush()).await {
            Ok(flushed) => return flushed,
            Err(_) if stream.send_queue_bytes() < before => {}
            Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing")),
        }
    }
}
