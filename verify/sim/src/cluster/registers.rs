//! The state machine: registers with compare-and-set, and counters.

use super::books::Shared;
use bytes::Bytes;
use histories::{Answer, Call, INITIAL};
use replog::{GroupId, Index, Role, SnapshotSink, SnapshotSource, StateMachine};
use runtime::{fs, time};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// How long to wait for space before a snapshot is tried again.
const SPACE_RETRY: Duration = Duration::from_millis(500);

/// An entry: which key, what is asked, and a number that no other entry has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: u64,
    pub(super) call: Call,
    pub(super) serial: u64,
}

impl Entry {
    const BYTES: usize = 40;

    /// `len` bytes of it, or as many as it needs.
    pub(super) fn encode(self, len: usize) -> Vec<u8> {
        let (kind, a, b) = match self.call {
            Call::Read => unreachable!("reads are not logged"),
            Call::Write(value) => (0, value, 0),
            Call::Cas { expect, new } => (1, expect, new),
            Call::Add(value) => (2, value, 0),
        };
        let mut bytes: Vec<u8> =
            [self.key, self.serial, kind, a, b].iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.resize(len.max(Entry::BYTES), self.serial as u8);
        bytes
    }

    fn decode(bytes: &[u8]) -> Entry {
        let word = |at: usize| u64::from_le_bytes(bytes[at * 8..][..8].try_into().expect("eight bytes"));
        let call = match word(2) {
            0 => Call::Write(word(3)),
            1 => Call::Cas { expect: word(3), new: word(4) },
            _ => Call::Add(word(3)),
        };
        Entry { key: word(0), call, serial: word(1) }
    }
}

/// What each key holds, and the last entry that asked for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Registers {
    pub(super) applied: u64,
    pub(super) values: BTreeMap<u64, (u64, u64)>,
}

impl Registers {
    pub(super) fn value(&self, key: u64) -> u64 {
        self.values.get(&key).map_or(INITIAL, |(_, value)| *value)
    }

    pub(super) fn seen(&self, key: u64) -> Index {
        Index(self.values.get(&key).map_or(0, |(index, _)| *index))
    }

    fn apply(&mut self, index: Index, entry: &Entry) -> Answer {
        let now = self.value(entry.key);
        let (answer, after) = match entry.call {
            Call::Read => (Answer::Value(now), now),
            Call::Write(value) => (Answer::Done, value),
            Call::Cas { expect, new } if expect == now => (Answer::Done, new),
            Call::Cas { .. } => (Answer::Value(now), now),
            Call::Add(value) => (Answer::Value(now + value), now + value),
        };
        self.applied = index.0;
        self.values.insert(entry.key, (index.0, after));
        answer
    }

    /// With a checksum in front, as a file may be damaged.
    pub(super) fn encode(&self) -> Bytes {
        let mut words = vec![0, self.applied];
        words.extend(self.values.iter().flat_map(|(key, (index, value))| [*key, *index, *value]));
        words[0] = checksum(&words[1..]);
        words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>().into()
    }

    /// `None`: it is damaged.
    fn decode(bytes: &[u8]) -> Option<Registers> {
        let words =
            bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")));
        let words: Vec<u64> = words.collect();
        let (first, rest) = words.split_first()?;
        if *first != checksum(rest) {
            return None;
        }
        let (applied, values) = rest.split_first()?;
        let values = values.chunks_exact(3).map(|value| (value[0], (value[1], value[2]))).collect();
        Some(Registers { applied: *applied, values })
    }

    /// Reads the file; what is not there, or is damaged, is empty.
    pub(super) async fn load(path: &Path) -> io::Result<Registers> {
        match fs::read(path).await {
            Ok(bytes) => Ok(Registers::decode(&bytes).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Registers::default()),
            Err(error) => Err(error),
        }
    }
}

fn checksum(words: &[u64]) -> u64 {
    words.iter().fold(0xcbf2_9ce4_8422_2325, |hash, word| {
        (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3) ^ hash >> 29
    })
}

/// The answers that clients of this process wait for, by the serial number of what they asked.
pub(super) type Waiting = Rc<RefCell<BTreeMap<u64, Option<Answer>>>>;

pub(super) struct Machine {
    pub(super) node: u64,
    pub(super) group: GroupId,
    pub(super) file: PathBuf,
    pub(super) durable: Index,
    pub(super) state: Rc<RefCell<Registers>>,
    pub(super) waiting: Waiting,
    pub(super) shared: Shared,
}

impl StateMachine for Machine {
    fn durable(&self) -> Index {
        self.durable
    }

    fn apply(&mut self, index: Index, entry: &Bytes) {
        let entry = Entry::decode(entry);
        let mut state = self.state.borrow_mut();
        let mut books = self.shared.borrow_mut();
        if index.0 <= state.applied {
            let (node, group) = (self.node, self.group);
            books.fail(format!("node {node} applies {index} of group {group} after {}", state.applied));
        }
        let answer = state.apply(index, &entry);
        books.applied(self.node, self.group, index, (entry.serial, state.value(entry.key)));
        if let Some(waiting) = self.waiting.borrow_mut().get_mut(&entry.serial) {
            *waiting = Some(answer);
        }
    }

    fn role(&mut self, role: Role) {
        if role.leads {
            self.shared.borrow_mut().leads(self.node, self.group, role.term.0);
        }
    }

    fn snapshot(&mut self) -> Rc<dyn SnapshotSource> {
        Rc::new(self.state.borrow().encode())
    }

    fn receive_snapshot(&mut self) -> Box<dyn SnapshotSink> {
        let (file, state, shared) = (self.file.clone(), self.state.clone(), self.shared.clone());
        replog::gather(move |index, bytes| async move {
            let Some(mut taken) = Registers::decode(&bytes) else {
                shared.borrow_mut().fail("a snapshot came that nobody has sent".to_owned());
                return Ok(());
            };
            taken.applied = index.0; // entries of the log's own may lie between
            loop {
                match fs::write_atomic(&file, taken.encode()).await {
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                        time::sleep(SPACE_RETRY).await;
                    }
                    other => break other?,
                }
            }
            *state.borrow_mut() = taken;
            shared.borrow_mut().did("snapshot taken over");
            Ok(())
        })
    }
}
