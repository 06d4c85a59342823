//! Start, reload, stop.

mod support;

use std::fs::File;
use std::io::Write;
use std::path::Path;

use geodns::Bound;
use geodns::config::{Config, ZoneConfig};
use hickory_proto::rr::RecordType;
use support::{Server, ZONE, ask_tcp, config, is_closed};

#[test]
fn a_requested_stop_ends_run_and_closes_connections() {
    let server = Server::start(config());
    let mut stream = server.tcp();
    ask_tcp(&mut stream, 1, "www.mysite.com.", RecordType::A);
    let address = server.address;
    server.stop().unwrap();
    assert!(is_closed(&mut stream));
    Bound::bind(Config { listen: vec![address], ..config() }).expect("the port is free again");
}

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    let server = Server::start(config());
    let taken = Config { listen: vec![server.address], ..config() };
    let error = Bound::bind(taken).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot listen on {} (UDP): ", server.address)), "{error}");
}

fn write(path: &Path, text: &str) {
    File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// SIGHUP to this very process: its own test file has the only server that listens for it.
#[test]
fn sighup_reads_the_zones_again_and_keeps_the_old_ones_when_they_are_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mysite.com.zone");
    write(&path, ZONE);
    let mut config = config();
    config.zone = vec![ZoneConfig { name: "mysite.com".into(), file: Some(path.clone()), text: None }];
    let server = Server::start(config);
    let has = |name: &str| !server.ask(name, RecordType::A).answers.is_empty();
    assert!(!has("new.mysite.com."));

    let hang_up = || {
        let kill = std::process::Command::new("sh")
            .args(["-c", &format!("kill -HUP {}", std::process::id())])
            .status();
        assert!(kill.unwrap().success());
    };
    write(&path, &format!("{ZONE}new A 192.0.2.5\n"));
    hang_up();
    while !has("new.mysite.com.") {
        std::thread::yield_now();
    }
    write(&path, "nonsense");
    hang_up();
    write(&path, &format!("{ZONE}new A 192.0.2.5\nnewer A 192.0.2.6\n"));
    hang_up();
    while !has("newer.mysite.com.") {
        assert!(has("new.mysite.com."), "the zones of before are served meanwhile");
    }
}
