//! The end of the process.

/// Ends the process at once: nothing is drained, flushed or dropped. For when going on would be wrong (a failed sync); a
/// clean stop returns from `main` instead.
pub fn exit_process(code: i32) -> ! {
    std::process::exit(code)
}
