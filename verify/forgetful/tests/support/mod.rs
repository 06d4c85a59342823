//! A mounted file system for a test, or the reason why there is none.

use forgetful::Mounted;

/// Mounts it in a new folder. `None`, with the reason printed, where that is not permitted.
pub(crate) fn mounted() -> Option<(tempfile::TempDir, Mounted)> {
    let dir = tempfile::tempdir().expect("a folder");
    match Mounted::on(dir.path(), forgetful::BYTES_MAX) {
        Ok(mounted) => Some((dir, mounted)),
        Err(error) => {
            println!("skipped: can't mount a FUSE file system: {error}");
            None
        }
    }
}
