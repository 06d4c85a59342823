//! A hierarchical timer wheel (Varghese & Lauck, SOSP '87) of one-millisecond ticks: insert, remove and expiry in
//! constant time, whatever the number of timers.
//!
//! What always holds: a timer fires at the first `advance` to its tick or later, never before; its key is valid until
//! `remove`. Pure: ticks come in as numbers.

use slab::Slab;
use std::task::Waker;

const LEVELS: usize = 6;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;

/// Ticks beyond this distance wait in the outermost level and are looked at again from there: 64^6 ms, two years.
const DISTANCE_MAX: u64 = (1 << (SLOT_BITS * LEVELS as u32)) - 1;

const NONE: usize = usize::MAX;

pub(crate) type Key = usize;

struct Timer {
    deadline: u64,
    waker: Option<Waker>,
    /// Where it hangs, or `None` when it has fired.
    place: Option<(usize, usize)>,
    previous: usize,
    next: usize,
}

pub(crate) struct Wheel {
    now: u64,
    timers: Slab<Timer>,
    heads: [[usize; SLOTS]; LEVELS],
    occupied: [u64; LEVELS],
}

impl Wheel {
    pub(crate) fn new() -> Wheel {
        Wheel { now: 0, timers: Slab::new(), heads: [[NONE; SLOTS]; LEVELS], occupied: [0; LEVELS] }
    }

    /// A timer that fires at tick `deadline`, or at the next tick if that has passed.
    pub(crate) fn insert(&mut self, deadline: u64, waker: &Waker) -> Key {
        let deadline = deadline.clamp(self.now + 1, self.now + DISTANCE_MAX);
        let timer = Timer { deadline, waker: Some(waker.clone()), place: None, previous: NONE, next: NONE };
        let key = self.timers.insert(timer);
        self.hang(key);
        key
    }

    pub(crate) fn fired(&self, key: Key) -> bool {
        self.timers[key].place.is_none()
    }

    pub(crate) fn set_waker(&mut self, key: Key, waker: &Waker) {
        let slot = &mut self.timers[key].waker;
        if !slot.as_ref().is_some_and(|old| old.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    pub(crate) fn remove(&mut self, key: Key) {
        if self.timers[key].place.is_some() {
            self.unhang(key);
        }
        self.timers.remove(key);
    }

    /// The tick at which `advance` next has something to do: no later than the first deadline.
    pub(crate) fn next_tick(&self) -> Option<u64> {
        self.next_place().map(|(tick, ..)| tick)
    }

    fn next_place(&self) -> Option<(u64, usize, usize)> {
        (0..LEVELS).find(|level| self.occupied[*level] != 0).map(|level| {
            let shift = SLOT_BITS * level as u32;
            let current = (self.now >> shift) as u32 & (SLOTS as u32 - 1);
            let ahead = self.occupied[level].rotate_right(current).trailing_zeros();
            let slot = (current + ahead) as usize & (SLOTS - 1);
            let start = (self.now >> shift) + u64::from(ahead);
            (start << shift, level, slot)
        })
    }

    /// Moves time to tick `now` and collects the wakers of all that fired, in order of their ticks.
    pub(crate) fn advance(&mut self, now: u64, fired: &mut Vec<Waker>) {
        while let Some((tick, level, slot)) = self.next_place() {
            if tick > now {
                break;
            }
            self.now = self.now.max(tick);
            let mut key = std::mem::replace(&mut self.heads[level][slot], NONE);
            self.occupied[level] &= !(1 << slot);
            while key != NONE {
                let timer = &mut self.timers[key];
                let next = timer.next;
                timer.place = None;
                if timer.deadline <= self.now {
                    fired.extend(timer.waker.take());
                } else {
                    self.hang(key);
                }
                key = next;
            }
        }
        self.now = self.now.max(now);
    }

    fn hang(&mut self, key: Key) {
        let deadline = self.timers[key].deadline;
        let differing = (deadline ^ self.now) | (SLOTS as u64 - 1);
        let level = (((63 - differing.leading_zeros()) / SLOT_BITS) as usize).min(LEVELS - 1);
        let slot = (deadline >> (SLOT_BITS * level as u32)) as usize & (SLOTS - 1);
        let head = std::mem::replace(&mut self.heads[level][slot], key);
        self.occupied[level] |= 1 << slot;
        if head != NONE {
            self.timers[head].previous = key;
        }
        let timer = &mut self.timers[key];
        timer.place = Some((level, slot));
        timer.previous = NONE;
        timer.next = head;
    }

    fn unhang(&mut self, key: Key) {
        let timer = &mut self.timers[key];
        let (level, slot) = timer.place.take().expect("a timer that hangs");
        let (previous, next) = (timer.previous, timer.next);
        if previous == NONE {
            self.heads[level][slot] = next;
            if next == NONE {
                self.occupied[level] &= !(1 << slot);
            }
        } else {
            self.timers[previous].next = next;
        }
        if next != NONE {
            self.timers[next].previous = previous;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Count(std::sync::atomic::AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    #[test]
    fn fires_each_timer_at_its_tick_and_no_removed_one() {
        let waker = Waker::noop();
        let mut random = 7u64;
        let mut draw = move |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        let mut wheel = Wheel::new();
        let mut live: Vec<(Key, u64)> = Vec::new();
        let mut now = 0;
        for _ in 0..20_000 {
            match draw(3) {
                0 => {
                    let distance = 1 << draw(32);
                    let deadline = now + 1 + draw(distance);
                    live.push((wheel.insert(deadline, waker), deadline));
                }
                1 if !live.is_empty() => {
                    let (key, _) = live.swap_remove(draw(live.len() as u64) as usize);
                    wheel.remove(key);
                }
                _ => {
                    let first = live.iter().map(|(_, deadline)| *deadline).filter(|d| *d > now).min();
                    if let Some(first) = first {
                        assert!(wheel.next_tick().expect("a timer is pending") <= first);
                    }
                    let step = 1 << draw(20);
                    now += 1 + draw(step);
                    wheel.advance(now, &mut Vec::new());
                    for (key, deadline) in &live {
                        assert_eq!(wheel.fired(*key), *deadline <= now, "deadline {deadline} at {now}");
                    }
                    live.retain(|(key, deadline)| {
                        if *deadline <= now {
                            wheel.remove(*key);
                        }
                        *deadline > now
                    });
                }
            }
        }
    }

    #[test]
    fn wakes_once() {
        let count = std::sync::Arc::new(Count(Default::default()));
        let waker = Waker::from(count.clone());
        let mut wheel = Wheel::new();
        let key = wheel.insert(100, &waker);
        let mut fired = Vec::new();
        wheel.advance(99, &mut fired);
        assert!(fired.is_empty() && !wheel.fired(key));
        wheel.advance(1000, &mut fired);
        fired.drain(..).for_each(Waker::wake);
        assert!(wheel.fired(key));
        assert_eq!(count.0.load(std::sync::atomic::Ordering::Relaxed), 1);
        wheel.remove(key);
        assert_eq!(wheel.next_tick(), None);
    }
}
