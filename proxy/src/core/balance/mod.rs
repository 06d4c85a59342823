//! Choosing a server of an upstream: one file per policy.
//!
//! What always holds: a policy gives only servers that are available; it keeps its own turn and nothing else.

mod least_connections;
mod round_robin;

pub use least_connections::LeastConnections;
pub use round_robin::RoundRobin;

/// A server as a policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Its share, at least 1.
    pub weight: u32,
    /// Requests it is running for this core.
    pub in_flight: u32,
    /// It is up and not excluded from this choice.
    pub available: bool,
}

/// A way to choose.
pub trait Policy {
    /// The index of the server to use, `None` if none is available. `servers` are always as many, in the same order.
    fn choose(&mut self, servers: &[Load]) -> Option<usize>;
}
