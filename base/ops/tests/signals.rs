//! Signals as an operator sends them, to real processes: each test starts this program again as its child.

use ops::{Options, Service, Stop};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Not a test by itself: what the children run.
#[test]
fn child() {
    let Ok(role) = std::env::var("OPS_TEST_CHILD") else { return };
    let service = Service::start(Options { name: "child", ..Options::default() }).unwrap();
    if role == "reloads" {
        service.on_reload(|| say("reloaded"));
    }
    service.ready();
    say("up");
    service.stop().wait();
    say("stopping");
    if role == "hangs" {
        Stop::new().wait();
    }
    service.shutdown();
    say("ended");
}

fn say(word: &str) {
    println!("\nchild: {word}");
    std::io::stdout().flush().unwrap();
}

struct Started {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Started {
    fn new(role: &str) -> Started {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env("OPS_TEST_CHILD", role)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut started = Started { child, output };
        started.hears("up");
        started
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    #[track_caller]
    fn hears(&mut self, word: &str) {
        let mut line = String::new();
        while self.output.read_line(&mut line).unwrap() > 0 {
            if let Some(said) = line.trim_end().strip_prefix("child: ") {
                assert_eq!(said, word);
                return;
            }
            line.clear();
        }
        panic!("the child ended before it said {word}: {:?}", self.child.wait());
    }

    fn code(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn sigterm_and_sigint_stop_cleanly() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut child = Started::new("stops");
        child.signal(signal);
        child.hears("stopping");
        child.hears("ended");
        assert_eq!(child.code(), Some(0));
    }
}

#[test]
fn a_second_sigint_ends_a_process_that_hangs() {
    let mut child = Started::new("hangs");
    child.signal(Signal::INT);
    child.hears("stopping");
    child.signal(Signal::INT);
    assert_eq!(child.code(), Some(130));
}

#[test]
fn sighup_reloads_where_there_is_something_to_reload() {
    let mut child = Started::new("reloads");
    child.signal(Signal::HUP);
    child.hears("reloaded");
    child.signal(Signal::HUP);
    child.hears("reloaded");
    child.signal(Signal::TERM);
    child.hears("stopping");
    child.hears("ended");
    assert_eq!(child.code(), Some(0));
}

#[test]
fn sighup_stops_what_cannot_reload() {
    let mut child = Started::new("stops");
    child.signal(Signal::HUP);
    child.hears("stopping");
}
