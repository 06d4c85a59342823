//! Opens a folder: everything is read and checked first, then the torn tail is zeroed, then the entries are handed out.

use std::collections::BTreeMap;
use std::io;

use runtime::AlignedBuf;
use runtime::fs::{self, DirLock, File};

use crate::core::batch::Record;
use crate::core::consensus::{Entry, HardState};
use crate::core::format::{self, BadHeader, Header, Position, Salt};
use crate::core::recovery::{Damage, Found, GroupState, Held, Recovery};
use crate::core::scan::Scan;
use crate::core::stream::{Next, Stream};
use crate::core::votes::{self, Votes};
use crate::limits::{BLOCK_BYTES, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, groups_max};
use crate::shell::blocks::read_blocks;
use crate::shell::folder::{Folder, Listing, Segment};
use crate::shell::log::Options;
use crate::{Error, GroupId, Index, Term};

/// Bytes zeroed at once.
const ZERO_BYTES: usize = 1024 * 1024;

/// A log that can be written to.
pub(super) struct Opened {
    pub(super) folder: Folder,
    pub(super) lock: DirLock,
    pub(super) stream: Stream,
    pub(super) current: Segment,
    pub(super) next: Option<Segment>,
    pub(super) segment_bytes: u64,
    /// The groups as they were found.
    pub(super) groups: BTreeMap<GroupId, GroupState>,
    /// A repair has cut the log of replicated groups.
    pub(super) cut: bool,
}

/// Why a survey did not end well.
pub(super) enum Trouble {
    /// The log is damaged: a repair can cut there.
    Damage(Damage),
    /// Something else, which no repair helps.
    Error(Error),
}

pub(super) async fn open(
    options: Options,
    each: impl FnMut(GroupId, &GroupState, Entry),
) -> Result<Opened, Error> {
    check(&options)?;
    let folder = Folder::new(options.dir.clone());
    let lock = lock(&folder).await?;
    let listing = folder.list().await?;
    for path in &listing.unfinished {
        fs::remove_file(path).await.map_err(Error::io("remove", path))?;
    }
    let mut found = match survey(&folder, &listing.segments).await {
        Ok(found) => found,
        Err(Trouble::Error(error)) => return Err(error),
        Err(Trouble::Damage(damage)) => return Err(corrupt(&folder, damage)),
    };
    let segment_bytes = found.as_ref().map_or(options.segment_bytes, |found| found.segment_bytes);
    let recorded = folder.votes().await?;
    let lost = lost_leavings(&listing, recorded.as_ref(), found.as_mut());
    // A repair may have taken everything but the votes.
    let number = found.as_ref().map(|found| found.log).or(recorded.as_ref().map(|votes| votes.log));
    let log = number.unwrap_or_else(runtime::random_u64);
    let spares = listing.spares;
    folder.adopt_spares(spares, log, segment_bytes).await.map_err(Error::io("look through", &folder.dir))?;

    let Some(mut found) = found else {
        let header = Header { salt: Salt { log, generation: 1 }, segment_bytes };
        let current = folder.prepare(&header).await.map_err(Error::io("make a segment in", &folder.dir))?;
        let mut stream = Stream::new(log, segment_bytes);
        let mut groups = BTreeMap::new();
        keep_votes(&folder, recorded, log, &mut groups, &BTreeMap::new(), &mut stream).await?;
        return Ok(Opened {
            folder,
            lock,
            stream,
            current,
            next: None,
            segment_bytes,
            groups,
            cut: listing.cut,
        });
    };
    if segment_bytes != options.segment_bytes {
        tracing::info!(
            folder = %folder.dir.display(),
            "the log was made with segments of {segment_bytes} bytes, and keeps them"
        );
    }
    assert!(
        found.groups.len() <= groups_max(segment_bytes),
        "the log never takes more groups than it can write"
    );
    let current = resume(&folder, &found).await?;
    hand_out(&folder, &found, each).await?;
    let mut stream = Stream::recovered(&found);
    for group in lost {
        stream.forget(group);
    }
    keep_votes(&folder, recorded, log, &mut found.groups, &found.forgotten, &mut stream).await?;
    let next = match found.prepared.first() {
        Some(generation) => Some(segment(&folder, *generation).await?),
        // Soon needed; if there is no room for it, the writer says so and tries again.
        None if stream.needs_next_soon() => {
            let salt = stream.salt(current.generation + 1);
            folder.prepare(&Header { salt, segment_bytes }).await.ok()
        }
        None => None,
    };
    if next.is_some() {
        stream.set_next(Next::Ready);
    }
    Ok(Opened { folder, lock, stream, current, next, segment_bytes, groups: found.groups, cut: listing.cut })
}

