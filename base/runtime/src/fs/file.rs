//! One open file.

use super::system;
use crate::blocking;
use crate::buf::{AlignedBuf, Segment};
use crate::driver::{Completion, FileBuffer, FileData, Request};
use crate::exec::Core;
use crate::once::Once;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// How to open a file; as std's, with O_DIRECT and O_DSYNC.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    options: system::OpenOptions,
    flags: i32,
}

impl Default for OpenOptions {
    fn default() -> OpenOptions {
        OpenOptions::new()
    }
}

impl OpenOptions {
    /// Nothing allowed yet.
    pub fn new() -> OpenOptions {
        OpenOptions { options: system::OpenOptions::new(), flags: 0 }
    }

    /// Allows reads.
    pub fn read(mut self, on: bool) -> OpenOptions {
        self.options.read(on);
        self
    }

    /// Allows writes.
    pub fn write(mut self, on: bool) -> OpenOptions {
        self.options.write(on);
        self
    }

    /// Makes the file if it is not there.
    pub fn create(mut self, on: bool) -> OpenOptions {
        self.options.create(on);
        self
    }

    /// Makes the file; an error if it is there.
    pub fn create_new(mut self, on: bool) -> OpenOptions {
        self.options.create_new(on);
        self
    }

    /// Empties the file.
    pub fn truncate(mut self, on: bool) -> OpenOptions {
        self.options.truncate(on);
        self
    }

    /// Past the page cache (O_DIRECT): memory, lengths and offsets are multiples of
    /// [`BLOCK_BYTES`](crate::BLOCK_BYTES).
    pub fn direct(mut self, on: bool) -> OpenOptions {
        self.flags = if on { self.flags | libc::O_DIRECT } else { self.flags & !libc::O_DIRECT };
        self
    }

    /// Every write is durable before it resolves (O_DSYNC).
    pub fn dsync(mut self, on: bool) -> OpenOptions {
        self.flags = if on { self.flags | libc::O_DSYNC } else { self.flags & !libc::O_DSYNC };
        self
    }
}

/// An open file on this core. Operations may overlap; those on overlapping ranges have no order.
pub struct File {
    core: Rc<Core>,
    file: Arc<system::File>,
}

impl File {
    /// Opens `path`.
    ///
    /// # Errors
    /// What open(2) says; `InvalidInput` where the file system has no O_DIRECT.
    pub async fn open(path: impl AsRef<Path>, options: &OpenOptions) -> io::Result<File> {
        let path = path.as_ref().to_owned();
        let mut options = options.clone();
        let file = blocking(move || system::open(&mut options.options, options.flags, &path)).await?;
        Ok(File { core: Core::current(), file: Arc::new(file) })
    }

    /// Writes `buffers` one after the other from `offset` on, durably: data, and the metadata needed to read it, are
    /// on disk when it resolves. The buffers come back.
    ///
    /// # Errors
    /// What pwritev2(2) with RWF_DSYNC says. After an error nothing is known about the range; never retry, stop.
    pub async fn append_durable(&self, offset: u64, buffers: Vec<AlignedBuf>) -> io::Result<Vec<AlignedBuf>> {
        match self.write_all(offset, FileData::aligned(buffers), true).await? {
            FileData::Aligned { buffers, .. } => Ok(buffers),
            FileData::Segment { .. } => unreachable!("the data that was given comes back"),
        }
    }

    /// Writes `data` at `offset`; durable only after a sync.
    ///
    /// # Errors
    /// What pwrite(2) says.
    pub async fn write_at(&self, offset: u64, data: impl Into<Segment>) -> io::Result<()> {
        let data = FileData::Segment { segment: data.into(), skip: 0 };
        self.write_all(offset, data, false).await.map(drop)
    }

    async fn write_all(&self, mut offset: u64, mut data: FileData, durable: bool) -> io::Result<FileData> {
        while data.remaining() > 0 {
            let fd = self.file.as_raw_fd();
            let completion = self.run(Request::Write { fd, offset, data, durable }).await;
            let Some(Request::Write { data: written, .. }) = completion.request else {
                unreachable!("the request comes back")
            };
            data = written;
            let count = retried(completion.result)?;
            match count {
                Some(0) => return Err(io::ErrorKind::WriteZero.into()),
                Some(count) => {
                    data.advance(count as usize);
                    offset += u64::from(count);
                }
                None => {}
            }
        }
        Ok(data)
    }

