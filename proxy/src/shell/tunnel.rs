//! After an upgrade: bytes both ways until both sides have ended, either breaks or takes nothing for too long, or both are
//! silent for too long.

use super::input::Input;
use super::local::Local;
use super::within::within;
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
    let early = [Segment::from(head), answer.take(answer.bytes().len())];
    let late = input.take(input.bytes().len());
    input.settle();
    answer.settle();
    let moved = Cell::new(now());
    let idle = local.setup.timeouts.tunnel_idle;
    let up = async {
        taken(idle, server.send(late)).await?;
        while let Some(lease) = next(&moved, idle, || client.recv()).await {
            taken(idle, server.send(lease)).await?;
        }
        taken(idle, server.shutdown()).await
    };
    let down = async {
        taken(idle, client.send_all(early)).await?;
        while let Some(lease) = next(&moved, idle, || server.recv()).await {
            taken(idle, client.send(lease)).await?;
        }
        taken(idle, client.shutdown()).await
    };
    // An error either way ends both.
    let _ = futures_util::future::try_join(up, down).await;
}

/// What sending gives, or an error if the receiver makes no room for `idle`.
async fn taken(idle: std::time::Duration, sending: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    within(idle, sending).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
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
