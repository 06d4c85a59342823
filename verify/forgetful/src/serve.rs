//! The tree as the kernel asks for it, over /dev/fuse.
//!
//! Nothing is cached by the kernel: every file is opened with FOPEN_DIRECT_IO and every answer is valid for no time at
//! all. Otherwise its page cache would go on giving what was lost.

use std::ffi::OsStr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use crate::pages::PAGE;
use crate::tree::{CONTROL, Content, Node, ROOT, Refused, Syncs, Tree};

/// The control file's name, in the root folder.
pub const CONTROL_NAME: &str = ".forgetful";

const NO_TIME: Duration = Duration::ZERO;
/// O_DSYNC of open(2), as on all of Linux's architectures that matter here. O_SYNC contains it. The kernel sets it for
/// RWF_DSYNC too.
const O_DSYNC: i32 = 0o10000;
const O_TRUNC: i32 = 0o1000;

pub(crate) struct Server {
    pub(crate) tree: Arc<Mutex<Tree>>,
}

impl Server {
    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().expect("nothing panics while it holds the tree")
    }

    fn attributes(&self, number: u64) -> Result<FileAttr, Refused> {
        if number == CONTROL {
            let control = Content::file();
            return Ok(attributes(CONTROL, 0o600, (0, 0), SystemTime::UNIX_EPOCH, &control, 0, 0));
        }
        let tree = self.tree();
        let Node { mode, owner, changed, content, .. } = tree.node(number)?;
        let (len, pages) = (tree.node(number)?.len(), tree.node(number)?.pages_held());
        Ok(attributes(number, *mode, *owner, *changed, content, len, pages))
    }

    fn answer_entry(&self, made: Result<u64, Refused>, reply: ReplyEntry) {
        match made.and_then(|number| self.attributes(number)) {
            Ok(attributes) => reply.entry(&NO_TIME, &attributes, Generation(0)),
            Err(refused) => reply.error(errno(refused)),
        }
    }

    fn answer_attributes(&self, done: Result<(), Refused>, number: u64, reply: ReplyAttr) {
        match done.and_then(|()| self.attributes(number)) {
            Ok(attributes) => reply.attr(&NO_TIME, &attributes),
            Err(refused) => reply.error(errno(refused)),
        }
    }
}

/// What was written into the control file.
pub(crate) fn control(tree: &mut Tree, text: &[u8]) -> Result<(), Refused> {
    let text = std::str::from_utf8(text).map_err(|_| Refused::Invalid)?;
    match text.split_whitespace().collect::<Vec<_>>()[..] {
        ["lose-power"] => tree.lose_power(None),
        ["lose-power", seed] => tree.lose_power(Some(seed.parse().map_err(|_| Refused::Invalid)?)),
        ["syncs", "honest"] => tree.syncs = Syncs::Honest,
        ["syncs", "ignored"] => tree.syncs = Syncs::Ignored,
        ["syncs", "failing"] => tree.syncs = Syncs::Failing,
        _ => return Err(Refused::Invalid),
    }
    Ok(())
}

