//! Fuzzes the daemons' configurations.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(fuzz::config::run);
