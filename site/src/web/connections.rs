//! Connections: accepting them, bounding them, letting them end. axum's own loop has no deadline for a request's
//! head and no limit of connections; this is the same on hyper, with both.
//!
//! HTTP/1.1 only: clients come through the proxy.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The largest request head, in bytes; also the read buffer of a connection.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// The pause after a failed accept: out of descriptors, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The bounds of [`serve`].
pub(super) struct Limits {
    pub(super) connections_max: usize,
    /// From the start of waiting for a request until its head is there; then the connection is closed.
    pub(super) head_timeout: Duration,
    pub(super) drain: Duration,
}

/// Serves until `stop`, then accepts no more, lets running requests end within [`Limits::drain`], and returns.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: impl Future<Output = ()>,
) {
    let slots = Arc::new(Semaphore::new(limits.connections_max));
    let graceful = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head_timeout).max_buf_size(HEAD_BYTES_MAX);
    let accept = async {
        loop {
            let slot = slots.clone().acquire_owned().await.expect("never closed");
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "can't accept a connection; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let _ = stream.set_nodelay(true);
            let service = TowerToHyperService::new(router.clone());
            let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "connection ended");
                }
                drop(slot);
            });
        }
    };
    tokio::select! {
        never = accept => { let _: Infallible = never; }
        () = stop => {}
    }
    drop(listener);
    if timeout(limits.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!(drain = ?limits.drain, "some requests did not end in time and are cut off");
    }
}
