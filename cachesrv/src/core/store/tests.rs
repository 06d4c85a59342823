//! The store against a plain map, and its limits.

use std::collections::HashMap;

use super::*;
use crate::core::hash;

const SEED: u64 = 7;

fn at(ms: u64) -> Now {
    Now { ms: 1000 + ms, unix_ms: 1_700_000_000_000 + ms }
}

fn store(memory_bytes: usize, evict: bool) -> Store {
    Store::new(Options {
        memory_bytes,
        item_bytes_max: memory_bytes / 4,
        evict,
        cas: true,
        shard: (0, 1),
        seed: SEED,
    })
}

fn set(store: &mut Store, key: &[u8], value: &[u8], now: Now) -> Result<Place, NoMemory> {
    let cas = store.new_cas();
    store.insert(hash(key, SEED), key, value, Head::new(0, 0, cas), now)
}

fn get(store: &mut Store, key: &[u8], now: Now) -> Option<Vec<u8>> {
    let place = store.find(hash(key, SEED), key, now)?;
    let head = store.head(place);
    store.bump(place, head, now);
    Some(store.value(place).to_vec())
}

/// A small generator, so that a failure can be repeated from its seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Everything that must hold between the parts.
fn check(store: &Store) {
    assert!(store.used_bytes() <= store.options.memory_bytes, "{} used", store.used_bytes());
    let (mut live_items, mut live_bytes, mut capacity) = (0, 0, 0);
    for segment in store.segments.iter().flatten() {
        let live: Vec<_> = segment.walk().filter(|(_, head)| !head.dead).collect();
        assert_eq!(live.len(), segment.live_items);
        live_items += live.len();
        live_bytes += live.iter().map(|(_, head)| head.item_bytes()).sum::<usize>();
        capacity += segment.capacity;
    }
    assert_eq!((live_items, live_bytes, capacity), (store.items(), store.live_bytes(), store.segments_bytes));
    assert_eq!(store.order.len() + usize::from(store.active.is_some()), store.segments().0);
}

/// Without pressure the store is a map; large and small items, growing and shrinking, expiring and flushed.
#[test]
fn a_store_with_room_is_a_map() {
    let mut numbers = Numbers(42);
    let mut store = store(64 << 20, true);
    let mut map: HashMap<Vec<u8>, (Vec<u8>, u64)> = HashMap::new();
    let mut ms = 0;
    for round in 0..40_000_u64 {
        ms += numbers.below(3);
        let now = at(ms);
        let key = format!("key-{}", numbers.below(500)).into_bytes();
        match numbers.below(100) {
            0..50 => {
                let length = match numbers.below(40) {
                    0 => numbers.below(400_000),
                    1..10 => numbers.below(4_000),
                    _ => numbers.below(80),
                };
                let value = vec![round as u8; length as usize];
                let expiry = if numbers.below(3) == 0 { now.ms + numbers.below(2_000) } else { 0 };
                let head = Head::new(1, expiry, store.new_cas());
                store.insert(hash(&key, SEED), &key, &value, head, now).expect("room");
                map.insert(key, (value, expiry));
            }
            50..60 => {
                if let Some(place) = store.find(hash(&key, SEED), &key, now) {
                    store.remove(hash(&key, SEED), place);
                }
                map.remove(&key);
            }
            60 if round % 50 == 0 => {
                store.flush(now.ms, now);
                map.clear();
            }
            _ => {
                let expected = map.get(&key).filter(|(_, expiry)| *expiry == 0 || *expiry > now.ms);
                assert_eq!(
                    get(&mut store, &key, now),
                    expected.map(|(value, _)| value.clone()),
                    "round {round}"
                );
            }
        }
        if round % 500 == 0 {
            check(&store);
        }
    }
    check(&store);
    assert_eq!(store.counts.evictions, 0);
}

/// Under pressure what is found is what was stored last, and the limit is kept.
#[test]
fn a_full_store_keeps_its_limit_and_never_lies() {
    let mut numbers = Numbers(7);
    let mut store = store(2 << 20, true);
    let mut map: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    for round in 0..60_000_u64 {
        let now = at(round);
        let key = format!("key-{}", numbers.below(20_000)).into_bytes();
        if numbers.below(2) == 0 {
            let length = if numbers.below(300) == 0 { numbers.below(200_000) } else { numbers.below(600) };
            let value = vec![round as u8; length as usize];
            set(&mut store, &key, &value, now).expect("something can be evicted");
            assert_eq!(get(&mut store, &key, now).as_ref(), Some(&value), "what was just stored is there");
            map.insert(key, value);
        } else if let Some(found) = get(&mut store, &key, now) {
            assert_eq!(Some(&found), map.get(&key));
        }
        if round % 100 == 0 {
            check(&store);
        }
    }
    assert!(store.counts.evictions > 1_000);
    assert!(store.live_bytes() > store.options.memory_bytes / 3, "{} live", store.live_bytes());
}

/// However many small items come and go, the index stays in proportion to those that are there.
#[test]
fn coming_and_going_does_not_swell_the_index() {
    let mut store = store(4 << 20, true);
    for round in 0..500_000_u64 {
        set(&mut store, format!("key-{round:012}").as_bytes(), &[b'v'; 32], at(0)).expect("room");
    }
    check(&store);
    assert!(store.index_bytes() < store.items() * 22, "{} for {}", store.index_bytes(), store.items());
    assert!(store.live_bytes() > store.options.memory_bytes * 3 / 4, "{} live", store.live_bytes());
}

