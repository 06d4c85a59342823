//! The clocks that the simulated program reads: its node's; outside of nodes, the world's.

use super::kernel::{Kernel, kernel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// World time 0 on the wall: 2030-01-01.
pub(super) const WALL_NS: i128 = 1_893_456_000 * 1_000_000_000;

fn read<T>(of_node: impl Fn(&super::node::Clock, u64) -> T, of_world: impl Fn(&Kernel) -> T) -> T {
    let kernel = kernel();
    match kernel.here() {
        Some(node) => of_node(&kernel.nodes.borrow()[node].clock, kernel.now.get()),
        None => of_world(&kernel),
    }
}

pub(crate) fn monotonic() -> Instant {
    let since = read(super::node::Clock::monotonic_ns, |kernel| kernel.now.get());
    kernel().epoch + Duration::from_nanos(since)
}

pub(crate) fn boot() -> Duration {
    Duration::from_nanos(read(super::node::Clock::boot_ns, |kernel| kernel.now.get()))
}

pub(crate) fn wall() -> SystemTime {
    let ns = read(super::node::Clock::wall_ns, |kernel| WALL_NS + i128::from(kernel.now.get()));
    UNIX_EPOCH + Duration::from_nanos(u64::try_from(ns.max(0)).unwrap_or(u64::MAX))
}
