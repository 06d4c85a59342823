//! The programs that the build and the tests need: Debian packages by name, and Python packages in a folder of
//! the build's own.
//!
//! What always holds: what is there already is not installed again; a package that can't be had is named with the
//! command that would install it.

use crate::run::{is_on_path, output, run};
use std::path::{Path, PathBuf};

/// A program and the Debian package that has it.
const PROGRAMS: [(&str, &str); 12] = [
    ("curl", "curl"),
    ("dig", "bind9-dnsutils"),
    ("g++", "g++"),
    ("kcat", "kcat"),
    ("kdig", "knot-dnsutils"),
    ("make", "make"),
    ("memccapable", "libmemcached-tools"),
    ("openssl", "openssl"),
    ("python3", "python3"),
    ("redis-benchmark", "redis-tools"),
    ("redis-cli", "redis-tools"),
    ("wrk", "wrk"),
];

/// Compared with cachesrv. Its package also starts it, on cachesrv's port, where there is a systemd to start it: there it is
/// not installed, and the comparison left out.
const MEMCACHED: (&str, &str) = ("memcached", "memcached");

/// The Python packages, pinned.
const REQUIREMENTS: &str = "verify/e2e/clients/requirements.txt";

/// Installs the Debian packages that are missing.
///
/// # Errors
/// When they can't be installed; the line says what to install by hand.
pub(crate) fn programs(root: &Path) -> Result<(), String> {
    let would_start = Path::new("/run/systemd/system").exists();
    let wanted = PROGRAMS.iter().chain((!would_start).then_some(&MEMCACHED));
    let mut packages: Vec<&str> =
        wanted.filter(|(program, _)| !is_on_path(program)).map(|(_, package)| *package).collect();
    // A Python without its venv module makes no folder for packages.
    if is_on_path("python3") && output(root, "python3", &["-c", "import venv, ensurepip"]).is_err() {
        packages.push("python3-venv");
    }
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let by_hand = format!("the tests need Debian's packages {}: apt-get install {0}", packages.join(" "));
    if !is_on_path("apt-get") {
        return Err(by_hand);
    }
    let user = output(root, "id", &["-u"])?;
    let (program, mut arguments) =
        if user.trim() == "0" { ("apt-get", vec![]) } else { ("sudo", vec!["-n", "apt-get"]) };
    let mut update = arguments.clone();
    update.extend(["-q", "update"]);
    arguments.extend(["-q", "install", "-y", "--no-install-recommends"]);
    arguments.extend(packages);
    // A list that is a little old may still do.
    if let Err(error) = run(root, program, &update) {
        eprintln!("xtask: {error}");
    }
    run(root, program, &arguments).map_err(|error| format!("{error}; {by_hand}"))
}

/// The Python with the packages of [`REQUIREMENTS`], in `target`.
///
/// # Errors
/// When the folder or the packages can't be had.
pub(crate) fn python(root: &Path, target: &Path) -> Result<PathBuf, String> {
    let folder = target.join("e2e-python");
    let python = folder.join("bin/python");
    let wanted = std::fs::read_to_string(root.join(REQUIREMENTS))
        .map_err(|error| format!("{REQUIREMENTS}: {error}"))?;
    let stamp = folder.join("installed.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let path = |path: &Path| path.to_str().map(str::to_owned).ok_or("the target folder's path is not UTF-8");
    run(root, "python3", &["-m", "venv", "--clear", &path(&folder)?])?;
    run(
        root,
        &path(&python)?,
        &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS],
    )?;
    std::fs::File::create(&stamp)
        .and_then(|mut file| std::io::Write::write_all(&mut file, wanted.as_bytes()))
        .map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(python)
}
