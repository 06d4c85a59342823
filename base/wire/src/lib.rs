//! Pure codecs of the protocols Millrace speaks, a module per protocol, both directions.
#![forbid(unsafe_code)]

pub mod dns;
pub mod http1;
pub mod kafka;
pub mod memcached;
pub mod resp;
