//! Folders and whole files.

use super::system::{self, File};
use crate::blocking;
use std::io;
use std::path::{Path, PathBuf};

/// The whole of a file.
///
/// # Errors
/// What open(2) and read(2) say.
pub async fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let path = path.as_ref().to_owned();
    blocking(move || system::read(path)).await
}

/// Replaces the file at `path` by `bytes`, wholly or not at all, also across power loss: a temporary file beside it,
/// sync, rename, sync of the folder.
///
/// # Errors
/// What those calls say; the old file is then still there.
pub async fn write_atomic(path: impl AsRef<Path>, bytes: impl Into<Vec<u8>>) -> io::Result<()> {
    let (path, bytes) = (path.as_ref().to_owned(), bytes.into());
    blocking(move || {
        let mut temporary = path.clone().into_os_string();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        let file = File::create(&temporary)?;
        system::write_all_at(&file, &bytes, 0)?;
        file.sync_all()?;
        system::rename(&temporary, &path)?;
        sync_parent(&path)
    })
    .await
}

/// Copies a file, the copy durable when it resolves; an existing one is overwritten.
///
/// # Errors
/// What open(2), read(2), write(2) and fsync(2) say.
pub async fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let (from, to) = (from.as_ref().to_owned(), to.as_ref().to_owned());
    blocking(move || {
        system::copy(&from, &to)?;
        File::open(&to)?.sync_all()?;
        sync_parent(&to)
    })
    .await
}

/// Renames a file and syncs the folders.
///
/// # Errors
/// What rename(2) and fsync(2) say.
pub async fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let (from, to) = (from.as_ref().to_owned(), to.as_ref().to_owned());
    blocking(move || {
        system::rename(&from, &to)?;
        sync_parent(&to)?;
        if from.parent() == to.parent() { Ok(()) } else { sync_parent(&from) }
    })
    .await
}

/// Removes a file and syncs its folder.
///
/// # Errors
/// What unlink(2) and fsync(2) say.
pub async fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    blocking(move || {
        system::remove_file(&path)?;
        sync_parent(&path)
    })
    .await
}

/// Makes a folder and those above it, each durable.
///
/// # Errors
/// What mkdir(2) and fsync(2) say.
pub async fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    blocking(move || {
        system::create_dir_all(&path)?;
        // Whichever of them are new, their names are in the folder above.
        path.ancestors().take_while(|folder| folder.parent().is_some()).try_for_each(sync_parent)
    })
    .await
}

/// The paths in a folder, sorted.
///
/// # Errors
/// What opendir(3) and readdir(3) say.
pub async fn read_dir(path: impl AsRef<Path>) -> io::Result<Vec<PathBuf>> {
    let path = path.as_ref().to_owned();
    blocking(move || {
        let mut paths = system::paths(&path)?;
        paths.sort();
        Ok(paths)
    })
    .await
}

/// Makes the names in a folder durable.
///
/// # Errors
/// What open(2) and fsync(2) say.
pub async fn sync_dir(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    blocking(move || system::sync_folder(&path)).await
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => system::sync_folder(Path::new(".")),
        Some(parent) => system::sync_folder(parent),
        None => Ok(()),
    }
}

/// Keeps other processes out of a folder until it is dropped (flock(2) on its file `LOCK`).
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

/// Locks a folder for this process.
///
/// # Errors
/// `WouldBlock` when another process has it; what open(2) says.
pub async fn lock_dir(path: impl AsRef<Path>) -> io::Result<DirLock> {
    let path = path.as_ref().join("LOCK");
    blocking(move || {
        let file = system::open_locked(&path)?;
        Ok(DirLock { _file: file })
    })
    .await
}
