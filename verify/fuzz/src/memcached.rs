//! memcached's text protocol: `wire::memcached` line by line, and a session of cachesrv however its bytes are cut.

use std::sync::Arc;

use cachesrv::core::cache::{Cache, CacheOptions};
use cachesrv::core::clock::{Now, START_MS};
use cachesrv::core::session::{Session, Step};
use wire::memcached::{KEY_BYTES_MAX, Request, VALUE_BYTES_MAX, parse};

const MEMORY_BYTES: usize = 2 << 20;

/// Reads the lines of `data`, then serves it as one connection, whole and in pieces; the answers must be the same.
pub fn run(data: &[u8]) {
    let (sizes, input) = crate::pieces::take_cuts(data);
    for one in input.split(|&byte| byte == b'\n') {
        crate::bounded(one.len(), 64, || line(one.strip_suffix(b"\r").unwrap_or(one)));
    }
    let bytes_per_byte = 512;
    let room = MEMORY_BYTES * 2;
    let whole = crate::bounded(input.len() + room, bytes_per_byte, || serve(input, &[]));
    let pieces = crate::bounded(input.len() + room, bytes_per_byte, || serve(input, sizes));
    assert_eq!(whole, pieces, "cut by {sizes:?}");
}

/// Keys and lengths keep their limits.
fn line(line: &[u8]) {
    let key_fits = |key: &[u8]| assert!((1..=KEY_BYTES_MAX).contains(&key.len()));
    match parse(line) {
        Ok(Request::Get { keys, .. }) => keys.for_each(key_fits),
        Ok(Request::Store(storage)) => {
            key_fits(storage.key);
            assert!(storage.bytes <= VALUE_BYTES_MAX);
        }
        Ok(Request::MetaGet(meta) | Request::MetaDelete(meta) | Request::MetaArithmetic(meta)) => {
            key_fits(meta.key.bytes());
        }
        Ok(Request::MetaSet(meta, bytes)) => {
            key_fits(meta.key.bytes());
            assert!(bytes <= VALUE_BYTES_MAX);
        }
        Ok(_) => {}
        Err(refusal) => assert!(refusal.skip <= u64::from(VALUE_BYTES_MAX) + 2),
    }
}

/// All answers, and whether the session ended the connection.
fn serve(input: &[u8], sizes: &[u8]) -> (Vec<u8>, bool) {
    let options = CacheOptions {
        memory_bytes: MEMORY_BYTES,
        item_bytes_max: 64 << 10,
        evict: true,
        cas: true,
        cores: 1,
        seed: 7,
        flush_all: true,
        shutdown_command: true,
        track_sizes: true,
        settings: Vec::new(),
        version: "fuzz".into(),
        pid: 1,
    };
    let mut session = Session::new(Arc::new(Cache::new(options)));
    let now = Now { ms: START_MS + 1000, unix_ms: 1_700_000_000_000 };
    let mut out = Vec::new();
    for mut piece in crate::pieces::cut(input, sizes) {
        loop {
            match session.step(&mut piece, now, &mut out) {
                Step::Hungry => break assert!(piece.is_empty(), "a hungry session has taken all"),
                Step::Full => {}
                Step::Close | Step::Shutdown => return (out, true),
            }
        }
    }
    (out, false)
}
