//! What files and folders ask of the host, besides the driver's operations.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub(super) use std::fs::{File, OpenOptions, copy, create_dir_all, read, remove_file, rename};

/// Opens with `flags` of open(2) besides.
pub(super) fn open(options: &mut OpenOptions, flags: i32, path: &Path) -> io::Result<File> {
    options.custom_flags(flags).open(path)
}

pub(super) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// Takes the space for a range, or says that there is none.
pub(super) fn reserve(file: &File, offset: u64, len: u64) -> io::Result<()> {
    // SAFETY: no pointers.
    let code = unsafe { libc::posix_fallocate(file.as_raw_fd(), offset as i64, len as i64) };
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// What is in a folder, in any order.
pub(super) fn paths(folder: &Path) -> io::Result<Vec<PathBuf>> {
    std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect()
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes or opens a file and locks it for this process, until it is closed; `WouldBlock` when another has it.
pub(super) fn open_locked(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    // SAFETY: no pointers.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}
