//! The whole core against a disk in memory that loses power: any subset of the sectors (or blocks) of the write in
//! flight is there afterwards. Thousands of seeded lives; a failing seed replays exactly.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::core::batch::{self, Record};
use crate::core::format::{Header, Position, SECTORS, Salt, stamp};
use crate::core::recovery::{Damage, Found, Recovery};
use crate::core::rng::Rng;
use crate::core::scan::Scan;
use crate::core::stream::{Batch, Next, Refusal, Step, Stream};
use crate::limits::{BLOCK_BYTES, SECTOR_BYTES, SEGMENT_BYTES_MIN};
use crate::{GroupId, Index};

pub(super) const LOG: u64 = 0x1234_5678;
pub(super) const SEGMENT: usize = SEGMENT_BYTES_MIN as usize;

/// Segment files by generation, and emptied ones that keep what they held.
#[derive(Clone, Default)]
pub(super) struct Disk {
    pub(super) segments: BTreeMap<u32, Vec<u8>>,
    pub(super) spare: Vec<Vec<u8>>,
}

impl Disk {
    pub(super) fn prepare(&mut self, generation: u32) {
        let mut file = self.spare.pop().unwrap_or_else(|| vec![0; SEGMENT]);
        let header = Header { salt: Salt { log: LOG, generation }, segment_bytes: SEGMENT_BYTES_MIN };
        header.encode(&mut file[..BLOCK_BYTES]);
        self.segments.insert(generation, file);
    }

    /// Writes pieces of `unit` bytes, those that `keep` picks.
    pub(super) fn write(&mut self, batch: &Batch, bytes: &[u8], unit: usize, mut keep: impl FnMut() -> bool) {
        let file = self.segments.get_mut(&batch.at.generation).expect("the segment is ready");
        let from = batch.at.block as usize * BLOCK_BYTES;
        for (piece, at) in bytes.chunks(unit).zip((from..).step_by(unit)) {
            if keep() {
                file[at..at + piece.len()].copy_from_slice(piece);
            }
        }
    }

    pub(super) fn recover(&self) -> Result<Option<Found>, Damage> {
        let mut recovery = Recovery::new();
        for file in self.segments.values() {
            recovery.segment(&Header::decode(file).expect("headers are synced before use"));
            file.chunks_exact(BLOCK_BYTES).skip(1).for_each(|block| recovery.block(block));
        }
        recovery.finish()
    }

    pub(super) fn records(&self, found: &Found) -> Vec<Record> {
        let mut records = Vec::new();
        for held in &found.segments {
            let file = &self.segments[&held.generation];
            let salt = Salt { log: LOG, generation: held.generation };
            let mut scan = Scan::new(salt, (SEGMENT / BLOCK_BYTES) as u32);
            for block in file.chunks_exact(BLOCK_BYTES).take(held.end as usize).skip(1) {
                records.extend(scan.feed(block).into_iter().flat_map(|batch| batch.records));
            }
        }
        records
    }

    fn entries(&self, found: &Found) -> Vec<(GroupId, Index, Bytes)> {
        let needed = |record| match record {
            Record::Entry { group, index, bytes, .. } if index > found.groups[&group].truncated() => {
                Some((group, index, bytes))
            }
            _ => None,
        };
        self.records(found).into_iter().filter_map(needed).collect()
    }

    pub(super) fn zero_torn(&mut self, found: &Found) {
        if let (Some(torn), Some(held)) = (&found.torn, found.segments.last()) {
            let file = self.segments.get_mut(&held.generation).expect("it was found");
            file[torn.start as usize * BLOCK_BYTES..torn.end as usize * BLOCK_BYTES].fill(0);
        }
    }
}

pub(super) fn bytes_of(batch: &Batch, salt: Salt) -> Vec<u8> {
    let mut piece = [vec![0xEE; batch.blocks as usize * BLOCK_BYTES]];
    batch::encode(&batch.records, salt, batch.at.block, batch.watermark, &mut piece);
    piece.concat()
}

