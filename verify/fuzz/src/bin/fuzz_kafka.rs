//! Fuzzes wire::kafka.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(fuzz::kafka::run);
