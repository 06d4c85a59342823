//! A log-based message broker that speaks Kafka's protocol.
#![forbid(unsafe_code)]

pub mod core;
