//! The log's recovery: a good log, changed in its file's bytes as the input says, then opened.
//!
//! Checksums are not for a fuzzer to guess, so the input is a list of changes to a log that was written properly: sectors
//! zeroed, bytes changed, sectors swapped, the file cut.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use replog::limits::{SECTOR_BYTES, SEGMENT_BYTES_MIN};
use replog::{GroupId, Index, Log, Options};

/// Entries in the good log.
const ENTRIES: u64 = 40;
/// What the changes are made in: the header, the entries and some of what was never written, in sectors.
const SECTORS: usize = 256;

struct Good {
    name: PathBuf,
    bytes: Vec<u8>,
}

static GOOD: LazyLock<Good> = LazyLock::new(|| {
    let folder = folder();
    within(async {
        let (log, _) = Log::open(options(folder.path())).await.expect("an empty folder opens");
        for number in 1..=ENTRIES {
            let (group, index) = place(number);
            let proposed = log.propose(group, entry(number)).expect("there is room");
            assert_eq!(proposed, index);
            if number % 3 == 0 {
                log.wait_committed(group, index).await.expect("it is committed");
            }
        }
        log.close().await.expect("it closes");
    });
    let mut files: Vec<PathBuf> = fs::read_dir(folder.path())
        .expect("it can be listed")
        .map(|file| file.expect("a file").path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
    files.sort();
    let path = &files[0];
    Good {
        name: path.file_name().expect("a file has a name").into(),
        bytes: fs::read(path).expect("it can be read"),
    }
});

/// Changes the good log as `data` says, and opens it.
pub fn run(data: &[u8]) {
    let mut bytes = GOOD.bytes.clone();
    for change in data.chunks_exact(4).take(16) {
        apply(change, &mut bytes);
    }
    let folder = folder();
    fs::File::create(folder.path().join(&GOOD.name))
        .and_then(|mut file| std::io::Write::write_all(&mut file, &bytes))
        .expect("the changed log is written");
    within(recover(folder.path()));
}

/// Four octets: what to do, where (a sector), and two more for how.
fn apply(change: &[u8], bytes: &mut Vec<u8>) {
    let sectors = SECTORS.min(bytes.len() / SECTOR_BYTES);
    if sectors == 0 {
        return;
    }
    let sector = usize::from(change[1]) % sectors * SECTOR_BYTES;
    let other = usize::from(change[2]) % sectors * SECTOR_BYTES;
    match change[0] % 5 {
        0 => bytes[sector..sector + SECTOR_BYTES].fill(0),
        1 => bytes[sector + usize::from(change[2]) * 2] ^= change[3],
        2 => {
            let copy = bytes[other..other + SECTOR_BYTES].to_vec();
            bytes[sector..sector + SECTOR_BYTES].copy_from_slice(&copy);
        }
        3 => bytes[sector..sector + SECTOR_BYTES].fill(change[3]),
        _ => bytes.truncate(sector + usize::from(change[3])),
    }
}

/// Either the log is refused, or what it gives is, in each group, a beginning of what was written, and it goes on from
/// there.
async fn recover(folder: &Path) {
    let (log, mut recovered) = match Log::open(options(folder)).await {
        Ok(opened) => opened,
        Err(refused) => {
            assert!(!refused.to_string().is_empty());
            return;
        }
    };
    for group in [GroupId(1), GroupId(2)] {
        let mut last = 0;
        for (index, have) in recovered.take(group) {
            last += 1;
            assert_eq!(index, Index(last), "no gap");
            let number = (1..=ENTRIES)
                .find(|number| place(*number) == (group, index))
                .expect("an index that was given");
            assert_eq!(have, entry(number), "group {group} index {index}");
        }
        let next = log.propose(group, "more").expect("there is room");
        assert_eq!(next, Index(last + 1));
        log.wait_committed(group, next).await.expect("it is committed");
    }
    log.close().await.expect("it closes");
}

/// The group and index of entry `number`: two groups in turn.
fn place(number: u64) -> (GroupId, Index) {
    (GroupId(1 + number % 2), Index(number.div_ceil(2)))
}

fn entry(number: u64) -> Vec<u8> {
    vec![number as u8; (number * 37 % 1500) as usize]
}

fn options(folder: &Path) -> Options {
    Options { segment_bytes: SEGMENT_BYTES_MIN, ..Options::new(folder) }
}

/// In memory where the system has such a place: a sync is not what is tried here.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
        .expect("a folder for the log")
}

fn within<T>(future: impl Future<Output = T>) -> T {
    runtime::block_on(&runtime::Options::default(), future).expect("a core")
}
