//! A file system that forgets what was not synced, for tests of what a loss of power leaves.
//!
//! `kill -9` says nothing about syncs, since the kernel keeps what a dead process has written. Here a test says when the
//! power goes: everything that no sync, synchronous write or sync of a folder has made durable is gone, and the rest is
//! served on, so that the program under test can be started again on it.
//!
//! ```text
//! forgetful FOLDER                               mounts it there, all in memory, and serves until it is unmounted
//! echo lose-power      > FOLDER/.forgetful       the power goes; done when the write returns
//! echo lose-power 42   > FOLDER/.forgetful       the same, and some unsynced sectors reach the disk, drawn from the seed
//! echo syncs ignored   > FOLDER/.forgetful       syncs do nothing and say that they have: the test must fail now
//! echo syncs failing   > FOLDER/.forgetful       syncs, and writes that sync, fail with EIO
//! echo syncs honest    > FOLDER/.forgetful
//! ```
//!
//! The map: `tree` is the whole of the rules, pure; `pages` a file's content; `serve` answers the kernel.
#![forbid(unsafe_code)]

mod pages;
mod serve;
mod tree;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};

pub use serve::CONTROL_NAME;
pub use tree::Syncs;

use serve::Server;
use tree::Tree;

/// The most bytes that files may hold unless told otherwise; zeros are not counted.
pub const BYTES_MAX: u64 = 4 << 30;

/// The file system, mounted and served by a thread of this process. Unmounted when dropped.
#[derive(Debug)]
pub struct Mounted {
    path: PathBuf,
    tree: Arc<Mutex<Tree>>,
    session: Option<fuser::BackgroundSession>,
}

impl Mounted {
    /// Mounts it on the folder at `path`.
    ///
    /// # Errors
    /// When /dev/fuse is not there, or mounting is not permitted: it takes root, or `fusermount3`.
    pub fn on(path: impl AsRef<Path>, bytes_max: u64) -> io::Result<Mounted> {
        let path = path.as_ref().canonicalize()?;
        let tree = Arc::new(Mutex::new(Tree::new(bytes_max)));
        let session = fuser::spawn_mount(Server { tree: tree.clone() }, &path, &config())?;
        Ok(Mounted { path, tree, session: Some(session) })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everything that was not synced is gone. With a seed, each unsynced 512-byte sector is drawn to have reached the disk
    /// or not.
    pub fn lose_power(&self, survivors: Option<u64>) {
        self.tree().lose_power(survivors);
    }

    /// What syncs do from now on.
    pub fn set_syncs(&self, syncs: Syncs) {
        self.tree().syncs = syncs;
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().expect("nothing panics while it holds the tree")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        // Lazily: a process that still has a file open there must not keep the mount.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.path).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("forgetful: {} stays mounted", self.path.display());
        }
        drop(session);
    }
}

/// Mounts it on the folder at `path`, says so on standard output, and serves until it is unmounted.
///
/// # Errors
/// As [`Mounted::on`].
pub fn serve(path: &Path, bytes_max: u64) -> io::Result<()> {
    let mut mounted = Mounted::on(path, bytes_max)?;
    println!("mounted on {}", mounted.path().display());
    mounted.session.take().map_or(Ok(()), fuser::BackgroundSession::join)
}

fn config() -> fuser::Config {
    let mut config = fuser::Config::default();
    config.mount_options = vec![
        fuser::MountOption::FSName("forgetful".to_owned()),
        fuser::MountOption::DefaultPermissions,
        fuser::MountOption::NoAtime,
    ];
    config
}
