//! The segment files of a log and what is done to them, each step durable before the next.
//!
//! ```text
//! 0000000007.wal     a segment, by its generation: in use, or made ready and not used yet
//! 0000000003.spare   a segment that no group needed any more: its blocks are used again
//! 0000000008.new     a segment being made; removed at the next start
//! VOTES              the second copy of terms and votes
//! CUT                a repair has cut the log of replicated groups: they vote no more before a leader has told them all
//! LOCK               keeps other processes out
//! damaged/           what a repair has put aside
//! ```
//!
//! A file gets its `.wal` name only when its header is on disk, so a segment without a good header is damaged, never
//! merely unfinished.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};

use runtime::AlignedBuf;
use runtime::fs::{self, File, OpenOptions};

use crate::Error;
use crate::core::format::Header;
use crate::core::votes::Votes;
use crate::limits::{BLOCK_BYTES, SPARE_SEGMENTS_MAX};

/// A log's folder.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) dir: PathBuf,
    /// Whether the file system takes O_DIRECT; found out by trying.
    direct: Cell<bool>,
    /// Emptied segments, to be used again.
    spares: RefCell<Vec<PathBuf>>,
}

/// A segment that is open for writing.
pub(super) struct Segment {
    pub(super) generation: u32,
    pub(super) path: PathBuf,
    pub(super) file: File,
}

/// What lies in a folder.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Generations of the segments, ascending.
    pub(super) segments: Vec<u32>,
    pub(super) spares: Vec<PathBuf>,
    pub(super) unfinished: Vec<PathBuf>,
    /// A repair has cut the log of replicated groups.
    pub(super) cut: bool,
}

impl Folder {
    pub(super) fn new(dir: PathBuf) -> Folder {
        Folder { dir, direct: Cell::new(true), spares: RefCell::default() }
    }

    pub(super) fn path_of(&self, generation: u32) -> PathBuf {
        self.dir.join(format!("{generation:010}.wal"))
    }

    pub(super) fn votes_path(&self) -> PathBuf {
        self.dir.join("VOTES")
    }

    /// The second copy of the votes. `None`: there is none, or none that is whole; then the log's own copy stands.
    pub(super) async fn votes(&self) -> Result<Option<Votes>, Error> {
        let path = self.votes_path();
        match fs::read(&path).await {
            Ok(bytes) => {
                let votes = Votes::decode(&bytes);
                if votes.is_none() {
                    tracing::warn!(file = %path.display(), "damaged: the votes are taken from the log, and written anew");
                }
                Ok(votes)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io { what: "read", path, source }),
        }
    }

    pub(super) async fn write_votes(&self, votes: &Votes) -> io::Result<()> {
        fs::write_atomic(self.votes_path(), votes.encode()).await
    }

    /// Notes that the log is about to be cut, if it has replicated groups.
    pub(super) async fn note_cut(&self) -> Result<(), Error> {
        let path = self.dir.join("CUT");
        let known = fs::read_dir(&self.dir).await.map_err(Error::io("list", &self.dir))?;
        if known.contains(&self.votes_path()) {
            fs::write_atomic(&path, Vec::new()).await.map_err(Error::io("write", &path))?;
        }
        Ok(())
    }

