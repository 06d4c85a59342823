//! A node against a simple model: random commands, pipelined, over restarts and checkpoints; every reply must agree.

mod node;

use std::collections::BTreeMap;

use dbshard::Config;
use node::{Client, Dice, Node, config, show};

#[derive(Clone, Debug)]
enum Held {
    Text(String),
    Fields(BTreeMap<String, String>),
}

/// What Redis's documentation says, over a map. Expiry only as far as it does not pass while the test runs.
#[derive(Default)]
struct Model {
    keys: BTreeMap<String, (Held, bool)>,
}

const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";
const NO_INTEGER: &str = "ERR value is not an integer or out of range";

fn flag(yes: bool) -> String {
    u8::from(yes).to_string()
}

impl Model {
    fn text(&self, key: &str) -> Result<Option<&String>, String> {
        match self.keys.get(key) {
            None => Ok(None),
            Some((Held::Text(text), _)) => Ok(Some(text)),
            Some(_) => Err(WRONG_TYPE.into()),
        }
    }

    fn fields(&mut self, key: &str) -> Result<Option<&mut BTreeMap<String, String>>, String> {
        match self.keys.get_mut(key) {
            None => Ok(None),
            Some((Held::Fields(fields), _)) => Ok(Some(fields)),
            Some(_) => Err(WRONG_TYPE.into()),
        }
    }

    fn set(&mut self, key: &str, text: String) {
        let expires = self.keys.get(key).is_some_and(|(_, expires)| *expires);
        self.keys.insert(key.into(), (Held::Text(text), expires));
    }

    fn run(&mut self, words: &[&str]) -> String {
        self.answer(words).unwrap_or_else(|error| error)
    }

    fn answer(&mut self, words: &[&str]) -> Result<String, String> {
        let nil = || "nil".to_owned();
        Ok(match *words {
            ["GET", key] => self.text(key)?.cloned().unwrap_or_else(nil),
            ["SET", key, value] => {
                self.keys.insert(key.into(), (Held::Text(value.into()), false));
                "OK".into()
            }
            ["SET", key, value, "NX"] => {
                if self.keys.contains_key(key) {
                    return Ok(nil());
                }
                self.run(&["SET", key, value])
            }
            ["SET", key, value, "KEEPTTL"] => {
                self.set(key, value.into());
                "OK".into()
            }
            ["GETSET", key, value] => {
                let old = self.text(key)?.cloned().unwrap_or_else(nil);
                self.run(&["SET", key, value]);
                old
            }
            ["GETDEL", key] => {
                let old = self.text(key)?.cloned();
                if old.is_some() {
                    self.keys.remove(key);
                }
                old.unwrap_or_else(nil)
            }
            ["APPEND", key, suffix] => {
                let text = self.text(key)?.cloned().unwrap_or_default() + suffix;
                let length = text.len().to_string();
                self.set(key, text);
                length
            }
            ["STRLEN", key] => self.text(key)?.map_or(0, String::len).to_string(),
            ["INCRBY", key, by] => {
                let old: i64 = match self.text(key)? {
                    None => 0,
                    Some(text) => text.parse().map_err(|_| NO_INTEGER)?,
                };
                let new = old + by.parse::<i64>().expect("a number");
                self.set(key, new.to_string());
                new.to_string()
            }
            ["DEL", key] => flag(self.keys.remove(key).is_some()),
            ["EXISTS", key] => flag(self.keys.contains_key(key)),
            ["TYPE", key] => match self.keys.get(key) {
                None => "none".into(),
                Some((Held::Text(_), _)) => "string".into(),
                Some((Held::Fields(_), _)) => "hash".into(),
            },
            ["EXPIRE", key, "100000"] => {
                flag(self.keys.get_mut(key).map(|(_, expires)| *expires = true).is_some())
            }
            ["EXPIRE", key, "-1"] => flag(self.keys.remove(key).is_some()),
            ["PERSIST", key] => {
                flag(self.keys.get_mut(key).is_some_and(|(_, expires)| std::mem::take(expires)))
            }
            ["HSET", key, field, value] => {
                let new = match self.fields(key)? {
                    Some(fields) => fields.insert(field.into(), value.into()).is_none(),
                    None => {
                        let fields = BTreeMap::from([(field.to_owned(), value.to_owned())]);
                        self.keys.insert(key.into(), (Held::Fields(fields), false));
                        true
                    }
                };
                flag(new)
            }
            ["HGET", key, field] => {
                self.fields(key)?.and_then(|fields| fields.get(field).cloned()).unwrap_or_else(nil)
            }
            ["HDEL", key, field] => {
                let Some(fields) = self.fields(key)? else { return Ok(flag(false)) };
                let gone = fields.remove(field).is_some();
                if fields.is_empty() {
                    self.keys.remove(key);
                }
                flag(gone)
            }
            ["HLEN", key] => self.fields(key)?.map_or(0, |fields| fields.len()).to_string(),
            ["DBSIZE"] => self.keys.len().to_string(),
            ["FLUSHALL"] => {
                self.keys.clear();
                "OK".into()
            }
            _ => unreachable!("{words:?}"),
        })
    }
}

