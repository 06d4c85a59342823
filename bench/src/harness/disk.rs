//! Syncs as the disk sees them: flush requests of the block device, counted by the kernel and not by the server.

use crate::error::Error;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the files of durable servers are: beside this program, in the workspace's target folder, which is on a disk where
/// the folder for temporary files may not be.
pub(crate) fn target_folder() -> PathBuf {
    let this = std::env::current_exe().ok();
    this.and_then(|path| Some(path.parent()?.to_owned())).unwrap_or_else(std::env::temp_dir)
}

/// Takes a folder's files out of the page cache: what is read of them next comes from the disk. What is not yet on the disk
/// is synced first, as only clean pages can go.
///
/// # Errors
/// When a file can't be read or synced.
pub(crate) fn drop_cached(folder: &Path) -> Result<(), Error> {
    let failed = |path: &Path| Error::io(format!("dropping {} from the page cache", path.display()));
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        let path = entry.map_err(failed(folder))?.path();
        if path.is_dir() {
            drop_cached(&path)?;
        } else if path.is_file() {
            let file = match File::open(&path) {
                // The server goes on: a file of a moment ago may be gone.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                opened => opened.map_err(failed(&path))?,
            };
            file.sync_data().map_err(failed(&path))?;
            let advised = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
            advised.map_err(|error| failed(&path)(error.into()))?;
        }
    }
    Ok(())
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
