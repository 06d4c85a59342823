//! Random commands against a plain map: every answer of the cache is the map's.

mod pure;

use std::collections::HashMap;

use cachesrv::core::cache::CacheOptions;
use pure::{Connection, options};

struct Item {
    value: String,
    flags: u32,
    /// Milliseconds since the start; `None` for never.
    expiry: Option<u64>,
    cas: u64,
}

/// The cache as a map; one shard, so that its versions are 1, 2, 3, …
struct Model {
    items: HashMap<String, Item>,
    versions: u64,
    ms: u64,
}

impl Model {
    fn live(&mut self, key: &str) -> Option<&mut Item> {
        if self.items.get(key).is_some_and(|item| item.expiry.is_some_and(|expiry| expiry <= self.ms)) {
            self.items.remove(key);
        }
        self.items.get_mut(key)
    }

    fn expiry(&self, exptime: i32) -> Option<u64> {
        match exptime {
            0 => None,
            ..0 => Some(0),
            _ => Some(self.ms + exptime as u64 * 1000),
        }
    }

    fn version(&mut self) -> u64 {
        self.versions += 1;
        self.versions
    }

    fn put(&mut self, key: &str, value: String, flags: u32, exptime: i32) -> String {
        let (expiry, cas) = (self.expiry(exptime), self.version());
        self.items.insert(key.to_owned(), Item { value, flags, expiry, cas });
        "STORED\n".to_owned()
    }

    fn store(
        &mut self,
        name: &str,
        key: &str,
        value: String,
        flags: u32,
        exptime: i32,
        compare: u64,
    ) -> String {
        let cas = self.live(key).map(|item| item.cas);
        match (name, cas) {
            ("set", _) | ("add", None) | ("replace", Some(_)) => self.put(key, value, flags, exptime),
            ("cas", Some(cas)) if cas == compare => self.put(key, value, flags, exptime),
            ("cas", Some(_)) => "EXISTS\n".to_owned(),
            ("cas", None) => "NOT_FOUND\n".to_owned(),
            ("append" | "prepend", Some(_)) => {
                let cas = self.version();
                let item = self.live(key).expect("just seen");
                item.value = if name == "append" { item.value.clone() + &value } else { value + &item.value };
                item.cas = cas;
                "STORED\n".to_owned()
            }
            _ => "NOT_STORED\n".to_owned(),
        }
    }

    fn count(&mut self, name: &str, key: &str, delta: u64) -> String {
        let next = self.versions + 1;
        let Some(item) = self.live(key) else { return "NOT_FOUND\n".to_owned() };
        let Ok(number) = item.value.trim_end().parse::<u64>() else {
            return "CLIENT_ERROR cannot increment or decrement non-numeric value\n".to_owned();
        };
        let number = if name == "incr" { number.wrapping_add(delta) } else { number.saturating_sub(delta) };
        item.value = format!("{number:<width$}", width = item.value.len());
        item.cas = next;
        self.versions = next;
        format!("{number}\n")
    }

    fn get(&mut self, keys: &[&str], cas: bool) -> String {
        let mut answer = String::new();
        for key in keys {
            if let Some(item) = self.live(key) {
                answer += &format!("VALUE {key} {} {}", item.flags, item.value.len());
                if cas {
                    answer += &format!(" {}", item.cas);
                }
                answer += &format!("\n{}\n", item.value);
            }
        }
        answer + "END\n"
    }
}

struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len() as u64) as usize]
    }
}

#[test]
fn random_commands_answer_as_a_map_would() {
    for seed in 0..8 {
        run(seed);
    }
}

fn run(seed: u64) {
    let mut numbers = Numbers(seed);
    let mut connection = Connection::with(CacheOptions { memory_bytes: 16 << 20, ..options() });
    let mut model = Model { items: HashMap::new(), versions: 0, ms: 0 };
    for round in 0..4_000 {
        model.ms += numbers.below(400);
        connection.ms = model.ms;
        let key = format!("k{}", numbers.below(12));
        let exptime = [0, 0, 1, 3, -1][numbers.below(5) as usize];
        let (command, expected) = match numbers.below(20) {
            0..8 => {
                let name = numbers.pick(&["set", "set", "add", "replace", "append", "prepend", "cas"]);
                let value = match numbers.below(4) {
                    0 => numbers.below(2_000).to_string(),
                    1 => "x".repeat(numbers.below(3_000) as usize),
                    2 => "v".repeat(numbers.below(8) as usize),
                    _ => "y".repeat(40),
                };
                let compare = model.versions.saturating_sub(numbers.below(6));
                let tail = if name == "cas" { format!(" {compare}") } else { String::new() };
                let flags = numbers.below(1 << 32) as u32;
                let line = format!("{name} {key} {flags} {exptime} {}{tail}\n{value}\n", value.len());
                (line, model.store(name, &key, value, flags, exptime, compare))
            }
            8..10 => {
                let (name, delta) = (numbers.pick(&["incr", "decr"]), numbers.below(1_000));
                (format!("{name} {key} {delta}\n"), model.count(name, &key, delta))
            }
            10 => {
                let answer = if model.live(&key).is_some() { "DELETED\n" } else { "NOT_FOUND\n" };
                model.items.remove(&key);
                (format!("delete {key}\n"), answer.to_owned())
            }
            11 => {
                let expiry = model.expiry(exptime);
                let answer = match model.live(&key) {
                    Some(item) => {
                        item.expiry = expiry;
                        "TOUCHED\n"
                    }
                    None => "NOT_FOUND\n",
                };
                (format!("touch {key} {exptime}\n"), answer.to_owned())
            }
            12 if round % 40 == 0 => {
                model.items.clear();
                ("flush_all\n".to_owned(), "OK\n".to_owned())
            }
            12..15 => {
                let answer = model.get(&[&key], false);
                let expiry = model.expiry(exptime);
                if let Some(item) = model.live(&key) {
                    item.expiry = expiry;
                }
                (format!("gat {exptime} {key}\n"), answer)
            }
            15 => {
                let answer = match model.live(&key) {
                    Some(item) => {
                        format!("VA {} f{} c{}\n{}\n", item.value.len(), item.flags, item.cas, item.value)
                    }
                    None => "EN\n".to_owned(),
                };
                (format!("mg {key} v f c\n"), answer)
            }
            _ => (format!("gets {key} k1 k2\n"), model.get(&[&key, "k1", "k2"], true)),
        };
        assert_eq!(connection.ask(&command), expected, "seed {seed} round {round}: {command:?}");
    }
}
