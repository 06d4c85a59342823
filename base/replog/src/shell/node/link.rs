//! A connection between nodes: plain, or mutual TLS where the feature `tls` is on. The simulator is built without it: its
//! peers talk plainly, and to build TLS for it would take longer than all else.

use runtime::net::{Address, Stream};

#[cfg(feature = "tls")]
pub(super) use tls::Conn as Link;
#[cfg(feature = "tls")]
pub use tls::Mutual;

#[cfg(not(feature = "tls"))]
pub(super) use runtime::net::Stream as Link;

/// The end that is connected to. A deadline is the caller's affair.
#[cfg(feature = "tls")]
pub(super) async fn accept(stream: Stream, mutual: Option<&Mutual>) -> Result<Link, String> {
    match mutual {
        None => Ok(Link::Plain(stream)),
        Some(mutual) => mutual.accept(stream).await.map(Link::from).map_err(|error| error.to_string()),
    }
}

/// The end that connects. With TLS, the peer's certificate must name the address's host.
#[cfg(feature = "tls")]
pub(super) async fn connect(address: &Address, mutual: Option<&Mutual>) -> Result<Link, String> {
    let stream = Stream::connect(address).await.map_err(|error| error.to_string())?;
    let Some(mutual) = mutual else { return Ok(Link::Plain(stream)) };
    let host = address.ip().ok_or("TLS needs an address with a host: this is a path")?.ip();
    mutual.connect(stream, &host.to_string()).await.map(Link::from).map_err(|error| error.to_string())
}

/// There is none.
#[cfg(not(feature = "tls"))]
#[derive(Clone, Debug)]
pub enum Mutual {}

#[cfg(not(feature = "tls"))]
pub(super) async fn accept(stream: Stream, _: Option<&Mutual>) -> Result<Link, String> {
    Ok(stream)
}

#[cfg(not(feature = "tls"))]
pub(super) async fn connect(address: &Address, _: Option<&Mutual>) -> Result<Link, String> {
    Stream::connect(address).await.map_err(|error| error.to_string())
}
