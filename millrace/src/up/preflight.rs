//! What is refused before anything starts, each with one line: ports in use, a folder that can't be written, a site
//! that runs in it already.

use super::Error;
use super::plan::Ports;
use rustix::fs::FlockOperation;
use std::fs::File;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

/// How the children talk to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Ring,
    Epoll,
}

/// Says so once, here, if io_uring is not permitted; the children are then told to use epoll without each saying it.
pub(crate) fn backend() -> Backend {
    match runtime::io_uring_permitted() {
        Ok(()) => Backend::Ring,
        Err(error) => {
            tracing::warn!(
                "io_uring is not permitted here ({error}); the site runs on epoll, slower and just as right. It needs Linux 6.1 \
                 or later, sysctl kernel.io_uring_disabled=0 and a container profile that allows io_uring_setup"
            );
            Backend::Epoll
        }
    }
}

/// Every port of the site can be bound.
pub(crate) fn ports_are_free(ports: &Ports) -> Result<(), Error> {
    for (name, address) in ports.all() {
        TcpListener::bind(address).map_err(|error| in_use(&name, "TCP", address, &error))?;
    }
    let (name, address) = ports.udp();
    UdpSocket::bind(address).map_err(|error| in_use(&name, "UDP", address, &error))?;
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
