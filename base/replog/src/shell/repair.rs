//! The repair of a damaged log: everything from the damage on is taken off it. Either its owner accepts the loss, or the other
//! members of its groups have what is lost.

use std::path::{Path, PathBuf};

use runtime::fs;

use crate::Error;
use crate::core::format::Position;
use crate::core::recovery::Damage;
use crate::limits::BLOCK_BYTES;
use crate::shell::folder::Folder;
use crate::shell::inspect::inspect;
use crate::shell::open::{self, Trouble};
use crate::{GroupId, Index, Members, NodeId};

/// Where a repair puts what it takes off the log.
const ASIDE: &str = "damaged";

/// What a repair found and did.
#[derive(Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repair {
    /// What is, or was, damaged, in the words of [`Error::Corrupt`], in the order found. Empty: the log is whole.
    pub damage: Vec<String>,
    /// Whether the log was cut. Then it can be opened, and holds everything from before the first damage.
    pub cut: bool,
    /// Where the files are, as they were, that the log was cut in.
    pub kept_in: Option<PathBuf>,
}

/// Checks the log in `dir`; with `accept_loss`, cuts a damaged one in front of the first damage.
///
/// What is lost then is that, and everything written after it, by any group, acknowledged or not: what remains is a
/// prefix of the log. The files are kept as they were in the folder `damaged` inside. State machines may be ahead of the
/// log afterwards: see [`Log::truncate`](crate::Log::truncate).
///
/// Replicated groups do not vote afterwards before they have everything that a leader knows to be committed: they may have
/// acknowledged what is lost. The file `CUT` says so to later starts, until they all have. Where only two voters are left, and
/// nothing can be decided without this one, it votes.
///
/// # Errors
/// Those of [`Log::open`](crate::Log::open), save [`Error::Corrupt`].
pub async fn repair(dir: impl AsRef<Path>, accept_loss: bool) -> Result<Repair, Error> {
    let folder = Folder::new(dir.as_ref().to_owned());
    let _lock = open::lock(&folder).await?;
    let mut repair = Repair::default();
    loop {
        let generations = folder.list().await?.segments;
        let damage = match open::survey(&folder, &generations).await {
            Ok(_) => return Ok(repair),
            Err(Trouble::Error(error)) => return Err(error),
            Err(Trouble::Damage(damage)) => damage,
        };
        let cut_at = damage.whole_until;
        repair.damage.push(describe(&folder, damage));
        if !accept_loss {
            return Ok(repair);
        }
        let aside = folder.dir.join(ASIDE);
        fs::create_dir_all(&aside).await.map_err(Error::io("make", &aside))?;
        folder.note_cut().await?;
        cut(&folder, &generations, cut_at, &aside).await?;
        repair.cut = true;
        repair.kept_in = Some(aside);
    }
}

/// Repairs the damaged log in `dir` of node `node` when nothing is lost by that: when each group in it has a majority without
/// this node, as far as anything in the log tells, and both copies of the votes are not damaged at once. Gives what was
/// damaged; `None`: nothing was done.
///
/// Until they have been shown everything by a leader, its groups do not vote then: whatever they had acknowledged counts for
/// nothing until they have it again.
pub(crate) async fn heal(dir: &Path, node: NodeId) -> Result<Option<Repair>, Error> {
    let found = inspect(dir, |_| {}).await?;
    let Some(votes) = Folder::new(dir.to_owned()).votes().await? else { return Ok(None) };
    let others = |members: &Members| members.has_quorum(|member| member != node);
    // One that has not begun yet waits for a snapshot anyway.
    let waits = |group: GroupId| {
        let known = &found.groups[&group];
        known.term.0 > 0 && known.last == Index(0) && known.members == Members::default()
    };
    let sure = |group: &GroupId| {
        found.groups.get(group).is_some_and(|known| others(&known.members) || waits(*group))
    };
    if found.log != Some(votes.log) || !found.groups.keys().chain(votes.votes.keys()).all(sure) {
        return Ok(None);
    }
    repair(dir, true).await.map(|repair| Some(repair).filter(|repair| repair.cut))
}

fn describe(folder: &Folder, damage: Damage) -> String {
    match open::corrupt(folder, damage) {
        Error::Corrupt { segment, offset, what } => format!("{}: byte {offset}: {what}", segment.display()),
        other => other.to_string(),
    }
}

/// Takes everything from `at` on off the log. The newest segment goes first: whenever the power fails, what is left is
/// the damaged log, less some of its end.
async fn cut(folder: &Folder, generations: &[u32], at: Position, aside: &Path) -> Result<(), Error> {
    for generation in generations.iter().rev().take_while(|generation| **generation >= at.generation) {
        let path = folder.path_of(*generation);
        let kept = unused(aside, &path).await?;
        if *generation > at.generation || at.block == 0 {
            fs::rename(&path, &kept).await.map_err(Error::io("put aside", &path))?;
            continue;
        }
        fs::copy(&path, &kept).await.map_err(Error::io("copy", &path))?;
        let file = folder.open(&path, true).await.map_err(Error::io("open", &path))?;
        let len = file.len().await.map_err(Error::io("look at", &path))?;
        let blocks = (len / BLOCK_BYTES as u64) as u32;
        open::zero(&file, at.block, blocks).await.map_err(Error::io("cut", &path))?;
    }
    Ok(())
}

/// A name in `aside` that an earlier repair has not taken.
async fn unused(aside: &Path, path: &Path) -> Result<PathBuf, Error> {
    let taken = fs::read_dir(aside).await.map_err(Error::io("list", aside))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let names = std::iter::once(name.clone()).chain((2..).map(|number: u32| format!("{name}.{number}")));
    let free = names.map(|name| aside.join(name)).find(|path| !taken.contains(path));
    Ok(free.expect("there are more numbers than files"))
}
