//! One daemon in this process: its configuration read, the service started, the daemon run until it is stopped.

use crate::cli::{Check, Common, Configured, Daemon, Database, Store};
use dbshard::config::EmptyFolder;
use ops::Service;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::path::{Path, PathBuf};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

pub(crate) fn run(daemon: Daemon, common: &Common) -> Result {
    match daemon {
        Daemon::Geodns(file) => serve("geodns", common, load(Some(&file.config))?, geodns::run),
        Daemon::Proxy(file) => serve("proxy", common, load(Some(&file.config))?, proxy::run),
        Daemon::Cachesrv(flags) => serve("cachesrv", common, flags.into_config()?, cachesrv::run),
        Daemon::Dbshard(flags) => {
            let accept_loss = flags.store.accept_loss;
            let config = dbshard_config(flags)?;
            serve("dbshard", common, config, |config, service| -> Result {
                repair_if(accept_loss, &config.data)?;
                Ok(dbshard::run(config, service)?)
            })
        }
        Daemon::Broker(store) => {
            let accept_loss = store.accept_loss;
            let config = broker_config(store)?;
            serve("broker", common, config, |config, service| -> Result {
                repair_if(accept_loss, &config.data)?;
                Ok(broker::run(config, service)?)
            })
        }
        Daemon::Web(file) => serve("web", common, load(file.config.as_deref())?, site::web::run),
        Daemon::Worker(file) => serve("worker", common, load(file.config.as_deref())?, site::worker::run),
    }
}

/// Starts the service, runs the daemon, and ends the service whatever came of it.
fn serve<C: Serialize, E: std::fmt::Display>(
    name: &'static str,
    common: &Common,
    config: C,
    run: impl FnOnce(C, &Service) -> std::result::Result<(), E>,
) -> Result {
    ops::logs::init(common.log_format.unwrap_or_default());
    let service =
        Service::start(ops::Options { name, admin: common.admin, config: ops::config::render(&config) })?;
    let result = run(config, &service);
    service.shutdown();
    result.map_err(|error| {
        let text = error.to_string();
        if text.starts_with(name) { text.into() } else { format!("{name}: {text}").into() }
    })
}

/// `--accept-loss`: repairs the logs of a data folder, saying what was given up.
fn repair_if(accept_loss: bool, data: &Path) -> Result {
    if !accept_loss {
        return Ok(());
    }
    for log in logs_in(data)? {
        let repair = runtime::block_on(&runtime::Options::default(), replog::repair(&log, true))??;
        repair.damage.iter().for_each(|damage| tracing::warn!("given up: {damage}"));
        match repair.kept_in {
            Some(kept) => {
                tracing::warn!("{} was cut; its files as they were are in {}", log.display(), kept.display());
            }
            None => tracing::info!("{} is whole, nothing was given up", log.display()),
        }
    }
    Ok(())
}

/// Where dbshard (`wal/N`) and broker (`shards/N/wal`) keep their logs.
fn logs_in(data: &Path) -> std::io::Result<Vec<PathBuf>> {
    let folders = |folder: PathBuf| match std::fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    let mut logs = folders(data.join("wal"))?;
    logs.extend(folders(data.join("shards"))?.into_iter().map(|shard| shard.join("wal")));
    logs.sort();
    Ok(logs)
}

fn load<C: DeserializeOwned>(file: Option<&Path>) -> Result<C> {
    match file {
        Some(file) => Ok(ops::config::load(file)?),
        None => Ok(ops::config::parse("", "the defaults")?),
    }
}

fn dbshard_config(Database { store, found, fill }: Database) -> Result<dbshard::Config> {
    let mut config: dbshard::Config = load(store.config.as_deref())?;
    store.data.into_iter().for_each(|data| config.data = data);
    store.listen.into_iter().for_each(|listen| config.listen = listen);
    match (&mut config.cluster, found, fill) {
        (_, false, false) => {}
        (Some(cluster), found, _) => {
            cluster.empty_folder = Some(if found { EmptyFolder::Found } else { EmptyFolder::Fill });
        }
        (None, ..) => return Err("--found and --fill are for nodes of a `[cluster]`".into()),
    }
    Ok(config)
}

fn broker_config(store: Store) -> Result<broker::Config> {
    let mut config: broker::Config = load(store.config.as_deref())?;
    store.data.into_iter().for_each(|data| config.data = data);
    store.listen.into_iter().for_each(|listen| config.listen = listen.to_string());
    Ok(config)
}

/// `millrace check`: the file is read as its daemon would, then validated.
pub(crate) fn check(arguments: &Check) -> Result {
    let path = &arguments.config;
    let daemon = match arguments.daemon {
        Some(daemon) => daemon,
        None => daemon_of(path)?,
    };
    let file = Some(path.as_path());
    match daemon {
        Configured::Geodns => load::<geodns::Config>(file)?.load().map(drop)?,
        Configured::Proxy => load::<proxy::Config>(file)?.validate()?,
        Configured::Dbshard => load::<dbshard::Config>(file)?.validate()?,
        Configured::Broker => load::<broker::Config>(file)?.validate().map(drop)?,
        Configured::Web => load::<site::WebConfig>(file)?.validate()?,
        Configured::Worker => load::<site::WorkerConfig>(file)?.validate()?,
    }
    println!("{}: a {} configuration, nothing wrong with it", path.display(), name_of(daemon));
    Ok(())
}

/// The daemon that a file is named after: `proxy.toml`, `web2.toml`.
fn daemon_of(path: &Path) -> std::result::Result<Configured, String> {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let name = stem.trim_end_matches(|last: char| last.is_ascii_digit());
    <Configured as clap::ValueEnum>::from_str(name, false).map_err(|_| {
        format!("{} is not named after a daemon; say whose configuration it is with --daemon", path.display())
    })
}

fn name_of(daemon: Configured) -> String {
    clap::ValueEnum::to_possible_value(&daemon).map(|value| value.get_name().to_owned()).unwrap_or_default()
}
