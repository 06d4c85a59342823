//! A fuzz target for each decoder: a function from bytes to nothing, which panics when something that must hold does not.
//!
//! | target | decoder | what must hold, beyond no panic |
//! |---|---|---|
//! | [`dns`] | `wire::dns` queries and responses | what parses is written back the same |
//! | [`geodns`] | geodns's core | every response is one that reads, of the size asked for, or there is none |
//! | [`zone`] | zone files | what loads can be asked for every name it has |
//! | [`http1`] | `wire::http1` | any cut of the input gives the same messages |
//! | [`memcached`] | `wire::memcached` | keys and lengths stay within their limits |
//! | [`resp`] | `wire::resp` | any cut gives the same requests; what is read is written and read the same |
//! | [`kafka`] | `wire::kafka` | frames by any cut; a checked request decodes within bounds; batches add up |
//! | [`replog`] | the log's recovery | a damaged log gives a prefix of what was written, or refuses |
//! | [`config`] | configuration files | what loads is shown as what loads the same |
//!
//! Each function is the same in three places: a libFuzzer binary (`src/bin/`, built by `run.sh` with coverage counters, on
//! the stable toolchain), a plain binary that replays the files it is given, and a test that replays `corpus/`.
//!
//! What always holds: a target takes at most the bytes of [`bounded`] for its input, so that a length which is believed
//! before its bytes have come is a crash.
#![forbid(unsafe_code)]

use std::alloc::System;
use std::sync::Once;

use cap::Cap;

pub mod config;
pub mod dns;
pub mod geodns;
pub mod http1;
pub mod kafka;
pub mod memcached;
pub mod pieces;
pub mod replog;
pub mod resp;
pub mod zone;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// What any target may take for however small an input, in bytes.
const FLOOR_BYTES: usize = 256 * 1024;

/// Runs `decode` with a ceiling on memory: [`FLOOR_BYTES`] and `bytes_per_byte` for each of `input_bytes`. Beyond it the
/// process aborts, which libFuzzer reports as a crash. A panic lifts the ceiling: its report takes memory too.
pub fn bounded<T>(input_bytes: usize, bytes_per_byte: usize, decode: impl FnOnce() -> T) -> T {
    static LIFT_ON_PANIC: Once = Once::new();
    LIFT_ON_PANIC.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let _ = ALLOCATOR.set_limit(usize::MAX);
            report(info);
        }));
    });
    let ceiling = ALLOCATOR.allocated() + FLOOR_BYTES + input_bytes * bytes_per_byte;
    ALLOCATOR.set_limit(ceiling).expect("the ceiling is above what is taken already");
    let result = decode();
    ALLOCATOR.set_limit(usize::MAX).expect("no limit is above everything");
    result
}

#[cfg(fuzzing)]
pub use libfuzzer_sys;

/// The `main` of a target: libFuzzer's under `--cfg fuzzing`, else one that replays the files named by its arguments.
#[macro_export]
macro_rules! target {
    ($run:path) => {
        #[cfg(fuzzing)]
        $crate::libfuzzer_sys::fuzz_target!(|data: &[u8]| $run(data));

        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            for path in std::env::args_os().skip(1) {
                $run(&std::fs::read(path)?);
            }
            Ok(())
        }
    };
}
