//! A memcached in thread-per-core Rust.