/// A log, its disk, and what must hold of it.
struct World {
    rng: Rng,
    disk: Disk,
    stream: Stream,
    in_flight: Option<(Batch, Vec<u8>)>,
    /// What was proposed and may still be there, in the order of the proposals.
    proposed: Vec<(GroupId, Index, Bytes)>,
    acknowledged: BTreeMap<GroupId, Index>,
    truncated: BTreeMap<GroupId, Index>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut disk = Disk::default();
        disk.prepare(1);
        World {
            rng: Rng(seed),
            disk,
            stream: Stream::new(LOG, SEGMENT_BYTES_MIN),
            in_flight: None,
            proposed: Vec::new(),
            acknowledged: BTreeMap::new(),
            truncated: BTreeMap::new(),
        }
    }

    fn propose(&mut self) {
        let group = GroupId(self.rng.below(4) as u64);
        let len = match self.rng.below(20) {
            0 => self.rng.below(SEGMENT / 2),
            1..=3 => self.rng.below(20_000),
            _ => self.rng.below(300),
        };
        let fill = self.rng.draw().to_le_bytes();
        let bytes: Bytes = fill.iter().copied().cycle().take(len).collect();
        match self.stream.propose(group, bytes.clone()) {
            Ok(index) => self.proposed.push((group, index, bytes)),
            Err(refusal) => assert_eq!(refusal, Refusal::Full),
        }
    }

    /// Makes the next segment ready, if it is not.
    fn prepare_next(&mut self) {
        let next = self.stream.active_generation() + 1;
        if !self.disk.segments.contains_key(&next) {
            self.disk.prepare(next);
        }
        self.stream.set_next(Next::Ready);
    }

    /// Starts the next write, if none is in flight and one is due.
    fn start_write(&mut self) {
        if self.in_flight.is_some() {
            return;
        }
        let seal = self.rng.one_in(3);
        match self.stream.next_step(seal) {
            Some(Step::Roll) => {
                self.prepare_next();
                self.stream.rolled();
            }
            Some(Step::Write(batch)) => {
                let bytes = bytes_of(&batch, self.stream.salt(batch.at.generation));
                self.in_flight = Some((batch, bytes));
            }
            None => {}
        }
    }

    fn finish_write(&mut self) {
        let Some((batch, bytes)) = self.in_flight.take() else { return };
        self.disk.write(&batch, &bytes, BLOCK_BYTES, || true);
        for (group, index) in self.stream.written().commits {
            assert!(self.acknowledged.insert(group, index) < Some(index));
        }
        while let Some(generation) = self.stream.give_up() {
            let file = self.disk.segments.remove(&generation).expect("it was there");
            self.disk.spare.push(file);
        }
        if self.rng.one_in(4) {
            self.prepare_next();
        }
    }

    fn truncate(&mut self) {
        let group = GroupId(self.rng.below(4) as u64);
        let committed = self.stream.committed(group);
        if committed.0 > 0 {
            let through = Index(self.rng.draw() % committed.0 + 1);
            let through = if self.rng.one_in(2) { committed } else { through };
            self.stream.truncate(group, through);
            let old = self.truncated.entry(group).or_default();
            *old = through.max(*old);
        }
    }

    fn crash(&mut self) {
        if let Some((batch, bytes)) = self.in_flight.take() {
            let unit = if self.rng.one_in(2) { SECTOR_BYTES } else { BLOCK_BYTES };
            let odds = 1 + self.rng.below(8);
            let rng = &mut self.rng;
            self.disk.write(&batch, &bytes, unit, || !rng.one_in(odds));
        }
        let found = self.disk.recover().expect("a crash is no damage").expect("there is a segment");
        if self.rng.one_in(4) {
            // The power goes again while the torn tail is being zeroed.
            let torn = found.torn.clone().unwrap_or(1..1);
            let generation = found.segments.last().expect("there is one").generation;
            let file = self.disk.segments.get_mut(&generation).expect("it was found");
            for sector in file[torn.start as usize * BLOCK_BYTES..torn.end as usize * BLOCK_BYTES]
                .chunks_mut(SECTOR_BYTES)
            {
                if self.rng.one_in(2) {
                    sector.fill(0);
                }
            }
            let again = self.disk.recover().expect("zeroing is no damage").expect("there is a segment");
            assert_eq!(
                (&again.groups, &again.segments, again.durable),
                (&found.groups, &found.segments, found.durable)
            );
            self.disk.zero_torn(&again);
        }
        self.disk.zero_torn(&found);
        let clean = self.disk.recover().expect("still whole").expect("there is a segment");
        assert_eq!(clean.torn, None);
        self.check(&found);
        self.stream = Stream::recovered(&found);
    }

    fn check(&mut self, found: &Found) {
        let entries = self.disk.entries(found);
        for (group, acknowledged) in &self.acknowledged {
            assert!(found.groups[group].last >= *acknowledged, "group {group} lost what was acknowledged");
        }
        for (group, state) in &found.groups {
            assert!(state.truncated() <= self.truncated.get(group).copied().unwrap_or_default());
        }
        // What is there is what was proposed, in that order, from the truncation to the last.
        self.proposed
            .retain(|(group, index, _)| found.groups.get(group).is_some_and(|state| *index <= state.last));
        let expected: Vec<_> = self
            .proposed
            .iter()
            .filter(|(group, index, _)| *index > found.groups[group].truncated())
            .cloned()
            .collect();
        assert!(entries == expected, "{} entries came back of {}", entries.len(), expected.len());
        self.proposed = expected;
        self.acknowledged = found.groups.iter().map(|(group, state)| (*group, state.last)).collect();
        self.truncated = found.groups.iter().map(|(group, state)| (*group, state.truncated())).collect();
    }

    fn live(&mut self, steps: usize) {
        for _ in 0..steps {
            match self.rng.below(10) {
                0..=3 => self.propose(),
                4..=6 => self.start_write(),
                7..=8 => self.finish_write(),
                _ => self.truncate(),
            }
        }
    }
}