/// Takes out groups that were left, where a repair has cut off the word of it: every group that was here longer than for
/// a moment has its term in the second copy.
fn lost_leavings(listing: &Listing, recorded: Option<&Votes>, found: Option<&mut Found>) -> Vec<GroupId> {
    let (true, Some(recorded), Some(found)) = (listing.cut, recorded, found) else { return Vec::new() };
    if recorded.log != found.log {
        return Vec::new();
    }
    let left = |(group, state): (&GroupId, &GroupState)| {
        let is = state.state.hard_state.term > Term(0) && !recorded.votes.contains_key(group);
        is.then_some(*group)
    };
    let left: Vec<GroupId> = found.groups.iter().filter_map(left).collect();
    left.iter().for_each(|group| drop(found.groups.remove(group)));
    left
}

/// Brings both copies of terms and votes together: what the log had, in `groups`, and the file, `recorded`. What that has of
/// groups that were `forgotten` goes: a crash has come between that they were left and that their votes went.
async fn keep_votes(
    folder: &Folder,
    recorded: Option<Votes>,
    log: u64,
    groups: &mut BTreeMap<GroupId, GroupState>,
    forgotten: &BTreeMap<GroupId, Position>,
    stream: &mut Stream,
) -> Result<(), Error> {
    let ours = recorded.filter(|votes| votes.log == log);
    for (group, recorded) in ours.iter().flat_map(|votes| &votes.votes) {
        if forgotten.contains_key(group) && !groups.contains_key(group) {
            continue;
        }
        let known = groups.entry(*group).or_default();
        let in_log = (known.state.hard_state.term, known.state.hard_state.vote);
        let Some((term, vote)) = votes::merge(in_log, *recorded) else {
            return Err(Error::Votes { path: folder.votes_path(), group: *group, term: recorded.0 });
        };
        if (term, vote) != in_log {
            known.state.hard_state = HardState { term, vote, ..known.state.hard_state };
            stream.set_hard_state(*group, known.state.hard_state);
        }
    }
    let votes = all_votes(stream, log);
    if ours.as_ref() != Some(&votes) && !votes.votes.is_empty() {
        folder.write_votes(&votes).await.map_err(Error::io("write", &folder.votes_path()))?;
    }
    Ok(())
}

/// What goes into the second copy.
pub(super) fn all_votes(stream: &Stream, log: u64) -> Votes {
    Votes { log, votes: stream.votes().map(|(group, term, vote)| (group, (term, vote))).collect() }
}

fn check(options: &Options) -> Result<(), Error> {
    let bytes = options.segment_bytes;
    if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes) || !bytes.is_multiple_of(BLOCK_BYTES as u64)
    {
        return Err(Error::Options(format!(
            "segment_bytes = {bytes}: give a multiple of {BLOCK_BYTES} from {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}"
        )));
    }
    Ok(())
}

/// Makes the folder, refuses a foreign one before anything is put into it, locks it, and makes durable what is seen in it:
/// a process that ended between a change of names and its sync has left names that a loss of power takes back, one by one.
pub(super) async fn lock(folder: &Folder) -> Result<DirLock, Error> {
    let dir = &folder.dir;
    fs::create_dir_all(dir).await.map_err(Error::io("make", dir))?;
    folder.list().await?;
    let lock = fs::lock_dir(dir).await.map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => Error::Locked { dir: dir.clone() },
        _ => Error::Io { what: "lock", path: dir.clone(), source },
    })?;
    fs::sync_dir(dir).await.map_err(Error::io("sync", dir))?;
    Ok(lock)
}

/// Reads and judges all segments. `None`: there are none.
pub(super) async fn survey(folder: &Folder, generations: &[u32]) -> Result<Option<Found>, Trouble> {
    let mut recovery = Recovery::new();
    for generation in generations {
        let path = folder.path_of(*generation);
        let wrong = |source| Trouble::Error(Error::Io { what: "read", path: path.clone(), source });
        let file = folder.open(&path, false).await.map_err(wrong)?;
        let len = file.len().await.map_err(wrong)?;
        let (block, _) = file.read_direct(0, AlignedBuf::zeroed(BLOCK_BYTES)).await.map_err(wrong)?;
        let header = Header::decode(&block);
        let damaged = match header {
            Ok(header) if header.salt.generation != *generation => {
                Some(format!("the header is of segment {}", header.salt.generation))
            }
            Ok(header) if header.segment_bytes != len => {
                Some(format!("the file has {len} bytes, and its header says {}", header.segment_bytes))
            }
            Ok(_) => None,
            Err(BadHeader::Version(found)) => {
                let reads = format::VERSION;
                return Err(Trouble::Error(Error::Version { segment: path, found, reads }));
            }
            Err(BadHeader::Foreign) => Some("this is not the header of a segment".to_owned()),
            Err(BadHeader::Damaged) => Some("the segment's header is damaged".to_owned()),
        };
        match (header, damaged) {
            (Ok(header), None) => {
                recovery.segment(&header);
                read_blocks(&file, 1, (len / BLOCK_BYTES as u64) as u32, |block| recovery.block(block))
                    .await
                    .map_err(wrong)?;
            }
            (_, what) => {
                let before = recovery.finish().map_err(Trouble::Damage)?;
                let at = Position { generation: *generation, block: 0 };
                let whole_until = before
                    .and_then(|found| found.segments.last().cloned())
                    .map_or(at, |held| Position { generation: held.generation, block: held.end });
                return Err(Trouble::Damage(Damage { at, what: what.unwrap_or_default(), whole_until }));
            }
        }
    }
    recovery.finish().map_err(Trouble::Damage)
}

