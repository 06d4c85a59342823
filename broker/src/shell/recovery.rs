//! From disk at start: a partition's segments. What its replicated log has beyond them is applied afterwards.
//!
//! A segment that was full has a stored index and is taken as that says. The newest is read through: its batches must
//! check out up to where the checkpoint says it was synced; what follows may be torn and is cut, because the replicated
//! log still has it.

use std::path::{Path, PathBuf};

use runtime::fs::{self, File, OpenOptions};

use super::partition::Partition;
use super::segment_files::{index_path, log_path};
use super::snapshot;
use super::stored::Place;
use crate::Error;
use crate::core::log::segment::Segment;
use crate::core::log::{PartitionLog, scan};
use crate::core::producers::Producers;

/// How much of a segment is read at a time.
const CHUNK_BYTES: usize = 4 * 1024 * 1024;

/// A partition as its folder, if it has one, and the checkpoint have it.
pub(crate) async fn partition(
    uid: u64,
    dir: Option<PathBuf>,
    place: Option<Place>,
) -> Result<Partition, Error> {
    let mut place = place.unwrap_or_default();
    let mut installed = None;
    if let Some(dir) = &dir {
        installed = snapshot::recover(dir).await?;
        place = installed.filter(|installed| installed.index >= place.index).unwrap_or(place);
    }
    // Without a folder it never had a segment, or a checkpoint knows of one that is not there.
    let nowhere = PathBuf::from(format!("the folder of partition {uid}"));
    let (segments, producers) = segments(dir.as_deref().unwrap_or(&nowhere), place).await?;
    let end = segments.last().map_or(place.synced_end, Segment::next_offset);
    let start = if segments.is_empty() { place.synced_end } else { place.log_start };
    let mut log = PartitionLog::new(start, segments, producers);
    assert_eq!(log.high_watermark(), end, "a log ends where its segments end");
    log.delete_before(place.log_start);
    let partition = Partition::new(uid, dir, place, log);
    partition.installed.set(installed.is_some());
    Ok(partition)
}

/// All segments in a folder, every one of them whole.
pub(crate) async fn scan_folder(dir: &Path) -> Result<Vec<Segment>, Error> {
    let mut bases = bases(dir).await?;
    bases.sort_unstable();
    let mut segments: Vec<Segment> = Vec::new();
    for base in bases {
        let path = log_path(dir, base);
        check_follows(segments.last(), base, &path)?;
        let everything = Place { synced_end: i64::MAX, ..Place::default() };
        segments.push(scan_segment(&path, base, false, everything, &mut Producers::default()).await?);
    }
    Ok(segments)
}

fn check_follows(last: Option<&Segment>, base: i64, path: &Path) -> Result<(), Error> {
    match last {
        Some(last) if last.next_offset() != base => {
            let what = format!(
                "it should begin with offset {}: a segment before it is missing or cut",
                last.next_offset()
            );
            Err(Error::Corrupt { path: path.to_owned(), what })
        }
        _ => Ok(()),
    }
}

async fn segments(dir: &Path, place: Place) -> Result<(Vec<Segment>, Producers), Error> {
    let mut bases = bases(dir).await?;
    bases.sort_unstable();
    let mut segments: Vec<Segment> = Vec::new();
    let mut producers = Producers::default();
    let newest = bases.last().copied();
    for base in bases {
        let path = log_path(dir, base);
        check_follows(segments.last(), base, &path)?;
        let is_newest = newest == Some(base);
        let segment = match stored_index(dir, base).await? {
            Some((segment, known)) if !is_newest => {
                producers = known;
                segment
            }
            _ => scan_segment(&path, base, is_newest, place, &mut producers).await?,
        };
        if segment.bytes() == 0 && is_newest {
            fs::remove_file(&path).await.map_err(Error::io("cannot remove", &path))?;
        } else {
            segments.push(segment);
        }
    }
    check_ends(dir, &segments, place)?;
    Ok((segments, producers))
}

