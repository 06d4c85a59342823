//! Photo jobs are done at least once, whatever becomes of the worker.
#![forbid(unsafe_code)]

use e2e::client::python;
use e2e::site::Site;
use e2e::wait_for;

#[test]
fn all_jobs_are_done_though_the_worker_is_killed_among_them() {
    let site = Site::start();
    let url = site.url("");
    let locations = python("photos.py", &["upload", &url, "20"]);
    let locations: Vec<&str> = locations.lines().collect();
    assert_eq!(locations.len(), 20);
    for _ in 0..2 {
        let before = site.process("worker1");
        site.kill("worker1");
        wait_for("its successor", || (site.process("worker1") != before).then_some(()));
    }
    let mut arguments = vec!["wait", &url];
    arguments.extend(&locations);
    python("photos.py", &arguments);
}
