//! What is refused before anything starts, each with one line: ports in use, a folder that can't be written, a site
//! that runs in it already.

use super::Error;
use super::plan::Ports;
use runtime::net::{ListenOptions, bind_udp, listen};
use rustix::fs::FlockOperation;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// How the children talk to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Ring,
    Epoll,
}

/// What is permitted here. Where it is epoll, the runtime of `up` itself has said so; the children are told, so that not
/// each says it again.
pub(crate) fn backend() -> Backend {
    if runtime::io_uring_permitted().is_ok() { Backend::Ring } else { Backend::Epoll }
}

/// Every port of the site can be bound.
pub(crate) fn ports_are_free(ports: &Ports) -> Result<(), Error> {
    for (name, address) in ports.all() {
        let free = listen(&address.into(), 1, &ListenOptions::default());
        free.map_err(|error| in_use(&name, "TCP", address, &error))?;
    }
    let (name, address) = ports.udp();
    bind_udp(address, 1).map_err(|error| in_use(&name, "UDP", address, &error))?;
    Ok(())
}

fn in_use(name: &str, protocol: &str, address: SocketAddr, error: &std::io::Error) -> Error {
    Error(format!(
        "{protocol} port {} of {name} cannot be opened on {}: {error}; stop who has it, or move the whole site with --offset 1000",
        address.port(),
        address.ip()
    ))
}

/// The data folder, kept from other sites while it lives.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes the folder if it is not there, and takes it.
pub(crate) fn data_folder(path: &Path) -> Result<DataFolder, Error> {
    let refused = |error: std::io::Error| {
        Error(format!(
            "cannot write the data folder {}: {error}; name another with --data DIR",
            path.display()
        ))
    };
    std::fs::create_dir_all(path).map_err(refused)?;
    let path = path.canonicalize().map_err(refused)?;
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path.join("up.lock"))
        .map_err(refused)?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Error(format!(
            "another `millrace up` runs in the data folder {}; stop it, or name another with --data DIR",
            path.display()
        ))
    })?;
    Ok(DataFolder { path, _lock: lock })
}
