//! The load does not notice that a web server dies and comes back.
#![forbid(unsafe_code)]

use e2e::process::Process;
use e2e::site::Site;
use e2e::wait_for;
use std::process::Command;
use std::time::Duration;

#[test]
fn wrk_sees_no_error_while_web_servers_are_killed_and_come_back() {
    let site = Site::start();
    assert_eq!(site.get("/users/12").status, 200);
    let mut wrk =
        Process::start("wrk", Command::new("wrk").args(["-t1", "-c32", "-d10", &site.url("/users/12")]));
    for victim in ["web1", "web2"] {
        #[expect(clippy::disallowed_methods, reason = "the load goes on meanwhile")]
        std::thread::sleep(Duration::from_secs(2));
        let before = site.process(victim);
        site.kill(victim);
        wait_for("its successor", || (site.process(victim) != before).then_some(()));
        wait_for("the site to be whole", || site.is_ready().then_some(()));
    }
    assert!(wrk.ended().is_none(), "the load was still running: {}", wrk.output());
    assert!(wrk.wait().success());
    wait_for("its report", || wrk.output().contains("Requests/sec").then_some(()));
    let report = wrk.output();
    println!("{report}");
    assert!(!report.contains("Non-2xx"), "{report}");
    assert!(!report.contains("Socket errors"), "{report}");
}
