//! The log without its disk: formats, decisions, bookkeeping. No files, no clock, no futures.

pub(crate) mod batch;
pub(crate) mod format;
pub(crate) mod recovery;
pub(crate) mod scan;
pub(crate) mod stream;

#[cfg(test)]
mod crash_test;
