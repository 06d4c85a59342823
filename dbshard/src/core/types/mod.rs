//! The types that a key can hold, a file each: how the type lies in memory and the commands on it.

pub mod counter;
pub mod hash;
pub mod string;
