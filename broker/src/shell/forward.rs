//! What another node has to do, asked of it as a client would, so that clients need not: a connection for each question.
//!
//! A node that was asked so answers by itself, whatever it is, and never asks further.

use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use runtime::net::{Address, Stream};
use runtime::time;
use wire::kafka::{Request, ResponseError, message};

use super::core::Core;

/// The client id of such questions.
pub(crate) const CLIENT_ID: &str = "millrace-forwarded";

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Asks node `node`.
///
/// # Errors
/// COORDINATOR_NOT_AVAILABLE, which clients take as "try again", when it gives no answer.
pub(crate) async fn ask<R: Request>(
    core: &Rc<Core>,
    node: i32,
    version: i16,
    request: &R,
) -> Result<R::Response, ResponseError> {
    let frame = message::encode_request(1, version, CLIENT_ID, request);
    let answer = match time::timeout(PATIENCE, exchange(core, node, frame)).await {
        Ok(answer) => answer,
        Err(_) => Err("no answer in time".to_owned()),
    };
    let answer = answer.and_then(|frame| {
        message::decode_response(version, frame).map(|(_, answer)| answer).map_err(|e| e.to_string())
    });
    answer.map_err(|why| {
        tracing::warn!(node, why, "a question that only that node can answer has no answer");
        ResponseError::CoordinatorNotAvailable
    })
}

async fn exchange(core: &Rc<Core>, node: i32, frame: bytes::Bytes) -> Result<bytes::Bytes, String> {
    let known = core.shared.identity.nodes.iter().find(|known| known.id == node);
    let known = known.ok_or_else(|| "no such node".to_owned())?;
    let address = resolve(known.host.to_string(), known.port).await?;
    let stream = Stream::connect(&address).await.map_err(|e| e.to_string())?;
    stream.send(frame).await.map_err(|e| e.to_string())?;
    let mut received = BytesMut::new();
    loop {
        if let Some(prefix) = received.first_chunk::<4>() {
            let len = usize::try_from(i32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
            if len > ANSWER_BYTES_MAX {
                return Err("an endless answer".to_owned());
            }
            if received.len() >= 4 + len {
                received.advance(4);
                return Ok(received.split_to(len).freeze());
            }
        }
        let piece = stream.recv().await.map_err(|e| e.to_string())?;
        if piece.is_empty() {
            return Err("the connection was closed".to_owned());
        }
        received.extend_from_slice(&piece);
    }
}

async fn resolve(host: String, port: u16) -> Result<Address, String> {
    let found = runtime::blocking(move || {
        std::net::ToSocketAddrs::to_socket_addrs(&(host.as_str(), port)).map(|mut all| all.next())
    });
    match found.await {
        Ok(Some(address)) => Ok(Address::Ip(address)),
        Ok(None) => Err("its host has no address".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
