//! Bytes of a request in, bytes of an answer out; pure.

mod answer;
mod request;

pub(crate) use answer::{Answer, Status};
pub(crate) use request::{Head, Refusal, parse};
