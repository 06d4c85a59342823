//! Fuzzes geodns's core.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(fuzz::geodns::run);
