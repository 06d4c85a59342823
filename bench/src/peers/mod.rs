//! Who is compared: our own command, and the peers' programs as Debian has them or as they are named.
//!
//! What always holds: a version is what the program itself says; a peer that was asked for and is not there is an error,
//! one that was not asked for is a gap.

use crate::error::Error;
use crate::harness::result::Gap;
use crate::harness::server::{Launch, Place, free_addresses};
use crate::harness::{Contestant, Started};
use crate::settings::Settings;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A peer's program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    /// As it is called here and on the command line.
    pub(crate) name: &'static str,
    pub(crate) program: &'static str,
    /// The Debian package that has it.
    pub(crate) package: &'static str,
    /// What makes it say its version.
    pub(crate) version: &'static [&'static str],
}

pub(crate) const MEMCACHED: Peer =
    Peer { name: "memcached", program: "memcached", package: "memcached", version: &["--version"] };

pub(crate) const NGINX: Peer = Peer { name: "nginx", program: "nginx", package: "nginx", version: &["-v"] };

pub(crate) const HAPROXY: Peer =
    Peer { name: "haproxy", program: "haproxy", package: "haproxy", version: &["-v"] };
pub(crate) const ETCD: Peer =
    Peer { name: "etcd", program: "etcd", package: "etcd-server", version: &["--version"] };

pub(crate) const NATS: Peer =
    Peer { name: "nats-server", program: "nats-server", package: "nats-server", version: &["--version"] };

pub(crate) const REDIS: Peer =
    Peer { name: "redis", program: "redis-server", package: "redis-server", version: &["--version"] };

pub(crate) const GDNSD: Peer =
    Peer { name: "gdnsd", program: "gdnsd", package: "gdnsd", version: &["version"] };

pub(crate) const KNOT: Peer =
    Peer { name: "knot", program: "knotd", package: "knot", version: &["--version"] };

/// Where programs for administrators are, which a user's PATH may lack.
const MORE_FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// A program that is there.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// The peer's name, with the version behind it when several versions run.
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) path: PathBuf,
    pub(crate) peer: &'static str,
}

impl Found {
    /// It as one that is compared.
    pub(crate) fn contestant(
        self,
        start: impl Fn(&Found, Place) -> Result<Started, Error> + 'static,
    ) -> Contestant {
        let (name, version) = (self.name.clone(), self.version.clone());
        Contestant { name, version, start: Box::new(move |place| start(&self, place)) }
    }

