//! What lies in a log's folder, read without changing anything, on past whatever is damaged.
//!
//! Whether the log can be used is judged as opening it does; everything else here is told, not decided. A folder that a
//! process has open can be looked at too: what is written or used again meanwhile may then look damaged.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use runtime::AlignedBuf;
use runtime::fs;

use crate::core::batch::{Record, State};
use crate::core::format::{Header, Position, Salt};
use crate::core::reader::{Bad, Piece, Reader};
use crate::core::recovery::Found;
use crate::limits::{BLOCK_BYTES, SECTOR_BYTES};
use crate::shell::blocks::read_blocks;
use crate::shell::folder::Folder;
use crate::shell::open::{self, Trouble};
use crate::{Error, GroupId, Index, Members, NodeId, Term};

/// What lies in a log's folder.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Inspection {
    /// A process has it open.
    pub in_use: bool,
    /// The log's number; absent when there is no segment whose header is whole.
    pub log: Option<u64>,
    /// The size of each segment.
    pub segment_bytes: u64,
    /// The oldest first.
    pub segments: Vec<SegmentReport>,
    /// What is said of each group, where everything that can be read is taken together.
    pub groups: BTreeMap<GroupId, GroupReport>,
    /// Files that are kept to be used again.
    pub spares: usize,
    /// Of how many groups the second copy of the votes knows. Absent: there is none that is whole.
    pub votes: Option<usize>,
    /// A repair has cut the log, and its groups do not vote before a leader has shown them everything.
    pub cut: bool,
    /// Blocks that are no batch and not free, and headers that are none.
    pub bad: Vec<BadBlocks>,
    /// Why opening the log refuses it, as [`Error::Corrupt`] says it. Absent: it opens.
    pub refused: Option<String>,
}

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentReport {
    /// Its file.
    pub path: PathBuf,
    /// Its number.
    pub generation: u32,
    /// Batches that are whole.
    pub batches: u64,
    /// How many blocks they take, the header's aside.
    pub blocks: u32,
    /// Records in them.
    pub records: u64,
    /// Entries among those.
    pub entries: u64,
    /// Groups that have entries here.
    pub groups: usize,
    /// The highest place, generation and block, in front of which everything was durable when a batch here was written.
    pub watermark: Option<(u32, u32)>,
}

/// What the log says of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupReport {
    /// Entries up to here are not needed.
    pub truncated: Index,
    /// The last entry.
    pub last: Index,
    /// Its term.
    pub last_term: Term,
    /// The newest term. 0: the group is not replicated.
    pub term: Term,
    /// Whom this node has given its vote in it. 0: nobody.
    pub vote: NodeId,
    /// Up to here entries are recorded to be committed; more may be.
    pub commit: Index,
    /// The members, as of what is committed.
    pub members: Members,
    /// Bytes of entries that are in the segments, needed or not.
    pub bytes: u64,
}

/// What kind of bad blocks they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Badness {
    /// A batch that a crash has torn. It was never acknowledged; opening the log cuts it off.
    Torn,
    /// Something that was written there is not what it was.
    Corrupt,
    /// Damaged, where nothing was written that counts.
    Free,
}

/// Blocks of a segment that are no batch and not free.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BadBlocks {
    /// The segment's file.
    pub segment: PathBuf,
    /// Where they lie in it, in bytes.
    pub bytes: Range<u64>,
    /// What kind they are.
    pub badness: Badness,
    /// What is wrong, in words.
    pub what: String,
    /// Entries that are missing or were hit, and are needed, from the first to the last of each group; `None`: nothing
    /// behind it tells how far.
    pub hit: BTreeMap<GroupId, (Index, Option<Index>)>,
}

/// A batch, for whoever wants to see them all.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchReport {
    /// The segment that it lies in.
    pub generation: u32,
    /// Where in it.
    pub blocks: Range<u32>,
    /// Its records, in words. None: a seal.
    pub records: Vec<String>,
}

