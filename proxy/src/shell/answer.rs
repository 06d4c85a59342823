//! The answer on its way to the client.
//!
//! What always holds: a small answer is sent on only when it is whole, so that until then another server can be asked; a
//! larger one is read only as fast as the client takes it; a body is framed anew, and an answer cut short by its server is
//! never ended as if it were whole.

use super::input::Input;
use super::local::Local;
use super::within::within;
use crate::core::answer::{self, Asked, Plan};
use crate::core::attempt::Failure;
use runtime::net::Stream;
use runtime::time::{deadline, now};
use runtime::{Lease, Segment};
use std::cell::Cell;
use std::time::Duration;
use tls::Conn;
use wire::http1::{Body, FieldStorage, Framing, HeadKind, HeadScan, Piece, Response, write_chunk_head};

/// Interim answers of one request that are passed on; more are taken for a fault.
const INTERIM_MAX: u32 = 32;
/// How long a small answer of unknown length is held back for its end; what streams is sent on then.
const HOLD_MAX: Duration = Duration::from_millis(20);

/// Why an answer did not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerFault {
    /// The server failed.
    Server(Failure),
    /// The client takes no more: it closed, broke the connection, or has taken nothing for too long.
    ClientGone,
}

impl From<Failure> for AnswerFault {
    fn from(failure: Failure) -> AnswerFault {
        AnswerFault::Server(failure)
    }
}

/// A final answer's head, read.
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) plan: Plan,
    /// As the client gets it.
    pub(super) bytes: Vec<u8>,
    /// It opens a tunnel.
    pub(super) upgraded: bool,
}

/// An answer on its way.
pub(super) struct Relay<'a> {
    pub(super) local: &'a Local,
    pub(super) client: &'a Conn,
    pub(super) server: &'a Stream,
    pub(super) asked: Asked,
    /// The request's body is whole and sent.
    pub(super) body_done: &'a Cell<bool>,
    /// The request's body is still on its way.
    pub(super) sending: &'a Cell<bool>,
    /// Bytes of the final answer went to the client.
    pub(super) forwarded: &'a Cell<bool>,
    /// A byte of the answer has come.
    pub(super) begun: &'a Cell<bool>,
}

