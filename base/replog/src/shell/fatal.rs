//! The end of the process when the disk has failed.

use std::fmt::Display;
use std::path::Path;

/// `EX_IOERR` of sysexits.h is 74 and means any input or output; 70, `EX_SOFTWARE`, is what the project uses for "can't
/// go on".
const EXIT_CODE: i32 = 70;

/// Ends the process: `what` on `path` has failed, and what is on disk is not known any more.
///
/// Never tried again: after a failed sync the kernel may drop the pages that it could not write and report success the
/// next time.
pub(super) fn stop_process(what: &str, path: &Path, error: &dyn Display) -> ! {
    let advice = "Nothing that was not acknowledged is promised; everything that was is on disk. \
                  Check the disk, then start again: recovery tells what is there";
    if tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!(file = %path.display(), %error, "{what} failed: stopping. {advice}");
    } else {
        eprintln!("{what} {} failed: {error}: stopping. {advice}", path.display());
    }
    runtime::exit_process(EXIT_CODE)
}