/// Reads the log in `dir`, and gives each batch to `each`.
///
/// # Errors
/// [`Error::Foreign`]; [`Error::Version`]; [`Error::Io`].
pub async fn inspect(dir: impl AsRef<Path>, mut each: impl FnMut(BatchReport)) -> Result<Inspection, Error> {
    let folder = Folder::new(dir.as_ref().to_owned());
    let listing = folder.list().await?;
    let (_lock, in_use) = lock(&folder).await?;
    let (found, refused) = match open::survey(&folder, &listing.segments).await {
        Ok(found) => (found, None),
        Err(Trouble::Error(error)) => return Err(error),
        Err(Trouble::Damage(damage)) => (None, Some(open::corrupt(&folder, damage).to_string())),
    };
    let votes = folder.votes().await?.map(|votes| votes.votes.len());
    let header = any_header(&folder, &listing.segments).await?;
    let mut inspection = Inspection {
        in_use,
        log: header.map(|header| header.salt.log),
        segment_bytes: header.map_or(0, |header| header.segment_bytes),
        spares: listing.spares.len(),
        votes,
        cut: listing.cut,
        refused,
        ..Inspection::default()
    };
    let Some(header) = header else { return Ok(inspection) };
    let mut telling = Telling { found, ..Telling::default() };
    for generation in listing.segments {
        let path = folder.path_of(generation);
        if let Some(what) = wrong_header(&folder, &path, &header, generation).await? {
            telling.headers_bad(&mut inspection, &path, what);
        }
        let salt = Salt { generation, ..header.salt };
        let mut report = SegmentReport {
            path: path.clone(),
            generation,
            batches: 0,
            blocks: 0,
            records: 0,
            entries: 0,
            groups: 0,
            watermark: None,
        };
        let mut reader = Reader::new(salt);
        let file = folder.open(&path, false).await.map_err(Error::io("open", &path))?;
        let len = file.len().await.map_err(Error::io("look at", &path))?;
        let blocks = (len / BLOCK_BYTES as u64) as u32;
        telling.in_segment.clear();
        let mut piece = |piece| telling.piece(&mut inspection, &mut report, piece, &mut each);
        read_blocks(&file, 1, blocks, |block| reader.feed(block, &mut piece))
            .await
            .map_err(Error::io("read", &path))?;
        reader.finish(&mut piece);
        report.groups = telling.in_segment.len();
        inspection.segments.push(report);
    }
    for bad in &mut inspection.bad {
        // What is not needed any more is no loss.
        let needed = |group: &GroupId, last: Index| {
            inspection.groups.get(group).is_none_or(|known| known.truncated < last)
        };
        bad.hit.retain(|group, (first, last)| needed(group, last.unwrap_or(*first)));
    }
    Ok(inspection)
}

/// Takes the folder's lock, if there is one to be had; says whether somebody else has it.
async fn lock(folder: &Folder) -> Result<(Option<fs::DirLock>, bool), Error> {
    let listed = fs::read_dir(&folder.dir).await.map_err(Error::io("list", &folder.dir))?;
    if !listed.contains(&folder.dir.join("LOCK")) {
        return Ok((None, false));
    }
    match fs::lock_dir(&folder.dir).await {
        Ok(lock) => Ok((Some(lock), false)),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok((None, true)),
        // A copy that only may be read.
        Err(_) => Ok((None, false)),
    }
}

/// The first header that is whole.
async fn any_header(folder: &Folder, generations: &[u32]) -> Result<Option<Header>, Error> {
    for generation in generations {
        let path = folder.path_of(*generation);
        let file = folder.open(&path, false).await.map_err(Error::io("open", &path))?;
        let read = file.read_direct(0, AlignedBuf::zeroed(BLOCK_BYTES)).await;
        let (block, _) = read.map_err(Error::io("read", &path))?;
        if let Ok(header) = Header::decode(&block) {
            return Ok(Some(header));
        }
    }
    Ok(None)
}

async fn wrong_header(
    folder: &Folder,
    path: &Path,
    log: &Header,
    generation: u32,
) -> Result<Option<String>, Error> {
    let file = folder.open(path, false).await.map_err(Error::io("open", path))?;
    let read = file.read_direct(0, AlignedBuf::zeroed(BLOCK_BYTES)).await;
    let (block, _) = read.map_err(Error::io("read", path))?;
    let expected = Header { salt: Salt { generation, ..log.salt }, ..*log };
    Ok(match Header::decode(&block) {
        Ok(header) if header == expected => None,
        Ok(_) => Some("the header is of another segment, or another log".to_owned()),
        Err(_) => Some("the header is damaged".to_owned()),
    })
}

/// What has been read so far.
#[derive(Default)]
struct Telling {
    found: Option<Found>,
    /// Groups with entries in this segment.
    in_segment: std::collections::BTreeSet<GroupId>,
}

impl Telling {
    fn headers_bad(&self, inspection: &mut Inspection, path: &Path, what: String) {
        inspection.bad.push(BadBlocks {
            segment: path.to_owned(),
            bytes: 0..SECTOR_BYTES as u64,
            badness: Badness::Corrupt,
            what,
            hit: BTreeMap::new(),
        });
    }

    fn piece(
        &mut self,
        inspection: &mut Inspection,
        segment: &mut SegmentReport,
        piece: Piece,
        each: &mut impl FnMut(BatchReport),
    ) {
        match piece {
            Piece::Bad(bad) => {
                let bad = self.bad(segment, &bad);
                inspection.bad.push(bad);
            }
            Piece::Batch { blocks, watermark: Position { generation, block }, records } => {
                segment.batches += 1;
                segment.blocks += blocks.end - blocks.start;
                segment.records += records.len() as u64;
                segment.watermark = segment.watermark.max(Some((generation, block)));
                for record in &records {
                    if let Record::Entry { group, .. } = record {
                        segment.entries += 1;
                        self.in_segment.insert(*group);
                    }
                    note(inspection, record);
                }
                let records = records.iter().map(describe).collect();
                each(BatchReport { generation: segment.generation, blocks, records });
            }
        }
    }

