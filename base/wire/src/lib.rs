//! Pure codecs of the protocols Millrace speaks, a module per protocol, both directions.

pub mod http1;
