//! The twin of the files' `system` module: the calls of `std::fs` that are made, on the simulated disk of the calling node.

use super::names::{Entry, NameChange, absolute};
use super::{Disk, InodeId, Open, What};
use crate::sim::kernel::{Kernel, NodeId, kernel, try_kernel};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};

fn errno<T>(errno: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(errno))
}

/// Runs `call` on the caller's disk.
fn on_disk<T>(call: impl FnOnce(&Kernel, &mut Disk, NodeId) -> Result<T, i32>) -> io::Result<T> {
    let kernel = kernel();
    let Some(node) = kernel.caller() else { return errno(libc::EIO) };
    let mut disks = kernel.disks.borrow_mut();
    call(&kernel, &mut disks[node], node).map_err(io::Error::from_raw_os_error)
}

/// As `std::fs::OpenOptions`.
#[derive(Debug, Clone, Default)]
pub(crate) struct OpenOptions {
    read: bool,
    write: bool,
    create: bool,
    create_new: bool,
    truncate: bool,
}

impl OpenOptions {
    pub(crate) fn new() -> OpenOptions {
        OpenOptions::default()
    }

    pub(crate) fn read(&mut self, on: bool) {
        self.read = on;
    }

    pub(crate) fn write(&mut self, on: bool) {
        self.write = on;
    }

    pub(crate) fn create(&mut self, on: bool) {
        self.create = on;
    }

    pub(crate) fn create_new(&mut self, on: bool) {
        self.create_new = on;
    }

    pub(crate) fn truncate(&mut self, on: bool) {
        self.truncate = on;
    }
}

/// An open file; closed when dropped.
#[derive(Debug)]
pub(crate) struct File {
    fd: RawFd,
}

impl Drop for File {
    fn drop(&mut self) {
        if let Some(kernel) = try_kernel() {
            kernel.disk_close(self.fd);
        }
    }
}

impl AsRawFd for File {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

pub(crate) struct Metadata {
    len: u64,
}

impl Metadata {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }
}

impl File {
    pub(crate) fn open(path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true);
        open(&mut options, 0, path)
    }

    pub(crate) fn create(path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true);
        options.create(true);
        options.truncate(true);
        open(&mut options, 0, path)
    }

    pub(crate) fn sync_all(&self) -> io::Result<()> {
        on_disk(|kernel, disk, node| {
            let inode = disk.open.get(&self.fd).ok_or(libc::EBADF)?.inode;
            let mark = disk.inodes[&inode].mark();
            kernel.sync(disk, node, inode, mark)
        })
    }

    pub(crate) fn set_len(&self, len: u64) -> io::Result<()> {
        on_disk(|kernel, disk, node| {
            kernel.disk_step(disk, node)?;
            let open = disk.open.get(&self.fd).ok_or(libc::EBADF)?;
            let id = open.inode;
            kernel.note("set length", id, len);
            disk.inodes.get_mut(&id).expect("an open file").change(What::Len(len), false);
            Ok(())
        })
    }

    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
        on_disk(|_, disk, _| {
            let inode = disk.open.get(&self.fd).ok_or(libc::EBADF)?.inode;
            Ok(Metadata { len: disk.inodes[&inode].seen.len() })
        })
    }
}

/// Opens with `flags` of open(2) besides.
pub(crate) fn open(options: &mut OpenOptions, flags: i32, path: &Path) -> io::Result<File> {
    on_disk(|kernel, disk, node| {
        let path = absolute(path);
        let inode = match disk.entry(&path) {
            Some(_) if options.create_new => return Err(libc::EEXIST),
            Some(Entry::Folder) => return Err(libc::EISDIR),
            Some(Entry::File(inode)) => inode,
            None if options.create || options.create_new => make(kernel, disk, node, &path)?,
            None => return Err(libc::ENOENT),
        };
        if options.truncate && disk.inodes[&inode].seen.len() > 0 {
            kernel.disk_step(disk, node)?;
            disk.inodes.get_mut(&inode).expect("a named file").change(What::Len(0), false);
        }
        let fd = kernel.new_fd();
        let open = Open {
            inode,
            readable: options.read,
            writable: options.write,
            direct: flags & libc::O_DIRECT != 0,
            dsync: flags & libc::O_DSYNC != 0,
        };
        disk.open.insert(fd, open);
        Ok(File { fd })
    })
}

fn make(kernel: &Kernel, disk: &mut Disk, node: NodeId, path: &Path) -> Result<InodeId, i32> {
    if !path.parent().is_some_and(|parent| disk.has_folder(parent)) {
        return Err(libc::ENOENT);
    }
    kernel.disk_step(disk, node)?;
    let id = disk.next_inode;
    disk.next_inode += 1;
    disk.inodes.insert(id, super::Inode::default());
    disk.change_name(NameChange::Made(path.to_owned(), Entry::File(id)));
    kernel.note("create", node as u64, id);
    Ok(id)
}

pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    on_disk(|kernel, disk, node| {
        let Some(open) = disk.open.get(&file.fd).filter(|open| open.writable) else {
            return Err(libc::EBADF);
        };
        let (inode, durable, direct) = (open.inode, open.dsync, open.direct);
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            done += kernel.write(disk, node, inode, at, &bytes[done..], durable, direct)?;
        }
        Ok(())
    })
}