    fn bad(&self, segment: &SegmentReport, bad: &Bad) -> BadBlocks {
        let Bad { blocks, written, unwritten, damaged, .. } = bad;
        let badness = match &self.found {
            None => Badness::Corrupt,
            Some(found) => {
                let last = found.segments.last().is_some_and(|last| last.generation == segment.generation);
                let torn = found.torn.as_ref().filter(|torn| last && torn.start < blocks.end);
                if torn.is_some_and(|torn| blocks.start < torn.end) { Badness::Torn } else { Badness::Free }
            }
        };
        let count = |count: u32, what: &str| (count > 0).then(|| format!("{count} {what}"));
        let sectors = [
            count(*damaged, "do not match their checksum"),
            count(*unwritten, "were never written"),
            count(*written, "are whole, in no batch that is"),
        ];
        let sectors: Vec<String> = sectors.into_iter().flatten().collect();
        let mut hit: BTreeMap<GroupId, (Index, Option<Index>)> = BTreeMap::new();
        for record in &bad.records {
            if let Record::Entry { group, index, .. } = record {
                hit.entry(*group)
                    .and_modify(|(first, _)| *first = (*first).min(*index))
                    .or_insert((*index, None));
            }
        }
        let bytes = |block: u32| u64::from(block) * BLOCK_BYTES as u64;
        BadBlocks {
            segment: segment.path.clone(),
            bytes: bytes(blocks.start)..bytes(blocks.end),
            badness,
            what: format!("of its sectors, {}", sectors.join(", ")),
            hit,
        }
    }
}

/// Takes in what a record says of its group.
fn note(inspection: &mut Inspection, record: &Record) {
    let groups = &mut inspection.groups;
    let mut missing = None;
    match record {
        Record::Entry { group, index, term, bytes, .. } => {
            let known = groups.entry(*group).or_default();
            if *index > known.last.next() {
                missing = Some((*group, known.last.next(), Index(index.0 - 1)));
            }
            (known.last, known.last_term) = (*index, *term);
            known.bytes += bytes.len() as u64;
        }
        Record::Truncated { group, through, term } => {
            let known = groups.entry(*group).or_default();
            known.truncated = known.truncated.max(*through);
            if *through > known.last {
                (known.last, known.last_term) = (*through, *term);
            }
        }
        Record::Group { group, last, state } => {
            let State { truncated, hard_state, members } = state;
            let known = groups.entry(*group).or_default();
            let behind = known.last.max(truncated.0);
            if *last > behind {
                missing = Some((*group, behind.next(), *last));
            }
            known.truncated = known.truncated.max(truncated.0);
            known.last = known.last.max(*last);
            (known.term, known.vote, known.commit) = (hard_state.term, hard_state.vote, hard_state.commit);
            known.members = members.1.clone();
        }
        Record::HardState { group, state } => {
            let known = groups.entry(*group).or_default();
            (known.term, known.vote, known.commit) = (state.term, state.vote, state.commit);
        }
        Record::Members { group, members, .. } => {
            groups.entry(*group).or_default().members = members.clone();
        }
        Record::Restored { group, at, term, members } => {
            let known = groups.entry(*group).or_default();
            (known.truncated, known.last, known.last_term) = (*at, *at, *term);
            known.members = members.clone();
        }
        Record::Forgotten { group } => {
            groups.remove(group);
        }
    }
    // What was seen last of what is bad has cost it.
    if let (Some((group, first, last)), Some(bad)) = (missing, inspection.bad.last_mut()) {
        let known = bad.hit.entry(group).or_insert((first, None));
        *known = (known.0.min(first), Some(last));
    }
}

fn describe(record: &Record) -> String {
    match record {
        Record::Entry { group, index, term, kind, bytes } => {
            format!("group {group}: entry {index} of term {term}, {kind:?}, {} bytes", bytes.len())
        }
        Record::Truncated { group, through, .. } => format!("group {group}: truncated through {through}"),
        Record::Group { group, last, state } => {
            let term = state.hard_state.term;
            format!("group {group}: last {last}, truncated {}, term {term}", state.truncated.0)
        }
        Record::HardState { group, state } => {
            format!("group {group}: term {}, vote {}, commit {}", state.term, state.vote, state.commit)
        }
        Record::Members { group, since, members } => {
            format!("group {group}: since {since}, members {:?}", members.all())
        }
        Record::Restored { group, at, term, .. } => {
            format!("group {group}: begins anew behind {at} of term {term}")
        }
        Record::Forgotten { group } => format!("group {group}: forgotten"),
    }
}