/// The error for `damage`.
pub(super) fn corrupt(folder: &Folder, damage: Damage) -> Error {
    let offset = u64::from(damage.at.block) * BLOCK_BYTES as u64;
    Error::Corrupt { segment: folder.path_of(damage.at.generation), offset, what: damage.what }
}

async fn segment(folder: &Folder, generation: u32) -> Result<Segment, Error> {
    let path = folder.path_of(generation);
    let file = folder.open(&path, true).await.map_err(Error::io("open", &path))?;
    Ok(Segment { generation, path, file })
}

/// Opens the last segment for writing: zeroes what a torn batch left in it, and makes durable what was read from it,
/// which the disk may still have held in a cache.
async fn resume(folder: &Folder, found: &Found) -> Result<Segment, Error> {
    let last = found.segments.last().expect("a log that was found has a segment");
    let current = segment(folder, last.generation).await?;
    if let Some(torn) = &found.torn {
        tracing::info!(
            segment = %current.path.display(),
            "cutting off a batch that was not wholly written: blocks {} to {}, never acknowledged",
            torn.start,
            torn.end - 1
        );
        zero(&current.file, torn.start, torn.end)
            .await
            .map_err(Error::io("zero the torn tail of", &current.path))?;
    }
    current.file.sync_data().await.map_err(Error::io("sync", &current.path))?;
    Ok(current)
}

/// Overwrites blocks with zeros, durably.
pub(super) async fn zero(file: &File, from: u32, to: u32) -> io::Result<()> {
    let mut block = from;
    while block < to {
        let blocks = (to - block).min((ZERO_BYTES / BLOCK_BYTES) as u32);
        let zeros = AlignedBuf::zeroed(blocks as usize * BLOCK_BYTES);
        file.append_durable(u64::from(block) * BLOCK_BYTES as u64, vec![zeros]).await?;
        block += blocks;
    }
    Ok(())
}

/// Reads the log once more and gives each entry that is still needed to `each`, those of a group in order. What was
/// overwritten is passed over: an entry's index and term say which it is. So is what lies in front of where its group was
/// forgotten.
async fn hand_out(
    folder: &Folder,
    found: &Found,
    mut each: impl FnMut(GroupId, &GroupState, Entry),
) -> Result<(), Error> {
    let next = |(group, state): (&GroupId, &GroupState)| (*group, state.truncated().next());
    let mut next: BTreeMap<GroupId, Index> = found.groups.iter().map(next).collect();
    for held in &found.segments {
        if held.last_of.iter().all(|(group, last)| next.get(group).is_some_and(|next| last < next)) {
            continue;
        }
        let path = folder.path_of(held.generation);
        let file = folder.open(&path, false).await.map_err(Error::io("open", &path))?;
        let mut scan = scan(found, held);
        read_blocks(&file, 1, held.end, |block| {
            let Some(batch) = scan.feed(block) else { return };
            let at = Position { generation: held.generation, block: batch.block };
            for record in batch.records {
                if let Record::Entry { group, index, term, kind, bytes } = record
                    && found.forgotten.get(&group).is_none_or(|forgotten| *forgotten <= at)
                    && let (Some(state), Some(next)) = (found.groups.get(&group), next.get_mut(&group))
                    && index == *next
                    && index <= state.last
                    && state.terms.at(index) == Some(term)
                {
                    *next = index.next();
                    each(group, state, Entry { index, term, kind, bytes });
                }
            }
        })
        .await
        .map_err(Error::io("read", &path))?;
        let end = scan.whole_until();
        if end != held.end {
            // It was whole when it was surveyed: the disk has lost it since, or does not always give the same.
            let at = Position { generation: held.generation, block: end };
            let what = "what was whole when it was read before is damaged now".to_owned();
            return Err(corrupt(folder, Damage { at, what, whole_until: at }));
        }
    }
    for (group, next) in next {
        let last = found.groups[&group].last;
        assert!(next > last, "group {group}: entry {next} of {last} was found, and is not there any more");
    }
    Ok(())
}

fn scan(found: &Found, held: &Held) -> Scan {
    Scan::new(
        Salt { log: found.log, generation: held.generation },
        (found.segment_bytes / BLOCK_BYTES as u64) as u32,
    )
}
