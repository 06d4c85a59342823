//! Sockets of the admin endpoint. They come with the runtime's; until then a set address is said to be left closed.

use crate::service::{Error, Shared};
use std::net::SocketAddr;
use std::sync::Arc;

/// The running endpoint.
pub(crate) struct Admin;

impl Admin {
    pub(crate) fn start(address: Option<SocketAddr>, _shared: Arc<Shared>) -> Result<Option<Admin>, Error> {
        if let Some(address) = address {
            tracing::warn!(%address, "the admin endpoint is not served yet");
        }
        Ok(None)
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        None
    }

    pub(crate) fn close(self) {}
}