/// Takes the space for a range, or says that there is none.
pub(crate) fn reserve(file: &File, offset: u64, len: u64) -> io::Result<()> {
    on_disk(|kernel, disk, node| {
        kernel.disk_step(disk, node)?;
        let Some(open) = disk.open.get(&file.fd).filter(|open| open.writable) else {
            return Err(libc::EBADF);
        };
        let id = open.inode;
        let end = offset + len;
        let grows = end.saturating_sub(disk.inodes[&id].seen.len());
        if disk.used_bytes() + grows > disk.faults.capacity_bytes {
            kernel.count("disk full", node as u64);
            return Err(libc::ENOSPC);
        }
        if grows > 0 {
            disk.inodes.get_mut(&id).expect("an open file").change(What::Len(end), false);
        }
        Ok(())
    })
}

/// What is in a folder, in order.
pub(crate) fn paths(folder: &Path) -> io::Result<Vec<PathBuf>> {
    on_disk(|_, disk, _| {
        if !disk.has_folder(folder) {
            return Err(libc::ENOENT);
        }
        // By the name under which the folder was asked for.
        let names = disk.listed(folder);
        Ok(names.iter().filter_map(|path| path.file_name()).map(|name| folder.join(name)).collect())
    })
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    on_disk(|kernel, disk, node| {
        kernel.disk_step(disk, node)?;
        if !disk.has_folder(folder) {
            return Err(libc::ENOENT);
        }
        kernel.note("sync folder", node as u64, 0);
        if kernel.one_in(disk.faults.sync_error) {
            kernel.count("sync failed", node as u64);
            return Err(libc::EIO);
        }
        disk.keep_names(folder);
        disk.forget_unnamed();
        Ok(())
    })
}

/// Makes or opens a file and locks it for this process, until it is closed; `WouldBlock` when another has it.
pub(crate) fn open_locked(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true);
    options.create(true);
    let file = open(&mut options, 0, path)?;
    on_disk(|_, disk, _| {
        let id = disk.open[&file.fd].inode;
        let inode = disk.inodes.get_mut(&id).expect("an open file");
        match inode.locked_by {
            Some(_) => Err(libc::EWOULDBLOCK),
            None => {
                inode.locked_by = Some(file.fd);
                Ok(())
            }
        }
    })?;
    Ok(file)
}

pub(crate) fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    on_disk(|kernel, disk, node| {
        let Some(id) = disk.file(path.as_ref()) else {
            return Err(if disk.has_folder(path.as_ref()) { libc::EISDIR } else { libc::ENOENT });
        };
        if kernel.one_in(disk.faults.read_error) {
            kernel.count("read failed", node as u64);
            return Err(libc::EIO);
        }
        let inode = &disk.inodes[&id];
        let bytes = inode.seen.read(0, inode.seen.len() as usize);
        kernel.note_bytes("read", id << 40, &bytes);
        Ok(bytes)
    })
}

pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<u64> {
    let bytes = read(from)?;
    let file = File::create(to)?;
    write_all_at(&file, &bytes, 0)?;
    Ok(bytes.len() as u64)
}

pub(crate) fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    on_disk(|kernel, disk, node| {
        let (from, to) = (absolute(from.as_ref()), absolute(to.as_ref()));
        let entry = disk.entry(&from).ok_or(libc::ENOENT)?;
        if !to.parent().is_some_and(|parent| disk.has_folder(parent)) {
            return Err(libc::ENOENT);
        }
        match (entry, disk.entry(&to)) {
            (Entry::File(_), Some(Entry::Folder)) => return Err(libc::EISDIR),
            (Entry::Folder, Some(_)) => return Err(libc::ENOTEMPTY),
            _ => {}
        }
        kernel.disk_step(disk, node)?;
        kernel.note("rename", node as u64, 0);
        disk.change_name(NameChange::Renamed(from, to, entry));
        Ok(())
    })
}

pub(crate) fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    on_disk(|kernel, disk, node| {
        let path = absolute(path.as_ref());
        match disk.entry(&path) {
            None => return Err(libc::ENOENT),
            Some(Entry::Folder) => return Err(libc::EISDIR),
            Some(Entry::File(_)) => {}
        }
        kernel.disk_step(disk, node)?;
        kernel.note("remove", node as u64, 0);
        disk.change_name(NameChange::Removed(path));
        disk.forget_unnamed();
        Ok(())
    })
}

pub(crate) fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    on_disk(|kernel, disk, node| {
        let path = absolute(path.as_ref());
        let mut above: Vec<&Path> = path.ancestors().collect();
        above.reverse();
        for folder in above {
            match disk.entry(folder) {
                Some(Entry::Folder) => {}
                Some(Entry::File(_)) => return Err(libc::ENOTDIR),
                None => {
                    kernel.disk_step(disk, node)?;
                    kernel.note("create folder", node as u64, 0);
                    disk.change_name(NameChange::Made(folder.to_owned(), Entry::Folder));
                }
            }
        }
        Ok(())
    })
}
