//! What may go wrong, how often, and what did.
//!
//! A rate is "one in so many" operations, 0 for never. Each is drawn from the world's seed where the operation happens.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

const fn us(count: u64) -> Duration {
    Duration::from_micros(count)
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// What may go wrong in a world. [`Faults::none`] is a world of healthy machines, whose latencies still vary.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// The network's.
    pub net: NetFaults,
    /// Every disk's, unless a node is given its own ([`World::set_disk_faults`](super::World::set_disk_faults)).
    pub disk: DiskFaults,
    /// The machines' clocks'.
    pub clock: ClockFaults,
    /// The processors'.
    pub cpu: CpuFaults,
}

impl Faults {
    /// Nothing goes wrong.
    pub fn none() -> Faults {
        Faults::default()
    }

    /// What every machine of a data centre meets in its life and no program may mind: slow packets and syncs, short
    /// transfers, resets, stalls, drifting clocks.
    pub fn usual() -> Faults {
        Faults {
            net: NetFaults { slow_packet: 50, reset: 20_000, datagram_loss: 100, ..NetFaults::default() },
            disk: DiskFaults { slow_sync: 200, short_transfer: 100, ..DiskFaults::default() },
            clock: ClockFaults { drift_ppm_max: 200 },
            cpu: CpuFaults { stall: 5000, ..CpuFaults::default() },
        }
    }
}

/// Faults of the network.
#[derive(Debug, Clone)]
pub struct NetFaults {
    /// How long a packet takes from machine to machine.
    pub latency: Range<Duration>,
    /// One packet in so many takes up to `slow_packet_max`.
    pub slow_packet: u32,
    /// How long a slow one takes at most.
    pub slow_packet_max: Duration,
    /// One data packet in so many resets its connection instead of arriving.
    pub reset: u32,
    /// One data packet in so many is the last of its connection: nothing passes any more, either way, and nobody is told.
    pub black_hole: u32,
    /// One datagram in so many is lost.
    pub datagram_loss: u32,
    /// One datagram in so many arrives twice.
    pub datagram_duplicate: u32,
}

impl Default for NetFaults {
    fn default() -> NetFaults {
        NetFaults {
            latency: us(50)..us(400),
            slow_packet: 0,
            slow_packet_max: ms(200),
            reset: 0,
            black_hole: 0,
            datagram_loss: 0,
            datagram_duplicate: 0,
        }
    }
}

/// Faults of a disk.
#[derive(Debug, Clone)]
pub struct DiskFaults {
    /// How long a read or a write takes; a sync takes up to four times that.
    pub latency: Range<Duration>,
    /// One sync or durable write in so many takes up to `slow_sync_max`.
    pub slow_sync: u32,
    /// How long a slow one takes at most.
    pub slow_sync_max: Duration,
    /// One read or write in so many moves only a part, as read(2) and write(2) may.
    pub short_transfer: u32,
    /// One read in so many fails with EIO.
    pub read_error: u32,
    /// One write in so many fails with EIO; some sectors of it may have been written.
    pub write_error: u32,
    /// One sync in so many fails with EIO. Some of what it should have made durable is; the rest never will be, and later
    /// syncs succeed (what Linux does with pages that it could not write).
    pub sync_error: u32,
    /// One write in so many is confirmed and not done: the disk lies.
    pub lost_write: u32,
    /// One write in so many lands elsewhere in the same file, or in another one: the disk lies.
    pub misdirected_write: u32,
    /// A bit of one of the files flips after times drawn up to twice this.
    pub bit_rot_every: Option<Duration>,
    /// Bytes that the disk holds; beyond them, `StorageFull`.
    pub capacity_bytes: u64,
}

impl Default for DiskFaults {
    fn default() -> DiskFaults {
        DiskFaults {
            latency: us(20)..us(200),
            slow_sync: 0,
            slow_sync_max: ms(500),
            short_transfer: 0,
            read_error: 0,
            write_error: 0,
            sync_error: 0,
            lost_write: 0,
            misdirected_write: 0,
            bit_rot_every: None,
            capacity_bytes: 1 << 40,
        }
    }
}

/// Faults of the clocks. Jumps are made by [`World::jump_wall_clock`](super::World::jump_wall_clock).
#[derive(Debug, Clone, Default)]
pub struct ClockFaults {
    /// Each machine's clocks run faster or slower by up to this, parts per million, drawn when it is added.
    pub drift_ppm_max: u32,
}

/// Faults of the processors.
#[derive(Debug, Clone)]
pub struct CpuFaults {
    /// One turn of a core in so many begins up to `stall_max` late.
    pub stall: u32,
    /// How late at most.
    pub stall_max: Duration,
}

impl Default for CpuFaults {
    fn default() -> CpuFaults {
        CpuFaults { stall: 0, stall_max: ms(50) }
    }
}

/// How often each kind of fault did happen, by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters(pub(super) BTreeMap<&'static str, u64>);

impl Counters {
    /// How often `name` happened.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// All that happened at all, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(name, count)| (*name, *count))
    }

    /// Adds those of another world.
    pub fn add(&mut self, other: &Counters) {
        for (name, count) in other.iter() {
            *self.0.entry(name).or_default() += count;
        }
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, count)) in self.iter().enumerate() {
            write!(f, "{}{name} {count}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
