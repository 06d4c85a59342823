//! What to answer: pure. It takes a query's octets and a random number and gives a response's octets.
//!
//! | module | what |
//! |---|---|
//! | [`zone`] | a zone from its file, checked |
//! | [`catalogue`] | all zones' names in one table, and which of them a question meets |
//! | `prepare` | the answer to each name and type, written once |
//! | `prepared` | such an answer, sent behind a question |
//! | [`pool`] | which address of several |
//! | [`respond`] | from query to response |
//! | [`frames`] | messages on a stream |
//!
//! What always holds: answers are prepared when zones are loaded; a query costs one to a few table look-ups and one copy, and
//! no allocation. Nothing here knows sockets, clocks or threads.

pub mod catalogue;
pub mod frames;
pub mod pool;
mod prepare;
mod prepared;
pub mod respond;
pub mod zone;

pub use catalogue::Catalogue;
pub use pool::{Member, Pool};
pub use respond::{Outcome, Responder, Transport};
pub use zone::{Zone, ZoneError};
