//! Each scenario once in the small mode: the harness, the loads and the daemons still understand each other, and every row has
//! what its case promises. No figure is judged.
#![forbid(unsafe_code)]

use serde_json::Value;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// The program. It builds our command, unless `cargo xtask test` has done so and says where it is (see `--ours`).
fn bench() -> Command {
    Command::new(env!("CARGO_BIN_EXE_bench"))
}

/// Runs a scenario and gives its result file. One at a time: each takes free ports for its servers and pins itself.
fn small(scenario: &str) -> Value {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("result.json");
    let output = bench().args([scenario, "--small", "--json"]).arg(&json).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap()
}

/// Ours has a row in every case that is not its gap, and every row has a figure and no refusals.
fn check(report: &Value) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let rows = report["rows"].as_array().unwrap();
    assert!(!rows.is_empty());
    for row in rows {
        let figures = ["saturation", "latency", "memory"].map(|figure| &row[figure]);
        assert!(figures.iter().any(|figure| !figure.is_null()), "{row}");
        let seen = &row["saturation"];
        if !seen.is_null() {
            assert!(seen["requests"].as_u64().unwrap() > 0, "{row}");
            assert!(seen["server_cpus"].as_f64().unwrap() >= 0.0, "{row}");
            assert_eq!(seen["refused"], 0, "{row}");
        }
    }
    let ours = text(&report["contestants"][0]["name"]);
    let gaps = report["gaps"].as_array().unwrap();
    let cases: Vec<String> = rows.iter().map(|row| text(&row["case"])).collect();
    for case in cases {
        let is_ours = |value: &&Value| value["case"] == case && value["contestant"] == ours;
        assert!(
            rows.iter().any(|row| is_ours(&row)) || gaps.iter().any(|gap| is_ours(&gap)),
            "{case}: not ours"
        );
    }
}

#[test]
fn runtime() {
    check(&small("runtime"));
}

#[test]
fn cache() {
    check(&small("cache"));
}

#[test]
fn misses() {
    check(&small("misses"));
}

#[test]
fn dns() {
    check(&small("dns"));
}

#[test]
fn proxy() {
    check(&small("proxy"));
}

#[test]
fn kv() {
    check(&small("kv"));
}

#[test]
fn broker() {
    check(&small("broker"));
}

#[test]
fn site() {
    check(&small("site"));
}

#[test]
fn wrong_use_is_a_clear_line() {
    let line = |arguments: &[&str]| {
        let output = bench().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(
        line(&["cache", "--small", "--peers", "nginx"])
            .contains("no peer `nginx` in this scenario; there are: memcached")
    );
    assert!(
        line(&["runtime", "--small", "--cases", "xyz"]).contains("no case of runtime has that in its name")
    );
    assert!(line(&["runtime", "--threads", "999"]).contains("the load needs one for itself"));
}

#[test]
fn a_server_that_dies_is_told_with_its_last_words() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("fake");
    std::io::Write::write_all(
        &mut std::fs::File::create(&script).unwrap(),
        b"#!/bin/sh\n[ \"$1\" = --version ] && echo memcached 9.9.9 && exit\necho no room for me\nexit 3\n",
    )
    .unwrap();
    assert!(Command::new("chmod").arg("+x").arg(&script).status().unwrap().success());
    let peer = format!("memcached={}", script.display());
    let output = bench().args(["cache", "--small", "--cases", "512", "--peer", &peer]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("ended during its start") && said.contains("no room for me"), "{said}");
}
