//! One client connection: request after request.
//!
//! What always holds: requests are answered in order, each before the next is looked at; a connection that waits for a
//! request holds no buffer; after an answer that ends the connection the client is given time to read it.

use super::exchange::{self, Outcome};
use super::input::Input;
use super::local::{Admitted, Local};
use super::request::{Job, Refused, prepare};
use super::within::within;
use crate::core::forward::Client;
use crate::core::refusal::Refusal;
use runtime::net::{Address, Stream};
use runtime::time::{deadline, now, turn_now};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tls::Conn;
use tls::rustls::ServerConfig;
use wire::http1::{HeadKind, HeadScan};

/// What a client may still send, unread, after the last answer before it is cut off.
const LINGER_BYTES_MAX: usize = 1024 * 1024;
/// How long it may take for that.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// Serves a connection to its end.
pub(super) async fn serve(
    admitted: Admitted,
    local: Rc<Local>,
    stream: Stream,
    peer: Address,
    tls: Option<Arc<ServerConfig>>,
) {
    stream.set_send_queue_limit(local.setup.send_queue_bytes_max);
    let client = local.setup.client(&peer, tls.is_some());
    let conn = match tls {
        None => Conn::from(stream),
        Some(config) => {
            match within(local.setup.timeouts.client_head, Box::pin(tls::accept(stream, config))).await {
                Ok(Ok(stream)) => Conn::from(stream),
                failed => {
                    local.counts.handshake_errors.add();
                    tracing::debug!(%peer, error = ?failed.map(|done| done.err()), "no TLS handshake");
                    return;
                }
            }
        }
    };
    let mut session = Session { local, conn, client, input: Input::default(), fresh: true };
    let ending = session.run().await;
    match ending {
        Ending::Gone => {}
        Ending::Cut => session.conn.abort(),
        Ending::Last => session.linger().await,
    }
    drop(admitted);
}

struct Session {
    local: Rc<Local>,
    conn: Conn,
    client: Client,
    input: Input,
    /// No request has come yet.
    fresh: bool,
}

/// How a connection ends.
enum Ending {
    /// The client is gone, or has nothing to wait for.
    Gone,
    /// The client must see that an answer is not whole.
    Cut,
    /// The last answer was sent; it is to arrive.
    Last,
}

/// What came of waiting for a head.
enum Awaited {
    Head(Range<usize>),
    Gone,
    Refused(Refused),
}

impl Session {
    async fn run(&mut self) -> Ending {
        loop {
            let first = std::mem::take(&mut self.fresh);
            let prepared = match self.head().await {
                Awaited::Gone => return Ending::Gone,
                Awaited::Refused(refused) => Err(refused),
                Awaited::Head(range) => {
                    let end = range.end;
                    let prepared = prepare(&self.local, &self.client, &self.input.bytes()[range], first);
                    self.input.consume(end);
                    prepared
                }
            };
            let kept = match prepared {
                Err(refused) => self.refuse(refused).await,
                Ok(job) => match self.exchange(job).await {
                    Outcome::Kept => true,
                    Outcome::Closing | Outcome::Unanswered => false,
                    Outcome::Tunnelled | Outcome::ClientGone => return Ending::Gone,
                    Outcome::Cut(_) => return Ending::Cut,
                },
            };
            if !kept || self.local.drain.has_begun() {
                return Ending::Last;
            }
        }
    }

    /// Waits for a request's head: between requests as long as a connection may be idle, from its first byte on as long as
    /// a head may take.
    async fn head(&mut self) -> Awaited {
        let local = self.local.clone();
        let limits = &local.setup.request_head;
        let timeouts = &local.setup.timeouts;
        let mut scan = HeadScan::new(HeadKind::Request);
        let mut until = None;
        loop {
            match scan.find(self.input.bytes(), limits) {
                Ok(Some(range)) => return Awaited::Head(range),
                Ok(None) => {}
                Err(error) => return Awaited::Refused(Refused::closing(error.status())),
            }
            self.input.settle();
            let received = if scan.has_begun() {
                let until = *until.get_or_insert_with(|| now() + timeouts.client_head);
                match deadline(until, self.conn.recv()).await {
                    Ok(received) => received,
                    Err(_) => return Awaited::Refused(Refused::closing(408)),
                }
            } else {
                match local.drain.unless(within(timeouts.client_idle, self.conn.recv())).await {
                    Some(Ok(received)) => received,
                    // Idle for too long, or stopping.
                    Some(Err(_)) | None => return Awaited::Gone,
                }
            };
            match received {
                Ok(lease) if !lease.is_empty() => self.input.push(lease),
                // An end in the middle of a head is no request; nobody waits for an answer.
                _ => return Awaited::Gone,
            }
        }
    }

    /// Runs a request to its end.
    async fn exchange(&mut self, mut job: Job) -> Outcome {
        let local = self.local.clone();
        if job.body.decoder.is_done() {
            self.input.settle();
        }
        let (status, outcome) = match exchange::run(&local, &self.conn, &mut self.input, &mut job).await {
            Ok(done) => done,
            Err(refused) => {
                let kept = self.refuse(refused).await;
                (refused.status, if kept { Outcome::Kept } else { Outcome::Closing })
            }
        };
        let took = turn_now().saturating_duration_since(job.began);
        local.counts.took(took);
        if let Some(line) = &job.line {
            let (client, upstream) = (&self.client.address, &local.setup.upstreams[job.upstream].name);
            let server = job.server.map_or("-", |server| &local.setup.servers[server].name);
            let body_bytes = job.body.content_bytes;
            let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            tracing::info!(
                target: "access", client, request = line, upstream, server, status, body_bytes, took_us, ended = ?outcome
            );
        }
        outcome
    }

    /// Answers for ourselves; whether the connection is kept.
    async fn refuse(&mut self, refused: Refused) -> bool {
        let Refused { status, version, head, .. } = refused;
        let keep = refused.keep && !self.local.drain.has_begun();
        let mut out = Vec::with_capacity(256);
        Refusal { status, version, head, keep }.write(&mut out, &self.local.date());
        self.local.counts.refused(status);
        let sent = within(self.local.setup.timeouts.client_body, self.conn.send(out)).await;
        keep && matches!(sent, Ok(Ok(())))
    }

    /// Sends the end and reads on until the client has ended too: closing at once could reset the connection and take the
    /// last answer with it (RFC 9112 section 9.6).
    async fn linger(&mut self) {
        self.input = Input::default();
        let conn = &self.conn;
        let ending = async {
            conn.shutdown().await?;
            let mut dropped = 0;
            while dropped < LINGER_BYTES_MAX {
                let lease = conn.recv().await?;
                if lease.is_empty() {
                    break;
                }
                dropped += lease.len();
            }
            std::io::Result::Ok(())
        };
        let _ = within(LINGER_MAX, Box::pin(ending)).await;
    }
}
