//! memcached's own command line.
//!
//! What always holds: a flag that people type at memcached is understood. It does what it does there, or `--help` says
//! that it is without effect, or it is refused with a line that says why; none is taken in silence.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use crate::{Config, Error};

/// The heading of what is understood and does nothing.
const WITHOUT_EFFECT: &str = "Taken for compatibility, without effect";

/// Suboptions of `-o` that tune machinery which is not here.
const OPTIONS_WITHOUT_EFFECT: [&str; 38] = [
    "maxconns_fast",
    "no_maxconns_fast",
    "hashpower",
    "tail_repair_time",
    "hash_algorithm",
    "lru_crawler",
    "no_lru_crawler",
    "lru_crawler_sleep",
    "lru_crawler_tocrawl",
    "read_buf_mem_limit",
    "resp_obj_mem_limit",
    "lru_maintainer",
    "no_lru_maintainer",
    "hot_lru_pct",
    "warm_lru_pct",
    "hot_max_factor",
    "warm_max_factor",
    "temporary_ttl",
    "slab_reassign",
    "no_slab_reassign",
    "slab_automove",
    "no_slab_automove",
    "slab_automove_ratio",
    "slab_automove_window",
    "slab_automove_freeratio",
    "slab_chunk_max",
    "slab_sizes",
    "watcher_logbuf_size",
    "worker_logbuf_size",
    "no_hashexpand",
    "inline_ascii_resp",
    "no_inline_ascii_resp",
    "no_chunked_items",
    "drop_privileges",
    "no_drop_privileges",
    "modern",
    "no_modern",
    "sock_cookie_id",
];

/// Flags as memcached takes them; [`Flags::into_config`] gives the settings.
#[derive(Debug, Clone, clap::Args)]
#[command(about = "A cache for memcached's clients: classic text and meta commands", long_about = None)]
pub struct Flags {
    /// TCP port to listen on
    #[arg(short = 'p', long = "port", value_name = "NUM", default_value_t = 11211)]
    port: u16,
    /// UDP port; UDP is not there yet, so only 0 (off) is taken
    #[arg(short = 'U', long = "udp-port", value_name = "NUM", default_value_t = 0)]
    udp_port: u16,
    /// Unix socket to listen on, instead of TCP
    #[arg(short = 's', long = "unix-socket", value_name = "FILE")]
    unix_socket: Option<std::path::PathBuf>,
    /// Access mask of the Unix socket, in octal
    #[arg(short = 'a', long = "unix-mask", value_name = "MASK", default_value = "700")]
    unix_mask: String,
    /// Enable the "shutdown" command
    #[arg(short = 'A', long = "enable-shutdown")]
    enable_shutdown: bool,
    /// Addresses to listen on, with commas between or given again, a port after a colon (memcached's default is
    /// every interface; this one's is loopback)
    #[arg(short = 'l', long = "listen", value_name = "ADDR", value_delimiter = ',')]
    listen: Vec<String>,
    /// Memory for items and their index, in MiB
    #[arg(short = 'm', long = "memory-limit", value_name = "MIB", default_value_t = 64)]
    memory_limit: u64,
    /// Answer with an error when memory is used up, instead of evicting
    #[arg(short = 'M', long = "disable-evictions")]
    disable_evictions: bool,
    /// Connections at a time
    #[arg(short = 'c', long = "conn-limit", value_name = "NUM", default_value_t = 1024)]
    conn_limit: usize,
    /// Threads (default: one per core)
    #[arg(short = 't', long = "threads", value_name = "NUM")]
    threads: Option<usize>,
    /// The longest item, key and head included, in bytes or with k or m after it (1k to 1024m)
    #[arg(short = 'I', long = "max-item-size", value_name = "SIZE", default_value = "1m")]
    max_item_size: String,
    /// Verbose: errors of connections; twice: also their coming and going
    #[arg(short = 'v', long = "verbose", action = clap::ArgAction::Count)]
    verbose: u8,
    /// Backlog of the listening sockets
    #[arg(short = 'b', long = "listen-backlog", value_name = "NUM", default_value_t = 1024)]
    listen_backlog: u32,
    /// Protocol: auto or ascii; binary is not there yet
    #[arg(short = 'B', long = "protocol", value_name = "NAME", default_value = "auto")]
    protocol: String,
    /// Disable versions of items (cas)
    #[arg(short = 'C', long = "disable-cas")]
    disable_cas: bool,
    /// Disable the "flush_all" command
    #[arg(short = 'F', long = "disable-flush-all")]
    disable_flush_all: bool,
    /// Suboptions with commas between: idle_timeout=SECONDS, track_sizes; memcached's others on LRU, slabs and hash
    /// table are without effect
    #[arg(short = 'o', long = "extended", value_name = "LIST", value_delimiter = ',')]
    extended: Vec<String>,

