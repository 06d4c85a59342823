//! After an upgrade: bytes both ways until either side ends, breaks or both are silent for too long.

use super::input::Input;
use super::local::Local;
use runtime::time::{deadline, now};
use runtime::{Lease, Segment};
use std::cell::Cell;
use std::io;
use std::time::Instant;
use tls::Conn;

/// Moves bytes between `client` and `server`. `head` is the 101, which goes out first; what came behind the heads is in
/// `input` and `answer`.
pub(super) async fn run(
    local: &Local,
    client: &Conn,
    input: &mut Input,
    server: &runtime::net::Stream,
    answer: &mut Input,
    head: Vec<u8>,
) {
    let early = answer.take(answer.bytes().len());
    if client.send_all([Segment::from(head), early]).await.is_err() {
        return;
    }
    if server.send(input.take(input.bytes().len())).await.is_err() {
        return;
    }
    input.settle();
    answer.settle();
    let moved = Cell::new(now());
    let idle = local.setup.timeouts.tunnel_idle;
    let up = async {
        while let Some(lease) = next(&moved, idle, || client.recv()).await {
            server.send(lease).await?;
        }
        server.shutdown().await
    };
    let down = async {
        while let Some(lease) = next(&moved, idle, || server.recv()).await {
            client.send(lease).await?;
        }
        client.shutdown().await
    };
    // An error either way ends both.
    let _ = futures_util::future::try_join(up, down).await;
}

/// The next bytes of one side; `None` at its end or error, or if neither side has sent anything for `idle`.
async fn next<F: Future<Output = io::Result<Lease>>>(
    moved: &Cell<Instant>,
    idle: std::time::Duration,
    recv: impl Fn() -> F,
) -> Option<Lease> {
    loop {
        let until = moved.get() + idle;
        match deadline(until, recv()).await {
            Ok(Ok(lease)) if !lease.is_empty() => {
                moved.set(now());
                return Some(lease);
            }
            Ok(_) => return None,
            // The other side may have moved meanwhile.
            Err(_) if moved.get() + idle > until => {}
            Err(_) => return None,
        }
    }
}
