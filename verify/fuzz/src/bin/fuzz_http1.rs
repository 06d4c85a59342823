//! Fuzzes wire::http1.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(fuzz::http1::run);
