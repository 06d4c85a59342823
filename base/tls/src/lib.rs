//! TLS (rustls) over the runtime's streams, and the development CA.
