//! `forgetful FOLDER [BYTES]`: see the library.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let folder = args.next().map(PathBuf::from);
    let bytes_max = args.next().map_or(Some(forgetful::BYTES_MAX), |text| text.to_str()?.parse().ok());
    let (Some(folder), Some(bytes_max), None) = (folder, bytes_max, args.next()) else {
        eprintln!("usage: forgetful FOLDER [BYTES]");
        return ExitCode::from(2);
    };
    match forgetful::serve(&folder, bytes_max) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forgetful: can't serve {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}
