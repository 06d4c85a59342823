//! The configuration of geodns: what an operator may set, its defaults, and what is refused before anything starts.
//!
//! What always holds: a [`Config`] that [`Config::load`] took can be served; every default is safe on a network nobody
//! trusts; times are milliseconds (TTLs seconds), sizes bytes, each said by its name.
//!
//! ```toml
//! listen = ["127.0.0.1:8053"]
//!
//! [[zone]]
//! name = "mysite.com"
//! file = "mysite.com.zone"
//!
//! [pool.web]
//! ttl_seconds = 30
//! members = [{ address = "192.0.2.10", weight = 3 }, { address = "192.0.2.20" }, { address = "2001:db8::10" }]
//!
//! [names]
//! "www.mysite.com" = "web"
//! "*.shops.mysite.com" = "web"
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wire::dns::Name;

use crate::Error;
use crate::core::pool::MEMBERS_MAX;
use crate::core::respond::Identity;
use crate::core::{Catalogue, Member, Pool, Responder, Zone};

/// The largest UDP response that may be set, in octets.
pub const UDP_RESPONSE_BYTES_MAX: u16 = 4096;
/// The longest TTL of a pool's answers, in seconds: a week. What is longer than that is a mistake where answers change.
pub const POOL_TTL_SECONDS_MAX: u32 = 604_800;

/// The whole configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Addresses to serve on, each over UDP and TCP. 127.0.0.1:8053 by default.
    #[serde(default = "default_listen")]
    pub listen: Vec<SocketAddr>,
    /// Cores to serve on; 0 is as many as this process may use.
    #[serde(default)]
    pub cores: usize,
    /// What `version.bind` and `version.server` in class CHAOS say; refused by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What `id.server` and `hostname.bind` in class CHAOS say; refused by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Sizes and numbers that bound what a peer can make the server hold.
    #[serde(default)]
    pub limits: Limits,
    /// Deadlines.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// The zones served; at least one.
    pub zone: Vec<ZoneConfig>,
    /// Groups of addresses, by name.
    #[serde(default)]
    pub pool: BTreeMap<String, PoolConfig>,
    /// Names (of zones above; a first label `*` is a wildcard) whose A and AAAA records come from a pool, and which.
    #[serde(default)]
    pub names: BTreeMap<String, String>,
}

/// A zone, from a file or from a text in the configuration.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneConfig {
    /// Its name: `mysite.com`.
    pub name: String,
    /// Its zone file (RFC 1035 §5), relative to the working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Or the text of a zone file itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Addresses of which each answer names one, by weight.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolConfig {
    /// How long an answer may be kept, in seconds; at most a week. 30 by default.
    #[serde(default = "default_ttl_seconds")]
    pub ttl_seconds: u32,
    /// The addresses: IPv4 for A, IPv6 for AAAA answers.
    pub members: Vec<MemberConfig>,
}

/// One address.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberConfig {
    /// IPv4 or IPv6.
    pub address: IpAddr,
    /// Its share relative to the others of its family; 0 takes it out. 1 by default.
    #[serde(default = "default_weight")]
    pub weight: u32,
}

/// Sizes and numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The largest UDP response in octets, 512 to 4096; larger answers are truncated and asked for again over TCP. 1232 by
    /// default, which passes without fragments wherever IPv6 does.
    pub udp_response_bytes_max: u16,
    /// TCP connections in all; one more is closed as soon as it comes. 10,000 by default.
    pub tcp_connections_max: usize,
}

/// Deadlines.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// How long a TCP connection may go without a whole query, and without taking its answers (RFC 7766 §6.2.3). 10,000
    /// milliseconds by default.
    pub tcp_idle_ms: u64,
    /// How long the end waits for connections to take their last answers. 5,000 milliseconds by default.
    pub drain_ms: u64,
}

fn default_listen() -> Vec<SocketAddr> {
    vec![SocketAddr::from(([127, 0, 0, 1], 8053))]
}

fn default_ttl_seconds() -> u32 {
    30
}

fn default_weight() -> u32 {
    1
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { udp_response_bytes_max: 1232, tcp_connections_max: 10_000 }
    }
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts { tcp_idle_ms: 10_000, drain_ms: 5_000 }
    }
}

