//! The write-ahead log on a file system that forgets: what was acknowledged survives a loss of power. And does not when
//! the syncs are taken out, or else this would prove nothing.

mod support;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use forgetful::Syncs;
use replog::{Error, GroupId, Index, Log, Options, Recovered, limits};
use runtime::Backend;
use support::mounted;

const GROUPS: u64 = 3;
/// Tells the child, which is this same program, where its log is.
const DIR: &str = "FORGETFUL_TEST_DIR";

fn small(dir: &Path) -> Options {
    let mut options = Options::new(dir);
    options.segment_bytes = limits::SEGMENT_BYTES_MIN;
    options
}

fn on<T>(backend: Backend, main: impl Future<Output = T>) -> T {
    let options = runtime::Options { backend, ..runtime::Options::default() };
    runtime::block_on(&options, main).expect("the backend is there")
}

fn entry(group: GroupId, index: Index) -> Vec<u8> {
    let len = (index.0 * 37 % 6000) as usize;
    [&group.0.to_le_bytes()[..], &index.0.to_le_bytes(), &vec![index.0 as u8; len]].concat()
}

/// What was acknowledged, by group.
type Acknowledged = Rc<RefCell<[u64; GROUPS as usize]>>;

/// Proposes from several tasks until `enough` more are acknowledged, then leaves everything as it is, in mid-flight.
async fn load(dir: &Path, acknowledged: &Acknowledged, enough: u64) {
    let (log, _) = Log::open(small(dir)).await.expect("opens");
    let tasks: Vec<_> = (0..GROUPS * 4)
        .map(|number| {
            let (log, acknowledged, group) = (log.clone(), acknowledged.clone(), GroupId(number % GROUPS));
            runtime::spawn(async move {
                loop {
                    log.room_for(8192).await.expect("open");
                    let index = log.propose(group, entry(group, log.last(group).next())).expect("taken");
                    log.wait_committed(group, index).await.expect("committed");
                    let mut acknowledged = acknowledged.borrow_mut();
                    let slot = &mut acknowledged[group.0 as usize];
                    *slot = index.0.max(*slot);
                    if index.0.is_multiple_of(100) {
                        log.truncate(group, Index(index.0 - 50));
                    }
                }
            })
        })
        .collect();
    let sum = || acknowledged.borrow().iter().sum::<u64>();
    let until = sum() + enough;
    while sum() < until {
        runtime::time::sleep(Duration::from_millis(1)).await;
    }
    tasks.into_iter().for_each(runtime::JoinHandle::abort);
}

async fn recover(dir: &Path) -> Result<Recovered, Error> {
    let (log, recovered) = Log::open(small(dir)).await?;
    log.close().await?;
    Ok(recovered)
}

fn check(recovered: Recovered, acknowledged: &Acknowledged) {
    let groups = recovered.groups();
    for (group, acknowledged) in acknowledged.borrow().iter().enumerate() {
        let last = groups.get(&GroupId(group as u64)).map_or(0, |(_, last)| last.0);
        assert!(last >= *acknowledged, "group {group} has {last} of {acknowledged}");
    }
    let mut next: Vec<u64> =
        (0..GROUPS).map(|group| groups.get(&GroupId(group)).map_or(0, |(first, _)| first.0)).collect();
    for (group, index, bytes) in recovered.into_entries() {
        assert_eq!(index.0, next[group.0 as usize], "no gaps");
        next[group.0 as usize] += 1;
        assert!(bytes == entry(group, index), "group {group}, entry {index}");
    }
}

#[test]
fn what_was_acknowledged_survives_a_loss_of_power() {
    for backend in [Backend::Epoll, Backend::Auto] {
        let Some((_dir, mounted)) = mounted() else { return };
        let dir = mounted.path().join("wal/0");
        let acknowledged = Acknowledged::default();
        for round in 0..25 {
            on(backend, load(&dir, &acknowledged, 20 + round * 13));
            // First nothing survives that was not synced; then some of it, torn.
            mounted.lose_power((round > 4).then_some(round));
            let recovered = on(backend, recover(&dir)).expect("a loss of power is no damage");
            check(recovered, &acknowledged);
        }
    }
}

#[test]
fn without_syncs_it_does_not() {
    let Some((_dir, mounted)) = mounted() else { return };
    let dir = mounted.path().join("wal/0");
    let acknowledged = Acknowledged::default();
    on(Backend::Auto, load(&dir, &acknowledged, 100));
    let recovered = on(Backend::Auto, recover(&dir)).expect("opens");
    check(recovered, &acknowledged);

    let before: u64 = acknowledged.borrow().iter().sum();
    mounted.set_syncs(Syncs::Ignored);
    on(Backend::Auto, load(&dir, &acknowledged, 100));
    mounted.set_syncs(Syncs::Honest);
    mounted.lose_power(None);
    let recovered = on(Backend::Auto, recover(&dir)).expect("the log as it was");
    let last: u64 = recovered.groups().values().map(|(_, last)| last.0).sum();
    let acknowledged: u64 = acknowledged.borrow().iter().sum();
    assert!(before <= last && last < acknowledged, "{before}, {last}, {acknowledged}");
}

#[test]
fn power_may_fail_while_the_log_is_made_or_recovered() {
    let Some((_dir, mounted)) = mounted() else { return };
    for seed in 0..15 {
        let dir = mounted.path().join(format!("wal/{seed}"));
        let acknowledged = Acknowledged::default();
        on(Backend::Auto, async {
            let opening = Log::open(small(&dir));
            let patience = Duration::from_micros(500 * seed);
            drop(runtime::time::timeout(patience, opening).await);
        });
        mounted.lose_power(Some(seed));
        on(Backend::Auto, load(&dir, &acknowledged, 30));
        mounted.lose_power(Some(seed));
        on(Backend::Auto, async {
            let opening = Log::open(small(&dir));
            drop(runtime::time::timeout(Duration::from_micros(300 * seed), opening).await);
        });
        mounted.lose_power(Some(seed));
        check(on(Backend::Auto, recover(&dir)).expect("whole"), &acknowledged);
    }
}

#[test]
#[ignore = "not a test: the process whose disk fails"]
fn child() {
    let dir = PathBuf::from(std::env::var_os(DIR).expect("started by the test"));
    on(Backend::Auto, load(&dir, &Acknowledged::default(), u64::MAX / 2));
}

#[test]
fn a_failed_sync_ends_the_process() {
    let Some((_dir, mounted)) = mounted() else { return };
    let dir = mounted.path().join("wal/0");
    let acknowledged = Acknowledged::default();
    on(Backend::Auto, load(&dir, &acknowledged, 100));
    let child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(DIR, &dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    // Once the child is under load, which it shows by going on to a segment that was not there.
    let newest = || {
        let names = std::fs::read_dir(&dir).expect("there").map(|entry| entry.expect("one").file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".wal")).max()
    };
    let before = newest();
    on(Backend::Auto, async {
        let deadline = runtime::time::now() + Duration::from_secs(60);
        while newest() == before {
            assert!(runtime::time::now() < deadline, "the child does nothing");
            runtime::time::sleep(Duration::from_millis(1)).await;
        }
    });
    mounted.set_syncs(Syncs::Failing);
    let output = child.wait_with_output().expect("it ends by itself");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(70), "{said}");
    assert!(said.contains(".wal failed: ") && said.contains("stopping"), "{said}");
    mounted.set_syncs(Syncs::Honest);
    mounted.lose_power(None);
    check(on(Backend::Auto, recover(&dir)).expect("whole"), &acknowledged);
}