impl Filesystem for Server {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = match name.to_str() {
            Some(CONTROL_NAME) if parent.0 == ROOT => Ok(CONTROL),
            _ => self.tree().lookup(parent.0, name),
        };
        self.answer_entry(found, reply);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.answer_attributes(Ok(()), ino.0, reply);
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = |tree: &mut Tree| {
            if let Some(size) = size {
                tree.set_len(ino.0, size)?;
            }
            let node = tree.node_mut(ino.0)?;
            node.mode = mode.map_or(node.mode, |mode| mode & 0o7777);
            node.owner = (uid.unwrap_or(node.owner.0), gid.unwrap_or(node.owner.1));
            Ok(())
        };
        let done = if ino.0 == CONTROL { Ok(()) } else { set(&mut self.tree()) };
        self.answer_attributes(done, ino.0, reply);
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        const S_IFMT: u32 = 0o170_000;
        const S_IFREG: u32 = 0o100_000;
        if mode & S_IFMT != S_IFREG {
            return reply.error(Errno::EPERM);
        }
        let owner = (request.uid(), request.gid());
        let made = self.tree().make(parent.0, name, mode & 0o7777 & !umask, owner, Content::file());
        self.answer_entry(made, reply);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let owner = (request.uid(), request.gid());
        let made = self.tree().make(parent.0, name, mode & 0o7777 & !umask, owner, Content::folder());
        self.answer_entry(made, reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.tree().remove(parent.0, name, false), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.tree().remove(parent.0, name, true), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if flags.contains(RenameFlags::RENAME_EXCHANGE) {
            return reply.error(Errno::EINVAL);
        }
        let replace = !flags.contains(RenameFlags::RENAME_NOREPLACE);
        answer(self.tree().rename((parent.0, name), (newparent.0, newname), replace), reply);
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let open = |tree: &mut Tree| {
            if ino.0 == CONTROL {
                return Ok(());
            }
            if flags.0 & O_TRUNC != 0 {
                tree.set_len(ino.0, 0)?;
            }
            tree.opened(ino.0)
        };
        match open(&mut self.tree()) {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Err(refused) => reply.error(errno(refused)),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let owner = (request.uid(), request.gid());
        let create = |tree: &mut Tree| {
            let number = tree.make(parent.0, name, mode & 0o7777 & !umask, owner, Content::file())?;
            tree.opened(number)?;
            Ok(number)
        };
        let created = create(&mut self.tree());
        match created.and_then(|number| self.attributes(number)) {
            Ok(attributes) => {
                reply.created(
                    &NO_TIME,
                    &attributes,
                    Generation(0),
                    FileHandle(0),
                    FopenFlags::FOPEN_DIRECT_IO,
                );
            }
            Err(refused) => reply.error(errno(refused)),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read =
            if ino.0 == CONTROL { Ok(Vec::new()) } else { self.tree().read(ino.0, offset, size as usize) };
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(refused) => reply.error(errno(refused)),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = if ino.0 == CONTROL {
            control(&mut self.tree(), data)
        } else {
            self.tree().write(ino.0, offset, data, flags.0 & O_DSYNC != 0)
        };
        match written {
            Ok(()) => reply.written(data.len() as u32),
            Err(refused) => reply.error(errno(refused)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // close(2) makes nothing durable.
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.tree().closed(ino.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let synced = if ino.0 == CONTROL { Ok(()) } else { self.tree().sync(ino.0) };
        answer(synced, reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(self.tree().sync(ino.0), reply);
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let end = offset.saturating_add(length);
        answer(self.tree().allocate(ino.0, end), reply);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let tree = self.tree();
        let names = match tree.node(ino.0).and_then(Node::names) {
            Ok(names) => names,
            Err(refused) => return reply.error(errno(refused)),
        };
        let dots = [(OsStr::new("."), ino.0), (OsStr::new(".."), ROOT)];
        let all = dots.into_iter().chain(names.iter().map(|(name, number)| (name.as_os_str(), *number)));
        for (at, (name, number)) in all.enumerate().skip(offset as usize) {
            let kind = tree.node(number).map_or(FileType::RegularFile, |node| kind(&node.content));
            if reply.add(INodeNo(number), at as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let tree = self.tree();
        let (all, left) = (tree.bytes_max() / PAGE, tree.bytes_left() / PAGE);
        reply.statfs(all, left, left, 1 << 20, 1 << 20, PAGE as u32, 255, PAGE as u32);
    }
}

fn answer(done: Result<(), Refused>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(refused) => reply.error(errno(refused)),
    }
}

fn kind(content: &Content) -> FileType {
    match content {
        Content::File { .. } => FileType::RegularFile,
        Content::Folder { .. } => FileType::Directory,
    }
}

fn attributes(
    number: u64,
    mode: u32,
    (uid, gid): (u32, u32),
    changed: SystemTime,
    content: &Content,
    len: u64,
    pages: u64,
) -> FileAttr {
    FileAttr {
        ino: INodeNo(number),
        size: len,
        blocks: pages * (PAGE / 512),
        atime: changed,
        mtime: changed,
        ctime: changed,
        crtime: changed,
        kind: kind(content),
        perm: mode as u16,
        nlink: 1,
        uid,
        gid,
        rdev: 0,
        blksize: PAGE as u32,
        flags: 0,
    }
}

fn errno(refused: Refused) -> Errno {
    match refused {
        Refused::NotFound => Errno::ENOENT,
        Refused::Exists => Errno::EEXIST,
        Refused::NotEmpty => Errno::ENOTEMPTY,
        Refused::NotAFolder => Errno::ENOTDIR,
        Refused::IsAFolder => Errno::EISDIR,
        Refused::NoSpace => Errno::ENOSPC,
        Refused::Io => Errno::EIO,
        Refused::Invalid => Errno::EINVAL,
    }
}
