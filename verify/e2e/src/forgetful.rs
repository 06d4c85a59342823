//! A folder on a file system that forgets what was not synced when its power is cut (verify/forgetful).

use crate::process::Process;
use crate::{program, wait_for};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// The mounted file system; unmounted when dropped.
pub struct Forgetful {
    server: Process,
    folder: TempDir,
}

impl Forgetful {
    /// Mounts one. It needs root and /dev/fuse.
    ///
    /// # Panics
    /// When it can't be mounted.
    pub fn mount() -> Forgetful {
        let folder = tempfile::tempdir().expect("a folder");
        let mut server = Process::start("forgetful", Command::new(program("forgetful")).arg(folder.path()));
        wait_for("the forgetful file system", || {
            assert!(server.ended().is_none(), "it needs root and /dev/fuse: {}", server.output());
            server.output().contains("mounted on").then_some(())
        });
        Forgetful { server, folder }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Forgets what was not synced; `seed` chooses what survives of it, torn.
    pub fn lose_power(&self, seed: u64) {
        self.command(&format!("lose-power {seed}"));
    }

    /// From now on syncs are answered and not done: what a daemon without them would get.
    pub fn ignore_syncs(&self) {
        self.command("syncs ignored");
    }

    /// From now on syncs fail.
    pub fn fail_syncs(&self) {
        self.command("syncs failing");
    }

    fn command(&self, command: &str) {
        let control = self.path().join(".forgetful");
        let mut control = std::fs::File::options().write(true).open(control).expect("the control file");
        control.write_all(command.as_bytes()).unwrap_or_else(|error| panic!("{command}: {error}"));
    }
}

impl Drop for Forgetful {
    fn drop(&mut self) {
        // Lazily: a killed daemon's last descriptor may still be closing.
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
        if self.server.ended().is_none() {
            self.server.kill();
        }
    }
}