    /// What is there. Refuses a folder with anything in it that no log has put there.
    pub(super) async fn list(&self) -> Result<Listing, Error> {
        let mut listing = Listing::default();
        for path in fs::read_dir(&self.dir).await.map_err(Error::io("list", &self.dir))? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let number =
                name.split_once('.').and_then(|(stem, kind)| Some((stem.parse::<u32>().ok()?, kind)));
            match (name, number) {
                (_, Some((generation, "wal"))) if path == self.path_of(generation) => {
                    listing.segments.push(generation);
                }
                (_, Some((_, "spare"))) => listing.spares.push(path),
                (_, Some((_, "new"))) => listing.unfinished.push(path),
                ("VOTES.new" | "CUT.new", _) => listing.unfinished.push(path),
                ("CUT", _) => listing.cut = true,
                ("LOCK" | "VOTES" | "damaged" | "lost+found", _) => {}
                _ => return Err(Error::Foreign { path }),
            }
        }
        listing.segments.sort_unstable();
        Ok(listing)
    }

    /// Opens a segment file, past the page cache where the file system has that.
    pub(super) async fn open(&self, path: &Path, write: bool) -> io::Result<File> {
        if self.direct.get() {
            match open_direct(path, write).await {
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) =>
                {
                    self.direct.set(false);
                    tracing::warn!(
                        folder = %self.dir.display(),
                        "the file system has no O_DIRECT: the log is written through the page cache, slower and as safe"
                    );
                }
                opened => return opened,
            }
        }
        File::open(path, &OpenOptions::new().read(true).write(write).dsync(write)).await
    }

    /// Makes the segment with `header` ready for use: from a spare if there is one, otherwise a new file with all its
    /// blocks allocated and zero. On an error nothing is left but, at most, a file to be removed at the next start.
    pub(super) async fn prepare(&self, header: &Header) -> io::Result<Segment> {
        let generation = header.salt.generation;
        let spare = self.spares.borrow_mut().pop();
        let (path, made) = match spare {
            Some(path) => (path, false),
            None => (self.dir.join(format!("{generation:010}.new")), true),
        };
        if made && let Err(error) = allocate(&path, header.segment_bytes).await {
            // Gives the space back that the attempt has taken.
            let _ = fs::remove_file(&path).await;
            return Err(error);
        }
        let file = self.open(&path, true).await?;
        let mut block = AlignedBuf::zeroed(BLOCK_BYTES);
        header.encode(&mut block);
        file.append_durable(0, vec![block]).await?;
        let ready = self.path_of(generation);
        fs::rename(&path, &ready).await?;
        Ok(Segment { generation, path: ready, file })
    }

    /// Puts away a segment that is needed no more.
    pub(super) async fn give_up(&self, generation: u32) -> io::Result<()> {
        let path = self.path_of(generation);
        if self.spares.borrow().len() >= SPARE_SEGMENTS_MAX {
            return fs::remove_file(&path).await;
        }
        let spare = path.with_extension("spare");
        fs::rename(&path, &spare).await?;
        self.spares.borrow_mut().push(spare);
        Ok(())
    }

    /// Goes through the spares that were found: those of this log are kept, up to the bound, the others removed.
    pub(super) async fn adopt_spares(
        &self,
        found: Vec<PathBuf>,
        log: u64,
        segment_bytes: u64,
    ) -> io::Result<()> {
        for path in found {
            let file = File::open(&path, &OpenOptions::new().read(true)).await?;
            let header = Header::decode(&file.read_at(0, BLOCK_BYTES).await?);
            let ours =
                header.is_ok_and(|header| header.salt.log == log && header.segment_bytes == segment_bytes);
            let whole = file.len().await? == segment_bytes;
            if ours && whole && self.spares.borrow().len() < SPARE_SEGMENTS_MAX {
                self.spares.borrow_mut().push(path);
            } else {
                fs::remove_file(&path).await?;
            }
        }
        Ok(())
    }
}

async fn open_direct(path: &Path, write: bool) -> io::Result<File> {
    let file = File::open(path, &OpenOptions::new().read(true).write(write).direct(true)).await?;
    // Some file systems take the flag and refuse the first use.
    file.read_direct(0, AlignedBuf::zeroed(BLOCK_BYTES)).await?;
    Ok(file)
}

async fn allocate(path: &Path, bytes: u64) -> io::Result<()> {
    // Without O_DIRECT: where the file system can't allocate, libc does it by writing single bytes.
    let file = File::open(path, &OpenOptions::new().write(true).create(true).truncate(true)).await?;
    file.allocate(0, bytes).await
}
