//! Kafka's wire protocol, as a broker speaks it: frames, request heads, bounds on what a request may claim, record
//! batches, and the two messages worth encoding by hand.
//!
//! The messages themselves are `kafka-protocol`'s (<https://kafka.apache.org/protocol>); records stay raw bytes, they
//! are never decoded into objects. That crate believes array lengths before it has seen the bytes (it reserves memory
//! for them), so **every request passes [`shape::check`] before it is decoded**; [`message::decode`] does both.
//!
//! - [`frame`]: the length-prefixed frames, bounded.
//! - [`message`]: request heads, decoding a request, encoding a response.
//! - [`shape`]: the bounds check before decoding.
//! - [`batch`]: record batch v2, its CRC-32C, rewriting of base offset and leader epoch in place.
//! - [`fetch`]: the Fetch response without copying records.
//! - [`legacy`]: Produce 0–2, to refuse it in its own form.

pub mod batch;
pub mod fetch;
pub mod frame;
pub mod legacy;
pub mod message;
pub mod shape;

pub use kafka_protocol::error::ResponseError;
pub use kafka_protocol::messages;
pub use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request, StrBytes};
