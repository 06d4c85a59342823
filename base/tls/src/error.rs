//! What can go wrong, in words for the operator.

use std::io;
use std::path::PathBuf;

/// Errors of files, configurations and handshakes. An established stream gives `io::Error`, as every stream does.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {problem}", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// A certificate or key is not one that TLS can use.
    #[error("{}: {source}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The key is not the certificate's.
    #[error("{}: this key does not belong to the certificate {}", key.display(), cert.display())]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A server without any certificate.
    #[error("TLS needs at least one certificate")]
    NoCertificate,
    /// rustls refuses the configuration.
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
    /// The development CA or its certificate can't be made.
    #[error("the development certificate cannot be made: {0}")]
    Making(#[from] rcgen::Error),
    /// Neither a DNS name nor an IP address.
    #[error("`{0}` is no server name: a DNS name or an IP address is expected")]
    ServerName(String),
    /// The peer does not speak TLS, or not as we do; or its certificate is not trusted.
    #[error("TLS handshake: {0}")]
    Handshake(rustls::Error),
    /// The connection ended before the handshake did.
    #[error("TLS handshake: the peer closed the connection")]
    Closed,
    /// The connection failed in the handshake.
    #[error("TLS handshake: {0}")]
    Io(#[from] io::Error),
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        match error {
            Error::Io(error) => error,
            Error::Closed => io::Error::new(io::ErrorKind::UnexpectedEof, error),
            error => io::Error::new(io::ErrorKind::InvalidData, error),
        }
    }
}
