//! Fuzzes wire::dns.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(fuzz::dns::run);