#[test]
fn what_was_acknowledged_survives_any_crash() {
    let mut rolled = 0;
    for seed in 0..200 {
        let mut world = World::new(seed);
        for _ in 0..10 {
            let steps = world.rng.below(150);
            world.live(steps);
            world.crash();
        }
        rolled += world.stream.active_generation();
        assert!(world.stream.segments() < 40);
    }
    assert!(rolled > 500, "segments were rolled and used again: {rolled}");
}

#[test]
fn no_flip_in_what_was_acknowledged_is_passed_over() {
    for seed in 0..30 {
        let mut world = World::new(seed);
        world.live(400);
        // The write in flight is on the disk whole, and no seal follows it.
        world.finish_write();
        let found = world.disk.recover().expect("nothing is wrong yet").expect("there is a segment");
        for _ in 0..60 {
            let held = &found.segments[world.rng.below(found.segments.len())];
            if held.end == 1 {
                continue;
            }
            let from = BLOCK_BYTES * 8;
            let bit = from + world.rng.below((held.end as usize * BLOCK_BYTES * 8) - from);
            let mut disk = world.disk.clone();
            disk.segments.get_mut(&held.generation).expect("found")[bit / 8] ^= 1 << (bit % 8);
            let damage = disk.recover().expect_err("a flip is damage");
            assert_eq!(damage.at.generation, held.generation, "seed {seed}");
            assert_eq!(damage.at.block as usize, bit / 8 / BLOCK_BYTES, "seed {seed}");
        }
    }
}

#[test]
fn an_acknowledged_block_that_is_gone_is_noticed_once_something_vouches_for_it() {
    for seed in 0..60 {
        let mut world = World::new(seed);
        world.live(200);
        world.finish_write();
        let found = world.disk.recover().expect("nothing is wrong yet").expect("there is a segment");
        let held = &found.segments[world.rng.below(found.segments.len())];
        if held.end < 3 {
            continue;
        }
        // Not the last batch of the log: that one has no witness yet.
        let mut last_batch = 1;
        let mut scan =
            Scan::new(Salt { log: LOG, generation: held.generation }, (SEGMENT / BLOCK_BYTES) as u32);
        let file = world.disk.segments.get_mut(&held.generation).expect("found");
        for block in file.chunks_exact(BLOCK_BYTES).take(held.end as usize).skip(1) {
            last_batch = scan.feed(block).map_or(last_batch, |batch| batch.block);
        }
        if last_batch == 1 {
            continue;
        }
        let block = 1 + world.rng.below(last_batch as usize - 1);
        file[block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES].fill(0);
        assert!(world.disk.recover().is_err(), "seed {seed}");
    }
}

#[test]
fn a_missing_segment_is_noticed() {
    let mut world = World::new(3);
    while world.stream.active_generation() < 5 {
        world.propose();
        world.start_write();
        world.finish_write();
    }
    assert!(world.disk.recover().is_ok());
    for generation in [1, 2, 3] {
        let mut disk = world.disk.clone();
        disk.segments.remove(&generation);
        assert!(disk.recover().is_err(), "segment {generation}");
    }
}

