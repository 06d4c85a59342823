//! The log without its disk: formats, decisions, bookkeeping, consensus. No files, no clock, no futures.

pub(crate) mod backlog;
pub(crate) mod batch;
pub(crate) mod consensus;
pub(crate) mod format;
pub(crate) mod peers;
pub(crate) mod reader;
pub(crate) mod recovery;
pub(crate) mod scan;
pub(crate) mod stream;
pub(crate) mod terms;
pub(crate) mod votes;

#[cfg(test)]
mod crash_test;
#[cfg(test)]
mod member_crash_test;
#[cfg(test)]
mod rng;