    /// Its command, on the place's CPUs.
    pub(crate) fn launch(
        &self,
        place: &Place,
        arguments: impl IntoIterator<Item = impl Into<String>>,
        ready: SocketAddr,
    ) -> Launch {
        Launch {
            name: self.name.clone(),
            program: self.path.clone(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            cpus: place.cpus.clone(),
            ready,
        }
    }

    /// Starts a daemon of ours with a thread for each of `every_cpu`, as is its default; see [`Started::confined`]. The
    /// server's other address is that of its admin endpoint.
    pub(crate) fn start_all_threads(
        &self,
        place: Place,
        every_cpu: &str,
        arguments: impl IntoIterator<Item = impl Into<String>>,
        ready: SocketAddr,
    ) -> Result<Started, Error> {
        let admin = free_addresses(1)?[0];
        let mut launch = self.launch(&place, arguments, ready);
        launch.arguments.extend(["--admin".to_owned(), admin.to_string()]);
        let mut started = Started::confined(place, every_cpu, vec![launch])?;
        started.server.others.push(admin);
        Ok(started)
    }
}

/// The programs to run of `peers`: Debian's and those named by `--peer`; and what is not there.
///
/// # Errors
/// When `--peers` or `--peer` names what the scenario does not know, or a peer that is not installed and can't be.
pub(crate) fn find(settings: &Settings, peers: &[Peer]) -> Result<(Vec<Found>, Vec<Gap>), Error> {
    let known: Vec<&str> = peers.iter().map(|peer| peer.name).collect();
    let asked = settings.peers.iter().flatten().map(String::as_str);
    let named = settings.binaries.iter().map(|binary| binary.name.as_str()).filter(|name| *name != OURS);
    if let Some(unknown) = asked.chain(named).find(|name| !known.contains(name)) {
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(Error::Usage(format!("no peer `{unknown}` in this scenario; there are: {known}")));
    }
    let (mut found, mut gaps) = (Vec::new(), Vec::new());
    for peer in peers {
        let is_asked = settings.peers.as_ref().map(|asked| asked.iter().any(|name| name == peer.name));
        let mut binaries: Vec<PathBuf> = Vec::new();
        if is_asked != Some(false) {
            match on_path(peer.program) {
                Some(path) => binaries.push(path),
                None if settings.install_peers => {
                    install(peer.package)?;
                    binaries.extend(on_path(peer.program));
                }
                None if is_asked == Some(true) => {
                    return Err(Error::NotInstalled { peer: peer.name.to_owned() });
                }
                None => gaps.push(Gap {
                    case: String::new(),
                    contestant: peer.name.to_owned(),
                    reason: "not installed; --install-peers installs it".to_owned(),
                }),
            }
        }
        let others = settings.binaries.iter().filter(|binary| binary.name == peer.name);
        binaries.extend(others.map(|binary| binary.path.clone()));
        let several = binaries.len() > 1;
        for path in binaries {
            let version = version(&path, peer.version)?;
            let name = if several { format!("{} {version}", peer.name) } else { peer.name.to_owned() };
            found.push(Found { name, version, path, peer: peer.name });
        }
    }
    Ok((found, gaps))
}

/// Our own name in tables.
pub(crate) const OURS: &str = "millrace";

/// Our command, built now as this program was; then other builds of it that were named.
///
/// # Errors
/// When it does not build.
pub(crate) fn ours(settings: &Settings) -> Result<Vec<Found>, Error> {
    let this = std::env::current_exe().map_err(Error::io("finding this program"))?;
    let release = this.components().any(|part| part.as_os_str() == "release");
    if !release && !settings.small {
        return Err(Error::Usage(
            "figures come from release builds: cargo run --release -p bench".to_owned(),
        ));
    }
    let built = match &settings.ours {
        Some(path) => path.clone(),
        None => build(release, &this)?,
    };
    let mut found = vec![Found {
        name: OURS.to_owned(),
        version: version(&built, &["--version"])?,
        path: built,
        peer: OURS,
    }];
    for (number, binary) in settings.binaries.iter().filter(|binary| binary.name == OURS).enumerate() {
        let version = version(&binary.path, &["--version"])?;
        found.push(Found {
            name: format!("{OURS} #{}", number + 2),
            version,
            path: binary.path.clone(),
            peer: OURS,
        });
    }
    Ok(found)
}

/// Builds our command beside this program.
fn build(release: bool, this: &Path) -> Result<PathBuf, Error> {
    println!("building millrace");
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--package", "millrace", "--manifest-path"]);
    build.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"));
    if release {
        build.arg("--release");
    }
    if !build.status().map_err(Error::io("starting cargo"))?.success() {
        return Err(Error::Usage("millrace does not build; see above".to_owned()));
    }
    Ok(this.with_file_name("millrace"))
}

/// The program on PATH or in the administrators' folders.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(MORE_FOLDERS.iter().map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Installs a Debian package.
pub(crate) fn install(package: &str) -> Result<(), Error> {
    println!("installing {package}");
    let status = Command::new("apt-get")
        .args(["-q", "install", "-y", "--no-install-recommends", package])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .status()
        .map_err(Error::io("starting apt-get"))?;
    if !status.success() {
        return Err(Error::Usage(format!(
            "{package} can't be installed; try `apt-get update`, or install it by hand"
        )));
    }
    Ok(())
}

/// The first word with a digit and a dot in what the program says of itself.
pub(crate) fn version(program: &Path, arguments: &[&str]) -> Result<String, Error> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(Error::io(format!("asking {} for its version", program.display())))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let words = said.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '~')));
    let version = words
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
    version.map(str::to_owned).ok_or_else(|| {
        Error::Usage(format!("{} {} names no version", program.display(), arguments.join(" ")))
    })
}
