//! The command line. Flags are the field's own: memcached's for `cachesrv`.

use clap::{Args, Parser, Subcommand, ValueEnum};
use ops::logs::Format;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Runs a site from its first user to its millionth: DNS, load balancer, cache, database, message broker.
#[derive(Debug, Parser)]
#[command(name = "millrace", version, propagate_version = true, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every subcommand takes.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Where a daemon's admin endpoint listens (/metrics /healthz /readyz /config), e.g. 127.0.0.1:8902. None by default.
    #[arg(long, global = true, value_name = "ADDR")]
    pub(crate) admin: Option<SocketAddr>,
    /// How logs look: auto (text on a terminal, the journal under systemd, JSON otherwise), text, json or journald.
    #[arg(long, global = true, value_name = "FORMAT", value_parser = log_format)]
    pub(crate) log_format: Option<Format>,
}

fn log_format(text: &str) -> Result<Format, String> {
    match text {
        "auto" => Ok(Format::Auto),
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        "journald" => Ok(Format::Journald),
        _ => Err("write auto, text, json or journald".into()),
    }
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, for as long as the process lives")]
pub(crate) enum Command {
    /// Runs the whole site on this machine, every daemon a process of its own. Ctrl-C stops it cleanly.
    Up(Up),
    #[command(flatten)]
    Daemon(Daemon),
    /// Reads a configuration file as its daemon would and says what is wrong with it.
    Check(Check),
    /// Looks into the write-ahead logs of dbshard and broker, without changing anything.
    #[command(subcommand)]
    Wal(Wal),
}

/// `millrace wal`.
#[derive(Debug, Subcommand)]
pub(crate) enum Wal {
    /// Says what lies in a log: segments, groups with their entries, terms, votes and members, and whatever is damaged.
    ///
    /// It works on a folder in use too; what its daemon writes meanwhile may then look damaged.
    Inspect(Inspect),
    /// Checks every checksum of a log. Where something is wrong it says what, in which segment at which byte, and which
    /// entries of which groups it has hit, and ends with exit code 1.
    ///
    /// A torn tail is no damage: a crash leaves it, nothing of it was ever acknowledged, and the next start cuts it off.
    /// A folder in use is refused: stop its daemon first, or verify a copy. What is corrupt comes back from the other
    /// members of its groups, if there are any, or from a copy; --accept-loss of the daemon gives it up.
    Verify(Verify),
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// Lists every batch too, with its records.
    #[arg(long)]
    pub(crate) batches: bool,
    /// The log's folder, or one above: a data folder has a log for each core (dbshard: wal/N, broker: shards/N/wal).
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The log's folder, or one above, such as a daemon's data folder.
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
}

/// `millrace up`.
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Where everything is kept.
    #[arg(long, value_name = "DIR", default_value = "millrace-data")]
    pub(crate) data: PathBuf,
    /// Added to every port, a multiple of 1000: two sites share a machine.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = offset)]
    pub(crate) offset: u16,
}

/// The largest port of the site is 19092.
const OFFSET_MAX: u16 = 46_000;

fn offset(text: &str) -> Result<u16, String> {
    let offset: u16 = text.parse().map_err(|_| format!("write a number from 0 to {OFFSET_MAX}"))?;
    if offset > OFFSET_MAX || !offset.is_multiple_of(1000) {
        return Err(format!("write a multiple of 1000 from 0 to {OFFSET_MAX}"));
    }
    Ok(offset)
}

/// One daemon in this process.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, for as long as the process lives")]
pub(crate) enum Daemon {
    /// DNS: zones from files, pools of weighted addresses.
    Geodns(ConfigFile),
    /// HTTP reverse proxy and load balancer, with TLS.
    Proxy(ConfigFile),
    /// memcached: classic text and meta commands, memcached's own flags.
    Cachesrv(cachesrv::Flags),
    /// The key-value store: RESP and Redis Cluster; every OK is on disk.
    Dbshard(Database),
    /// The message broker: Kafka's protocol; every acks=all is on disk.
    Broker(Store),
    /// A web server of the reference site.
    Web(OptionalConfigFile),
    /// A photo worker of the reference site.
    Worker(OptionalConfigFile),
}

#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// The configuration, TOML.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct OptionalConfigFile {
    /// The configuration, TOML; defaults without it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// A daemon with a data folder. Flags win over the file.
#[derive(Debug, Args)]
pub(crate) struct Store {
    /// The data folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Where to listen, IP:PORT.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// The configuration, TOML; defaults without it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Repairs a damaged log first, by giving up what is damaged and all that was written after it. The files are kept as
    /// they were in the folder `damaged` beside them.
    #[arg(long)]
    pub(crate) accept_loss: bool,
}

/// dbshard's flags.
#[derive(Debug, Args)]
pub(crate) struct Database {
    #[command(flatten)]
    pub(crate) store: Store,
    /// For the very first start of all nodes of a cluster: with an empty data folder, this one founds it with the others.
    #[arg(long, conflicts_with = "fill")]
    pub(crate) found: bool,
    /// For a node whose data folder was lost: with an empty one, it is filled by the others.
    #[arg(long)]
    pub(crate) fill: bool,
}

/// `millrace check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The file to read.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Whose configuration it is; by default the one the file is named after (proxy.toml).
    #[arg(long, value_enum)]
    pub(crate) daemon: Option<Configured>,
}

/// The daemons with configuration files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Configured {
    Geodns,
    Proxy,
    Dbshard,
    Broker,
    Web,
    Worker,
}
