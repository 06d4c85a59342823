//! `millrace check`: the example configurations are right, and what is wrong is named with its place.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Command;

/// Runs `millrace check`; gives whether the file is right, and what was printed.
fn check(file: &Path) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    let output = command.arg("check").arg("--config").arg(file).output().unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[test]
fn the_example_configurations_are_right() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/etc").canonicalize().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut checked = 0;
    for entry in std::fs::read_dir(&examples).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            // Installed, they name files in /etc/millrace; here those lie beside them.
            let text =
                std::fs::read_to_string(&path).unwrap().replace("/etc/millrace", examples.to_str().unwrap());
            let copy = folder.path().join(path.file_name().unwrap());
            write(&copy, &text);
            let (right, output) = check(&copy);
            assert!(right, "{}: {output}", path.display());
            checked += 1;
        }
    }
    assert!(checked >= 6, "{checked} examples");
}

fn write(path: &Path, text: &str) {
    std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), text.as_bytes()).unwrap();
}

#[test]
fn an_unknown_key_is_refused_with_file_line_and_key() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text, key) in [
        ("proxy.toml", "[upstream.web]\nservers = []\n\n[limits]\nbody_bytes = 1\n", "body_bytes"),
        ("dbshard.toml", "# a comment\nshard = 3\n", "shard"),
        ("broker.toml", "partitions = 3\n", "partitions"),
        ("web2.toml", "name = \"web2\"\n[stores]\nredis = \"x\"\n", "redis"),
        ("geodns.toml", "listne = []\n", "listne"),
    ] {
        let path = folder.path().join(name);
        write(&path, text);
        let (right, output) = check(&path);
        let line = text.lines().position(|line| line.starts_with(key)).unwrap() + 1;
        let place = format!("{}:{line}:", path.display());
        assert!(
            !right && output.contains(&place) && output.contains(&format!("`{key}`")),
            "{name}: {output}"
        );
        assert_eq!(output.lines().count(), 1, "{output}");
    }
}
