//! kill -9 under load: everything that the process has acknowledged is there afterwards.
//!
//! This proves nothing about syncs, as the kernel's memory survives the process; verify/forgetful does that.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use replog::{GroupId, Index, Log};
use runtime::Backend;
use support::{on, small};

/// Tells the child, which is this same program, where its log is.
const DIR: &str = "REPLOG_TEST_DIR";

fn entry(group: GroupId, index: Index) -> Vec<u8> {
    let len = (index.0 * 37 % 2000) as usize;
    [&group.0.to_le_bytes()[..], &index.0.to_le_bytes(), &vec![index.0 as u8; len]].concat()
}

#[test]
#[ignore = "not a test: the process that is killed"]
fn child() {
    let dir = PathBuf::from(std::env::var_os(DIR).expect("started by the test"));
    on(Backend::Auto, async {
        let (log, _) = Log::open(small(&dir)).await.expect("opens");
        for number in 0..16 {
            let (log, group) = (log.clone(), GroupId(number % 4));
            runtime::spawn(async move {
                loop {
                    log.room().await.expect("open");
                    let index = log.propose(group, entry(group, log.last(group).next())).expect("taken");
                    log.wait_committed(group, index).await.expect("committed");
                    println!("ack {group} {index}");
                    if index.0.is_multiple_of(400) {
                        log.truncate(group, Index(index.0 - 200));
                    }
                }
            });
        }
        std::future::pending::<()>().await;
    });
}

#[test]
fn what_was_acknowledged_survives_the_process() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut acknowledged = [0; 4];
    for round in 0..8 {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(DIR, dir.path().join("wal"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut seen = 0;
        while seen < 300 + round * 97 {
            let line = lines.next().expect("the child goes on").expect("text");
            seen += u64::from(note(&line, &mut acknowledged));
        }
        child.kill().expect("killed");
        child.wait().expect("gone");
        // What it still said before it died.
        lines.map_while(Result::ok).for_each(|line| {
            note(&line, &mut acknowledged);
        });

        let recovered = on(Backend::Auto, async {
            let (log, recovered) = Log::open(small(&dir.path().join("wal"))).await.expect("whole");
            log.close().await.expect("closed");
            recovered
        });
        let groups = recovered.groups();
        for (group, acknowledged) in acknowledged.iter().enumerate() {
            let last = groups.get(&GroupId(group as u64)).map_or(0, |(_, last)| last.0);
            assert!(last >= *acknowledged, "round {round}: group {group} has {last} of {acknowledged}");
        }
        let mut next: Vec<u64> =
            (0..4).map(|group| groups.get(&GroupId(group)).map_or(0, |(first, _)| first.0)).collect();
        for (group, index, bytes) in recovered.into_entries() {
            assert_eq!(index.0, next[group.0 as usize], "no gaps");
            next[group.0 as usize] += 1;
            assert!(bytes == entry(group, index), "group {group}, entry {index}");
        }
    }
    writeln!(std::io::stdout(), "acknowledged in all: {acknowledged:?}").expect("written");
}

fn note(line: &str, acknowledged: &mut [u64; 4]) -> bool {
    // The test harness may have written in front of the first.
    let Some((_, rest)) = line.split_once("ack ") else { return false };
    let Some((group, index)) = rest.split_once(' ') else { return false };
    let (Ok(group), Ok(index)) = (group.parse::<usize>(), index.parse::<u64>()) else { return false };
    acknowledged[group] = acknowledged[group].max(index);
    true
}
