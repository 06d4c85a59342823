//! What processes ask of a disk, when it is done and what may go wrong with it.

use super::names::absolute;
use super::{Damage, Disk, Inode, InodeId, Open, SECTOR_BYTES, What, sectors};
use crate::sim::Crash;
use crate::sim::kernel::{Event as KernelEvent, Kernel, NodeId};
use crate::sim::net::Waiter;
use crate::sim::node::Ending;
use std::os::fd::RawFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

const BLOCK: u64 = crate::BLOCK_BYTES as u64;

/// An operation on an open file.
#[derive(Debug)]
pub(crate) enum DiskOp {
    Write { offset: u64, bytes: Vec<u8>, durable: bool },
    Read { offset: u64, len: usize },
    Sync,
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Done {
    Count(usize),
    Read(Vec<u8>),
    Failed(i32),
}

pub(in crate::sim) enum Event {
    /// An operation is done.
    Done(NodeId, u64),
    /// A bit flips.
    Rot(NodeId),
    /// The power has gone in the middle of a call.
    PowerGone(NodeId),
}

pub(super) struct InFlight {
    waiter: Waiter,
    pub(super) inode: InodeId,
    direct: bool,
    pub(super) what: DiskOp,
    /// For a sync: what it makes durable.
    pub(super) mark: u64,
}

impl Kernel {
    pub(in crate::sim) fn disk_event(self: &Rc<Kernel>, event: &Event) {
        match *event {
            Event::Done(node, op) => self.disk_done(node, op),
            Event::Rot(node) => self.rot(node),
            Event::PowerGone(node) => self.end_process(node, Ending::Crash(Crash::PowerLoss)),
        }
    }

    /// Begins an operation; the waiter is told when it is done.
    pub(in crate::sim) fn disk_submit(&self, waiter: Waiter, fd: RawFd, mut what: DiskOp) {
        let Some(node) = self.caller() else { return self.waiter_done(waiter, Done::Failed(libc::EIO)) };
        let mut disks = self.disks.borrow_mut();
        let disk = &mut disks[node];
        let refused = match (disk.open.get(&fd), &mut what) {
            (None, _) => Some(libc::EBADF),
            (Some(open), DiskOp::Write { offset, bytes, durable }) => {
                *durable |= open.dsync;
                let unaligned = !offset.is_multiple_of(BLOCK) || !(bytes.len() as u64).is_multiple_of(BLOCK);
                if !open.writable {
                    Some(libc::EBADF)
                } else {
                    (open.direct && unaligned).then_some(libc::EINVAL)
                }
            }
            (Some(open), DiskOp::Read { offset, len }) => {
                let unaligned = !offset.is_multiple_of(BLOCK) || !(*len as u64).is_multiple_of(BLOCK);
                if !open.readable {
                    Some(libc::EBADF)
                } else {
                    (open.direct && unaligned).then_some(libc::EINVAL)
                }
            }
            (Some(_), DiskOp::Sync) => None,
        };
        if let Some(errno) = refused {
            drop(disks);
            return self.waiter_done(waiter, Done::Failed(errno));
        }
        let open = &disk.open[&fd];
        let (inode, direct) = (open.inode, open.direct);
        let ns = self.disk_time(&disk.faults, &what, node);
        let mark = disk.inodes[&inode].mark();
        let op = disk.next_op;
        disk.next_op += 1;
        disk.in_flight.insert(op, InFlight { waiter, inode, direct, what, mark });
        self.schedule_in(ns, KernelEvent::Disk(Event::Done(node, op)));
    }

    fn disk_time(&self, faults: &super::DiskFaults, what: &DiskOp, node: NodeId) -> u64 {
        let mut ns = self.between_times(&faults.latency);
        if matches!(what, DiskOp::Sync | DiskOp::Write { durable: true, .. }) {
            ns *= 1 + self.below(4);
            if self.one_in(faults.slow_sync) {
                ns += self.between_times(&(Duration::ZERO..faults.slow_sync_max));
                self.count("sync slow", node as u64);
            }
        }
        ns
    }

    fn disk_done(&self, node: NodeId, op: u64) {
        let mut disks = self.disks.borrow_mut();
        let disk = &mut disks[node];
        let Some(InFlight { waiter, inode, direct, what, mark }) = disk.in_flight.remove(&op) else { return };
        let done = match what {
            DiskOp::Write { offset, bytes, durable } => {
                match self.write(disk, node, inode, offset, &bytes, durable, direct) {
                    Ok(count) => Done::Count(count),
                    Err(errno) => Done::Failed(errno),
                }
            }
            DiskOp::Read { offset, len } => match self.read(disk, node, inode, offset, len, direct) {
                Ok(bytes) => Done::Read(bytes),
                Err(errno) => Done::Failed(errno),
            },
            DiskOp::Sync => match self.sync(disk, node, inode, mark) {
                Ok(()) => Done::Count(0),
                Err(errno) => Done::Failed(errno),
            },
        };
        drop(disks);
        self.waiter_done(waiter, done);
    }