fn random_command(dice: &mut Dice) -> Vec<String> {
    let key = format!("key{}", dice.below(60));
    let fields = if dice.below(4) == 0 { 400 } else { 5 };
    let field = format!("field{}", dice.below(fields));
    let value = match dice.below(10) {
        0 => "x".repeat(dice.below(40_000) as usize),
        1..4 => dice.below(1000).to_string(),
        _ => format!("value{}", dice.below(1_000_000)),
    };
    let words: Vec<&str> = match dice.below(40) {
        0..4 => vec!["SET", &key, &value],
        4 => vec!["SET", &key, &value, "NX"],
        5 => vec!["SET", &key, &value, "KEEPTTL"],
        6..10 => vec!["GET", &key],
        10 => vec!["GETSET", &key, &value],
        11 => vec!["GETDEL", &key],
        12..15 => vec!["APPEND", &key, &value],
        15 => vec!["STRLEN", &key],
        16..20 => vec!["INCRBY", &key, "7"],
        20..22 => vec!["DEL", &key],
        22 => vec!["EXISTS", &key],
        23 => vec!["TYPE", &key],
        24..26 => vec!["EXPIRE", &key, "100000"],
        26 => vec!["EXPIRE", &key, "-1"],
        27 => vec!["PERSIST", &key],
        28..33 => vec!["HSET", &key, &field, &value],
        33..36 => vec!["HGET", &key, &field],
        36..38 => vec!["HDEL", &key, &field],
        38 => vec!["HLEN", &key],
        _ if dice.below(150) == 0 => vec!["FLUSHALL"],
        _ => vec!["DBSIZE"],
    };
    words.into_iter().map(str::to_owned).collect()
}

fn compare_all(client: &mut Client, model: &mut Model) {
    assert_eq!(client.line("DBSIZE"), model.keys.len().to_string());
    for (key, (held, expires)) in model.keys.clone() {
        match held {
            Held::Text(text) => assert_eq!(client.line(&format!("GET {key}")), text),
            Held::Fields(fields) => {
                assert_eq!(client.line(&format!("HLEN {key}")), fields.len().to_string());
                for (field, value) in fields {
                    assert_eq!(client.line(&format!("HGET {key} {field}")), value);
                }
            }
        }
        assert_eq!(client.line(&format!("TTL {key}")) != "-1", expires, "{key}");
    }
}

#[test]
fn the_node_agrees_with_the_model() {
    for seed in [1, 2] {
        let folder = tempfile::tempdir().expect("folder");
        let (mut dice, mut model) = (Dice(seed), Model::default());
        for _life in 0..3 {
            let node = Node::with(Config { checkpoint_log_bytes: 300_000, ..config(folder.path()) });
            let mut client = node.client();
            compare_all(&mut client, &mut model);
            for _ in 0..40 {
                let commands: Vec<Vec<String>> =
                    (0..=dice.below(100)).map(|_| random_command(&mut dice)).collect();
                let mut request = Vec::new();
                commands.iter().for_each(|command| wire::resp::value::request(&mut request, command));
                client.send(&request);
                for command in commands {
                    let words: Vec<&str> = command.iter().map(String::as_str).collect();
                    assert_eq!(show(&client.reply()), model.run(&words), "seed {seed}: {words:.60?}");
                }
            }
            compare_all(&mut client, &mut model);
            node.stop();
        }
    }
}
