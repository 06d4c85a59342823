//! The scenarios: who runs, how each is configured, and what work they are given.

pub(crate) mod broker;
pub(crate) mod cache;
pub(crate) mod dns;
pub(crate) mod echo;
pub(crate) mod kv;
pub(crate) mod misses;
pub(crate) mod proxy;
pub(crate) mod runtimes;
pub(crate) mod site;