impl Relay<'_> {
    /// Reads up to the final answer's head, passing interim answers on. Has no deadline but what is set around it until the
    /// first byte has come.
    pub(super) async fn head(&self, input: &mut Input) -> Result<Head, AnswerFault> {
        let setup = &self.local.setup;
        let mut interim = 0;
        loop {
            let mut scan = HeadScan::new(HeadKind::Response);
            let range = loop {
                match scan.find(input.bytes(), &setup.answer_head) {
                    Ok(Some(range)) => break range,
                    Ok(None) => {}
                    Err(_) => return Err(Failure::BadAnswer.into()),
                }
                input.settle();
                let lease = if scan.has_begun() {
                    self.receive(setup.timeouts.upstream_first_byte).await?
                } else {
                    self.server.recv().await.map_err(|_| Failure::Closed)?
                };
                if lease.is_empty() {
                    return Err(Failure::Closed.into());
                }
                self.begun.set(true);
                input.push(lease);
            };
            let end = range.end;
            let head = self.read_head(&input.bytes()[range])?;
            input.consume(end);
            let is_final = head.status >= 200 || head.upgraded;
            if is_final {
                return Ok(head);
            }
            interim += 1;
            if interim > INTERIM_MAX {
                return Err(Failure::BadAnswer.into());
            }
            if self.asked.version == wire::http1::Version::Http11 {
                self.send(head.bytes.into()).await?;
            }
        }
    }

    fn read_head(&self, bytes: &[u8]) -> Result<Head, Failure> {
        let mut storage = FieldStorage::new();
        let response = Response::parse(bytes, &mut storage, self.asked.head, &self.local.setup.answer_head)
            .map_err(|_| Failure::BadAnswer)?;
        let may_keep = self.body_done.get() && !self.local.drain.has_begun();
        let plan = Plan::of(&response, self.asked, may_keep);
        let upgraded = response.status == 101;
        if upgraded && !(self.asked.upgrade && response.upgrade.is_some()) {
            return Err(Failure::BadAnswer);
        }
        let body_bytes = match plan.write {
            Framing::Length(length) if self.is_held(bytes.len(), length) => length as usize,
            _ => 0,
        };
        let mut out = Vec::with_capacity(bytes.len() + 96 + body_bytes);
        match response.status {
            101 => answer::write_upgrade_head(&mut out, &response),
            100..200 => answer::write_interim_head(&mut out, &response),
            _ => answer::write_head(&mut out, &response, self.asked, plan, &self.local.date()),
        }
        Ok(Head { status: response.status, plan, bytes: out, upgraded })
    }

    fn is_held(&self, head_bytes: usize, length: u64) -> bool {
        length.saturating_add(head_bytes as u64) <= self.local.setup.hold_bytes_max as u64
    }

    /// Sends the head and reads and sends the body, to its end.
    pub(super) async fn body(&self, input: &mut Input, head: Head) -> Result<(), AnswerFault> {
        let Head { plan, bytes: mut out, .. } = head;
        match plan.read {
            Framing::None => return self.forward_one(out).await,
            Framing::Length(length) if self.is_held(out.len(), length) => {
                // All of it is to come before any of it is sent on.
                while (input.bytes().len() as u64) < length {
                    input.settle();
                    let lease = self.next().await?.ok_or(Failure::Closed)?;
                    input.push(lease);
                }
                let length = length as usize;
                out.extend_from_slice(&input.bytes()[..length]);
                input.consume(length);
                return self.forward_one(out).await;
            }
            _ => {}
        }
        let mut body = Body::new(plan.read);
        if matches!(plan.read, Framing::Length(_)) {
            return Box::pin(self.stream(input, &mut body, plan.write, out)).await;
        }
        // The length is not known: hold it back for a moment, it may be small.
        let until = now() + HOLD_MAX;
        while !self.take(input, &mut body, plan.write, &mut out)?
            && out.len() <= self.local.setup.hold_bytes_max
        {
            input.settle();
            match deadline(until, self.next()).await {
                Err(_) => break,
                Ok(next) => match next? {
                    Some(lease) => input.push(lease),
                    None if body.ends_at_close() => {
                        end(&mut out, plan.write, &body);
                        return self.forward_one(out).await;
                    }
                    None => return Err(Failure::Closed.into()),
                },
            }
        }
        if body.is_done() {
            return self.forward_one(out).await;
        }
        Box::pin(self.stream(input, &mut body, plan.write, out)).await
    }

    /// Sends `out` and what follows it as it comes.
    async fn stream(
        &self,
        input: &mut Input,
        body: &mut Body,
        write: Framing,
        mut out: Vec<u8>,
    ) -> Result<(), AnswerFault> {
        loop {
            if matches!(write, Framing::Chunked) {
                self.take(input, body, write, &mut out)?;
                self.forward_one(std::mem::take(&mut out)).await?;
            } else {
                let mut segments = vec![Segment::from(std::mem::take(&mut out))];
                while !input.is_empty() && !body.is_done() {
                    let (taken, piece) = body.read(input.bytes()).map_err(|_| Failure::BadAnswer)?;
                    match piece {
                        // A chunk's line end or head may stand before it; what is sent is the data alone.
                        Piece::Data(data) if data.len() < taken => {
                            let data = data.to_vec();
                            input.consume(taken);
                            segments.push(data.into());
                        }
                        Piece::Data(_) => segments.push(input.take(taken)),
                        Piece::More | Piece::End => input.consume(taken),
                    }
                }
                self.forward(segments).await?;
            }
            if body.is_done() {
                return Ok(());
            }
            input.settle();
            match self.next().await? {
                Some(lease) => input.push(lease),
                None if body.ends_at_close() => {
                    end(&mut out, write, body);
                    return self.forward_one(out).await;
                }
                None => return Err(Failure::Closed.into()),
            }
        }
    }

    /// Moves what `input` has of the body to `out`, framed for the client; true when the body is whole.
    fn take(
        &self,
        input: &mut Input,
        body: &mut Body,
        write: Framing,
        out: &mut Vec<u8>,
    ) -> Result<bool, Failure> {
        let was_done = body.is_done();
        loop {
            let (taken, piece) = body.read(input.bytes()).map_err(|_| Failure::BadAnswer)?;
            let go_on = match piece {
                Piece::Data(data) => {
                    if write == Framing::Chunked {
                        write_chunk_head(out, data.len());
                    }
                    out.extend_from_slice(data);
                    if write == Framing::Chunked {
                        out.extend_from_slice(b"\r\n");
                    }
                    true
                }
                Piece::More => false,
                Piece::End => {
                    if !was_done {
                        end(out, write, body);
                    }
                    false
                }
            };
            input.consume(taken);
            if !go_on {
                return Ok(body.is_done());
            }
        }
    }

    /// The next bytes of the answer's body; `None` if the server has closed.
    async fn next(&self) -> Result<Option<Lease>, Failure> {
        loop {
            match self.receive(self.local.setup.timeouts.upstream_body).await {
                // A server may say nothing while it takes a long body.
                Err(Failure::Timeout) if self.sending.get() => {}
                Err(failure) => return Err(failure),
                Ok(lease) if lease.is_empty() => return Ok(None),
                Ok(lease) => return Ok(Some(lease)),
            }
        }
    }

    async fn receive(&self, longest: Duration) -> Result<Lease, Failure> {
        match within(longest, self.server.recv()).await {
            Err(_) => Err(Failure::Timeout),
            Ok(Err(_)) => Err(Failure::Closed),
            Ok(Ok(lease)) => Ok(lease),
        }
    }

    /// Sends bytes of the final answer.
    async fn forward_one(&self, bytes: Vec<u8>) -> Result<(), AnswerFault> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.forwarded.set(true);
        self.send(bytes.into()).await
    }

    /// Sends bytes of the final answer, in several segments.
    async fn forward(&self, segments: Vec<Segment>) -> Result<(), AnswerFault> {
        if segments.iter().all(|segment| segment.is_empty()) {
            return Ok(());
        }
        self.forwarded.set(true);
        let sent = within(self.local.setup.timeouts.client_body, self.client.send_all(segments)).await;
        if matches!(sent, Ok(Ok(()))) { Ok(()) } else { Err(AnswerFault::ClientGone) }
    }

    async fn send(&self, segment: Segment) -> Result<(), AnswerFault> {
        let sent = within(self.local.setup.timeouts.client_body, self.client.send(segment)).await;
        if matches!(sent, Ok(Ok(()))) { Ok(()) } else { Err(AnswerFault::ClientGone) }
    }
}

/// Writes what ends a body to the client.
fn end(out: &mut Vec<u8>, write: Framing, body: &Body) {
    if write == Framing::Chunked {
        crate::core::hop::write_last_chunk(out, body);
    }
}
