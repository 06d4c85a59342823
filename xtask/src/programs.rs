//! What the suites run, by one build: every test program of the workspace, and the programs that those start.
//!
//! What always holds: one selection of packages (the whole workspace with its tests), so that every crate is compiled
//! with one set of features, once. `--package` would choose others and build half of the workspace again.

use crate::run::output;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A test program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Test {
    /// Its root file, from the workspace's folder: `base/runtime/tests/streams.rs`.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// Its package's, where cargo would run it.
    pub(crate) folder: PathBuf,
}

/// What was built.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) tests: Vec<Test>,
    /// Where `millrace` and the like are.
    pub(crate) folder: PathBuf,
}

/// Builds all.
///
/// # Errors
/// When it does not build; cargo has said why.
pub(crate) fn build(root: &Path, cargo: &str) -> Result<Programs, String> {
    let arguments = [
        "test",
        "--release",
        "--workspace",
        "--no-run",
        // All but examples, which clippy sees to.
        "--lib",
        "--bins",
        "--tests",
        // What it says of errors and warnings goes to stderr as ever, what it has made to stdout.
        "--message-format=json-render-diagnostics",
    ];
    println!("xtask: {cargo} {}", arguments.join(" "));
    read(root, &output(root, cargo, &arguments)?)
}

/// Reads cargo's messages (<https://doc.rust-lang.org/cargo/reference/external-tools.html#json-messages>).
fn read(root: &Path, messages: &str) -> Result<Programs, String> {
    let mut tests = Vec::new();
    let mut folder = None;
    for line in messages.lines() {
        let message: Value =
            serde_json::from_str(line).map_err(|error| format!("cargo said {line}: {error}"))?;
        let text = |value: &Value| value.as_str().map(PathBuf::from);
        let Some(path) = text(&message["executable"]) else { continue };
        let (Some(source), Some(manifest)) =
            (text(&message["target"]["src_path"]), text(&message["manifest_path"]))
        else {
            continue;
        };
        if message["profile"]["test"] == true {
            let name = source.strip_prefix(root).unwrap_or(&source).display().to_string();
            let folder = manifest.parent().unwrap_or(root).to_owned();
            tests.push(Test { name, path, folder });
        } else if message["target"]["name"] == "millrace" {
            folder = path.parent().map(Path::to_owned);
        }
    }
    tests.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Programs { tests, folder: folder.ok_or("cargo has built no `millrace`")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_and_programs_are_told_apart() {
        let artifact = |package: &str, source: &str, name: &str, test: bool, executable: Option<&str>| {
            serde_json::json!({
                "reason": "compiler-artifact",
                "manifest_path": format!("/w/{package}/Cargo.toml"),
                "target": {"name": name, "src_path": format!("/w/{package}/{source}")},
                "profile": {"test": test},
                "executable": executable,
            })
            .to_string()
        };
        let messages = [
            artifact("proxy", "src/lib.rs", "proxy", false, None),
            artifact("proxy", "tests/stop.rs", "stop", true, Some("/t/release/deps/stop-1")),
            artifact("millrace", "src/main.rs", "millrace", true, Some("/t/release/deps/millrace-2")),
            artifact("millrace", "src/main.rs", "millrace", false, Some("/t/release/millrace")),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let programs = read(Path::new("/w"), &messages.join("\n")).unwrap();
        let names: Vec<&str> = programs.tests.iter().map(|test| test.name.as_str()).collect();
        assert_eq!(names, ["millrace/src/main.rs", "proxy/tests/stop.rs"]);
        assert_eq!(programs.tests[1].folder, Path::new("/w/proxy"));
        assert_eq!(programs.folder, Path::new("/t/release"));
        assert!(read(Path::new("/w"), &messages[..3].join("\n")).is_err());
    }
}