    /// One step of the disk; an error when the power has gone before it.
    pub(super) fn disk_step(&self, disk: &mut Disk, node: NodeId) -> Result<(), i32> {
        if disk.frozen {
            return Err(libc::EIO);
        }
        if let Some(left) = &mut disk.steps_left {
            if *left == 0 {
                disk.steps_left = None;
                disk.frozen = true;
                self.schedule_in(0, KernelEvent::Disk(Event::PowerGone(node)));
                return Err(libc::EIO);
            }
            *left -= 1;
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "what pwritev2(2) takes, and whose disk it is")]
    pub(super) fn write(
        &self,
        disk: &mut Disk,
        node: NodeId,
        id: InodeId,
        offset: u64,
        bytes: &[u8],
        durable: bool,
        direct: bool,
    ) -> Result<usize, i32> {
        self.disk_step(disk, node)?;
        self.note_bytes("write", id << 40 | offset, bytes);
        let end = offset + bytes.len() as u64;
        let grows = end.saturating_sub(disk.inodes[&id].seen.len());
        if grows > 0 && disk.used_bytes() + grows > disk.faults.capacity_bytes {
            self.count("disk full", node as u64);
            return Err(libc::ENOSPC);
        }
        let unit = if direct { crate::BLOCK_BYTES } else { 1 };
        let mut bytes = bytes;
        if bytes.len() > unit && self.one_in(disk.faults.short_transfer) {
            let units = 1 + self.below((bytes.len() / unit) as u64 - 1) as usize;
            bytes = &bytes[..units * unit];
            self.count("transfer short", node as u64);
        }
        if self.one_in(disk.faults.write_error) {
            self.count("write failed", node as u64);
            let inode = disk.inodes.get_mut(&id).expect("an open file");
            for (at, piece) in sectors(offset, bytes) {
                if self.below(2) == 0 {
                    inode.change(What::Write(at, piece.to_vec()), false);
                }
            }
            return Err(libc::EIO);
        }
        if self.one_in(disk.faults.lost_write) {
            self.damaged(disk, node, "write lost", id, offset);
            if !direct {
                // The page cache has it, until the power goes.
                disk.inodes.get_mut(&id).expect("an open file").seen.write(offset, bytes);
            }
            return Ok(bytes.len());
        }
        if self.one_in(disk.faults.misdirected_write) {
            self.damaged(disk, node, "write misdirected", id, offset);
            let (other, elsewhere) = self.elsewhere(disk, id, bytes.len() as u64);
            let inode = disk.inodes.get_mut(&other).expect("a file of this disk");
            inode.change(What::Write(elsewhere, bytes.to_vec()), true);
            return Ok(bytes.len());
        }
        let inode = disk.inodes.get_mut(&id).expect("an open file");
        inode.change(What::Write(offset, bytes.to_vec()), durable);
        Ok(bytes.len())
    }

    /// Where a misdirected write of `len` bytes lands: within some file.
    fn elsewhere(&self, disk: &Disk, id: InodeId, len: u64) -> (InodeId, u64) {
        let mut ids: Vec<InodeId> =
            disk.inodes.iter().filter(|(_, inode)| inode.seen.len() >= len).map(|(id, _)| *id).collect();
        if ids.is_empty() {
            ids.push(id);
        }
        let other = if self.below(2) == 0 && ids.contains(&id) {
            id
        } else {
            ids[self.below(ids.len() as u64) as usize]
        };
        let room = disk.inodes[&other].seen.len().saturating_sub(len);
        (other, self.below(room / BLOCK + 1) * BLOCK)
    }

    fn read(
        &self,
        disk: &mut Disk,
        node: NodeId,
        id: InodeId,
        offset: u64,
        len: usize,
        direct: bool,
    ) -> Result<Vec<u8>, i32> {
        if disk.frozen {
            return Err(libc::EIO);
        }
        if self.one_in(disk.faults.read_error) {
            self.count("read failed", node as u64);
            return Err(libc::EIO);
        }
        let unit = if direct { crate::BLOCK_BYTES } else { 1 };
        let mut len = len;
        if len > unit && self.one_in(disk.faults.short_transfer) {
            len = (1 + self.below((len / unit) as u64 - 1) as usize) * unit;
            self.count("transfer short", node as u64);
        }
        let bytes = disk.inodes[&id].seen.read(offset, len);
        self.note_bytes("read", id << 40 | offset, &bytes);
        Ok(bytes)
    }

