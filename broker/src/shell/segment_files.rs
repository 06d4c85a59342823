//! The files of one partition's segments.
//!
//! `<base offset, 20 digits>.log` holds the batches as they are answered; `<base offset>.index` stands beside a segment
//! that is full. Writes are buffered; syncing is the flusher's business.

use std::cell::{OnceCell, RefCell};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use runtime::fs::{self, File, OpenOptions};

/// Files of older segments kept open for reading, per partition.
const READERS_MAX: usize = 2;

/// See the module.
pub(crate) struct SegmentFiles {
    /// Not known before the topic is.
    dir: OnceCell<PathBuf>,
    writer: RefCell<Option<(i64, Rc<File>)>>,
    readers: RefCell<Vec<(i64, Rc<File>)>>,
}

pub(crate) fn log_path(dir: &Path, base: i64) -> PathBuf {
    dir.join(format!("{base:020}.log"))
}

pub(crate) fn index_path(dir: &Path, base: i64) -> PathBuf {
    dir.join(format!("{base:020}.index"))
}

impl SegmentFiles {
    /// Those in `dir`.
    pub(crate) fn new(dir: Option<PathBuf>) -> Self {
        let dir = dir.map(OnceCell::from).unwrap_or_default();
        Self { dir, writer: RefCell::new(None), readers: RefCell::default() }
    }

    /// The topic is known, and with it the folder, if it was not before.
    pub(crate) fn settle_in(&self, dir: impl FnOnce() -> PathBuf) {
        self.dir.get_or_init(dir);
    }

    /// Whether there is a folder to write to.
    pub(crate) fn has_folder(&self) -> bool {
        self.dir.get().is_some()
    }

    /// The folder.
    ///
    /// # Panics
    /// When it is not known: nothing was ever written, and nothing can be.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.get().expect("segments have a folder")
    }

    /// Lets go of open files: others have taken their place.
    pub(crate) fn close(&self) {
        *self.writer.borrow_mut() = None;
        self.readers.borrow_mut().clear();
    }

    /// The file of a segment that is written to; made, durably, if `rolls` says that it is new.
    pub(crate) async fn writer(&self, base: i64, rolls: bool) -> io::Result<Rc<File>> {
        let open = self.writer.borrow().as_ref().filter(|(at, _)| *at == base).map(|(_, file)| file.clone());
        if let Some(file) = open {
            return Ok(file);
        }
        if rolls {
            fs::create_dir_all(self.dir()).await?;
            if let Some(parent) = self.dir().parent() {
                fs::sync_dir(parent).await?;
            }
        }
        let options = OpenOptions::new().read(true).write(true).create(rolls).truncate(rolls);
        let file = Rc::new(File::open(log_path(self.dir(), base), &options).await?);
        if rolls {
            fs::sync_dir(self.dir()).await?;
        }
        *self.writer.borrow_mut() = Some((base, file.clone()));
        Ok(file)
    }

    /// The segment that was last written to.
    pub(crate) fn current(&self) -> Option<(i64, Rc<File>)> {
        self.writer.borrow().clone()
    }

    /// Reads a region of a segment; short only at the file's end.
    pub(crate) async fn read(&self, base: i64, position: u64, len: usize) -> io::Result<Vec<u8>> {
        let open = {
            let writer = self.writer.borrow();
            let readers = self.readers.borrow();
            let mut open = writer.iter().chain(readers.iter());
            open.find(|(at, _)| *at == base).map(|(_, file)| file.clone())
        };
        let file = match open {
            Some(file) => file,
            None => {
                let options = OpenOptions::new().read(true);
                let file = Rc::new(File::open(log_path(self.dir(), base), &options).await?);
                let mut readers = self.readers.borrow_mut();
                if readers.len() >= READERS_MAX {
                    readers.remove(0);
                }
                readers.push((base, file.clone()));
                file
            }
        };
        file.read_at(position, len).await
    }

    /// Deletes a segment's files.
    pub(crate) async fn delete(&self, base: i64) -> io::Result<()> {
        self.readers.borrow_mut().retain(|(at, _)| *at != base);
        if self.writer.borrow().as_ref().is_some_and(|(at, _)| *at == base) {
            *self.writer.borrow_mut() = None;
        }
        for path in [log_path(self.dir(), base), index_path(self.dir(), base)] {
            match fs::remove_file(&path).await {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }
}
