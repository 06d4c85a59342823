//! Fuzzes wire::resp.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(fuzz::resp::run);
