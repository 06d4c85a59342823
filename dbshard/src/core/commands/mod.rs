//! The commands that belong to no type, a file per family.

pub mod clients;
pub mod cluster;
pub mod configuration;
pub mod connection;
pub mod expiry;
pub mod info;
pub mod introspection;
pub mod keys;
pub mod scan;
pub mod transaction;