/// What is asked for again and again outlives what nobody wants, many times the memory over.
#[test]
fn wanted_items_outlive_a_scan() {
    let mut store = store(2 << 20, true);
    for item in 0..200 {
        set(&mut store, format!("hot-{item}").as_bytes(), &[b'h'; 100], at(0)).expect("room");
    }
    for round in 0..60_000_u64 {
        set(&mut store, format!("cold-{round}").as_bytes(), &[b'c'; 100], at(round)).expect("room");
        get(&mut store, format!("hot-{}", round % 200).as_bytes(), at(round));
    }
    let kept = (0..200)
        .filter(|item| get(&mut store, format!("hot-{item}").as_bytes(), at(60_000)).is_some())
        .count();
    assert_eq!(kept, 200);
}

/// Overwriting a few keys with ever other lengths costs no one else his place.
#[test]
fn dead_bytes_are_found_before_live_ones_are_evicted() {
    let mut store = store(4 << 20, true);
    for item in 0..8_000 {
        set(&mut store, format!("still-{item}").as_bytes(), &[b's'; 100], at(0)).expect("room");
    }
    for round in 0..100_000_u64 {
        let value = vec![b'x'; 50 + round as usize % 200];
        set(&mut store, format!("busy-{}", round % 50).as_bytes(), &value, at(round)).expect("room");
    }
    assert_eq!(store.counts.evictions, 0);
    assert_eq!(store.items(), 8_050);
    check(&store);
}

#[test]
fn without_eviction_a_full_store_refuses() {
    let mut store = store(2 << 20, false);
    let mut stored = 0;
    while set(&mut store, format!("key-{stored}").as_bytes(), &[b'v'; 200], at(0)).is_ok() {
        stored += 1;
    }
    check(&store);
    assert_eq!(store.items(), stored);
    assert!(store.live_bytes() > store.options.memory_bytes / 2, "{} live", store.live_bytes());
    for item in 0..stored / 2 {
        let key = format!("key-{item}").into_bytes();
        let place = store.find(hash(&key, SEED), &key, at(0)).expect("nothing was evicted");
        store.remove(hash(&key, SEED), place);
    }
    for item in 0..stored / 4 {
        set(&mut store, format!("new-{item}").as_bytes(), &[b'v'; 200], at(0))
            .expect("room was made by hand");
    }
    check(&store);
}

#[test]
fn large_items_are_taken_as_they_are_and_have_a_second_chance() {
    let mut store = store(8 << 20, true);
    let whole = |key: &[u8], value: &[u8]| [&[0; HEAD_BYTES][..], key, value].concat();
    for item in 0..40_u8 {
        let key = [b'k', item];
        let cas = store.new_cas();
        let head = Head::new(0, 0, cas);
        let item = whole(&key, &vec![item; 500_000]);
        store.insert_whole(hash(&key, SEED), key.len(), item, head, at(0)).expect("room");
        assert!(get(&mut store, &[b'k', 0], at(0)).is_some(), "asked for each time");
        check(&store);
    }
    assert_eq!(get(&mut store, &[b'k', 39], at(0)), Some(vec![39; 500_000]));
    assert_eq!(get(&mut store, &[b'k', 5], at(0)), None);
}

#[test]
fn an_expiry_is_exact() {
    let mut store = store(2 << 20, true);
    let head = Head::new(0, at(5_000).ms, 1);
    store.insert(hash(b"k", SEED), b"k", b"v", head, at(0)).expect("room");
    assert!(get(&mut store, b"k", at(4_999)).is_some());
    assert!(get(&mut store, b"k", at(5_000)).is_none());
    assert_eq!((store.items(), store.counts.expired), (0, 1));
}

#[test]
fn a_flush_to_come_takes_what_is_there_when_it_comes() {
    let mut store = store(2 << 20, true);
    set(&mut store, b"before", b"v", at(0)).expect("room");
    store.flush(at(100).ms, at(0));
    set(&mut store, b"between", b"v", at(50)).expect("room");
    store.apply_flush(at(99));
    assert_eq!(store.items(), 2);
    store.apply_flush(at(100));
    set(&mut store, b"after", b"v", at(100)).expect("room");
    store.apply_flush(at(200));
    assert_eq!(store.items(), 1);
    check(&store);
}

#[test]
fn a_lower_limit_is_kept_at_once() {
    let mut store = store(8 << 20, true);
    for item in 0..20_000 {
        set(&mut store, format!("key-{item}").as_bytes(), &[b'v'; 200], at(0)).expect("room");
    }
    store.set_memory_limit(2 << 20, at(0));
    check(&store);
    assert!(store.items() > 1_000);
}

#[test]
fn an_index_that_many_small_items_left_gives_way() {
    let now = at(0);
    let mut store = store(8 << 20, true);
    for number in 0..150_000_u32 {
        set(&mut store, &number.to_le_bytes(), b"x", now).expect("room");
    }
    assert!(store.index_bytes() > 2 << 20);
    store.set_memory_limit(2 << 20, now);
    assert!(store.items() > 1000, "{} left", store.items());
    for number in 0..1000_u32 {
        set(&mut store, &number.to_be_bytes(), &[7; 100], now).expect("room");
    }
    check(&store);
}