    /// Requests per event: here one receive buffer of requests is answered at a time
    #[arg(short = 'R', long = "max-reqs-per-event", value_name = "NUM", help_heading = WITHOUT_EFFECT)]
    max_reqs_per_event: Option<u32>,
    /// Run as a daemon: stays in the foreground, for a service manager to start
    #[arg(short = 'd', long = "daemon", help_heading = WITHOUT_EFFECT)]
    daemon: bool,
    /// User to become: start it as that user
    #[arg(short = 'u', long = "user", value_name = "USER", help_heading = WITHOUT_EFFECT)]
    user: Option<String>,
    /// File for the process id: belongs to -d
    #[arg(short = 'P', long = "pidfile", value_name = "FILE", help_heading = WITHOUT_EFFECT)]
    pidfile: Option<std::path::PathBuf>,
    /// Core dumps: `ulimit -c` sets their limit
    #[arg(short = 'r', long = "enable-coredumps", help_heading = WITHOUT_EFFECT)]
    enable_coredumps: bool,
    /// Lock memory in RAM
    #[arg(short = 'k', long = "lock-memory", help_heading = WITHOUT_EFFECT)]
    lock_memory: bool,
    /// Slab growth: there are no slabs
    #[arg(short = 'f', long = "slab-growth-factor", value_name = "NUM", help_heading = WITHOUT_EFFECT)]
    slab_growth_factor: Option<f64>,
    /// Smallest slab: there are no slabs
    #[arg(short = 'n', long = "slab-min-size", value_name = "BYTES", help_heading = WITHOUT_EFFECT)]
    slab_min_size: Option<u32>,
    /// Large pages
    #[arg(short = 'L', long = "enable-largepages", help_heading = WITHOUT_EFFECT)]
    enable_largepages: bool,
    /// Delimiter of key prefixes: there are no figures by prefix
    #[arg(short = 'D', value_name = "CHAR", help_heading = WITHOUT_EFFECT)]
    prefix_delimiter: Option<char>,
    /// Disable dumps of keys: there are none
    #[arg(short = 'X', long = "disable-dumping", help_heading = WITHOUT_EFFECT)]
    disable_dumping: bool,
    /// Disable "watch": there is none
    #[arg(short = 'W', long = "disable-watch", help_heading = WITHOUT_EFFECT)]
    disable_watch: bool,

    /// SASL: refused, it is not there yet
    #[arg(short = 'S', long = "enable-sasl", hide = true)]
    enable_sasl: bool,
    /// Refused, it is not there yet
    #[arg(short = 'Y', long = "auth-file", value_name = "FILE", hide = true)]
    auth_file: Option<String>,
    /// Refused, it is not there yet
    #[arg(short = 'Z', long = "enable-ssl", hide = true)]
    enable_ssl: bool,
    /// Refused, it is not there yet
    #[arg(short = 'e', long = "memory-file", value_name = "FILE", hide = true)]
    memory_file: Option<String>,
}

impl Flags {
    /// The settings these flags ask for, not yet validated.
    ///
    /// # Errors
    /// [`Error::Config`] for what can't be read, and for what is not there yet and may not be ignored: UDP, the
    /// binary protocol, SASL, authentication, TLS, warm restart.
    pub fn into_config(self) -> Result<Config, Error> {
        self.refuse_what_is_missing()?;
        let listen = match &self.unix_socket {
            Some(path) => vec![format!("unix:{}", path.display())],
            None => self.addresses()?,
        };
        let unix_mode = u32::from_str_radix(&self.unix_mask, 8)
            .ok()
            .filter(|mode| *mode <= 0o777)
            .ok_or_else(|| Error::Config(format!("-a {}: not an octal access mask", self.unix_mask)))?;
        let mut config = Config {
            listen,
            unix_mode,
            memory_bytes: self.memory_limit.saturating_mul(1 << 20),
            evict: !self.disable_evictions,
            connections_max: self.conn_limit,
            threads: self.threads.unwrap_or(0),
            item_bytes_max: parse_size(&self.max_item_size)?,
            backlog: self.listen_backlog,
            cas: !self.disable_cas,
            flush_all: !self.disable_flush_all,
            shutdown_command: self.enable_shutdown,
            verbosity: u32::from(self.verbose),
            ..Config::default()
        };
        if self.threads == Some(0) {
            return Err(Error::Config("-t 0: number of threads must be greater than 0".to_owned()));
        }
        for option in &self.extended {
            apply_option(&mut config, option)?;
        }
        Ok(config)
    }

