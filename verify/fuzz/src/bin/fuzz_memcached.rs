//! Fuzzes memcached's text protocol.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(fuzz::memcached::run);
