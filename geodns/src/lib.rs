//! DNS that answers with the nearest healthy data centre.
#![forbid(unsafe_code)]

pub mod core;
