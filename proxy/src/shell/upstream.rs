//! Getting a connection to a server, and giving it back.
//!
//! What always holds: a connection is kept only if the server has sent nothing beyond the last answer and has not closed;
//! while it is kept a receive stands on it, so that its end is known before it is used again.

use super::local::Local;
use super::within::within;
use crate::core::attempt::Failure;
use futures_util::FutureExt;
use runtime::net::Stream;
use runtime::time::turn_now;

/// A connection to a server.
pub(super) struct Upconn {
    pub(super) stream: Stream,
    /// It has carried a request before.
    pub(super) reused: bool,
}

impl Upconn {
    /// Whether nothing has come and nothing has ended. Leaves a receive standing.
    fn is_quiet(&self) -> bool {
        self.stream.recv().now_or_never().is_none()
    }
}

impl Local {
    /// An idle connection to `server` if the request may go over one, else a new one.
    pub(super) async fn connect(&self, server: usize, may_reuse: bool) -> Result<Upconn, Failure> {
        while may_reuse && let Some(idle) = self.take_idle(server) {
            if idle.is_quiet() {
                self.counts.servers[server].reuses.add();
                return Ok(idle);
            }
        }
        Box::pin(self.connect_anew(server)).await
    }

    async fn connect_anew(&self, server: usize) -> Result<Upconn, Failure> {
        let counts = &self.counts.servers[server];
        let address = &self.setup.servers[server].address;
        let failure = match within(self.setup.timeouts.upstream_connect, Stream::connect(address)).await {
            Ok(Ok(stream)) => {
                counts.connects.add();
                stream.set_send_queue_limit(self.setup.send_queue_bytes_max);
                return Ok(Upconn { stream, reused: false });
            }
            Ok(Err(_)) => Failure::Connect,
            Err(_) => Failure::ConnectTimeout,
        };
        counts.connect_errors.add();
        Err(failure)
    }

    fn take_idle(&self, server: usize) -> Option<Upconn> {
        self.idle[server].borrow_mut().take(turn_now())
    }

    /// Keeps a connection whose answer was read whole and that may be used again.
    pub(super) fn keep(&self, server: usize, mut connection: Upconn) {
        connection.reused = true;
        if !self.drain.has_begun() && connection.is_quiet() {
            let evicted = self.idle[server].borrow_mut().put(connection, turn_now());
            if let Some(evicted) = evicted {
                // Nothing is on its way in it. Closed in order it would hold a port of ours for a minute (TIME_WAIT), and
                // with enough of these no server could be connected to.
                evicted.stream.abort();
            }
        }
    }

    /// Closes connections that have been idle for too long.
    pub(super) fn expire_idle(&self) {
        for idle in &self.idle {
            while idle.borrow_mut().expire(turn_now()).is_some() {}
        }
    }
}
