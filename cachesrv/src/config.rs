//! The settings. Every one has memcached's default, save that it listens on loopback only and runs a thread per core.
//!
//! ```toml
//! listen = ["127.0.0.1:11211"]    # or "unix:/run/cachesrv.sock"
//! memory_bytes = 67108864         # items and index together
//! connections_max = 1024
//! item_bytes_max = 1048576
//! ```

use runtime::net::Address;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The smallest `item_bytes_max`.
const ITEM_BYTES_LEAST: u64 = 1 << 10;
/// The largest `item_bytes_max`.
const ITEM_BYTES_MOST: u64 = 1 << 30;
/// The smallest `memory_bytes`.
const MEMORY_BYTES_LEAST: u64 = 1 << 20;
/// The most threads.
const THREADS_MOST: usize = 1024;

/// What `cachesrv` runs with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where it listens: `IP:PORT`, `[IPv6]:PORT` or `unix:/path`. Port 0 takes a free one.
    pub listen: Vec<String>,
    /// Permission bits of a Unix socket's file.
    pub unix_mode: u32,
    /// The limit on items and index together, in bytes.
    pub memory_bytes: u64,
    /// Whether a full cache evicts; if not, it refuses new items.
    pub evict: bool,
    /// Open connections at a time; one more is told so and closed.
    pub connections_max: usize,
    /// Threads, each with its own listeners; 0 for one per core.
    pub threads: usize,
    /// The longest item, its key and 28 bytes of head included; 1 KiB to 1 GiB, at most half of `memory_bytes`.
    pub item_bytes_max: u64,
    /// Connections that the kernel holds before they are accepted.
    pub backlog: u32,
    /// Whether items have versions (`gets`, `cas`).
    pub cas: bool,
    /// Whether `flush_all` is obeyed.
    pub flush_all: bool,
    /// Whether `shutdown` is obeyed.
    pub shutdown_command: bool,
    /// Whether `stats sizes` answers from the start.
    pub track_sizes: bool,
    /// 1 logs errors of connections, 2 also their coming and going.
    pub verbosity: u32,
    /// Connections that send nothing for so long are closed, in seconds; 0 for never.
    pub idle_timeout_s: u64,
    /// How long running requests may take when the service stops, in milliseconds.
    pub drain_ms: u64,
    /// Whether io_uring is not even tried.
    pub epoll: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: vec!["127.0.0.1:11211".to_owned()],
            unix_mode: 0o700,
            memory_bytes: 64 << 20,
            evict: true,
            connections_max: 1024,
            threads: 0,
            item_bytes_max: 1 << 20,
            backlog: 1024,
            cas: true,
            flush_all: true,
            shutdown_command: false,
            track_sizes: false,
            verbosity: 0,
            idle_timeout_s: 0,
            drain_ms: 5_000,
            epoll: false,
        }
    }
}

impl Config {
    /// The addresses, all read.
    pub(crate) fn addresses(&self) -> Result<Vec<Address>, Error> {
        if self.listen.is_empty() {
            return Err(Error::Config("`listen` is empty: name at least one address".to_owned()));
        }
        let read = |text: &String| text.parse().map_err(|error| Error::Config(format!("`listen`: {error}")));
        self.listen.iter().map(read).collect()
    }

    /// How many threads it will be.
    pub(crate) fn cores(&self) -> usize {
        if self.threads == 0 { runtime::cores() } else { self.threads }
    }

    /// Refuses what can't work, naming the setting.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |text: String| Err(Error::Config(text));
        self.addresses()?;
        if self.threads > THREADS_MOST {
            return refuse(format!("`threads` is {}: at most {THREADS_MOST}", self.threads));
        }
        if self.connections_max == 0 {
            return refuse("`connections_max` is 0: nobody could connect".to_owned());
        }
        if self.memory_bytes < MEMORY_BYTES_LEAST || usize::try_from(self.memory_bytes).is_err() {
            return refuse(format!("`memory_bytes` is {}: at least {MEMORY_BYTES_LEAST}", self.memory_bytes));
        }
        let item = self.item_bytes_max;
        if !(ITEM_BYTES_LEAST..=ITEM_BYTES_MOST).contains(&item) {
            return refuse(format!(
                "`item_bytes_max` is {item}: from {ITEM_BYTES_LEAST} to {ITEM_BYTES_MOST}"
            ));
        }
        if item > self.memory_bytes / 2 {
            return refuse(format!(
                "`item_bytes_max` is {item}: at most half of `memory_bytes`, which is {}",
                self.memory_bytes
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_survives_toml() {
        let config = Config::default();
        config.validate().expect("valid");
        let text = ops::config::render(&config);
        assert_eq!(ops::config::parse::<Config>(&text, "test").expect("its own text"), config);
    }

    #[test]
    fn what_cannot_work_is_named() {
        let of = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.validate().expect_err("refused").to_string()
        };
        assert!(of(|config| config.listen.clear()).contains("`listen` is empty"));
        assert!(of(|config| config.listen = vec!["nowhere".to_owned()]).contains("nowhere"));
        assert!(of(|config| config.item_bytes_max = 100).contains("`item_bytes_max` is 100"));
        assert!(of(|config| config.item_bytes_max = 40 << 20).contains("half of `memory_bytes`"));
        assert!(of(|config| config.memory_bytes = 0).contains("`memory_bytes`"));
        let unknown =
            ops::config::parse::<Config>("memory = 1", "test").expect_err("unknown key").to_string();
        assert!(unknown.contains("memory"), "{unknown}");
    }
}