fn check_ends(dir: &Path, segments: &[Segment], place: Place) -> Result<(), Error> {
    let corrupt = |what: String| Err(Error::Corrupt { path: dir.to_owned(), what });
    match (segments.first(), segments.last()) {
        (Some(first), Some(last)) => {
            if first.base_offset() > place.log_start {
                return corrupt(format!(
                    "offsets {} to {} are missing",
                    place.log_start,
                    first.base_offset()
                ));
            }
            if last.next_offset() < place.synced_end {
                return corrupt(format!(
                    "offsets {} to {} are missing",
                    last.next_offset(),
                    place.synced_end
                ));
            }
            Ok(())
        }
        _ if place.log_start < place.synced_end => {
            corrupt(format!("offsets {} to {} are missing", place.log_start, place.synced_end))
        }
        _ => Ok(()),
    }
}

async fn bases(dir: &Path) -> Result<Vec<i64>, Error> {
    let paths: Vec<PathBuf> = match fs::read_dir(dir).await {
        Ok(paths) => paths,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("cannot list", dir)(e)),
    };
    let base = |path: &PathBuf| {
        let is_log = path.extension().is_some_and(|e| e == "log");
        path.file_stem().and_then(|stem| stem.to_str()?.parse().ok()).filter(|_| is_log)
    };
    Ok(paths.iter().filter_map(base).collect())
}

/// The stored index of a full segment, if it is sound and fits its file.
async fn stored_index(dir: &Path, base: i64) -> Result<Option<(Segment, Producers)>, Error> {
    let path = log_path(dir, base);
    let Ok(stored) = fs::read(index_path(dir, base)).await else {
        return Ok(None);
    };
    let file =
        File::open(&path, &OpenOptions::new().read(true)).await.map_err(Error::io("cannot open", &path))?;
    let len = file.len().await.map_err(Error::io("cannot read", &path))?;
    Ok(Segment::decode(&stored)
        .filter(|(segment, _)| segment.base_offset() == base && segment.bytes() == len))
}

/// Reads a segment through. In the newest, whatever isn't sound beyond the synced end is cut off, and what is left is synced: a
/// process that was killed may have left it in the kernel's memory alone, from where it was read just now.
async fn scan_segment(
    path: &Path,
    base: i64,
    is_newest: bool,
    place: Place,
    producers: &mut Producers,
) -> Result<Segment, Error> {
    let options = OpenOptions::new().read(true).write(true);
    let file = File::open(path, &options).await.map_err(Error::io("cannot open", path))?;
    let len = file.len().await.map_err(Error::io("cannot read", path))?;
    let mut segment = Segment::empty(base);
    let mut want = CHUNK_BYTES;
    while segment.bytes() < len {
        let piece = file.read_at(segment.bytes(), want).await.map_err(Error::io("cannot read", path))?;
        let validated = scan::validate(&piece, segment.next_offset());
        for header in &validated.headers {
            segment.add(header);
            producers.record(header);
        }
        let more_there = segment.bytes() + (piece.len() - validated.valid_bytes) as u64 >= len;
        if validated.valid_bytes > 0 {
            want = CHUNK_BYTES;
        } else if !more_there && validated.need_bytes > want {
            want = validated.need_bytes;
        } else {
            let at = segment.bytes();
            let why = validated.stopped.map_or_else(|| "no batch".to_owned(), |e| e.to_string());
            if !is_newest || segment.next_offset() < place.synced_end {
                let what = format!("damaged at byte {at}, offset {}: {why}", segment.next_offset());
                return Err(Error::Corrupt { path: path.to_owned(), what });
            }
            tracing::info!(file = %path.display(), at, bytes = len - at, why, "cutting a tail that was never synced");
            file.set_len(at).await.map_err(Error::io("cannot cut", path))?;
            break;
        }
    }
    if is_newest && segment.next_offset() > place.synced_end {
        file.sync_all().await.map_err(Error::io("cannot sync", path))?;
        for folder in path.ancestors().skip(1).take(2) {
            fs::sync_dir(folder).await.map_err(Error::io("cannot sync", folder))?;
        }
    }
    Ok(segment)
}
