//! What the tests share: folders, backends, mounts, a state machine.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use replog::{GroupId, Index, Options, Replicas, SnapshotSink, SnapshotSource, StateMachine, limits};
use runtime::Backend;

/// The smallest segments, so that they roll soon.
pub(crate) fn small(dir: &Path) -> Options {
    let mut options = Options::new(dir);
    options.segment_bytes = limits::SEGMENT_BYTES_MIN;
    options
}

/// Runs `main` on one core.
pub(crate) fn on<T>(backend: Backend, main: impl Future<Output = T>) -> T {
    let options = runtime::Options { backend, ..runtime::Options::default() };
    runtime::block_on(&options, main).expect("the backend is there")
}

/// Runs `main` on each backend, with a folder of its own.
pub(crate) fn on_each(main: impl AsyncFn(&Path)) {
    for backend in [Backend::Epoll, Backend::Auto] {
        let dir = tempfile::tempdir().expect("a folder");
        on(backend, main(&dir.path().join("wal/0")));
    }
    drop(main);
}

/// Flips a bit in a batch of the log in `dir`: the one at the place that `place` picks, of so many.
pub(crate) async fn damage(dir: &Path, place: impl Fn(usize) -> usize) {
    let mut batches = Vec::new();
    let found = replog::inspect(dir, |batch| batches.push((batch.generation, batch.blocks.start)));
    assert_eq!(found.await.expect("read").refused, None, "it is whole before");
    let (generation, block) = batches[place(batches.len())];
    let segment = dir.join(format!("{generation:010}.wal"));
    let mut bytes = std::fs::read(&segment).expect("there");
    bytes[block as usize * limits::BLOCK_BYTES + 100] ^= 1;
    let mut file = std::fs::File::create(&segment).expect("there");
    std::io::Write::write_all(&mut file, &bytes).expect("written");
}

/// The names in `dir` that end so, sorted.
pub(crate) fn files(dir: &Path, kind: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .filter(|name| name.ends_with(kind))
        .collect();
    names.sort();
    names
}

/// A file system mounted for a test.
pub(crate) struct Mount {
    pub(crate) path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Mount {
    /// Mounts a file system in memory. `None`, with the reason printed, where that is not permitted.
    pub(crate) fn memory(kind: &str, options: &str) -> Option<Mount> {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("mnt");
        std::fs::create_dir(&path).expect("made");
        let mut mount = Command::new("mount");
        let output =
            mount.args(["-t", kind, "-o", options, kind]).arg(&path).output().expect("mount is there");
        if !output.status.success() {
            println!("skipped: can't mount {kind}: {}", String::from_utf8_lossy(&output.stderr));
            return None;
        }
        Some(Mount { path, _dir: dir })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.path).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{} stays mounted", self.path.display());
    }
}

/// A state machine that keeps nothing and tells what it is given.
pub(crate) struct Telling<F> {
    /// What it says it has.
    pub(crate) durable: Index,
    pub(crate) tell: F,
}

impl<F: FnMut(Index, &Bytes) + 'static> StateMachine for Telling<F> {
    fn durable(&self) -> Index {
        self.durable
    }

    fn apply(&mut self, index: Index, entry: &Bytes) {
        (self.tell)(index, entry);
    }

    fn snapshot(&mut self) -> Rc<dyn SnapshotSource> {
        Rc::new(Bytes::new())
    }

    fn receive_snapshot(&mut self) -> Box<dyn SnapshotSink> {
        replog::gather(|_, _| async { Ok(()) })
    }
}

/// One that has nothing durable.
pub(crate) fn telling(tell: impl FnMut(Index, &Bytes) + 'static) -> Box<dyn StateMachine> {
    Box::new(Telling { durable: Index(0), tell })
}

/// Waits until the node leads the group.
pub(crate) async fn leads(replicas: &Replicas, group: GroupId) {
    let wait = async {
        while !replicas.role(group).leads {
            runtime::time::sleep(Duration::from_millis(1)).await;
        }
    };
    runtime::time::timeout(Duration::from_secs(10), wait).await.expect("it leads");
    replicas.read(group).await.expect("it leads");
}
