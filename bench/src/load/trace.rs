//! Sequences of requests for objects: made up from a seed, or read from a file.

use super::keys::{Keys, Popularity, Sizes};
use crate::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// A request for an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) object: u64,
    /// How long its value is when it has to be stored, in bytes.
    pub(crate) bytes: usize,
}

/// Where requests come from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Trace {
    /// Popularity n^-s, the same all the time.
    Zipf { s: f64 },
    /// Zipf 1.0, and every `every`-th request begins a walk of `length` objects that nobody asks for again.
    Scans { every: u64, length: u64 },
    /// Zipf 1.0 over a window that moves on through the objects, once around in the whole trace.
    Sliding,
    /// libCacheSim's oracleGeneral: records of 24 bytes, little-endian: time (u32), object (u64), size (u32), when it is
    /// asked for next (i64). Or, by a name that ends in .csv, lines of time, key, size with or without a header.
    File(PathBuf),
}

/// Objects of the made-up traces.
pub(crate) const OBJECTS: u64 = 1_000_000;

impl Trace {
    /// As the case is called.
    pub(crate) fn name(&self) -> String {
        match self {
            Trace::Zipf { s } => format!("Zipf {s}"),
            Trace::Scans { every, length } => format!("Zipf 1 with a scan of {length} every {every}"),
            Trace::Sliding => "a sliding working set".to_owned(),
            Trace::File(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }

    /// At most `count` requests; the same every time.
    ///
    /// # Errors
    /// When the file can't be read, or is not of its form.
    pub(crate) fn requests(&self, count: u64) -> Result<Vec<Request>, Error> {
        let sized = |object| Request { object, bytes: Sizes::Etc.of(object) };
        let keys = |s| Keys::new(OBJECTS, Popularity::Zipf { s }, 1);
        Ok(match self {
            Trace::Zipf { s } => {
                let mut keys = keys(*s);
                (0..count).map(|_| sized(keys.draw())).collect()
            }
            Trace::Scans { every, length } => {
                let (mut keys, mut requests, mut scanned) = (keys(1.0), Vec::new(), OBJECTS);
                while (requests.len() as u64) < count {
                    requests.extend((0..*every).map(|_| sized(keys.draw())));
                    requests.extend((scanned..scanned + length).map(sized));
                    scanned += length;
                }
                requests.truncate(count as usize);
                requests
            }
            Trace::Sliding => {
                let mut keys = Keys::new(OBJECTS / 10, Popularity::Zipf { s: 1.0 }, 1);
                let shift = |number: u64| u128::from(number) * u128::from(OBJECTS) / u128::from(count);
                (0..count).map(|number| sized((keys.draw() + shift(number) as u64) % OBJECTS)).collect()
            }
            Trace::File(path) if path.extension().is_some_and(|end| end == "csv") => read_csv(path, count)?,
            Trace::File(path) => read_oracle_general(path, count)?,
        })
    }
}

/// The longest value that is stored; what a trace has beyond is cut, as items have a limit.
const VALUE_BYTES_MAX: u64 = 512 * 1024;

fn bytes_of(size: u64) -> usize {
    size.min(VALUE_BYTES_MAX) as usize
}

fn read_oracle_general(path: &Path, count: u64) -> Result<Vec<Request>, Error> {
    let doing = || format!("reading {}", path.display());
    let file = File::open(path).map_err(Error::io(doing()))?;
    let length = file.metadata().map_err(Error::io(doing()))?.len();
    if length % 24 != 0 {
        let path = path.display();
        return Err(Error::Usage(format!("{path}: {length} bytes are no multiple of oracleGeneral's 24")));
    }
    let mut file = BufReader::new(file);
    let mut record = [0; 24];
    let mut requests = Vec::new();
    for _ in 0..count.min(length / 24) {
        file.read_exact(&mut record).map_err(Error::io(doing()))?;
        let object = u64::from_le_bytes(record[4..12].try_into().expect("8 bytes"));
        let size = u32::from_le_bytes(record[12..16].try_into().expect("4 bytes"));
        requests.push(Request { object, bytes: bytes_of(u64::from(size)) });
    }
    Ok(requests)
}

fn read_csv(path: &Path, count: u64) -> Result<Vec<Request>, Error> {
    let doing = || format!("reading {}", path.display());
    let file = BufReader::new(File::open(path).map_err(Error::io(doing()))?);
    let mut requests = Vec::new();
    for (number, line) in file.lines().enumerate() {
        let line = line.map_err(Error::io(doing()))?;
        let mut fields = line.split(',').map(str::trim).skip(1);
        let (key, size) = (fields.next(), fields.next().and_then(|size| size.parse().ok()));
        match (key, size) {
            (Some(key), Some(size)) if !key.is_empty() => {
                let object = key.parse().unwrap_or_else(|_| xxhash_rust::xxh3::xxh3_64(key.as_bytes()));
                requests.push(Request { object, bytes: bytes_of(size) });
            }
            _ if number == 0 => {}
            _ => {
                let line = format!("{}:{}: not of the form time, key, size", path.display(), number + 1);
                return Err(Error::Usage(line));
            }
        }
        if requests.len() as u64 == count {
            break;
        }
    }
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_traces_are_as_long_as_asked_and_the_same_again() {
        for trace in [Trace::Zipf { s: 0.8 }, Trace::Scans { every: 100, length: 50 }, Trace::Sliding] {
            let requests = trace.requests(1234).unwrap();
            assert_eq!(requests.len(), 1234);
            assert_eq!(requests, trace.requests(1234).unwrap());
        }
    }

    #[test]
    fn a_scan_asks_for_each_object_once() {
        let requests = Trace::Scans { every: 10, length: 20 }.requests(3000).unwrap();
        let scanned: Vec<u64> =
            requests.iter().map(|request| request.object).filter(|object| *object >= OBJECTS).collect();
        assert_eq!(scanned, (OBJECTS..OBJECTS + 2000).collect::<Vec<u64>>());
    }

    #[test]
    fn files_of_both_forms_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("trace.oracleGeneral");
        let record = |object: u64, size: u32| {
            [&7_u32.to_le_bytes()[..], &object.to_le_bytes(), &size.to_le_bytes(), &(-1_i64).to_le_bytes()]
                .concat()
        };
        std::fs::write(&binary, [record(5, 100), record(6, u32::MAX)].concat()).unwrap();
        let csv = folder.path().join("trace.csv");
        std::fs::write(&csv, "time,key,size\n1,5,100\n2, 6, 4294967295\n").unwrap();
        let expected = [Request { object: 5, bytes: 100 }, Request { object: 6, bytes: 512 * 1024 }];
        for path in [&binary, &csv] {
            assert_eq!(Trace::File(path.clone()).requests(10).unwrap(), expected);
            assert_eq!(Trace::File(path.clone()).requests(1).unwrap(), expected[..1]);
        }
        std::fs::write(&binary, [1; 25]).unwrap();
        std::fs::write(&csv, "1,5,100\n2,6\n").unwrap();
        let line = |path: &Path| Trace::File(path.to_owned()).requests(10).unwrap_err().to_string();
        assert!(line(&binary).contains("no multiple"));
        assert!(line(&csv).contains("trace.csv:2:"));
    }
}
