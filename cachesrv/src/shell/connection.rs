//! One connection's bytes: received, handed to its session, answered in one piece.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use runtime::Lease;
use runtime::net::Stream;

use super::core::Core;
use crate::core::session::{Session, Step};

/// Serves until the peer closes, a command ends the connection, or the core drains.
pub(super) async fn serve(stream: &Stream, core: &Core, idle: &Cell<bool>) -> io::Result<()> {
    let mut session = Session::new(Arc::clone(&core.cache));
    let traffic = core.cache.traffic(core.number);
    loop {
        idle.set(session.is_idle());
        if core.draining.get() && session.is_idle() {
            return Ok(());
        }
        let Some(mut lease) = receive(stream, core).await? else {
            return Ok(());
        };
        idle.set(false);
        traffic.bytes_read.fetch_add(lease.len() as u64, Ordering::Relaxed);
        loop {
            let now = core.clock.turn_now(core.offset_ms.get());
            let mut rest: &[u8] = &lease;
            let mut out = Vec::new();
            let step = session.step(&mut rest, now, &mut out);
            let left = rest.len();
            traffic.bytes_written.fetch_add(out.len() as u64, Ordering::Relaxed);
            match step {
                Step::Hungry => {
                    drop(lease);
                    if !out.is_empty() {
                        stream.send(out).await?;
                    }
                    break;
                }
                Step::Full => {
                    lease.advance(lease.len() - left);
                    if stream.send_queue_bytes() > 0 {
                        // A slow reader must not keep a pooled buffer from the others.
                        lease = Lease::from_vec(lease.into_vec());
                    }
                    if !out.is_empty() {
                        stream.send(out).await?;
                    }
                    runtime::yield_now().await;
                }
                Step::Close | Step::Shutdown => {
                    if step == Step::Shutdown {
                        tracing::info!("stopping: a client said shutdown");
                        core.stop.request();
                    }
                    if !out.is_empty() {
                        stream.send(out).await?;
                    }
                    return Ok(());
                }
            }
        }
    }
}

/// The next bytes; `None` when there are to be no more.
async fn receive(stream: &Stream, core: &Core) -> io::Result<Option<Lease>> {
    let received = match core.idle_timeout {
        None => stream.recv().await?,
        Some(limit) => match runtime::time::timeout(limit, stream.recv()).await {
            Ok(received) => received?,
            Err(_) => return Ok(None),
        },
    };
    Ok(Some(received).filter(|lease| !lease.is_empty()))
}