#[test]
fn what_is_taken_has_a_place_on_the_disk() {
    for seed in 0..300 {
        let mut rng = Rng(seed);
        let mut stream = Stream::new(LOG, SEGMENT_BYTES_MIN);
        let ready = rng.one_in(2);
        stream.set_next(if ready { Next::Ready } else { Next::NoSpace });
        let (mut refusals, mut rolls, mut in_flight) = (0, 0, false);
        while refusals < 20 {
            let magnitude = rng.below(18);
            let len = rng.below(1 << magnitude);
            if let Err(refusal) = stream.propose(GroupId(rng.draw() % 30), Bytes::from(vec![7; len])) {
                refusals += 1;
                assert_eq!(refusal, if ready { Refusal::Full } else { Refusal::ReadOnly });
            }
            if in_flight && rng.one_in(2) {
                stream.written();
                in_flight = false;
            } else if !in_flight && rng.one_in(3) {
                match stream.next_step(false) {
                    Some(Step::Write(_)) => in_flight = true,
                    Some(Step::Roll) => {
                        rolls += 1;
                        assert!(ready && rolls == 1, "seed {seed}: taken without a place");
                        stream.rolled();
                    }
                    None => {}
                }
            }
        }
    }
}

#[test]
fn a_group_moves_forward_when_its_state_machine_is_ahead() {
    let mut world = World::new(1);
    world.stream.truncate(GroupId(1), Index(50));
    assert_eq!(world.stream.propose(GroupId(1), Bytes::from_static(b"x")), Ok(Index(51)));
    world.start_write();
    world.finish_write();
    let found = world.disk.recover().expect("whole").expect("there");
    assert_eq!(found.groups[&GroupId(1)].last, Index(51));
    assert_eq!(found.groups[&GroupId(1)].truncated(), Index(50));
}

#[test]
fn the_queue_has_a_bound_and_takes_one_entry_whenever_nothing_waits() {
    let mut stream = Stream::new(LOG, 256 << 20);
    let large = Bytes::from(vec![0; crate::limits::ENTRY_BYTES_MAX]);
    for _ in 0..3 {
        stream.propose(GroupId(1), large.clone()).expect("48 MiB and a little");
    }
    assert_eq!(stream.propose(GroupId(1), large.clone()), Err(Refusal::Full));
    stream.propose(GroupId(1), Bytes::from(vec![0; 8 << 20])).expect("there is room for less");
    let Some(Step::Write(batch)) = stream.next_step(false) else { panic!("something waits") };
    assert_eq!(batch.records.len(), 1, "a large entry goes alone");
    stream.written();
    stream.propose(GroupId(1), large).expect("there is room again");
}

#[test]
fn whatever_sectors_say_recovery_ends() {
    let mut opened = 0;
    for seed in 0..150 {
        let mut world = World::new(seed);
        world.live(200);
        world.finish_write();
        let mut disk = world.disk.clone();
        for _ in 0..=world.rng.below(3) {
            let generation =
                *disk.segments.keys().next().expect("one") + world.rng.below(disk.segments.len()) as u32;
            let file = disk.segments.get_mut(&generation).expect("no gaps");
            let number = SECTORS + world.rng.below(SEGMENT / SECTOR_BYTES - SECTORS);
            let sector = &mut file[number * SECTOR_BYTES..(number + 1) * SECTOR_BYTES];
            // Numbers in it become large, small or arbitrary, and its own checksum is right all the same.
            for _ in 0..world.rng.below(5) {
                let (at, number) = (16 + 4 * world.rng.below(123), world.rng.draw());
                let number = [u64::MAX, 0, 1, number][world.rng.below(4)];
                sector[at..at + 4].copy_from_slice(&number.to_le_bytes()[..4]);
            }
            let block = world.rng.draw() as u32 >> world.rng.below(32);
            let watermark = Position { generation: generation - world.rng.below(2) as u32, block };
            stamp(sector, Salt { log: LOG, generation }, number as u64, watermark);
        }
        if let Ok(Some(found)) = disk.recover() {
            opened += 1;
            disk.entries(&found);
        }
    }
    assert!(opened < 100, "{opened} of 150 passed for whole logs");
}
