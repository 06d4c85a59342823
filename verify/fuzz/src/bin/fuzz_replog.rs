//! Fuzzes the log's recovery.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(fuzz::replog::run);
