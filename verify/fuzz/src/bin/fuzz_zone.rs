//! Fuzzes zone files.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(fuzz::zone::run);