    pub(super) fn sync(&self, disk: &mut Disk, node: NodeId, id: InodeId, mark: u64) -> Result<(), i32> {
        self.disk_step(disk, node)?;
        self.note("sync", node as u64, id);
        let fails = self.one_in(disk.faults.sync_error);
        let Some(inode) = disk.inodes.get_mut(&id) else { return Err(libc::EBADF) };
        if fails {
            self.count("sync failed", node as u64);
            self.sync_in_part(inode, mark);
            return Err(libc::EIO);
        }
        inode.make_durable(mark);
        Ok(())
    }

    /// A failed sync: some sectors are durable, the others are clean in the page cache and nowhere else.
    fn sync_in_part(&self, inode: &mut Inode, mark: u64) {
        let count = mark.saturating_sub(inode.settled) as usize;
        let rest = inode.changes.split_off(count.min(inode.changes.len()));
        let failed = std::mem::replace(&mut inode.changes, rest);
        for change in failed {
            inode.settled += 1;
            match change.what {
                What::Len(len) => inode.kept.set_len(len),
                What::Write(offset, bytes) => {
                    for (at, piece) in sectors(offset, &bytes) {
                        if change.durable || self.below(2) == 0 {
                            inode.kept.write(at, piece);
                        }
                    }
                }
            }
        }
        inode.settle_front();
    }

    // Damage that nobody is told of.

    fn damaged(&self, disk: &mut Disk, node: NodeId, kind: &'static str, id: InodeId, offset: u64) {
        self.count(kind, node as u64);
        let path = disk.path_of(id);
        disk.damage.push(Damage { kind, path, offset, at: Duration::from_nanos(self.now.get()) });
    }

    /// Has bits of the disk flip from now on, as its faults say.
    pub(in crate::sim) fn begin_rot(&self, node: NodeId) {
        let mut disks = self.disks.borrow_mut();
        let disk = &mut disks[node];
        if let Some(every) = disk.faults.bit_rot_every
            && !std::mem::replace(&mut disk.rotting, true)
        {
            let ns = self.between_times(&(Duration::ZERO..every * 2));
            self.schedule_in(ns, KernelEvent::Disk(Event::Rot(node)));
        }
    }

    fn rot(&self, node: NodeId) {
        let mut disks = self.disks.borrow_mut();
        let disk = &mut disks[node];
        disk.rotting = false;
        let ids: Vec<InodeId> =
            disk.inodes.iter().filter(|(_, inode)| inode.kept.len() > 0).map(|(id, _)| *id).collect();
        if !ids.is_empty() && disk.faults.bit_rot_every.is_some() {
            let id = ids[self.below(ids.len() as u64) as usize];
            let offset = self.below(disk.inodes[&id].kept.len());
            self.flip(disk, node, id, offset);
        }
        drop(disks);
        self.begin_rot(node);
    }

    fn flip(&self, disk: &mut Disk, node: NodeId, id: InodeId, offset: u64) {
        let bit = self.below(8) as u32;
        let inode = disk.inodes.get_mut(&id).expect("a file of this disk");
        if offset < inode.kept.len() {
            inode.kept.flip(offset, bit);
        }
        if offset < inode.seen.len() {
            inode.seen.flip(offset, bit);
        }
        self.damaged(disk, node, "bit rot", id, offset / SECTOR_BYTES * SECTOR_BYTES);
    }

    /// Flips a bit of a file now; `false` if there is no such place.
    pub(in crate::sim) fn flip_bit(&self, node: NodeId, path: &Path, offset: u64) -> bool {
        let mut disks = self.disks.borrow_mut();
        let disk = &mut disks[node];
        let Some(id) = disk.file(&absolute(path)).filter(|id| offset < disk.inodes[id].seen.len()) else {
            return false;
        };
        self.flip(disk, node, id, offset);
        true
    }

    /// Closes a descriptor, whosesoever it is.
    pub(super) fn disk_close(&self, fd: RawFd) {
        for disk in self.disks.borrow_mut().iter_mut() {
            let Some(Open { inode, .. }) = disk.open.remove(&fd) else { continue };
            if let Some(inode) = disk.inodes.get_mut(&inode)
                && inode.locked_by == Some(fd)
            {
                inode.locked_by = None;
            }
            disk.forget_unnamed();
        }
    }
}