    fn refuse_what_is_missing(&self) -> Result<(), Error> {
        let missing = [
            (self.udp_port != 0, "-U: UDP is not there yet; leave it out or use -U 0"),
            (self.enable_sasl, "-S: SASL is not there yet; guard the port by a firewall instead"),
            (
                self.auth_file.is_some(),
                "-Y: authentication is not there yet; guard the port by a firewall instead",
            ),
            (self.enable_ssl, "-Z: TLS is not there yet; put a TLS proxy in front"),
            (self.memory_file.is_some(), "-e: restart with a memory file is not there yet"),
            (self.protocol == "binary", "-B binary: the binary protocol is not there yet; use -B ascii"),
            (
                !["auto", "ascii", "binary"].contains(&self.protocol.as_str()),
                "-B: one of auto, ascii (binary is not there yet)",
            ),
        ];
        match missing.iter().find(|(asked, _)| *asked) {
            Some((_, text)) => Err(Error::Config((*text).to_owned())),
            None => Ok(()),
        }
    }

    fn addresses(&self) -> Result<Vec<String>, Error> {
        if self.listen.is_empty() {
            return Ok(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)).to_string()]);
        }
        let mut all = Vec::new();
        for text in &self.listen {
            for address in read_address(text, self.port)? {
                let address = address.to_string();
                if !all.contains(&address) {
                    all.push(address);
                }
            }
        }
        Ok(all)
    }
}

/// `ADDR`, `ADDR:PORT`, `[IPv6]`, `[IPv6]:PORT`, or a host name in place of the address.
fn read_address(text: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(vec![address]);
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, digits)) => match digits.parse() {
            Ok(port) => (host, port),
            Err(_) => return Err(Error::Config(format!("-l {text}: `{digits}` is no port"))),
        },
        None => (text, port),
    };
    let found =
        (host, port).to_socket_addrs().map_err(|error| Error::Config(format!("-l {text}: {error}")))?;
    Ok(found.collect())
}

/// Bytes, or KiB or MiB with k or m after the number.
fn parse_size(text: &str) -> Result<u64, Error> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes.ok_or_else(|| Error::Config(format!("-I {text}: not a size in bytes, k or m")))
}

fn apply_option(config: &mut Config, option: &str) -> Result<(), Error> {
    let (name, value) = option.split_once('=').unwrap_or((option, ""));
    match name {
        "idle_timeout" => {
            config.idle_timeout_s = value
                .parse()
                .map_err(|_| Error::Config(format!("-o idle_timeout={value}: not a number of seconds")))?;
        }
        "track_sizes" => config.track_sizes = true,
        name if OPTIONS_WITHOUT_EFFECT.contains(&name) => {}
        name => return Err(Error::Config(format!("-o {name}: no such suboption, or not there yet"))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        flags: Flags,
    }

    fn config(arguments: &str) -> Result<Config, Error> {
        let all = std::iter::once("cachesrv").chain(arguments.split_whitespace());
        Command::try_parse_from(all).expect("clap takes them").flags.into_config()
    }

    #[test]
    fn no_flags_are_the_default() {
        assert_eq!(config("").expect("valid"), Config::default());
    }

    #[test]
    fn flags_set_what_they_set_in_memcached() {
        let set = config(
            "-p 1234 -l 127.0.0.2,[::1],127.0.0.1:99 -m 128 -M -c 9 -t 3 -I 2m -vv -b 7 -C -F -A -o track_sizes,idle_timeout=5",
        )
        .expect("valid");
        let expected = Config {
            listen: vec!["127.0.0.2:1234".to_owned(), "[::1]:1234".to_owned(), "127.0.0.1:99".to_owned()],
            memory_bytes: 128 << 20,
            evict: false,
            connections_max: 9,
            threads: 3,
            item_bytes_max: 2 << 20,
            verbosity: 2,
            backlog: 7,
            cas: false,
            flush_all: false,
            shutdown_command: true,
            track_sizes: true,
            idle_timeout_s: 5,
            ..Config::default()
        };
        assert_eq!(set, expected);
    }

    #[test]
    fn a_unix_socket_stands_instead_of_tcp() {
        let set = config("-s /tmp/m.sock -a 0770").expect("valid");
        assert_eq!((set.listen, set.unix_mode), (vec!["unix:/tmp/m.sock".to_owned()], 0o770));
    }

    #[test]
    fn what_has_no_effect_is_taken() {
        let idle = "-d -u nobody -P /tmp/x -r -k -f 1.1 -n 48 -L -D : -X -W -R 20 -U 0 -B ascii -o modern,hashpower=20";
        assert_eq!(config(idle).expect("valid"), Config::default());
    }

    #[test]
    fn what_is_missing_is_refused() {
        for (arguments, word) in [
            ("-U 11211", "UDP"),
            ("-S", "SASL"),
            ("-Y /x", "-Y"),
            ("-Z", "TLS"),
            ("-e /x", "-e"),
            ("-B binary", "binary"),
            ("-B x", "-B"),
            ("-o ext_path=/x", "ext_path"),
            ("-I 1x", "-I"),
            ("-a 9", "-a"),
            ("-t 0", "-t"),
            ("-l 127.0.0.1:x", "-l"),
        ] {
            let text = config(arguments).expect_err(arguments).to_string();
            assert!(text.contains(word), "{arguments}: {text}");
        }
    }
}
