//! The request's body on its way to the server.
//!
//! What always holds: content is decoded and framed anew, never passed on as it came; it is read from the client only as
//! fast as the server takes it; what is kept for another attempt is at most the hold limit.

use super::input::Input;
use super::local::Local;
use super::request::RequestBody;
use super::within::within;
use runtime::net::Stream;
use runtime::{Lease, Segment};
use std::cell::Cell;
use tls::Conn;
use wire::http1::{Piece, write_chunk_head};

/// Why a body did not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFault {
    /// The client closed or broke the connection.
    ClientGone,
    /// The client's body is to be answered with this status: malformed, too large, too slow.
    Refuse(u16),
    /// The server takes no more: it closed, or broke the connection.
    ServerGone,
    /// The server has taken nothing for too long.
    ServerStuck,
}

/// A body on its way.
pub(super) struct Pump<'a> {
    pub(super) local: &'a Local,
    pub(super) client: &'a Conn,
    pub(super) server: &'a Stream,
    /// Set when the body is whole and sent.
    pub(super) done: &'a Cell<bool>,
}

impl Pump<'_> {
    /// Sends what of the body is there and still to come, to its end.
    pub(super) async fn run(&self, input: &mut Input, body: &mut RequestBody) -> Result<(), BodyFault> {
        loop {
            while !input.is_empty() && !body.decoder.is_done() {
                let segment = self.next_segment(input, body)?;
                self.send(segment).await?;
            }
            if body.decoder.is_done() {
                self.done.set(true);
                return Ok(());
            }
            input.settle();
            let lease = self.receive().await?;
            input.push(lease);
        }
    }

    async fn receive(&self) -> Result<Lease, BodyFault> {
        match within(self.local.setup.timeouts.client_body, self.client.recv()).await {
            Err(_) => Err(BodyFault::Refuse(408)),
            Ok(Err(_)) => Err(BodyFault::ClientGone),
            Ok(Ok(lease)) if lease.is_empty() => Err(BodyFault::ClientGone),
            Ok(Ok(lease)) => Ok(lease),
        }
    }

    async fn send(&self, segment: Segment) -> Result<(), BodyFault> {
        match within(self.local.setup.timeouts.upstream_first_byte, self.server.send(segment)).await {
            Err(_) => Err(BodyFault::ServerStuck),
            Ok(Err(_)) => Err(BodyFault::ServerGone),
            Ok(Ok(())) => Ok(()),
        }
    }

    /// What `input` holds of the body, framed for the server.
    fn next_segment(&self, input: &mut Input, body: &mut RequestBody) -> Result<Segment, BodyFault> {
        body.begun = true;
        let segment = if body.chunked {
            Segment::from(rechunk(input, body)?)
        } else {
            let taken = match body.decoder.read(input.bytes()) {
                Ok((taken, _)) => taken,
                Err(error) => return Err(BodyFault::Refuse(error.status())),
            };
            body.content_bytes += taken as u64;
            input.take(taken)
        };
        if body.content_bytes > self.local.setup.body_bytes_max {
            return Err(BodyFault::Refuse(413));
        }
        if let Some(replay) = &mut body.replay {
            if replay.len() + segment.len() > self.local.setup.hold_bytes_max {
                body.replay = None;
            } else {
                replay.extend_from_slice(&segment);
            }
        }
        Ok(segment)
    }
}

/// All of the body's content in `input`, in chunks of our own; with its end, the last chunk.
fn rechunk(input: &mut Input, body: &mut RequestBody) -> Result<Vec<u8>, BodyFault> {
    let mut out = Vec::with_capacity(input.bytes().len() + 32);
    loop {
        let (taken, piece) = match body.decoder.read(input.bytes()) {
            Ok(read) => read,
            Err(error) => return Err(BodyFault::Refuse(error.status())),
        };
        let go_on = match piece {
            Piece::Data(data) => {
                body.content_bytes += data.len() as u64;
                write_chunk_head(&mut out, data.len());
                out.extend_from_slice(data);
                out.extend_from_slice(b"\r\n");
                true
            }
            Piece::More => false,
            Piece::End => {
                crate::core::hop::write_last_chunk(&mut out, &body.decoder);
                false
            }
        };
        input.consume(taken);
        if !go_on {
            return Ok(out);
        }
    }
}
