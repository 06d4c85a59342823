//! TLS (rustls) over the runtime's streams, and the development CA.
//!
//! | module | what |
//! |---|---|
//! | [`stream`] | [`accept`], [`connect`], [`TlsStream`]: a stream like the runtime's, encrypted |
//! | [`conn`] | [`Conn`]: plain or encrypted, so that a shell is written once |
//! | [`config`] | [`ServerConfig`] and [`ClientConfig`] from PEM files |
//! | [`mutual`] | [`Mutual`]: both sides show a certificate |
//! | `resolver` | which certificate a client gets, by the name it asks for |
//! | `pem` | reading certificates and keys; errors name the file |
//! | [`dev`] | a CA and a certificate for a site on one machine |
//!
//! TLS 1.2 and 1.3 with the ciphers of rustls's aws-lc-rs provider. What it leaves out: OCSP, and deadlines,
//! which are the caller's (`runtime::time::timeout` around any of these futures).
#![forbid(unsafe_code)]

pub mod config;
pub mod conn;
pub mod dev;
mod error;
pub mod mutual;
mod pem;
mod resolver;
pub mod stream;

pub use config::{CertifiedFiles, ClientConfig, ServerConfig};
pub use conn::Conn;
pub use error::Error;
pub use mutual::Mutual;
pub use rustls;
pub use stream::{TlsStream, accept, connect};