/// No zone yet; all else as in a file that says nothing of it.
impl Default for Config {
    fn default() -> Config {
        Config {
            listen: default_listen(),
            cores: 0,
            version: None,
            identity: None,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            zone: Vec::new(),
            pool: BTreeMap::new(),
            names: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Checks everything, reads the zone files and prepares all answers.
    ///
    /// # Errors
    /// The first thing that can't be served, naming key or file.
    pub fn load(&self) -> Result<Responder, Error> {
        self.check_limits()?;
        let pools = self.pools()?;
        let zones = self.zones()?;
        let catalogue = Catalogue::build(&zones, &pools)?;
        tracing::info!(
            zones = zones.len(),
            names = catalogue.names_count(),
            pools = pools.len(),
            "zones loaded"
        );
        let identity = Identity { version: self.version.clone(), id: self.identity.clone() };
        Ok(Responder::new(Arc::new(catalogue), pools, &identity, self.limits.udp_response_bytes_max))
    }

    fn check_limits(&self) -> Result<(), Error> {
        if self.listen.is_empty() {
            return Err(Error::config("listen", "has no address; give one, \"127.0.0.1:8053\" for one"));
        }
        if self.zone.is_empty() {
            return Err(Error::config("zone", "there is none; add a [[zone]] with name and file"));
        }
        let bytes = self.limits.udp_response_bytes_max;
        if !(512..=UDP_RESPONSE_BYTES_MAX).contains(&bytes) {
            let problem = format!("is {bytes}; 512 to {UDP_RESPONSE_BYTES_MAX} can be set");
            return Err(Error::config("limits.udp_response_bytes_max", problem));
        }
        if self.limits.tcp_connections_max == 0 {
            let problem = "is 0, but every DNS server must speak TCP (RFC 7766); set 1 or more";
            return Err(Error::config("limits.tcp_connections_max", problem));
        }
        if self.timeouts.tcp_idle_ms == 0 {
            return Err(Error::config(
                "timeouts.tcp_idle_ms",
                "is 0, which would close every connection at once",
            ));
        }
        for (key, text) in [("version", &self.version), ("identity", &self.identity)] {
            if text.as_ref().is_some_and(|text| text.len() > 255) {
                return Err(Error::config(key, "is longer than the 255 octets of a string in DNS"));
            }
        }
        Ok(())
    }

    /// The pools in the order of their names.
    fn pools(&self) -> Result<Vec<Pool>, Error> {
        let pools = self.pool.iter().map(|(name, pool)| {
            let key = |field: &str| format!("pool.{name}.{field}");
            if pool.ttl_seconds > POOL_TTL_SECONDS_MAX {
                let problem = format!("is {}; at most {POOL_TTL_SECONDS_MAX}, a week", pool.ttl_seconds);
                return Err(Error::config(key("ttl_seconds"), problem));
            }
            if pool.members.len() > MEMBERS_MAX {
                let problem = format!("are {}; at most {MEMBERS_MAX}", pool.members.len());
                return Err(Error::config(key("members"), problem));
            }
            if pool.members.iter().all(|member| member.weight == 0) {
                let problem = "have none with a weight above 0, so that its names would have no address";
                return Err(Error::config(key("members"), problem));
            }
            let member = |member: &MemberConfig| Member { address: member.address, weight: member.weight };
            Ok(Pool::new(pool.ttl_seconds, &pool.members.iter().map(member).collect::<Vec<_>>()))
        });
        pools.collect()
    }

    fn zones(&self) -> Result<Vec<Zone>, Error> {
        let mut apexes = Vec::new();
        for (i, zone) in self.zone.iter().enumerate() {
            let apex = Name::from_absolute_text(&zone.name);
            apexes.push(apex.map_err(|why| Error::config(format!("zone[{i}].name"), why.to_string()))?);
        }
        let mut bound = vec![Vec::new(); apexes.len()];
        for (name, pool) in &self.names {
            let (zone, binding) = self.binding(name, pool, &apexes)?;
            bound[zone].push(binding);
        }
        let mut zones = Vec::new();
        for ((zone, apex), bound) in self.zone.iter().zip(&apexes).zip(&bound) {
            let (text, source_name) = zone.read()?;
            zones.push(Zone::load(apex, &text, &source_name, bound)?);
        }
        Ok(zones)
    }

    /// Which zone `name` lies in, and its pool's place.
    fn binding(&self, name: &str, pool: &str, apexes: &[Name]) -> Result<(usize, (Name, usize)), Error> {
        let key = || format!("names.\"{name}\"");
        let place = self.pool.keys().position(|have| have == pool);
        let place = place.ok_or_else(|| {
            let have: Vec<_> = self.pool.keys().map(String::as_str).collect();
            Error::config(key(), format!("there is no pool `{pool}`; there are: {}", have.join(", ")))
        })?;
        let parsed = Name::from_absolute_text(name).map_err(|why| Error::config(key(), why.to_string()))?;
        let around = apexes.iter().enumerate().filter(|(_, apex)| parsed.is_within(apex));
        match around.max_by_key(|(_, apex)| apex.labels()) {
            Some((zone, _)) => Ok((zone, (parsed, place))),
            None => Err(Error::config(key(), "lies in none of the zones")),
        }
    }
}

impl ZoneConfig {
    /// The zone file's text, and what to call it.
    fn read(&self) -> Result<(String, String), Error> {
        match (&self.file, &self.text) {
            (Some(file), None) => match std::fs::read_to_string(file) {
                Ok(text) => Ok((text, file.display().to_string())),
                Err(source) => {
                    let path = file.display().to_string();
                    Err(Error::ReadZone { zone: self.name.clone(), path, source })
                }
            },
            (None, Some(text)) => Ok((text.clone(), "text in the configuration".into())),
            _ => Err(Error::config(format!("zone {}", self.name), "needs either `file` or `text`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZONE: &str = "@ 60 SOA ns hostmaster 1 2 3 4 5\n@ 60 NS ns\nns A 192.0.2.53\n";

    fn config() -> Config {
        let zone = ZoneConfig { name: "mysite.com".into(), file: None, text: Some(ZONE.into()) };
        let members = vec![MemberConfig { address: "192.0.2.10".parse().unwrap(), weight: 1 }];
        Config {
            zone: vec![zone],
            pool: [("web".into(), PoolConfig { ttl_seconds: 30, members })].into(),
            names: [("www.mysite.com".into(), "web".into())].into(),
            ..Config::default()
        }
    }

    fn error(change: impl FnOnce(&mut Config)) -> String {
        let mut config = config();
        change(&mut config);
        config.load().unwrap_err().to_string()
    }

    #[test]
    fn the_example_of_this_file_is_read() {
        let text: String = include_str!("config.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("//! "))
            .skip_while(|line| *line != "```toml")
            .skip(1)
            .take_while(|line| *line != "```")
            .map(|line| format!("{line}\n"))
            .collect();
        let config: Config = ops::config::parse(&text, "example").unwrap();
        assert_eq!(config.pool["web"].members[1].weight, 1);
        assert_eq!(config.names.len(), 2);
        let again: Config = ops::config::parse(&ops::config::render(&config), "rendered").unwrap();
        assert_eq!(again.zone[0].file, config.zone[0].file);
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = ops::config::parse::<Config>("zone = []\nlisten_on = []\n", "f.toml").unwrap_err();
        assert!(error.to_string().contains("f.toml:2:1: unknown key `listen_on`"), "{error}");
    }

    #[test]
    fn refusals_name_the_key_and_what_would_be_right() {
        assert!(config().load().is_ok());
        assert_eq!(
            error(|c| c.zone.clear()),
            "configuration: zone: there is none; add a [[zone]] with name and file"
        );
        assert!(error(|c| c.listen.clear()).starts_with("configuration: listen: has no address"));
        assert_eq!(
            error(|c| drop(c.names.insert("a.mysite.com".into(), "wen".into()))),
            "configuration: names.\"a.mysite.com\": there is no pool `wen`; there are: web"
        );
        assert_eq!(
            error(|c| drop(c.names.insert("www.other.com".into(), "web".into()))),
            "configuration: names.\"www.other.com\": lies in none of the zones"
        );
        assert!(error(|c| c.limits.udp_response_bytes_max = 100).contains("is 100; 512 to 4096 can be set"));
        assert!(error(|c| c.limits.tcp_connections_max = 0).contains("RFC 7766"));
        assert!(error(|c| c.pool.get_mut("web").unwrap().members[0].weight = 0).contains("weight above 0"));
        assert!(error(|c| c.pool.get_mut("web").unwrap().members.clear()).contains("weight above 0"));
        assert!(error(|c| c.pool.get_mut("web").unwrap().ttl_seconds = 700_000).contains("a week"));
        assert!(
            error(|c| c.zone[0].name = "my..site".into())
                .starts_with("configuration: zone[0].name: an empty label")
        );
        assert!(error(|c| c.zone[0].text = None).contains("needs either `file` or `text`"));
        assert!(
            error(|c| c.zone[0].text = Some("@ 60 NS ns\n".into()))
                .contains("has no SOA record at mysite.com.")
        );
        let missing = error(|c| {
            c.zone[0] = ZoneConfig { name: "mysite.com".into(), file: Some("/nowhere/z".into()), text: None };
        });
        assert!(missing.starts_with("zone mysite.com: cannot read /nowhere/z: No such file"), "{missing}");
    }
}
