//! `millrace wal`: what lies in the folders of write-ahead logs, read without changing anything.

use crate::cli::{Inspect, Verify, Wal};
use replog::{BadBlocks, Badness, BatchReport, GroupReport, Inspection, Members, NodeId};
use std::error::Error;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// How deep below the folder that is named logs are looked for: DATA/shards/0/wal.
const DEPTH: usize = 3;

pub(crate) fn run(wal: &Wal) -> Result {
    let mut out = BufWriter::new(io::stdout().lock());
    let done = match wal {
        Wal::Inspect(arguments) => inspect(arguments, &mut out),
        Wal::Verify(arguments) => verify(arguments, &mut out),
    };
    out.flush()?;
    done
}

fn inspect(arguments: &Inspect, out: &mut impl Write) -> Result {
    for log in logs_in(&arguments.folder)? {
        let mut failed = None;
        let batch = |batch: BatchReport| {
            if arguments.batches && failed.is_none() {
                failed = print_batch(&batch, out).err();
            }
        };
        let found = read(&log, batch)?;
        failed.map_or(Ok(()), Err)?;
        print_log(&log, &found, out)?;
        print_segments(&found, out)?;
        print_groups(&found, out)?;
        found.bad.iter().try_for_each(|bad| print_bad(bad, out))?;
        print_verdict(&found, out)?;
    }
    Ok(())
}

fn verify(arguments: &Verify, out: &mut impl Write) -> Result {
    let logs = logs_in(&arguments.folder)?;
    let mut damaged = 0;
    for log in &logs {
        let found = read(log, |_| {})?;
        if found.in_use {
            let why = format!("{}: in use by a process: stop it, or verify a copy", log.display());
            return Err(why.into());
        }
        print_log(log, &found, out)?;
        found.bad.iter().try_for_each(|bad| print_bad(bad, out))?;
        print_verdict(&found, out)?;
        let corrupt = found.bad.iter().any(|bad| bad.badness == Badness::Corrupt);
        damaged += usize::from(corrupt || found.refused.is_some());
    }
    match damaged {
        0 => Ok(()),
        damaged => Err(format!("{damaged} of {} logs damaged", logs.len()).into()),
    }
}

fn read(log: &Path, each: impl FnMut(BatchReport)) -> Result<Inspection> {
    Ok(runtime::block_on(&runtime::Options::default(), replog::inspect(log, each))??)
}

/// The folder itself, if there are segments in it, or those below.
fn logs_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut logs, mut level) = (Vec::new(), vec![folder.to_owned()]);
    for _ in 0..=DEPTH {
        let mut below = Vec::new();
        for folder in std::mem::take(&mut level) {
            let entries =
                std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            let paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
            if paths.iter().any(|path| path.extension().is_some_and(|kind| kind == "wal")) {
                logs.push(folder);
            } else {
                below.extend(paths.into_iter().filter(|path| path.is_dir()));
            }
        }
        level = below;
    }
    if logs.is_empty() {
        return Err(format!("{}: there is no log in it, nor below it", folder.display()).into());
    }
    logs.sort();
    Ok(logs)
}

fn print_log(log: &Path, found: &Inspection, out: &mut impl Write) -> io::Result<()> {
    let sum = |of: fn(&replog::SegmentReport) -> u64| found.segments.iter().map(of).sum::<u64>();
    let (batches, entries) = (sum(|segment| segment.batches), sum(|segment| segment.entries));
    let number = found.log.map_or("no header is whole".to_owned(), |log| format!("log {log:016x}"));
    writeln!(
        out,
        "{}: {number}, {} segments of {} KiB and {} spare, {} groups, {batches} batches, {entries} entries",
        log.display(),
        found.segments.len(),
        found.segment_bytes / 1024,
        found.spares,
        found.groups.len(),
    )?;
    if found.in_use {
        writeln!(out, "  in use by a process: what it writes meanwhile may look damaged here")?;
    }
    if found.cut {
        writeln!(out, "  cut by a repair: its groups do not vote before a leader has shown them everything")?;
    }
    match found.votes {
        Some(votes) => writeln!(out, "  second copy of the votes: of {votes} groups"),
        None if found.groups.values().any(|group| group.term.0 > 0) => {
            writeln!(out, "  second copy of the votes: missing or damaged, it will be written anew")
        }
        None => Ok(()),
    }
}

fn print_segments(found: &Inspection, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "  segment     blocks  batches  records  entries  groups  durable before")?;
    for segment in &found.segments {
        let watermark = segment
            .watermark
            .map_or("-".to_owned(), |(generation, block)| format!("block {block} of {generation:010}"));
        writeln!(
            out,
            "  {:010} {:7} {:8} {:8} {:8} {:7}  {watermark}",
            segment.generation,
            segment.blocks,
            segment.batches,
            segment.records,
            segment.entries,
            segment.groups
        )?;
    }
    Ok(())
}

fn print_groups(found: &Inspection, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "  group                   first       last  term  vote     commit      bytes  members")?;
    for (group, known) in &found.groups {
        let GroupReport { truncated, last, term, vote, commit, bytes, members, .. } = known;
        let first = truncated.0 + 1;
        let vote = if vote.0 == 0 { "-".to_owned() } else { vote.to_string() };
        writeln!(
            out,
            "  {:<18} {first:>10} {:>10} {:>5} {vote:>5} {:>10} {bytes:>10}  {}",
            group.to_string(),
            last.to_string(),
            term.to_string(),
            commit.to_string(),
            in_words(members)
        )?;
    }
    Ok(())
}

fn in_words(members: &Members) -> String {
    let list = |what: &str, nodes: &[NodeId]| {
        let nodes: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
        (!nodes.is_empty()).then(|| format!("{what} {}", nodes.join(" ")))
    };
    let lists = [
        list("voters", &members.voters),
        list("learners", &members.learners),
        list("outgoing", &members.outgoing),
        list("learners next", &members.learners_next),
    ];
    let lists: Vec<String> = lists.into_iter().flatten().collect();
    if lists.is_empty() { "none known".to_owned() } else { lists.join(", ") }
}

fn print_batch(batch: &BatchReport, out: &mut impl Write) -> io::Result<()> {
    let BatchReport { generation, blocks, records, .. } = batch;
    let what = if records.is_empty() { " a seal" } else { "" };
    writeln!(out, "{generation:010} blocks {} to {}:{what}", blocks.start, blocks.end - 1)?;
    records.iter().try_for_each(|record| writeln!(out, "    {record}"))
}

fn print_bad(bad: &BadBlocks, out: &mut impl Write) -> io::Result<()> {
    let kind = match bad.badness {
        Badness::Torn => "a torn tail (never acknowledged; it is cut off at the next start)",
        Badness::Corrupt => "CORRUPT",
        _ => "damaged, in free space (it does no harm)",
    };
    let (from, to) = (bad.bytes.start, bad.bytes.end);
    writeln!(out, "  {}: bytes {from} to {to}: {kind}: {}", bad.segment.display(), bad.what)?;
    for (group, (first, last)) in &bad.hit {
        match last {
            Some(last) => writeln!(out, "    group {group}: entries {first} to {last}")?,
            None => writeln!(out, "    group {group}: entries from {first} on, how many can't be told")?,
        }
    }
    Ok(())
}

fn print_verdict(found: &Inspection, out: &mut impl Write) -> io::Result<()> {
    match &found.refused {
        Some(why) => writeln!(out, "  its daemon refuses it: {why}"),
        None => writeln!(out, "  whole"),
    }
}