    /// Up to `len` bytes from `offset` on; fewer only at the end of the file.
    ///
    /// # Errors
    /// What pread(2) says.
    pub async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let buffer = FileBuffer::Vec { bytes: vec![0; len], filled: 0 };
        match self.read_all(offset, buffer).await? {
            FileBuffer::Vec { mut bytes, filled } => {
                bytes.truncate(filled);
                Ok(bytes)
            }
            FileBuffer::Aligned { .. } => unreachable!("the buffer that was given comes back"),
        }
    }

    /// Fills `buffer` from `offset` on, past the page cache if the file was opened so; gives the bytes read, fewer than
    /// the buffer holds only at the end of the file.
    ///
    /// # Errors
    /// What pread(2) says.
    pub async fn read_direct(&self, offset: u64, buffer: AlignedBuf) -> io::Result<(AlignedBuf, usize)> {
        match self.read_all(offset, FileBuffer::Aligned { buffer, filled: 0 }).await? {
            FileBuffer::Aligned { buffer, filled } => Ok((buffer, filled)),
            FileBuffer::Vec { .. } => unreachable!("the buffer that was given comes back"),
        }
    }

    async fn read_all(&self, offset: u64, mut buffer: FileBuffer) -> io::Result<FileBuffer> {
        loop {
            let (filled, whole) = buffer.progress();
            if filled == whole {
                return Ok(buffer);
            }
            let fd = self.file.as_raw_fd();
            let completion = self.run(Request::Read { fd, offset: offset + filled as u64, buffer }).await;
            let Some(Request::Read { buffer: read, .. }) = completion.request else {
                unreachable!("the request comes back")
            };
            buffer = read;
            match retried(completion.result)? {
                Some(0) => return Ok(buffer),
                Some(count) => buffer.advance(count as usize),
                None => {}
            }
        }
    }

    /// Makes the data, and the metadata needed to read it, durable (fdatasync).
    ///
    /// # Errors
    /// What fdatasync(2) says. After an error nothing is known about what was written since the last sync; never
    /// retry, stop.
    pub async fn sync_data(&self) -> io::Result<()> {
        self.sync(true).await
    }

    /// Makes data and all metadata durable (fsync).
    ///
    /// # Errors
    /// As [`File::sync_data`].
    pub async fn sync_all(&self) -> io::Result<()> {
        self.sync(false).await
    }

    async fn sync(&self, data_only: bool) -> io::Result<()> {
        let fd = self.file.as_raw_fd();
        self.run(Request::Sync { fd, data_only }).await.result.map(drop)
    }

    /// Allocates `len` bytes from `offset` on and fills them with zeros, durably, so that later overwrites within them
    /// touch no metadata.
    ///
    /// # Errors
    /// `StorageFull` when the disk is full; what posix_fallocate(3), pwrite(2) and fsync(2) say.
    pub async fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let file = self.file.clone();
        blocking(move || allocate(&file, offset, len)).await
    }

    /// Cuts or extends the file to `len` bytes.
    ///
    /// # Errors
    /// What ftruncate(2) says.
    pub async fn set_len(&self, len: u64) -> io::Result<()> {
        let file = self.file.clone();
        blocking(move || file.set_len(len)).await
    }

    /// The file's length, bytes.
    ///
    /// # Errors
    /// What fstat(2) says.
    pub async fn len(&self) -> io::Result<u64> {
        let file = self.file.clone();
        blocking(move || file.metadata().map(|metadata| metadata.len())).await
    }

    async fn run(&self, request: Request) -> Completion {
        Once::submit(self.core.clone(), request, self.file.clone()).await
    }
}

/// A result, `None` for an interruption that asks for another try.
fn retried(result: io::Result<u32>) -> io::Result<Option<u32>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}

fn allocate(file: &system::File, offset: u64, len: u64) -> io::Result<()> {
    system::reserve(file, offset, len)?;
    // Allocated extents are still marked unwritten; only real zeros make later writes free of metadata. Aligned, as the
    // file may be open with O_DIRECT.
    let zeros = AlignedBuf::zeroed(1 << 20);
    let mut done = 0;
    while done < len {
        let step = (len - done).min(zeros.len() as u64);
        system::write_all_at(file, &zeros[..step as usize], offset + done)?;
        done += step;
    }
    file.sync_all()
}
