//! What comes out of stderr, from real processes: the log is the process's, so each test starts this program again.

use ops::logs::{self, Format};
use serde_json::Value;
use std::io::Write;
use std::process::{Command, Stdio};

/// Not a test by itself: what the children run.
#[test]
fn child() {
    let Ok(role) = std::env::var("OPS_TEST_CHILD") else { return };
    let format = match role.as_str() {
        "text" => Format::Text,
        "journald" => Format::Journald,
        _ => Format::Auto,
    };
    logs::init_with_level(format, "debug");
    logs::init(Format::Text); // the first counts
    if role == "unread" {
        // The other end of stderr is closed by now: see the test.
        let mut go = String::new();
        std::io::stdin().read_line(&mut go).unwrap();
    }
    tracing::info!(port = 8080, "listening");
    tracing::debug!("fine");
    tracing::trace!("finer");
    let panicked =
        std::thread::Builder::new().name("core-0".to_owned()).spawn(|| panic!("slot {}", 7)).unwrap().join();
    assert!(panicked.is_err());
    println!("\nchild: done");
}

fn child_command(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env("OPS_TEST_CHILD", role);
    command.env_remove("RUST_LOG").env_remove("RUST_BACKTRACE").env_remove("JOURNAL_STREAM");
    command
}

fn lines(command: &mut Command) -> Vec<String> {
    let output = command.output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("child: done"), "{output:?}");
    String::from_utf8(output.stderr).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_pipe_gets_json_and_a_panic_is_one_line() {
    let lines = lines(&mut child_command("auto"));
    let events: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let messages: Vec<&str> = events.iter().map(|event| event["message"].as_str().unwrap()).collect();
    assert_eq!(messages, ["listening", "fine", "panic: slot 7"], "{lines:#?}");
    assert_eq!((&events[0]["port"], &events[0]["level"]), (&Value::from(8080), &Value::from("INFO")));
    assert_eq!((&events[2]["thread"], &events[2]["level"]), (&Value::from("core-0"), &Value::from("ERROR")));
    assert!(events[2]["place"].as_str().unwrap().contains("tests/logs.rs:"));
}

#[test]
fn text_is_for_reading_and_has_no_colours_in_a_pipe() {
    let lines = lines(&mut child_command("text"));
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(lines[0].contains(" INFO ") && lines[0].ends_with("listening port=8080"), "{}", lines[0]);
    assert!(!lines.concat().contains('\u{1b}'));
}

#[test]
fn the_variable_wins_over_the_setting() {
    assert_eq!(lines(child_command("text").env("RUST_LOG", "error")).len(), 1);
    let lines = lines(child_command("text").env("RUST_LOG", "logs=loud"));
    assert!(lines[0].contains("RUST_LOG is ignored, `logs=loud` is no filter"), "{lines:#?}");
    assert_eq!(lines.len(), 4, "the setting holds: {lines:#?}");
}

#[test]
fn without_a_journal_json_goes_to_stderr() {
    if std::path::Path::new("/run/systemd/journal/socket").exists() {
        return; // then they are in the journal
    }
    let lines = lines(&mut child_command("journald"));
    let first: Value = serde_json::from_str(&lines[0]).unwrap();
    assert!(first["message"].as_str().unwrap().starts_with("the journal cannot be reached"));
    assert_eq!(lines.len(), 4);
}

#[test]
fn a_stderr_that_nobody_reads_does_not_end_the_process() {
    let mut child = child_command("unread")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("child: done"), "{output:?}");
    assert!(output.status.success());
}
