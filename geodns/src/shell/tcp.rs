//! Connections: queries behind their lengths, as many as come, answered in their order (RFC 7766).
//!
//! What always holds: a connection holds less than one query, and answers up to the stream's own limit; one that brings no
//! whole query, or takes no answer, for the idle time is closed.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use runtime::net::{Listener, Stream};
use runtime::time;

use super::CoreState;
use crate::core::Transport;
use crate::core::frames::{Frames, write_frame};
use crate::metrics::Tally;

/// Answers gathered before they are sent, in octets; more than one answer is only gathered while below.
const ANSWERS_BYTES: usize = 64 * 1024;
/// How long to wait after accept(2) failed (no descriptors left, for one) before it is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Accepts until the stop is requested.
pub(super) async fn serve(listener: Listener, state: Rc<CoreState>) {
    let mut stopped = pin!(state.stop.requested());
    loop {
        match select(pin!(listener.accept()), &mut stopped).await {
            Either::Left((Ok((stream, _)), _)) => open(stream, &state),
            Either::Left((Err(why), _)) => {
                tracing::warn!("TCP listener {}: {why}", listener.local_addr());
                time::sleep(RETRY_AFTER).await;
            }
            Either::Right(_) => return,
        }
    }
}

fn open(stream: Stream, state: &Rc<CoreState>) {
    if state.connections.get() >= state.connections_max {
        state.metrics.tcp_connections_refused.inc();
        stream.abort();
        return;
    }
    let open = Open::new(state.clone());
    runtime::spawn(async move {
        if converse(&stream, &open.0).await.is_ok() {
            let _ = time::timeout(open.0.tcp_idle, stream.shutdown()).await;
        } else {
            stream.abort();
        }
    });
}

/// An open connection, counted as long as this lives.
struct Open(Rc<CoreState>);

impl Open {
    fn new(state: Rc<CoreState>) -> Open {
        state.connections.set(state.connections.get() + 1);
        state.metrics.tcp_connections.inc();
        Open(state)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
        self.0.metrics.tcp_connections.dec();
        self.0.connection_ended.notify_one();
    }
}

/// The connection is of no use any more.
struct Broken;

/// Answers queries until the peer has finished, the idle time is over, a message is not worth an answer, or the stop is
/// requested.
async fn converse(stream: &Stream, state: &CoreState) -> Result<(), Broken> {
    let mut frames = Frames::default();
    let mut stopped = pin!(state.stop.requested());
    let mut idle_until = time::now() + state.tcp_idle;
    loop {
        let received = match select(pin!(time::deadline(idle_until, stream.recv())), &mut stopped).await {
            Either::Left((Ok(received), _)) => received.map_err(|_| Broken)?,
            Either::Left((Err(_), _)) | Either::Right(_) => return Ok(()),
        };
        if received.is_empty() {
            return Ok(());
        }
        frames.push(&received);
        drop(received);
        loop {
            let (answers, sensible) = answer(&mut frames, state);
            let answered = !answers.is_empty();
            if answered {
                let sent = time::timeout(state.tcp_idle, stream.send(answers)).await;
                sent.map_err(|_| Broken)?.map_err(|_| Broken)?;
                idle_until = time::now() + state.tcp_idle;
            }
            if !sensible {
                return Ok(());
            }
            if !answered {
                break;
            }
        }
    }
}

/// Answers the whole queries there are, until [`ANSWERS_BYTES`] are gathered. Gives the answers, and false when a message
/// deserved none.
fn answer(frames: &mut Frames, state: &CoreState) -> (Vec<u8>, bool) {
    let mut view = state.view.borrow_mut();
    let responder = view.get();
    let mut tally = Tally::default();
    let mut answers = Vec::new();
    let mut sensible = true;
    while sensible
        && answers.len() < ANSWERS_BYTES
        && let Some(query) = frames.next_message()
    {
        let outcome = write_frame(&mut answers, |out| {
            responder.respond(query, Transport::Tcp, runtime::random_u64(), out)
        });
        sensible = outcome.rcode.is_some();
        tally.count(outcome);
    }
    state.metrics.add(&mut tally, Transport::Tcp);
    (answers, sensible)
}
