//! Syncs as the disk sees them: flush requests of the block device, counted by the kernel and not by the server.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the files of durable servers are: beside this program, in the workspace's target folder, which is on a disk where
/// the folder for temporary files may not be.
pub(crate) fn target_folder() -> PathBuf {
    let this = std::env::current_exe().ok();
    this.and_then(|path| Some(path.parent()?.to_owned())).unwrap_or_else(std::env::temp_dir)
}

/// The block device under a folder.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    stat: PathBuf,
}

impl Disk {
    /// None where the folder is on no block device: a temporary file system has nothing to sync.
    pub(crate) fn under(folder: &Path) -> Option<Disk> {
        let device = fs::metadata(folder).ok()?.dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let stat = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/stat"));
        stat.exists().then_some(Disk { stat })
    }

    /// Flush requests completed since the machine started (the kernel's documentation, block/stat: the 16th field), by
    /// whomever. A write with forced unit access, where a disk has that, is not among them.
    pub(crate) fn flushes(&self) -> u64 {
        let stat = fs::read_to_string(&self.stat).unwrap_or_default();
        stat.split_whitespace().nth(15).and_then(|field| field.parse().ok()).unwrap_or_default()
    }
}
